//! Networks: built from a state dict, run on batches of plain numbers.
//!
//! A network is strict about its weights: a tensor that is missing, left over, of another shape or not finite is an
//! error that names it. It holds no state between calls and answers the same for the same input.

mod architecture;
mod face;
mod gait;
pub(super) mod gaittcn;
mod instance;
mod layers;
pub mod made_up;
pub(super) mod minifasnet;
pub(super) mod mtcnn;
mod parameters;
mod person;

use tch::{TchError, Tensor};
use thiserror::Error;

pub use self::architecture::{
    Architecture, IResNetDepth, IResNetLayout, OsNetNorm, OsNetWidth, ResNet50Layout, ResNet50Norm,
};
use self::{
    layers::Layer,
    parameters::{Parameters, StrictSource},
};
use super::{
    probe::{self, ProbeError},
    runtime::{self, RuntimeError},
    script::ScriptError,
};
use weights::{Dtype, StateDict};

/// Whether batch normalisation is folded into the layer before it, as it is served, or run by itself, as it was trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folding {
    Folded,
    Unfolded,
}

/// A network with its weights.
#[derive(Debug)]
pub struct Network {
    architecture: Architecture,
    layers: Box<dyn Layer + Send>,
}

/// Why a network can not be built or run.
#[derive(Debug, Error)]
pub enum NetworkError {
    #[error("there is no architecture {0:?}; there are {known}", known = Architecture::names())]
    UnknownArchitecture(String),
    #[error("the weights lack {0:?}")]
    MissingTensor(String),
    #[error("the weights hold {count} tensors that the architecture does not have, {first:?} among them")]
    SurplusTensors { count: usize, first: String },
    #[error("{key:?} has the shape {found:?}, the architecture wants {expected:?}")]
    WrongShape { key: String, expected: Vec<usize>, found: Vec<usize> },
    #[error("{key:?} holds {found} numbers, the architecture wants floating point")]
    WrongDtype { key: String, found: Dtype },
    #[error("{0:?} holds a number that is not finite as f32")]
    NotFinite(String),
    #[error("{0:?} is a variance and holds a negative number")]
    NegativeVariance(String),
    #[error("{0:?} is a power to take means by and must be above zero")]
    NotAPower(String),
    #[error("a batch must hold something")]
    EmptyBatch,
    #[error("the input has {found} numbers, this batch needs {expected}")]
    WrongInput { expected: usize, found: usize },
    #[error("the options of the detector make no sense: {0}")]
    BadOptions(&'static str),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error(transparent)]
    Script(#[from] ScriptError),
    #[error("libtorch failed: {0}")]
    Torch(String),
}

impl From<TchError> for NetworkError {
    /// libtorch appends its call stack to the sentence that says what went wrong.
    fn from(error: TchError) -> Self {
        let text = error.to_string();
        Self::Torch(text.lines().next().unwrap_or_default().to_owned())
    }
}

impl Network {
    /// Builds the network from a state dict as it was published, less any prefix.
    ///
    /// What training alone needs is passed over: `num_batches_tracked`, classifiers, and what else a family leaves behind.
    pub fn build(architecture: Architecture, weights: StateDict, folding: Folding) -> Result<Self, NetworkError> {
        let _settled = runtime::settle_thread();
        let mut source = StrictSource::new(weights);
        let layers = architecture.layers(&mut Parameters::new(&mut source, folding))?;
        source.finish(|key| architecture.serves_training_alone(key))?;
        Ok(Self { architecture, layers })
    }

    /// Runs it once: weights may fit and still be so large that nothing finite comes out.
    pub fn try_out(&self) -> Result<(), NetworkError> {
        probe::is_finite(self.architecture.input_shape(), |input, batch| self.forward(input, batch))
    }

    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// Runs `batch` inputs at once.
    ///
    /// `input` is row-major `[batch, ..architecture.input_shape()]`; the answer is row-major `[batch, dimension]`, as
    /// the last layer gives it and not scaled to unit length.
    pub fn forward(&self, input: &[f32], batch: usize) -> Result<Vec<f32>, NetworkError> {
        if batch == 0 {
            return Err(NetworkError::EmptyBatch);
        }
        let shape = self.architecture.input_shape();
        let expected = batch.saturating_mul(shape.iter().product());
        if input.len() != expected {
            return Err(NetworkError::WrongInput { expected, found: input.len() });
        }
        let sides: Vec<i64> = std::iter::once(batch).chain(shape).map(layers::side).collect();
        let _gradients_off = tch::no_grad_guard();
        let input = runtime::taken_in(Tensor::f_from_slice(input)?.f_reshape(sides)?)?;
        Ok(runtime::given_out(&self.layers.forward(&input)?)?)
    }
}

#[cfg(test)]
mod tests;

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
pub(super) mod minifasnet;
pub(super) mod mtcnn;
mod parameters;
mod person;
pub mod synthetic;

use tch::Tensor;

pub use self::architecture::{
    Architecture, IResNetDepth, IResNetLayout, OsNetNorm, OsNetWidth, ResNet50Layout, ResNet50Norm,
};
use self::{
    layers::Layer,
    parameters::{Parameters, StrictSource},
};
pub use super::error::NetworkError;
use super::{runtime, trial_run};
use weights::StateDict;

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

impl Network {
    /// Builds the network from a state dict as it was published, less any prefix.
    ///
    /// What training alone needs is passed over: `num_batches_tracked`, classifiers, and what else a family leaves behind.
    pub fn build(architecture: Architecture, weights: StateDict, folding: Folding) -> Result<Self, NetworkError> {
        let _inference = runtime::prepare_thread();
        let mut source = StrictSource::new(weights);
        let layers = architecture.layers(&mut Parameters::new(&mut source, folding))?;
        source.finish(|key| architecture.serves_training_alone(key))?;
        Ok(Self { architecture, layers })
    }

    /// Runs it once: weights may fit and still be so large that nothing finite comes out.
    pub fn try_out(&self) -> Result<(), NetworkError> {
        trial_run::is_finite(self.architecture.input_shape(), |input, batch| self.forward(input, batch))
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
        let input = runtime::to_device(Tensor::f_from_slice(input)?.f_reshape(sides)?)?;
        Ok(runtime::to_host(&self.layers.forward(&input)?)?)
    }
}

#[cfg(test)]
mod tests;

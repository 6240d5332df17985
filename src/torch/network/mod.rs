//! Networks: built from a state dict, run on batches of numbers.
//!
//! A network is strict about its weights: a missing, additional, misshapen or non-finite tensor is an error that names
//! it. A network has no state between calls and gives the same output for the same input.

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

/// Whether batch normalisation is folded into the previous layer (as served) or runs separately (as trained).
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
    /// Builds the network from a state dict as published, without any prefix.
    ///
    /// Tensors of training are ignored: `num_batches_tracked`, classifiers, and other leftovers of each family.
    ///
    /// # Errors
    ///
    /// See [`NetworkError`].
    pub fn build(architecture: Architecture, weights: StateDict, folding: Folding) -> Result<Self, NetworkError> {
        let _inference = runtime::prepare_thread();
        let mut source = StrictSource::new(weights);
        let layers = architecture.layers(&mut Parameters::new(&mut source, folding))?;
        source.finish(|key| architecture.serves_training_alone(key))?;
        Ok(Self { architecture, layers })
    }

    /// Runs a trial input: fitting weights may still be so large that the output is not finite.
    ///
    /// # Errors
    ///
    /// [`NetworkError::TrialRun`].
    pub fn try_out(&self) -> Result<(), NetworkError> {
        trial_run::is_finite(self.architecture.input_shape(), |input, batch| self.forward(input, batch))
    }

    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// Runs `batch` inputs at once.
    ///
    /// `input` is row-major `[batch, ..architecture.input_shape()]`; the output is row-major `[batch, dimension]`, not
    /// normalised.
    ///
    /// # Errors
    ///
    /// [`NetworkError::EmptyBatch`], [`NetworkError::WrongInput`], or an error of libtorch.
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

//! Tensors of a weights file, taken by name with a shape check.

use thiserror::Error;

use weights::{Dtype, StateDict, WeightsError};

/// Errors of reading a decider.
#[derive(Debug, Error)]
pub enum DeciderError {
    #[error("the decider's manifest cannot be read: {0}")]
    Manifest(#[from] toml::de::Error),
    #[error("the decider's weights cannot be read: {0}")]
    Weights(#[from] WeightsError),
    #[error("the weights of the decider lack tensor {key:?} with finite f32 values of shape {shape:?}")]
    Tensor { key: String, shape: Vec<usize> },
    #[error("the decider has an unknown entry {0:?}")]
    Surplus(String),
    #[error("{0} in the manifest of the decider is missing or not finite")]
    Number(String),
}

/// Tensors that layers have not taken yet.
pub(super) struct TensorReader(StateDict);

impl TensorReader {
    pub(super) fn new(weights: StateDict) -> Self {
        Self(weights)
    }

    /// # Errors
    /// [`DeciderError::Surplus`] when a tensor is left that no layer took.
    pub(super) fn finish(self) -> Result<(), DeciderError> {
        self.0.iter().next().map_or(Ok(()), |(key, _)| Err(DeciderError::Surplus(key.to_owned())))
    }

    pub(super) fn take(&mut self, key: &str, shape: &[usize]) -> Result<Vec<f32>, DeciderError> {
        let missing = || DeciderError::Tensor { key: key.to_owned(), shape: shape.to_vec() };
        let tensor = self.0.remove(key).ok_or_else(missing)?;
        if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
            return Err(missing());
        }
        let numbers: Vec<f32> =
            tensor.bytes().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        if numbers.iter().all(|number| number.is_finite()) { Ok(numbers) } else { Err(missing()) }
    }
}

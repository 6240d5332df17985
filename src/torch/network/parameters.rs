//! Reads a network's parameters: each tensor is requested by name and shape, and none may be left over.

use half::{bf16, f16};

use super::{Folding, NetworkError};
use weights::{Dtype, RawTensor, StateDict};

/// A source of parameters.
pub(super) trait Source {
    /// Takes the numbers of a tensor, row-major, all finite.
    fn take(&mut self, key: &str, shape: &[usize]) -> Result<Vec<f32>, NetworkError>;

    /// Whether a tensor of this name is left.
    fn has(&self, key: &str) -> bool;
}

/// The source of parameters and the folding of a network under construction.
pub(super) struct Parameters<'a> {
    source: &'a mut dyn Source,
    pub(super) folding: Folding,
}

impl<'a> Parameters<'a> {
    pub(super) fn new(source: &'a mut dyn Source, folding: Folding) -> Self {
        Self { source, folding }
    }

    pub(super) fn take(&mut self, key: &str, shape: &[usize]) -> Result<Vec<f32>, NetworkError> {
        self.source.take(key, shape)
    }

    /// Whether the weights have an optional tensor.
    pub(super) fn has(&self, key: &str) -> bool {
        self.source.has(key)
    }

    /// Like [`Parameters::take`], for numbers that must not be negative.
    pub(super) fn take_variance(&mut self, key: &str, shape: &[usize]) -> Result<Vec<f32>, NetworkError> {
        let variance = self.take(key, shape)?;
        if variance.iter().any(|number| *number < 0.0) {
            return Err(NetworkError::NegativeVariance(key.to_owned()));
        }
        Ok(variance)
    }
}

/// A state dict in which no tensor may be missing or left over.
pub(super) struct StrictSource(StateDict);

impl StrictSource {
    pub(super) fn new(weights: StateDict) -> Self {
        Self(weights)
    }

    /// # Errors
    /// [`NetworkError::SurplusTensors`] when a tensor was neither taken nor `ignored`.
    pub(super) fn finish(self, ignored: impl Fn(&str) -> bool) -> Result<(), NetworkError> {
        let mut surplus = self.0.iter().map(|(key, _)| key).filter(|key| !ignored(key));
        match surplus.next() {
            None => Ok(()),
            Some(first) => {
                let first = first.to_owned();
                Err(NetworkError::SurplusTensors { count: 1 + surplus.count(), first })
            }
        }
    }
}

impl Source for StrictSource {
    fn take(&mut self, key: &str, shape: &[usize]) -> Result<Vec<f32>, NetworkError> {
        let tensor = self.0.remove(key).ok_or_else(|| NetworkError::MissingTensor(key.to_owned()))?;
        if tensor.shape() != shape {
            let found = tensor.shape().to_vec();
            return Err(NetworkError::WrongShape { key: key.to_owned(), expected: shape.to_vec(), found });
        }
        let numbers =
            floats(&tensor).ok_or_else(|| NetworkError::WrongDtype { key: key.to_owned(), found: tensor.dtype() })?;
        if numbers.iter().any(|number| !number.is_finite()) {
            return Err(NetworkError::NotFinite(key.to_owned()));
        }
        Ok(numbers)
    }

    fn has(&self, key: &str) -> bool {
        self.0.get(key).is_some()
    }
}

/// The tensor's numbers as f32; `None` for integers.
fn floats(tensor: &RawTensor) -> Option<Vec<f32>> {
    fn read<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        bytes.as_chunks::<N>().0.iter().map(|chunk| number(*chunk)).collect()
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "f64 weights are served as f32; overflow is caught as infinite"
    )]
    Some(match tensor.dtype() {
        Dtype::F64 => read(tensor.bytes(), |bytes| f64::from_le_bytes(bytes) as f32),
        Dtype::F32 => read(tensor.bytes(), f32::from_le_bytes),
        Dtype::F16 => read(tensor.bytes(), |bytes| f16::from_le_bytes(bytes).to_f32()),
        Dtype::Bf16 => read(tensor.bytes(), |bytes| bf16::from_le_bytes(bytes).to_f32()),
        Dtype::I64 | Dtype::I32 | Dtype::I16 | Dtype::I8 | Dtype::U8 | Dtype::Bool => return None,
    })
}

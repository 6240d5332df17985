//! Converts between slices of numbers and tensors.

use tch::{TchError, Tensor};

use super::runtime;

/// A row-major tensor on the calling thread's device.
pub(super) fn tensor<const N: usize>(numbers: &[f32], sides: [usize; N]) -> Result<Tensor, TchError> {
    let sides = sides.map(|side| i64::try_from(side).expect("no tensor has 2^63 numbers"));
    runtime::to_device(Tensor::f_from_slice(numbers)?.f_reshape(sides)?)
}

/// All numbers of a tensor, row-major.
pub(super) fn numbers(tensor: &Tensor) -> Result<Vec<f32>, TchError> {
    runtime::to_host(tensor)
}

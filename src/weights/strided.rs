//! Converts a strided PyTorch tensor to contiguous numbers.

use super::{DIMENSIONS_MAX, Dtype, RawTensor};

/// The layout of a tensor in its storage; offset and strides count numbers, not bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

impl Layout {
    /// Number of values; `None` on overflow.
    pub(super) fn elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1_usize, |product, side| product.checked_mul(*side))
    }

    /// Copies the tensor in row-major order.
    ///
    /// # Errors
    /// When it exceeds its storage.
    pub(super) fn materialise(&self, dtype: Dtype, storage: &[u8]) -> Result<RawTensor, &'static str> {
        if self.shape.len() != self.strides.len() || self.shape.len() > DIMENSIONS_MAX {
            return Err("its strides do not fit its shape");
        }
        let elements = self.elements().ok_or("its shape overflows")?;
        if elements == 0 {
            return RawTensor::new(dtype, self.shape.clone(), Vec::new());
        }
        let end = self.end().ok_or("its strides overflow")?;
        let width = dtype.bytes();
        if end.checked_mul(width).is_none_or(|bytes| bytes > storage.len()) {
            return Err("it exceeds its storage");
        }
        let bytes = if self.is_contiguous() {
            storage[self.offset * width..(self.offset + elements) * width].to_vec()
        } else {
            self.gather(storage, width, elements)
        };
        RawTensor::new(dtype, self.shape.clone(), bytes)
    }

    /// One past the last number of the tensor; `None` on overflow.
    fn end(&self) -> Option<usize> {
        let steps = self.shape.iter().zip(&self.strides);
        let last = steps.map(|(side, stride)| (side - 1).checked_mul(*stride));
        last.into_iter().try_fold(self.offset, |sum, step| sum.checked_add(step?))?.checked_add(1)
    }

    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(side, stride)| {
            let fits = *side == 1 || *stride == expected;
            expected *= side;
            fits
        })
    }

    fn gather(&self, storage: &[u8], width: usize, elements: usize) -> Vec<u8> {
        // The stride of an axis of length one is irrelevant.
        let steps = self.shape.iter().zip(&self.strides).filter(|(side, _)| **side > 1);
        let axes: Vec<(usize, usize)> = steps.map(|(side, stride)| (*side, *stride)).collect();
        let mut index = vec![0; axes.len()];
        let mut bytes = Vec::with_capacity(elements * width);
        let mut at = self.offset;
        for _ in 0..elements {
            bytes.extend_from_slice(&storage[at * width..(at + 1) * width]);
            for ((side, stride), step) in axes.iter().zip(&mut index).rev() {
                *step += 1;
                at += stride;
                if *step < *side {
                    break;
                }
                at -= stride * side;
                *step = 0;
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(offset: usize, shape: &[usize], strides: &[usize]) -> Layout {
        Layout { offset, shape: shape.to_vec(), strides: strides.to_vec() }
    }

    #[test]
    fn a_transposed_view_becomes_contiguous() {
        let storage: Vec<u8> = (0..7).collect();
        let tensor = layout(1, &[3, 2], &[1, 3]).materialise(Dtype::U8, &storage).expect("within its storage");
        assert_eq!(tensor.bytes(), [1, 4, 2, 5, 3, 6]);
    }

    #[test]
    fn an_offset_view_is_copied() {
        let storage: Vec<u8> = (0..12).collect();
        let tensor = layout(2, &[2, 1, 2], &[2, 9, 1]).materialise(Dtype::I16, &storage).expect("within its storage");
        assert_eq!(tensor.bytes(), [4, 5, 6, 7, 8, 9, 10, 11]);
    }

    #[test]
    fn a_scalar_and_an_empty_tensor_are_tensors() {
        assert_eq!(layout(1, &[], &[]).materialise(Dtype::U8, &[7, 8]).expect("a scalar").bytes(), [8]);
        assert_eq!(layout(99, &[0, 3], &[3, 1]).materialise(Dtype::U8, &[]).expect("empty").bytes(), [0_u8; 0]);
    }

    #[test]
    fn a_tensor_beyond_its_storage_is_refused() {
        assert!(layout(0, &[3, 2], &[2, 1]).materialise(Dtype::U8, &[0; 5]).is_err());
        assert!(layout(usize::MAX, &[2], &[1]).materialise(Dtype::F64, &[0; 16]).is_err());
        assert!(layout(0, &[usize::MAX, 2], &[0, 0]).materialise(Dtype::U8, &[0; 5]).is_err());
        assert!(layout(0, &[2], &[1, 1]).materialise(Dtype::U8, &[0; 5]).is_err());
    }
}

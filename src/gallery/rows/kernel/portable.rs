//! Kernel for other processors, written so that the compiler can vectorise it.

use super::{LINE_BYTES, PackedRows, Packing, zero_sum};

/// Number of independent sums.
const LANES: usize = 16;

pub(super) fn sums(probes: &[&[i16]], packed: PackedRows<'_>, sums: &mut [i32]) {
    let PackedRows { codes, packing, stride } = packed;
    let rows = codes.len() / stride;
    for (probe, numbers) in probes.iter().enumerate() {
        let zero = zero_sum(numbers, packing);
        for (row, codes) in codes.chunks_exact(stride).enumerate() {
            let found = match packing {
                Packing::Bytes => products(numbers, codes, i32::from),
                Packing::Nibbles => sum_of_nibbles(numbers, codes),
            };
            sums[probe * rows + row] = found - zero;
        }
    }
}

pub(super) fn sum(probe: &[i16], codes: &[i8]) -> i32 {
    products(probe, codes, i32::from)
}

pub(super) fn sum_of_codes(one: &[i8], other: &[i8]) -> i32 {
    products(one, other, i32::from)
}

fn products<N: Copy>(numbers: &[N], codes: &[i8], wide: impl Fn(N) -> i32) -> i32 {
    let mut lanes = [0_i32; LANES];
    for (numbers, codes) in numbers.as_chunks::<LANES>().0.iter().zip(codes.as_chunks::<LANES>().0) {
        for lane in 0..LANES {
            lanes[lane] += wide(numbers[lane]) * i32::from(codes[lane]);
        }
    }
    lanes.iter().sum()
}

fn sum_of_nibbles(numbers: &[i16], codes: &[i8]) -> i32 {
    let mut lanes = [0_i32; LINE_BYTES];
    for (numbers, codes) in numbers.chunks_exact(2 * LINE_BYTES).zip(codes.as_chunks::<LINE_BYTES>().0) {
        let (first, second) = numbers.split_at(LINE_BYTES);
        for lane in 0..LINE_BYTES {
            let byte = codes[lane].cast_unsigned();
            lanes[lane] +=
                i32::from(first[lane]) * i32::from(byte & 15) + i32::from(second[lane]) * i32::from(byte >> 4);
        }
    }
    lanes.iter().sum()
}

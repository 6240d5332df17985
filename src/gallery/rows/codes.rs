//! Rows quantized to 8-bit (or 4-bit) codes with an error bound. Codes need a quarter of the memory, so a scan reads
//! four times as many rows per second.
//!
//! A row x becomes integers c from -127 to 127 and a scale s, with the error e = x - s c. A probe q becomes 16-bit
//! integers p and a scale t, with the error f = q - t p. Then q·x = s t (p·c) + q·e + f·(s c). By Cauchy-Schwarz the
//! last two terms are at most |q| |e| and |f| |s c|, where |s c| <= |x| + |e|. |e| and |f| are measured, not estimated.
//! A row whose estimate lies below a floor by more than this bound is therefore certainly below it: the scan discards
//! nearly all rows by their codes and still gives the exact answer.

use std::{ops::Range, sync::Arc};

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::rows::{
    block::{Block, Layout, wipe},
    kernel::{Kernel, LINE_BYTES, NIBBLE_ZERO, PackedRows, Packing, probe_max},
};

const CODE_MAX: f32 = 127.0;

/// Upper bound of an embedding's length: the tolerance of the domain's `Embedding`, and a little more.
const LENGTH_MAX: f32 = 1.000_02;

const NIBBLE_MAX: f32 = 7.0;

/// Four-bit codes lose too much for the certain bound: it would discard hardly any row. A likely bound replaces it: the
/// quantization errors of many dimensions are nearly independent, so their dot product with a probe is about normal
/// with standard deviation |e| / sqrt(dimension). A true neighbour further than this many deviations is missed.
const LIKELY_ERRORS: f32 = 5.0;

/// Scale and error of a row's code.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Quantization {
    /// Value of one code step.
    pub(crate) scale: f32,
    /// Length of the quantization error, rounded up.
    pub(crate) error: f32,
}

/// The code of one row, zero-padded to the stride.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Code<'c> {
    pub(crate) numbers: &'c [i8],
    pub(crate) quantization: Quantization,
}

/// Estimated similarity of two rows from their codes. Its error is at most the sum of both quantization errors, and
/// rounding.
pub(crate) fn similarity_of_codes(kernel: Kernel, one: Code<'_>, other: Code<'_>) -> f32 {
    kernel.sum_of_codes(one.numbers, other.numbers) as f32 * (one.quantization.scale * other.quantization.scale)
}

/// The codes of a space's rows. A clone shares the blocks until one side changes.
#[derive(Debug, Clone)]
pub(crate) struct Codes {
    dimension: usize,
    packing: Packing,
    layout: Layout,
    blocks: Vec<Arc<CodeBlock>>,
    len: usize,
}

#[derive(Debug, Clone)]
struct CodeBlock {
    numbers: Block<i8>,
    quantizations: Block<Quantization>,
}

/// Consecutive rows of one block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CodeRows<'c> {
    /// Index of the first row.
    pub(crate) first: usize,
    /// Row after row, each padded to the stride.
    pub(crate) numbers: &'c [i8],
    pub(crate) quantizations: &'c [Quantization],
}

impl Codes {
    pub(crate) fn new(dimension: usize) -> Self {
        Self::packed(dimension, Packing::Bytes)
    }

    pub(crate) fn packed(dimension: usize, packing: Packing) -> Self {
        Self { dimension, packing, layout: Layout::new(dimension), blocks: Vec::new(), len: 0 }
    }

    /// Encodes `len` rows in parallel on the current thread pool. `values` returns the original values of a range of
    /// rows, row after row.
    pub(crate) fn of<'v>(
        dimension: usize,
        packing: Packing,
        len: usize,
        values: impl Fn(Range<usize>) -> &'v [f32] + Sync,
    ) -> Self {
        let layout = Layout::new(dimension);
        let stride = packing.stride(dimension);
        let block = |index: usize| {
            let first = layout.first_of(index);
            let rows = (len - first).min(layout.block_rows());
            // Only a single block may be smaller than a full one.
            let held = if len <= layout.block_rows() { rows } else { layout.block_rows() };
            let mut block = CodeBlock { numbers: Block::zeroed(held * stride), quantizations: Block::zeroed(held) };
            let numbers = block.numbers.as_mut_slice().chunks_exact_mut(stride);
            let values = values(first..first + rows).chunks_exact(dimension);
            for ((values, numbers), quantization) in values.zip(numbers).zip(block.quantizations.as_mut_slice()) {
                *quantization = encode(values, packing, numbers);
            }
            Arc::new(block)
        };
        let blocks = (0..layout.blocks(len)).into_par_iter().map(block).collect();
        Self { dimension, packing, layout, blocks, len }
    }

    /// Consecutive codes as the kernels read them; `numbers` are those of a [`Code`] or of [`CodeRows`].
    pub(crate) fn packed_rows<'c>(&self, numbers: &'c [i8]) -> PackedRows<'c> {
        PackedRows { codes: numbers, packing: self.packing, stride: self.stride() }
    }

    pub(crate) fn packing(&self) -> Packing {
        self.packing
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes per row, padding included.
    pub(crate) fn stride(&self) -> usize {
        self.packing.stride(self.dimension)
    }

    pub(crate) fn code(&self, row: usize) -> Code<'_> {
        let block = &self.blocks[self.layout.block_of(row)];
        let (within, stride) = (self.layout.within(row), self.stride());
        Code {
            numbers: &block.numbers.as_slice()[within * stride..][..stride],
            quantization: block.quantizations.as_slice()[within],
        }
    }

    /// Number of blocks.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    pub(crate) fn block(&self, index: usize) -> CodeRows<'_> {
        let (block, first) = (&self.blocks[index], self.layout.first_of(index));
        let rows = (self.len - first).min(self.layout.block_rows());
        CodeRows {
            first,
            numbers: &block.numbers.as_slice()[..rows * self.stride()],
            quantizations: &block.quantizations.as_slice()[..rows],
        }
    }

    /// Appends the code of a row.
    pub(crate) fn push(&mut self, values: &[f32]) {
        let (row, stride) = (self.len, self.stride());
        let index = self.layout.block_of(row);
        let held = self.blocks.get(index).map_or(0, |block| block.quantizations.len());
        let rows = self.layout.rows_for(row, held);
        if index == self.blocks.len() {
            let (numbers, quantizations) = (Block::zeroed(rows * stride), Block::zeroed(rows));
            self.blocks.push(Arc::new(CodeBlock { numbers, quantizations }));
        } else if rows > held {
            let block = &self.blocks[index];
            let grown = CodeBlock {
                numbers: block.numbers.grown(rows * stride),
                quantizations: block.quantizations.grown(rows),
            };
            self.blocks[index] = Arc::new(grown);
        }
        self.len += 1;
        let packing = self.packing;
        let (numbers, quantization) = self.row_mut(row);
        *quantization = encode(values, packing, numbers);
    }

    /// Removes a row and overwrites it with zeros; the last row takes its index.
    pub(crate) fn swap_remove(&mut self, row: usize) {
        let last = self.len - 1;
        let carried = self.code(last);
        let (mut numbers, quantization) = (carried.numbers.to_vec(), carried.quantization);
        let (place, place_term) = self.row_mut(row);
        place.copy_from_slice(&numbers);
        *place_term = quantization;
        wipe(&mut numbers);
        let (place, place_term) = self.row_mut(last);
        wipe(place);
        *place_term = Quantization::default();
        self.len = last;
        self.blocks.truncate(self.layout.blocks(self.len));
    }

    /// Memory of the codes in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.blocks
            .iter()
            .map(|block| block.numbers.len() + block.quantizations.len() * size_of::<Quantization>())
            .sum()
    }

    fn row_mut(&mut self, row: usize) -> (&mut [i8], &mut Quantization) {
        let (within, stride) = (self.layout.within(row), self.stride());
        let block = Arc::make_mut(&mut self.blocks[self.layout.block_of(row)]);
        let CodeBlock { numbers, quantizations } = block;
        (&mut numbers.as_mut_slice()[within * stride..][..stride], &mut quantizations.as_mut_slice()[within])
    }
}

/// Writes the code of a row. Padding may have any value, because the probe is zero there.
fn encode(values: &[f32], packing: Packing, numbers: &mut [i8]) -> Quantization {
    let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let most = match packing {
        Packing::Bytes => CODE_MAX,
        Packing::Nibbles => NIBBLE_MAX,
    };
    let scale = largest / most;
    let steps = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    #[expect(clippy::cast_possible_truncation, reason = "rounded and within the range, or the nearest that is")]
    let code = |value: f32| (value * steps).round_ties_even().clamp(-most, most) as i8;
    let lost = |value: f32| f64::from(value) - f64::from(scale) * f64::from(code(value));
    match packing {
        Packing::Bytes => {
            for (number, value) in numbers.iter_mut().zip(values) {
                *number = code(*value);
            }
        }
        Packing::Nibbles => {
            for (at, value) in values.iter().enumerate() {
                let (line, within) = (at / (2 * LINE_BYTES), at % (2 * LINE_BYTES));
                let nibble = (code(*value) + NIBBLE_ZERO) << if within < LINE_BYTES { 0 } else { 4 };
                numbers[line * LINE_BYTES + within % LINE_BYTES] |= nibble;
            }
        }
    }
    // Eight independent sums hide the latency of additions: a start encodes millions of rows.
    let (chunks, rest) = values.as_chunks::<8>();
    let mut squared = [0.0_f64; 8];
    for chunk in chunks {
        for (sum, value) in squared.iter_mut().zip(chunk) {
            *sum += lost(*value).powi(2);
        }
    }
    let rest: f64 = rest.iter().map(|value| lost(*value).powi(2)).sum();
    Quantization { scale, error: rounded_up((squared.iter().sum::<f64>() + rest).sqrt()) }
}

fn rounded_up(length: f64) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "rounded up right after")]
    let length = (length * (1.0 + 1e-9)) as f32;
    length.next_up()
}

/// A probe quantized to 16-bit integers, with its share of the error bound.
#[derive(Debug, Clone)]
pub(crate) struct ProbeCode {
    numbers: Vec<i16>,
    scale: f32,
    /// Factor of a row's error: the first part of the bound.
    of_row: f32,
    /// Second part of the bound, equal for all rows: the probe's quantization error, and the rounding of this estimate
    /// and of the exact similarity.
    of_all: f32,
}

impl ProbeCode {
    /// For 8-bit codes. `values` has unit length.
    pub(crate) fn new(values: &[f32]) -> Self {
        Self::packed(values, Packing::Bytes)
    }

    pub(crate) fn packed(values: &[f32], packing: Packing) -> Self {
        let codes = packing.codes_in(packing.stride(values.len()));
        let most = f32::from(probe_max(codes));
        let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let scale = largest / most;
        let steps = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        let mut numbers = vec![0_i16; codes];
        #[expect(clippy::cast_possible_truncation, reason = "rounded and within the range, or the nearest that is")]
        for (number, value) in numbers.iter_mut().zip(values) {
            *number = (value * steps).round_ties_even().clamp(-most, most) as i16;
        }
        let lost = |(value, number): (&f32, &i16)| f64::from(*value) - f64::from(scale) * f64::from(*number);
        let error = rounded_up(values.iter().zip(&numbers).map(lost).map(|lost| lost * lost).sum::<f64>().sqrt());
        // The exact similarity adds single-precision products in 32 parallel sums and a remainder; its relative error
        // is bounded by the longest chain of additions (Higham 2002, section 3.1). This estimate, its bound and their
        // sum round six more times.
        let chain = (values.len() / 32 + 48) as f32;
        let rounding = (chain * LENGTH_MAX + 8.0) * f32::EPSILON;
        let of_row = match packing {
            Packing::Bytes => LENGTH_MAX + error,
            Packing::Nibbles => LIKELY_ERRORS / (values.len() as f32).sqrt(),
        };
        Self { numbers, scale, of_row, of_all: error * LENGTH_MAX + rounding }
    }

    pub(crate) fn numbers(&self) -> &[i16] {
        &self.numbers
    }

    /// Estimated similarity from the integer dot product with a row.
    pub(crate) fn similarity(&self, sum: i32, quantization: Quantization) -> f32 {
        sum as f32 * (self.scale * quantization.scale)
    }

    /// Bound of |estimated - exact similarity| for a row.
    pub(crate) fn error(&self, quantization: Quantization) -> f32 {
        quantization.error * self.of_row + self.of_all
    }
}

impl Drop for ProbeCode {
    fn drop(&mut self) {
        wipe(&mut self.numbers);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        rows::measure::similarity_of,
        testbed::{embedding, unit_rows},
    };

    fn estimate(probe: &ProbeCode, code: Code<'_>) -> f32 {
        let mut sums = Vec::new();
        Kernel::fastest().sums(
            &[probe.numbers()],
            PackedRows { codes: code.numbers, packing: Packing::Bytes, stride: code.numbers.len() },
            &mut sums,
        );
        probe.similarity(sums[0], code.quantization)
    }

    fn vectors() -> impl Strategy<Value = (Vec<f32>, Vec<f32>)> {
        let number = prop_oneof![4 => -1.0_f32..1.0, 1 => Just(0.0), 1 => -1e-6_f32..1e-6, 1 => Just(1.0)];
        (1_usize..700).prop_flat_map(move |dimension| {
            let vector = prop::collection::vec(number.clone(), dimension);
            (vector.clone(), vector)
        })
    }

    proptest! {
        #[test]
        fn the_bound_holds((one, other) in vectors()) {
            prop_assume!([&one, &other].iter().all(|v| v.iter().any(|n| n.abs() > 1e-3)));
            let (one, other) = (embedding(&one), embedding(&other));
            let (probe, mut codes) = (ProbeCode::new(one.values()), Codes::new(one.values().len()));
            codes.push(other.values());
            let code = codes.code(0);
            let difference = (estimate(&probe, code) - similarity_of(one.values(), other.values())).abs();
            prop_assert!(difference <= probe.error(code.quantization), "{difference} > {}", probe.error(code.quantization));
        }

        #[test]
        fn removal_moves_the_last_code_and_loses_none(removals in prop::collection::vec(any::<prop::sample::Index>(), 0..70)) {
            let rows = unit_rows(70, 5000, 3);
            let mut codes = Codes::new(5000);
            for row in &rows {
            codes.push(row);
        }
            let alone = |row: &[f32]| {
                let mut alone = Codes::new(5000);
                alone.push(row);
                alone
            };
            let mut expected: Vec<usize> = (0..rows.len()).collect();
            for removal in removals {
                let row = removal.index(expected.len());
                expected.swap_remove(row);
                codes.swap_remove(row);
            }
            prop_assert_eq!(codes.len(), expected.len());
            let left: Vec<f32> = expected.iter().flat_map(|number| rows[*number].clone()).collect();
            let at_once = Codes::of(5000, Packing::Bytes, expected.len(), |rows| &left[rows.start * 5000..rows.end * 5000]);
            for row in 0..expected.len() {
                prop_assert_eq!(codes.code(row).numbers, at_once.code(row).numbers);
                prop_assert_eq!(codes.code(row).quantization, at_once.code(row).quantization);
            }
            for (row, number) in expected.iter().enumerate() {
                let alone = alone(&rows[*number]);
                prop_assert_eq!(codes.code(row).numbers, alone.code(0).numbers);
                prop_assert_eq!(codes.code(row).quantization, alone.code(0).quantization);
            }
        }
    }

    /// For random directions in 512 dimensions the bound is about 0.01; this is what makes it useful.
    #[test]
    fn the_bound_is_tight() {
        let rows = unit_rows(20, 512, 5);
        let mut codes = Codes::new(512);
        for row in &rows {
            codes.push(row);
        }
        let probe = ProbeCode::new(&rows[0]);
        let widest = (0..20).map(|row| probe.error(codes.code(row).quantization)).fold(0.0, f32::max);
        assert!(widest < 0.012, "{widest}");
    }

    #[test]
    fn a_clone_stays_as_it_was_and_a_removed_code_is_overwritten() {
        let rows = unit_rows(2, 64, 5);
        let mut codes = Codes::new(64);
        for row in &rows {
            codes.push(row);
        }
        let clone = codes.clone();
        codes.swap_remove(0);
        assert_eq!(codes.code(0).numbers, clone.code(1).numbers);
        assert_eq!((clone.len(), codes.len()), (2, 1));
        let block = &codes.blocks[0];
        assert!(
            block.numbers.as_slice()[64..].iter().all(|code| *code == 0),
            "nothing of the moved row is left behind"
        );
        assert!(
            block.quantizations.as_slice()[1..].iter().all(|quantization| *quantization == Quantization::default())
        );
    }
}

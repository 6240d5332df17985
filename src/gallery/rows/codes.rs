//! Rows as codes: a quarter of the memory, so four times as many pass in a second, and a bound on what that costs.
//!
//! A row x becomes whole numbers c from -127 to 127 and a scale s; what is lost is e = x - s c. A probe q becomes
//! 16-bit numbers p and a scale t; what is lost is f = q - t p. Then q·x = s t (p·c) + q·e + f·(s c), and by Cauchy and
//! Schwarz the last two are at most |q| |e| and |f| |s c|, where |s c| <= |x| + |e|. The lengths |e| and |f| are
//! measured, not estimated, so whatever lies below a floor by more than the bound is below it for certain. That is what
//! lets the scan turn away nearly every row by its code alone and still answer what a look at every number answers.

use std::{ops::Range, sync::Arc};

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::rows::{
    block::{Block, Layout, wipe},
    kernel::{Kernel, LINE_BYTES, NIBBLE_ZERO, Packing, probe_max},
};

const CODE_MAX: f32 = 127.0;

/// How far an embedding's squared length may be from one; the domain's tolerance, and a little more.
const LENGTH_MAX: f32 = 1.000_02;

const NIBBLE_MAX: f32 = 7.0;

/// Codes of four bits lose so much that what is certain of them turns hardly anything away. What is likely does: the
/// errors of many numbers point nowhere in particular, so their product with a probe is about normal, with a deviation
/// of the error's length over the square root of the dimension; beyond so many deviations a true neighbour is missed.
const LIKELY_ERRORS: f32 = 5.0;

/// What is known of a row's code.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Term {
    /// What one step of a code is worth.
    pub(crate) scale: f32,
    /// The length of what the code lost, rounded up.
    pub(crate) error: f32,
}

/// The code of one row, padded with zeros.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Code<'c> {
    pub(crate) numbers: &'c [i8],
    pub(crate) term: Term,
}

/// How alike two rows are, to within the sum of their errors and a little.
pub(crate) fn similarity_of_codes(kernel: Kernel, one: Code<'_>, other: Code<'_>) -> f32 {
    kernel.sum_of_codes(one.numbers, other.numbers) as f32 * (one.term.scale * other.term.scale)
}

/// The codes of a space's rows. A clone shares them until one side changes.
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
    terms: Block<Term>,
}

/// Some rows that follow each other in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CodeRows<'c> {
    /// The number of the first of them.
    pub(crate) first: usize,
    /// Row after row, each padded.
    pub(crate) numbers: &'c [i8],
    pub(crate) terms: &'c [Term],
}

impl Codes {
    pub(crate) fn new(dimension: usize) -> Self {
        Self::packed(dimension, Packing::Bytes)
    }

    pub(crate) fn packed(dimension: usize, packing: Packing) -> Self {
        Self { dimension, packing, layout: Layout::new(dimension), blocks: Vec::new(), len: 0 }
    }

    /// Those of so many rows, whose numbers `values` answers, row after row. On all threads of the pool it is called in.
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
            // Only a block that is alone may be smaller.
            let held = if len <= layout.block_rows() { rows } else { layout.block_rows() };
            let mut block = CodeBlock { numbers: Block::zeroed(held * stride), terms: Block::zeroed(held) };
            let numbers = block.numbers.as_mut_slice().chunks_exact_mut(stride);
            let values = values(first..first + rows).chunks_exact(dimension);
            for ((values, numbers), term) in values.zip(numbers).zip(block.terms.as_mut_slice()) {
                *term = encode(values, packing, numbers);
            }
            Arc::new(block)
        };
        let blocks = (0..layout.blocks(len)).into_par_iter().map(block).collect();
        Self { dimension, packing, layout, blocks, len }
    }

    pub(crate) fn packing(&self) -> Packing {
        self.packing
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many bytes a row has, padding included.
    pub(crate) fn stride(&self) -> usize {
        self.packing.stride(self.dimension)
    }

    pub(crate) fn code(&self, row: usize) -> Code<'_> {
        let block = &self.blocks[self.layout.block_of(row)];
        let (within, stride) = (self.layout.within(row), self.stride());
        Code { numbers: &block.numbers.as_slice()[within * stride..][..stride], term: block.terms.as_slice()[within] }
    }

    /// How many blocks there are.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    pub(crate) fn block(&self, index: usize) -> CodeRows<'_> {
        let (block, first) = (&self.blocks[index], self.layout.first_of(index));
        let rows = (self.len - first).min(self.layout.block_rows());
        CodeRows {
            first,
            numbers: &block.numbers.as_slice()[..rows * self.stride()],
            terms: &block.terms.as_slice()[..rows],
        }
    }

    /// Adds the code of a row at the end.
    pub(crate) fn push(&mut self, values: &[f32]) {
        let (row, stride) = (self.len, self.stride());
        let index = self.layout.block_of(row);
        let held = self.blocks.get(index).map_or(0, |block| block.terms.len());
        let rows = self.layout.rows_for(row, held);
        if index == self.blocks.len() {
            let (numbers, terms) = (Block::zeroed(rows * stride), Block::zeroed(rows));
            self.blocks.push(Arc::new(CodeBlock { numbers, terms }));
        } else if rows > held {
            let block = &self.blocks[index];
            let grown = CodeBlock { numbers: block.numbers.grown(rows * stride), terms: block.terms.grown(rows) };
            self.blocks[index] = Arc::new(grown);
        }
        self.len += 1;
        let packing = self.packing;
        let (numbers, term) = self.row_mut(row);
        *term = encode(values, packing, numbers);
    }

    /// Removes a row and overwrites it; the last row takes its place.
    pub(crate) fn swap_remove(&mut self, row: usize) {
        let last = self.len - 1;
        let carried = self.code(last);
        let (mut numbers, term) = (carried.numbers.to_vec(), carried.term);
        let (place, place_term) = self.row_mut(row);
        place.copy_from_slice(&numbers);
        *place_term = term;
        wipe(&mut numbers);
        let (place, place_term) = self.row_mut(last);
        wipe(place);
        *place_term = Term::default();
        self.len = last;
        self.blocks.truncate(self.layout.blocks(self.len));
    }

    /// How many bytes of memory the codes take.
    pub(crate) fn bytes(&self) -> usize {
        self.blocks.iter().map(|block| block.numbers.len() + block.terms.len() * size_of::<Term>()).sum()
    }

    fn row_mut(&mut self, row: usize) -> (&mut [i8], &mut Term) {
        let (within, stride) = (self.layout.within(row), self.stride());
        let block = Arc::make_mut(&mut self.blocks[self.layout.block_of(row)]);
        let CodeBlock { numbers, terms } = block;
        (&mut numbers.as_mut_slice()[within * stride..][..stride], &mut terms.as_mut_slice()[within])
    }
}

/// Writes the code of a row; what lies behind its numbers meets zeros of the probe.
fn encode(values: &[f32], packing: Packing, numbers: &mut [i8]) -> Term {
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
    // Sums side by side, which do not wait for each other: a start encodes millions of rows.
    let (chunks, rest) = values.as_chunks::<8>();
    let mut squared = [0.0_f64; 8];
    for chunk in chunks {
        for (sum, value) in squared.iter_mut().zip(chunk) {
            *sum += lost(*value).powi(2);
        }
    }
    let rest: f64 = rest.iter().map(|value| lost(*value).powi(2)).sum();
    Term { scale, error: rounded_up((squared.iter().sum::<f64>() + rest).sqrt()) }
}

fn rounded_up(length: f64) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "rounded up right after")]
    let length = (length * (1.0 + 1e-9)) as f32;
    length.next_up()
}

/// A probe as codes are compared with it.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    numbers: Vec<i16>,
    scale: f32,
    /// Times a row's error, the first part of the bound.
    of_row: f32,
    /// The rest of the bound, the same for all rows: what the probe itself lost, and what the arithmetic of both this
    /// estimate and the exact similarity rounds away.
    of_all: f32,
}

impl Probe {
    /// Of a unit vector, for codes of a byte.
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
        // The exact similarity is a sum in single precision of so many terms, one after the other in each of 32 sums
        // that are added up, and a rest: its relative error is at most that of the longest chain (Higham 2002, 3.1).
        // This estimate, its bound and their sum round six times between them.
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

    /// What a sum of products says of the similarity to a row.
    pub(crate) fn similarity(&self, sum: i32, term: Term) -> f32 {
        sum as f32 * (self.scale * term.scale)
    }

    /// How far the similarity that the numbers themselves give may lie from that, to either side.
    pub(crate) fn error(&self, term: Term) -> f32 {
        term.error * self.of_row + self.of_all
    }
}

impl Drop for Probe {
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

    fn estimate(probe: &Probe, code: Code<'_>) -> f32 {
        let mut sums = Vec::new();
        Kernel::fastest().sums(&[probe.numbers()], (code.numbers, Packing::Bytes), code.numbers.len(), &mut sums);
        probe.similarity(sums[0], code.term)
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
        fn no_similarity_leaves_its_bound((one, other) in vectors()) {
            prop_assume!([&one, &other].iter().all(|v| v.iter().any(|n| n.abs() > 1e-3)));
            let (one, other) = (embedding(&one), embedding(&other));
            let (probe, mut codes) = (Probe::new(one.values()), Codes::new(one.values().len()));
            codes.push(other.values());
            let code = codes.code(0);
            let difference = (estimate(&probe, code) - similarity_of(one.values(), other.values())).abs();
            prop_assert!(difference <= probe.error(code.term), "{difference} > {}", probe.error(code.term));
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
                prop_assert_eq!(codes.code(row).term, at_once.code(row).term);
            }
            for (row, number) in expected.iter().enumerate() {
                let alone = alone(&rows[*number]);
                prop_assert_eq!(codes.code(row).numbers, alone.code(0).numbers);
                prop_assert_eq!(codes.code(row).term, alone.code(0).term);
            }
        }
    }

    /// What makes the bound worth having: for vectors without preferred directions it is a hundredth.
    #[test]
    fn the_bound_is_tight() {
        let rows = unit_rows(20, 512, 5);
        let mut codes = Codes::new(512);
        for row in &rows {
            codes.push(row);
        }
        let probe = Probe::new(&rows[0]);
        let widest = (0..20).map(|row| probe.error(codes.code(row).term)).fold(0.0, f32::max);
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
        assert!(block.terms.as_slice()[1..].iter().all(|term| *term == Term::default()));
    }
}

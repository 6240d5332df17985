//! Similarity self-join: all pairs of rows with at least a given similarity.
//!
//! As in a scan, codes discard nearly all pairs by a certain interval of their similarity, and original values decide
//! the rest. The pairs equal those of an exact comparison (with 4-bit codes: nearly all of them). Two blocks of codes
//! at a time stay in a core's cache while all their rows are compared, so the join is bound by computation. It uses one
//! thread and leaves the others to searches.

use std::ops::ControlFlow;

use thiserror::Error;

use crate::{
    rows::{
        Rows,
        codes::{CodeRows, Codes, ProbeCode},
        kernel::Kernel,
    },
    scan::query::SCAN_BATCH_MAX,
};

/// Two rows, the lower index first, and their similarity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SimilarPair {
    pub(crate) rows: [u32; 2],
    pub(crate) similarity: f32,
}

/// Reasons why a join ends early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum JoinError {
    /// The progress callback asked to stop.
    #[error("the comparison was stopped")]
    Stopped,
    #[error("more than {0} pairs of templates reach the similarity")]
    TooManyPairs(usize),
}

/// Progress of a join in pairs of templates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JoinProgress {
    pub done: u64,
    pub total: u64,
}

/// Called regularly with the progress. Return `Break` to stop the join.
pub type JoinProgressCallback<'w> = dyn FnMut(JoinProgress) -> ControlFlow<()> + 'w;

/// Which pairs to find.
pub(crate) struct JoinOptions<'w> {
    /// Minimum similarity of a pair.
    pub(crate) similarity_min: f32,
    /// Maximum number of pairs.
    pub(crate) pairs_max: usize,
    /// Filter by row index, called only for pairs that are similar enough.
    pub(crate) counts: &'w dyn Fn(usize, usize) -> bool,
}

/// Finds all pairs, in row order.
///
/// # Errors
/// [`JoinError`].
pub(crate) fn join(
    rows: &Rows,
    options: &JoinOptions<'_>,
    callback: &mut JoinProgressCallback<'_>,
) -> Result<Vec<SimilarPair>, JoinError> {
    let mut found = JoinPairs { rows, options, pairs: Vec::new() };
    let mut reporter = JoinReporter::new(rows.len(), callback);
    match rows.codes() {
        Some(codes) => by_codes(rows, codes, &mut found, &mut reporter)?,
        None => by_originals(rows, &mut found, &mut reporter)?,
    }
    found.pairs.sort_unstable_by_key(|pair| pair.rows);
    Ok(found.pairs)
}

/// The pairs found so far.
struct JoinPairs<'w> {
    rows: &'w Rows,
    options: &'w JoinOptions<'w>,
    pairs: Vec<SimilarPair>,
}

impl JoinPairs<'_> {
    /// Compares two rows by their original values.
    fn compare(&mut self, one: usize, other: usize) -> Result<(), JoinError> {
        let similarity = self.rows.measure().of(self.rows.values(one), self.rows.values(other));
        if similarity < self.options.similarity_min || !(self.options.counts)(one, other) {
            return Ok(());
        }
        if self.pairs.len() == self.options.pairs_max {
            return Err(JoinError::TooManyPairs(self.options.pairs_max));
        }
        self.pairs.push(SimilarPair { rows: [one, other].map(row_number), similarity });
        Ok(())
    }

    /// Compares one row with the later rows of a block, given their dot products.
    fn add_block(
        &mut self,
        row: usize,
        probe: &ProbeCode,
        block: &CodeRows<'_>,
        sums: &[i32],
    ) -> Result<(), JoinError> {
        let similarity_min = self.options.similarity_min;
        // In the row's own block only later rows, so that each pair counts once.
        let from = (row + 1).saturating_sub(block.first);
        let quantizations = block.quantizations.get(from..).unwrap_or_default();
        for (at, (sum, quantization)) in (from..).zip(sums.get(from..).unwrap_or_default().iter().zip(quantizations)) {
            if (probe.similarity(*sum, *quantization) + probe.error(*quantization)).min(1.0) >= similarity_min {
                self.compare(row, block.first + at)?;
            }
        }
        Ok(())
    }
}

struct JoinReporter<'c, 'w> {
    progress: JoinProgress,
    callback: &'c mut JoinProgressCallback<'w>,
}

impl<'c, 'w> JoinReporter<'c, 'w> {
    fn new(rows: usize, callback: &'c mut JoinProgressCallback<'w>) -> Self {
        Self { progress: JoinProgress { done: 0, total: pairs_of(rows) }, callback }
    }

    fn report(&mut self, pairs: u64) -> Result<(), JoinError> {
        self.progress.done += pairs;
        match (self.callback)(self.progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(JoinError::Stopped),
        }
    }
}

/// Number of pairs among `rows` rows.
fn pairs_of(rows: usize) -> u64 {
    let rows = rows as u64;
    rows * rows.saturating_sub(1) / 2
}

fn by_codes(
    rows: &Rows,
    codes: &Codes,
    found: &mut JoinPairs<'_>,
    reporter: &mut JoinReporter<'_, '_>,
) -> Result<(), JoinError> {
    let (kernel, mut sums) = (Kernel::fastest(), Vec::new());
    for index in 0..codes.blocks() {
        let block = codes.block(index);
        let firsts = block.first..block.first + block.quantizations.len();
        let probes: Vec<ProbeCode> = firsts.map(|row| ProbeCode::packed(rows.values(row), codes.packing())).collect();
        for other in index..codes.blocks() {
            let against = codes.block(other);
            for (probes, first) in probes.chunks(SCAN_BATCH_MAX).zip((block.first..).step_by(SCAN_BATCH_MAX)) {
                let numbers: Vec<&[i16]> = probes.iter().map(ProbeCode::numbers).collect();
                kernel.sums(&numbers, codes.packed_rows(against.numbers), &mut sums);
                for ((probe, row), sums) in
                    probes.iter().zip(first..).zip(sums.chunks_exact(against.quantizations.len()))
                {
                    found.add_block(row, probe, &against, sums)?;
                }
            }
            let (rows_here, rows_there) = (block.quantizations.len(), against.quantizations.len());
            reporter.report(if index == other { pairs_of(rows_here) } else { rows_here as u64 * rows_there as u64 })?;
        }
    }
    Ok(())
}

/// Exact comparison of all pairs, for spaces without codes.
fn by_originals(rows: &Rows, found: &mut JoinPairs<'_>, reporter: &mut JoinReporter<'_, '_>) -> Result<(), JoinError> {
    for row in 0..rows.len() {
        for other in row + 1..rows.len() {
            found.compare(row, other)?;
        }
        reporter.report((rows.len() - row - 1) as u64)?;
    }
    Ok(())
}

fn row_number(row: usize) -> u32 {
    u32::try_from(row).expect("memory ends long before 2^32 rows")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        rows::{
            kernel::Packing,
            measure::{Measure, similarity_of},
        },
        testbed::{embedding, row_record, unit_rows},
    };

    fn rows_of(vectors: &[Vec<f32>], measure: Measure) -> Rows {
        let mut rows = Rows::new(u32::try_from(vectors[0].len()).expect("short"), measure, Packing::Bytes);
        for (number, vector) in (0..).zip(vectors) {
            rows.push(row_record(number % 3, number), vector);
        }
        rows
    }

    fn brute_force(rows: &Rows, similarity_min: f32, counts: &dyn Fn(usize, usize) -> bool) -> Vec<SimilarPair> {
        let mut pairs = Vec::new();
        for one in 0..rows.len() {
            for other in one + 1..rows.len() {
                let similarity = rows.measure().of(rows.values(one), rows.values(other));
                if similarity >= similarity_min && counts(one, other) {
                    pairs.push(SimilarPair { rows: [one, other].map(row_number), similarity });
                }
            }
        }
        pairs
    }

    fn joined(
        rows: &Rows,
        similarity_min: f32,
        counts: &dyn Fn(usize, usize) -> bool,
    ) -> (Vec<SimilarPair>, JoinProgress) {
        let mut last = JoinProgress::default();
        let options = JoinOptions { similarity_min, pairs_max: usize::MAX, counts };
        let found = join(rows, &options, &mut |progress| {
            assert!(progress.done >= last.done && progress.done <= progress.total);
            last = progress;
            ControlFlow::Continue(())
        });
        (found.expect("not stopped"), last)
    }

    /// Near-ties and copies over several blocks of 2^17 values.
    fn crowded() -> impl Strategy<Value = Vec<Vec<f32>>> {
        let seeds = (1_u64..1000, 1_usize..5, prop_oneof![Just(5_usize), Just(64), Just(4000)]);
        seeds.prop_flat_map(|(seed, centres, dimension)| {
            let centres = unit_rows(centres, dimension, seed);
            let step = prop_oneof![Just(0.0_f32), Just(1e-6), Just(1e-3), Just(0.3), Just(1.0)];
            let row = (0..centres.len(), 0..dimension, step).prop_map(move |(centre, at, step)| {
                let mut row = centres[centre].clone();
                row[at] += step;
                embedding(&row).values().to_vec()
            });
            prop::collection::vec(row, 1..120)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_join_finds_the_pairs_of_an_exact_comparison(vectors in crowded(), of_rows in any::<bool>(), similarity_min in -0.2_f32..1.0) {
            let rows = rows_of(&vectors, Measure::Whole);
            // Exactly the similarity of one pair: neither codes nor rounding may lose it.
            let exact = similarity_of(&vectors[0], &vectors[vectors.len() - 1]);
            let similarity_min = if of_rows { exact } else { similarity_min };
            let counts = |one: usize, other: usize| rows.owner(one) != rows.owner(other);
            for counts in [&counts as &dyn Fn(usize, usize) -> bool, &|_, _| true] {
                let (found, progress) = joined(&rows, similarity_min, counts);
                prop_assert_eq!(found, brute_force(&rows, similarity_min, counts));
                prop_assert_eq!(progress.done, pairs_of(rows.len()));
            }
        }
    }

    #[test]
    fn rows_of_parts_are_joined() {
        let mut vectors = unit_rows(40, 8, 3);
        vectors[7] = vectors[21].clone();
        let rows = rows_of(&vectors, Measure::Parts(2));
        let (found, progress) = joined(&rows, 0.5, &|_, _| true);
        assert!(found.iter().any(|near| near.rows == [7, 21]));
        assert_eq!(found, brute_force(&rows, 0.5, &|_, _| true));
        assert_eq!(progress, JoinProgress { done: 780, total: 780 });
    }

    #[test]
    fn too_many_pairs_are_refused_and_a_callback_can_stop_it() {
        let rows = rows_of(&vec![unit_rows(1, 64, 1)[0].clone(); 5], Measure::Whole);
        let try_for = |pairs_max| {
            let options = JoinOptions { similarity_min: 0.9, pairs_max, counts: &|_, _| true };
            join(&rows, &options, &mut |_| ControlFlow::Continue(()))
        };
        assert_eq!(try_for(10).map(|pairs| pairs.len()), Ok(10));
        assert_eq!(try_for(9), Err(JoinError::TooManyPairs(9)));
        let options = JoinOptions { similarity_min: 0.9, pairs_max: 10, counts: &|_, _| true };
        assert_eq!(join(&rows, &options, &mut |_| ControlFlow::Break(())), Err(JoinError::Stopped));
    }
}

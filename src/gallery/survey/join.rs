//! Everybody with everybody: all pairs of rows that are at least so alike.
//!
//! As in a sweep, codes turn nearly all pairs away by an interval in which their similarity lies for certain, and originals
//! have the last word on the rest, so the pairs are those of a look at every original; with codes of four bits nearly all
//! of them. Two blocks of codes at a time stay in a core's cache while every row of the one is compared with every row of
//! the other, so that computing is all that it waits for. It takes one thread, for as long as it takes, and leaves the
//! others to searches.

use std::ops::ControlFlow;

use thiserror::Error;

use crate::{
    rows::{
        Rows,
        codes::{CodeRows, Codes, Probe},
        kernel::Kernel,
    },
    scan::query::PASS_MAX,
};

/// Two rows, the lower number first, and how alike they are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Near {
    pub(crate) rows: [u32; 2],
    pub(crate) similarity: f32,
}

/// Why a look at everybody came to no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum JoinError {
    /// Whoever watches said so.
    #[error("it was told to stop")]
    Stopped,
    #[error("more than {0} pairs of templates are that similar")]
    TooManyPairs(usize),
}

/// How far a look at everybody has come, in pairs of templates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JoinProgress {
    pub done: u64,
    pub total: u64,
}

/// Told now and then how far it is; answers whether to go on.
pub type JoinWatch<'w> = dyn FnMut(JoinProgress) -> ControlFlow<()> + 'w;

/// Which pairs are wanted.
pub(crate) struct Wanted<'w> {
    /// From this similarity on.
    pub(crate) level: f32,
    /// The most that may be kept.
    pub(crate) pairs_max: usize,
    /// Asked of those alone that are similar enough.
    pub(crate) counts: &'w dyn Fn(usize, usize) -> bool,
}

/// The pairs in order of their rows.
///
/// # Errors
/// [`JoinError`].
pub(crate) fn join(rows: &Rows, wanted: &Wanted<'_>, watch: &mut JoinWatch<'_>) -> Result<Vec<Near>, JoinError> {
    let mut found = Found { wanted, pairs: Vec::new() };
    let mut course = Course::new(rows.len(), watch);
    match rows.codes() {
        Some(codes) => by_codes(rows, codes, &mut found, &mut course)?,
        None => by_originals(rows, &mut found, &mut course)?,
    }
    found.pairs.sort_unstable_by_key(|near| near.rows);
    Ok(found.pairs)
}

struct Found<'w> {
    wanted: &'w Wanted<'w>,
    pairs: Vec<Near>,
}

impl Found<'_> {
    fn offer(&mut self, [one, other]: [usize; 2], similarity: f32) -> Result<(), JoinError> {
        if similarity < self.wanted.level || !(self.wanted.counts)(one, other) {
            return Ok(());
        }
        if self.pairs.len() == self.wanted.pairs_max {
            return Err(JoinError::TooManyPairs(self.wanted.pairs_max));
        }
        self.pairs.push(Near { rows: [one, other].map(row_number), similarity });
        Ok(())
    }
}

struct Course<'c, 'w> {
    progress: JoinProgress,
    watch: &'c mut JoinWatch<'w>,
}

impl<'c, 'w> Course<'c, 'w> {
    fn new(rows: usize, watch: &'c mut JoinWatch<'w>) -> Self {
        Self { progress: JoinProgress { done: 0, total: pairs_of(rows) }, watch }
    }

    fn came_by(&mut self, pairs: u64) -> Result<(), JoinError> {
        self.progress.done += pairs;
        match (self.watch)(self.progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(JoinError::Stopped),
        }
    }
}

/// How many pairs so many rows make.
fn pairs_of(rows: usize) -> u64 {
    let rows = rows as u64;
    rows * rows.saturating_sub(1) / 2
}

fn by_codes(rows: &Rows, codes: &Codes, found: &mut Found<'_>, course: &mut Course<'_, '_>) -> Result<(), JoinError> {
    let (kernel, mut sums) = (Kernel::fastest(), Vec::new());
    for index in 0..codes.blocks() {
        let block = codes.block(index);
        let firsts = block.first..block.first + block.terms.len();
        let probes: Vec<Probe> = firsts.map(|row| Probe::packed(rows.values(row), codes.packing())).collect();
        for other in index..codes.blocks() {
            let against = codes.block(other);
            for (probes, first) in probes.chunks(PASS_MAX).zip((block.first..).step_by(PASS_MAX)) {
                let numbers: Vec<&[i16]> = probes.iter().map(Probe::numbers).collect();
                kernel.sums(&numbers, (against.numbers, codes.packing()), codes.stride(), &mut sums);
                for ((probe, row), sums) in probes.iter().zip(first..).zip(sums.chunks_exact(against.terms.len())) {
                    take(rows, (probe, row), (&against, sums), found)?;
                }
            }
            let (here, there) = (block.terms.len(), against.terms.len());
            course.came_by(if index == other { pairs_of(here) } else { here as u64 * there as u64 })?;
        }
    }
    Ok(())
}

/// Takes in one row with the rows behind it of a block, whose sums of products with it are given.
fn take(
    rows: &Rows,
    (probe, row): (&Probe, usize),
    (block, sums): (&CodeRows<'_>, &[i32]),
    found: &mut Found<'_>,
) -> Result<(), JoinError> {
    let level = found.wanted.level;
    // In a row's own block only those behind it: each pair once.
    let from = (row + 1).saturating_sub(block.first);
    let terms = block.terms.get(from..).unwrap_or_default();
    for (at, (sum, term)) in (from..).zip(sums.get(from..).unwrap_or_default().iter().zip(terms)) {
        if (probe.similarity(*sum, *term) + probe.error(*term)).min(1.0) >= level {
            let other = block.first + at;
            found.offer([row, other], rows.measure().of(rows.values(row), rows.values(other)))?;
        }
    }
    Ok(())
}

/// Where there are no codes.
fn by_originals(rows: &Rows, found: &mut Found<'_>, course: &mut Course<'_, '_>) -> Result<(), JoinError> {
    for row in 0..rows.len() {
        for other in row + 1..rows.len() {
            found.offer([row, other], rows.measure().of(rows.values(row), rows.values(other)))?;
        }
        course.came_by((rows.len() - row - 1) as u64)?;
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
        testbed::{embedding, member, unit_rows},
    };

    fn rows_of(vectors: &[Vec<f32>], measure: Measure) -> Rows {
        let mut rows = Rows::new(u32::try_from(vectors[0].len()).expect("short"), measure, Packing::Bytes);
        for (number, vector) in (0..).zip(vectors) {
            rows.push(member(number % 3, number), vector);
        }
        rows
    }

    fn brute_force(rows: &Rows, level: f32, counts: &dyn Fn(usize, usize) -> bool) -> Vec<Near> {
        let mut pairs = Vec::new();
        for one in 0..rows.len() {
            for other in one + 1..rows.len() {
                let similarity = rows.measure().of(rows.values(one), rows.values(other));
                if similarity >= level && counts(one, other) {
                    pairs.push(Near { rows: [one, other].map(row_number), similarity });
                }
            }
        }
        pairs
    }

    fn joined(rows: &Rows, level: f32, counts: &dyn Fn(usize, usize) -> bool) -> (Vec<Near>, JoinProgress) {
        let mut last = JoinProgress::default();
        let wanted = Wanted { level, pairs_max: usize::MAX, counts };
        let found = join(rows, &wanted, &mut |progress| {
            assert!(progress.done >= last.done && progress.done <= progress.total);
            last = progress;
            ControlFlow::Continue(())
        });
        (found.expect("nobody stopped it"), last)
    }

    /// Near-ties and copies, over several blocks: 2^17 numbers make one.
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
        fn a_join_finds_what_a_look_at_every_pair_finds(vectors in crowded(), of_rows in any::<bool>(), level in -0.2_f32..1.0) {
            let rows = rows_of(&vectors, Measure::Whole);
            // The very similarity of some pair: neither codes nor rounding may lose it.
            let exact = similarity_of(&vectors[0], &vectors[vectors.len() - 1]);
            let level = if of_rows { exact } else { level };
            let counts = |one: usize, other: usize| rows.owner(one) != rows.owner(other);
            for counts in [&counts as &dyn Fn(usize, usize) -> bool, &|_, _| true] {
                let (found, progress) = joined(&rows, level, counts);
                prop_assert_eq!(found, brute_force(&rows, level, counts));
                prop_assert_eq!(progress.done, pairs_of(rows.len()));
            }
        }
    }

    #[test]
    fn rows_of_several_parts_are_joined_as_well() {
        let mut vectors = unit_rows(40, 8, 3);
        vectors[7] = vectors[21].clone();
        let rows = rows_of(&vectors, Measure::Parts(2));
        let (found, progress) = joined(&rows, 0.5, &|_, _| true);
        assert!(found.iter().any(|near| near.rows == [7, 21]));
        assert_eq!(found, brute_force(&rows, 0.5, &|_, _| true));
        assert_eq!(progress, JoinProgress { done: 780, total: 780 });
    }

    #[test]
    fn too_many_pairs_are_refused_and_a_watch_can_stop_it() {
        let rows = rows_of(&vec![unit_rows(1, 64, 1)[0].clone(); 5], Measure::Whole);
        let try_for = |pairs_max| {
            let wanted = Wanted { level: 0.9, pairs_max, counts: &|_, _| true };
            join(&rows, &wanted, &mut |_| ControlFlow::Continue(()))
        };
        assert_eq!(try_for(10).map(|pairs| pairs.len()), Ok(10));
        assert_eq!(try_for(9), Err(JoinError::TooManyPairs(9)));
        let wanted = Wanted { level: 0.9, pairs_max: 10, counts: &|_, _| true };
        assert_eq!(join(&rows, &wanted, &mut |_| ControlFlow::Break(())), Err(JoinError::Stopped));
    }
}

//! Rehearsal over several spaces: joint similarities of mated and non-mated trials.

use std::collections::{BTreeMap, BTreeSet};

use super::{PooledSpace, ProbeSimilarities, SeededRandom, TRIALS_AT_ONCE, rows_by_identity};
use crate::{roster::Slot, rows::Rows};
use domain::{Pooling, Similarity};

/// Trials whose probes have one template in each space, on a snapshot of the gallery.
///
/// An identity with templates in all spaces gives probes of one template per space: its first in each, then its second
/// in each, because these were likely captured together. Every identity gives one trial before any gives two.
#[derive(Debug)]
pub struct JointRehearsal {
    spaces: Vec<Rows>,
    pooling: Pooling,
    trials: Vec<JointTrial>,
    identities: u64,
}

#[derive(Debug)]
struct JointTrial {
    owner: Slot,
    /// One row per space.
    probe: Vec<usize>,
    /// A randomly drawn other identity; `None` when there is none.
    other: Option<Slot>,
}

impl JointRehearsal {
    /// Draws at most `trials_max` trials. The same templates, count and seed give the same trials.
    pub(crate) fn new(spaces: Vec<Rows>, pooling: Pooling, trials_max: usize, seed: u64) -> Self {
        let mut identities: BTreeMap<Slot, Vec<Vec<usize>>> = BTreeMap::new();
        for rows in &spaces {
            for owned in rows_by_identity(rows) {
                identities.entry(rows.owner(owned[0])).or_default().push(owned);
            }
        }
        let identity_count = identities.len() as u64;
        let mut identities: Vec<(Slot, Vec<Vec<usize>>)> =
            identities.into_iter().filter(|(_, owned)| owned.len() == spaces.len()).collect();
        // In the order of their first templates, because slots are reused after deletions.
        identities.sort_unstable_by_key(|(_, owned)| spaces.first().map(|rows| rows.template(owned[0][0])));
        let mut random = SeededRandom::new(seed);
        let mut order: Vec<usize> = (0..identities.len()).collect();
        random.shuffle(&mut order);
        let turns = |one: usize| identities[one].1.iter().map(Vec::len).min().unwrap_or(0);
        let rounds = order.iter().map(|one| turns(*one)).max().unwrap_or(0);
        let in_turn = (0..rounds).flat_map(|turn| order.iter().map(move |one| (*one, turn)));
        let mut trial = |(one, turn): (usize, usize)| {
            let (owner, own) = &identities[one];
            let drawn = random.below(identities.len());
            let other = if drawn == one { (drawn + 1) % identities.len() } else { drawn };
            JointTrial {
                owner: *owner,
                probe: own.iter().map(|owned| owned[turn]).collect(),
                other: (other != one).then(|| identities[other].0),
            }
        };
        let trials = in_turn.filter(|(one, turn)| turns(*one) > *turn).take(trials_max).map(&mut trial).collect();
        Self { spaces, pooling, trials, identities: identity_count }
    }

    /// Number of identities with a template in any of the spaces.
    #[must_use]
    pub fn identities(&self) -> u64 {
        self.identities
    }

    /// Similarities per trial, one per space: mated trials (the probe against its own identity, when that has another
    /// template in every space), then non-mated trials (against one other identity).
    #[must_use]
    pub fn pairs(&self) -> (Vec<Vec<Similarity>>, Vec<Vec<Similarity>>) {
        let spaces = self.spaces();
        let similarities = |trial: &JointTrial, identity: Slot| -> Option<Vec<Similarity>> {
            let each = spaces.iter().zip(&trial.probe);
            each.map(|(space, probe)| space.similarity_without_copies(*probe, identity).map(Similarity)).collect()
        };
        let genuine = self.trials.iter().filter_map(|trial| similarities(trial, trial.owner));
        let impostor = self.trials.iter().filter_map(|trial| similarities(trial, trial.other?));
        (genuine.collect(), impostor.collect())
    }

    fn spaces(&self) -> Vec<PooledSpace<'_>> {
        self.spaces.iter().map(|rows| PooledSpace::new(rows, self.pooling, rows_by_identity(rows))).collect()
    }

    /// Highest score of each probe against all other identities: the score of a non-enrolled person. `score` takes one
    /// similarity per space, `None` where the identity has no template. Takes as long as one scan of each space per
    /// trial.
    #[must_use]
    pub fn nonmated_best(&self, score: impl Fn(&[Option<Similarity>]) -> f64) -> Vec<f64> {
        let spaces = self.spaces();
        let slots: BTreeSet<Slot> = spaces.iter().flat_map(PooledSpace::slots).collect();
        let mut best = Vec::with_capacity(self.trials.len());
        for trials in self.trials.chunks(TRIALS_AT_ONCE) {
            let probes_in = |of: usize| trials.iter().map(|trial| trial.probe[of]).collect::<Vec<usize>>();
            let similarities: Vec<ProbeSimilarities<'_>> =
                spaces.iter().enumerate().map(|(of, space)| space.compare(&probes_in(of))).collect();
            for (at, trial) in trials.iter().enumerate() {
                let scored = slots.iter().filter(|slot| **slot != trial.owner).filter_map(|slot| {
                    let each: Vec<Option<Similarity>> = similarities
                        .iter()
                        .map(|similarities| similarities.similarity(at, *slot).map(Similarity))
                        .collect();
                    each.iter().any(Option::is_some).then(|| score(&each))
                });
                best.extend(scored.max_by(f64::total_cmp));
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        rows::{
            kernel::Packing,
            measure::{Measure, similarity_of},
        },
        testbed::{row_record, unit_rows},
    };

    /// Twenty identities with two faces each and one with a single face; the first ten also have three bodies each.
    fn spaces() -> Vec<Rows> {
        let new = || Rows::new(32, Measure::Whole, Packing::Bytes);
        let (mut faces, mut bodies) = (new(), new());
        for (number, values) in (0..).zip(unit_rows(41, 32, 5)) {
            faces.push(row_record(number / 2, number), &values);
        }
        for (number, values) in (0..).zip(unit_rows(30, 32, 6)) {
            bodies.push(row_record(number / 3, 100 + number), &values);
        }
        vec![faces, bodies]
    }

    #[test]
    fn joint_trials_use_identities_with_templates_in_all_spaces() {
        let together = JointRehearsal::new(spaces(), Pooling::Best, 1000, 3);
        let (genuine, impostor) = together.pairs();
        assert_eq!(
            (genuine.len(), impostor.len(), together.identities()),
            (20, 20, 21),
            "ten identities are in both, twice"
        );
        let spaces = spaces();
        for trial in &genuine {
            let face = |person: usize| similarity_of(spaces[0].values(person * 2), spaces[0].values(person * 2 + 1));
            let person =
                (0..10).find(|person| (face(*person) - trial[0].0).abs() < 1e-6).expect("a person's two faces");
            let body = |turn: usize| {
                let own = |row: usize| spaces[1].values(person * 3 + row);
                let others = (0..3).filter(|row| *row != turn);
                others.map(|row| similarity_of(own(turn), own(row))).fold(-2.0, f32::max)
            };
            assert!([body(0), body(1)].iter().any(|body| (body - trial[1].0).abs() < 1e-6), "of the same person");
        }
        assert_eq!(JointRehearsal::new(spaces, Pooling::Best, 4, 3).pairs().1.len(), 4);
    }

    #[test]
    fn nonmated_scores_equal_those_of_all_comparisons() {
        let together = JointRehearsal::new(spaces(), Pooling::Best, 1000, 3);
        let score = |each: &[Option<Similarity>]| each.iter().flatten().map(|s| f64::from(s.0)).sum::<f64>();
        let found = together.nonmated_best(score);
        assert_eq!(found.len(), 20);
        for (trial, found) in together.trials.iter().zip(found) {
            let similarity = |of: usize, person: u32| {
                let rows = &together.spaces[of];
                let its = (0..rows.len()).filter(|row| rows.owner(*row) == Slot(person));
                its.map(|row| similarity_of(rows.values(trial.probe[of]), rows.values(row))).max_by(f32::total_cmp)
            };
            let others = (0..21).filter(|person| Slot(*person) != trial.owner);
            let best = others.map(|person| score(&[0, 1].map(|of| similarity(of, person).map(Similarity))));
            let best = best.fold(f64::MIN, f64::max);
            assert!((found - best).abs() < 1e-5, "{found} instead of {best}");
        }
    }
}

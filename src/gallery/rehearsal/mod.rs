//! Rehearsal: mated and non-mated trials from the gallery's own templates (ISO/IEC 19795-1).
//!
//! Each trial uses an enrolled template as the probe. Without the probe's identity in the gallery, the trial is
//! non-mated. Without only the probe itself, it is mated.

mod impostor;
mod joint;
mod open_set;

use std::collections::{BTreeMap, BTreeSet};

use rand_xoshiro::{
    SplitMix64,
    rand_core::{RngCore, SeedableRng},
};

use crate::{
    roster::Slot,
    rows::{
        Rows,
        weights::{self, WeightedPooling},
    },
};
use domain::{
    GalleryStatistics, MatedLogit, Neighbour, Pooling, PosteriorTrials, Rehearsal, ReviewedSimilarities, SAME_IMAGE,
    Similarity,
};
use impostor::{ImpostorProbe, impostor_trials};
use open_set::{Mated, OpenSetRehearsal, Surroundings};
use ranking::{Accumulators, TemplateSimilarity};

pub use impostor::ImpostorTrials;
pub use joint::JointRehearsal;

/// Limits of a rehearsal of the open-set decision.
#[derive(Debug, Clone, Copy)]
pub struct RehearsalLimits {
    pub trials_max: usize,
    /// Maximum number of neighbours in a trial.
    pub neighbours_max: usize,
    pub seed: u64,
}

/// Trials that share one pass over the rows with pooling. Each needs accumulators for all identities.
const TRIALS_AT_ONCE: usize = 16;

/// Runs at most `trials_max` trials. The same rows, count and seed give the same trials.
pub(crate) fn rehearse(rows: &Rows, pooling: Pooling, trials_max: usize, seed: u64) -> Rehearsal {
    let identities = rows_by_identity(rows);
    let mut random = SeededRandom::new(seed);
    let probes = draw_probes(&identities, trials_max, &mut random);
    let persons: BTreeMap<Slot, usize> =
        identities.iter().enumerate().map(|(person, its_rows)| (rows.owner(its_rows[0]), person)).collect();
    let space = PooledSpace::new(rows, pooling, identities);
    let impostors: Vec<ImpostorProbe<'_>> = probes
        .iter()
        .map(|probe| ImpostorProbe { person: persons[&rows.owner(*probe)], values: rows.values(*probe) })
        .collect();
    let impostor = impostor_trials(&space, &impostors, trials_max, &mut random);
    let (nonmated_best, mated_best) = match space.pooling {
        Pooling::Best => best_of(rows, &probes),
        Pooling::MeanOfBest(_) | Pooling::ByQuality | Pooling::Prototype | Pooling::Centralised => {
            pooled_of(&space, &probes)
        }
    };
    Rehearsal {
        identities: space.order.len() as u64,
        templates: rows.len() as u64,
        nonmated_best,
        impostor: impostor.similarities,
        impostor_independent: impostor.independent,
        mated_best,
        reviewed: ReviewedSimilarities::default(),
    }
}

/// Compares people who are not enrolled with random identities of the space; see [`impostor_trials`].
pub(crate) fn outsider_trials(
    rows: &Rows,
    pooling: Pooling,
    outsiders: &[&[f32]],
    trials_max: usize,
    seed: u64,
) -> ImpostorTrials {
    let space = PooledSpace::new(rows, pooling, rows_by_identity(rows));
    // Their numbers follow those of the gallery.
    let numbered = (space.order.len()..).zip(outsiders);
    let probes: Vec<ImpostorProbe<'_>> = numbered.map(|(person, values)| ImpostorProbe { person, values }).collect();
    impostor_trials(&space, &probes, trials_max, &mut SeededRandom::new(seed))
}

/// Runs at most `trials_max` trials of the open-set decision. `log_odds` gives the log-odds of being enrolled from the at
/// most `neighbours_max` most similar templates and the statistics of the gallery. The same rows, count and seed give the
/// same trials. `genuine` are similarities of genuine pairs of the encoder, for made-up mated trials: see
/// [`OpenSetRehearsal::each_trial`].
pub(crate) fn rehearse_open_set(
    rows: &Rows,
    RehearsalLimits { trials_max, neighbours_max, seed }: RehearsalLimits,
    genuine: &[f32],
    log_odds: &dyn Fn(&[Neighbour], &GalleryStatistics) -> f64,
) -> PosteriorTrials {
    let identities = rows_by_identity(rows);
    let mut random = SeededRandom::new(seed);
    let probes = draw_probes(&identities, trials_max, &mut random);
    let mut trials = PosteriorTrials { identities: identities.len() as u64, ..PosteriorTrials::default() };
    #[expect(clippy::cast_possible_truncation, reason = "log-odds are limited")]
    let logit = |Surroundings { neighbours, gallery }: &Surroundings| log_odds(neighbours, gallery) as f32;
    let highest = |neighbours: &[Neighbour], identity: u64, is_own: bool| {
        let found = neighbours.iter().find(|one| (one.identity == identity) == is_own);
        found.map_or(Similarity::LOWEST.0, |one| one.cosine)
    };
    let rehearsal = OpenSetRehearsal::new(rows, neighbours_max);
    rehearsal.each_trial(&probes, genuine, &mut random, |trial| {
        trials.nonmated.extend(trial.nonmated.as_ref().map(&logit));
        let mated = |Mated { identity, surroundings }: Mated| MatedLogit {
            logit: logit(&surroundings),
            margin: highest(&surroundings.neighbours, identity, true)
                - highest(&surroundings.neighbours, identity, false),
        };
        trials.mated.extend(trial.mated.map(mated));
        trials.made_up.extend(trial.made_up.into_iter().map(mated));
    });
    trials
}

/// The rows of each identity, in the order of template ids, because the row order depends on earlier deletions.
fn rows_by_identity(rows: &Rows) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_unstable_by_key(|row| rows.template(*row));
    let mut places: BTreeMap<Slot, usize> = BTreeMap::new();
    let mut identities: Vec<Vec<usize>> = Vec::new();
    for row in order {
        let place = *places.entry(rows.owner(row)).or_insert(identities.len());
        if place == identities.len() {
            identities.push(Vec::new());
        }
        identities[place].push(row);
    }
    identities
}

/// One row of every identity in random order, then a second row of every identity that has one, and so on. Trials of
/// one person are not independent, so as many persons as possible take part.
fn draw_probes(identities: &[Vec<usize>], trials_max: usize, random: &mut SeededRandom) -> Vec<usize> {
    let mut identities: Vec<Vec<usize>> = identities.to_vec();
    random.shuffle(&mut identities);
    for rows in &mut identities {
        random.shuffle(rows);
    }
    let rounds = identities.iter().map(Vec::len).max().unwrap_or(0);
    let turns = (0..rounds).flat_map(|round| identities.iter().filter_map(move |rows| rows.get(round)));
    turns.take(trials_max).copied().collect()
}

/// Pooled similarity of a probe and one identity, without the probe itself and copies of its image. `None` when no
/// template is left.
fn similarity_without_copies(rows: &Rows, pooling: Pooling, probe: usize, its_rows: &[usize]) -> Option<f32> {
    let similarity = |row: usize| rows.measure().of(rows.values(probe), rows.values(row));
    let left = its_rows.iter().map(|row| (*row, similarity(*row))).filter(|(row, s)| *s < SAME_IMAGE && *row != probe);
    let (left, similarities): (Vec<usize>, Vec<f32>) = left.unzip();
    // The weights depend on all templates in the pool, so they are computed anew for the remaining ones.
    let weights: BTreeMap<usize, f32> = weights::template_weights_of(rows, pooling, &left).into_iter().collect();
    let template = |(row, similarity): (&usize, &f32)| TemplateSimilarity {
        similarity: *similarity,
        quality: rows.quality(*row),
        weight: weights[row],
    };
    Accumulators::single(pooling, left.iter().zip(&similarities).map(template))
}

/// Highest similarity of each probe to other identities, and to the other templates of its own identity.
fn best_of(rows: &Rows, probes: &[usize]) -> (Vec<Similarity>, Vec<Similarity>) {
    let mut nonmated = vec![Similarity::LOWEST; probes.len()];
    let mut mated = vec![Similarity::LOWEST; probes.len()];
    each_similarity(rows, probes, |trial, row, similarity| {
        let probe = probes[trial];
        if similarity < SAME_IMAGE && row != probe {
            let best = if rows.owner(row) == rows.owner(probe) { &mut mated[trial] } else { &mut nonmated[trial] };
            best.0 = best.0.max(similarity);
        }
    });
    let found = |best: Vec<Similarity>| best.into_iter().filter(|s| *s > Similarity::LOWEST).collect();
    (found(nonmated), found(mated))
}

/// The same with pooled similarities.
fn pooled_of(space: &PooledSpace<'_>, probes: &[usize]) -> (Vec<Similarity>, Vec<Similarity>) {
    let (mut nonmated, mut mated) = (Vec::new(), Vec::new());
    for probes in probes.chunks(TRIALS_AT_ONCE) {
        let similarities = space.compare(probes);
        for (trial, probe) in probes.iter().enumerate() {
            let own = space.rows.owner(*probe);
            let others = space.slots().filter(|slot| *slot != own);
            let similarities = others.filter_map(|slot| similarities.similarity(trial, slot));
            nonmated.extend(similarities.max_by(f32::total_cmp).map(Similarity));
            mated.extend(space.similarity_without_copies(*probe, own).map(Similarity));
        }
    }
    (nonmated, mated)
}

/// A space with pooled similarities.
struct PooledSpace<'r> {
    rows: &'r Rows,
    pooling: Pooling,
    identities: BTreeMap<Slot, Vec<usize>>,
    /// The identities by their first templates: an order that does not depend on earlier deletions.
    order: Vec<Slot>,
    weights: Vec<f32>,
}

/// Pooled similarities of some probes to all identities of a space.
struct ProbeSimilarities<'c> {
    space: &'c PooledSpace<'c>,
    probes: Vec<usize>,
    /// One per probe.
    accumulators: Vec<Accumulators>,
    /// Identities without one of their templates: the probe itself or a copy of its image.
    incomplete: Vec<BTreeSet<Slot>>,
}

impl<'r> PooledSpace<'r> {
    /// `identities` are those of [`rows_by_identity`].
    fn new(rows: &'r Rows, pooling: Pooling, identities: Vec<Vec<usize>>) -> Self {
        let pooling = weights::pooling_in_space(rows.measure(), pooling);
        let order = identities.iter().map(|its_rows| rows.owner(its_rows[0])).collect();
        let identities: BTreeMap<Slot, Vec<usize>> =
            identities.into_iter().map(|its_rows| (rows.owner(its_rows[0]), its_rows)).collect();
        let weights = weights::all_template_weights(rows, pooling, identities.values().cloned());
        Self { rows, pooling, identities, order, weights }
    }

    fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.identities.keys().copied()
    }

    /// See [`similarity_without_copies`].
    fn similarity_without_copies(&self, probe: usize, slot: Slot) -> Option<f32> {
        similarity_without_copies(self.rows, self.pooling, probe, self.identities.get(&slot)?)
    }

    /// Compares the probes with all rows. Takes as long as one scan per probe.
    fn compare(&self, probes: &[usize]) -> ProbeSimilarities<'_> {
        let slots = self.identities.last_key_value().map_or(0, |(last, _)| last.0 as usize + 1);
        let weighted = WeightedPooling::new(self.pooling, &self.weights);
        let mut accumulators: Vec<Accumulators> =
            probes.iter().map(|_| Accumulators::new(self.pooling, slots)).collect();
        let mut incomplete: Vec<BTreeSet<Slot>> = vec![BTreeSet::new(); probes.len()];
        each_similarity(self.rows, probes, |trial, row, similarity| {
            let owner = self.rows.owner(row);
            if similarity < SAME_IMAGE && row != probes[trial] {
                accumulators[trial].add(owner.0 as usize, weighted.template_similarity(self.rows, row, similarity));
            } else {
                incomplete[trial].insert(owner);
            }
        });
        if Accumulators::needs_second_pass(self.pooling) {
            each_similarity(self.rows, probes, |trial, row, similarity| {
                accumulators[trial].add_second_pass(
                    self.rows.owner(row).0 as usize,
                    weighted.template_similarity(self.rows, row, similarity),
                );
            });
        }
        ProbeSimilarities { space: self, probes: probes.to_vec(), accumulators, incomplete }
    }
}

impl ProbeSimilarities<'_> {
    /// Pooled similarity of an identity to one of the probes, without the probe itself and copies of its image. `None`
    /// when no template is left.
    fn similarity(&self, trial: usize, slot: Slot) -> Option<f32> {
        if self.incomplete[trial].contains(&slot) {
            return self.space.similarity_without_copies(self.probes[trial], slot);
        }
        self.space
            .identities
            .contains_key(&slot)
            .then(|| self.accumulators[trial].similarity(slot.0 as usize))
            .flatten()
    }
}

/// Calls `take` with the index of a probe, a row, and their similarity. Compares all probes with one block before it
/// reads the next, so that the values come from memory once.
fn each_similarity(rows: &Rows, probes: &[usize], mut take: impl FnMut(usize, usize, f32)) {
    let mut similarities = Vec::new();
    for (first, values) in rows.blocks() {
        for (trial, probe) in probes.iter().enumerate() {
            rows.measure().of_all(rows.values(*probe), values, &mut similarities);
            for (row, similarity) in (first..).zip(&similarities) {
                take(trial, row, *similarity);
            }
        }
    }
}

/// Draws from SplitMix64 (Steele, Lea and Flood 2014): small, seeded, and equal on every machine.
struct SeededRandom(SplitMix64);

impl SeededRandom {
    fn new(seed: u64) -> Self {
        Self(SplitMix64::seed_from_u64(seed))
    }

    /// High half of the product instead of a remainder (Lemire 2019); the bias is below 2^-32 at these sizes.
    fn below(&mut self, bound: usize) -> usize {
        let product = u128::from(self.0.next_u64()) * bound as u128;
        usize::try_from(product >> 64).expect("below the bound, which is one")
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
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

    /// `identities` identities with two templates each, in 32 dimensions.
    fn gallery(identities: u32) -> Rows {
        let mut rows = Rows::new(32, Measure::Whole, Packing::Bytes);
        for (number, values) in (0..).zip(unit_rows(identities as usize * 2, 32, 5)) {
            rows.push(row_record(number / 2, number), &values);
        }
        rows
    }

    #[test]
    fn trials_equal_those_of_all_comparisons() {
        let rows = gallery(20);
        let rehearsal = rehearse(&rows, Pooling::Best, 1000, 3);
        assert_eq!((rehearsal.identities, rehearsal.templates), (20, 40));
        assert_eq!(rehearsal.impostor.len(), 40 * 19, "each template with each other identity");
        let best = |row: usize, own: bool| {
            let others = (0..40).filter(|other| *other != row && (rows.owner(*other) == rows.owner(row)) == own);
            others.map(|other| similarity_of(rows.values(row), rows.values(other))).fold(-2.0, f32::max)
        };
        let sorted = |mut values: Vec<f32>| {
            values.sort_by(f32::total_cmp);
            values
        };
        let found = |trials: &[Similarity]| sorted(trials.iter().map(|s| s.0).collect());
        assert_eq!(found(&rehearsal.nonmated_best), sorted((0..40).map(|row| best(row, false)).collect()));
        assert_eq!(found(&rehearsal.mated_best), sorted((0..40).map(|row| best(row, true)).collect()));
    }

    /// One image under two identities, with every pooling: trials equal those computed pair by pair, without the probe
    /// and its copies.
    #[test]
    fn template_weights_are_computed_anew_without_the_probe() {
        let mut rows = Rows::new(32, Measure::Whole, Packing::Bytes);
        let mut values = unit_rows(60, 32, 6);
        values[17] = values[40].clone();
        for (number, values) in (0..).zip(&values) {
            rows.push(row_record(number / 4, number), values);
        }
        for pooling in [Pooling::Prototype, Pooling::Centralised, Pooling::ByQuality] {
            let rehearsal = rehearse(&rows, pooling, 1000, 3);
            let trial = |probe: usize, is_own: bool| {
                let identities = (0..15).filter(|person| (*person == probe / 4) == is_own);
                let of = |person: usize| {
                    let left = (person * 4..person * 4 + 4).filter(|row| {
                        *row != probe && similarity_of(rows.values(*row), rows.values(probe)) < SAME_IMAGE
                    });
                    let mut alone = Rows::new(32, Measure::Whole, Packing::Bytes);
                    for row in left {
                        alone.push(rows.record(row), rows.values(row));
                    }
                    let copy = alone.push(row_record(99, 999), rows.values(probe));
                    similarity_without_copies(&alone, pooling, copy, &(0..copy).collect::<Vec<usize>>())
                        .expect("something is left")
                };
                identities.map(of).fold(-2.0, f32::max)
            };
            let sorted = |values: &mut dyn Iterator<Item = f32>| {
                let mut values: Vec<f32> = values.collect();
                values.sort_by(f32::total_cmp);
                values
            };
            let all = |is_own| sorted(&mut (0..60).map(|probe| trial(probe, is_own)));
            let found = |trials: &[Similarity]| sorted(&mut trials.iter().map(|s| s.0));
            for (found, expected) in
                [(found(&rehearsal.nonmated_best), all(false)), (found(&rehearsal.mated_best), all(true))]
            {
                assert_eq!(found.len(), expected.len());
                let similarity_without_copies =
                    found.iter().zip(&expected).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max);
                assert!(similarity_without_copies < 1e-6, "{pooling:?}: {similarity_without_copies}");
            }
        }
    }

    #[test]
    fn every_identity_gives_one_probe_before_any_gives_two() {
        let rows = gallery(50);
        let probes = draw_probes(&rows_by_identity(&rows), 50, &mut SeededRandom::new(9));
        let mut owners: Vec<u32> = probes.iter().map(|row| rows.owner(*row).0).collect();
        owners.sort_unstable();
        assert_eq!(owners, (0..50).collect::<Vec<u32>>());
        assert_eq!(draw_probes(&rows_by_identity(&rows), 70, &mut SeededRandom::new(9)).len(), 70);
    }

    #[test]
    fn a_seed_gives_the_same_trials_after_any_deletions() {
        let rows = gallery(30);
        let mut detour = gallery(31);
        detour.remove(61);
        detour.remove(60);
        let extra = row_record(77, 1000);
        detour.push(extra, &[0.0; 32]);
        let moved = detour.remove(3);
        assert_eq!(moved, Some(extra.template));
        let values = rows.values(3).to_vec();
        detour.push(row_record(1, 3), &values);
        detour.remove(3);
        assert_eq!(rehearse(&detour, Pooling::Best, 40, 8), rehearse(&rows, Pooling::Best, 40, 8));
        assert_ne!(rehearse(&rows, Pooling::Best, 40, 8), rehearse(&rows, Pooling::Best, 40, 9));
    }

    #[test]
    fn one_image_under_two_identities_makes_no_nonmated_trial() {
        let mut rows = gallery(10);
        let copy = rows.values(0).to_vec();
        rows.push(row_record(99, 99), &copy);
        let rehearsal = rehearse(&rows, Pooling::Best, 1000, 1);
        assert!(rehearsal.nonmated_best.iter().chain(&rehearsal.impostor).all(|s| s.0 < SAME_IMAGE));
    }

    #[test]
    fn a_single_identity_has_no_nonmated_trial() {
        let rehearsal = rehearse(&gallery(1), Pooling::Best, 10, 1);
        assert!(rehearsal.nonmated_best.is_empty() && rehearsal.impostor.is_empty());
        assert_eq!(rehearsal.mated_best.len(), 2);
    }
}

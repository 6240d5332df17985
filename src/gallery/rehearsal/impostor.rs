//! Impostor trials: comparisons of a probe with an identity of another person, as in a verification.

use std::collections::{BTreeSet, HashMap};

use super::{PooledSpace, SeededRandom};
use crate::rows::weights::WeightedPooling;
use domain::{SAME_IMAGE, Similarity};
use ranking::Accumulators;

/// Impostor trials per trial of another kind: comparisons of two people cost far less than a scan of the gallery.
const IMPOSTORS_PER_TRIAL: usize = 50;
/// One in so many trials is an error where the independence of the trials is measured.
const REFERENCE: usize = 200;

/// Similarities of impostor trials.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImpostorTrials {
    pub similarities: Vec<Similarity>,
    /// Number of independent trials that tell as much: trials with a person in common are not independent.
    pub independent: f64,
}

/// A probe of impostor trials.
#[derive(Debug, Clone, Copy)]
pub(super) struct ImpostorProbe<'v> {
    /// The person; those of the gallery are numbered in the order of [`PooledSpace::order`].
    pub(super) person: usize,
    pub(super) values: &'v [f32],
}

/// One comparison.
#[derive(Debug, Clone, Copy)]
struct Trial {
    /// The persons of the probe and of the identity.
    persons: [usize; 2],
    similarity: f32,
}

/// Compares each probe with random identities of other persons: with all, if [`IMPOSTORS_PER_TRIAL`] times `trials_max`
/// trials suffice. The first trials are one per probe. Leaves out comparisons of one image with itself.
pub(super) fn impostor_trials(
    space: &PooledSpace<'_>,
    probes: &[ImpostorProbe<'_>],
    trials_max: usize,
    random: &mut SeededRandom,
) -> ImpostorTrials {
    let slots = &space.order;
    let per_probe = (trials_max.saturating_mul(IMPOSTORS_PER_TRIAL) / probes.len().max(1)).max(1);
    let others: Vec<Vec<usize>> =
        probes.iter().map(|probe| draw_others(slots.len(), probe.person, per_probe, random)).collect();
    let rounds = others.iter().map(Vec::len).max().unwrap_or(0);
    let mut trials = Vec::new();
    for round in 0..rounds {
        for (probe, others) in probes.iter().zip(&others) {
            let Some(other) = others.get(round) else { continue };
            let similarity = similarity(space, probe.values, &space.identities[&slots[*other]]);
            trials.extend(similarity.map(|similarity| Trial { persons: [probe.person, *other], similarity }));
        }
    }
    ImpostorTrials {
        similarities: trials.iter().map(|trial| Similarity(trial.similarity)).collect(),
        independent: independent(&trials),
    }
}

/// At most `count` distinct numbers below `people` without `own`, in random order.
fn draw_others(people: usize, own: usize, count: usize, random: &mut SeededRandom) -> Vec<usize> {
    let mut others: Vec<usize> = if count >= people / 2 {
        let mut all: Vec<usize> = (0..people).filter(|person| *person != own).collect();
        random.shuffle(&mut all);
        all
    } else {
        let mut drawn = BTreeSet::new();
        std::iter::repeat_with(|| random.below(people))
            .filter(|person| *person != own && drawn.insert(*person))
            .take(count)
            .collect()
    };
    others.truncate(count);
    others
}

/// Pooled similarity of a probe to an identity; `None` if the identity holds the probe's image.
fn similarity(space: &PooledSpace<'_>, values: &[f32], its_rows: &[usize]) -> Option<f32> {
    let rows = space.rows;
    let similarities: Vec<f32> = its_rows.iter().map(|row| rows.measure().of(values, rows.values(*row))).collect();
    if similarities.iter().any(|similarity| *similarity >= SAME_IMAGE) {
        return None;
    }
    let weighted = WeightedPooling::new(space.pooling, &space.weights);
    let templates = its_rows.iter().zip(&similarities);
    Accumulators::single(
        space.pooling,
        templates.map(|(row, similarity)| weighted.template_similarity(rows, *row, *similarity)),
    )
}

/// Number of independent trials with the variance of these: n² p (1 - p) / V for n trials, of which a share p reaches a
/// high similarity. V sums the products of the errors of all pairs of trials with a person in common (Fafchamps and
/// Gubert 2007).
fn independent(trials: &[Trial]) -> f64 {
    let count = trials.len() as f64;
    let mut highest: Vec<f32> = trials.iter().map(|trial| trial.similarity).collect();
    let place = trials.len() / REFERENCE;
    if place == 0 {
        return count;
    }
    let (_, reference, _) = highest.select_nth_unstable_by(place, |one, other| other.total_cmp(one));
    let reference = *reference;
    let share = trials.iter().filter(|trial| trial.similarity >= reference).count() as f64 / count;
    let (mut of_person, mut of_pair) = (HashMap::<usize, f64>::new(), HashMap::<(usize, usize), f64>::new());
    for Trial { persons: [one, other], similarity } in trials {
        let error = f64::from(u8::from(*similarity >= reference)) - share;
        *of_person.entry(*one).or_default() += error;
        *of_person.entry(*other).or_default() += error;
        *of_pair.entry((*one.min(other), *one.max(other))).or_default() += error;
    }
    let squares = |sums: &mut dyn Iterator<Item = f64>| sums.map(|sum| sum * sum).sum::<f64>();
    // A pair of trials of the same two persons was counted once for each person.
    let variance = squares(&mut of_person.into_values()) - squares(&mut of_pair.into_values());
    let independent = count * count * share * (1.0 - share) / variance;
    if variance > 0.0 { independent.clamp(1.0, count) } else { count }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trials(similarity: impl Fn(usize, usize) -> f32) -> Vec<Trial> {
        let pairs = (0..100).flat_map(|one| (0..one).map(move |other| [one, other]));
        pairs.map(|persons| Trial { persons, similarity: similarity(persons[0], persons[1]) }).collect()
    }

    #[test]
    fn trials_without_effects_of_persons_are_independent() {
        let mut random = SeededRandom::new(3);
        let noise: Vec<f32> = (0..10_000).map(|_| random.below(1_000_000) as f32 * 1e-6).collect();
        let all = trials(|one, other| noise[one * 100 + other]);
        let found = independent(&all);
        assert!(found > 0.5 * all.len() as f64, "{found} of {}", all.len());
    }

    #[test]
    fn a_person_who_resembles_everybody_makes_trials_dependent() {
        let mut random = SeededRandom::new(4);
        let noise: Vec<f32> = (0..10_000).map(|_| random.below(1_000_000) as f32 * 1e-6).collect();
        let all = trials(|one, other| if one == 50 || other == 50 { 0.9 } else { 0.9 * noise[one * 100 + other] });
        let found = independent(&all);
        assert!(found < 0.05 * all.len() as f64, "{found} of {}", all.len());
    }

    #[test]
    fn others_are_distinct_and_never_the_probe_itself() {
        let mut random = SeededRandom::new(5);
        for (people, count) in [(10, 3), (10, 9), (10, 100), (1000, 50), (1, 5), (2, 1)] {
            let others = draw_others(people, 0, count, &mut random);
            let distinct: BTreeSet<usize> = others.iter().copied().collect();
            assert_eq!(distinct.len(), count.min(people - 1), "{people} {count}");
            assert!(others.len() == distinct.len() && !distinct.contains(&0), "{others:?}");
        }
        assert!(draw_others(0, 0, 5, &mut random).is_empty());
    }
}

//! Confidence intervals of rates over persons. Pairs and probes of one person are correlated, so intervals that assume
//! independence are too narrow; here whole persons are resampled with all their trials (the subset bootstrap of Bolle,
//! Ratha and Pankanti 2004).

use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{RngCore, SeedableRng},
};
use serde::Serialize;

use super::rate::Interval;

/// Number of bootstrap replicates.
const REPLICATES: usize = 500;
/// Maximum number of accepted impostor pairs; more are thinned evenly.
const ACCEPTED_MAX: usize = 200_000;

/// Confidence intervals over persons.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ByPerson {
    pub people: usize,
    pub equal_error_rate: Interval,
}

/// The errors and trials of one person.
pub type Share = (f64, f64);

/// The 95 % interval of the error rate over all persons.
///
/// # Panics
/// When there is no trial.
#[must_use]
pub fn people(shares: &[Share], seed: u64) -> Interval {
    assert!(shares.iter().any(|(_, trials)| *trials > 0.0), "there must be a trial");
    let mut draws = PersonDraws::new(shares.len(), seed);
    middle(|| ratio(shares, draws.next()))
}

/// The 95 % interval of (FMR + FNMR) / 2 at a threshold. `missed` are each person's false non-matches and genuine
/// pairs, `samples` the number of samples per person, and `accepted` the persons of the impostor pairs at the threshold
/// or above, out of a share `kept` of all pairs.
#[must_use]
pub fn equal_error(missed: &[Share], samples: &[u32], accepted: &[(u32, u32)], kept: f64, seed: u64) -> ByPerson {
    let every = accepted.len().div_ceil(ACCEPTED_MAX).max(1);
    let mut draws = PersonDraws::new(samples.len(), seed);
    let interval = middle(|| {
        let times = draws.next();
        let fnmr = ratio(missed, times)?;
        let passed: u64 =
            accepted.iter().step_by(every).map(|(a, b)| times[*a as usize] * times[*b as usize]).sum::<u64>();
        // All pairs without those within a person.
        let drawn = samples.iter().zip(times).map(|(samples, times)| f64::from(*samples) * *times as f64);
        let pairs = (drawn.clone().sum::<f64>().powi(2) - drawn.map(|n| n * n).sum::<f64>()) / 2.0 * kept;
        (pairs > 0.0).then(|| f64::midpoint(fnmr, (passed as f64 * every as f64 / pairs).min(1.0)))
    });
    ByPerson { people: samples.len(), equal_error_rate: interval }
}

/// Persons drawn with replacement: the count of each.
pub(super) struct PersonDraws {
    random: Xoshiro256PlusPlus,
    times: Vec<u64>,
}

impl PersonDraws {
    pub(super) fn new(people: usize, seed: u64) -> Self {
        Self { random: Xoshiro256PlusPlus::seed_from_u64(seed), times: vec![0; people] }
    }

    pub(super) fn next(&mut self) -> &[u64] {
        self.times.fill(0);
        let people = self.times.len() as u128;
        for _ in 0..people {
            let drawn = (u128::from(self.random.next_u64()) * people) >> 64;
            self.times[usize::try_from(drawn).expect("below the number of people")] += 1;
        }
        &self.times
    }
}

/// `None` if no person with a trial was drawn.
fn ratio(shares: &[Share], times: &[u64]) -> Option<f64> {
    let total = |of: fn(&Share) -> f64| shares.iter().zip(times).map(|(share, n)| of(share) * *n as f64).sum::<f64>();
    let trials = total(|share| share.1);
    (trials > 0.0).then(|| total(|share| share.0) / trials)
}

/// The central 95 % of the replicates.
pub(super) fn middle(mut replicate: impl FnMut() -> Option<f64>) -> Interval {
    let mut found: Vec<f64> = (0..REPLICATES).filter_map(|_| replicate()).collect();
    found.sort_unstable_by(f64::total_cmp);
    let at = |per_mille: usize| found.get((found.len() * per_mille / 1000).min(found.len().saturating_sub(1)));
    let [low, high] = [25, 975].map(|per_mille| at(per_mille).copied());
    Interval { low: low.unwrap_or(0.0), high: high.unwrap_or(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Rate;

    #[test]
    fn correlated_errors_of_a_person_widen_the_interval() {
        // Ten persons with 100 trials each: one fails in all, or each fails in ten.
        let one: Vec<Share> = (0..10).map(|person| (if person == 0 { 100.0 } else { 0.0 }, 100.0)).collect();
        let each = vec![(10.0, 100.0); 10];
        let (one, each) = (people(&one, 7), people(&each, 7));
        assert!((each.high - each.low).abs() < 1e-12, "{each:?}");
        let trials = Rate::of(100, 1000).interval;
        assert!(one.high - one.low > 3.0 * (trials.high - trials.low), "{one:?} {trials:?}");
    }

    #[test]
    fn persons_with_one_trial_give_about_the_interval_of_trials() {
        let shares: Vec<Share> = (0..1000).map(|person| (if person % 10 == 0 { 1.0 } else { 0.0 }, 1.0)).collect();
        let (found, expected) = (people(&shares, 1), Rate::of(100, 1000).interval);
        assert!((found.low - expected.low).abs() < 0.006 && (found.high - expected.high).abs() < 0.006, "{found:?}");
        assert_eq!(found, people(&shares, 1), "a seed says everything");
    }

    #[test]
    fn equal_errors_lie_within_their_interval() {
        // Forty persons with five samples, ten genuine pairs each; the first ten have one false non-match; every
        // neighbour has one false match.
        let missed: Vec<Share> = (0..40).map(|person| (if person < 10 { 1.0 } else { 0.0 }, 10.0)).collect();
        let accepted: Vec<(u32, u32)> = (0..39).map(|person| (person, person + 1)).collect();
        let found = equal_error(&missed, &[5; 40], &accepted, 1.0, 3);
        let (fnmr, fmr) = (10.0 / 400.0, 39.0 / (40.0 * 39.0 / 2.0 * 25.0));
        let Interval { low, high } = found.equal_error_rate;
        assert!(low < f64::midpoint(fnmr, fmr) && f64::midpoint(fnmr, fmr) < high, "{found:?}");
        assert!(low > 0.0 && high < 0.03, "{found:?}");
    }
}

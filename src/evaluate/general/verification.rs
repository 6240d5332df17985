//! Verification over all pairs of a set.

use rand_xoshiro::{
    SplitMix64,
    rand_core::{RngCore, SeedableRng},
};
use rayon::prelude::*;

use super::{ProtocolOptions, ProtocolResults, compares};
use crate::{
    EvaluateError,
    labelled::Labelled,
    metrics::{self, Share, Verification},
    report::{Results, Slice},
};

/// Maximum number of impostor pairs; more are sampled, each pair independently by the seed.
const IMPOSTORS_MAX: u64 = 64_000_000;
/// The slice of pairs with different values.
const DIFFERENT: &str = "different";

/// The scores of pairs.
#[derive(Default)]
struct Pairs {
    /// Genuine scores with the person.
    genuine: Vec<(u32, f32)>,
    impostor: Vec<f32>,
}

pub(super) fn measure(set: &Labelled, options: &ProtocolOptions) -> Result<ProtocolResults, EvaluateError> {
    let sampling = ImpostorSampling::new(set, options.seed);
    let pairs = pairs(set, &sampling, |one, other| compares(set, options, one, other));
    let Some(mut results) = verification(&pairs) else {
        let problem = "it needs two samples of one person and samples of two people; the filters may exclude all pairs";
        return Err(EvaluateError::Unusable(problem.to_owned()));
    };
    by_person(set, &sampling, &pairs, &mut results, options.seed);
    let mut notes = Vec::new();
    if sampling.share < 1.0 {
        notes.push(format!("a share of {:.4} of the impostor pairs was sampled", sampling.share));
    }
    let mut slices = Vec::new();
    for label in &options.slices {
        slices.extend(slices_by(set, &sampling, options, label)?);
    }
    Ok(ProtocolResults { results: Results::Verification(Box::new(results)), slices, notes })
}

fn verification(pairs: &Pairs) -> Option<Verification> {
    let genuine: Vec<f32> = pairs.genuine.iter().map(|(_, score)| *score).collect();
    (!genuine.is_empty() && !pairs.impostor.is_empty()).then(|| metrics::verification(&genuine, &pairs.impostor))
}

/// The sampling of impostor pairs.
struct ImpostorSampling {
    /// Share of all impostor pairs.
    share: f64,
    seed: u64,
}

impl ImpostorSampling {
    fn new(set: &Labelled, seed: u64) -> Self {
        let pairs = |n: usize| n as u64 * (n as u64 - 1) / 2;
        let own: u64 = set.people().iter().map(|samples| pairs(samples.len())).sum();
        let impostors = pairs(set.len()) - own;
        Self { share: (IMPOSTORS_MAX as f64 / impostors.max(1) as f64).min(1.0), seed }
    }

    fn holds(&self, one: usize, other: usize) -> bool {
        self.share >= 1.0 || (mixed(self.seed, one, other) >> 11) as f64 / (1_u64 << 53) as f64 <= self.share
    }
}

/// A pseudorandom number of a pair, independent of the order in which pairs are visited (the output function of
/// SplitMix64, Steele et al. 2014).
fn mixed(seed: u64, one: usize, other: usize) -> u64 {
    /// SplitMix64 adds this to its state before it mixes.
    const INCREMENT: u64 = 0x9e37_79b9_7f4a_7c15;
    let state = seed ^ (one as u64).wrapping_mul(INCREMENT) ^ (other as u64).rotate_left(32);
    SplitMix64::seed_from_u64(state.wrapping_sub(INCREMENT)).next_u64()
}

fn pairs(set: &Labelled, sampling: &ImpostorSampling, admits: impl Fn(usize, usize) -> bool + Sync) -> Pairs {
    let of_sample = |one: usize| {
        let mut found = Pairs::default();
        let person = set.person(one);
        for other in (one + 1..set.len()).filter(|other| admits(one, *other)) {
            if set.person(other) == person {
                found.genuine.push((person, set.similarity(one, other)));
            } else if sampling.holds(one, other) {
                found.impostor.push(set.similarity(one, other));
            }
        }
        found
    };
    let found: Vec<Pairs> = (0..set.len()).into_par_iter().map(of_sample).collect();
    let mut pairs = Pairs::default();
    for Pairs { genuine, impostor } in found {
        pairs.genuine.extend(genuine);
        pairs.impostor.extend(impostor);
    }
    pairs
}

/// Adds confidence intervals over persons.
fn by_person(set: &Labelled, sampling: &ImpostorSampling, pairs: &Pairs, results: &mut Verification, seed: u64) {
    let people = set.people();
    let missed = |threshold: f32| {
        let mut shares: Vec<Share> = vec![(0.0, 0.0); people.len()];
        for (person, score) in &pairs.genuine {
            let (errors, trials) = &mut shares[*person as usize];
            *trials += 1.0;
            *errors += f64::from(u8::from(*score < threshold));
        }
        shares
    };
    for at in &mut results.at_fmr {
        at.fnmr_by_person = Some(metrics::people(&missed(at.threshold), seed));
    }
    let threshold = results.equal_error_threshold;
    let accepted: Vec<(u32, u32)> = (0..set.len())
        .into_par_iter()
        .flat_map_iter(|one| {
            let others = (one + 1..set.len()).filter(move |other| set.person(one) != set.person(*other));
            let others =
                others.filter(move |other| sampling.holds(one, *other) && set.similarity(one, *other) >= threshold);
            others.map(move |other| (set.person(one), set.person(other)))
        })
        .collect();
    let samples: Vec<u32> =
        people.iter().map(|samples| u32::try_from(samples.len()).expect("fits into memory")).collect();
    results.by_person = Some(metrics::equal_error(&missed(threshold), &samples, &accepted, sampling.share, seed));
}

/// Results of pairs with the same value, by value, and of pairs with different values.
fn slices_by(
    set: &Labelled,
    sampling: &ImpostorSampling,
    options: &ProtocolOptions,
    label: &str,
) -> Result<Vec<Slice>, EvaluateError> {
    let of = |sample: usize| set.label(sample, label);
    let mut slices = Vec::new();
    let mut add = |value: &str, pairs: &Pairs| {
        slices.extend(verification(pairs).map(|results| Slice {
            label: label.to_owned(),
            value: value.to_owned(),
            results: Results::Verification(Box::new(results)),
        }));
    };
    for value in set.values_of(label)? {
        let shared = Some(value.as_str());
        let admits = |one, other| of(one) == shared && of(other) == shared && compares(set, options, one, other);
        add(&value, &pairs(set, sampling, admits));
    }
    let differ = |one, other| of(one).zip(of(other)).is_some_and(|(a, b)| a != b);
    add(DIFFERENT, &pairs(set, sampling, differ));
    Ok(slices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labelled::fixtures::plane;

    fn results(measured: &ProtocolResults) -> &Verification {
        let Results::Verification(results) = &measured.results else { panic!("a verification") };
        results
    }

    #[test]
    fn every_pair_is_compared_once() {
        let set = plane(&[("a", "1", 0.0), ("a", "2", 10.0), ("b", "1", 60.0), ("b", "2", 65.0), ("c", "1", 180.0)]);
        let measured = measure(&set, &ProtocolOptions::default()).expect("measured");
        let found = results(&measured);
        assert_eq!((found.genuine_pairs, found.impostor_pairs), (2, 8));
        assert!((found.auc - 1.0).abs() < 1e-12, "people lie apart");
        assert_eq!(found.by_person.expect("people are known").people, 3);
        assert!(measured.notes.is_empty());
    }

    #[test]
    fn pairs_of_one_camera_may_be_excluded_or_sliced() {
        let set = plane(&[("a", "1", 0.0), ("a", "1", 1.0), ("a", "2", 90.0), ("b", "1", 40.0), ("b", "2", 50.0)]);
        let across = ProtocolOptions { across: vec!["camera".to_owned()], ..ProtocolOptions::default() };
        assert_eq!(results(&measure(&set, &across).expect("measured")).genuine_pairs, 3);
        let sliced = ProtocolOptions { slices: vec!["camera".to_owned()], ..ProtocolOptions::default() };
        let measured = measure(&set, &sliced).expect("measured");
        let pairs: Vec<(&str, usize, usize)> = measured
            .slices
            .iter()
            .map(|slice| match &slice.results {
                Results::Verification(v) => (&*slice.value, v.genuine_pairs, v.impostor_pairs),
                other => panic!("{other:?}"),
            })
            .collect();
        // The second camera has no two samples of one person.
        assert_eq!(pairs, [("1", 1, 2), ("different", 3, 3)]);
    }

    #[test]
    fn sets_without_genuine_or_impostor_pairs_are_refused() {
        for set in [plane(&[("a", "1", 0.0), ("a", "1", 9.0)]), plane(&[("a", "1", 0.0), ("b", "1", 9.0)])] {
            assert!(matches!(measure(&set, &ProtocolOptions::default()), Err(EvaluateError::Unusable(_))));
        }
        let set = plane(&[("a", "1", 0.0), ("a", "1", 9.0), ("b", "1", 90.0)]);
        let unknown = ProtocolOptions { across: vec!["site".to_owned()], ..ProtocolOptions::default() };
        assert!(super::super::measure(&set, super::super::LabelledProtocol::Verification, &unknown).is_err());
    }

    #[test]
    fn pairs_are_sampled_evenly() {
        let sampling = ImpostorSampling { share: 0.25, seed: 5 };
        let held = (0..400).flat_map(|one| (0..400).map(move |other| (one, other)));
        let held = held.filter(|(one, other)| sampling.holds(*one, *other)).count();
        assert!((39_000..41_000).contains(&held), "{held} of 160000");
    }
}

//! Stream: sightings of persons in random order into an empty collection, as a camera at a door gives them. Who is new is
//! enrolled; the answers give each sighting an identity.

mod baselines;

use std::collections::HashMap;

use serde::Serialize;

use super::{ProtocolOptions, ProtocolResults};
use crate::{
    EvaluateError,
    draw::SeededDraw,
    labelled::Labelled,
    metrics::{ClusterAgreement, cluster_agreement},
    report::Results,
    trial_collection::TrialCollection,
};
pub use baselines::Baseline;
use baselines::{Sightings, baselines};
use domain::{DecisionKind, PackageCalibration, Policy, UncertainRule};

/// Baselines compare all pairs of sightings: beyond this number they are left out.
const BASELINE_SIGHTINGS_MAX: usize = 5000;
/// Maximum sightings of other persons, who tell the similarities of a package.
const OTHERS_MAX: usize = 2000;
/// Number of moments at which the agreement is told.
const MOMENTS: usize = 10;

/// Persons and sightings of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamOptions {
    /// Only persons with at least so many samples.
    pub samples_min: usize,
    /// Only persons with at most so many samples.
    pub samples_max: usize,
    /// Persons are drawn until they have so many sightings.
    pub sightings_max: usize,
    /// What a resolve keeps of an undecided sighting.
    pub uncertain: UncertainRule,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self { samples_min: 1, samples_max: usize::MAX, sightings_max: usize::MAX, uncertain: UncertainRule::Off }
    }
}

/// Results of the stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stream {
    pub sightings: usize,
    pub persons: usize,
    /// Identities made per person.
    pub identities_per_person: f64,
    /// What a resolve kept of an undecided sighting.
    pub policy: UncertainRule,
    /// Sightings that were answered uncertain: questions to a human, or sightings without an identity.
    pub uncertain: usize,
    /// Sightings of identities that are provisional at the end.
    pub provisional: usize,
    /// Sightings that were answered known with an identity of another person.
    pub wrong: usize,
    pub agreement: ClusterAgreement,
    /// The agreement of all sightings until then.
    pub over_time: Vec<Moment>,
    pub baselines: Vec<Baseline>,
}

/// The state after some sightings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Moment {
    pub sightings: usize,
    pub persons: usize,
    pub uncertain: usize,
    #[serde(flatten)]
    pub agreement: ClusterAgreement,
}

pub(super) fn measure(set: &Labelled, options: &ProtocolOptions) -> Result<ProtocolResults, EvaluateError> {
    let Drawn { sightings, others } = draw(set, options)?;
    let persons: Vec<u32> = sightings.iter().map(|sample| set.person(*sample)).collect();
    let policy = Policy { uncertain: options.stream.uncertain, ..Policy::default() };
    let mut collection = TrialCollection::new(policy, package(set, &others));
    let mut identities: Vec<Option<usize>> = Vec::with_capacity(sightings.len());
    // The person of the sighting that each identity was made from.
    let mut founders: HashMap<usize, u32> = HashMap::new();
    let (mut uncertain, mut wrong) = (0, 0);
    let mut over_time = Vec::new();
    for (number, sample) in sightings.iter().enumerate() {
        let embedding = set.embedding(*sample).expect("only encoded samples are drawn");
        let seen = collection.sighting(embedding);
        if let Some(merged) = seen.merged {
            identities.iter_mut().filter(|one| **one == Some(merged)).for_each(|one| *one = seen.identity);
        }
        if let Some(identity) = seen.identity {
            let founder = *founders.entry(identity).or_insert(persons[number]);
            wrong += usize::from(seen.kind == DecisionKind::Known && founder != persons[number]);
        }
        uncertain += usize::from(seen.kind == DecisionKind::Uncertain);
        identities.push(seen.identity);
        let seen = number + 1;
        if seen * MOMENTS / sightings.len() > number * MOMENTS / sightings.len() {
            over_time.push(Moment {
                sightings: seen,
                persons: distinct(&persons[..seen]),
                uncertain,
                agreement: cluster_agreement(&persons[..seen], &identities),
            });
        }
    }
    let of = |samples: &[usize]| Sightings {
        persons: samples.iter().map(|sample| set.person(*sample)).collect(),
        similarities: samples.iter().flat_map(|one| samples.iter().map(|other| set.similarity(*one, *other))).collect(),
    };
    let has_baselines = sightings.len() <= BASELINE_SIGHTINGS_MAX;
    let baselines = if has_baselines {
        baselines(&of(&sightings), (!others.is_empty()).then(|| of(&others)).as_ref())
    } else {
        Vec::new()
    };
    let notes = (!has_baselines).then(|| {
        format!("{} sightings are too many for the baselines: at most {BASELINE_SIGHTINGS_MAX}", sightings.len())
    });
    let agreement = cluster_agreement(&persons, &identities);
    let results = Stream {
        sightings: sightings.len(),
        persons: distinct(&persons),
        identities_per_person: agreement.clusters as f64 / distinct(&persons) as f64,
        policy: policy.uncertain,
        uncertain,
        provisional: identities.iter().flatten().filter(|one| collection.is_provisional(**one)).count(),
        wrong,
        agreement,
        over_time,
        baselines,
    };
    Ok(ProtocolResults {
        results: Results::Stream(Box::new(results)),
        slices: Vec::new(),
        notes: notes.into_iter().collect(),
    })
}

/// The calibration that a package of this encoder would have, measured on other people; `None` without enough of them.
fn package(set: &Labelled, samples: &[usize]) -> Option<PackageCalibration> {
    let (mut genuine, mut impostor) = (Vec::new(), Vec::new());
    for (place, one) in samples.iter().enumerate() {
        for other in &samples[place + 1..] {
            let pairs = if set.person(*one) == set.person(*other) { &mut genuine } else { &mut impostor };
            pairs.push(set.similarity(*one, *other));
        }
    }
    PackageCalibration::measured("other people of the set", genuine, impostor).ok()
}

fn distinct(persons: &[u32]) -> usize {
    persons.iter().collect::<std::collections::BTreeSet<_>>().len()
}

/// Samples in the order of their sightings.
struct Drawn {
    sightings: Vec<usize>,
    /// Of persons that were not drawn: at most as many, and at most [`OTHERS_MAX`].
    others: Vec<usize>,
}

fn draw(set: &Labelled, options: &ProtocolOptions) -> Result<Drawn, EvaluateError> {
    let StreamOptions { samples_min, samples_max, sightings_max, .. } = options.stream;
    let encoded = |samples: &Vec<usize>| -> Vec<usize> {
        samples.iter().copied().filter(|sample| set.embedding(*sample).is_some()).collect()
    };
    let people: Vec<Vec<usize>> = set.people().iter().map(encoded).collect();
    let mut order: Vec<usize> = (0..people.len())
        .filter(|person| (samples_min.max(1)..=samples_max).contains(&people[*person].len()))
        .collect();
    let mut random = SeededDraw::new(options.seed, 0);
    random.shuffle(&mut order);
    let mut left = order.into_iter();
    let mut take = |most: usize| -> Vec<usize> {
        let mut taken = Vec::new();
        while taken.len() < most {
            let Some(person) = left.next() else { break };
            taken.extend_from_slice(&people[person]);
        }
        taken.truncate(most);
        random.shuffle(&mut taken);
        taken
    };
    let (sightings, others) = (take(sightings_max), take(sightings_max.min(OTHERS_MAX)));
    if sightings.len() < 2 {
        let problem = "a stream needs two sightings of persons with as many samples as asked for";
        return Err(EvaluateError::Unusable(problem.to_owned()));
    }
    Ok(Drawn { sightings, others })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labelled::fixtures::plane;

    fn stream(set: &Labelled, stream: StreamOptions) -> Stream {
        let options = ProtocolOptions { stream, ..ProtocolOptions::default() };
        match measure(set, &options).expect("a stream").results {
            Results::Stream(stream) => *stream,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_sighting_is_counted_and_the_last_moment_is_the_whole() {
        let angles: Vec<(String, f32)> =
            (0..40_u8).map(|n| (format!("p{}", n / 4), f32::from(n / 4) * 36.0 + f32::from(n % 4))).collect();
        let samples: Vec<(&str, &str, f32)> = angles.iter().map(|(person, angle)| (&**person, "", *angle)).collect();
        let set = plane(&samples);
        let whole = stream(&set, StreamOptions::default());
        assert_eq!((whole.sightings, whole.persons, whole.over_time.len()), (40, 10, MOMENTS));
        let last = whole.over_time.last().expect("moments");
        assert_eq!((last.agreement, last.uncertain), (whole.agreement, whole.uncertain));
        assert_eq!(whole.baselines.len(), 3, "there are no other people");
        let part = stream(&set, StreamOptions { sightings_max: 12, ..StreamOptions::default() });
        assert_eq!((part.sightings, part.persons, part.baselines.len()), (12, 3, 4));
        assert_eq!(whole, stream(&set, StreamOptions::default()), "the seed gives the same stream");
    }

    #[test]
    fn a_stream_without_sightings_is_refused() {
        let set = plane(&[("a", "", 0.0), ("b", "", 90.0)]);
        let options = ProtocolOptions {
            stream: StreamOptions { samples_min: 2, ..StreamOptions::default() },
            ..ProtocolOptions::default()
        };
        assert!(matches!(measure(&set, &options), Err(EvaluateError::Unusable(_))));
    }

    /// Whoever is not enrolled while answers are uncertain never becomes known.
    #[test]
    #[ignore = "needs SEMBLANCE_TEST_DATA"]
    fn a_stream_into_an_empty_collection_does_not_stay_uncertain_on_real_data() {
        let rows = testing::embeddings("lfw_mobilefacenet");
        let set = crate::labelled::fixtures::named(&rows, testing::lfw_person);
        let options =
            StreamOptions { samples_min: 2, samples_max: 20, sightings_max: 1000, ..StreamOptions::default() };
        let off = stream(&set, options);
        assert!(off.uncertain < off.sightings / 3 && off.agreement.f1 >= 0.65, "{off:?}");
        let provisional = stream(&set, StreamOptions { uncertain: UncertainRule::Provisional, ..options });
        assert!(provisional.agreement.f1 >= off.agreement.f1 + 0.05, "{provisional:?}");
        assert!(provisional.provisional < provisional.sightings / 4, "{provisional:?}");
    }
}

//! Draws enrolled samples and probes.

use std::collections::BTreeMap;

use super::{EnrolledSamples, SampleSet};
use crate::draw::SeededDraw;

/// Enrolled samples per person; persons with more samples are probes.
const TEMPLATES: usize = 4;
/// Maximum probes per person.
const PROBES_MAX: usize = 5;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct TemplateDraw {
    /// Four samples of each probe person, in random order.
    pub(super) enrolled: Vec<Vec<usize>>,
    /// Up to four samples of every other person.
    pub(super) others: Vec<Vec<usize>>,
    pub(super) probes: Vec<EvaluationProbe>,
    /// Number of persons in the set.
    pub(super) people: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EvaluationProbe {
    pub(super) sample: usize,
    /// Index in `enrolled`.
    pub(super) identity: usize,
    /// Index of the person in the set.
    pub(super) person: usize,
}

impl TemplateDraw {
    /// `None` when fewer than two persons have more samples than are enrolled.
    pub(super) fn new(set: &SampleSet, seed: u64, number: u32) -> Option<Self> {
        let mut samples: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (sample, person) in set.people.iter().enumerate() {
            samples.entry(person).or_default().push(sample);
        }
        let mut draw = SeededDraw::new(seed, number);
        let mut people: Vec<Vec<usize>> = samples.into_values().collect();
        for own in &mut people {
            draw.shuffle(own);
        }
        let mut order: Vec<usize> = (0..people.len()).collect();
        draw.shuffle(&mut order);
        let (mut enrolled, mut others, mut probes) = (Vec::new(), Vec::new(), Vec::new());
        for person in order {
            let own = &people[person];
            let (first, rest) = own.split_at(own.len().min(TEMPLATES));
            if rest.is_empty() {
                others.push(first.to_vec());
                continue;
            }
            let identity = enrolled.len();
            probes.extend(rest.iter().take(PROBES_MAX).map(|sample| EvaluationProbe {
                sample: *sample,
                identity,
                person,
            }));
            enrolled.push(first.to_vec());
        }
        (enrolled.len() > 1).then_some(Self { enrolled, others, probes, people: people.len() })
    }

    /// The enrolled samples of each identity; probe persons come first.
    pub(super) fn identities(&self, enrolled: EnrolledSamples, is_among_others: bool) -> Vec<Vec<usize>> {
        let most = match enrolled {
            EnrolledSamples::Own(count) => count,
            EnrolledSamples::Swapped => TEMPLATES,
        };
        let others: &[Vec<usize>] = if is_among_others { &self.others } else { &[] };
        let some = |own: &Vec<usize>| own.iter().take(most).copied().collect::<Vec<usize>>();
        let mut identities: Vec<Vec<usize>> = self.enrolled.iter().chain(others).map(some).collect();
        if enrolled == EnrolledSamples::Swapped {
            let count = self.enrolled.len();
            for (place, identity) in identities.iter_mut().take(count).enumerate() {
                identity[TEMPLATES - 1] = self.enrolled[(place + 1) % count][TEMPLATES - 1];
            }
        }
        identities
    }
}

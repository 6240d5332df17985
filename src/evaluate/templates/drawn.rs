//! Who is enrolled with which samples, and which samples search.

use std::collections::BTreeMap;

use super::{EnrolledSamples, SampleSet};
use crate::draw::SeededDraw;

/// So many samples of a person may be enrolled; whoever has more takes part.
const TEMPLATES: usize = 4;
/// The most samples of one person that search.
const PROBES_MAX: usize = 5;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct TemplateDraw {
    /// Four samples of each person who searches, in random order.
    pub(super) enrolled: Vec<Vec<usize>>,
    /// Up to four of everybody else.
    pub(super) others: Vec<Vec<usize>>,
    pub(super) probes: Vec<EvaluationProbe>,
    /// How many people the set has.
    pub(super) people: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EvaluationProbe {
    pub(super) sample: usize,
    /// Its place among `enrolled`.
    pub(super) identity: usize,
    /// Its place among the set's people, whatever the draw.
    pub(super) person: usize,
}

impl TemplateDraw {
    /// `None` when fewer than two people have a sample more than are enrolled.
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

    /// The samples that each identity is enrolled with; those who search come first.
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

//! Draws galleries of real embeddings: enrolled persons, non-enrolled persons, and probes.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::GallerySet;
use crate::draw::SeededDraw;
use decision::relations::{GalleryTrials, MeasuredGallery, OpenSetTrial};

/// Embeddings of persons as vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingSet {
    pub name: String,
    /// Unit vectors.
    pub embeddings: Vec<Vec<f32>>,
    /// The person of each embedding.
    pub people: Vec<String>,
}

/// Minimum number of identities.
const IDENTITIES_MIN: usize = 20;
/// Maximum number of identities, and maximum share of the set's persons, so that nonmated probes remain.
const IDENTITIES_MAX: usize = 400;
const SHARE_MAX: f64 = 0.42;
/// Sets with at least this many persons have identities with more templates.
const MANY_PEOPLE: usize = 1000;

/// Draws `count` galleries: log-uniform 20 to 400 identities with 1 to 4 templates each (3 in a set of less than a
/// thousand persons). One sample of each enrolled person with a further sample is a mated probe, and as many samples of
/// non-enrolled persons are nonmated probes. Persons with a single sample fill up the gallery or are not enrolled.
///
/// `None` for a set with too few persons.
#[must_use]
pub fn galleries(set: &EmbeddingSet, count: u32, seed: u64) -> Option<GallerySet> {
    let mut samples: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, person) in set.people.iter().enumerate() {
        samples.entry(person).or_default().push(place);
    }
    let people: Vec<Vec<usize>> = samples.into_values().collect();
    let several: Vec<usize> = (0..people.len()).filter(|person| people[*person].len() > 1).collect();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
    let identities_max = IDENTITIES_MAX.min((SHARE_MAX * people.len() as f64) as usize);
    if identities_max < IDENTITIES_MIN || several.len() < 2 * IDENTITIES_MIN {
        return None;
    }
    let one = |number: u32| draw(set, &people, &several, identities_max, &mut SeededDraw::new(seed, number));
    Some(GallerySet {
        name: set.name.clone(),
        resampled_by: "person",
        galleries: (0..count).into_par_iter().map(one).collect(),
    })
}

fn draw(
    set: &EmbeddingSet,
    people: &[Vec<usize>],
    several: &[usize],
    identities_max: usize,
    draw: &mut SeededDraw,
) -> GalleryTrials {
    let range = (identities_max as f64 / IDENTITIES_MIN as f64).ln();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between two counts")]
    let identities = (IDENTITIES_MIN as f64 * (range * draw.unit()).exp()).round() as usize;
    let templates_max = 1 + draw.below(if people.len() >= MANY_PEOPLE { 4 } else { 3 });
    // Persons with several samples come first; others fill up.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
    let wanted = (identities as f64 * (0.5 + 0.5 * draw.unit())).ceil() as usize;
    let enrolled_several = wanted.min(several.len() / 2);
    let mut order = several.to_vec();
    draw.shuffle(&mut order);
    let mut enrolled: Vec<usize> = order[..enrolled_several].to_vec();
    let mut rest: Vec<usize> = (0..people.len()).filter(|person| !enrolled.contains(person)).collect();
    draw.shuffle(&mut rest);
    let fillers = identities - enrolled.len();
    let singles = rest.iter().copied().filter(|person| people[*person].len() == 1).take(fillers);
    enrolled.extend(singles.collect::<Vec<_>>());
    let missing = identities - enrolled.len();
    enrolled.extend(rest.iter().copied().filter(|person| people[*person].len() > 1).take(missing).collect::<Vec<_>>());
    let mut non_enrolled: Vec<usize> = rest.into_iter().filter(|person| !enrolled.contains(person)).collect();
    draw.shuffle(&mut non_enrolled);
    let (mut templates, mut owners, mut probes) = (Vec::new(), Vec::new(), Vec::new());
    for person in &enrolled {
        let mut own = people[*person].clone();
        draw.shuffle(&mut own);
        if own.len() > 1 {
            probes.push((own.pop().expect("there are two"), *person, true));
        }
        for place in own.into_iter().take(templates_max) {
            templates.extend_from_slice(&set.embeddings[place]);
            owners.push(number(*person));
        }
    }
    let as_many = probes.len();
    for person in non_enrolled.into_iter().take(as_many) {
        let own = &people[person];
        probes.push((own[draw.below(own.len())], person, false));
    }
    let gallery = MeasuredGallery::new(templates, &owners);
    let trial = |(place, person, is_enrolled): (usize, usize, bool)| {
        let measurement = gallery.measure(&set.embeddings[place]).expect("the gallery is not empty");
        OpenSetTrial { measurement, person: number(person), is_enrolled }
    };
    GalleryTrials {
        identities: gallery.identities(),
        templates: gallery.templates(),
        trials: probes.into_iter().map(trial).collect(),
    }
}

fn number(person: usize) -> u32 {
    u32::try_from(person).expect("fewer people than 2^32")
}

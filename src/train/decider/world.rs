//! Simulated worlds: an encoder, a site, and a gallery with probes.
//!
//! An embedding is a person's direction plus noise, plus the effect of its condition (view, clothes, light; one part
//! common to all, one per person), scaled by how variable the person and the sample are, plus a component common to all
//! embeddings of the encoder; then normalised. Nothing is fitted to real people: the ranges cover encoders with loose
//! and tight clusters.

use crate::Random;
use decision::relations::{GalleryTrials, MeasuredGallery, OpenSetTrial};

/// Disjoint splits of worlds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorldSplit {
    Training,
    /// Distributed as training worlds, for calibration.
    HeldOut,
    /// Distributed as training worlds, for measurement.
    Test,
    /// Other dimensions, more noise, larger galleries with more templates than in training.
    Shifted,
}

/// Probes per world; about half are of enrolled persons.
const PROBES: usize = 48;
/// Maximum number of templates.
const TEMPLATES_MAX: usize = 2400;

pub(super) struct World {
    templates: Vec<f32>,
    owners: Vec<u32>,
    probes: Vec<(Vec<f32>, bool)>,
}

impl World {
    pub(super) fn drawn(split: WorldSplit, seed: u64, number: u32) -> Self {
        let stream = ((split as u64 + 1) << 40) | u64::from(number);
        let mut random = Random::new(seed, stream);
        let site = WorldSite::drawn(split, &mut random);
        let counts = gallery(split, &mut random);
        let (mut templates, mut owners, mut people) = (Vec::new(), Vec::new(), Vec::new());
        for (owner, count) in (0..).zip(counts) {
            let person = site.person(&mut random);
            for _ in 0..count {
                let condition = site.gallery_condition(&mut random);
                templates.extend(site.sample(&person, condition, &mut random));
                owners.push(owner);
            }
            people.push(person);
        }
        let probes = (0..PROBES)
            .map(|_| {
                let is_enrolled = random.chance(0.5);
                let stranger = site.person(&mut random);
                let place = random.below(u32::try_from(people.len()).expect("few people")) as usize;
                let person = if is_enrolled { &people[place] } else { &stranger };
                let condition = random.below(site.conditions_count()) as usize;
                (site.sample(person, condition, &mut random), is_enrolled)
            })
            .collect();
        Self { templates, owners, probes }
    }

    /// The relations of its probes. All belong to one resampling unit, the world's number.
    pub(super) fn trials(self, number: u32) -> GalleryTrials {
        let gallery = MeasuredGallery::new(self.templates, &self.owners);
        let trial = |(probe, is_enrolled): &(Vec<f32>, bool)| {
            let measurement = gallery.measure(probe).expect("the gallery is not empty");
            OpenSetTrial { measurement, person: number, is_enrolled: *is_enrolled }
        };
        GalleryTrials {
            identities: gallery.identities(),
            templates: gallery.templates(),
            trials: self.probes.iter().map(trial).collect(),
        }
    }
}

/// Draws the number of templates of each identity.
fn gallery(split: WorldSplit, random: &mut Random) -> Vec<usize> {
    let shifted = split == WorldSplit::Shifted;
    let identities = match random.unit() {
        // So few that the impostor distribution is almost unknown.
        ..0.04 if !shifted => 1 + random.below(3) as usize,
        _ => rounded(logarithmic(random, 4.0, if shifted { 600.0 } else { 400.0 })),
    };
    let most = if shifted { 15.0 } else { 10.0 };
    let way = random.unit();
    let fixed = rounded(logarithmic(random, 1.6, most));
    let mean = logarithmic(random, 0.3, most - 1.0);
    let mut counts = Vec::new();
    let mut templates = 0;
    for _ in 0..identities {
        let count = match way {
            ..0.3 => 1,
            0.3..0.65 => fixed,
            _ => (1 + poisson(mean, random)).min(rounded(most)),
        };
        templates += count;
        if templates > TEMPLATES_MAX && !counts.is_empty() {
            break;
        }
        counts.push(count);
    }
    counts
}

/// An encoder and its site.
struct WorldSite {
    /// Standard deviation of person directions and of noise per dimension; squares sum to one.
    spectrum: Vec<f32>,
    noise_spectrum: Vec<f32>,
    noise: f32,
    /// The component common to all embeddings.
    common: Vec<f32>,
    /// The component of each condition.
    conditions: Vec<Vec<f32>>,
    /// Size of the interaction between person and condition.
    interaction: f32,
    /// Attributes (build, hair, colour of a coat), each with one direction per value. Persons with many common values
    /// are more similar than independent persons would be.
    attributes: Vec<Vec<Vec<f32>>>,
    sample_looseness: f32,
    person_looseness: f32,
    /// Share of bad samples, and their additional noise.
    bad: (f32, f32),
    /// Number of conditions in the gallery, the first ones.
    gallery_conditions: u32,
    /// With a rectifier, values below this many standard deviations become zero: the embedding is sparse and
    /// non-negative.
    rectified: Option<f32>,
}

struct WorldPerson {
    direction: Vec<f32>,
    looseness: f32,
    /// The person's component of each condition.
    looks: Vec<Vec<f32>>,
}

impl WorldSite {
    fn drawn(split: WorldSplit, random: &mut Random) -> Self {
        let shifted = split == WorldSplit::Shifted;
        let (dimensions, noises): (&[usize], _) =
            if shifted { (&[32, 96, 384, 640], (0.2, 1.9)) } else { (&[64, 128, 128, 256, 256, 512], (0.25, 1.6)) };
        let dimension = dimensions[random.below(u32::try_from(dimensions.len()).expect("few")) as usize];
        let steep = random.between(0.0, 1.1);
        let spectrum = spectrum(dimension, steep);
        // Noise has the same spectrum or a flatter one.
        let noise_spectrum = self::spectrum(dimension, steep * random.between(0.2, 1.0));
        let noise = logarithmic(random, noises.0, noises.1);
        let common = drawn(&spectrum, sometimes(random, 0.6, 1.6), random);
        let count = 1 + random.below(12);
        let offset = sometimes(random, 0.7, 1.0);
        let conditions = (0..count).map(|_| drawn(&spectrum, offset, random)).collect();
        let interaction = sometimes(random, 0.7, 0.8);
        let attributes = attributes(&spectrum, random);
        let sample_looseness = random.between(0.0, if shifted { 0.8 } else { 0.6 });
        let person_looseness = random.between(0.0, if shifted { 0.5 } else { 0.4 });
        let bad = (sometimes(random, 0.6, 0.1), random.between(1.5, 3.5));
        let gallery_conditions = if random.chance(0.3) { 1 + random.below(count) } else { count };
        let floor = random.between(-0.5, 1.5);
        let rectified = random.chance(0.35).then_some(floor);
        Self {
            spectrum,
            noise_spectrum,
            noise,
            common,
            conditions,
            interaction,
            attributes,
            sample_looseness,
            person_looseness,
            bad,
            gallery_conditions,
            rectified,
        }
    }

    fn conditions_count(&self) -> u32 {
        u32::try_from(self.conditions.len()).expect("few conditions")
    }

    fn gallery_condition(&self, random: &mut Random) -> usize {
        random.below(self.gallery_conditions) as usize
    }

    fn person(&self, random: &mut Random) -> WorldPerson {
        let mut direction = drawn(&self.spectrum, 1.0, random);
        for values in &self.attributes {
            // Some values are more frequent.
            let place = random.unit().powf(1.5) * values.len() as f32;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in a short list")]
            add(&mut direction, &values[place as usize]);
        }
        let looks = self.conditions.iter().map(|_| drawn(&self.spectrum, self.interaction, random)).collect();
        WorldPerson { direction, looseness: (self.person_looseness * random.normal()).exp(), looks }
    }

    /// Draws a sample, a unit vector.
    fn sample(&self, person: &WorldPerson, condition: usize, random: &mut Random) -> Vec<f32> {
        let looseness = person.looseness * (self.sample_looseness * random.normal()).exp();
        let bad = if random.chance(self.bad.0) { self.bad.1 } else { 1.0 };
        let mut sample = drawn(&self.noise_spectrum, self.noise * looseness * bad, random);
        for part in [&person.direction, &person.looks[condition], &self.conditions[condition], &self.common] {
            add(&mut sample, part);
        }
        if let Some(floor) = self.rectified {
            for (number, deviation) in sample.iter_mut().zip(&self.spectrum) {
                *number = (*number - floor * deviation).max(0.0);
            }
        }
        let length = sample.iter().map(|number| number * number).sum::<f32>().sqrt().max(1e-9);
        for number in &mut sample {
            *number /= length;
        }
        sample
    }
}

/// No attributes, or up to six with 2 to 21 values.
fn attributes(spectrum: &[f32], random: &mut Random) -> Vec<Vec<Vec<f32>>> {
    let count = if random.chance(0.8) { 1 + random.below(6) } else { 0 };
    let size = random.between(0.0, 2.0) / (count.max(1) as f32).sqrt();
    let mut attribute = || {
        let values = 2 + random.below(20);
        (0..values).map(|_| drawn(spectrum, size, random)).collect()
    };
    (0..count).map(|_| attribute()).collect()
}

/// A power law over the dimension's index.
fn spectrum(dimension: usize, steep: f32) -> Vec<f32> {
    let variances: Vec<f32> = (1..=dimension).map(|number| (number as f32).powf(-steep)).collect();
    let all = variances.iter().sum::<f32>();
    variances.iter().map(|variance| (variance / all).sqrt()).collect()
}

fn drawn(spectrum: &[f32], size: f32, random: &mut Random) -> Vec<f32> {
    if size == 0.0 {
        return vec![0.0; spectrum.len()];
    }
    spectrum.iter().map(|deviation| size * deviation * random.normal()).collect()
}

fn add(sum: &mut [f32], other: &[f32]) {
    sum.iter_mut().zip(other).for_each(|(sum, number)| *sum += number);
}

/// Uniform up to `most` in a share of the draws, otherwise zero.
fn sometimes(random: &mut Random, share: f32, most: f32) -> f32 {
    let size = random.between(0.0, most);
    if random.chance(share) { size } else { 0.0 }
}

/// Log-uniform.
fn logarithmic(random: &mut Random, low: f32, high: f32) -> f32 {
    random.between(low.ln(), high.ln()).exp()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
fn rounded(number: f32) -> usize {
    number.round() as usize
}

/// Poisson-distributed with a small mean (Knuth's algorithm).
fn poisson(mean: f32, random: &mut Random) -> usize {
    let (floor, mut product, mut count) = ((-mean).exp(), random.unit(), 0);
    while product > floor {
        product *= random.unit();
        count += 1;
    }
    count
}

//! People who are simulated: what a method does with numbers of known origin, and nothing about real ones.

use super::SampleSet;
use crate::draw::SeededDraw;

const DIMENSION: usize = 128;
/// People of nine samples, four to enroll and five to search.
const SEARCHED: usize = 150;
const SAMPLES: usize = 9;
/// People of four samples, who are enrolled among the others.
const BESIDE: usize = 100;
/// Views or clothes, each of which moves all samples taken in it.
const CONDITIONS: usize = 3;
const CONDITION_SIZE: f64 = 0.6;
/// How much more or less noise a sample has, as a deviation of its logarithm.
const LOOSENESS: f64 = 0.4;
/// Of a sample of common noise. The square of a quality, which is what weighs, falls as noise grows longer; and it is off by so
/// much, as a deviation of its logarithm.
const QUALITY: f64 = 0.8;
const QUALITY_ERROR: f64 = 0.1;

/// Samples around people's directions. `noise` is the length of what moves a sample, where that of a direction is 1.
#[must_use]
pub fn simulated(noise: f64, seed: u64) -> SampleSet {
    let mut draw = SeededDraw::new(seed, u32::MAX);
    // People differ in few dimensions rather than in all; noise does so less.
    let (spectrum, noise_spectrum) = (spectrum(0.5), spectrum(0.25));
    let conditions: Vec<Vec<f64>> = (0..CONDITIONS).map(|_| vector(&spectrum, CONDITION_SIZE, &mut draw)).collect();
    let mut set =
        SampleSet { name: format!("simulated, noise {noise}"), embeddings: vec![], people: vec![], qualities: vec![] };
    for person in 0..SEARCHED + BESIDE {
        let direction = vector(&spectrum, 1.0, &mut draw);
        for _ in 0..if person < SEARCHED { SAMPLES } else { SAMPLES / 2 } {
            let looseness = (LOOSENESS * draw.normal()).exp();
            let moved = vector(&noise_spectrum, noise * looseness, &mut draw);
            let condition = &conditions[draw.below(CONDITIONS)];
            let sample: Vec<f64> = (0..DIMENSION).map(|n| direction[n] + condition[n] + moved[n]).collect();
            let length = sample.iter().map(|number| number * number).sum::<f64>().sqrt();
            set.embeddings.push(sample.iter().map(|number| single(number / length)).collect());
            set.people.push(format!("{person:03}"));
            let quality = QUALITY / looseness.sqrt() * (QUALITY_ERROR * draw.normal()).exp();
            set.qualities.push(single(quality.min(1.0)));
        }
    }
    set
}

/// Deviations that fall off with a power of the dimension's number; their squares sum up to 1.
fn spectrum(steep: f64) -> Vec<f64> {
    let variances: Vec<f64> = (1..=DIMENSION).map(|number| (number as f64).powf(-steep)).collect();
    let all: f64 = variances.iter().sum();
    variances.iter().map(|variance| (variance / all).sqrt()).collect()
}

fn vector(spectrum: &[f64], size: f64, draw: &mut SeededDraw) -> Vec<f64> {
    spectrum.iter().map(|deviation| size * deviation * draw.normal()).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "embeddings are single precision")]
fn single(number: f64) -> f32 {
    number as f32
}

//! Simulated persons: shows the behaviour of methods on data of known origin, not performance on real people.

use super::SampleSet;
use crate::draw::SeededDraw;

const DIMENSION: usize = 128;
/// Persons with nine samples, four enrolled and five probes.
const SEARCHED: usize = 150;
const SAMPLES: usize = 9;
/// Further enrolled persons with four samples.
const BESIDE: usize = 100;
/// Conditions (views or clothes), each with a common offset.
const CONDITIONS: usize = 3;
const CONDITION_SIZE: f64 = 0.6;
/// Standard deviation of the log noise of a sample.
const LOOSENESS: f64 = 0.4;
/// Quality of a sample with average noise. The squared quality, which is the weight, falls with noise; QUALITY_ERROR is
/// the standard deviation of its log.
const QUALITY: f64 = 0.8;
const QUALITY_ERROR: f64 = 0.1;

/// Samples around person directions. `noise` is the norm of the noise relative to a direction of norm 1.
#[must_use]
pub fn simulated(noise: f64, seed: u64) -> SampleSet {
    let mut draw = SeededDraw::new(seed, u32::MAX);
    // Person directions have a steep spectrum, noise a flatter one.
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

/// Standard deviations with a power law over the dimension's index; squares sum to 1.
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

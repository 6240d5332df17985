//! Realised false match rate of verify against its target, on real faces: galleries of three sizes, and people who are not
//! enrolled compared with every identity.

use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
use uuid::Uuid;

use super::realised_error_rates::{People, below, log, people, shuffled};
use crate::matcher::judging::calibrations_in_force::SEED;
use decision::Calibration;
use domain::{CollectionUid, Embedding, Modality, Policy, Pooling};
use gallery::{Gallery, GalleryOptions};

/// Random galleries of each size.
const DRAWS: usize = 20;
const SIZES: [usize; 3] = [350, 429, 858];
const TARGET: f64 = 1e-3;
const PICTURES_MAX: usize = 5;
/// The mean realised rate may differ from its target by this factor.
const FACTOR_MAX: f64 = 1.5;
/// The mean threshold may move by this between the sizes.
const MOVE_MAX: f64 = 0.02;

/// The threshold of one gallery, and its errors.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    threshold: f64,
    false_matches: f64,
    impostors: f64,
    matches: f64,
    genuine: f64,
    upper_bound: f64,
}

fn cosine(one: &Embedding, other: &Embedding) -> f64 {
    one.values().iter().zip(other.values()).map(|(one, other)| f64::from(one * other)).sum()
}

/// Enrolls so many people, one picture each. Compares all others with each of them, and another picture of each with it.
fn try_out(people: &People, size: usize, random: &mut Xoshiro256PlusPlus) -> Seen {
    let several: Vec<usize> = (0..people.len()).filter(|at| people[*at].len() >= 2).collect();
    let order = shuffled(several.len(), random);
    let enrolled: Vec<usize> = order[..size].iter().map(|at| several[*at]).collect();
    let pictures: Vec<Vec<Embedding>> = enrolled.iter().map(|at| people[*at][..1].to_vec()).collect();
    let index = Gallery::new(GalleryOptions::default()).open(CollectionUid(Uuid::nil()));
    index.apply(&log(&pictures)).expect("a log without gaps");
    let rehearsal = index.rehearse(people[0][0].space(), Pooling::Best, 2000, SEED);
    let calibration = Calibration::from_rehearsal(&rehearsal, None).expect("hundreds of trials");
    let point = calibration.thresholds(Policy { target_fmr: TARGET, ..Policy::default() }, size as u64).point;
    let threshold = point.threshold_verify.expect("calibrated").0.into();
    let mut seen = Seen { threshold, upper_bound: point.fmr_upper_bound.expect("calibrated"), ..Seen::default() };
    for stranger in (0..people.len()).filter(|at| !enrolled.contains(at)) {
        let probe = &people[stranger][below(people[stranger].len(), random)];
        for pictures in &pictures {
            seen.impostors += 1.0;
            seen.false_matches += f64::from(u8::from(cosine(probe, &pictures[0]) >= threshold));
        }
    }
    for at in &enrolled {
        seen.genuine += 1.0;
        let probe = people[*at].last().expect("two pictures");
        seen.matches += f64::from(u8::from(cosine(probe, &people[*at][0]) >= threshold));
    }
    seen
}

#[test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
#[expect(clippy::print_stderr, reason = "the realised rates are what the test is for")]
fn realised_fmr_of_verify_is_near_its_target_at_every_size_on_real_data() {
    let people = people("lfw_mobilefacenet", testing::lfw_person, Modality::Face, PICTURES_MAX);
    let mut random = Xoshiro256PlusPlus::seed_from_u64(21);
    let mut thresholds = Vec::new();
    for size in SIZES {
        let draws: Vec<Seen> = (0..DRAWS).map(|_| try_out(&people, size, &mut random)).collect();
        let mean = |of: &dyn Fn(&Seen) -> f64| draws.iter().map(of).sum::<f64>() / DRAWS as f64;
        let threshold = mean(&|seen| seen.threshold);
        let spread = mean(&|seen| (seen.threshold - threshold).powi(2)).sqrt();
        let fmr = mean(&|seen| seen.false_matches / seen.impostors);
        let held = mean(&|seen| f64::from(u8::from(seen.false_matches / seen.impostors <= seen.upper_bound)));
        eprintln!(
            "{size} people: threshold {threshold:.4} ± {spread:.4}, FMR {fmr:.5} at a target of {TARGET}, TAR {:.3}, mean fmrUpperBound {:.5}, not exceeded in {held:.2} of the draws",
            mean(&|seen| seen.matches / seen.genuine),
            mean(&|seen| seen.upper_bound),
        );
        assert!((TARGET / FACTOR_MAX..=FACTOR_MAX * TARGET).contains(&fmr), "{size}: {fmr}");
        thresholds.push(threshold);
    }
    let highest = thresholds.iter().copied().fold(f64::MIN, f64::max);
    let lowest = thresholds.iter().copied().fold(f64::MAX, f64::min);
    assert!(highest - lowest < MOVE_MAX, "{thresholds:?}");
}

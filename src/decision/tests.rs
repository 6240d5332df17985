//! Thresholds compared with their targets, on simulated trials and on real faces.

use std::collections::BTreeMap;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use domain::{
    Candidate, DecisionKind, IdentityId, OpenSetRule, OperatingPoint, PackageCalibration, Policy, Reason, Rehearsal,
    ReviewedSimilarities, Similarity, TemplateId, ThresholdSource,
};

fn policy(target_fpir: f64, target_fmr: f64) -> Policy {
    Policy { target_fpir, target_fmr, target_duplicates: 0.02, ..Policy::default() }
}

fn package() -> PackageCalibration {
    PackageCalibration {
        measured_on: "simulation".to_owned(),
        genuine_pairs: 1000,
        impostor_pairs: 1_000_000,
        impostor: vec![(1e-1, 0.2), (1e-2, 0.3), (1e-3, 0.4), (1e-4, 0.5)],
        genuine: vec![(0.5, 0.6), (0.1, 0.4), (0.02, 0.25), (0.01, 0.2)],
        atypical: Vec::new(),
    }
}

/// Non-mated similarities between 0.1 and 0.3, mated ones between 0.5 and 0.9.
fn rehearsal(trials: u16) -> Rehearsal {
    let spread = |low: f32, high: f32| {
        (0..trials).map(|n| Similarity(low + (high - low) * f32::from(n) / f32::from(trials))).collect::<Vec<_>>()
    };
    Rehearsal {
        identities: 1000,
        templates: 2000,
        nonmated_best: spread(0.1, 0.3),
        impostor: spread(-0.2, 0.2),
        impostor_independent: trials.min(1000).into(),
        mated_best: spread(0.5, 0.9),
        reviewed: ReviewedSimilarities::default(),
    }
}

fn near(found: Option<Similarity>, expected: f32) -> bool {
    found.is_some_and(|found| (found.0 - expected).abs() < 1e-3)
}

#[test]
fn a_package_is_read_at_the_size_of_the_gallery() {
    let calibration = Calibration::from_package(&package()).expect("two rows and more");
    // FPIR 1 % among ten identities is FMR 0.1 %, among a hundred 0.01 %.
    let ten = calibration.thresholds(policy(0.01, 0.001), 10);
    assert!(near(ten.point.threshold_known, 0.4) && near(ten.point.threshold_verify, 0.4), "{ten:?}");
    assert!(near(ten.point.threshold_new, 0.25));
    assert!((ten.point.expected_fnir.expect("genuine pairs are known") - 0.1).abs() < 1e-3);
    assert_eq!(ten.point.source, ThresholdSource::Package);
    assert_eq!(ten.resolve_reasons, [Reason::PackageCalibration]);

    let thousand = calibration.thresholds(policy(0.01, 0.001), 1000);
    assert!(near(thousand.point.threshold_known, 0.6), "goes on along the last line");
    assert_eq!(thousand.resolve_reasons, [Reason::PackageCalibration, Reason::Extrapolated]);
    assert_eq!(thousand.verify_reasons, [Reason::PackageCalibration]);
}

#[test]
fn a_rehearsal_needs_three_hundred_trials() {
    assert_eq!(Calibration::from_rehearsal(&rehearsal(299), Some(&package())), None);
    assert!(Calibration::from_rehearsal(&rehearsal(300), None).is_some());
}

#[test]
fn a_rehearsal_at_another_size_is_converted_and_stale() {
    let calibration = Calibration::from_rehearsal(&rehearsal(2000), None).expect("enough trials");
    let same = calibration.thresholds(policy(0.2, 0.01), 1100);
    assert_eq!(same.resolve_reasons, []);
    let doubled = calibration.thresholds(policy(0.36, 0.01), 2000);
    assert_eq!(doubled.resolve_reasons, [Reason::CalibrationStale]);
    assert_eq!(doubled.verify_reasons, []);
    // 36 % among twice as many identities equals 20 % among the rehearsed number.
    let rehearsed = calibration.thresholds(policy(0.2, 0.01), 1000);
    for point in [doubled.point, rehearsed.point] {
        assert!(near(point.threshold_known, 0.26) && near(point.threshold_new, 0.26), "{point:?}");
    }
}

#[test]
fn rates_beyond_the_trials_are_extrapolated() {
    let calibration = Calibration::from_rehearsal(&rehearsal(1000), None).expect("enough trials");
    let shown = calibration.thresholds(policy(0.001, 0.001), 999);
    let rarer = calibration.thresholds(policy(0.000_9, 0.000_9), 999);
    let half = calibration.thresholds(policy(0.000_45, 0.000_45), 999);
    let supported = calibration.thresholds(policy(0.003, 0.003), 999);
    assert_eq!((supported.resolve_reasons, supported.verify_reasons), (vec![], vec![]));
    assert_eq!(shown.resolve_reasons, [Reason::Unsupported], "three errors are not to be expected, one is");
    assert_eq!(shown.verify_reasons, [Reason::Unsupported]);
    assert_eq!(rarer.resolve_reasons, [Reason::Extrapolated, Reason::Unsupported]);
    assert_eq!(rarer.verify_reasons, [Reason::Extrapolated, Reason::Unsupported]);
    assert!(half.point.threshold_known > rarer.point.threshold_known);
    assert!(rarer.point.threshold_known > shown.point.threshold_known);
}

#[test]
fn mated_scores_come_from_the_gallery_then_from_the_package() {
    let mut few = rehearsal(1000);
    few.mated_best.truncate(49);
    let thresholds = |rehearsal: &Rehearsal, package: Option<&PackageCalibration>| {
        Calibration::from_rehearsal(rehearsal, package)
            .expect("enough trials")
            .thresholds(policy(0.2, 0.01), 1000)
            .point
    };
    let from_gallery = thresholds(&rehearsal(1000), Some(&package()));
    assert_eq!(from_gallery.expected_fnir, Some(0.0), "no mated similarity is below");
    let from_package = thresholds(&few, Some(&package()));
    assert!(near(from_package.threshold_new, 0.25), "{from_package:?}");
    let from_nowhere = thresholds(&few, None);
    assert_eq!(from_nowhere.threshold_new, from_nowhere.threshold_known);
    assert_eq!(from_nowhere.expected_fnir, None);
}

#[test]
fn three_hundred_outsiders_replace_nonmated_trials() {
    let outsiders = |count: u16| (0..count).map(|n| Similarity(0.3 + f32::from(n) * 1e-4)).collect::<Vec<_>>();
    let of = |count: u16| Calibration::from_trials(&rehearsal(1000), &outsiders(count), None).expect("enough trials");
    let (few, many) =
        (of(299).thresholds(policy(0.2, 0.01), 1000).point, of(300).thresholds(policy(0.2, 0.01), 1000).point);
    assert_eq!((few.source, few.trials), (ThresholdSource::Rehearsal, 1000));
    assert_eq!((many.source, many.trials), (ThresholdSource::Outsiders, 300));
    assert!(near(few.threshold_known, 0.26) && near(many.threshold_known, 0.324), "{many:?}");
    assert_eq!(few.threshold_verify, many.threshold_verify, "impostors are the gallery's own");

    // A gallery too small for a rehearsal is calibrated by outsiders; the verification threshold follows from their
    // trials.
    let small = Rehearsal { identities: 10, ..Rehearsal::default() };
    assert_eq!(Calibration::from_trials(&small, &outsiders(299), None), None);
    let tried = Calibration::from_trials(&small, &outsiders(300), None).expect("enough outsiders");
    let point = tried.thresholds(policy(0.2, 1.0 - 0.8_f64.powf(0.1)), 10).point;
    assert_eq!(point.threshold_verify, point.threshold_known, "ten chances of one in 45 are one of five");
}

#[test]
fn an_error_rate_has_an_upper_bound() {
    let calibration = Calibration::from_rehearsal(&rehearsal(1000), None).expect("enough trials");
    let at = |fpir: f64| calibration.thresholds(policy(fpir, 0.01), 999).point;
    // Wilson's bound for about 200 of 1000.
    let bound = at(0.2).fpir_upper_bound.expect("calibrated");
    assert!((bound - 0.226).abs() < 0.002, "{bound}");
    // Beyond all trials the rule of three holds.
    assert!((at(1e-6).fpir_upper_bound.expect("calibrated") - 0.003).abs() < 1e-6);
    // Twice as many identities, twice as many comparisons.
    let doubled = calibration.thresholds(policy(1e-6, 0.01), 1998).point.fpir_upper_bound.expect("calibrated");
    assert!((doubled - (1.0 - 0.997_f64.powi(2))).abs() < 1e-6);
    // All images of one person are one independent trial.
    let few = Rehearsal { identities: 100, ..rehearsal(1000) };
    let few = Calibration::from_rehearsal(&few, None).expect("enough trials").thresholds(policy(1e-6, 0.01), 99);
    assert!((few.point.fpir_upper_bound.expect("calibrated") - 0.03).abs() < 1e-6);
    // Ten impostors in 10 000 pairs, and a gallery of one.
    let package = PackageCalibration { impostor_pairs: 10_000, ..package() };
    let packaged = Calibration::from_package(&package).expect("rows").thresholds(policy(1e-3, 0.01), 1).point;
    assert!((packaged.fpir_upper_bound.expect("calibrated") - 1.84e-3).abs() < 1e-5, "{packaged:?}");
}

#[test]
fn a_calibration_lists_its_errors_at_standard_rates() {
    let calibration = Calibration::from_rehearsal(&rehearsal(1000), None).expect("enough trials");
    let levels = calibration.levels(999);
    assert!(levels.len() >= 4 && levels.is_sorted_by(|a, b| a.target_fpir > b.target_fpir));
    for level in &levels {
        for estimate in [Some(level.fpir), Some(level.fmr), level.fnir].into_iter().flatten() {
            assert!((0.0..=1.0).contains(&estimate.lower) && estimate.upper <= 1.0, "{level:?}");
            assert!((estimate.lower..=estimate.upper).contains(&estimate.value), "{level:?}");
        }
        assert_eq!(level.extrapolated, level.target_fpir < 0.001, "{level:?}");
        assert_eq!(level.unsupported, level.target_fpir < 0.003, "{level:?}");
    }
    let first = levels[0];
    assert!(near(Some(first.threshold), 0.28) && (first.fpir.value - 0.1).abs() < 0.002, "{first:?}");
    assert_eq!(first.fnir.map(|f| (f.value, f.upper)), Some((0.0, 0.003)));
    assert!(first.llr.is_some_and(|llr| llr.lower <= llr.value && llr.value <= llr.upper));
}

/// Mated similarities between 0.1 and 1.1, with 2 % below 0.12; non-mated ones up to 0.3.
fn overlapping() -> Rehearsal {
    Rehearsal { mated_best: (0..1000_u16).map(|n| Similarity(0.1 + f32::from(n) * 1e-3)).collect(), ..rehearsal(1000) }
}

#[test]
fn a_share_of_mated_similarities_as_promised_is_below_the_threshold_for_new() {
    let rehearsal = overlapping();
    let calibration = Calibration::from_rehearsal(&rehearsal, None).expect("enough trials");
    let point =
        |target_duplicates| calibration.thresholds(Policy { target_duplicates, ..policy(0.1, 0.01) }, 999).point;
    for (target, new) in [(0.02, 0.12), (0.05, 0.15), (0.1, 0.2)] {
        let point = point(target);
        assert!(near(point.threshold_known, 0.28) && near(point.threshold_new, new), "{target}: {point:?}");
        let uncertain = point.expected_uncertain_mated.expect("mated trials");
        assert!((uncertain - (0.18 - target)).abs() < 2e-3, "{target}: {uncertain}");
    }
    let crossed = point(0.5);
    assert_eq!(crossed.threshold_new, crossed.threshold_known, "no answer is UNCERTAIN");
    assert!(crossed.expected_uncertain_mated == Some(0.0) && crossed.expected_uncertain_nonmated == Some(0.0));
}

#[test]
fn laxer_rates_never_make_answers_uncertain() {
    let calibration = Calibration::from_rehearsal(&overlapping(), None).expect("enough trials");
    let band = |target_fpir: f64, target_duplicates: f64| {
        let policy = Policy { target_duplicates, ..policy(target_fpir, 0.01) };
        let point = calibration.thresholds(policy, 999).point;
        (point.threshold_known.expect("calibrated").0, point.threshold_new.expect("calibrated").0)
    };
    let rates = [0.005, 0.01, 0.02, 0.05, 0.1, 0.3];
    for pair in rates.windows(2) {
        for other in rates {
            let ((known, new), (lax_known, lax_new)) = (band(pair[0], other), band(pair[1], other));
            assert!(lax_known <= known && lax_known - lax_new <= known - new, "FPIR {pair:?} beside {other}");
            let ((known, new), (lax_known, lax_new)) = (band(other, pair[0]), band(other, pair[1]));
            assert!(lax_new >= new && lax_known.to_bits() == known.to_bits(), "duplicates {pair:?} beside {other}");
        }
    }
}

/// Person's name from an image name.
type PersonOn = fn(&str) -> &str;

/// Pairs of the first 100 people with several images for fitting, and of the next 100 for testing.
fn pairs(set: &str, person: PersonOn) -> [(Vec<f64>, Vec<f64>); 2] {
    let mut people = People::new();
    for (image, values) in testing::embeddings(set) {
        people.entry(person(&image).to_owned()).or_default().push(values);
    }
    let several: Vec<Vec<Vec<f32>>> = people.into_values().filter(|rows| rows.len() >= 2).collect();
    let of = |people: &[Vec<Vec<f32>>]| {
        let genuine = people.iter().map(|rows| cosine(&rows[0], &rows[1]).0.into()).collect();
        let others = people
            .iter()
            .enumerate()
            .flat_map(|(at, one)| people[at + 1..].iter().map(move |other| f64::from(cosine(&one[0], &other[1]).0)));
        (genuine, others.collect())
    };
    [of(&several[..100]), of(&several[100..200])]
}

#[test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
#[expect(clippy::print_stderr, reason = "the costs are what the test is for")]
fn ratios_are_calibrated_on_unseen_people_on_real_data() {
    let sets: [(&str, PersonOn); 2] =
        [("lfw_mobilefacenet", testing::lfw_person), ("market_osnet", testing::market_person)];
    for (set, person) in sets {
        let [seen, unseen] = pairs(set, person);
        let llr = Llr::fit(&seen.0, &seen.1).expect("a hundred pairs of either kind");
        let of = |similarities: &[f64]| similarities.iter().map(|s| llr.of(*s)).collect::<Vec<f64>>();
        let cost = cllr(&of(&unseen.0), &of(&unseen.1));
        // The lowest cost of a line, fitted to the test pairs themselves.
        let own = Llr::fit(&unseen.0, &unseen.1).expect("a hundred pairs of either kind");
        let least = cllr(
            &unseen.0.iter().map(|s| own.of(*s)).collect::<Vec<f64>>(),
            &unseen.1.iter().map(|s| own.of(*s)).collect::<Vec<f64>>(),
        );
        let modest = cllr(
            &of(&unseen.0).iter().map(|l| l / 4.0).collect::<Vec<f64>>(),
            &of(&unseen.1).iter().map(|l| l / 4.0).collect::<Vec<f64>>(),
        );
        eprintln!(
            "{set}: Cllr {cost:.3} bits, {least:.3} fitted to the test pairs, {modest:.3} when a quarter is claimed"
        );
        assert!(cost < 0.15, "{cost}");
        assert!(cost - least < 0.03, "what calibration loses: {cost} beside {least}");
        assert!(cost < modest, "{cost} beside {modest}");
    }
}

fn candidates(similarities: &[f32]) -> Vec<Candidate> {
    let candidate = |(number, similarity): (u128, &f32)| Candidate {
        identity: IdentityId::new(&format!("p{number}")).expect("valid"),
        template: TemplateId(Uuid::from_u128(number)),
        similarity: Similarity(*similarity),
        fused: None,
    };
    (0..).zip(similarities).map(candidate).collect()
}

/// Thresholds: KNOWN from 0.4, NEW below 0.25.
fn thresholds() -> Thresholds {
    Calibration::from_package(&package()).expect("rows").thresholds(policy(0.01, 0.001), 10)
}

#[test]
fn similarities_decide() {
    let package = Reason::PackageCalibration;
    for (similarities, kind, reasons) in [
        (&[0.7, 0.3][..], DecisionKind::Known, vec![package]),
        (&[0.7], DecisionKind::Known, vec![package]),
        (&[0.41, 0.395], DecisionKind::Known, vec![package, Reason::SmallMargin]),
        (&[0.71, 0.70], DecisionKind::Uncertain, vec![package, Reason::SmallMargin]),
        (&[0.3, 0.29], DecisionKind::Uncertain, vec![package, Reason::BetweenThresholds]),
        (&[0.2, 0.1], DecisionKind::New, vec![package]),
        (&[], DecisionKind::New, vec![package]),
    ] {
        let decision = decide(&thresholds(), OpenSetRule::Thresholds, &candidates(similarities), Some(1.0));
        assert_eq!((decision.kind, decision.reasons), (kind, reasons), "{similarities:?}");
        assert_eq!(decision.similarity.map(|s| s.0), similarities.first().copied());
        assert_eq!(decision.margin, similarities.get(1).map(|next| similarities[0] - next));
    }
}

#[test]
fn without_calibration_only_an_empty_gallery_is_decided() {
    let empty = decide(&Thresholds::uncalibrated(Policy::default(), 0), OpenSetRule::Posterior, &[], None);
    assert_eq!((empty.kind, empty.reasons), (DecisionKind::New, vec![Reason::EmptyGallery]));
    let one_identity = Thresholds::uncalibrated(Policy::default(), 1);
    for found in [&[0.99][..], &[-0.5], &[]] {
        let decision = decide(&one_identity, OpenSetRule::Thresholds, &candidates(found), None);
        assert_eq!((decision.kind, decision.reasons), (DecisionKind::Uncertain, vec![Reason::NoCalibration]));
    }
    assert!(!verify(&one_identity.point, &candidates(&[1.0])[0]));
}

#[test]
fn a_claim_is_verified_from_its_threshold() {
    let point = thresholds().point;
    let threshold = point.threshold_verify.expect("calibrated").0;
    assert!(verify(&point, &candidates(&[threshold])[0]));
    assert!(!verify(&point, &candidates(&[threshold.next_down()])[0]));
}

proptest! {
    #[test]
    fn stricter_targets_never_lower_a_threshold(
        nonmated in prop::collection::vec(-1.0_f32..1.0, 300..400),
        targets in prop::array::uniform2(1e-6_f64..0.5),
        identities in prop::array::uniform2(1..100_000_u64),
    ) {
        let trials: Vec<Similarity> = nonmated.into_iter().map(Similarity).collect();
        let rehearsal = Rehearsal {
            identities: 500, templates: 500, impostor: trials.clone(), impostor_independent: 300.0, mated_best: trials.clone(), nonmated_best: trials,
            ..Rehearsal::default()
        };
        let (strict, loose) = (targets[0].min(targets[1]), targets[0].max(targets[1]));
        let (few, many) = (identities[0].min(identities[1]), identities[0].max(identities[1]));
        for calibration in [Calibration::from_rehearsal(&rehearsal, None), Calibration::from_package(&package())] {
            let calibration = calibration.expect("enough trials");
            let strict_few = calibration.thresholds(policy(strict, strict), few).point;
            let loose_few = calibration.thresholds(policy(loose, loose), few).point;
            let strict_many = calibration.thresholds(policy(strict, strict), many).point;
            prop_assert!(strict_few.threshold_known >= loose_few.threshold_known);
            prop_assert!(strict_few.threshold_verify >= loose_few.threshold_verify);
            prop_assert!(strict_few.threshold_new >= loose_few.threshold_new);
            prop_assert!(strict_many.threshold_known >= strict_few.threshold_known, "more people, more chances");
            for point in [strict_few, loose_few, strict_many] {
                prop_assert!(point.threshold_new <= point.threshold_known);
                let all = [point.threshold_new, point.threshold_known, point.threshold_verify];
                prop_assert!(all.iter().all(|t| t.is_some_and(|t| t.0.abs() <= 1.0)));
            }
        }
    }
}

type People = BTreeMap<String, Vec<Vec<f32>>>;

fn cosine(one: &[f32], other: &[f32]) -> Similarity {
    Similarity(one.iter().zip(other).map(|(a, b)| a * b).sum())
}

/// The highest similarity to any other person of the gallery.
fn best_of_others(gallery: &People, name: &str, probe: &[f32]) -> Similarity {
    let others = gallery.iter().filter(|(other, _)| *other != name).flat_map(|(_, rows)| rows);
    others.map(|row| cosine(probe, row)).max_by(Similarity::total_cmp).expect("a gallery has several people")
}

/// Every template against all other identities, as a rehearsal does.
fn rehearse(gallery: &People) -> Rehearsal {
    let mut rehearsal = Rehearsal { identities: gallery.len() as u64, ..Rehearsal::default() };
    for ((name, rows), (_, others)) in gallery.iter().zip(gallery.iter().cycle().skip(7)) {
        for (number, row) in rows.iter().enumerate() {
            rehearsal.nonmated_best.push(best_of_others(gallery, name, row));
            rehearsal.impostor.push(cosine(row, &others[number % others.len()]));
            let own = rows.iter().enumerate().filter(|(other, _)| *other != number).map(|(_, own)| cosine(row, own));
            rehearsal.mated_best.extend(own.max_by(Similarity::total_cmp));
        }
    }
    rehearsal.impostor_independent = gallery.len() as f64;
    rehearsal
}

/// Half of the people in LFW are enrolled and the others are non-mated probes; then the other way round.
#[test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
#[expect(clippy::print_stderr, reason = "the realised rates are what the test is for")]
fn the_realised_false_positive_rate_is_near_its_target_on_real_data() {
    let rows = testing::embeddings("lfw_mobilefacenet");
    let mut halves = [People::new(), People::new()];
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (image, values) in rows {
        let name = testing::lfw_person(&image).to_owned();
        let turn = seen.len();
        let half = *seen.entry(name.clone()).or_insert(turn) % 2;
        let photographs = halves[half].entry(name).or_default();
        // A few people have hundreds of images and would be most of the trials.
        if photographs.len() < 5 {
            photographs.push(values);
        }
    }
    for (enrolled, nonmated) in [(0, 1), (1, 0)] {
        let (gallery, nonmated) = (&halves[enrolled], &halves[nonmated]);
        let calibration = Calibration::from_rehearsal(&rehearse(gallery), None).expect("thousands of trials");
        let best: Vec<Similarity> =
            nonmated.iter().map(|(name, rows)| best_of_others(gallery, name, &rows[0])).collect();
        for target in [0.05, 0.01] {
            let point = calibration.thresholds(policy(target, 0.001), gallery.len() as u64).point;
            let accepted = best.iter().filter(|s| Some(**s) >= point.threshold_known).count();
            let realised = accepted as f64 / best.len() as f64;
            eprintln!(
                "LFW, {} enrolled: FPIR {:.2} % at a target of {:.0} %, thresholds {:?} and {:?}, expected FNIR {:?}",
                gallery.len(),
                realised * 100.0,
                target * 100.0,
                point.threshold_known.map(|t| t.0),
                point.threshold_new.map(|t| t.0),
                point.expected_fnir
            );
            assert!(realised > target / 2.5 && realised < target * 2.0, "{realised} at {target}");
        }
    }
}

#[test]
fn records_of_before_the_rehearsal_of_the_posterior_are_decided_by_its_bars() {
    let recorded = |policy| {
        let uncalibrated = Thresholds::uncalibrated(policy, 3);
        Thresholds { point: OperatingPoint { target_duplicates: None, ..uncalibrated.point }, ..uncalibrated }
    };
    let uncalibrated = recorded(policy(0.01, 0.001));
    let by = |posterior, similarities: &[f32]| {
        let decided = decide(&uncalibrated, OpenSetRule::Posterior, &candidates(similarities), posterior);
        (decided.kind, decided.reasons)
    };
    assert_eq!(by(Some(0.99), &[0.5, 0.2]), (DecisionKind::Known, vec![Reason::LearntDecision]));
    let close = vec![Reason::LearntDecision, Reason::SmallMargin];
    assert_eq!(by(Some(0.99), &[0.5, 0.49]), (DecisionKind::Uncertain, close), "enrolled, but which of the two");
    assert_eq!(by(Some(0.02), &[0.9, 0.2]), (DecisionKind::New, vec![Reason::LearntDecision]));
    let between = vec![Reason::LearntDecision, Reason::BetweenThresholds];
    assert_eq!(by(Some(0.5), &[0.9, 0.2]), (DecisionKind::Uncertain, between));
    // A higher target FPIR answers KNOWN more often.
    let loose = recorded(policy(0.5, 0.001));
    assert_eq!(decide(&loose, OpenSetRule::Posterior, &candidates(&[0.9]), Some(0.5)).kind, DecisionKind::Known);
    // Without a posterior the thresholds decide, and here there are none.
    assert_eq!(by(None, &[0.9]), (DecisionKind::Uncertain, vec![Reason::NoCalibration]));
}

#[test]
fn the_package_decides_in_galleries_of_less_than_fifty_people_also_in_posterior_mode() {
    let calibration = Calibration::from_package(&package()).expect("two rows and more");
    assert!(calibration.thresholds(policy(0.01, 0.001), 49).are_of_package());
    assert!(!calibration.thresholds(policy(0.01, 0.001), 50).are_of_package());
    let thresholds = calibration.thresholds(policy(0.01, 0.001), 10);
    let by = |similarity: f32| decide(&thresholds, OpenSetRule::Posterior, &candidates(&[similarity]), Some(0.5)).kind;
    assert_eq!((by(0.9), by(0.0)), (DecisionKind::Known, DecisionKind::New), "and the posterior says neither");
}

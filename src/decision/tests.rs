//! Thresholds against what they promise, on simulated trials and on real faces.

use std::collections::BTreeMap;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{
    domain::{
        Candidate, DecisionKind, IdentityId, PackageCalibration, Policy, Reason, Rehearsal, Similarity, TemplateId,
        ThresholdSource,
    },
    testdata,
};

fn policy(target_fpir: f64, target_fmr: f64) -> Policy {
    Policy { target_fpir, target_fmr, ..Policy::default() }
}

fn package() -> PackageCalibration {
    PackageCalibration {
        measured_on: "nobody".to_owned(),
        genuine_pairs: 1000,
        impostor_pairs: 1_000_000,
        impostor: vec![(1e-1, 0.2), (1e-2, 0.3), (1e-3, 0.4), (1e-4, 0.5)],
        genuine: vec![(0.5, 0.6), (0.1, 0.4), (0.02, 0.25), (0.01, 0.2)],
    }
}

/// Strangers between .1 and .3, acquaintances between .5 and .9.
fn rehearsal(trials: u16) -> Rehearsal {
    let spread = |low: f32, high: f32| {
        (0..trials).map(|n| Similarity(low + (high - low) * f32::from(n) / f32::from(trials))).collect::<Vec<_>>()
    };
    Rehearsal {
        identities: 1000,
        templates: 2000,
        nonmated_best: spread(0.1, 0.3),
        impostor: spread(-0.2, 0.2),
        mated_best: spread(0.5, 0.9),
    }
}

fn near(found: Option<Similarity>, expected: f32) -> bool {
    found.is_some_and(|found| (found.0 - expected).abs() < 1e-3)
}

#[test]
fn a_package_is_read_at_the_size_of_the_gallery() {
    let calibration = Calibration::from_package(&package()).expect("two rows and more");
    // FPIR 1 % among ten is FMR .1 %, among a hundred .01 %.
    let ten = calibration.terms(policy(0.01, 0.001), 10);
    assert!(near(ten.point.threshold_known, 0.4) && near(ten.point.threshold_verify, 0.4), "{ten:?}");
    assert!(near(ten.point.threshold_new, 0.25));
    assert!((ten.point.expected_fnir.expect("genuine pairs are known") - 0.1).abs() < 1e-3);
    assert_eq!(ten.point.source, ThresholdSource::Package);
    assert_eq!(ten.resolve_reasons, [Reason::PackageCalibration]);

    let thousand = calibration.terms(policy(0.01, 0.001), 1000);
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
fn a_rehearsal_at_another_size_is_carried_over_and_called_stale() {
    let calibration = Calibration::from_rehearsal(&rehearsal(2000), None).expect("enough trials");
    let same = calibration.terms(policy(0.2, 0.01), 1100);
    assert_eq!(same.resolve_reasons, []);
    let doubled = calibration.terms(policy(0.36, 0.01), 2000);
    assert_eq!(doubled.resolve_reasons, [Reason::CalibrationStale]);
    assert_eq!(doubled.verify_reasons, []);
    // 36 % among twice as many are 20 % among as many as rehearsed.
    let rehearsed = calibration.terms(policy(0.2, 0.01), 1000);
    for point in [doubled.point, rehearsed.point] {
        assert!(near(point.threshold_known, 0.26) && near(point.threshold_new, 0.26), "{point:?}");
    }
}

#[test]
fn what_no_trial_can_show_is_extrapolated_with_care() {
    let calibration = Calibration::from_rehearsal(&rehearsal(1000), None).expect("enough trials");
    let shown = calibration.terms(policy(0.001, 0.001), 1000);
    let rarer = calibration.terms(policy(0.000_9, 0.000_9), 1000);
    let half = calibration.terms(policy(0.000_45, 0.000_45), 1000);
    assert_eq!((shown.resolve_reasons, shown.verify_reasons), (vec![], vec![]));
    assert_eq!(rarer.resolve_reasons, [Reason::Extrapolated]);
    assert_eq!(rarer.verify_reasons, [Reason::Extrapolated]);
    assert!(half.point.threshold_known > rarer.point.threshold_known);
    assert!(rarer.point.threshold_known > shown.point.threshold_known);
}

#[test]
fn acquaintances_come_from_the_gallery_then_from_the_package_or_not_at_all() {
    let mut few = rehearsal(1000);
    few.mated_best.truncate(49);
    let terms = |rehearsal: &Rehearsal, package: Option<&PackageCalibration>| {
        Calibration::from_rehearsal(rehearsal, package).expect("enough trials").terms(policy(0.2, 0.01), 1000).point
    };
    let from_gallery = terms(&rehearsal(1000), Some(&package()));
    assert_eq!(from_gallery.expected_fnir, Some(0.0), "nobody of the gallery is below");
    let from_package = terms(&few, Some(&package()));
    assert!(near(from_package.threshold_new, 0.25), "{from_package:?}");
    let from_nowhere = terms(&few, None);
    assert_eq!(from_nowhere.threshold_new, from_nowhere.threshold_known);
    assert_eq!(from_nowhere.expected_fnir, None);
}

fn candidates(similarities: &[f32]) -> Vec<Candidate> {
    let candidate = |(number, similarity): (u128, &f32)| Candidate {
        identity: IdentityId::new(&format!("p{number}")).expect("valid"),
        template: TemplateId(Uuid::from_u128(number)),
        similarity: Similarity(*similarity),
    };
    (0..).zip(similarities).map(candidate).collect()
}

/// Known from .4, new below .25.
fn terms() -> Terms {
    Calibration::from_package(&package()).expect("rows").terms(policy(0.01, 0.001), 10)
}

#[test]
fn similarities_become_answers() {
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
        let decision = decide(&terms(), &candidates(similarities));
        assert_eq!((decision.kind, decision.reasons), (kind, reasons), "{similarities:?}");
        assert_eq!(decision.similarity.map(|s| s.0), similarities.first().copied());
        assert_eq!(decision.margin, similarities.get(1).map(|next| similarities[0] - next));
    }
}

#[test]
fn without_calibration_only_an_empty_gallery_is_sure() {
    let nobody = decide(&Terms::uncalibrated(Policy::default(), 0), &[]);
    assert_eq!((nobody.kind, nobody.reasons), (DecisionKind::New, vec![Reason::EmptyGallery]));
    let somebody = Terms::uncalibrated(Policy::default(), 1);
    for found in [&[0.99][..], &[-0.5], &[]] {
        let decision = decide(&somebody, &candidates(found));
        assert_eq!((decision.kind, decision.reasons), (DecisionKind::Uncertain, vec![Reason::NoCalibration]));
    }
    assert!(!verify(&somebody.point, Similarity(1.0)));
}

#[test]
fn a_claim_holds_from_its_threshold_on() {
    let point = terms().point;
    let threshold = point.threshold_verify.expect("calibrated").0;
    assert!(verify(&point, Similarity(threshold)));
    assert!(!verify(&point, Similarity(threshold.next_down())));
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
            identities: 500, templates: 500, impostor: trials.clone(), mated_best: trials.clone(), nonmated_best: trials,
        };
        let (strict, loose) = (targets[0].min(targets[1]), targets[0].max(targets[1]));
        let (few, many) = (identities[0].min(identities[1]), identities[0].max(identities[1]));
        for calibration in [Calibration::from_rehearsal(&rehearsal, None), Calibration::from_package(&package())] {
            let calibration = calibration.expect("enough trials");
            let strict_few = calibration.terms(policy(strict, strict), few).point;
            let loose_few = calibration.terms(policy(loose, loose), few).point;
            let strict_many = calibration.terms(policy(strict, strict), many).point;
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

/// The highest similarity to each person of a gallery but the one named.
fn best_of_others(gallery: &People, name: &str, probe: &[f32]) -> Similarity {
    let others = gallery.iter().filter(|(other, _)| *other != name).flat_map(|(_, rows)| rows);
    others.map(|row| cosine(probe, row)).max_by(Similarity::total_cmp).expect("a gallery has several people")
}

/// Every template against everybody else, as the gallery room does it.
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
    rehearsal
}

/// Half of the people of LFW are enrolled, the others are strangers; then the other way round.
#[test]
#[expect(clippy::print_stderr, reason = "the realised rates are what the test is for")]
fn strangers_come_back_as_somebody_about_as_often_as_promised() {
    let Some(rows) = testdata::embeddings("lfw_mobilefacenet") else {
        return;
    };
    let mut halves = [People::new(), People::new()];
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (image, values) in rows {
        let name = testdata::lfw_person(&image).to_owned();
        let turn = seen.len();
        let half = *seen.entry(name.clone()).or_insert(turn) % 2;
        let photographs = halves[half].entry(name).or_default();
        // A few people have hundreds of photographs and would be most of the trials.
        if photographs.len() < 5 {
            photographs.push(values);
        }
    }
    for (enrolled, strangers) in [(0, 1), (1, 0)] {
        let (gallery, strangers) = (&halves[enrolled], &halves[strangers]);
        let calibration = Calibration::from_rehearsal(&rehearse(gallery), None).expect("thousands of trials");
        let best: Vec<Similarity> =
            strangers.iter().map(|(name, rows)| best_of_others(gallery, name, &rows[0])).collect();
        for target in [0.05, 0.01] {
            let point = calibration.terms(policy(target, 0.001), gallery.len() as u64).point;
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

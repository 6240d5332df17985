//! Evidence of several modalities, added up, and what it says of a probe in a gallery.

use super::{
    bounds::ENROLLED_SHARE_MAX,
    calibration::{Calibration, Terms, limited},
    llr::logistic,
    outcome::Decision,
};
use domain::{
    Candidate, DecisionKind, OperatingPoint, Policy, Reason, Rehearsal, ReviewedSimilarities, Similarity,
    ThresholdSource,
};

/// Fewer joint trials of a kind than this show nothing of how the modalities depend on each other.
const TRIALS_MIN: usize = 50;
/// Draws the weights to one, by as much as a hundredth of the trials would: what few trials say of a modality that hardly
/// varies among them is not worth more.
const RIDGE: f64 = 0.01;
/// Each step can only lower the cost; by then it has ended.
const STEPS_MAX: usize = 500;
/// Weights that move by less are there.
const STEP_MIN: f64 = 1e-6;
/// Sums of evidence are calibrated as similarities are, which lie between -1 and 1: one of them is so much evidence.
const UNIT: f64 = 100.0;
/// Of all that speaks for somebody who is enrolled, at least this share must speak for the best candidate.
const OWN_SHARE_MIN: f64 = 0.9;
/// ln of ten to one.
const CONFLICT: f64 = std::f64::consts::LN_10;

/// How much each modality of a probe counts where several speak.
///
/// Were modalities independent, their log-likelihood ratios would add up. A face and a body in one picture are blurred
/// together and dark together, so they say some of it twice: each ratio is multiplied by a weight of at most one. A modality that
/// speaks alone counts in full, and one that is missing adds nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Fusion {
    weights: Vec<f64>,
    /// What sums come to, in units of [`UNIT`]; `None` where too few were tried.
    sums: Option<Calibration>,
}

impl Fusion {
    /// For so many modalities of which nothing is known: as if they were independent.
    #[must_use]
    pub fn independent(modalities: usize) -> Self {
        Self { weights: vec![1.0; modalities], sums: None }
    }

    /// By logistic regression of trials in which all modalities speak, each trial a ratio for each modality. Genuine and
    /// impostor trials weigh one half each (Brümmer and du Preez 2006); weights lie between 0 and 1, and without an offset, so
    /// that who says nothing adds nothing. As if independent below 50 trials of either kind.
    ///
    /// # Panics
    /// When trials are not of so many modalities.
    #[must_use]
    pub fn fit(modalities: usize, genuine: &[Vec<f64>], impostor: &[Vec<f64>]) -> Self {
        let mut weights = vec![1.0; modalities];
        if genuine.len().min(impostor.len()) < TRIALS_MIN || modalities < 2 {
            return Self { weights, sums: None };
        }
        let trials: Vec<(&[f64], f64, f64)> = [(genuine, 1.0), (impostor, 0.0)]
            .into_iter()
            .flat_map(|(trials, truth)| trials.iter().map(move |one| (&one[..], truth, 0.5 / trials.len() as f64)))
            .collect();
        // The second derivative of a logistic loss is at most a quarter of the square of its input: a step that divides
        // by it never overshoots (Böhning and Lindsay 1988).
        let curves: Vec<f64> = (0..modalities)
            .map(|of| {
                trials.iter().map(|(ratios, _, weight)| weight * ratios[of] * ratios[of] / 4.0).sum::<f64>() + RIDGE
            })
            .collect();
        for _ in 0..STEPS_MAX {
            let mut moved = 0.0_f64;
            for of in 0..modalities {
                let slope = |(ratios, truth, weight): &(&[f64], f64, f64)| {
                    let sum: f64 = weights.iter().zip(*ratios).map(|(weight, ratio)| weight * ratio).sum();
                    weight * (logistic(sum) - truth) * ratios[of]
                };
                let slope = trials.iter().map(slope).sum::<f64>() + RIDGE * (weights[of] - 1.0);
                let next = (weights[of] - slope / curves[of]).clamp(0.0, 1.0);
                moved = moved.max((next - weights[of]).abs());
                weights[of] = next;
            }
            if moved < STEP_MIN {
                break;
            }
        }
        Self { weights, sums: None }
    }

    /// The same, knowing what sums come to: how much speaks for the wrong identity at most, for each of the strangers who were
    /// tried against `identities`, and how much for acquaintances and impostors one by one. Fewer than 300 strangers or
    /// impostors show nothing.
    #[must_use]
    pub fn calibrated(
        self,
        identities: u64,
        strangers: &[f64],
        (genuine, impostor): (&[Vec<f64>], &[Vec<f64>]),
    ) -> Self {
        let sum = |trial: &Vec<f64>| limited(self.of(&trial.iter().copied().map(Some).collect::<Vec<_>>()) / UNIT);
        let rehearsal = Rehearsal {
            identities,
            templates: strangers.len() as u64,
            nonmated_best: strangers.iter().map(|ratio| limited(ratio / UNIT)).collect(),
            impostor: impostor.iter().map(sum).collect(),
            mated_best: genuine.iter().map(sum).collect(),
            reviewed: ReviewedSimilarities::default(),
        };
        Self { sums: Calibration::from_rehearsal(&rehearsal, None), ..self }
    }

    /// What all that speak say together; 0 where nobody does.
    #[must_use]
    pub fn of(&self, ratios: &[Option<f64>]) -> f64 {
        if ratios.iter().flatten().count() == 1 {
            return ratios.iter().flatten().sum();
        }
        self.weights.iter().zip(ratios).filter_map(|(weight, ratio)| ratio.map(|ratio| weight * ratio)).sum()
    }

    /// In the order of the modalities.
    #[must_use]
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }
}

/// What is left of evidence after a time, where so long halves it: it neither speaks for nor against who was seen long ago.
#[must_use]
pub fn faded(ratio: f64, age_seconds: f64, half_life_seconds: f64) -> f64 {
    if half_life_seconds > 0.0 { ratio * (-age_seconds.max(0.0) / half_life_seconds).exp2() } else { ratio }
}

/// How likely the probe is of somebody who is enrolled, where one probe of two is, and how likely of each of the identities
/// whose log-likelihood ratios these are.
///
/// With equal chances for each of N identities, the odds of being identity i against being nobody of them are e^ratio / N
/// (open-set identification, Brümmer and de Villiers 2010): the posterior of i is its odds over one more than the sum of all.
/// Identities that are not among the ratios are taken to be out of the question.
#[must_use]
pub fn posteriors(ratios: &[f64], identities: u64) -> (f64, Vec<f64>) {
    let highest = ratios.iter().copied().fold(0.0, f64::max);
    let odds = |ratio: &f64| (ratio - highest).exp() / identities.max(1) as f64;
    let sum: f64 = ratios.iter().map(odds).sum();
    let all = sum + (-highest).exp();
    (sum / all, ratios.iter().map(|ratio| odds(ratio) / all).collect())
}

impl Fusion {
    /// The terms of a decision by several modalities. `calibrations` are those of the modalities that can speak, `uncalibrated`
    /// says that others had to be left out.
    ///
    /// Where enough strangers were tried, a sum of evidence is held against thresholds as a similarity would be. Until then KNOWN
    /// needs odds of one less the target against the target with one chance in N for each identity, and verify asks for minus ln
    /// of the target, because at most a share e^-t of impostors has a log-likelihood ratio of t: safe and strict.
    #[must_use]
    pub fn terms(
        &self,
        policy: Policy,
        gallery_identities: u64,
        calibrations: &[&Calibration],
        uncalibrated: bool,
    ) -> Terms {
        if calibrations.is_empty() {
            return Terms::uncalibrated(policy, gallery_identities);
        }
        let mut terms = match &self.sums {
            Some(sums) => of_sums(sums.terms(policy, gallery_identities)),
            None => of_odds(policy, gallery_identities, calibrations),
        };
        if uncalibrated {
            terms.resolve_reasons.push(Reason::ModalityUncalibrated);
            terms.verify_reasons.push(Reason::ModalityUncalibrated);
        }
        terms
    }
}

fn of_sums(terms: Terms) -> Terms {
    let sum = |threshold: Option<Similarity>| threshold.map(|at| f64::from(at.0) * UNIT);
    let point = OperatingPoint {
        threshold_known: None,
        threshold_new: None,
        threshold_verify: None,
        evidence_known: sum(terms.point.threshold_known),
        evidence_new: sum(terms.point.threshold_new),
        evidence_verify: sum(terms.point.threshold_verify),
        ..terms.point
    };
    Terms { point, ..terms }
}

fn of_odds(policy: Policy, gallery_identities: u64, calibrations: &[&Calibration]) -> Terms {
    let known = ((1.0 - policy.target_fpir) / policy.target_fpir * gallery_identities.max(1) as f64).ln();
    let verify = -policy.target_fmr.ln();
    let most: f64 = calibrations.iter().filter_map(|calibration| calibration.weight_max()).sum();
    let sources: Vec<ThresholdSource> = calibrations.iter().map(|calibration| calibration.source()).collect();
    let is_packaged = sources.contains(&ThresholdSource::Package);
    let reasons = |asked: f64| {
        let packaged = is_packaged.then_some(Reason::PackageCalibration);
        let unsupported = (most < asked).then_some(Reason::Unsupported);
        packaged.into_iter().chain(unsupported).collect()
    };
    Terms {
        resolve_reasons: reasons(known),
        verify_reasons: reasons(verify),
        point: OperatingPoint {
            evidence_known: Some(known),
            evidence_verify: Some(verify),
            source: if is_packaged { ThresholdSource::Package } else { sources[0] },
            trials: calibrations.iter().map(|calibration| calibration.trials()).min().unwrap_or(0),
            ..Terms::uncalibrated(policy, gallery_identities).point
        },
    }
}

/// Decides who a probe of several modalities is. The candidates are those with the most evidence, the most first, and
/// `posterior` is that of somebody of all who were weighed.
pub(super) fn decide(terms: &Terms, candidates: &[Candidate], posterior: f64) -> Decision {
    let best = candidates.first().and_then(|best| best.fused.as_ref());
    let (ratio, own) = best.map_or((f64::NEG_INFINITY, 0.0), |fused| (fused.log_likelihood_ratio, fused.posterior));
    let bar = 1.0 - terms.point.target_fpir;
    let (is_enrolled, is_alone, is_new) = match (terms.point.evidence_known, terms.point.evidence_new) {
        (Some(known), Some(new)) => (ratio >= known, own >= OWN_SHARE_MIN * posterior, ratio < new),
        _ => (posterior >= bar, own >= bar, posterior <= ENROLLED_SHARE_MAX),
    };
    let conflict = candidates.first().is_some_and(|best| in_conflict(best, terms.point.gallery_identities));
    let (kind, own) = match (is_enrolled, is_alone, is_new) {
        (true, true, _) => (DecisionKind::Known, None),
        // Somebody who is enrolled, and it cannot be told who.
        (true, false, _) => (DecisionKind::Uncertain, Some(Reason::SmallMargin)),
        // A modality that knows the person by itself must be looked into before he gets a second identity.
        (false, _, true) if !conflict => (DecisionKind::New, None),
        (false, _, true) => (DecisionKind::Uncertain, None),
        (false, _, false) => (DecisionKind::Uncertain, Some(Reason::BetweenThresholds)),
    };
    let conflict = conflict.then_some(Reason::ModalityConflict);
    Decision {
        kind,
        reasons: terms.resolve_reasons.iter().copied().chain(own).chain(conflict).collect(),
        similarity: None,
        margin: None,
    }
}

/// Whether one modality by itself makes it ten to one that the probe is of the candidate, and another speaks ten to one against
/// him. Among so many identities: of a thousand strangers somebody is as similar as one in a thousand, and that is no evidence.
#[must_use]
pub fn in_conflict(candidate: &Candidate, identities: u64) -> bool {
    let evidence = candidate.fused.as_ref().map_or(&[][..], |fused| &fused.evidence);
    let chance = (identities.max(1) as f64).ln();
    evidence.iter().any(|one| one.log_likelihood_ratio >= CONFLICT + chance)
        && evidence.iter().any(|one| one.log_likelihood_ratio <= -CONFLICT)
}

#[cfg(test)]
mod tests {
    use rand_xoshiro::{
        Xoshiro256PlusPlus,
        rand_core::{RngCore, SeedableRng},
    };
    use uuid::Uuid;

    use super::*;
    use crate::{Llr, cllr, decide as decide_any};
    use domain::{
        FusedEvidence, IdentityId, Modality, ModalityEvidence, OpenSetRule, PackageCalibration, Similarity, SpaceName,
        TemplateId,
    };

    fn near(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-12
    }

    struct Chance(Xoshiro256PlusPlus);

    impl Chance {
        fn even(&mut self) -> f64 {
            ((self.0.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
        }

        /// Box and Muller 1958.
        fn normal(&mut self) -> f64 {
            (-2.0 * self.even().ln()).sqrt() * (std::f64::consts::TAU * self.even()).cos()
        }
    }

    /// Scales, distances between acquaintances and strangers in deviations, and how often each modality is there.
    const MODALITIES: [(f64, f64, f64); 3] = [(0.1, 2.8, 0.6), (0.05, 1.6, 0.9), (0.3, 2.2, 0.8)];

    fn trials(count: usize, genuine: bool, chance: &mut Chance) -> Vec<[Option<f64>; 3]> {
        let one = |chance: &mut Chance, (scale, distance, share): (f64, f64, f64)| {
            let similarity = scale * (chance.normal() + if genuine { distance } else { 0.0 });
            (chance.even() < share).then_some(similarity)
        };
        (0..count).map(|_| MODALITIES.map(|modality| one(chance, modality))).collect()
    }

    /// The chance that a genuine trial scores above an impostor, by all pairs.
    fn auc(genuine: &[f64], impostor: &[f64]) -> f64 {
        let wins = |one: &f64| {
            impostor
                .iter()
                .map(|other| f64::from(u8::from(one > other)) / 2.0 + f64::from(u8::from(one >= other)) / 2.0)
                .sum::<f64>()
        };
        genuine.iter().map(wins).sum::<f64>() / (genuine.len() * impostor.len()) as f64
    }

    #[test]
    fn evidence_adds_up_where_raw_similarities_do_not() {
        let mut chance = Chance(Xoshiro256PlusPlus::seed_from_u64(4));
        let (genuine, impostor) = (trials(2000, true, &mut chance), trials(2000, false, &mut chance));
        let of = |trials: &[[Option<f64>; 3]], modality: usize| {
            trials.iter().filter_map(|t| t[modality]).collect::<Vec<f64>>()
        };
        let llrs = [0, 1, 2].map(|m| Llr::fit(&of(&genuine, m), &of(&impostor, m)).expect("enough trials"));
        let (genuine, impostor) = (trials(1000, true, &mut chance), trials(1000, false, &mut chance));
        let fusion = Fusion::independent(3);
        let ratios = |trial: &[Option<f64>; 3]| [0, 1, 2].map(|m| trial[m].map(|similarity| llrs[m].of(similarity)));
        let scores = |score: &dyn Fn(&[Option<f64>; 3]) -> f64| {
            (genuine.iter().map(score).collect::<Vec<f64>>(), impostor.iter().map(score).collect::<Vec<f64>>())
        };
        let (fused, others) = scores(&|trial| fusion.of(&ratios(trial)));
        let together = auc(&fused, &others);
        let raw = scores(&|trial| trial.iter().flatten().sum::<f64>() / trial.iter().flatten().count().max(1) as f64);
        let missed = |auc: f64| 1.0 - auc;
        assert!(missed(together) < missed(auc(&raw.0, &raw.1)) / 2.0, "{together} and {}", auc(&raw.0, &raw.1));
        for modality in 0..3 {
            let alone = scores(&|trial| ratios(trial)[modality].unwrap_or(0.0));
            assert!(
                missed(together) < missed(auc(&alone.0, &alone.1)) / 2.0,
                "{together} and {}",
                auc(&alone.0, &alone.1)
            );
        }
        assert!(cllr(&fused, &others) < 0.35, "{}", cllr(&fused, &others));
    }

    #[test]
    fn what_is_said_twice_counts_once() {
        let mut chance = Chance(Xoshiro256PlusPlus::seed_from_u64(5));
        // Two modalities that see the same thing, each with a little noise of its own; unit deviation, so the ratio of one
        // alone is a line.
        let mut draw = |genuine: bool| -> Vec<Vec<f64>> {
            let shift = if genuine { 2.5 } else { 0.0 };
            (0..1500)
                .map(|_| {
                    let seen = shift + 0.95 * chance.normal();
                    [0.3, 0.3].map(|own: f64| 2.5 * (seen + own * chance.normal()) - 2.5 * 2.5 / 2.0).to_vec()
                })
                .collect()
        };
        let (genuine, impostor) = (draw(true), draw(false));
        let (fitted, plain) = (Fusion::fit(2, &genuine, &impostor), Fusion::independent(2));
        let sum: f64 = fitted.weights().iter().sum();
        assert!((0.9..1.3).contains(&sum), "{:?}", fitted.weights());
        let (genuine, impostor) = (draw(true), draw(false));
        let cost = |fusion: &Fusion| {
            let all =
                |trials: &[Vec<f64>]| trials.iter().map(|t| fusion.of(&[Some(t[0]), Some(t[1])])).collect::<Vec<f64>>();
            cllr(&all(&genuine), &all(&impostor))
        };
        assert!(cost(&fitted) < cost(&plain) - 0.03, "{} and {}", cost(&fitted), cost(&plain));
        assert!(near(fitted.of(&[Some(3.0), None]), 3.0), "who speaks alone counts in full");
        assert!(near(fitted.of(&[None, None]), 0.0));
        assert_eq!(Fusion::fit(2, &genuine[..49], &impostor), plain, "too few show nothing");
    }

    #[test]
    fn evidence_fades_by_half() {
        assert!(near(faded(4.0, 10.0, 10.0), 2.0));
        assert!(near(faded(-4.0, 20.0, 10.0), -1.0));
        assert!(near(faded(4.0, 1e9, 0.0), 4.0), "never");
        assert!(near(faded(4.0, -5.0, 10.0), 4.0), "no clock is so far ahead that evidence grows");
    }

    #[test]
    fn posteriors_are_those_of_the_books() {
        // Ten people, one of them ten times as likely as nobody: as likely as not.
        let (all, each) = posteriors(&[10.0_f64.ln()], 10);
        assert!(near(all, 0.5) && near(each[0], 0.5));
        // Odds of 3 and 1 against 1.
        let (all, each) = posteriors(&[30.0_f64.ln(), 10.0_f64.ln()], 10);
        assert!(near(all, 0.8) && near(each[0], 0.6) && near(each[1], 0.2));
        let (all, each) = posteriors(&[800.0, -800.0], 1000);
        assert!(all > 1.0 - 1e-12 && each[0] > 1.0 - 1e-12 && each[1] == 0.0, "nothing overflows");
        assert_eq!(posteriors(&[], 10), (0.0, Vec::new()));
    }

    fn package() -> Calibration {
        Calibration::from_package(&PackageCalibration {
            measured_on: "arithmetic".to_owned(),
            genuine_pairs: 1000,
            impostor_pairs: 100_000,
            impostor: vec![(0.5, 0.1), (0.1, 0.25), (0.01, 0.4), (0.001, 0.5), (1e-4, 0.6)],
            genuine: vec![(0.5, 0.7), (0.1, 0.55), (0.01, 0.4)],
        })
        .expect("a table")
    }

    #[test]
    fn no_similarity_is_worth_more_than_the_impostors_who_reach_it_allow() {
        let package = package();
        let worth = |similarity: f32| package.weigh(Similarity(similarity)).expect("a table of either kind");
        assert!(worth(0.6) <= 10_000.0_f64.ln() + 1e-6 && worth(1.0) <= 100_001.0_f64.ln() + 1e-6);
        assert!(worth(0.65) > 3.0 && worth(0.05) < -2.0, "{} and {}", worth(0.65), worth(0.05));
        let rising: Vec<f64> = (-20_i16..=20).map(|step| worth(f32::from(step) / 20.0)).collect();
        assert!(rising.is_sorted_by(|one, other| one <= other), "{rising:?}");
    }

    fn candidate(posterior: f64, ratios: [f64; 2]) -> Candidate {
        let one = |log_likelihood_ratio| ModalityEvidence {
            modality: Modality::Face,
            model: SpaceName::new("m").expect("valid"),
            template: TemplateId(Uuid::nil()),
            similarity: Similarity(0.5),
            log_likelihood_ratio,
        };
        Candidate {
            identity: IdentityId::new("p").expect("valid"),
            template: TemplateId(Uuid::nil()),
            similarity: Similarity(0.5),
            fused: Some(FusedEvidence {
                log_likelihood_ratio: ratios.iter().sum(),
                posterior,
                evidence: ratios.map(one).to_vec(),
            }),
        }
    }

    #[test]
    fn the_odds_decide_and_conflict_is_said() {
        let package = package();
        let policy = Policy { target_fpir: 0.01, target_fmr: 0.001, ..Policy::default() };
        let terms = Fusion::independent(2).terms(policy, 99, &[&package, &package], true);
        assert!((terms.point.evidence_known.expect("a bar") - (99.0_f64 * 99.0).ln()).abs() < 1e-9);
        assert!((terms.point.evidence_verify.expect("a bar") - 1000.0_f64.ln()).abs() < 1e-9);
        assert_eq!(terms.resolve_reasons, [Reason::PackageCalibration, Reason::ModalityUncalibrated]);
        let kind = |candidates: &[Candidate], posterior| {
            let decision = decide_any(&terms, OpenSetRule::Thresholds, candidates, posterior);
            (decision.kind, decision.reasons[2..].to_vec())
        };
        let one = |posterior, ratios| candidate(posterior, ratios);
        assert_eq!(kind(&[one(0.995, [5.0, 5.0])], Some(0.995)), (DecisionKind::Known, vec![]));
        assert_eq!(
            kind(&[one(0.6, [6.0, 5.0]), one(0.399, [5.0, 5.6])], Some(0.999)),
            (DecisionKind::Uncertain, vec![Reason::SmallMargin])
        );
        assert_eq!(kind(&[one(0.01, [-2.0, 0.5])], Some(0.012)), (DecisionKind::New, vec![]));
        assert_eq!(
            kind(&[one(0.4, [7.0, -3.0])], Some(0.45)),
            (DecisionKind::Uncertain, vec![Reason::BetweenThresholds, Reason::ModalityConflict])
        );
        assert_eq!(
            kind(&[one(0.001, [7.0, -8.0])], Some(0.002)),
            (DecisionKind::Uncertain, vec![Reason::ModalityConflict]),
            "whom a face knows is not new because of his clothes"
        );
        assert_eq!(kind(&[], None), (DecisionKind::New, vec![]), "nobody is left whom it could be");
        let few = Fusion::independent(1).terms(Policy { target_fpir: 1e-6, ..policy }, 100_000, &[&package], false);
        assert!(few.resolve_reasons.contains(&Reason::Unsupported), "one table cannot say so much");
        let none = Fusion::independent(1).terms(policy, 99, &[], true);
        assert_eq!(none.resolve_reasons, [Reason::NoCalibration]);
        assert_eq!(decide_any(&none, OpenSetRule::Thresholds, &[], None).kind, DecisionKind::Uncertain);
    }

    #[test]
    fn sums_that_were_tried_are_held_against_thresholds() {
        let (package, mut chance) = (package(), Chance(Xoshiro256PlusPlus::seed_from_u64(6)));
        let mut pairs =
            |middle: f64| (0..400).map(|_| [0, 1].map(|_| middle + chance.normal()).to_vec()).collect::<Vec<_>>();
        let (genuine, impostor) = (pairs(5.0), pairs(-4.0));
        let strangers: Vec<f64> = (0..400).map(|_| -1.0 + 2.0 * chance.normal()).collect();
        let fusion = Fusion::independent(2).calibrated(400, &strangers, (&genuine, &impostor));
        let policy = Policy { target_fpir: 0.05, ..Policy::default() };
        let terms = fusion.terms(policy, 400, &[&package, &package], false);
        let (known, new) = (terms.point.evidence_known.expect("tried"), terms.point.evidence_new.expect("tried"));
        let passed = strangers.iter().filter(|ratio| **ratio >= known).count();
        assert!((10..=20).contains(&passed) && new <= known, "{passed} of 400 pass {known}; new below {new}");
        assert!(terms.point.expected_fnir.is_some_and(|fnir| fnir < 0.05) && terms.point.threshold_known.is_none());
        let kind = |ratio: f64, own| {
            decide_any(&terms, OpenSetRule::Posterior, &[candidate(own, [ratio, 0.0])], Some(0.9)).kind
        };
        assert_eq!(kind(known + 0.01, 0.9), DecisionKind::Known);
        assert_eq!(kind(known + 0.01, 0.5), DecisionKind::Uncertain, "another is about as likely");
        assert_eq!(kind(new - 0.01, 0.9), DecisionKind::New);
    }
}

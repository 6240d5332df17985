//! Fusion of modalities: sums of log-likelihood ratios, and posteriors in a gallery.

use super::{
    bounds::ENROLLED_SHARE_MAX,
    calibration::{Calibration, Thresholds, limited},
    llr::logistic,
    outcome::Decision,
};
use domain::{
    Candidate, DecisionKind, OperatingPoint, Policy, Reason, Rehearsal, ReviewedSimilarities, Similarity,
    ThresholdSource,
};

/// Minimum number of joint trials of each kind for estimating the dependence of modalities.
const TRIALS_MIN: usize = 50;
/// Ridge that draws the weights to 1, as strong as a hundredth of the trials: few trials of a hardly varying modality
/// must not change its weight.
const RIDGE: f64 = 0.01;
/// Maximum number of descent steps. Each step lowers the cost; convergence is much earlier.
const STEPS_MAX: usize = 500;
/// Convergence: largest change of a weight in one step.
const STEP_MIN: f64 = 1e-6;
/// Sums of evidence are calibrated like similarities, which lie in -1 to 1. A similarity of 1 stands for this sum.
const UNIT: f64 = 100.0;
/// Minimum share of the posterior of being enrolled that must belong to the best candidate.
const OWN_SHARE_MIN: f64 = 0.9;
/// Ratio of ten to one, as a natural logarithm.
const CONFLICT: f64 = std::f64::consts::LN_10;

/// Trials in which all modalities are present: one log-likelihood ratio per modality.
#[derive(Debug, Clone, Copy)]
pub struct JointTrials<'t> {
    pub mated: &'t [Vec<f64>],
    pub nonmated: &'t [Vec<f64>],
}

/// Weights of modalities in a sum of evidence.
///
/// If modalities were independent, their log-likelihood ratios would add up. A face and a body in one image are blurred
/// and dark fused_auc, so they repeat some evidence: each ratio gets a weight of at most 1. A single modality counts in
/// full, and a missing one adds nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Fusion {
    weights: Vec<f64>,
    /// Calibration of the sums in units of [`UNIT`]; `None` with too few trials.
    sums: Option<Calibration>,
}

impl Fusion {
    /// Weights of independent modalities: all 1.
    #[must_use]
    pub fn independent(modalities: usize) -> Self {
        Self { weights: vec![1.0; modalities], sums: None }
    }

    /// Fits weights by logistic regression of trials in which all modalities are present, one log-likelihood ratio per
    /// modality. Mated and non-mated trials have a total weight of one half each (Brümmer and du Preez 2006). Weights
    /// lie in 0 to 1. There is no offset, so that a ratio of 0 adds nothing. Independent weights below 50 trials of
    /// either kind.
    ///
    /// # Panics
    /// When a trial does not have `modalities` ratios.
    #[must_use]
    pub fn fit(modalities: usize, JointTrials { mated, nonmated }: JointTrials<'_>) -> Self {
        let mut weights = vec![1.0; modalities];
        if mated.len().min(nonmated.len()) < TRIALS_MIN || modalities < 2 {
            return Self { weights, sums: None };
        }
        let trials: Vec<(&[f64], f64, f64)> = [(mated, 1.0), (nonmated, 0.0)]
            .into_iter()
            .flat_map(|(trials, truth)| trials.iter().map(move |one| (&one[..], truth, 0.5 / trials.len() as f64)))
            .collect();
        // The second derivative of the logistic loss is at most a quarter of the squared input, so a step divided by
        // this bound never overshoots (Böhning and Lindsay 1988).
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

    /// The same weights with calibrated sums. `nonmated_best` are the highest sums of non-mated probes against
    /// `identities` identities; `trials` as in [`Fusion::fit`]. Below 300 trials of the former or of impostors, the
    /// sums stay uncalibrated.
    #[must_use]
    pub fn calibrated(self, identities: u64, nonmated_best: &[f64], trials: JointTrials<'_>) -> Self {
        let sum = |trial: &Vec<f64>| limited(self.sum(&trial.iter().copied().map(Some).collect::<Vec<_>>()) / UNIT);
        let rehearsal = Rehearsal {
            identities,
            templates: nonmated_best.len() as u64,
            nonmated_best: nonmated_best.iter().map(|ratio| limited(ratio / UNIT)).collect(),
            impostor: trials.nonmated.iter().map(sum).collect(),
            // One per probe, and so the probes are independent.
            impostor_independent: trials.nonmated.len().min(usize::try_from(identities).unwrap_or(usize::MAX)) as f64,
            mated_best: trials.mated.iter().map(sum).collect(),
            reviewed: ReviewedSimilarities::default(),
        };
        Self { sums: Calibration::from_rehearsal(&rehearsal, None), ..self }
    }

    /// Weighted sum of the log-likelihood ratios that are present; 0 without any.
    #[must_use]
    pub fn sum(&self, ratios: &[Option<f64>]) -> f64 {
        if ratios.iter().flatten().count() == 1 {
            return ratios.iter().flatten().sum();
        }
        self.weights.iter().zip(ratios).filter_map(|(weight, ratio)| ratio.map(|ratio| weight * ratio)).sum()
    }

    /// One weight per modality, in order.
    #[must_use]
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }
}

/// Log-likelihood ratio after exponential decay with age: old evidence counts less for and against. No decay when the
/// half-life is not positive.
#[must_use]
pub fn decayed(ratio: f64, age_seconds: f64, half_life_seconds: f64) -> f64 {
    if half_life_seconds > 0.0 { ratio * (-age_seconds.max(0.0) / half_life_seconds).exp2() } else { ratio }
}

/// Posterior of being enrolled, and posterior of each identity, from their natural log-likelihood ratios. The prior of
/// being enrolled is one half, equal for each of N identities.
///
/// The odds of identity i against no identity are e^ratio / N (open-set identification, Brümmer and de Villiers 2010).
/// The posterior of i is its odds divided by one plus the sum of all odds. Identities without a ratio get probability
/// 0.
#[must_use]
pub fn posteriors(ratios: &[f64], identities: u64) -> (f64, Vec<f64>) {
    let highest = ratios.iter().copied().fold(0.0, f64::max);
    let odds = |ratio: &f64| (ratio - highest).exp() / identities.max(1) as f64;
    let sum: f64 = ratios.iter().map(odds).sum();
    let all = sum + (-highest).exp();
    (sum / all, ratios.iter().map(|ratio| odds(ratio) / all).collect())
}

impl Fusion {
    /// Thresholds for decisions by several modalities. `calibrations` are those of the calibrated modalities;
    /// `uncalibrated` means that others had to be ignored.
    ///
    /// With calibrated sums, a sum is compared with thresholds like a similarity. Otherwise KNOWN needs posterior odds
    /// of (1 - target FPIR) to target FPIR with prior 1/N per identity, and verification needs -ln(target FMR), because
    /// at most a share e^-t of impostors has a log-likelihood ratio of t. Both are conservative.
    #[must_use]
    pub fn thresholds(
        &self,
        policy: Policy,
        gallery_identities: u64,
        calibrations: &[&Calibration],
        uncalibrated: bool,
    ) -> Thresholds {
        if calibrations.is_empty() {
            return Thresholds::uncalibrated(policy, gallery_identities);
        }
        let mut thresholds = match &self.sums {
            Some(sums) => of_sums(sums.thresholds(policy, gallery_identities)),
            None => of_odds(policy, gallery_identities, calibrations),
        };
        if uncalibrated {
            thresholds.resolve_reasons.push(Reason::ModalityUncalibrated);
            thresholds.verify_reasons.push(Reason::ModalityUncalibrated);
        }
        thresholds
    }
}

fn of_sums(thresholds: Thresholds) -> Thresholds {
    let sum = |threshold: Option<Similarity>| threshold.map(|at| f64::from(at.0) * UNIT);
    let point = OperatingPoint {
        threshold_known: None,
        threshold_new: None,
        threshold_verify: None,
        evidence_known: sum(thresholds.point.threshold_known),
        evidence_new: sum(thresholds.point.threshold_new),
        evidence_verify: sum(thresholds.point.threshold_verify),
        ..thresholds.point
    };
    Thresholds { point, ..thresholds }
}

fn of_odds(policy: Policy, gallery_identities: u64, calibrations: &[&Calibration]) -> Thresholds {
    let known = ((1.0 - policy.target_fpir) / policy.target_fpir * gallery_identities.max(1) as f64).ln();
    let verify = -policy.target_fmr.ln();
    let most: f64 = calibrations.iter().filter_map(|calibration| calibration.log_likelihood_ratio_max()).sum();
    let sources: Vec<ThresholdSource> = calibrations.iter().map(|calibration| calibration.source()).collect();
    let is_packaged = sources.contains(&ThresholdSource::Package);
    let reasons = |asked: f64| {
        let packaged = is_packaged.then_some(Reason::PackageCalibration);
        let unsupported = (most < asked).then_some(Reason::Unsupported);
        packaged.into_iter().chain(unsupported).collect()
    };
    Thresholds {
        resolve_reasons: reasons(known),
        verify_reasons: reasons(verify),
        point: OperatingPoint {
            evidence_known: Some(known),
            evidence_verify: Some(verify),
            source: if is_packaged { ThresholdSource::Package } else { sources[0] },
            trials: calibrations.iter().map(|calibration| calibration.trials()).min().unwrap_or(0),
            ..Thresholds::uncalibrated(policy, gallery_identities).point
        },
    }
}

/// Decides for a probe with several modalities. `candidates` are sorted by falling evidence; `posterior` is the
/// probability that the probe is one of them.
pub(super) fn decide(thresholds: &Thresholds, candidates: &[Candidate], posterior: f64) -> Decision {
    let best = candidates.first().and_then(|best| best.fused.as_ref());
    let (ratio, own) = best.map_or((f64::NEG_INFINITY, 0.0), |fused| (fused.log_likelihood_ratio, fused.posterior));
    let bar = 1.0 - thresholds.point.target_fpir;
    let (is_enrolled, is_alone, is_new) = match (thresholds.point.evidence_known, thresholds.point.evidence_new) {
        (Some(known), Some(new)) => (ratio >= known, own >= OWN_SHARE_MIN * posterior, ratio < new),
        _ => (posterior >= bar, own >= bar, posterior <= ENROLLED_SHARE_MAX),
    };
    let conflict = candidates.first().is_some_and(|best| in_conflict(best, thresholds.point.gallery_identities));
    let (kind, own) = match (is_enrolled, is_alone, is_new) {
        (true, true, _) => (DecisionKind::Known, None),
        // Enrolled, but it is not clear who.
        (true, false, _) => (DecisionKind::Uncertain, Some(Reason::SmallMargin)),
        // When one modality alone identifies the person, a human must check before a second identity is created.
        (false, _, true) if !conflict => (DecisionKind::New, None),
        (false, _, true) => (DecisionKind::Uncertain, None),
        (false, _, false) => (DecisionKind::Uncertain, Some(Reason::BetweenThresholds)),
    };
    let conflict = conflict.then_some(Reason::ModalityConflict);
    Decision {
        kind,
        reasons: thresholds.resolve_reasons.iter().copied().chain(own).chain(conflict).collect(),
        similarity: None,
        margin: None,
    }
}

/// Whether one modality alone gives at least ten to one for the candidate, and another ten to one against. The prior of
/// one identity in the gallery is included: among a thousand non-mated identities, one is as similar as a share of
/// 0.001, which is no evidence.
#[must_use]
pub fn in_conflict(candidate: &Candidate, identities: u64) -> bool {
    let evidence = candidate.fused.as_ref().map_or(&[][..], |fused| &fused.evidence);
    let gallery_odds = (identities.max(1) as f64).ln();
    evidence.iter().any(|one| one.log_likelihood_ratio >= CONFLICT + gallery_odds)
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

    struct SampleRng(Xoshiro256PlusPlus);

    impl SampleRng {
        fn uniform(&mut self) -> f64 {
            ((self.0.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
        }

        /// Box and Muller 1958.
        fn normal(&mut self) -> f64 {
            (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
        }
    }

    /// Per modality: scale of the similarity, distance of mated from non-mated trials in standard deviations, and
    /// probability of being present.
    const MODALITIES: [(f64, f64, f64); 3] = [(0.1, 2.8, 0.6), (0.05, 1.6, 0.9), (0.3, 2.2, 0.8)];

    fn trials(count: usize, genuine: bool, rng: &mut SampleRng) -> Vec<[Option<f64>; 3]> {
        let one = |rng: &mut SampleRng, (scale, distance, share): (f64, f64, f64)| {
            let similarity = scale * (rng.normal() + if genuine { distance } else { 0.0 });
            (rng.uniform() < share).then_some(similarity)
        };
        (0..count).map(|_| MODALITIES.map(|modality| one(rng, modality))).collect()
    }

    /// Area under the ROC curve, by all pairs.
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
        let mut rng = SampleRng(Xoshiro256PlusPlus::seed_from_u64(4));
        let (genuine, impostor) = (trials(2000, true, &mut rng), trials(2000, false, &mut rng));
        let of = |trials: &[[Option<f64>; 3]], modality: usize| {
            trials.iter().filter_map(|t| t[modality]).collect::<Vec<f64>>()
        };
        let llrs = [0, 1, 2].map(|m| Llr::fit(&of(&genuine, m), &of(&impostor, m)).expect("enough trials"));
        let (genuine, impostor) = (trials(1000, true, &mut rng), trials(1000, false, &mut rng));
        let fusion = Fusion::independent(3);
        let ratios = |trial: &[Option<f64>; 3]| [0, 1, 2].map(|m| trial[m].map(|similarity| llrs[m].of(similarity)));
        let scores = |score: &dyn Fn(&[Option<f64>; 3]) -> f64| {
            (genuine.iter().map(score).collect::<Vec<f64>>(), impostor.iter().map(score).collect::<Vec<f64>>())
        };
        let (fused, others) = scores(&|trial| fusion.sum(&ratios(trial)));
        let fused_auc = auc(&fused, &others);
        let raw = scores(&|trial| trial.iter().flatten().sum::<f64>() / trial.iter().flatten().count().max(1) as f64);
        let missed = |auc: f64| 1.0 - auc;
        assert!(missed(fused_auc) < missed(auc(&raw.0, &raw.1)) / 2.0, "{fused_auc} and {}", auc(&raw.0, &raw.1));
        for modality in 0..3 {
            let alone = scores(&|trial| ratios(trial)[modality].unwrap_or(0.0));
            assert!(
                missed(fused_auc) < missed(auc(&alone.0, &alone.1)) / 2.0,
                "{fused_auc} and {}",
                auc(&alone.0, &alone.1)
            );
        }
        assert!(cllr(&fused, &others) < 0.35, "{}", cllr(&fused, &others));
    }

    #[test]
    fn repeated_evidence_counts_once() {
        let mut rng = SampleRng(Xoshiro256PlusPlus::seed_from_u64(5));
        // Two modalities that measure the same quantity with little noise of their own. Unit deviation, so that the
        // ratio of one alone is linear.
        let mut draw = |genuine: bool| -> Vec<Vec<f64>> {
            let shift = if genuine { 2.5 } else { 0.0 };
            (0..1500)
                .map(|_| {
                    let seen = shift + 0.95 * rng.normal();
                    [0.3, 0.3].map(|own: f64| 2.5 * (seen + own * rng.normal()) - 2.5 * 2.5 / 2.0).to_vec()
                })
                .collect()
        };
        let (genuine, impostor) = (draw(true), draw(false));
        let (fitted, plain) =
            (Fusion::fit(2, JointTrials { mated: &genuine, nonmated: &impostor }), Fusion::independent(2));
        let sum: f64 = fitted.weights().iter().sum();
        assert!((0.9..1.3).contains(&sum), "{:?}", fitted.weights());
        let (genuine, impostor) = (draw(true), draw(false));
        let cost = |fusion: &Fusion| {
            let all = |trials: &[Vec<f64>]| {
                trials.iter().map(|t| fusion.sum(&[Some(t[0]), Some(t[1])])).collect::<Vec<f64>>()
            };
            cllr(&all(&genuine), &all(&impostor))
        };
        assert!(cost(&fitted) < cost(&plain) - 0.03, "{} and {}", cost(&fitted), cost(&plain));
        assert!(near(fitted.sum(&[Some(3.0), None]), 3.0), "a single modality counts in full");
        assert!(near(fitted.sum(&[None, None]), 0.0));
        assert_eq!(
            Fusion::fit(2, JointTrials { mated: &genuine[..49], nonmated: &impostor }),
            plain,
            "too few show nothing"
        );
    }

    #[test]
    fn evidence_decays_by_half() {
        assert!(near(decayed(4.0, 10.0, 10.0), 2.0));
        assert!(near(decayed(-4.0, 20.0, 10.0), -1.0));
        assert!(near(decayed(4.0, 1e9, 0.0), 4.0), "never");
        assert!(near(decayed(4.0, -5.0, 10.0), 4.0), "no clock is so far ahead that evidence grows");
    }

    #[test]
    fn posteriors_equal_those_computed_by_hand() {
        // Ten identities; one has a ratio of ten, so the posterior is one half.
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
            atypical: Vec::new(),
        })
        .expect("a table")
    }

    #[test]
    fn a_ratio_is_limited_by_the_share_of_impostors() {
        let package = package();
        let worth =
            |similarity: f32| package.log_likelihood_ratio(Similarity(similarity)).expect("a table of either kind");
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
    fn odds_decide_and_conflicts_are_reported() {
        let package = package();
        let policy = Policy { target_fpir: 0.01, target_fmr: 0.001, ..Policy::default() };
        let thresholds = Fusion::independent(2).thresholds(policy, 99, &[&package, &package], true);
        assert!((thresholds.point.evidence_known.expect("a bar") - (99.0_f64 * 99.0).ln()).abs() < 1e-9);
        assert!((thresholds.point.evidence_verify.expect("a bar") - 1000.0_f64.ln()).abs() < 1e-9);
        assert_eq!(thresholds.resolve_reasons, [Reason::PackageCalibration, Reason::ModalityUncalibrated]);
        let kind = |candidates: &[Candidate], posterior| {
            let decision = decide_any(&thresholds, OpenSetRule::Thresholds, candidates, posterior);
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
            "an identified face is not new because of the clothes"
        );
        assert_eq!(kind(&[], None), (DecisionKind::New, vec![]), "no candidate is left");
        let few =
            Fusion::independent(1).thresholds(Policy { target_fpir: 1e-6, ..policy }, 100_000, &[&package], false);
        assert!(few.resolve_reasons.contains(&Reason::Unsupported), "one table cannot say so much");
        let none = Fusion::independent(1).thresholds(policy, 99, &[], true);
        assert_eq!(none.resolve_reasons, [Reason::NoCalibration]);
        assert_eq!(decide_any(&none, OpenSetRule::Thresholds, &[], None).kind, DecisionKind::Uncertain);
    }

    #[test]
    fn calibrated_sums_are_compared_with_thresholds() {
        let (package, mut rng) = (package(), SampleRng(Xoshiro256PlusPlus::seed_from_u64(6)));
        let mut pairs =
            |middle: f64| (0..400).map(|_| [0, 1].map(|_| middle + rng.normal()).to_vec()).collect::<Vec<_>>();
        let (genuine, impostor) = (pairs(5.0), pairs(-4.0));
        let nonmated_best: Vec<f64> = (0..400).map(|_| -1.0 + 2.0 * rng.normal()).collect();
        let fusion = Fusion::independent(2).calibrated(
            400,
            &nonmated_best,
            JointTrials { mated: &genuine, nonmated: &impostor },
        );
        let policy = Policy { target_fpir: 0.05, ..Policy::default() };
        let thresholds = fusion.thresholds(policy, 400, &[&package, &package], false);
        let (known, new) =
            (thresholds.point.evidence_known.expect("tried"), thresholds.point.evidence_new.expect("tried"));
        let passed = nonmated_best.iter().filter(|ratio| **ratio >= known).count();
        assert!((10..=20).contains(&passed) && new <= known, "{passed} of 400 pass {known}; new below {new}");
        assert!(
            thresholds.point.expected_fnir.is_some_and(|fnir| fnir < 0.05)
                && thresholds.point.threshold_known.is_none()
        );
        let kind = |ratio: f64, own| {
            decide_any(&thresholds, OpenSetRule::Posterior, &[candidate(own, [ratio, 0.0])], Some(0.9)).kind
        };
        assert_eq!(kind(known + 0.01, 0.9), DecisionKind::Known);
        assert_eq!(kind(known + 0.01, 0.5), DecisionKind::Uncertain, "another is about as likely");
        assert_eq!(kind(new - 0.01, 0.9), DecisionKind::New);
    }
}

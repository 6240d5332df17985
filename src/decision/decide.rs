//! Open-set decision and verification of candidates.

use super::{
    bounds::{ENROLLED_SHARE_MAX, MARGIN_MIN},
    calibration::Thresholds,
    fusion,
    outcome::Decision,
};
use domain::{Candidate, DecisionKind, OpenSetRule, OperatingPoint, Reason, Similarity};

/// Decides whether the probe is KNOWN, NEW or UNCERTAIN. `candidates` come from a search without a similarity limit,
/// best first; two are enough. `posterior` is the probability of being enrolled: from [`super::Decider`], or from the
/// evidence of several modalities.
pub fn decide(
    thresholds: &Thresholds,
    rule: OpenSetRule,
    candidates: &[Candidate],
    posterior: Option<f64>,
) -> Decision {
    let similarity = candidates.first().map(|c| c.similarity);
    let runner_up = candidates.get(1).map(|c| c.similarity);
    let margin = similarity.zip(runner_up).map(|(best, next)| best.0 - next.0);
    let (kind, reasons) = match similarity {
        // An empty gallery needs no threshold.
        None if thresholds.point.gallery_identities == 0 => (DecisionKind::New, vec![Reason::EmptyGallery]),
        // There are thresholds, but no candidate.
        None if thresholds.point.evidence_known.is_some() || thresholds.point.posterior_known.is_some() => {
            (DecisionKind::New, thresholds.resolve_reasons.clone())
        }
        Some(_) if let (true, Some(posterior)) = (candidates[0].fused.is_some(), posterior) => {
            return fusion::decide(thresholds, candidates, posterior);
        }
        Some(best)
            if let (OpenSetRule::Posterior, Some(posterior)) = (rule, posterior)
                && is_by_posterior(&thresholds.point) =>
        {
            let (kind, own) = decide_by_posterior(&thresholds.point, posterior, (best, runner_up));
            // In records from before the rehearsal of the posterior, the reasons concern similarities.
            let rehearsed = thresholds.point.posterior_known.map_or(&[][..], |_| &thresholds.resolve_reasons);
            let reasons = [Reason::LearntDecision].into_iter().chain(rehearsed.iter().copied());
            (kind, reasons.chain(own).collect())
        }
        best => {
            let (kind, own) = decide_by_thresholds(&thresholds.point, best, runner_up);
            (kind, thresholds.resolve_reasons.iter().chain(&own).copied().collect())
        }
    };
    Decision { kind, reasons, similarity, margin }
}

/// Whether the posterior decides under its rule. In a gallery that is too small for a rehearsal, the similarity thresholds of
/// a model package decide instead. Records from before the rehearsal of the posterior have neither of both rates.
fn is_by_posterior(point: &OperatingPoint) -> bool {
    point.posterior_known.is_some() || point.target_duplicates.is_none()
}

/// Verifies a claimed identity by its similarity, or by the evidence of several modalities. False without a
/// calibration.
pub fn verify(point: &OperatingPoint, claimed: &Candidate) -> bool {
    match &claimed.fused {
        Some(fused) => point.evidence_verify.is_some_and(|least| fused.log_likelihood_ratio >= least),
        None => point.threshold_verify.is_some_and(|threshold| claimed.similarity >= threshold),
    }
}

/// Records from before the rehearsal of the posterior have no thresholds: the bars were 1 - target FPIR and 0.02.
fn decide_by_posterior(
    point: &OperatingPoint,
    posterior: f64,
    (best, runner_up): (Similarity, Option<Similarity>),
) -> (DecisionKind, Option<Reason>) {
    let known = point.posterior_known.unwrap_or(1.0 - point.target_fpir);
    let is_new = point.posterior_new.map_or(posterior <= ENROLLED_SHARE_MAX, |new| posterior < new);
    let is_close = runner_up.is_some_and(|next| best.0 - next.0 < MARGIN_MIN);
    if posterior >= known {
        // The posterior says that the probe is enrolled, but not which of two candidates it is.
        if is_close { (DecisionKind::Uncertain, Some(Reason::SmallMargin)) } else { (DecisionKind::Known, None) }
    } else if is_new {
        (DecisionKind::New, None)
    } else {
        (DecisionKind::Uncertain, Some(Reason::BetweenThresholds))
    }
}

fn decide_by_thresholds(
    point: &OperatingPoint,
    best: Option<Similarity>,
    runner_up: Option<Similarity>,
) -> (DecisionKind, Option<Reason>) {
    let (Some(known), Some(new)) = (point.threshold_known, point.threshold_new) else {
        return (DecisionKind::Uncertain, None);
    };
    match best {
        None => (DecisionKind::New, None),
        Some(best) if best >= known => match runner_up {
            // Both candidates are the person, as far as the threshold can tell: one person enrolled twice, or twins. A
            // human should decide.
            Some(next) if best.0 - next.0 < MARGIN_MIN && next >= known => {
                (DecisionKind::Uncertain, Some(Reason::SmallMargin))
            }
            Some(next) if best.0 - next.0 < MARGIN_MIN => (DecisionKind::Known, Some(Reason::SmallMargin)),
            _ => (DecisionKind::Known, None),
        },
        Some(best) if best < new => (DecisionKind::New, None),
        Some(_) => (DecisionKind::Uncertain, Some(Reason::BetweenThresholds)),
    }
}

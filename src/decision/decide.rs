//! Candidates held against thresholds.

use super::{
    bounds::{ENROLLED_SHARE_MAX, MARGIN_MIN},
    calibration::Terms,
    fusion,
    outcome::Decision,
};
use domain::{Candidate, DecisionKind, OpenSetRule, OperatingPoint, Reason, Similarity};

/// Decides who the probe is. The candidates are those of an untrimmed search, best first; two are enough. `posterior` is
/// what the [`super::Decider`] says, where somebody is enrolled; of a probe of several modalities, what their evidence says.
pub fn decide(terms: &Terms, rule: OpenSetRule, candidates: &[Candidate], posterior: Option<f64>) -> Decision {
    let similarity = candidates.first().map(|c| c.similarity);
    let runner_up = candidates.get(1).map(|c| c.similarity);
    let margin = similarity.zip(runner_up).map(|(best, next)| best.0 - next.0);
    let (kind, reasons) = match similarity {
        // Needs no threshold: there is nobody whom the probe could be.
        None if terms.point.gallery_identities == 0 => (DecisionKind::New, vec![Reason::EmptyGallery]),
        // Several modalities could speak, and nobody is there for any of them to speak of.
        None if terms.point.evidence_known.is_some() => (DecisionKind::New, terms.resolve_reasons.clone()),
        Some(_) if let (true, Some(posterior)) = (candidates[0].fused.is_some(), posterior) => {
            return fusion::decide(terms, candidates, posterior);
        }
        Some(best) if let (OpenSetRule::Posterior, Some(posterior)) = (rule, posterior) => {
            let (kind, own) = judge_by_posterior(&terms.point, posterior, (best, runner_up));
            (kind, [Reason::LearntDecision].into_iter().chain(own).collect())
        }
        best => {
            let (kind, own) = judge(&terms.point, best, runner_up);
            (kind, terms.resolve_reasons.iter().chain(&own).copied().collect())
        }
    };
    Decision { kind, reasons, similarity, margin }
}

/// Whether a claim to be somebody holds, by the claimed identity's most similar template, or by what several modalities say of
/// it. Without a calibration nothing is enough.
pub fn verify(point: &OperatingPoint, claimed: &Candidate) -> bool {
    match &claimed.fused {
        Some(fused) => point.evidence_verify.is_some_and(|least| fused.log_likelihood_ratio >= least),
        None => point.threshold_verify.is_some_and(|threshold| claimed.similarity >= threshold),
    }
}

/// With a calibrated posterior at even odds, of strangers about the share that is left above KNOWN's bar comes back as
/// somebody: the bar is one less the target.
fn judge_by_posterior(
    point: &OperatingPoint,
    posterior: f64,
    (best, runner_up): (Similarity, Option<Similarity>),
) -> (DecisionKind, Option<Reason>) {
    let is_close = runner_up.is_some_and(|next| best.0 - next.0 < MARGIN_MIN);
    if posterior >= 1.0 - point.target_fpir {
        // The posterior says that the probe is enrolled, and nothing of which of two it is.
        if is_close { (DecisionKind::Uncertain, Some(Reason::SmallMargin)) } else { (DecisionKind::Known, None) }
    } else if posterior <= ENROLLED_SHARE_MAX {
        (DecisionKind::New, None)
    } else {
        (DecisionKind::Uncertain, Some(Reason::BetweenThresholds))
    }
}

fn judge(
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
            // Both are the person, as far as the threshold can tell. One person enrolled twice, or twins: a human
            // should look.
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

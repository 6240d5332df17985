//! Sample acceptance: the policy of a collection refuses presentation attacks and samples of low quality before any search
//! or enroll.

use crate::matcher::request::fault::Fault;
use domain::{Encoded, Modality, PadMode, PadVerdict, Policy, Reason, SampleReport};

/// The reasons why the policy refuses samples, sorted; empty when it accepts all. `modalities` and `samples` have one item
/// per sample.
pub(crate) fn refusals(policy: &Policy, modalities: &[Modality], samples: &[SampleReport]) -> Vec<Reason> {
    let each = modalities.iter().zip(samples);
    let mut reasons: Vec<Reason> = each.flat_map(|(modality, report)| of_sample(policy, *modality, report)).collect();
    reasons.sort_unstable();
    reasons.dedup();
    reasons
}

/// # Errors
/// [`Fault::Refused`] with the first refused sample and the reasons.
pub(crate) fn admit(policy: &Policy, samples: &[Encoded]) -> Result<(), Fault> {
    for (at, sample) in samples.iter().enumerate() {
        let modality = sample.embedding.space().modality;
        let reasons: Vec<Reason> = of_sample(policy, modality, &sample.report).collect();
        if !reasons.is_empty() {
            return Err(Fault::Refused { sample: at, reasons });
        }
    }
    Ok(())
}

fn of_sample(policy: &Policy, modality: Modality, report: &SampleReport) -> impl Iterator<Item = Reason> {
    let attack = match (policy.pad.mode, report.pad.verdict) {
        (PadMode::Require, PadVerdict::Attack) => Some(Reason::PadFailed),
        // An embedding, or a face without its photo, was never checked for an attack.
        (PadMode::Require, PadVerdict::NotEvaluated) if modality == Modality::Face => Some(Reason::PadNotEvaluated),
        (PadMode::Require | PadMode::Report | PadMode::Off, _) => None,
    };
    let low_quality = report.quality.map(|quality| policy.quality.failures(&quality)).unwrap_or_default();
    attack.into_iter().chain(low_quality)
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{
        Embedding, EmbeddingSpace, ModelDigest, Pad, PadPolicy, Quality, QualityPolicy, SampleReport, SpaceName,
        TemplateOrigin,
    };

    fn sample(modality: Modality, report: SampleReport) -> Encoded {
        let space = EmbeddingSpace::whole(modality, ModelDigest([1; 32]), 2);
        Encoded {
            embedding: Embedding::new(space, &[1.0, 0.0]).expect("valid"),
            model: SpaceName::new("m").expect("valid"),
            origin: TemplateOrigin::Sample,
            external: false,
            report,
        }
    }

    fn with_pad_score(score: f32) -> SampleReport {
        SampleReport { pad: Pad::of(score, 0.5), ..SampleReport::default() }
    }

    fn policy(mode: PadMode) -> Policy {
        Policy { pad: PadPolicy { mode, score_min: 0.5 }, ..Policy::default() }
    }

    #[test]
    fn attacks_are_refused_where_the_policy_requires_a_bona_fide_sample() {
        let (bona_fide, attack, unseen) = (with_pad_score(0.9), with_pad_score(0.1), SampleReport::default());
        let refused =
            |mode, report: &SampleReport| refusals(&policy(mode), &[Modality::Face], std::slice::from_ref(report));
        assert_eq!(refused(PadMode::Require, &bona_fide), []);
        assert_eq!(refused(PadMode::Require, &attack), [Reason::PadFailed]);
        assert_eq!(refused(PadMode::Require, &unseen), [Reason::PadNotEvaluated]);
        for mode in [PadMode::Off, PadMode::Report] {
            assert!([&bona_fide, &attack, &unseen].iter().all(|report| refused(mode, report).is_empty()));
        }
        let of_gait = refusals(&policy(PadMode::Require), &[Modality::Gait], &[SampleReport::default()]);
        assert_eq!(of_gait, [], "gait has no attack detection");
    }

    #[test]
    fn the_first_sample_of_low_quality_is_named() {
        let quality = |face_px| SampleReport {
            quality: Some(Quality { face_px: Some(face_px), ..Quality::default() }),
            ..SampleReport::default()
        };
        let asks = QualityPolicy { face_px_min: Some(50.0), ..QualityPolicy::default() };
        let policy = Policy { quality: asks, ..Policy::default() };
        let samples = [80.0, 20.0, 10.0].map(|px| sample(Modality::Face, quality(px)));
        let refused = admit(&policy, &samples);
        assert!(
            matches!(refused, Err(Fault::Refused { sample: 1, ref reasons }) if *reasons == [Reason::FaceTooSmall])
        );
        let reports = samples.map(|sample| sample.report);
        assert_eq!(refusals(&policy, &[Modality::Face; 3], &reports), [Reason::FaceTooSmall]);
    }
}

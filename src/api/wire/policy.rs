//! Policies of collections: error rates and requirements of samples.

use std::{num::NonZeroU32, ops::RangeInclusive, time::Duration};

use crate::{api::proto, matcher::Fault};
use domain::{OpenSetRule, PadMode, PadPolicy, Policy, Pooling, QualityPolicy, Reranking, ReviewPolicy, UncertainRule};

/// Far longer than a person wears the same clothes.
const HALF_LIFE_MAX: Duration = Duration::from_hours(24 * 366);

/// A hundred years, longer than anybody is enrolled.
const IDENTITY_TTL_MAX: Duration = Duration::from_hours(24 * 36_525);

/// A policy from a request; absent fields keep the value of `standing`.
pub(in crate::api) fn policy(asked: &proto::Policy, standing: Policy) -> Result<Policy, Fault> {
    Ok(Policy {
        target_fpir: asked.target_fpir.unwrap_or(standing.target_fpir),
        target_fmr: asked.target_fmr.unwrap_or(standing.target_fmr),
        target_duplicates: asked.target_duplicates.unwrap_or(standing.target_duplicates),
        quality: asked.quality.as_ref().map(quality).transpose()?.unwrap_or(standing.quality),
        pad: asked.pad.as_ref().map(pad).transpose()?.unwrap_or(standing.pad),
        pooling: asked.pooling.as_ref().map(pooling).transpose()?.unwrap_or(standing.pooling),
        open_set: open_set(asked.open_set)?.unwrap_or(standing.open_set),
        review: review(asked.review)?.unwrap_or(standing.review),
        person_half_life: half_life(asked.person_half_life_seconds)?.unwrap_or(standing.person_half_life),
        identity_ttl: identity_ttl(asked.identity_ttl_seconds)?.or(standing.identity_ttl),
        reranking: reranking(asked.reranking)?.unwrap_or(standing.reranking),
        review_share: asked.review_share.unwrap_or(standing.review_share),
        uncertain: uncertain(asked.uncertain)?.unwrap_or(standing.uncertain),
        provisional_ttl: provisional_ttl(asked.provisional_ttl_seconds)?.unwrap_or(standing.provisional_ttl),
    })
}

/// The half-life of body templates; none when absent.
pub(in crate::api) fn half_life(seconds: Option<i32>) -> Result<Option<Duration>, Fault> {
    let seconds = seconds.map(i64::from);
    duration("policy.personHalfLifeSeconds", "a half-life", Duration::ZERO..=HALF_LIFE_MAX, seconds)
}

/// The time to live of identities; none when absent or 0.
pub(in crate::api) fn identity_ttl(seconds: Option<i64>) -> Result<Option<Duration>, Fault> {
    let ttl = duration("policy.identityTtlSeconds", "a time to live", Duration::ZERO..=IDENTITY_TTL_MAX, seconds)?;
    Ok(ttl.filter(|ttl| !ttl.is_zero()))
}

/// The time to live of provisional identities; none when absent.
pub(in crate::api) fn provisional_ttl(seconds: Option<i64>) -> Result<Option<Duration>, Fault> {
    let range = Duration::from_secs(1)..=IDENTITY_TTL_MAX;
    duration("policy.provisionalTtlSeconds", "a time to live", range, seconds)
}

/// A duration of a policy in whole seconds; none when absent.
fn duration(
    field: &str,
    noun: &str,
    range: RangeInclusive<Duration>,
    seconds: Option<i64>,
) -> Result<Option<Duration>, Fault> {
    let checked = |seconds| u64::try_from(seconds).ok().map(Duration::from_secs).filter(|given| range.contains(given));
    let problem = || {
        let (least, most) = (range.start().as_secs(), range.end().as_secs());
        Fault::invalid(field, format!("{noun} is {least} to {most} seconds"))
    };
    seconds.map(|seconds| checked(seconds).ok_or_else(problem)).transpose()
}

/// What a resolve keeps of an undecided sighting; none when absent.
pub(in crate::api) fn uncertain(asked: i32) -> Result<Option<UncertainRule>, Fault> {
    use proto::policy::Uncertain;
    match Uncertain::try_from(asked) {
        Ok(Uncertain::Unspecified) => Ok(None),
        Ok(Uncertain::Off) => Ok(Some(UncertainRule::Off)),
        Ok(Uncertain::Provisional) => Ok(Some(UncertainRule::Provisional)),
        Err(_) => Err(Fault::invalid("policy.uncertain", "uncertain is off or provisional")),
    }
}

/// The rule of open-set decisions; none when absent.
pub(in crate::api) fn open_set(asked: i32) -> Result<Option<OpenSetRule>, Fault> {
    use proto::policy::OpenSet;
    match OpenSet::try_from(asked) {
        Ok(OpenSet::Unspecified) => Ok(None),
        Ok(OpenSet::Thresholds) => Ok(Some(OpenSetRule::Thresholds)),
        Ok(OpenSet::Posterior) => Ok(Some(OpenSetRule::Posterior)),
        Err(_) => Err(Fault::invalid("policy.openSet", "openSet is thresholds or posterior")),
    }
}

/// When review cases are opened; none when absent.
pub(in crate::api) fn review(asked: i32) -> Result<Option<ReviewPolicy>, Fault> {
    use proto::policy::Review;
    match Review::try_from(asked) {
        Ok(Review::Unspecified) => Ok(None),
        Ok(Review::Off) => Ok(Some(ReviewPolicy::Off)),
        Ok(Review::Uncertain) => Ok(Some(ReviewPolicy::Uncertain)),
        Ok(Review::SelfPaced) => Ok(Some(ReviewPolicy::SelfPaced)),
        Err(_) => Err(Fault::invalid("policy.review", "review is off, uncertain or self_paced")),
    }
}

/// The ranking of candidates; none when absent.
pub(in crate::api) fn reranking(asked: i32) -> Result<Option<Reranking>, Fault> {
    use proto::policy::Reranking as Wire;
    match Wire::try_from(asked) {
        Ok(Wire::Unspecified) => Ok(None),
        Ok(Wire::Off) => Ok(Some(Reranking::Off)),
        Ok(Wire::Neighbours) => Ok(Some(Reranking::Neighbours)),
        Ok(Wire::KReciprocal) => Ok(Some(Reranking::KReciprocal)),
        Err(_) => Err(Fault::invalid("policy.reranking", "reranking is off, neighbours or k_reciprocal")),
    }
}

pub(in crate::api) fn quality(asked: &proto::QualityPolicy) -> Result<QualityPolicy, Fault> {
    let frames = |frames: i32| u32::try_from(frames).map_err(|e| Fault::invalid("policy.quality.framesMin", e));
    Ok(QualityPolicy {
        score_min: asked.score_min,
        face_px_min: asked.face_px_min,
        height_px_min: asked.height_px_min,
        sharpness_min: asked.sharpness_min,
        noise_max: asked.noise_max,
        brightness_min: asked.brightness_min,
        brightness_max: asked.brightness_max,
        yaw_degrees_max: asked.yaw_degrees_max,
        pitch_degrees_max: asked.pitch_degrees_max,
        detection_score_min: asked.detection_score_min,
        embedding_norm_min: asked.embedding_norm_min,
        frames_min: asked.frames_min.map(frames).transpose()?,
        joints_seen_min: asked.joints_seen_min,
        joint_confidence_min: asked.joint_confidence_min,
        atypicality_max: asked.atypicality_max.or(QualityPolicy::default().atypicality_max),
    })
}

pub(in crate::api) fn pad(asked: &proto::PadPolicy) -> Result<PadPolicy, Fault> {
    use proto::pad_policy::Mode;
    let mode = match Mode::try_from(asked.mode) {
        Ok(Mode::Unspecified | Mode::Off) => PadMode::Off,
        Ok(Mode::Report) => PadMode::Report,
        Ok(Mode::Require) => PadMode::Require,
        Err(_) => return Err(Fault::invalid("policy.pad.mode", "a mode is off, report or require")),
    };
    Ok(PadPolicy { mode, score_min: asked.score_min.unwrap_or(PadPolicy::default().score_min) })
}

/// The default number of templates of `MeanOfBest`.
const BEST: i32 = 3;

pub(in crate::api) fn pooling(asked: &proto::Pooling) -> Result<Pooling, Fault> {
    use proto::pooling::Mode;
    let best = || {
        let best = u32::try_from(asked.best.unwrap_or(BEST)).ok().and_then(NonZeroU32::new);
        let most = Pooling::BEST_MAX;
        best.ok_or_else(|| Fault::invalid("policy.pooling.best", format!("best is a number from 1 to {most}")))
    };
    match Mode::try_from(asked.mode) {
        Ok(Mode::Unspecified | Mode::Best) => Ok(Pooling::Best),
        Ok(Mode::MeanOfBest) => Ok(Pooling::MeanOfBest(best()?)),
        Ok(Mode::ByQuality) => Ok(Pooling::ByQuality),
        Ok(Mode::Prototype) => Ok(Pooling::Prototype),
        Ok(Mode::Centralised) => Ok(Pooling::Centralised),
        Err(_) => {
            let problem = "a mode is best, mean_of_best, by_quality, prototype or centralised";
            Err(Fault::invalid("policy.pooling.mode", problem))
        }
    }
}

pub(super) fn pooling_to_wire(pooling: Pooling) -> proto::Pooling {
    use proto::pooling::Mode;
    let (mode, best) = match pooling {
        Pooling::Best => (Mode::Best, None),
        Pooling::MeanOfBest(best) => (Mode::MeanOfBest, i32::try_from(best.get()).ok()),
        Pooling::ByQuality => (Mode::ByQuality, None),
        Pooling::Prototype => (Mode::Prototype, None),
        Pooling::Centralised => (Mode::Centralised, None),
    };
    proto::Pooling { mode: mode.into(), best }
}

pub(in crate::api) fn to_wire(policy: &Policy) -> proto::Policy {
    use proto::pad_policy::Mode;
    let mode = match policy.pad.mode {
        PadMode::Off => Mode::Off,
        PadMode::Report => Mode::Report,
        PadMode::Require => Mode::Require,
    };
    let asked = &policy.quality;
    proto::Policy {
        target_fpir: Some(policy.target_fpir),
        target_fmr: Some(policy.target_fmr),
        target_duplicates: Some(policy.target_duplicates),
        quality: Some(proto::QualityPolicy {
            score_min: asked.score_min,
            face_px_min: asked.face_px_min,
            height_px_min: asked.height_px_min,
            sharpness_min: asked.sharpness_min,
            noise_max: asked.noise_max,
            brightness_min: asked.brightness_min,
            brightness_max: asked.brightness_max,
            yaw_degrees_max: asked.yaw_degrees_max,
            pitch_degrees_max: asked.pitch_degrees_max,
            detection_score_min: asked.detection_score_min,
            embedding_norm_min: asked.embedding_norm_min,
            frames_min: asked.frames_min.map(|frames| i32::try_from(frames).unwrap_or(i32::MAX)),
            joints_seen_min: asked.joints_seen_min,
            joint_confidence_min: asked.joint_confidence_min,
            atypicality_max: asked.atypicality_max,
        }),
        pad: Some(proto::PadPolicy { mode: mode.into(), score_min: Some(policy.pad.score_min) }),
        pooling: Some(pooling_to_wire(policy.pooling)),
        open_set: match policy.open_set {
            OpenSetRule::Thresholds => proto::policy::OpenSet::Thresholds,
            OpenSetRule::Posterior => proto::policy::OpenSet::Posterior,
        }
        .into(),
        review: match policy.review {
            ReviewPolicy::Off => proto::policy::Review::Off,
            ReviewPolicy::Uncertain => proto::policy::Review::Uncertain,
            ReviewPolicy::SelfPaced => proto::policy::Review::SelfPaced,
        }
        .into(),
        person_half_life_seconds: i32::try_from(policy.person_half_life.as_secs()).ok(),
        reranking: match policy.reranking {
            Reranking::Off => proto::policy::Reranking::Off,
            Reranking::Neighbours => proto::policy::Reranking::Neighbours,
            Reranking::KReciprocal => proto::policy::Reranking::KReciprocal,
        }
        .into(),
        review_share: Some(policy.review_share),
        uncertain: match policy.uncertain {
            UncertainRule::Off => proto::policy::Uncertain::Off,
            UncertainRule::Provisional => proto::policy::Uncertain::Provisional,
        }
        .into(),
        provisional_ttl_seconds: i64::try_from(policy.provisional_ttl.as_secs()).ok(),
        identity_ttl_seconds: policy.identity_ttl.and_then(|ttl| i64::try_from(ttl.as_secs()).ok()),
    }
}

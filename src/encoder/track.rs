//! Pools several frames of one subject into one embedding.
//!
//! Frames of much lower quality than the best are left out; the others are weighted by the square of their quality,
//! because poor frames of different people are more similar to each other than to good frames of the same person. A
//! frame with a much lower mean similarity to the others may show somebody else and gets a small weight.

use super::{Encoding, SampleError};
use domain::{Embedding, Pad, Quality, SampleReport, TrackReport};

/// Minimum quality of a used frame, as a share of the best frame's quality.
const POOR_SHARE: f32 = 0.7;
/// With fewer frames an outlier cannot be identified.
const AGREEMENT_FRAMES_MIN: usize = 4;
/// Allowed distance of a frame's mean similarity below the median, and the rate at which its weight decays beyond that.
const DISAGREEMENT_MAX: f32 = 0.25;
const DISAGREEMENT_SHARPNESS: f32 = 16.0;

/// Pools the usable frames; `dropped` is the number of frames without a usable subject.
///
/// # Errors
/// [`SampleError::NoFrame`] without a frame, [`SampleError::Featureless`] when the mean has no direction.
pub(super) fn pool(
    mut frames: Vec<Encoding>,
    dropped: usize,
    pad_score_min: Option<f32>,
) -> Result<Encoding, SampleError> {
    let best = frames.iter().map(score).fold(0.0, f32::max);
    let all = frames.len() + dropped;
    frames.retain(|frame| score(frame) >= POOR_SHARE * best);
    let embeddings: Vec<&Embedding> = frames.iter().map(|frame| &frame.embedding).collect();
    let agreements = agreements(&embeddings);
    let weights: Vec<f32> = frames.iter().zip(agreements).map(|(frame, agreement)| weight(frame) * agreement).collect();
    let Some(leader) = (0..frames.len()).max_by(|a, b| weights[*a].total_cmp(&weights[*b])) else {
        return Err(SampleError::NoFrame { frames: all });
    };
    let embedding = Embedding::weighted_mean(embeddings.iter().copied().zip(weights.iter().copied()))
        .map_err(|_| SampleError::Featureless)?;
    let apart = |frame: &Encoding| 1.0 - embedding.similarity(&frame.embedding).map_or(0.0, |similarity| similarity.0);
    let spread = frames.iter().map(apart).sum::<f32>() / frames.len() as f32;
    let count = |frames: usize| u32::try_from(frames).unwrap_or(u32::MAX);
    let track = TrackReport {
        frames_used: count(frames.len()),
        frames_dropped: count(all - frames.len()),
        spread: spread.max(0.0),
    };
    let report = SampleReport {
        quality: frames[leader].report.quality.map(|quality| Quality { frames: Some(track.frames_used), ..quality }),
        face: frames[leader].report.face,
        pad: pad(&frames, pad_score_min),
        track: Some(track),
        walk: None,
    };
    Ok(Encoding { embedding, report })
}

fn score(frame: &Encoding) -> f32 {
    frame.report.quality.map_or(0.0, |quality| quality.score)
}

/// Never zero, so that a track of poor frames has a mean.
fn weight(frame: &Encoding) -> f32 {
    score(frame).powi(2).max(1e-6)
}

/// Weight of each frame: 1 for frames that are similar to the others, less for outliers.
fn agreements(embeddings: &[&Embedding]) -> Vec<f32> {
    let count = embeddings.len();
    if count < AGREEMENT_FRAMES_MIN {
        return vec![1.0; count];
    }
    // The mean similarity to all other frames is one product with their sum.
    let mut sum = vec![0.0_f32; embeddings[0].values().len()];
    for embedding in embeddings {
        sum.iter_mut().zip(embedding.values()).for_each(|(total, number)| *total += number);
    }
    let to_others = |embedding: &&Embedding| {
        let to_all: f32 = sum.iter().zip(embedding.values()).map(|(total, number)| total * number).sum();
        (to_all - 1.0) / (count - 1) as f32
    };
    let means: Vec<f32> = embeddings.iter().map(to_others).collect();
    let mut sorted = means.clone();
    sorted.sort_by(f32::total_cmp);
    let expected = sorted[count / 2] - DISAGREEMENT_MAX;
    means.into_iter().map(|mean| (DISAGREEMENT_SHARPNESS * (mean - expected).min(0.0)).exp()).collect()
}

/// The PAD verdict on the mean score of the frames.
fn pad(frames: &[Encoding], score_min: Option<f32>) -> Pad {
    let scores: Vec<f32> = frames.iter().filter_map(|frame| frame.report.pad.score).collect();
    match score_min {
        Some(score_min) if !scores.is_empty() => Pad::of(scores.iter().sum::<f32>() / scores.len() as f32, score_min),
        Some(_) | None => Pad::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{EmbeddingSpace, Modality, ModelDigest, PadVerdict};

    fn frame(values: [f32; 3], score: f32) -> Encoding {
        let space = EmbeddingSpace::whole(Modality::Face, ModelDigest([1; 32]), 3);
        let quality = Some(Quality { score, ..Quality::default() });
        let report = SampleReport { quality, ..SampleReport::default() };
        Encoding { embedding: Embedding::new(space, &values).expect("valid"), report }
    }

    fn towards(encoding: &Encoding, values: [f32; 3]) -> f32 {
        encoding.embedding.similarity(&frame(values, 1.0).embedding).expect("one space").0
    }

    #[test]
    fn frames_are_weighted_by_their_quality() {
        let two = vec![frame([1.0, 0.0, 0.0], 0.9), frame([0.0, 1.0, 0.0], 0.7)];
        let pooled = pool(two, 1, None).expect("two frames");
        assert!(towards(&pooled, [1.0, 0.0, 0.0]) > 1.5 * towards(&pooled, [0.0, 1.0, 0.0]));
        let track = pooled.report.track.expect("a track");
        assert_eq!((track.frames_used, track.frames_dropped), (2, 1));
        assert!(track.spread > 0.1 && track.spread < 1.0, "{track:?}");
    }

    #[test]
    fn a_frame_of_another_person_has_little_weight() {
        let same = [[1.0, 0.1, 0.0], [1.0, -0.1, 0.0], [1.0, 0.0, 0.1]].map(|values| frame(values, 0.8));
        let pooled = pool(same.into_iter().chain([frame([0.0, 0.0, -1.0], 0.8)]).collect(), 0, None).expect("frames");
        assert!(towards(&pooled, [1.0, 0.0, 0.0]) > 0.99, "a plain mean has 0.95");
    }

    #[test]
    fn poor_frames_are_left_out_and_none_at_all_is_an_error() {
        let pooled = pool(vec![frame([1.0, 0.0, 0.0], 0.8), frame([0.0, 1.0, 0.0], 0.1)], 0, None).expect("one frame");
        assert!(towards(&pooled, [1.0, 0.0, 0.0]) > 0.9999);
        assert_eq!(pooled.report.track.map(|track| (track.frames_used, track.frames_dropped)), Some((1, 1)));
        assert!(matches!(pool(Vec::new(), 7, None), Err(SampleError::NoFrame { frames: 7 })));
    }

    #[test]
    fn a_track_of_poor_frames_has_a_mean() {
        let pooled = pool(vec![frame([1.0, 0.0, 0.0], 0.0), frame([1.0, 0.0, 0.0], 0.0)], 0, None).expect("two frames");
        assert!(towards(&pooled, [1.0, 0.0, 0.0]) > 0.9999);
    }

    #[test]
    fn the_pad_verdict_is_of_the_mean_score() {
        let seen = |score| {
            let mut seen = frame([1.0, 0.0, 0.0], 0.8);
            seen.report.pad = Pad::of(score, 0.5);
            seen
        };
        let pad = |scores: [f32; 3]| pool(scores.map(seen).into(), 0, Some(0.5)).expect("frames").report.pad;
        assert_eq!(pad([0.9, 0.4, 0.8]).verdict, PadVerdict::BonaFide);
        assert_eq!(pad([0.1, 0.6, 0.2]).verdict, PadVerdict::Attack);
    }
}

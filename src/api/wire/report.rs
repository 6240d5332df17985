//! Sample reports in responses.

use crate::api::proto;
use domain::{Face, Pad, PadVerdict, PoseLayout, Quality, SampleReport, TrackReport, WalkReport};

pub(in crate::api) fn reports(reports: &[SampleReport]) -> Vec<proto::SampleReport> {
    reports.iter().map(report).collect()
}

pub(in crate::api) fn report(report: &SampleReport) -> proto::SampleReport {
    proto::SampleReport {
        quality: report.quality.as_ref().map(quality),
        face: report.face.as_ref().map(face),
        pad: Some(pad(&report.pad)),
        track: report.track.as_ref().map(track),
        walk: report.walk.as_ref().map(walk),
    }
}

fn quality(quality: &Quality) -> proto::Quality {
    proto::Quality {
        score: quality.score,
        face_px: quality.face_px,
        height_px: quality.height_px,
        aspect: quality.aspect,
        sharpness: quality.sharpness,
        noise: quality.noise,
        brightness: quality.brightness,
        yaw_degrees: quality.yaw_degrees,
        pitch_degrees: quality.pitch_degrees,
        roll_degrees: quality.roll_degrees,
        detection_score: quality.detection_score,
        embedding_norm: quality.embedding_norm,
        frames: quality.frames.map(count),
        joints_seen: quality.joints_seen,
        joint_confidence: quality.joint_confidence,
        atypicality: quality.atypicality,
    }
}

fn face(face: &Face) -> proto::Face {
    let bounds = face.bounds;
    proto::Face {
        r#box: vec![bounds.left, bounds.top, bounds.width, bounds.height],
        landmarks: face.landmarks.0.concat(),
        score: face.score,
    }
}

fn pad(pad: &Pad) -> proto::Pad {
    use proto::pad::Verdict;
    let verdict = match pad.verdict {
        PadVerdict::NotEvaluated => Verdict::NotEvaluated,
        PadVerdict::BonaFide => Verdict::BonaFide,
        PadVerdict::Attack => Verdict::Attack,
    };
    proto::Pad { verdict: verdict.into(), score: pad.score }
}

fn walk(walk: &WalkReport) -> proto::WalkReport {
    proto::WalkReport {
        layout: pose_layout(walk.layout).into(),
        track: walk.track.clone().unwrap_or_default(),
        tracks: count(walk.tracks),
        frames_empty: count(walk.frames_empty),
    }
}

/// A layout of joints as the contract names it.
pub(in crate::api) fn pose_layout(layout: PoseLayout) -> proto::PoseLayout {
    match layout {
        PoseLayout::Coco17 => proto::PoseLayout::Coco17,
        PoseLayout::Openpose18 => proto::PoseLayout::Openpose18,
        PoseLayout::Openpose25 => proto::PoseLayout::Openpose25,
        PoseLayout::Halpe26 => proto::PoseLayout::Halpe26,
        PoseLayout::Halpe136 => proto::PoseLayout::Halpe136,
        PoseLayout::Wholebody133 => proto::PoseLayout::Wholebody133,
        PoseLayout::Mediapipe33 => proto::PoseLayout::Mediapipe33,
        PoseLayout::H36m17 => proto::PoseLayout::H36m17,
        PoseLayout::Named => proto::PoseLayout::Named,
    }
}

pub(in crate::api) fn track(track: &TrackReport) -> proto::TrackReport {
    proto::TrackReport {
        frames_used: count(track.frames_used),
        frames_dropped: count(track.frames_dropped),
        spread: track.spread,
    }
}

fn count(frames: u32) -> i32 {
    i32::try_from(frames).unwrap_or(i32::MAX)
}

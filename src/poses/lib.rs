//! Walks as pose estimators write them: pose files to COCO-17 joints over time.
//!
//! A file is recognised by its form and never guessed. What no form fits is refused with what was found and what to say.
//! The functions are pure and reveal no coordinates in errors.
//!
//! ```text
//! node    JSON, JSON lines, concatenated JSON -> a compact tree
//! form    the tree -> detections: joints of one person in one frame
//! layout  an estimator's joints -> COCO-17
//! person  detections of several people -> the frames of one
//! ```

mod error;
mod form;
mod layout;
mod node;
mod person;
mod score;

pub use self::error::PoseError;
use domain::{Frame, JOINTS, Joint, PoseOptions, Skeleton, WalkReport};
use form::{Detection, Form};

/// The raw numbers of one joint: x, y, score.
type Numbers = [f32; 3];

/// Reads a pose file; `frames_max` bounds the frames of the walk.
///
/// # Errors
///
/// See [`PoseError`].
pub fn read(bytes: &[u8], options: &PoseOptions, frames_max: usize) -> Result<Skeleton, PoseError> {
    let Form { layout, is_normalised, frames_empty, mut detections } = form::read(&node::parse(bytes)?, options)?;
    let scores = score::Scale::of(&detections)?;
    if is_normalised || score::is_normalised(&detections) {
        let (Some(width), Some(height)) = (options.width, options.height) else { return Err(PoseError::Normalised) };
        for [x, y, _] in detections.iter_mut().flat_map(|found| &mut found.joints) {
            (*x, *y) = (*x * width as f32, *y * height as f32);
        }
    }
    let detections: Vec<(Detection, [Joint; JOINTS])> = detections
        .into_iter()
        .map(|found| {
            let joints = layout.coco(&found.joints, |numbers| Joint::as_written(scores.applied(numbers)));
            (found, joints)
        })
        .collect();
    let person::Walker { frames, track, tracks } = person::choose(detections, options.track.as_deref())?;
    if frames.len() > frames_max {
        return Err(PoseError::TooManyFrames { found: frames.len(), limit: frames_max });
    }
    let report = WalkReport { layout: layout.kind(), track, tracks, frames_empty };
    Ok(Skeleton { frames: frames.into_iter().map(|joints| Frame { joints }).collect(), report: Some(report) })
}

#[cfg(test)]
mod tests;

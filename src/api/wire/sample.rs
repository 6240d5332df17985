//! Samples as they come in.

use crate::{
    api::proto,
    domain::{
        Alignment, Frame, Geometry, ImageBytes, JOINTS, Joint, Landmarks, Modality, PixelBox, Sample, SampleContent,
        Skeleton, SpaceName,
    },
    matcher::Fault,
};

/// Numbers of a frame: x, y and score of each joint.
const FRAME_NUMBERS: usize = 3 * JOINTS;

/// What a request says for the samples that do not say it themselves.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) struct Defaults {
    pub modality: i32,
    pub alignment: i32,
}

pub(in crate::api) fn samples(
    field: &str,
    samples: Vec<proto::Sample>,
    defaults: Defaults,
) -> Result<Vec<Sample>, Fault> {
    samples.into_iter().enumerate().map(|(at, s)| sample(&format!("{field}[{at}]"), s, defaults)).collect()
}

fn sample(field: &str, sample: proto::Sample, defaults: Defaults) -> Result<Sample, Fault> {
    use proto::sample::Content;
    let given = if sample.modality == 0 { defaults.modality } else { sample.modality };
    let modality = modality(&format!("{field}.modality"), given)?;
    let alignment = if sample.alignment == 0 { defaults.alignment } else { sample.alignment };
    let Some(content) = sample.content else {
        return Err(Fault::invalid(field, "a sample is an image, a skeleton or an embedding; this one is empty"));
    };
    let content = match content {
        Content::Image(_) if modality == Modality::Gait => {
            return Err(Fault::invalid(field, "a gait sample is a skeleton sequence, not an image"));
        }
        Content::Skeleton(_) if modality != Modality::Gait => {
            return Err(Fault::invalid(field, format!("a {modality} sample is an image, not a skeleton")));
        }
        Content::Image(image) => SampleContent::Image {
            bytes: ImageBytes(image.data),
            geometry: Geometry {
                alignment: self::alignment(&format!("{field}.alignment"), alignment)?,
                landmarks: landmarks(&format!("{field}.landmarks"), &sample.landmarks)?,
                region: region(&format!("{field}.box"), &sample.r#box)?,
            },
        },
        Content::Skeleton(skeleton) => SampleContent::Skeleton(self::skeleton(field, &skeleton)?),
        Content::Embedding(embedding) => SampleContent::Embedding {
            model: SpaceName::new(&embedding.model)
                .map_err(|e| Fault::invalid(format!("{field}.embedding.model"), e))?,
            values: embedding.values,
        },
    };
    Ok(Sample { modality, content })
}

pub(in crate::api) fn modality(field: &str, value: i32) -> Result<Modality, Fault> {
    match proto::Modality::try_from(value) {
        Ok(proto::Modality::Face) => Ok(Modality::Face),
        Ok(proto::Modality::Person) => Ok(Modality::Person),
        Ok(proto::Modality::Gait) => Ok(Modality::Gait),
        Ok(proto::Modality::Unspecified) | Err(_) => {
            Err(Fault::invalid(field, "a modality is needed: face, person or gait"))
        }
    }
}

fn alignment(field: &str, value: i32) -> Result<Option<Alignment>, Fault> {
    match proto::Alignment::try_from(value) {
        Ok(proto::Alignment::Unspecified) => Ok(None),
        Ok(proto::Alignment::Detect) => Ok(Some(Alignment::Detect)),
        Ok(proto::Alignment::Landmarks) => Ok(Some(Alignment::Landmarks)),
        Ok(proto::Alignment::Aligned) => Ok(Some(Alignment::Aligned)),
        Ok(proto::Alignment::LfwFunneled) => Ok(Some(Alignment::LfwFunneled)),
        Err(_) => Err(Fault::invalid(field, "an alignment is detect, landmarks, aligned or lfw_funneled")),
    }
}

fn landmarks(field: &str, numbers: &[f32]) -> Result<Option<Landmarks>, Fault> {
    if numbers.is_empty() {
        return Ok(None);
    }
    let (points, rest) = numbers.as_chunks::<2>();
    match points.try_into() {
        Ok(points) if rest.is_empty() && numbers.iter().all(|n| n.is_finite()) => Ok(Some(Landmarks(points))),
        _ => Err(Fault::invalid(field, "landmarks are five points, x and y in pixels: 10 finite numbers")),
    }
}

fn region(field: &str, numbers: &[f32]) -> Result<Option<PixelBox>, Fault> {
    match *numbers {
        [] => Ok(None),
        [left, top, width, height] if numbers.iter().all(|n| n.is_finite()) && width > 0.0 && height > 0.0 => {
            Ok(Some(PixelBox { left, top, width, height }))
        }
        _ => Err(Fault::invalid(field, "a box is left, top, width and height in pixels: 4 finite numbers")),
    }
}

fn skeleton(field: &str, skeleton: &proto::Skeleton) -> Result<Skeleton, Fault> {
    let frames = skeleton.frames.iter().enumerate().map(|(at, frame)| {
        if frame.keypoints.len() != FRAME_NUMBERS {
            let problem = format!(
                "a frame has {FRAME_NUMBERS} numbers (17 joints of x, y, score), not {}",
                frame.keypoints.len()
            );
            return Err(Fault::invalid(format!("{field}.skeleton.frames[{at}].keypoints"), problem));
        }
        let mut joints = [Joint::default(); JOINTS];
        for (joint, [x, y, score]) in joints.iter_mut().zip(frame.keypoints.as_chunks::<3>().0) {
            *joint = Joint { x: *x, y: *y, score: *score };
        }
        Ok(Frame { joints })
    });
    Ok(Skeleton { frames: frames.collect::<Result<_, _>>()? })
}

//! Samples in requests.

use crate::{api::proto, matcher::Fault};
use domain::{
    Alignment, FaceSelection, Frame, Geometry, ImageBytes, JOINTS, Joint, Landmarks, Modality, Picture, PixelBox,
    PoseFile, PoseLayout, PoseOptions, Prompt, PromptRole, Sample, SampleContent, Skeleton, SpaceName,
};

/// The numbers of a frame: x, y and score of each joint.
const FRAME_NUMBERS: usize = 3 * JOINTS;

/// The longest side of a picture that a pose file belongs to.
const PICTURE_SIDE_MAX: u32 = 100_000;
const TRACK_BYTES_MAX: usize = 128;

/// The fields of a request that hold for its samples without such a field of their own: numbers of the enums in `proto/`, 0
/// where absent.
#[derive(Debug, Clone, Default)]
pub(in crate::api) struct SampleDefaults {
    modality: i32,
    alignment: i32,
    face_selection: i32,
    pose: Option<proto::PoseOptions>,
}

macro_rules! sample_defaults {
    ($($request:ident),* $(,)?) => {$(
        impl From<&proto::$request> for SampleDefaults {
            fn from(request: &proto::$request) -> Self {
                let proto::$request { modality, alignment, face_selection, .. } = *request;
                Self { modality, alignment, face_selection, pose: request.pose.clone() }
            }
        }
    )*};
}

sample_defaults! {
    CompareRequest, CreateCalibrationRequest, EnrollRequest, ExtractRequest, ResolveRequest, SearchRequest, VerifyRequest,
}

pub(in crate::api) fn samples(
    field: &str,
    samples: Vec<proto::Sample>,
    defaults: &SampleDefaults,
) -> Result<Vec<Sample>, Fault> {
    samples.into_iter().enumerate().map(|(at, s)| sample(&format!("{field}[{at}]"), s, defaults)).collect()
}

fn sample(field: &str, sample: proto::Sample, defaults: &SampleDefaults) -> Result<Sample, Fault> {
    use proto::sample::Content;
    let given = if sample.modality == 0 { defaults.modality } else { sample.modality };
    let modality = modality(&format!("{field}.modality"), given)?;
    let or = |own: i32, default: i32| if own == 0 { default } else { own };
    let common = Geometry {
        alignment: alignment(&format!("{field}.alignment"), or(sample.alignment, defaults.alignment))?,
        selection: face_selection(
            &format!("{field}.faceSelection"),
            or(sample.face_selection, defaults.face_selection),
        )?,
        ..Geometry::default()
    };
    let Some(content) = sample.content else {
        let problem = "a sample is an image, a track, a skeleton or an embedding; this one is empty";
        return Err(Fault::invalid(field, problem));
    };
    let content = match content {
        Content::Image(_) if modality == Modality::Gait => {
            let problem = "a gait sample is a skeleton sequence or a track of silhouettes, not one image";
            return Err(Fault::invalid(field, problem));
        }
        Content::Skeleton(_) | Content::Poses(_) if modality != Modality::Gait => {
            return Err(Fault::invalid(field, format!("a {modality} sample is an image, not a skeleton")));
        }
        Content::Image(image) => SampleContent::Image(Picture {
            bytes: ImageBytes(image.data),
            geometry: Geometry {
                landmarks: landmarks(&format!("{field}.landmarks"), &sample.landmarks)?,
                region: region(&format!("{field}.box"), &sample.r#box)?,
                prompts: prompts(&format!("{field}.prompts"), &sample.prompts)?,
                ..common
            },
        }),
        Content::Track(track) => SampleContent::Track(self::track(field, track, &common)?),
        Content::Skeleton(skeleton) => SampleContent::Skeleton(self::skeleton(field, &skeleton)?),
        Content::Poses(file) => {
            let options = file.options.or_else(|| defaults.pose.clone()).unwrap_or_default();
            SampleContent::Poses(PoseFile { bytes: file.data, options: pose_options(field, options)? })
        }
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

fn face_selection(field: &str, value: i32) -> Result<Option<FaceSelection>, Fault> {
    match proto::FaceSelection::try_from(value) {
        Ok(proto::FaceSelection::Unspecified) => Ok(None),
        Ok(proto::FaceSelection::Largest) => Ok(Some(FaceSelection::Largest)),
        Ok(proto::FaceSelection::MostCentral) => Ok(Some(FaceSelection::MostCentral)),
        Ok(proto::FaceSelection::ExactlyOne) => Ok(Some(FaceSelection::ExactlyOne)),
        Err(_) => Err(Fault::invalid(field, "a face selection is largest, most_central or exactly_one")),
    }
}

fn track(field: &str, track: proto::Track, common: &Geometry) -> Result<Vec<Picture>, Fault> {
    let picture = |(at, frame): (usize, proto::track::Frame)| {
        let field = format!("{field}.track.frames[{at}]");
        let image = frame.image.ok_or_else(|| Fault::invalid(format!("{field}.image"), "a frame needs its image"))?;
        let geometry = Geometry {
            landmarks: landmarks(&format!("{field}.landmarks"), &frame.landmarks)?,
            region: region(&format!("{field}.box"), &frame.r#box)?,
            ..common.clone()
        };
        Ok(Picture { bytes: ImageBytes(image.data), geometry })
    };
    track.frames.into_iter().enumerate().map(picture).collect()
}

/// The largest number of keypoint prompts of one picture.
const PROMPTS_MAX: usize = 32;

fn prompts(field: &str, prompts: &[proto::KeypointPrompt]) -> Result<Vec<Prompt>, Fault> {
    if prompts.len() > PROMPTS_MAX {
        return Err(Fault::invalid(field, format!("a picture takes at most {PROMPTS_MAX} prompts")));
    }
    let prompt = |(at, prompt): (usize, &proto::KeypointPrompt)| {
        let (joints, rest) = prompt.keypoints.as_chunks::<3>();
        let is_sound = rest.is_empty() && (1..=JOINTS).contains(&joints.len());
        if !is_sound || prompt.keypoints.iter().any(|number| !number.is_finite()) {
            let problem = format!("a prompt is 1 to {JOINTS} joints of x, y and score: finite numbers");
            return Err(Fault::invalid(format!("{field}[{at}].keypoints"), problem));
        }
        let joints = joints.iter().map(|[x, y, score]| Joint { x: *x, y: *y, score: *score }).collect();
        Ok(Prompt { joints, role: if prompt.negative { PromptRole::Other } else { PromptRole::Subject } })
    };
    prompts.iter().enumerate().map(prompt).collect()
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

fn pose_options(field: &str, options: proto::PoseOptions) -> Result<PoseOptions, Fault> {
    let field = format!("{field}.poses.options");
    let proto::PoseOptions { layout, width, height, track } = options;
    let layout = match proto::PoseLayout::try_from(layout) {
        Ok(proto::PoseLayout::Unspecified) => None,
        Ok(proto::PoseLayout::Named) => {
            let problem = "a file that names its joints needs no layout; leave it out";
            return Err(Fault::invalid(format!("{field}.layout"), problem));
        }
        Ok(layout) => Some(layout_of(layout)),
        Err(_) => return Err(Fault::invalid(format!("{field}.layout"), "there is no such layout of joints")),
    };
    let side = |name: &str, pixels: i32| match u32::try_from(pixels) {
        Ok(0) => Ok(None),
        Ok(pixels) if pixels <= PICTURE_SIDE_MAX => Ok(Some(pixels)),
        _ => Err(Fault::invalid(format!("{field}.{name}"), format!("1 to {PICTURE_SIDE_MAX} pixels are expected"))),
    };
    let (width, height) = (side("width", width)?, side("height", height)?);
    if track.len() > TRACK_BYTES_MAX {
        return Err(Fault::invalid(format!("{field}.track"), format!("a track has at most {TRACK_BYTES_MAX} bytes")));
    }
    Ok(PoseOptions { layout, width, height, track: (!track.is_empty()).then_some(track) })
}

fn layout_of(layout: proto::PoseLayout) -> PoseLayout {
    match layout {
        proto::PoseLayout::Unspecified | proto::PoseLayout::Coco17 => PoseLayout::Coco17,
        proto::PoseLayout::Openpose18 => PoseLayout::Openpose18,
        proto::PoseLayout::Openpose25 => PoseLayout::Openpose25,
        proto::PoseLayout::Halpe26 => PoseLayout::Halpe26,
        proto::PoseLayout::Halpe136 => PoseLayout::Halpe136,
        proto::PoseLayout::Wholebody133 => PoseLayout::Wholebody133,
        proto::PoseLayout::Mediapipe33 => PoseLayout::Mediapipe33,
        proto::PoseLayout::H36m17 => PoseLayout::H36m17,
        proto::PoseLayout::Named => PoseLayout::Named,
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
        let mut joints = [Joint::UNSEEN; JOINTS];
        for (joint, numbers) in joints.iter_mut().zip(frame.keypoints.as_chunks::<3>().0) {
            *joint = Joint::as_written(*numbers);
        }
        Ok(Frame { joints })
    });
    Ok(frames.collect::<Result<Vec<_>, Fault>>()?.into())
}

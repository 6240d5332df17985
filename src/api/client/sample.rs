//! Samples as a client sends them.

use crate::api::{
    proto::{self, sample::Content},
    wire::pose_layout,
};
use domain::{
    Alignment, FaceSelection, Geometry, Joint, Modality, Picture, PoseOptions, PromptRole, Sample, SampleContent,
};

pub(super) fn to_wire(sample: &Sample) -> proto::Sample {
    let mut wire = match &sample.content {
        SampleContent::Image(picture) => {
            let frame = frame(picture);
            let content = frame.image.map(Content::Image);
            let fields = picture_fields(&picture.geometry);
            proto::Sample { content, landmarks: frame.landmarks, r#box: frame.r#box, ..fields }
        }
        SampleContent::Track(pictures) => {
            let fields = pictures.first().map(|first| picture_fields(&first.geometry)).unwrap_or_default();
            let track = proto::Track { frames: pictures.iter().map(frame).collect() };
            proto::Sample { content: Some(Content::Track(track)), prompts: Vec::new(), ..fields }
        }
        SampleContent::Skeleton(skeleton) => {
            let frames = skeleton.frames.iter().map(|f| proto::skeleton::Frame { keypoints: numbers(&f.joints) });
            let content = Content::Skeleton(proto::Skeleton { frames: frames.collect() });
            proto::Sample { content: Some(content), ..proto::Sample::default() }
        }
        SampleContent::Poses(file) => {
            let content = Content::Poses(proto::PoseFile {
                data: file.bytes.clone(),
                options: Some(pose_options(&file.options)),
            });
            proto::Sample { content: Some(content), ..proto::Sample::default() }
        }
        SampleContent::Embedding { model, values } => {
            let embedding = proto::Embedding { model: model.to_string(), values: values.clone() };
            proto::Sample { content: Some(Content::Embedding(embedding)), ..proto::Sample::default() }
        }
    };
    wire.modality = modality(sample.modality);
    wire
}

fn pose_options(options: &PoseOptions) -> proto::PoseOptions {
    let side = |pixels: Option<u32>| pixels.and_then(|pixels| i32::try_from(pixels).ok()).unwrap_or_default();
    proto::PoseOptions {
        layout: options.layout.map_or(proto::PoseLayout::Unspecified, pose_layout).into(),
        width: side(options.width),
        height: side(options.height),
        track: options.track.clone().unwrap_or_default(),
    }
}

pub(super) fn modality(modality: Modality) -> i32 {
    let wire = match modality {
        Modality::Face => proto::Modality::Face,
        Modality::Person => proto::Modality::Person,
        Modality::Gait => proto::Modality::Gait,
    };
    wire.into()
}

fn frame(picture: &Picture) -> proto::track::Frame {
    let Geometry { landmarks, region, .. } = &picture.geometry;
    proto::track::Frame {
        image: Some(proto::Image { data: picture.bytes.0.clone() }),
        landmarks: landmarks.map(|points| points.0.as_flattened().to_vec()).unwrap_or_default(),
        r#box: region.map(|b| vec![b.left, b.top, b.width, b.height]).unwrap_or_default(),
    }
}

/// The fields of a sample that hold for its pictures.
fn picture_fields(geometry: &Geometry) -> proto::Sample {
    let alignment = geometry.alignment.map_or(proto::Alignment::Unspecified, |alignment| match alignment {
        Alignment::Detect => proto::Alignment::Detect,
        Alignment::Landmarks => proto::Alignment::Landmarks,
        Alignment::Aligned => proto::Alignment::Aligned,
        Alignment::LfwFunneled => proto::Alignment::LfwFunneled,
    });
    let selection = geometry.selection.map_or(proto::FaceSelection::Unspecified, |selection| match selection {
        FaceSelection::Largest => proto::FaceSelection::Largest,
        FaceSelection::MostCentral => proto::FaceSelection::MostCentral,
        FaceSelection::ExactlyOne => proto::FaceSelection::ExactlyOne,
    });
    let prompts = geometry.prompts.iter().map(|prompt| proto::KeypointPrompt {
        keypoints: numbers(&prompt.joints),
        negative: prompt.role == PromptRole::Other,
    });
    proto::Sample {
        alignment: alignment.into(),
        face_selection: selection.into(),
        prompts: prompts.collect(),
        ..proto::Sample::default()
    }
}

fn numbers(joints: &[Joint]) -> Vec<f32> {
    joints.iter().flat_map(|joint| [joint.x, joint.y, joint.score]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::{SampleDefaults, samples};
    use domain::{Frame, ImageBytes, JOINTS, Landmarks, PixelBox, Prompt, Skeleton, SpaceName};

    #[test]
    fn a_server_reads_what_a_client_writes() {
        let joint = Joint { x: 1.0, y: 2.0, score: 0.5 };
        let geometry = Geometry {
            alignment: Some(Alignment::Landmarks),
            landmarks: Some(Landmarks([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0], [9.0, 10.0]])),
            region: Some(PixelBox { left: 1.0, top: 2.0, width: 3.0, height: 4.0 }),
            selection: Some(FaceSelection::ExactlyOne),
            prompts: Vec::new(),
        };
        let picture = |geometry: Geometry| Picture { bytes: ImageBytes(vec![1, 2, 3].into()), geometry };
        let prompts = vec![Prompt { joints: vec![joint; 3], role: PromptRole::Other }];
        let of_a_crop = Geometry { prompts, ..Geometry::default() };
        let skeleton = Skeleton::from(vec![Frame { joints: [joint; JOINTS] }]);
        let model = SpaceName::new("mine").expect("a name");
        let sent = [
            (Modality::Face, SampleContent::Image(picture(geometry.clone()))),
            (Modality::Person, SampleContent::Image(picture(of_a_crop))),
            (Modality::Gait, SampleContent::Track(vec![picture(geometry); 2])),
            (Modality::Gait, SampleContent::Skeleton(skeleton)),
            (Modality::Person, SampleContent::Embedding { model, values: vec![0.5, -0.5] }),
        ]
        .map(|(modality, content)| Sample { modality, content });
        let read = samples("samples", sent.iter().map(to_wire).collect(), &SampleDefaults::default());
        assert_eq!(read.expect("all are read"), sent);
    }
}

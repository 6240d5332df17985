//! Models that run on faces before encoding: detection, and presentation attack detection (PAD).

use std::{fmt, thread::JoinHandle};

use image::RgbImage;

use super::{
    DetectionSettings, EncoderError, SampleError,
    prepare::Photo,
    service::{Service, ServingOptions},
    worker::InferenceModel,
};
use domain::{Face, FaceSelection, SpaceName};
use torch::{
    detector::{Detection, DetectorOptions, Mtcnn, Pixels},
    network::NetworkError,
    pad::Liveness,
};
use weights::StateDict;

/// Detects faces: a photo goes in, all faces come out.
pub(super) type FaceDetector = Service<DetectorImage, Vec<Detection>>;
/// Scores faces: two crops of a face go in, the bona fide score (0 to 1) comes out.
pub(super) type PadService = Service<[Vec<f32>; 2], f32>;

/// A picture for face detection. Its `Debug` form shows only its size.
pub(super) struct DetectorImage(pub(super) RgbImage);

impl fmt::Debug for DetectorImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.dimensions())
    }
}

impl From<&DetectionSettings> for DetectorOptions {
    fn from(stated: &DetectionSettings) -> Self {
        Self {
            face_px_min: stated.face_px_min as f32,
            thresholds: stated.thresholds,
            pyramid_factor: stated.pyramid_factor,
            ..Self::default()
        }
    }
}

struct MtcnnModel(Mtcnn);

impl InferenceModel for MtcnnModel {
    type Input = DetectorImage;
    type Output = Vec<Detection>;

    fn infer(&mut self, inputs: &[&DetectorImage]) -> Result<Vec<Vec<Detection>>, NetworkError> {
        let pixels = |input: &&DetectorImage| input.0.dimensions();
        let pictures: Vec<Pixels<'_>> = inputs
            .iter()
            .map(|input| {
                let (width, height) = pixels(input);
                Pixels { width, height, rgb: input.0.as_raw() }
            })
            .collect();
        self.0.detect(&pictures)
    }
}

struct PadModel(Liveness);

impl InferenceModel for PadModel {
    type Input = [Vec<f32>; 2];
    type Output = f32;

    fn infer(&mut self, inputs: &[&[Vec<f32>; 2]]) -> Result<Vec<f32>, NetworkError> {
        let crops: Vec<[&[f32]; 2]> = inputs.iter().map(|[near, wide]| [near.as_slice(), wide.as_slice()]).collect();
        self.0.forward(&crops)
    }
}

pub(super) fn start_face_detector(
    name: &SpaceName,
    weights: &StateDict,
    options: DetectorOptions,
    served: ServingOptions,
    threads: &mut Vec<JoinHandle<()>>,
) -> Result<FaceDetector, EncoderError> {
    let weights = weights.clone();
    let build = move || Mtcnn::build(weights.clone(), options).map(MtcnnModel);
    Service::start(name, served, build, threads)
}

pub(super) fn start_pad_service(
    name: &SpaceName,
    weights: &StateDict,
    served: ServingOptions,
    threads: &mut Vec<JoinHandle<()>>,
) -> Result<PadService, EncoderError> {
    let weights = weights.clone();
    let build = move || Liveness::build(weights.clone()).map(PadModel);
    Service::start(name, served, build, threads)
}

/// The faces of a photo that its border does not cut.
///
/// # Errors
///
/// [`SampleError::NoFace`] or [`SampleError::FaceCut`] when none is left.
pub(super) fn encodable(photo: &Photo, found: &[Detection]) -> Result<Vec<Face>, SampleError> {
    let faces: Vec<Face> = found.iter().map(|found| photo.face(found)).collect();
    let shown: Vec<Face> = faces.iter().copied().filter(|face| photo.shows(face)).collect();
    match (shown.is_empty(), faces.is_empty()) {
        (false, _) => Ok(shown),
        (true, true) => Err(SampleError::NoFace),
        (true, false) => Err(SampleError::FaceCut),
    }
}

/// The selected face; `centre` is the picture's, (x, y) in pixels.
///
/// # Errors
/// [`SampleError::AmbiguousFace`] when exactly one was requested and there are several, [`SampleError::NoFace`] when
/// there is none.
pub(super) fn choose(faces: &[Face], selection: FaceSelection, centre: [f32; 2]) -> Result<Face, SampleError> {
    let off_centre = |face: &Face| {
        let [x, y] = face.centre();
        (x - centre[0]).hypot(y - centre[1])
    };
    let chosen = match selection {
        FaceSelection::Largest => faces.iter().max_by(|a, b| a.area().total_cmp(&b.area())),
        FaceSelection::MostCentral => faces.iter().min_by(|a, b| off_centre(a).total_cmp(&off_centre(b))),
        FaceSelection::ExactlyOne if faces.len() > 1 => return Err(SampleError::AmbiguousFace { found: faces.len() }),
        FaceSelection::ExactlyOne => faces.first(),
    };
    chosen.copied().ok_or(SampleError::NoFace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{Landmarks, PixelBox};

    fn face(left: f32, side: f32) -> Face {
        let bounds = PixelBox { left, top: 40.0, width: side, height: side };
        Face { bounds, landmarks: Landmarks([[left, 40.0]; 5]), score: 0.9 }
    }

    #[test]
    fn the_selected_face_is_chosen() {
        let faces = [face(0.0, 30.0), face(80.0, 20.0), face(150.0, 45.0)];
        let chosen = |selection| choose(&faces, selection, [90.0, 50.0]);
        assert_eq!(chosen(FaceSelection::Largest).expect("one"), faces[2]);
        assert_eq!(chosen(FaceSelection::MostCentral).expect("one"), faces[1]);
        assert!(matches!(chosen(FaceSelection::ExactlyOne), Err(SampleError::AmbiguousFace { found: 3 })));
        assert_eq!(choose(&faces[..1], FaceSelection::ExactlyOne, [0.0; 2]).expect("one"), faces[0]);
        assert!(matches!(choose(&[], FaceSelection::Largest, [0.0; 2]), Err(SampleError::NoFace)));
    }
}

//! Face detection: pictures in, boxes with five landmarks out, by MTCNN (Zhang, Zhang, Li, Qiao 2016).
//!
//! A small network scans an image pyramid and proposes boxes; two larger networks refine them, and the last one
//! estimates landmarks. Time and memory are bounded at every stage for any picture. This module never decodes a picture
//! and never selects a face: it returns all faces.

mod boxes;
mod proposal;
mod pyramid;

use tch::{TchError, Tensor};

use self::{
    boxes::{BoxCandidate, OverlapMeasure, Region, suppress},
    pyramid::Pyramid,
};
use super::{
    conversion,
    network::{
        NetworkError,
        mtcnn::{LandmarkNet, Nets, ProposalNet, RefinementNet},
    },
};
use weights::StateDict;

/// Crops per forward pass: the activations fit a core's cache.
const CROPS_MAX: usize = 16;
/// Maximum intersection over union after the first and the second network.
const UNION_OVERLAP_MAX: f32 = 0.7;
/// Maximum intersection over the smaller of two faces.
const FACE_OVERLAP_MAX: f32 = 0.7;

/// A picture for the detector: interleaved 8-bit RGB, row-major, `width * height * 3` bytes.
#[derive(Clone, Copy)]
pub struct Pixels<'a> {
    pub width: u32,
    pub height: u32,
    pub rgb: &'a [u8],
}

/// Detector settings and limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DetectorOptions {
    /// Side of the smallest face in pixels, at least 12. The time is inversely proportional to its square.
    pub face_px_min: f32,
    /// Minimum scores of the three networks, 0 to 1.
    pub thresholds: [f32; 3],
    /// Scale of each pyramid level relative to the previous one.
    pub pyramid_factor: f32,
    /// Maximum boxes per picture for the second and the third network.
    pub candidates_max: usize,
    /// Maximum faces per picture.
    pub faces_max: usize,
}

impl Default for DetectorOptions {
    /// The published thresholds and factor; the smallest face that can be recognised.
    fn default() -> Self {
        Self {
            face_px_min: 24.0,
            thresholds: [0.6, 0.7, 0.7],
            pyramid_factor: 0.709,
            candidates_max: 1024,
            faces_max: 256,
        }
    }
}

/// A detected face.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Left, top, width, height in pixels, where pixel 0 covers 0 to 1. The box of a face at the border may exceed the
    /// picture.
    pub bounds: [f32; 4],
    /// Left eye, right eye, nose, left and right mouth corner as seen by the viewer; (x, y) in pixels, integer
    /// coordinates are pixel centres.
    pub landmarks: [[f32; 2]; 5],
    /// Score of the last network, 0 to 1.
    pub score: f32,
}

/// The detector with its weights.
#[derive(Debug)]
pub struct Mtcnn {
    nets: Nets,
    options: DetectorOptions,
}

impl Mtcnn {
    /// Builds the detector from the published weights of its three networks with the prefixes `pnet.`, `rnet.` and
    /// `onet.`.
    ///
    /// # Errors
    ///
    /// See [`NetworkError`].
    pub fn build(weights: StateDict, options: DetectorOptions) -> Result<Self, NetworkError> {
        let _inference = super::runtime::prepare_thread();
        options.check()?;
        Ok(Self { nets: Nets::build(weights)?, options })
    }

    pub fn options(&self) -> &DetectorOptions {
        &self.options
    }

    /// Detects the faces of each picture, sorted by falling score. Pictures of one size are processed together.
    ///
    /// # Errors
    ///
    /// [`NetworkError::WrongInput`] when the bytes do not match the size, or an error of libtorch.
    pub fn detect(&self, pictures: &[Pixels<'_>]) -> Result<Vec<Vec<Detection>>, NetworkError> {
        pictures.iter().try_for_each(Pixels::check)?;
        let _gradients_off = tch::no_grad_guard();
        let pyramids: Vec<Pyramid<'_>> =
            pictures.iter().map(|picture| Pyramid::new(picture, ProposalNet::WINDOW)).collect();
        let proposed = proposal::propose(&self.nets.proposal, &self.options, &pyramids)?;
        let refined = self.refine(&pyramids, &proposed)?;
        self.find(&pyramids, &refined)
    }

    /// The boxes that pass the second network, as squares.
    fn refine(&self, pyramids: &[Pyramid<'_>], boxes: &[Vec<Region>]) -> Result<Vec<Vec<Region>>, NetworkError> {
        let net = |input: &Tensor| self.nets.refinement.forward(input);
        let scored = score_boxes(net, pyramids, boxes, RefinementNet::SIDE)?;
        let refined = pyramids.iter().zip(scored).map(|(pyramid, scored)| {
            let outputs = scored.into_iter().map(|(region, outputs): (Region, [f32; RefinementNet::OUTPUTS])| {
                let [logit, shifts @ ..] = outputs;
                BoxCandidate { region, score: sigmoid(logit), outputs: shifts }
            });
            let faces = outputs.filter(|candidate| candidate.score >= self.options.thresholds[1]).collect();
            let apart = suppress(faces, OverlapMeasure::Union, UNION_OVERLAP_MAX, self.options.candidates_max);
            let squares = apart.into_iter().map(|candidate| candidate.region.shifted(candidate.outputs).squared());
            squares.filter(|region| region.is_within_reason(pyramid.sides())).collect()
        });
        Ok(refined.collect())
    }

    /// The faces that pass the third network.
    fn find(&self, pyramids: &[Pyramid<'_>], boxes: &[Vec<Region>]) -> Result<Vec<Vec<Detection>>, NetworkError> {
        let net = |input: &Tensor| self.nets.landmark.forward(input);
        let scored = score_boxes(net, pyramids, boxes, LandmarkNet::SIDE)?;
        let found = pyramids.iter().zip(scored).map(|(pyramid, scored)| {
            let faces = scored.into_iter().filter_map(|(region, outputs): (Region, [f32; LandmarkNet::OUTPUTS])| {
                let face = face(&region, &outputs);
                let sound = face.score >= self.options.thresholds[2]
                    && face.region.is_within_reason(pyramid.sides())
                    && face.outputs.iter().flatten().all(|number| number.is_finite());
                sound.then_some(face)
            });
            let apart = suppress(faces.collect(), OverlapMeasure::Smaller, FACE_OVERLAP_MAX, self.options.faces_max);
            apart.into_iter().map(Detection::from).collect()
        });
        Ok(found.collect())
    }
}

/// Converts the third network's output for a crop.
fn face(region: &Region, outputs: &[f32; LandmarkNet::OUTPUTS]) -> BoxCandidate<[[f32; 2]; 5]> {
    let [logit, left, top, right, bottom, places @ ..] = *outputs;
    let place = |at: usize| [region.left + places[at] * region.width(), region.top + places[at + 5] * region.height()];
    BoxCandidate {
        region: region.shifted([left, top, right, bottom]),
        score: sigmoid(logit),
        outputs: std::array::from_fn(place),
    }
}

impl From<BoxCandidate<[[f32; 2]; 5]>> for Detection {
    fn from(face: BoxCandidate<[[f32; 2]; 5]>) -> Self {
        let region = face.region;
        let bounds = [region.left, region.top, region.width(), region.height()];
        Self { bounds, landmarks: face.outputs, score: face.score }
    }
}

/// The boxes of a picture with the network's outputs.
type ScoredBoxes<const N: usize> = Vec<(Region, [f32; N])>;

/// Runs a network on each box of each picture, in order.
fn score_boxes<const N: usize>(
    net: impl Fn(&Tensor) -> Result<Tensor, TchError>,
    pyramids: &[Pyramid<'_>],
    boxes: &[Vec<Region>],
    side: usize,
) -> Result<Vec<ScoredBoxes<N>>, NetworkError> {
    let mut scored: Vec<ScoredBoxes<N>> = pyramids.iter().map(|_| Vec::new()).collect();
    let crops: Vec<(usize, Region)> =
        boxes.iter().enumerate().flat_map(|(at, boxes)| boxes.iter().map(move |region| (at, *region))).collect();
    let mut pixels = Vec::new();
    for crops in crops.chunks(CROPS_MAX) {
        pixels.clear();
        for (at, region) in crops {
            pyramids[*at].read(region, [side, side], 0..side, &mut pixels);
        }
        let outputs = conversion::numbers(&net(&input(&pixels, [crops.len(), side, side])?)?)?;
        for ((at, region), outputs) in crops.iter().zip(outputs.as_chunks::<N>().0) {
            scored[*at].push((*region, *outputs));
        }
    }
    Ok(scored)
}

/// Network input: `[batch, 3, height, width]`, channels last in memory.
fn input(pixels: &[f32], [batch, height, width]: [usize; 3]) -> Result<Tensor, TchError> {
    conversion::tensor(pixels, [batch, height, width, 3])?.f_permute([0, 3, 1, 2])
}

fn sigmoid(number: f32) -> f32 {
    1.0 / (1.0 + (-number).exp())
}

impl DetectorOptions {
    fn check(&self) -> Result<(), NetworkError> {
        let refuse = |why| Err(NetworkError::BadOptions(why));
        if !(self.face_px_min.is_finite() && self.face_px_min >= ProposalNet::WINDOW as f32) {
            return refuse("face_px_min must be 12 or more");
        }
        if !self.thresholds.iter().all(|threshold| (0.0..=1.0).contains(threshold)) {
            return refuse("thresholds must be 0 to 1");
        }
        if !(0.2..=0.9).contains(&self.pyramid_factor) {
            return refuse("pyramid_factor must be 0.2 to 0.9");
        }
        if self.candidates_max == 0 || self.faces_max == 0 {
            return refuse("candidates_max and faces_max must be 1 or more");
        }
        Ok(())
    }
}

impl Pixels<'_> {
    fn check(&self) -> Result<(), NetworkError> {
        let expected = (self.width as usize).saturating_mul(self.height as usize).saturating_mul(3);
        if self.rgb.len() == expected {
            Ok(())
        } else {
            Err(NetworkError::WrongInput { expected, found: self.rgb.len() })
        }
    }
}

impl std::fmt::Debug for Pixels<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} x {} pixels", self.width, self.height)
    }
}

#[cfg(test)]
mod tests;

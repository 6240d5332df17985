//! Face detection: pictures in, boxes with five landmarks out, by MTCNN (Zhang, Zhang, Li, Qiao 2016).
//!
//! A small net goes over the picture in many sizes and proposes boxes; two larger ones look closer at what is left, and
//! the last finds the landmarks. Time and memory are bounded at every stage, whatever the picture shows. This module
//! never decodes a picture and never chooses among the faces: it tells them all.

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

/// Crops that a net takes at once: what its layers hold for these stays in a core's cache.
const CROPS_MAX: usize = 16;
/// What two boxes may share as a part of all that they cover, behind the first and the second net.
const UNION_OVERLAP_MAX: f32 = 0.7;
/// What two faces may share as a part of the smaller one.
const FACE_OVERLAP_MAX: f32 = 0.7;

/// A picture as the detector takes it: interleaved 8-bit RGB, row-major, `width * height * 3` bytes.
#[derive(Clone, Copy)]
pub struct Pixels<'a> {
    pub width: u32,
    pub height: u32,
    pub rgb: &'a [u8],
}

/// What is looked for, and how far the search may go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DetectorOptions {
    /// The smallest face that is looked for: the side of its box, 12 pixels or more. Time falls with its square.
    pub face_px_min: f32,
    /// What the three nets must say of a box, each from 0 to 1.
    pub thresholds: [f32; 3],
    /// The next size of the picture as a part of the one before.
    pub pyramid_factor: f32,
    /// The most boxes of one picture that the second and the third net look at.
    pub candidates_max: usize,
    /// The most faces that are told of one picture.
    pub faces_max: usize,
}

impl Default for DetectorOptions {
    /// The thresholds and the factor of the published detector; faces that are just large enough to tell people apart.
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

/// A face.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Left, top, width, height in pixels, where pixel 0 reaches from 0 to 1. A face that the border cuts has a box
    /// that hangs over it.
    pub bounds: [f32; 4],
    /// Left eye, right eye, nose, left and right corner of the mouth, as the viewer sees them; (x, y) in pixels, whole
    /// coordinates are the centres of pixels.
    pub landmarks: [[f32; 2]; 5],
    /// What the last net says, from 0 to 1.
    pub score: f32,
}

/// The detector with its weights.
#[derive(Debug)]
pub struct Mtcnn {
    nets: Nets,
    options: DetectorOptions,
}

impl Mtcnn {
    /// Builds the detector from the weights of its three nets as they were published, their names behind `pnet.`,
    /// `rnet.` and `onet.`.
    pub fn build(weights: StateDict, options: DetectorOptions) -> Result<Self, NetworkError> {
        let _inference = super::runtime::prepare_thread();
        options.check()?;
        Ok(Self { nets: Nets::build(weights)?, options })
    }

    pub fn options(&self) -> &DetectorOptions {
        &self.options
    }

    /// The faces of each picture, best score first. Pictures of one size are gone through together.
    pub fn detect(&self, pictures: &[Pixels<'_>]) -> Result<Vec<Vec<Detection>>, NetworkError> {
        pictures.iter().try_for_each(Pixels::check)?;
        let _gradients_off = tch::no_grad_guard();
        let pyramids: Vec<Pyramid<'_>> =
            pictures.iter().map(|picture| Pyramid::new(picture, ProposalNet::WINDOW)).collect();
        let proposed = proposal::propose(&self.nets.proposal, &self.options, &pyramids)?;
        let refined = self.refine(&pyramids, &proposed)?;
        self.find(&pyramids, &refined)
    }

    /// What the second net leaves of the first one's boxes, as squares.
    fn refine(&self, pyramids: &[Pyramid<'_>], boxes: &[Vec<Region>]) -> Result<Vec<Vec<Region>>, NetworkError> {
        let net = |input: &Tensor| self.nets.refinement.forward(input);
        let judged = score_boxes(net, pyramids, boxes, RefinementNet::SIDE)?;
        let refined = pyramids.iter().zip(judged).map(|(pyramid, judged)| {
            let said = judged.into_iter().map(|(region, said): (Region, [f32; RefinementNet::OUTPUTS])| {
                let [looks, shifts @ ..] = said;
                BoxCandidate { region, score: sigmoid(looks), said: shifts }
            });
            let faces = said.filter(|candidate| candidate.score >= self.options.thresholds[1]).collect();
            let apart = suppress(faces, OverlapMeasure::Union, UNION_OVERLAP_MAX, self.options.candidates_max);
            let squares = apart.into_iter().map(|candidate| candidate.region.shifted(candidate.said).squared());
            squares.filter(|region| region.is_within_reason(pyramid.sides())).collect()
        });
        Ok(refined.collect())
    }

    /// The faces that the third net sees in the second one's boxes.
    fn find(&self, pyramids: &[Pyramid<'_>], boxes: &[Vec<Region>]) -> Result<Vec<Vec<Detection>>, NetworkError> {
        let net = |input: &Tensor| self.nets.landmark.forward(input);
        let judged = score_boxes(net, pyramids, boxes, LandmarkNet::SIDE)?;
        let found = pyramids.iter().zip(judged).map(|(pyramid, judged)| {
            let faces = judged.into_iter().filter_map(|(region, said): (Region, [f32; LandmarkNet::OUTPUTS])| {
                let face = face(&region, &said);
                let sound = face.score >= self.options.thresholds[2]
                    && face.region.is_within_reason(pyramid.sides())
                    && face.said.iter().flatten().all(|number| number.is_finite());
                sound.then_some(face)
            });
            let apart = suppress(faces.collect(), OverlapMeasure::Smaller, FACE_OVERLAP_MAX, self.options.faces_max);
            apart.into_iter().map(Detection::from).collect()
        });
        Ok(found.collect())
    }
}

/// Reads the third net's answer for a crop.
fn face(region: &Region, said: &[f32; LandmarkNet::OUTPUTS]) -> BoxCandidate<[[f32; 2]; 5]> {
    let [looks, left, top, right, bottom, places @ ..] = *said;
    let place = |at: usize| [region.left + places[at] * region.width(), region.top + places[at + 5] * region.height()];
    BoxCandidate {
        region: region.shifted([left, top, right, bottom]),
        score: sigmoid(looks),
        said: std::array::from_fn(place),
    }
}

impl From<BoxCandidate<[[f32; 2]; 5]>> for Detection {
    fn from(face: BoxCandidate<[[f32; 2]; 5]>) -> Self {
        let region = face.region;
        let bounds = [region.left, region.top, region.width(), region.height()];
        Self { bounds, landmarks: face.said, score: face.score }
    }
}

/// The boxes of a picture, each with the numbers that a net says of it.
type ScoredBoxes<const N: usize> = Vec<(Region, [f32; N])>;

/// What a net says of each box of each picture, in the order of the boxes.
fn score_boxes<const N: usize>(
    net: impl Fn(&Tensor) -> Result<Tensor, TchError>,
    pyramids: &[Pyramid<'_>],
    boxes: &[Vec<Region>],
    side: usize,
) -> Result<Vec<ScoredBoxes<N>>, NetworkError> {
    let mut judged: Vec<ScoredBoxes<N>> = pyramids.iter().map(|_| Vec::new()).collect();
    let crops: Vec<(usize, Region)> =
        boxes.iter().enumerate().flat_map(|(at, boxes)| boxes.iter().map(move |region| (at, *region))).collect();
    let mut pixels = Vec::new();
    for crops in crops.chunks(CROPS_MAX) {
        pixels.clear();
        for (at, region) in crops {
            pyramids[*at].read(region, [side, side], 0..side, &mut pixels);
        }
        let said = conversion::numbers(&net(&input(&pixels, [crops.len(), side, side])?)?)?;
        for ((at, region), said) in crops.iter().zip(said.as_chunks::<N>().0) {
            judged[*at].push((*region, *said));
        }
    }
    Ok(judged)
}

/// Pixels as a net takes them: `[batch, 3, height, width]`, in memory as they were written, channels last.
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

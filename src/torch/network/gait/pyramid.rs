//! A pyramid of transformers over skeletons, after the published description of GaitPT (Catruna, Cosma, Radoi 2024):
//! walks of 60 frames of 17 joints. Attention runs over the joints of a frame and over the frames of a joint; from
//! stage to stage joints are merged into limbs, limbs into head, arms and legs, and those into the whole body.
//!
//! It is written from the description and has its own tensor names: weights published for GaitPT do not load. It has 4
//! 499 904 trained parameters:
//!
//! - `stages.S.embed`: a fully connected layer that merges a group of joints, `[width, group * width before]`;
//! - `stages.S.joints` `[joints, width]` (not in the last stage, which has one joint), `stages.S.frames` `[61, width]`:
//!   positional embeddings of joints and of frames;
//! - `stages.S.summary` `[joints, width]`: the summary token of each joint, before the frames;
//! - `stages.S.space` (not in the last stage) and `stages.S.time`: encoders of three layers;
//! - `features`: a fully connected layer from all 1600 summary values to the output.

use tch::{TchError, Tensor};

use super::transformer::Encoder;
use crate::network::{
    NetworkError,
    layers::{Layer, Linear, side, tensor},
    parameters::Parameters,
};

/// `[frames, joints in COCO order, (x, y, score)]`; the score is ignored.
pub(in crate::network) const INPUT: [usize; 3] = [FRAMES, 17, 3];
pub(in crate::network) const DIMENSION: usize = 256;

const FRAMES: usize = 60;
/// Scales pixels to values of about one.
const PIXELS: f64 = 320.0;
/// The joints in COCO order, grouped: each three are one limb, each six are the head, the arms or the legs. The nose
/// occurs twice, to make groups equal.
const ORDER: [i64; 18] = [0, 1, 3, 0, 2, 4, 5, 7, 9, 6, 8, 10, 11, 13, 15, 12, 14, 16];
const LAYERS: usize = 3;

/// `group` joints of the previous stage, or coordinates of the input's joints, become one.
struct Shape {
    joints: usize,
    group: usize,
    width: usize,
}

const STAGES: [Shape; 4] = [
    Shape { joints: 18, group: 1, width: 32 },
    Shape { joints: 6, group: 3, width: 64 },
    Shape { joints: 3, group: 2, width: 128 },
    Shape { joints: 1, group: 3, width: 256 },
];
/// x and y.
const COORDINATES: usize = 2;

#[derive(Debug)]
pub(in crate::network) struct Pyramid {
    order: Tensor,
    stages: Vec<Stage>,
    features: Linear,
}

impl Pyramid {
    pub(in crate::network) fn new(parameters: &mut Parameters<'_>) -> Result<Self, NetworkError> {
        let mut stages = Vec::new();
        let mut width = COORDINATES;
        for (number, shape) in STAGES.iter().enumerate() {
            stages.push(Stage::new(parameters, &format!("stages.{number}"), shape, width)?);
            width = shape.width;
        }
        let summaries = STAGES.iter().map(|shape| shape.joints * shape.width).sum();
        let features = Linear::plain(parameters, "features", [summaries, DIMENSION])?;
        Ok(Self { order: Tensor::f_from_slice(&ORDER)?, stages, features })
    }
}

impl Layer for Pyramid {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let places = input.f_narrow(3, 0, side(COORDINATES))?.f_index_select(2, &self.order)?;
        let mut walk = places.f_div_scalar(PIXELS)?;
        let mut summaries = Vec::new();
        for stage in &self.stages {
            let (summary, frames) = stage.forward(&walk)?;
            summaries.push(summary);
            walk = frames;
        }
        self.features.forward(&Tensor::f_cat(&summaries, 1)?)
    }
}

#[derive(Debug)]
struct Stage {
    joints: i64,
    embed: Linear,
    /// Positional embedding of joints and attention over joints; `None` for a single joint.
    space: Option<(Tensor, Encoder)>,
    frame_places: Tensor,
    summary: Tensor,
    time: Encoder,
}

impl Stage {
    fn new(
        parameters: &mut Parameters<'_>,
        key: &str,
        &Shape { joints, group, width }: &Shape,
        width_before: usize,
    ) -> Result<Self, NetworkError> {
        let name = |part: &str| format!("{key}.{part}");
        let mut rows = |part: &str, rows: usize| -> Result<Tensor, NetworkError> {
            tensor(&parameters.take(&name(part), &[rows, width])?, &[rows, width])
        };
        let joint_places = (joints > 1).then(|| rows("joints", joints)).transpose()?;
        let frame_places = rows("frames", FRAMES + 1)?;
        let summary = rows("summary", joints)?.f_reshape([1, side(joints), 1, side(width)])?;
        let mut encoder = |part: &str| Encoder::new(parameters, &name(part), LAYERS, width);
        let space = joint_places.map(|places| encoder("space").map(|encoder| (places, encoder))).transpose()?;
        Ok(Self {
            joints: side(joints),
            space,
            frame_places,
            summary,
            time: encoder("time")?,
            embed: Linear::plain(parameters, &name("embed"), [group * width_before, width])?,
        })
    }

    /// From a walk `[batch, frames, joints before, width before]`: the summaries of all joints, `[batch, joints *
    /// width]`, and the input of the next stage, `[batch, frames, joints, width]`.
    fn forward(&self, walk: &Tensor) -> Result<(Tensor, Tensor), TchError> {
        let (batch, frames, _, _) = walk.size4()?;
        let mut walk = self.embed.forward(&walk.f_reshape([batch, frames, self.joints, -1])?)?;
        let width = walk.size4()?.3;
        if let Some((joint_places, space)) = &self.space {
            let poses = walk.f_add(joint_places)?.f_reshape([batch * frames, self.joints, width])?;
            walk = walk.f_add_(&space.forward(&poses)?.f_reshape([batch, frames, self.joints, width])?)?;
        }
        let summary = self.summary.f_expand([batch, self.joints, 1, width], true)?;
        let tokens = Tensor::f_cat(&[summary, walk.f_transpose(1, 2)?], 2)?;
        let placed = tokens.f_add(&self.frame_places)?.f_reshape([batch * self.joints, frames + 1, width])?;
        let tokens = self.time.forward(&placed)?.f_reshape([batch, self.joints, frames + 1, width])?.f_add_(&tokens)?;
        let summaries = tokens.f_select(2, 0)?.f_reshape([batch, self.joints * width])?;
        Ok((summaries, tokens.f_narrow(2, 1, frames)?.f_transpose(1, 2)?))
    }
}

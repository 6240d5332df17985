//! Presentation-attack detection: whether a face was before the camera, or a picture or a screen that shows one.
//!
//! Two small nets look at the face, one with less around it, one with more; their answers are averaged. What they take
//! is cut out of the picture elsewhere. This module answers with a number and sets no threshold.

use tch::Kind;

use super::{
    conversion,
    network::{
        Folding, NetworkError,
        minifasnet::{self, MiniFasNet},
    },
};
use weights::StateDict;

/// The sides of a crop.
pub const CROP_SIDE: usize = minifasnet::INPUT[1];
/// How many times larger than the face's box the crop is that each net takes.
pub const CROP_SCALES: [f32; 2] = [2.7, 4.0];
/// How many numbers a crop has: blue, green and red, each row-major, from 0 to 255.
pub const CROP_NUMBERS: usize = 3 * CROP_SIDE * CROP_SIDE;

/// Crops that go through a net at once.
const CROPS_MAX: usize = 16;

/// The two nets with their weights.
#[derive(Debug)]
pub struct Liveness {
    near: MiniFasNet,
    wide: MiniFasNet,
}

impl Liveness {
    /// Builds them from the published weights, their names behind `scale2_7.` and `scale4_0.` in place of `module.`.
    pub fn build(weights: StateDict) -> Result<Self, NetworkError> {
        let _inference = super::runtime::prepare_thread();
        let [near, wide] = minifasnet::build(weights, minifasnet::PUBLISHED, Folding::Folded)?;
        Ok(Self { near, wide })
    }

    /// For each face, from 0 to 1, how surely it was before the camera.
    ///
    /// A face is two crops in the order of [`CROP_SCALES`], each of [`CROP_NUMBERS`] numbers.
    pub fn forward(&self, faces: &[[&[f32]; 2]]) -> Result<Vec<f32>, NetworkError> {
        if let Some(crop) = faces.iter().flatten().find(|crop| crop.len() != CROP_NUMBERS) {
            return Err(NetworkError::WrongInput { expected: CROP_NUMBERS, found: crop.len() });
        }
        let _gradients_off = tch::no_grad_guard();
        let mut scores = Vec::with_capacity(faces.len());
        for faces in faces.chunks(CROPS_MAX) {
            let near = bona_fide(&self.near, faces.iter().map(|[near, _]| *near))?;
            let wide = bona_fide(&self.wide, faces.iter().map(|[_, wide]| *wide))?;
            scores.extend(near.iter().zip(&wide).map(|(near, wide)| f32::midpoint(*near, *wide)));
        }
        Ok(scores)
    }
}

/// What a net says of each crop.
fn bona_fide<'a>(net: &MiniFasNet, crops: impl Iterator<Item = &'a [f32]>) -> Result<Vec<f32>, NetworkError> {
    let numbers: Vec<f32> = crops.flatten().copied().collect();
    let sides = [numbers.len() / CROP_NUMBERS, 3, CROP_SIDE, CROP_SIDE];
    let said = net.forward(&conversion::tensor(&numbers, sides)?)?;
    let parts = conversion::numbers(&said.f_softmax(-1, Kind::Float)?)?;
    Ok(parts.as_chunks::<{ minifasnet::CLASSES }>().0.iter().map(|parts| parts[minifasnet::BONA_FIDE]).collect())
}

#[cfg(test)]
mod tests;

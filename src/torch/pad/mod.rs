//! Presentation attack detection (PAD): whether a face was in front of the camera, or a print or screen of it.
//!
//! Two small networks process crops of the face with little and with more surroundings; their scores are averaged.
//! Cropping happens elsewhere, and this module sets no threshold.

use tch::Kind;

use super::{
    conversion,
    network::{
        Folding, NetworkError,
        minifasnet::{self, MiniFasNet},
    },
};
use weights::StateDict;

/// Side of a crop in pixels.
pub const CROP_SIDE: usize = minifasnet::INPUT[1];
/// Size of each network's crop relative to the face's box.
pub const CROP_SCALES: [f32; 2] = [2.7, 4.0];
/// Values in a crop: `[BGR, 80, 80]`, row-major, 0 to 255.
pub const CROP_NUMBERS: usize = 3 * CROP_SIDE * CROP_SIDE;

/// Crops per forward pass.
const CROPS_MAX: usize = 16;

/// The two networks with their weights.
#[derive(Debug)]
pub struct Liveness {
    near: MiniFasNet,
    wide: MiniFasNet,
}

impl Liveness {
    /// Builds them from the published weights, with the prefixes `scale2_7.` and `scale4_0.` instead of `module.`.
    ///
    /// # Errors
    ///
    /// See [`NetworkError`].
    pub fn build(weights: StateDict) -> Result<Self, NetworkError> {
        let _inference = super::runtime::prepare_thread();
        let [near, wide] = minifasnet::build(weights, minifasnet::PUBLISHED, Folding::Folded)?;
        Ok(Self { near, wide })
    }

    /// The bona fide score of each face, 0 to 1.
    ///
    /// A face is two crops in the order of [`CROP_SCALES`], each with [`CROP_NUMBERS`] values.
    ///
    /// # Errors
    ///
    /// [`NetworkError::WrongInput`] for another length, or an error of libtorch.
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

/// The bona fide score of each crop.
fn bona_fide<'a>(net: &MiniFasNet, crops: impl Iterator<Item = &'a [f32]>) -> Result<Vec<f32>, NetworkError> {
    let numbers: Vec<f32> = crops.flatten().copied().collect();
    let sides = [numbers.len() / CROP_NUMBERS, 3, CROP_SIDE, CROP_SIDE];
    let logits = net.forward(&conversion::tensor(&numbers, sides)?)?;
    let parts = conversion::numbers(&logits.f_softmax(-1, Kind::Float)?)?;
    Ok(parts.as_chunks::<{ minifasnet::CLASSES }>().0.iter().map(|parts| parts[minifasnet::BONA_FIDE]).collect())
}

#[cfg(test)]
mod tests;

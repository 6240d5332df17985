//! Our own gait encoder: temporal convolutions over walks of 60 frames of 17 joints, trained on simulated walkers.
//!
//! It computes its features from joints (see [`Features`]), so that packages prepare walks as for GaitGraph. A
//! convolutional path captures motion and a short path beside it captures body shape. The order of layers is written
//! once, in [`embed`]; serving and training provide their own layers.

use std::collections::BTreeMap;

use tch::{TchError, Tensor};

use super::{
    NetworkError,
    layers::{Activation, Bias, Conv, ConvShape, Layer, Linear},
    parameters::Parameters,
};
use features::{Features, MOVING, STILL};

mod features;

/// `[frames, joints in COCO order, (x, y, score)]`.
pub(super) const INPUT: [usize; 3] = [60, 17, 3];
pub(super) const DIMENSION: usize = 128;

/// A linear layer and the operation after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LayerSpec {
    pub(crate) key: &'static str,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) extent: Extent,
    pub(crate) following: Following,
}

/// The input range of a linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// A window of frames with a stride; `{key}.conv`.
    Along { window: usize, stride: usize },
    /// All values, without a time axis; `{key}.linear`.
    Whole,
}

/// The operation after a linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Following {
    /// Batch normalisation, `{key}.norm`.
    Norm,
    Nothing,
}

/// Two convolutions and a shortcut.
#[derive(Debug, Clone, Copy)]
struct Block {
    first: LayerSpec,
    second: LayerSpec,
    /// Projects the input to the output's shape if they differ.
    shortcut: Option<LayerSpec>,
}

const NARROW: usize = 96;
const WIDE: usize = 128;
const HIDDEN: usize = 384;
const LAST: usize = 256;
/// Mean, standard deviation and maximum over time, and the static features.
const POOLED: usize = 3 * WIDE + STILL;

const STEM: LayerSpec = along("stem", [MOVING, NARROW], 7, 3);
const BLOCKS: [Block; 2] = [
    Block {
        first: along("blocks.0.first", [NARROW, NARROW], 3, 1),
        second: along("blocks.0.second", [NARROW, NARROW], 3, 1),
        shortcut: None,
    },
    Block {
        first: along("blocks.1.first", [NARROW, WIDE], 3, 2),
        second: along("blocks.1.second", [WIDE, WIDE], 3, 1),
        shortcut: Some(along("blocks.1.shortcut", [NARROW, WIDE], 1, 2)),
    },
];
/// The weight of each frame.
const ATTENTION: LayerSpec = LayerSpec { following: Following::Nothing, ..along("attention", [WIDE, 1], 1, 1) };
const HEAD: [LayerSpec; 2] =
    [whole("head.0", [POOLED, HIDDEN], Following::Norm), whole("head.1", [HIDDEN, LAST], Following::Norm)];
const EMBEDDING: LayerSpec = whole("embedding", [LAST, DIMENSION], Following::Nothing);
/// Keeps the square root of a variance and its gradient finite.
const VARIANCE_MIN: f64 = 1e-4;

const fn along(key: &'static str, [inputs, outputs]: [usize; 2], window: usize, stride: usize) -> LayerSpec {
    LayerSpec { key, inputs, outputs, extent: Extent::Along { window, stride }, following: Following::Norm }
}

const fn whole(key: &'static str, [inputs, outputs]: [usize; 2], following: Following) -> LayerSpec {
    LayerSpec { key, inputs, outputs, extent: Extent::Whole, following }
}

/// All layers in order of execution.
pub(crate) fn layer_specs() -> impl Iterator<Item = LayerSpec> {
    let blocks = BLOCKS.into_iter().flat_map(|block| [Some(block.first), Some(block.second), block.shortcut]);
    std::iter::once(STEM).chain(blocks.flatten()).chain([ATTENTION]).chain(HEAD).chain([EMBEDDING])
}

/// Runs layers with fixed or with trainable parameters.
///
/// Over time: from `[batch, inputs, 1, frames]` to `[batch, outputs, 1, frames / stride]`; whole: from `[batch,
/// inputs]` to `[batch, outputs]`. Time is innermost: libtorch's convolutions are several times faster this way.
pub(crate) trait LayerRunner {
    /// Runs one layer including its normalisation.
    fn run(&self, layer: &LayerSpec, input: &Tensor) -> Result<Tensor, TchError>;
}

/// From joints `[batch, 60, 17, 3]` to embeddings `[batch, 128]`.
pub(crate) fn embed(steps: &impl LayerRunner, input: &Tensor) -> Result<Tensor, TchError> {
    let features = Features::of(input)?;
    let mut walk = steps.run(&STEM, &features.moving)?.f_relu_()?;
    for block in &BLOCKS {
        let inner = steps.run(&block.first, &walk)?.f_relu_()?;
        let mut outer = steps.run(&block.second, &inner)?;
        let past = match &block.shortcut {
            None => walk,
            Some(shortcut) => steps.run(shortcut, &walk)?,
        };
        walk = outer.f_add_(&past)?.f_relu_()?;
    }
    let pooled = pool(&walk, &steps.run(&ATTENTION, &walk)?)?;
    let mut hidden = Tensor::f_cat(&[pooled, features.still], 1)?;
    for layer in &HEAD {
        hidden = steps.run(layer, &hidden)?.f_relu_()?;
    }
    steps.run(&EMBEDDING, &hidden)
}

/// Attention-weighted mean and standard deviation over time, and the maximum: `[batch, 3 channels]`. Attention can skip
/// frames with a partly visible person or lost tracking.
fn pool(walk: &Tensor, attention: &Tensor) -> Result<Tensor, TchError> {
    let over_time = [2_i64, 3].as_slice();
    let weight = attention.f_softmax(3, None)?;
    let mean = walk.f_mul(&weight)?.f_sum_dim_intlist(over_time, false, None)?;
    let squares = walk.f_square()?.f_mul(&weight)?.f_sum_dim_intlist(over_time, false, None)?;
    let spread = squares.f_sub(&mean.f_square()?)?.f_clamp_min(VARIANCE_MIN)?.f_sqrt()?;
    Tensor::f_cat(&[mean, spread, walk.f_amax(over_time, false)?], 1)
}

/// The network as it is served.
#[derive(Debug)]
pub(super) struct GaitTcn(BTreeMap<&'static str, Box<dyn Layer + Send>>);

impl GaitTcn {
    pub(super) fn new(parameters: &mut Parameters<'_>) -> Result<Self, NetworkError> {
        let layers = layer_specs().map(|layer| Ok((layer.key, build(parameters, &layer)?)));
        Ok(Self(layers.collect::<Result<_, NetworkError>>()?))
    }
}

fn build(parameters: &mut Parameters<'_>, layer: &LayerSpec) -> Result<Box<dyn Layer + Send>, NetworkError> {
    let LayerSpec { key, inputs, outputs, extent, following } = *layer;
    let norm = format!("{key}.norm");
    Ok(match extent {
        Extent::Along { window, stride } => {
            let shape = ConvShape::point(inputs, outputs).kernel([1, window]);
            let shape = shape.stride([1, stride]).padding([0, window / 2]);
            let conv = format!("{key}.conv");
            Box::new(match following {
                Following::Nothing => Conv::plain(parameters, &conv, shape, Bias::Present)?,
                Following::Norm => Conv::normed(parameters, [&conv, &norm], shape, Bias::Present, Activation::None)?,
            })
        }
        Extent::Whole => {
            let (linear, shape) = (format!("{key}.linear"), [inputs, outputs]);
            Box::new(match following {
                Following::Nothing => Linear::plain(parameters, &linear, shape)?,
                Following::Norm => Linear::normed(parameters, [&linear, &norm], shape, Bias::Present)?,
            })
        }
    })
}

impl LayerRunner for GaitTcn {
    fn run(&self, layer: &LayerSpec, input: &Tensor) -> Result<Tensor, TchError> {
        self.0[layer.key].forward(input)
    }
}

impl Layer for GaitTcn {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        embed(self, input)
    }
}

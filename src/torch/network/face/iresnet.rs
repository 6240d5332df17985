//! IResNet, the residual network of ArcFace (Deng et al. 2019) and AdaFace (Kim et al. 2022): faces of 112 x 112.
//!
//! Both have the same layers with different names. A block is normalisation, 3 x 3 convolution, normalisation, PReLU, 3
//! x 3 convolution with the stride, normalisation; no activation follows the sum.

use tch::{TchError, Tensor};

use crate::network::{
    Folding, NetworkError,
    layers::{Activation, Affine, Bias, Chain, Conv, ConvShape, Layer, Linear, Norm, Scale, channels_last},
    parameters::Parameters,
};

/// `[RGB (ArcFace) or BGR (AdaFace), height, width]`.
pub(in crate::network) const INPUT: [usize; 3] = [3, 112, 112];
pub(in crate::network) const DIMENSION: usize = 512;

const STEM: usize = 64;
const TOP: usize = 512;
/// The side of the last map: 112 / 2^4.
const LAST_MAP: usize = 7;
/// The first block of each stage halves the map.
const STAGES: [usize; 4] = [64, 128, 256, TOP];

/// Number of layers of an IResNet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IResNetDepth {
    L18,
    L34,
    L50,
    /// AdaFace counts one more: 101.
    L100,
}

impl IResNetDepth {
    /// Blocks per stage.
    fn blocks(self) -> [usize; 4] {
        match self {
            Self::L18 => [2, 2, 2, 2],
            Self::L34 => [3, 4, 6, 3],
            Self::L50 => [3, 4, 14, 3],
            Self::L100 => [3, 13, 30, 3],
        }
    }
}

/// The naming of the tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IResNetLayout {
    /// InsightFace: `conv1`, `layer1.0.bn1`, `fc`, `features`. A block that halves the map always projects its input.
    ArcFace,
    /// AdaFace: `input_layer.0`, `body.0.res_layer.0`, `output_layer.3`. A block that keeps the channels subsamples its
    /// input. The published code normalises the output; its norm is a quality measure.
    AdaFace,
}

#[derive(Debug)]
pub(in crate::network) struct IResNet {
    stem: Conv,
    blocks: Chain<Block>,
    top: Top,
}

impl IResNet {
    pub(in crate::network) fn new(
        parameters: &mut Parameters<'_>,
        depth: IResNetDepth,
        layout: IResNetLayout,
    ) -> Result<Self, NetworkError> {
        let [conv, norm, slopes] = match layout {
            IResNetLayout::ArcFace => ["conv1", "bn1", "prelu"],
            IResNetLayout::AdaFace => ["input_layer.0", "input_layer.1", "input_layer.2"],
        };
        let activation = Activation::prelu(parameters, slopes, STEM)?;
        let look = ConvShape::around(INPUT[0], STEM);
        let stem = Conv::normed(parameters, [conv, norm], look, Bias::Absent, activation)?;
        let mut blocks = Vec::new();
        let mut inputs = STEM;
        for (stage, (repeats, outputs)) in depth.blocks().into_iter().zip(STAGES).enumerate() {
            for repeat in 0..repeats {
                let keys = Keys::of_block(layout, [stage, repeat, blocks.len()]);
                let stride = if repeat == 0 { 2 } else { 1 };
                let shortcut = Shortcut::new(parameters, &keys, layout, [inputs, outputs], stride)?;
                blocks.push(Block::new(parameters, &keys, shortcut, [inputs, outputs], stride)?);
                inputs = outputs;
            }
        }
        Ok(Self { stem, blocks: Chain(blocks), top: Top::new(parameters, layout)? })
    }
}

impl Layer for IResNet {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        self.top.forward(&self.blocks.forward(&self.stem.forward(&channels_last(input)?)?)?)
    }
}

/// The tensor names of a block.
struct Keys {
    norms: [String; 3],
    convs: [String; 2],
    slopes: String,
    /// Projection of the input and its normalisation.
    shortcut: [String; 2],
}

impl Keys {
    /// The arguments are the stage, the block within the stage, and the block within the network.
    fn of_block(layout: IResNetLayout, [stage, repeat, block]: [usize; 3]) -> Self {
        match layout {
            IResNetLayout::ArcFace => {
                let name = |layer: &str| format!("layer{}.{repeat}.{layer}", stage + 1);
                Self {
                    norms: ["bn1", "bn2", "bn3"].map(name),
                    convs: ["conv1", "conv2"].map(name),
                    slopes: name("prelu"),
                    shortcut: ["downsample.0", "downsample.1"].map(name),
                }
            }
            IResNetLayout::AdaFace => {
                let name = |layer: &str| format!("body.{block}.{layer}");
                Self {
                    norms: ["res_layer.0", "res_layer.2", "res_layer.5"].map(name),
                    convs: ["res_layer.1", "res_layer.4"].map(name),
                    slopes: name("res_layer.3"),
                    shortcut: ["shortcut_layer.0", "shortcut_layer.1"].map(name),
                }
            }
        }
    }
}

/// The shortcut of a block.
#[derive(Debug)]
enum Shortcut {
    Kept,
    /// Every second pixel of every second row.
    Subsampled,
    Projected(Conv),
}

impl Shortcut {
    fn new(
        parameters: &mut Parameters<'_>,
        keys: &Keys,
        layout: IResNetLayout,
        [inputs, outputs]: [usize; 2],
        stride: usize,
    ) -> Result<Self, NetworkError> {
        if stride == 1 {
            return Ok(Self::Kept);
        }
        if inputs == outputs && layout == IResNetLayout::AdaFace {
            return Ok(Self::Subsampled);
        }
        let shape = ConvShape::point(inputs, outputs).stride([stride, stride]);
        let [conv, norm] = &keys.shortcut;
        Ok(Self::Projected(Conv::normed(parameters, [conv, norm], shape, Bias::Absent, Activation::None)?))
    }

    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::Kept => Ok(input.shallow_clone()),
            Self::Subsampled => input.f_max_pool2d([1, 1], [2, 2], [0, 0], [1, 1], false),
            Self::Projected(conv) => conv.forward(input),
        }
    }
}

#[derive(Debug)]
struct Block {
    /// Never folded: the next convolution pads with zeros, which are not normalised pixels. It costs one pass over the
    /// map, beside two convolutions.
    norm: Norm,
    convs: Chain<Conv>,
    shortcut: Shortcut,
}

impl Block {
    fn new(
        parameters: &mut Parameters<'_>,
        keys: &Keys,
        shortcut: Shortcut,
        [inputs, outputs]: [usize; 2],
        stride: usize,
    ) -> Result<Self, NetworkError> {
        let [first, second, third] = &keys.norms;
        let [look, tighten] = &keys.convs;
        let norm = Norm::new(&Scale::take(parameters, first, inputs)?)?;
        let slopes = Activation::prelu(parameters, &keys.slopes, outputs)?;
        let shape = ConvShape::around(inputs, outputs);
        let look = Conv::normed(parameters, [look, second], shape, Bias::Absent, slopes)?;
        let shape = ConvShape::around(outputs, outputs).stride([stride, stride]);
        let tighten = Conv::normed(parameters, [tighten, third], shape, Bias::Absent, Activation::None)?;
        Ok(Self { norm, convs: Chain(vec![look, tighten]), shortcut })
    }
}

impl Layer for Block {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let mut output = self.convs.forward(&self.norm.forward(input)?)?;
        output.f_add_(&self.shortcut.forward(input)?)
    }
}

/// Normalisation, a fully connected layer over the whole map, normalisation.
#[derive(Debug)]
struct Top {
    /// `None` when folded, which is possible here: a fully connected layer has no padding.
    norm: Option<Norm>,
    features: Linear,
}

impl Top {
    fn new(parameters: &mut Parameters<'_>, layout: IResNetLayout) -> Result<Self, NetworkError> {
        let [norm, full] = match layout {
            IResNetLayout::ArcFace => ["bn2", "fc"],
            IResNetLayout::AdaFace => ["output_layer.0", "output_layer.3"],
        };
        let inputs = TOP * LAST_MAP * LAST_MAP;
        let norm = Scale::take(parameters, norm, TOP)?;
        let full = Affine::take(parameters, full, &[DIMENSION, inputs], Bias::Present)?;
        let last = match layout {
            IResNetLayout::ArcFace => Scale::take(parameters, "features", DIMENSION)?,
            IResNetLayout::AdaFace => Scale::take_bare(parameters, "output_layer.4", DIMENSION)?,
        };
        let (norm, full) = match parameters.folding {
            Folding::Folded => (None, full.preceded_by(&norm.channel_scales())),
            Folding::Unfolded => (Some(Norm::new(&norm)?), full),
        };
        let features = Linear::followed_by(full, &last, [inputs, DIMENSION], parameters.folding)?;
        Ok(Self { norm, features })
    }
}

impl Layer for Top {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let normed = self.norm.as_ref().map(|norm| norm.forward(input)).transpose()?;
        // Channels first: the weights store the pixels of a channel contiguously.
        self.features.forward(&normed.as_ref().unwrap_or(input).f_flatten(1, -1)?)
    }
}

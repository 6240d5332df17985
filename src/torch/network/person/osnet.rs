//! OSNet (Zhou, Yang, Cavallaro, Xiang 2019): persons of 256 x 128, features at all scales.

use tch::{TchError, Tensor};

use crate::torch::network::{
    NetworkError, OsNetWidth,
    layers::{Activation, Bias, Chain, Conv, ConvShape, Layer, Linear, channels_last},
    parameters::Parameters,
};

/// RGB, height, width.
pub(in crate::torch::network) const INPUT: [usize; 3] = [3, 256, 128];
pub(in crate::torch::network) const DIMENSION: usize = 512;

/// A block works on a quarter of its output's channels.
const REDUCTION: usize = 4;
/// The gate's hidden layer has a sixteenth of the channels that it weighs.
const GATE_REDUCTION: usize = 16;

impl OsNetWidth {
    /// Channels behind the stem and each of the three stages.
    fn channels(self) -> [usize; 4] {
        match self {
            Self::Quarter => [16, 64, 96, 128],
            Self::Half => [32, 128, 192, 256],
            Self::ThreeQuarters => [48, 192, 288, 384],
            Self::Full => [64, 256, 384, 512],
        }
    }
}

#[derive(Debug)]
pub(in crate::torch::network) struct OsNet {
    stem: Conv,
    stages: Chain<Stage>,
    top: Conv,
    features: Linear,
}

impl OsNet {
    pub(in crate::torch::network) fn new(
        parameters: &mut Parameters<'_>,
        width: OsNetWidth,
    ) -> Result<Self, NetworkError> {
        let [stem, conv2, conv3, conv4] = width.channels();
        let look = ConvShape::point(INPUT[0], stem).kernel([7, 7]).stride([2, 2]).padding([3, 3]);
        Ok(Self {
            stem: relu(parameters, "conv1", look)?,
            stages: Chain(vec![
                Stage::new(parameters, "conv2", [stem, conv2], Transition::Halved)?,
                Stage::new(parameters, "conv3", [conv2, conv3], Transition::Halved)?,
                Stage::new(parameters, "conv4", [conv3, conv4], Transition::None)?,
            ]),
            top: relu(parameters, "conv5", ConvShape::point(conv4, conv4))?,
            features: Linear::normed(parameters, ["fc.0", "fc.1"], [conv4, DIMENSION])?,
        })
    }
}

impl Layer for OsNet {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let stem = self.stem.forward(&channels_last(input)?)?;
        let halved = stem.f_max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)?;
        let top = self.top.forward(&self.stages.forward(&halved)?)?;
        let mut features = self.features.forward(&mean_over_map(&top)?.f_flatten(1, -1)?)?;
        features.f_relu_()
    }
}

/// Convolution, normalisation, ReLU.
fn relu(parameters: &mut Parameters<'_>, key: &str, shape: ConvShape) -> Result<Conv, NetworkError> {
    Conv::normed(parameters, [&format!("{key}.conv"), &format!("{key}.bn")], (shape, Bias::Absent), Activation::Relu)
}

fn linear(parameters: &mut Parameters<'_>, key: &str, shape: ConvShape) -> Result<Conv, NetworkError> {
    Conv::normed(parameters, [&format!("{key}.conv"), &format!("{key}.bn")], (shape, Bias::Absent), Activation::None)
}

fn mean_over_map(input: &Tensor) -> Result<Tensor, TchError> {
    input.f_mean_dim([2_i64, 3].as_slice(), true, None)
}

/// Whether a stage ends in a 1 x 1 convolution and a halving of the map.
#[derive(Clone, Copy)]
enum Transition {
    Halved,
    None,
}

/// Two blocks and a transition.
#[derive(Debug)]
struct Stage {
    blocks: Chain<Block>,
    transition: Option<Conv>,
}

impl Stage {
    fn new(
        parameters: &mut Parameters<'_>,
        key: &str,
        [inputs, outputs]: [usize; 2],
        transition: Transition,
    ) -> Result<Self, NetworkError> {
        let blocks = Chain(vec![
            Block::new(parameters, &format!("{key}.0"), [inputs, outputs])?,
            Block::new(parameters, &format!("{key}.1"), [outputs, outputs])?,
        ]);
        let transition = match transition {
            Transition::None => None,
            Transition::Halved => Some(relu(parameters, &format!("{key}.2.0"), ConvShape::point(outputs, outputs))?),
        };
        Ok(Self { blocks, transition })
    }
}

impl Layer for Stage {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let blocks = self.blocks.forward(input)?;
        match &self.transition {
            None => Ok(blocks),
            Some(transition) => {
                let (ceil, count_padding) = (false, true);
                transition.forward(&blocks)?.f_avg_pool2d([2, 2], [2, 2], [0, 0], ceil, count_padding, None)
            }
        }
    }
}

/// Four streams that see 3, 5, 7 and 9 pixels, weighed channel by channel by one gate that they share, and summed.
#[derive(Debug)]
struct Block {
    reduce: Conv,
    streams: [Chain<Light>; 4],
    gate: Gate,
    expand: Conv,
    /// Brings the input to the output's width where they differ.
    shortcut: Option<Conv>,
}

impl Block {
    fn new(parameters: &mut Parameters<'_>, key: &str, [inputs, outputs]: [usize; 2]) -> Result<Self, NetworkError> {
        let middle = outputs / REDUCTION;
        let mut stream = |name: &str, length: usize| {
            let layers = (0..length).map(|layer| Light::new(parameters, &format!("{key}.{name}.{layer}"), middle));
            layers.collect::<Result<_, _>>().map(Chain)
        };
        let (b, c, d) = (stream("conv2b", 2)?, stream("conv2c", 3)?, stream("conv2d", 4)?);
        let a = Chain(vec![Light::new(parameters, &format!("{key}.conv2a"), middle)?]);
        let shortcut = (inputs != outputs)
            .then(|| linear(parameters, &format!("{key}.downsample"), ConvShape::point(inputs, outputs)))
            .transpose()?;
        Ok(Self {
            reduce: relu(parameters, &format!("{key}.conv1"), ConvShape::point(inputs, middle))?,
            streams: [a, b, c, d],
            gate: Gate::new(parameters, &format!("{key}.gate"), middle)?,
            expand: linear(parameters, &format!("{key}.conv3"), ConvShape::point(middle, outputs))?,
            shortcut,
        })
    }

    fn streams(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let [first, rest @ ..] = &self.streams;
        let mut sum = self.gate.forward(&first.forward(input)?)?;
        for stream in rest {
            sum = sum.f_add_(&self.gate.forward(&stream.forward(input)?)?)?;
        }
        Ok(sum)
    }
}

impl Layer for Block {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let mut output = self.expand.forward(&self.streams(&self.reduce.forward(input)?)?)?;
        let mut sum = match &self.shortcut {
            None => output.f_add_(input)?,
            Some(shortcut) => output.f_add_(&shortcut.forward(input)?)?,
        };
        sum.f_relu_()
    }
}

/// A 3 x 3 convolution in two: across channels (without normalisation), then around each pixel.
#[derive(Debug)]
struct Light {
    across: Conv,
    around: Conv,
}

impl Light {
    fn new(parameters: &mut Parameters<'_>, key: &str, channels: usize) -> Result<Self, NetworkError> {
        let point = ConvShape::point(channels, channels);
        let around = ConvShape::depthwise(channels).kernel([3, 3]).padding([1, 1]);
        let names = [&*format!("{key}.conv2"), &*format!("{key}.bn")];
        Ok(Self {
            across: Conv::plain(parameters, &format!("{key}.conv1"), point, Bias::Absent)?,
            around: Conv::normed(parameters, names, (around, Bias::Absent), Activation::Relu)?,
        })
    }
}

impl Layer for Light {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        self.around.forward(&self.across.forward(input)?)
    }
}

/// Weighs each channel by what its whole map holds.
#[derive(Debug)]
struct Gate {
    squeeze: Conv,
    excite: Conv,
}

impl Gate {
    fn new(parameters: &mut Parameters<'_>, key: &str, channels: usize) -> Result<Self, NetworkError> {
        let hidden = channels / GATE_REDUCTION;
        let squeeze = ConvShape::point(channels, hidden);
        Ok(Self {
            squeeze: Conv::plain(parameters, &format!("{key}.fc1"), squeeze, Bias::Present)?,
            excite: Conv::plain(parameters, &format!("{key}.fc2"), ConvShape::point(hidden, channels), Bias::Present)?,
        })
    }
}

impl Layer for Gate {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let hidden = self.squeeze.forward(&mean_over_map(input)?)?.f_relu_()?;
        let weights = self.excite.forward(&hidden)?.f_sigmoid_()?;
        input.f_mul(&weights)
    }
}

//! OSNet (Zhou, Yang, Cavallaro, Xiang 2019): persons of 256 x 128, omni-scale features. With instance normalisation
//! (OSNet-IBN and OSNet-AIN, Zhou et al. 2021) it generalises better to unseen cameras.
//!
//! The keys are those of torchreid.

use tch::{TchError, Tensor};

use crate::network::{
    NetworkError,
    instance::InstanceNorm,
    layers::{Activation, Bias, Chain, Conv, ConvShape, Layer, Linear, channels_last, mean_over_map},
    parameters::Parameters,
};

/// `[RGB, height, width]`.
pub(in crate::network) const INPUT: [usize; 3] = [3, 256, 128];
pub(in crate::network) const DIMENSION: usize = 512;
/// Prefixes of training tensors.
pub(in crate::network) const TRAINING_ALONE: &[&str] = &["classifier."];

/// Channel reduction inside a block.
const REDUCTION: usize = 4;
/// Reduction of a gate's hidden layer.
const GATE_REDUCTION: usize = 16;

/// The width multiplier of an OSNet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OsNetWidth {
    Quarter,
    Half,
    ThreeQuarters,
    Full,
}

impl OsNetWidth {
    /// Channels after the stem and after each of the three stages.
    fn channels(self) -> [usize; 4] {
        match self {
            Self::Quarter => [16, 64, 96, 128],
            Self::Half => [32, 128, 192, 256],
            Self::ThreeQuarters => [48, 192, 288, 384],
            Self::Full => [64, 256, 384, 512],
        }
    }
}

/// Where an OSNet uses instance normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OsNetNorm {
    /// Nowhere.
    Batch,
    /// In the stem, and after the sums of the first stage: OSNet-IBN.
    Ibn,
    /// In the stem, and before the sums of blocks chosen by architecture search: OSNet-AIN.
    Ain,
}

impl OsNetNorm {
    /// Instance normalisation of the two blocks of each stage.
    fn blocks(self) -> [[Instance; 2]; 3] {
        use Instance::{After, Before, Nowhere};
        match self {
            Self::Batch => [[Nowhere; 2]; 3],
            Self::Ibn => [[After; 2], [Nowhere; 2], [Nowhere; 2]],
            Self::Ain => [[Before; 2], [Nowhere, Before], [Before, Nowhere]],
        }
    }

    /// The name of the layer after stage `conv2` or `conv3`.
    fn transition(self, stage: usize) -> String {
        match self {
            Self::Batch | Self::Ibn => format!("conv{stage}.2.0"),
            Self::Ain => format!("pool{stage}.0"),
        }
    }

    /// The name of a layer in one of the four streams of a block.
    fn stream(self, stream: usize, layer: usize) -> String {
        match (self, ["conv2a", "conv2b", "conv2c", "conv2d"][stream]) {
            (Self::Ain, _) => format!("conv2.{stream}.layers.{layer}"),
            (Self::Batch | Self::Ibn, "conv2a") => "conv2a".to_owned(),
            (Self::Batch | Self::Ibn, name) => format!("{name}.{layer}"),
        }
    }
}

/// The position of instance normalisation relative to the sum with the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Instance {
    Nowhere,
    Before,
    After,
}

#[derive(Debug)]
pub(in crate::network) struct OsNet {
    stem: Stem,
    stages: Chain<Stage>,
    top: Conv,
    features: Linear,
}

impl OsNet {
    pub(in crate::network) fn new(
        parameters: &mut Parameters<'_>,
        norm: OsNetNorm,
        width: OsNetWidth,
    ) -> Result<Self, NetworkError> {
        let [stem, conv2, conv3, conv4] = width.channels();
        let mut stage = |number: usize, sides: [usize; 2]| Stage::new(parameters, norm, number, sides);
        let stages = Chain(vec![stage(2, [stem, conv2])?, stage(3, [conv2, conv3])?, stage(4, [conv3, conv4])?]);
        Ok(Self {
            stem: Stem::new(parameters, norm, stem)?,
            stages,
            top: relu(parameters, "conv5", ConvShape::point(conv4, conv4))?,
            features: Linear::normed(parameters, ["fc.0", "fc.1"], [conv4, DIMENSION], Bias::Present)?,
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
    Conv::normed(parameters, [&format!("{key}.conv"), &format!("{key}.bn")], shape, Bias::Absent, Activation::Relu)
}

fn linear(parameters: &mut Parameters<'_>, key: &str, shape: ConvShape) -> Result<Conv, NetworkError> {
    Conv::normed(parameters, [&format!("{key}.conv"), &format!("{key}.bn")], shape, Bias::Absent, Activation::None)
}

/// The first convolution, its normalisation, ReLU.
#[derive(Debug)]
enum Stem {
    Batch(Conv),
    Instance(Conv, InstanceNorm),
}

impl Stem {
    fn new(parameters: &mut Parameters<'_>, norm: OsNetNorm, channels: usize) -> Result<Self, NetworkError> {
        let look = ConvShape::point(INPUT[0], channels).kernel([7, 7]).stride([2, 2]).padding([3, 3]);
        Ok(match norm {
            OsNetNorm::Batch => Self::Batch(relu(parameters, "conv1", look)?),
            OsNetNorm::Ibn | OsNetNorm::Ain => Self::Instance(
                Conv::plain(parameters, "conv1.conv", look, Bias::Absent)?,
                InstanceNorm::take(parameters, "conv1.bn", channels)?,
            ),
        })
    }
}

impl Layer for Stem {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::Batch(conv) => conv.forward(input),
            Self::Instance(conv, norm) => norm.forward(&conv.forward(input)?)?.f_relu_(),
        }
    }
}

/// Two blocks, followed in all stages but the last by a 1 x 1 convolution and a halving of the map.
#[derive(Debug)]
struct Stage {
    blocks: Chain<Block>,
    transition: Option<Conv>,
}

impl Stage {
    fn new(
        parameters: &mut Parameters<'_>,
        norm: OsNetNorm,
        number: usize,
        [inputs, outputs]: [usize; 2],
    ) -> Result<Self, NetworkError> {
        let mut block = |repeat: usize, inputs: usize| {
            Block::new(
                parameters,
                &format!("conv{number}.{repeat}"),
                norm,
                norm.blocks()[number - 2][repeat],
                [inputs, outputs],
            )
        };
        let blocks = Chain(vec![block(0, inputs)?, block(1, outputs)?]);
        let transition = (number < 4)
            .then(|| relu(parameters, &norm.transition(number), ConvShape::point(outputs, outputs)))
            .transpose()?;
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

/// Four streams with receptive fields of 3, 5, 7 and 9 pixels, weighted per channel by one shared gate, and summed.
#[derive(Debug)]
struct Block {
    reduce: Conv,
    streams: [Chain<Light>; 4],
    gate: Gate,
    expand: Conv,
    /// Projects the input to the output's channels if they differ.
    shortcut: Option<Conv>,
    instance: Option<(Instance, InstanceNorm)>,
}

impl Block {
    fn new(
        parameters: &mut Parameters<'_>,
        key: &str,
        norm: OsNetNorm,
        instance: Instance,
        [inputs, outputs]: [usize; 2],
    ) -> Result<Self, NetworkError> {
        let middle = outputs / REDUCTION;
        let mut stream = |stream: usize| {
            let key = |layer: usize| format!("{key}.{}", norm.stream(stream, layer));
            let layers = (0..=stream).map(|layer| Light::new(parameters, &key(layer), middle));
            layers.collect::<Result<_, _>>().map(Chain)
        };
        let streams = [stream(0)?, stream(1)?, stream(2)?, stream(3)?];
        let (name, widen) = (format!("{key}.conv3"), ConvShape::point(middle, outputs));
        let expand = match instance {
            Instance::Nowhere | Instance::After => linear(parameters, &name, widen)?,
            Instance::Before => Conv::plain(parameters, &format!("{name}.conv"), widen, Bias::Absent)?,
        };
        Ok(Self {
            reduce: relu(parameters, &format!("{key}.conv1"), ConvShape::point(inputs, middle))?,
            streams,
            gate: Gate::new(parameters, &format!("{key}.gate"), middle)?,
            expand,
            shortcut: (inputs != outputs)
                .then(|| linear(parameters, &format!("{key}.downsample"), ConvShape::point(inputs, outputs)))
                .transpose()?,
            instance: (instance != Instance::Nowhere)
                .then(|| InstanceNorm::take(parameters, &format!("{key}.IN"), outputs).map(|norm| (instance, norm)))
                .transpose()?,
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

    /// Applies instance normalisation if it belongs here.
    fn normalised(&self, here: Instance, map: Tensor) -> Result<Tensor, TchError> {
        match &self.instance {
            Some((place, norm)) if *place == here => norm.forward(&map),
            _ => Ok(map),
        }
    }
}

impl Layer for Block {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let output = self.expand.forward(&self.streams(&self.reduce.forward(input)?)?)?;
        let mut output = self.normalised(Instance::Before, output)?;
        let sum = match &self.shortcut {
            None => output.f_add_(input)?,
            Some(shortcut) => output.f_add_(&shortcut.forward(input)?)?,
        };
        self.normalised(Instance::After, sum)?.f_relu_()
    }
}

/// A factorised 3 x 3 convolution: pointwise without normalisation, then depthwise.
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
            around: Conv::normed(parameters, names, around, Bias::Absent, Activation::Relu)?,
        })
    }
}

impl Layer for Light {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        self.around.forward(&self.across.forward(input)?)
    }
}

/// Weights each channel by its global mean.
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

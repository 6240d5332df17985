//! The wider MobileFaceNet of InsightFace, `mbf`: faces of 112 x 112.

use tch::{TchError, Tensor};

use crate::network::{
    NetworkError,
    layers::{Activation, Bias, Chain, Conv, ConvShape, Layer, Linear, channels_last},
    parameters::Parameters,
};

/// `[RGB, height, width]`.
pub(in crate::network) const INPUT: [usize; 3] = [3, 112, 112];
pub(in crate::network) const DIMENSION: usize = 512;

const STEM: usize = 128;
/// The second layer has groups of two channels; the paper's is depthwise.
const STEM_GROUPS: usize = 64;
const TOP: usize = 512;
/// The side of the last map: 112 / 2^4. A depthwise convolution covers all of it.
const LAST_MAP: usize = 7;

/// A bottleneck that halves the map, and residual bottlenecks after it.
struct Stage {
    /// Inner channels of the first bottleneck and of the others.
    wide: [usize; 2],
    channels: usize,
    residuals: usize,
}

const STAGES: [Stage; 3] = [
    Stage { wide: [128, 128], channels: 128, residuals: 4 },
    Stage { wide: [256, 256], channels: 256, residuals: 6 },
    Stage { wide: [512, 256], channels: 256, residuals: 2 },
];

#[derive(Debug)]
pub(in crate::network) struct Mbf {
    stem: Chain<Conv>,
    stages: Chain<Bottleneck>,
    top: Chain<Conv>,
    features: Linear,
}

impl Mbf {
    pub(in crate::network) fn new(parameters: &mut Parameters<'_>) -> Result<Self, NetworkError> {
        let look = ConvShape::around(INPUT[0], STEM).stride([2, 2]);
        let look = block(parameters, "layers.0", look, STEM)?;
        let pairs = block(parameters, "layers.1", ConvShape::around(STEM, STEM).groups(STEM_GROUPS), STEM)?;
        let mut stages = Vec::new();
        let mut inputs = STEM;
        for (stage, Stage { wide: [first, others], channels, residuals }) in STAGES.into_iter().enumerate() {
            let key = format!("layers.{}", 2 + 2 * stage);
            stages.push(Bottleneck::new(parameters, &key, [inputs, first, channels], Input::Halved)?);
            for repeat in 0..residuals {
                let key = format!("layers.{}.layers.{repeat}", 3 + 2 * stage);
                stages.push(Bottleneck::new(parameters, &key, [channels, others, channels], Input::Kept)?);
            }
            inputs = channels;
        }
        let widen = block(parameters, "conv_sep", ConvShape::point(inputs, TOP), TOP)?;
        let global = ConvShape::depthwise(TOP).kernel([LAST_MAP, LAST_MAP]);
        let global = linear_block(parameters, "features.layers.0", global)?;
        Ok(Self {
            stem: Chain(vec![look, pairs]),
            stages: Chain(stages),
            top: Chain(vec![widen, global]),
            features: Linear::normed(
                parameters,
                ["features.layers.2", "features.layers.3"],
                [TOP, DIMENSION],
                Bias::Absent,
            )?,
        })
    }
}

impl Layer for Mbf {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let map = self.stages.forward(&self.stem.forward(&channels_last(input)?)?)?;
        self.features.forward(&self.top.forward(&map)?.f_flatten(1, -1)?)
    }
}

fn block(parameters: &mut Parameters<'_>, key: &str, shape: ConvShape, channels: usize) -> Result<Conv, NetworkError> {
    let activation = Activation::prelu(parameters, &format!("{key}.layers.2"), channels)?;
    let names = [&*format!("{key}.layers.0"), &*format!("{key}.layers.1")];
    Conv::normed(parameters, names, shape, Bias::Absent, activation)
}

fn linear_block(parameters: &mut Parameters<'_>, key: &str, shape: ConvShape) -> Result<Conv, NetworkError> {
    let names = [&*format!("{key}.layers.0"), &*format!("{key}.layers.1")];
    Conv::normed(parameters, names, shape, Bias::Absent, Activation::None)
}

/// The shortcut of a bottleneck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    Halved,
    /// The input is added to the output.
    Kept,
}

/// Expand, depthwise convolution, project.
#[derive(Debug)]
struct Bottleneck {
    layers: Chain<Conv>,
    input: Input,
}

impl Bottleneck {
    fn new(
        parameters: &mut Parameters<'_>,
        key: &str,
        [inputs, wide, outputs]: [usize; 3],
        input: Input,
    ) -> Result<Self, NetworkError> {
        let name = |layer: usize| format!("{key}.layers.{layer}");
        let around = ConvShape::around(wide, wide).groups(wide);
        let around = match input {
            Input::Halved => around.stride([2, 2]),
            Input::Kept => around,
        };
        let widen = block(parameters, &name(0), ConvShape::point(inputs, wide), wide)?;
        let look = block(parameters, &name(1), around, wide)?;
        let tighten = linear_block(parameters, &name(2), ConvShape::point(wide, outputs))?;
        Ok(Self { layers: Chain(vec![widen, look, tighten]), input })
    }
}

impl Layer for Bottleneck {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let mut output = self.layers.forward(input)?;
        match self.input {
            Input::Halved => Ok(output),
            Input::Kept => output.f_add_(input),
        }
    }
}

//! MobileFaceNet (Chen, Liu, Gao, Han 2018) with a last feature map of 7 x 6: faces of 112 x 96.

use tch::{TchError, Tensor};

use crate::network::{
    NetworkError,
    layers::{Activation, Bias, Chain, Conv, ConvShape, Layer, channels_last},
    parameters::Parameters,
};

/// `[RGB, height, width]`.
pub(in crate::network) const INPUT: [usize; 3] = [3, 112, 96];
pub(in crate::network) const DIMENSION: usize = 128;

const STEM: usize = 64;
const TOP: usize = 512;
/// Height and width of the last map after four halvings; a global depthwise convolution covers all of it.
const LAST_MAP: [usize; 2] = [7, 6];

/// Bottlenecks of one width: the first has the stride, the others are residual.
struct Stage {
    expansion: usize,
    channels: usize,
    repeats: usize,
    stride: usize,
}

const STAGES: [Stage; 5] = [
    Stage { expansion: 2, channels: 64, repeats: 5, stride: 2 },
    Stage { expansion: 4, channels: 128, repeats: 1, stride: 2 },
    Stage { expansion: 2, channels: 128, repeats: 6, stride: 1 },
    Stage { expansion: 4, channels: 128, repeats: 1, stride: 2 },
    Stage { expansion: 2, channels: 128, repeats: 2, stride: 1 },
];

#[derive(Debug)]
pub(in crate::network) struct MobileFaceNet {
    stem: Chain<Conv>,
    bottlenecks: Chain<Bottleneck>,
    top: Chain<Conv>,
}

impl MobileFaceNet {
    pub(in crate::network) fn new(parameters: &mut Parameters<'_>) -> Result<Self, NetworkError> {
        let wide = ConvShape::point(INPUT[0], STEM).kernel([3, 3]).stride([2, 2]).padding([1, 1]);
        let deep = ConvShape::depthwise(STEM).kernel([3, 3]).padding([1, 1]);
        let stem = Chain(vec![block(parameters, "conv1", wide, STEM)?, block(parameters, "dw_conv1", deep, STEM)?]);
        let bottlenecks = bottlenecks(parameters)?;
        let global = ConvShape::depthwise(TOP).kernel(LAST_MAP);
        let top = Chain(vec![
            block(parameters, "conv2", ConvShape::point(128, TOP), TOP)?,
            linear_block(parameters, "linear7", global)?,
            linear_block(parameters, "linear1", ConvShape::point(TOP, DIMENSION))?,
        ]);
        Ok(Self { stem, bottlenecks, top })
    }
}

impl Layer for MobileFaceNet {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let stem = self.stem.forward(&channels_last(input)?)?;
        self.top.forward(&self.bottlenecks.forward(&stem)?)?.f_flatten(1, -1)
    }
}

fn block(parameters: &mut Parameters<'_>, key: &str, shape: ConvShape, channels: usize) -> Result<Conv, NetworkError> {
    let activation = Activation::prelu(parameters, &format!("{key}.prelu"), channels)?;
    Conv::normed(parameters, [&format!("{key}.conv"), &format!("{key}.bn")], shape, Bias::Absent, activation)
}

fn linear_block(parameters: &mut Parameters<'_>, key: &str, shape: ConvShape) -> Result<Conv, NetworkError> {
    Conv::normed(parameters, [&format!("{key}.conv"), &format!("{key}.bn")], shape, Bias::Absent, Activation::None)
}

fn bottlenecks(parameters: &mut Parameters<'_>) -> Result<Chain<Bottleneck>, NetworkError> {
    let mut chain = Vec::new();
    let mut inputs = STEM;
    for Stage { expansion, channels, repeats, stride } in STAGES {
        for repeat in 0..repeats {
            let stride = if repeat == 0 { stride } else { 1 };
            let key = format!("blocks.{}.conv", chain.len());
            chain.push(Bottleneck::new(parameters, &key, [inputs, inputs * expansion, channels], stride)?);
            inputs = channels;
        }
    }
    Ok(Chain(chain))
}

/// Expand, depthwise convolution, project; the input is added if it has the output's shape.
#[derive(Debug)]
struct Bottleneck {
    layers: Chain<Conv>,
    keeps_input: bool,
}

impl Bottleneck {
    fn new(
        parameters: &mut Parameters<'_>,
        key: &str,
        [inputs, wide, outputs]: [usize; 3],
        stride: usize,
    ) -> Result<Self, NetworkError> {
        let name = |layer: usize| format!("{key}.{layer}");
        let around = ConvShape::depthwise(wide).kernel([3, 3]).stride([stride, stride]).padding([1, 1]);
        let slopes = Activation::prelu(parameters, &name(2), wide)?;
        let widen =
            Conv::normed(parameters, [&name(0), &name(1)], ConvShape::point(inputs, wide), Bias::Absent, slopes)?;
        let slopes = Activation::prelu(parameters, &name(5), wide)?;
        let look = Conv::normed(parameters, [&name(3), &name(4)], around, Bias::Absent, slopes)?;
        let point = ConvShape::point(wide, outputs);
        let tighten = Conv::normed(parameters, [&name(6), &name(7)], point, Bias::Absent, Activation::None)?;
        Ok(Self { layers: Chain(vec![widen, look, tighten]), keeps_input: stride == 1 && inputs == outputs })
    }
}

impl Layer for Bottleneck {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let mut output = self.layers.forward(input)?;
        if self.keeps_input { output.f_add_(input) } else { Ok(output) }
    }
}

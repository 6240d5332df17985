//! GaitBase (Fan et al. 2023), OpenGait's baseline for silhouettes. A residual network of nine layers processes each
//! frame, the maximum over time is taken, and sixteen horizontal strips each give one part of the output.
//!
//! Each part is an embedding; walks are compared part by part. The pyramid of GaitSet (62 parts, 15 872 values) exceeds
//! the maximum dimension of an embedding.

use tch::{TchError, Tensor};

use crate::network::{
    NetworkError,
    layers::{Activation, Bias, Chain, Conv, ConvShape, Layer, channels_last, side, tensor},
    parameters::Parameters,
};

/// `[frames, height, width]`, values 0 to 1.
pub(in crate::network) const INPUT: [usize; 3] = [30, 64, 44];
pub(in crate::network) const DIMENSION: usize = PARTS * PART;
/// Horizontal strips; the last map has one row per strip.
pub(in crate::network) const PARTS: usize = 16;
/// Prefixes of training tensors: the compared features come before the necks.
pub(in crate::network) const TRAINING_ALONE: &[&str] = &["BNNecks."];

/// Values per part.
const PART: usize = 256;
const STEM: usize = 64;
const TOP: usize = 512;
/// Channels and stride of each block.
const BLOCKS: [(usize, usize); 4] = [(64, 1), (128, 2), (256, 2), (TOP, 1)];

#[derive(Debug)]
pub(in crate::network) struct GaitBase {
    stem: Conv,
    blocks: Chain<Block>,
    /// A fully connected layer per part: `[parts, channels, values]`.
    parts: Tensor,
}

impl GaitBase {
    pub(in crate::network) fn new(parameters: &mut Parameters<'_>) -> Result<Self, NetworkError> {
        let name = |layer: &str| format!("Backbone.forward_block.{layer}");
        let look = ConvShape::around(1, STEM);
        let names = [&*name("conv1.conv"), &*name("bn1")];
        let stem = Conv::normed(parameters, names, look, Bias::Absent, Activation::Relu)?;
        let mut blocks = Vec::new();
        let mut inputs = STEM;
        for (number, (outputs, stride)) in BLOCKS.into_iter().enumerate() {
            let key = name(&format!("layer{}.0", number + 1));
            blocks.push(Block::new(parameters, &key, [inputs, outputs], stride)?);
            inputs = outputs;
        }
        let shape = &[PARTS, TOP, PART];
        let parts = tensor(&parameters.take("FCs.fc_bin", shape)?, shape)?;
        Ok(Self { stem, blocks: Chain(blocks), parts })
    }
}

impl Layer for GaitBase {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let (batch, frames, height, width) = input.size4()?;
        let pictures = channels_last(&input.f_reshape([batch * frames, 1, height, width])?)?;
        let maps = self.blocks.forward(&self.stem.forward(&pictures)?)?;
        // Channels last, as in memory: `[batch, frames, rows, columns, channels]`.
        let (_, channels, lines, columns) = maps.size4()?;
        let maps = maps.f_permute([0, 2, 3, 1])?.f_reshape([batch, frames, lines, columns, channels])?;
        let strongest = maps.f_amax([1_i64].as_slice(), false)?;
        let mut strips = strongest.f_amax([2_i64].as_slice(), false)?;
        strips = strips.f_add_(&strongest.f_mean_dim([2_i64].as_slice(), false, None)?)?;
        let parts = strips.f_transpose(0, 1)?.f_bmm(&self.parts)?;
        parts.f_transpose(0, 1)?.f_reshape([batch, side(DIMENSION)])
    }
}

/// Two 3 x 3 convolutions, the first with the stride, and a shortcut.
#[derive(Debug)]
struct Block {
    convs: Chain<Conv>,
    /// Projects the input to the output's shape if they differ.
    shortcut: Option<Conv>,
}

impl Block {
    fn new(
        parameters: &mut Parameters<'_>,
        key: &str,
        [inputs, outputs]: [usize; 2],
        stride: usize,
    ) -> Result<Self, NetworkError> {
        let mut normed = |[conv, norm]: [&str; 2], shape: ConvShape, activation: Activation| {
            let names = [&*format!("{key}.{conv}"), &*format!("{key}.{norm}")];
            Conv::normed(parameters, names, shape, Bias::Absent, activation)
        };
        let stride = [stride, stride];
        let first = normed(["conv1", "bn1"], ConvShape::around(inputs, outputs).stride(stride), Activation::Relu)?;
        let second = normed(["conv2", "bn2"], ConvShape::around(outputs, outputs), Activation::None)?;
        let project = ConvShape::point(inputs, outputs).stride(stride);
        let shortcut = (inputs != outputs)
            .then(|| normed(["downsample.0", "downsample.1"], project, Activation::None))
            .transpose()?;
        Ok(Self { convs: Chain(vec![first, second]), shortcut })
    }
}

impl Layer for Block {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let mut output = self.convs.forward(input)?;
        let mut sum = match &self.shortcut {
            None => output.f_add_(input)?,
            Some(shortcut) => output.f_add_(&shortcut.forward(input)?)?,
        };
        sum.f_relu_()
    }
}

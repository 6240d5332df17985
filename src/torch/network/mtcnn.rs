//! The three networks of MTCNN (Zhang, Zhang, Li, Qiao 2016): each refines the proposals of the previous one.
//!
//! Every network ends in one linear layer for all outputs of a position: the logit of face against no face, the shifts
//! of the four sides of the box as shares of its width and height, and in the last network five landmarks in the same
//! units. The published networks have two outputs for face and no face; their softmax is the sigmoid of the difference,
//! and the difference is a linear step too.

use tch::{TchError, Tensor};

use super::{
    Folding, NetworkError,
    layers::{Activation, Affine, Bias, Conv, ConvShape, Layer, tensor},
    parameters::{Parameters, StrictSource},
};
use weights::StateDict;

/// Pixel normalisation of these networks: `(value - mean) / scale`.
pub(crate) const PIXEL_MEAN: f32 = 127.5;
pub(crate) const PIXEL_SCALE: f32 = 1.0 / 128.0;

/// The three networks in order of execution.
#[derive(Debug)]
pub(crate) struct Nets {
    pub(crate) proposal: ProposalNet,
    pub(crate) refinement: RefinementNet,
    pub(crate) landmark: LandmarkNet,
}

impl Nets {
    /// Builds them from one state dict with the prefixes `pnet.`, `rnet.` and `onet.`.
    pub(crate) fn build(weights: StateDict) -> Result<Self, NetworkError> {
        let mut source = StrictSource::new(weights);
        let nets = Self::new(&mut Parameters::new(&mut source, Folding::Folded))?;
        source.finish(|_| false)?;
        Ok(nets)
    }

    pub(super) fn new(parameters: &mut Parameters<'_>) -> Result<Self, NetworkError> {
        Ok(Self {
            proposal: ProposalNet::new(parameters, "pnet.")?,
            refinement: RefinementNet::new(parameters, "rnet.")?,
            landmark: LandmarkNet::new(parameters, "onet.")?,
        })
    }
}

/// Scans a whole picture of any size and proposes boxes of 12 x 12 pixels with a step of 2 pixels.
#[derive(Debug)]
pub(crate) struct ProposalNet {
    near: Conv,
    far: [Conv; 2],
    head: Head,
}

impl ProposalNet {
    /// Side of an output's receptive field in pixels.
    pub(crate) const WINDOW: usize = 12;
    /// Distance of neighbouring outputs in pixels.
    pub(crate) const STEP: usize = 2;
    pub(crate) const OUTPUTS: usize = 5;

    fn new(parameters: &mut Parameters<'_>, prefix: &str) -> Result<Self, NetworkError> {
        let name = |layer: &str| format!("{prefix}{layer}");
        Ok(Self {
            near: prelu(parameters, prefix, "1", [3, 10, 3])?,
            far: [prelu(parameters, prefix, "2", [10, 16, 3])?, prelu(parameters, prefix, "3", [16, 32, 3])?],
            head: Head::take(parameters, &[name("conv4_1"), name("conv4_2")], &[2, 4], &[32, 1, 1])?,
        })
    }

    /// Number of outputs along a side of the picture.
    pub(crate) fn places(side: usize) -> usize {
        (side.saturating_sub(2)).div_ceil(Self::STEP).saturating_sub(4)
    }

    /// From `[batch, 3, height, width]`, channels last in memory, to `[batch, rows, columns, 5]`.
    pub(crate) fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let near = halve(&self.near.forward(input)?, 2)?;
        let far = self.far.iter().try_fold(near, |value, layer| layer.forward(&value))?;
        self.head.forward(&far.f_permute([0, 2, 3, 1])?)
    }
}

/// Scores a crop of 24 x 24 pixels.
#[derive(Debug)]
pub(crate) struct RefinementNet {
    wide: [Conv; 2],
    top: Conv,
    dense: Dense,
    head: Head,
}

impl RefinementNet {
    pub(crate) const SIDE: usize = 24;
    pub(crate) const OUTPUTS: usize = 5;

    fn new(parameters: &mut Parameters<'_>, prefix: &str) -> Result<Self, NetworkError> {
        let name = |layer: &str| format!("{prefix}{layer}");
        Ok(Self {
            wide: [prelu(parameters, prefix, "1", [3, 28, 3])?, prelu(parameters, prefix, "2", [28, 48, 3])?],
            top: prelu(parameters, prefix, "3", [48, 64, 2])?,
            dense: Dense::take(parameters, prefix, "4", [64, 3, 128])?,
            head: Head::take(parameters, &[name("dense5_1"), name("dense5_2")], &[2, 4], &[128])?,
        })
    }

    /// From `[batch, 3, 24, 24]`, channels last in memory, to `[batch, 5]`.
    pub(crate) fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let wide =
            self.wide.iter().try_fold(input.shallow_clone(), |value, layer| halve(&layer.forward(&value)?, 3))?;
        self.head.forward(&self.dense.forward(&self.top.forward(&wide)?)?)
    }
}

/// Scores a crop of 48 x 48 pixels and estimates the landmarks.
#[derive(Debug)]
pub(crate) struct LandmarkNet {
    wide: [Conv; 3],
    top: Conv,
    dense: Dense,
    head: Head,
}

impl LandmarkNet {
    pub(crate) const SIDE: usize = 48;
    /// After the four shifts: the x coordinates of the five landmarks, then their y coordinates.
    pub(crate) const OUTPUTS: usize = 15;

    fn new(parameters: &mut Parameters<'_>, prefix: &str) -> Result<Self, NetworkError> {
        let names = ["dense6_1", "dense6_2", "dense6_3"].map(|layer| format!("{prefix}{layer}"));
        Ok(Self {
            wide: [
                prelu(parameters, prefix, "1", [3, 32, 3])?,
                prelu(parameters, prefix, "2", [32, 64, 3])?,
                prelu(parameters, prefix, "3", [64, 64, 3])?,
            ],
            top: prelu(parameters, prefix, "4", [64, 128, 2])?,
            dense: Dense::take(parameters, prefix, "5", [128, 3, 256])?,
            head: Head::take(parameters, &names, &[2, 4, 10], &[256])?,
        })
    }

    /// From `[batch, 3, 48, 48]`, channels last in memory, to `[batch, 15]`.
    pub(crate) fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let [near, middle, far] = &self.wide;
        let value = halve(&near.forward(input)?, 3)?;
        let value = halve(&middle.forward(&value)?, 3)?;
        let value = halve(&far.forward(&value)?, 2)?;
        self.head.forward(&self.dense.forward(&self.top.forward(&value)?)?)
    }
}

/// A convolution without padding, and PReLU.
fn prelu(
    parameters: &mut Parameters<'_>,
    prefix: &str,
    layer: &str,
    [inputs, outputs, kernel]: [usize; 3],
) -> Result<Conv, NetworkError> {
    let shape = ConvShape::point(inputs, outputs).kernel([kernel, kernel]);
    let affine = Affine::take(parameters, &format!("{prefix}conv{layer}"), &shape.weight(), Bias::Present)?;
    let activation = Activation::prelu(parameters, &format!("{prefix}prelu{layer}"), outputs)?;
    Conv::from(affine, shape, activation)
}

/// Max pooling of `window x window` with stride 2; windows may exceed the last row and column.
fn halve(input: &Tensor, window: i64) -> Result<Tensor, TchError> {
    let ceil = true;
    input.f_max_pool2d([window, window], [2, 2], [0, 0], [1, 1], ceil)
}

/// A fully connected layer after a square map.
#[derive(Debug)]
struct Dense {
    weight: Tensor,
    bias: Tensor,
    slopes: Tensor,
}

impl Dense {
    /// The published weights index the map column by column, with the position in a row slowest, because the Caffe
    /// networks were trained in Matlab; they are reordered to the memory order here.
    fn take(
        parameters: &mut Parameters<'_>,
        prefix: &str,
        layer: &str,
        [channels, side, outputs]: [usize; 3],
    ) -> Result<Self, NetworkError> {
        let inputs = channels * side * side;
        let by_column = parameters.take(&format!("{prefix}dense{layer}.weight"), &[outputs, inputs])?;
        let bias = parameters.take(&format!("{prefix}dense{layer}.bias"), &[outputs])?;
        let slopes = parameters.take(&format!("{prefix}prelu{layer}.weight"), &[outputs])?;
        let mut by_row = Vec::with_capacity(by_column.len());
        for output in by_column.chunks_exact(inputs) {
            let places = (0..side).flat_map(|y| (0..side).map(move |x| x * side + y));
            by_row.extend(places.flat_map(|place| &output[place * channels..][..channels]).copied());
        }
        Ok(Self {
            weight: tensor(&by_row, &[outputs, inputs])?,
            bias: tensor(&bias, &[outputs])?,
            slopes: tensor(&slopes, &[outputs])?,
        })
    }

    /// From `[batch, channels, side, side]` to `[batch, outputs]`.
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let flat = input.f_permute([0, 2, 3, 1])?.f_flatten(1, -1)?;
        flat.f_linear(&self.weight, Some(&self.bias))?.f_prelu(&self.slopes)
    }
}

/// The last layer of a network: several linear layers as one, the first as the difference of its two outputs.
#[derive(Debug)]
struct Head {
    weight: Tensor,
    bias: Tensor,
}

impl Head {
    /// `inputs` are the axes of a weight after the first, which is the outputs.
    fn take(
        parameters: &mut Parameters<'_>,
        keys: &[String],
        outputs: &[usize],
        inputs: &[usize],
    ) -> Result<Self, NetworkError> {
        let (mut weight, mut bias) = (Vec::new(), Vec::new());
        for (key, outputs) in keys.iter().zip(outputs) {
            let shape: Vec<usize> = std::iter::once(outputs).chain(inputs).copied().collect();
            weight.extend(parameters.take(&format!("{key}.weight"), &shape)?);
            bias.extend(parameters.take(&format!("{key}.bias"), &[*outputs])?);
        }
        let width: usize = inputs.iter().product();
        let weight = difference_first(&weight, width);
        let bias = difference_first(&bias, 1);
        Ok(Self { weight: tensor(&weight, &[bias.len(), width])?, bias: tensor(&bias, &[bias.len()])? })
    }

    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        input.f_linear(&self.weight, Some(&self.bias))
    }
}

/// Replaces the first two rows by the second minus the first.
fn difference_first(rows: &[f32], width: usize) -> Vec<f32> {
    let (no_face, rest) = rows.split_at(width);
    let (face, rest) = rest.split_at(width);
    face.iter().zip(no_face).map(|(face, no_face)| face - no_face).chain(rest.iter().copied()).collect()
}

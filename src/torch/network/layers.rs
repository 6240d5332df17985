//! The layers of the networks.
//!
//! Batch normalisation is `(x - mean) / sqrt(variance + 1e-5) * weight + bias` with the statistics of training. After a
//! linear layer it is another linear step, so folding multiplies it into the layer's weight and bias, in f64.

use std::fmt;

use tch::{TchError, Tensor};

use super::{super::runtime, Folding, NetworkError, parameters::Parameters};

/// The epsilon with which all these networks were trained.
pub(super) const NORM_EPSILON: f64 = 1e-5;

/// A function from tensor to tensor.
pub(super) trait Layer: fmt::Debug {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError>;
}

/// A convolution, its normalisation unless folded, and its activation.
#[derive(Debug)]
pub(super) struct Conv {
    weight: Tensor,
    bias: Option<Tensor>,
    norm: Option<Norm>,
    activation: Activation,
    shape: ConvShape,
}

/// The shape of a convolution; of two values, the first is along height (or time), the second along width (or joints).
#[derive(Debug, Clone, Copy)]
pub(super) struct ConvShape {
    inputs: usize,
    outputs: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    groups: usize,
    order: Order,
}

/// The innermost axis of a map in memory. Weights have the order of their maps; otherwise libtorch would convert them
/// on every call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    ChannelsLast,
    ChannelsFirst,
}

impl ConvShape {
    /// A 1 x 1 convolution.
    pub(super) fn point(inputs: usize, outputs: usize) -> Self {
        let order = Order::ChannelsLast;
        Self { inputs, outputs, kernel: [1, 1], stride: [1, 1], padding: [0, 0], groups: 1, order }
    }

    /// A depthwise convolution.
    pub(super) fn depthwise(channels: usize) -> Self {
        Self { groups: channels, ..Self::point(channels, channels) }
    }

    /// A 3 x 3 convolution that keeps the map's size unless it has a stride.
    pub(super) fn around(inputs: usize, outputs: usize) -> Self {
        Self::point(inputs, outputs).kernel([3, 3]).padding([1, 1])
    }

    /// Splits the channels into groups.
    pub(super) fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// For maps in channels-first order.
    pub(super) fn channels_first(self) -> Self {
        Self { order: Order::ChannelsFirst, ..self }
    }

    pub(super) fn kernel(self, kernel: [usize; 2]) -> Self {
        Self { kernel, ..self }
    }

    pub(super) fn stride(self, stride: [usize; 2]) -> Self {
        Self { stride, ..self }
    }

    pub(super) fn padding(self, padding: [usize; 2]) -> Self {
        Self { padding, ..self }
    }

    pub(super) fn weight(&self) -> [usize; 4] {
        [self.outputs, self.inputs / self.groups, self.kernel[0], self.kernel[1]]
    }
}

/// Whether a layer has its own bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bias {
    Present,
    Absent,
}

#[derive(Debug)]
pub(super) enum Activation {
    None,
    Relu,
    /// One slope per channel for negative values.
    Prelu(Tensor),
}

impl Activation {
    pub(super) fn prelu(parameters: &mut Parameters<'_>, key: &str, channels: usize) -> Result<Self, NetworkError> {
        let slopes = parameters.take(&format!("{key}.weight"), &[channels])?;
        Ok(Self::Prelu(tensor(&slopes, &[channels])?))
    }

    fn apply(&self, mut input: Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::None => Ok(input),
            Self::Relu => input.f_relu_(),
            Self::Prelu(slopes) => input.f_prelu(slopes),
        }
    }
}

impl Conv {
    /// A convolution without normalisation: `{key}.weight`, `{key}.bias`.
    pub(super) fn plain(
        parameters: &mut Parameters<'_>,
        key: &str,
        shape: ConvShape,
        bias: Bias,
    ) -> Result<Self, NetworkError> {
        Self::from(Affine::take(parameters, key, &shape.weight(), bias)?, shape, Activation::None)
    }

    /// A convolution and its normalisation, by both names.
    pub(super) fn normed(
        parameters: &mut Parameters<'_>,
        [conv, norm]: [&str; 2],
        shape: ConvShape,
        bias: Bias,
        activation: Activation,
    ) -> Result<Self, NetworkError> {
        let affine = Affine::take(parameters, conv, &shape.weight(), bias)?;
        let scale = Scale::take(parameters, norm, shape.outputs)?;
        match parameters.folding {
            Folding::Folded => Self::from(affine.followed_by(&scale), shape, activation),
            Folding::Unfolded => {
                let norm = Some(Norm::new(&scale)?);
                Ok(Self { norm, ..Self::from(affine, shape, activation)? })
            }
        }
    }

    pub(super) fn from(affine: Affine, shape: ConvShape, activation: Activation) -> Result<Self, NetworkError> {
        let weight = tensor(&affine.weight, &shape.weight())?;
        let weight = match shape.order {
            Order::ChannelsLast => channels_last(&weight)?,
            Order::ChannelsFirst => weight,
        };
        let bias = affine.bias.map(|bias| tensor(&bias, &[shape.outputs])).transpose()?;
        Ok(Self { weight, bias, norm: None, activation, shape })
    }
}

impl Layer for Conv {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let ConvShape { stride, padding, groups, .. } = self.shape;
        let (stride, padding) = (stride.map(side), padding.map(side));
        let output = input.f_conv2d(&self.weight, self.bias.as_ref(), stride, padding, [1, 1], side(groups))?;
        let output = match &self.norm {
            None => output,
            Some(norm) => norm.forward(&output)?,
        };
        self.activation.apply(output)
    }
}

/// A fully connected layer, and its normalisation unless folded.
#[derive(Debug)]
pub(super) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
    norm: Option<Norm>,
}

impl Linear {
    pub(super) fn plain(
        parameters: &mut Parameters<'_>,
        key: &str,
        [inputs, outputs]: [usize; 2],
    ) -> Result<Self, NetworkError> {
        Self::from(Affine::take(parameters, key, &[outputs, inputs], Bias::Present)?, [inputs, outputs])
    }

    pub(super) fn normed(
        parameters: &mut Parameters<'_>,
        [linear, norm]: [&str; 2],
        [inputs, outputs]: [usize; 2],
        bias: Bias,
    ) -> Result<Self, NetworkError> {
        let affine = Affine::take(parameters, linear, &[outputs, inputs], bias)?;
        let scale = Scale::take(parameters, norm, outputs)?;
        Self::followed_by(affine, &scale, [inputs, outputs], parameters.folding)
    }

    /// A fully connected layer and its normalisation.
    pub(super) fn followed_by(
        affine: Affine,
        scale: &Scale,
        sides: [usize; 2],
        folding: Folding,
    ) -> Result<Self, NetworkError> {
        match folding {
            Folding::Folded => Self::from(affine.followed_by(scale), sides),
            Folding::Unfolded => Ok(Self { norm: Some(Norm::new(scale)?), ..Self::from(affine, sides)? }),
        }
    }

    pub(super) fn from(affine: Affine, [inputs, outputs]: [usize; 2]) -> Result<Self, NetworkError> {
        let weight = tensor(&affine.weight, &[outputs, inputs])?;
        let bias = affine.bias.map(|bias| tensor(&bias, &[outputs])).transpose()?;
        Ok(Self { weight, bias, norm: None })
    }
}

impl Layer for Linear {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let output = input.f_linear(&self.weight, self.bias.as_ref())?;
        match &self.norm {
            None => Ok(output),
            Some(norm) => norm.forward(&output),
        }
    }
}

/// Batch normalisation as a separate layer.
#[derive(Debug)]
pub(super) struct Norm {
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
}

impl Norm {
    pub(super) fn new(scale: &Scale) -> Result<Self, NetworkError> {
        let channels = &[scale.weight.len()];
        Ok(Self {
            weight: tensor(&scale.weight, channels)?,
            bias: tensor(&scale.bias, channels)?,
            mean: tensor(&scale.mean, channels)?,
            variance: tensor(&scale.variance, channels)?,
        })
    }
}

impl Layer for Norm {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let (weight, bias) = (Some(&self.weight), Some(&self.bias));
        let (mean, variance) = (Some(&self.mean), Some(&self.variance));
        let (training, momentum, cudnn) = (false, 0.0, false);
        input.f_batch_norm(weight, bias, mean, variance, training, momentum, NORM_EPSILON, cudnn)
    }
}

/// The parameters of a linear layer: a weight whose first axis is the outputs, and a bias per output.
pub(super) struct Affine {
    outputs: usize,
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
}

impl Affine {
    pub(super) fn take(
        parameters: &mut Parameters<'_>,
        key: &str,
        shape: &[usize],
        bias: Bias,
    ) -> Result<Self, NetworkError> {
        let weight = parameters.take(&format!("{key}.weight"), shape)?;
        let bias = match bias {
            Bias::Present => Some(parameters.take(&format!("{key}.bias"), &shape[..1])?),
            Bias::Absent => None,
        };
        Ok(Self { outputs: shape[0], weight, bias })
    }

    /// This layer followed by the normalisation, as one layer.
    pub(super) fn followed_by(self, scale: &Scale) -> Self {
        self.followed_by_scales(&scale.channel_scales())
    }

    /// This layer followed by `x * factor + shift` per output, as one layer.
    pub(super) fn followed_by_scales(self, ChannelScales { factors, shifts }: &ChannelScales) -> Self {
        let scaled = self.scaled(factors);
        let own = scaled.bias.iter().flatten().copied().chain(std::iter::repeat(0.0));
        let bias = own.zip(shifts).map(|(own, shift)| narrow(f64::from(own) + shift)).collect();
        Self { bias: Some(bias), ..scaled }
    }

    /// `x * factor + shift` per channel followed by this layer, as one layer. Not valid for a layer with zero padding:
    /// the padding would have to be `-shift / factor`.
    ///
    /// Each channel has `row length / channels` consecutive numbers in a row.
    pub(super) fn preceded_by(self, ChannelScales { factors, shifts }: &ChannelScales) -> Self {
        let row = self.weight.len() / self.outputs;
        let rows = self.weight.chunks_exact(row);
        let places = row / factors.len();
        let times = |(numbers, by): (&[f32], &f64)| numbers.iter().map(|number| f64::from(*number) * by).sum::<f64>();
        let shift = |row: &[f32]| row.chunks_exact(places).zip(shifts).map(times).sum::<f64>();
        let own = self.bias.iter().flatten().copied().chain(std::iter::repeat(0.0));
        let bias = rows.clone().zip(own).map(|(row, own)| narrow(f64::from(own) + shift(row))).collect();
        let factors = factors.iter().flat_map(|factor| std::iter::repeat_n(factor, places));
        let scaled = rows
            .flat_map(|row| row.iter().zip(factors.clone()).map(|(number, by)| narrow(f64::from(*number) * by)))
            .collect();
        Self { outputs: self.outputs, weight: scaled, bias: Some(bias) }
    }

    /// Multiplies each output by its factor; with fewer factors than outputs, factors are repeated.
    pub(super) fn scaled(self, factors: &[f64]) -> Self {
        let row = self.weight.len() / self.outputs;
        let times = |(number, by): (&f32, &f64)| narrow(f64::from(*number) * by);
        let by_row = factors.iter().cycle().flat_map(|factor| std::iter::repeat_n(factor, row));
        Self {
            outputs: self.outputs,
            weight: self.weight.iter().zip(by_row).map(times).collect(),
            bias: self.bias.map(|bias| bias.iter().zip(factors.iter().cycle()).map(times).collect()),
        }
    }
}

/// `x * factor + shift` with one factor and one shift per channel.
pub(super) struct ChannelScales {
    pub(super) factors: Vec<f64>,
    pub(super) shifts: Vec<f64>,
}

/// The parameters of a batch normalisation, one value per channel each.
pub(super) struct Scale {
    weight: Vec<f32>,
    bias: Vec<f32>,
    mean: Vec<f32>,
    variance: Vec<f32>,
}

impl Scale {
    pub(super) fn take(parameters: &mut Parameters<'_>, key: &str, channels: usize) -> Result<Self, NetworkError> {
        let shape = &[channels];
        Ok(Self {
            weight: parameters.take(&format!("{key}.weight"), shape)?,
            bias: parameters.take(&format!("{key}.bias"), shape)?,
            mean: parameters.take(&format!("{key}.running_mean"), shape)?,
            variance: parameters.take_variance(&format!("{key}.running_var"), shape)?,
        })
    }

    /// A normalisation without affine parameters.
    pub(super) fn take_bare(parameters: &mut Parameters<'_>, key: &str, channels: usize) -> Result<Self, NetworkError> {
        let shape = &[channels];
        Ok(Self {
            weight: vec![1.0; channels],
            bias: vec![0.0; channels],
            mean: parameters.take(&format!("{key}.running_mean"), shape)?,
            variance: parameters.take_variance(&format!("{key}.running_var"), shape)?,
        })
    }

    /// The normalisation as one linear step per channel.
    pub(super) fn channel_scales(&self) -> ChannelScales {
        let channels = self.weight.iter().zip(&self.bias).zip(self.mean.iter().zip(&self.variance));
        let step = |((weight, bias), (mean, variance)): ((&f32, &f32), (&f32, &f32))| {
            let factor = f64::from(*weight) / (f64::from(*variance) + NORM_EPSILON).sqrt();
            (factor, f64::from(*bias) - f64::from(*mean) * factor)
        };
        let (factors, shifts) = channels.map(step).unzip();
        ChannelScales { factors, shifts }
    }
}

/// A sequence of layers.
#[derive(Debug)]
pub(super) struct Chain<L>(pub(super) Vec<L>);

impl<L: Layer> Layer for Chain<L> {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        self.0.iter().try_fold(input.shallow_clone(), |value, layer| layer.forward(&value))
    }
}

/// The mean of each channel over its map: `[batch, channels, 1, 1]`.
pub(super) fn mean_over_map(input: &Tensor) -> Result<Tensor, TchError> {
    input.f_mean_dim([2_i64, 3].as_slice(), true, None)
}

/// Converts to channels-last order, in which convolutions of pictures are faster.
pub(super) fn channels_last(input: &Tensor) -> Result<Tensor, TchError> {
    input.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])
}

pub(super) fn tensor(numbers: &[f32], shape: &[usize]) -> Result<Tensor, NetworkError> {
    let shape: Vec<i64> = shape.iter().copied().map(side).collect();
    Ok(runtime::to_device(Tensor::f_from_slice(numbers)?.f_reshape(shape)?)?)
}

/// The length of an axis as libtorch's i64.
pub(super) fn side(side: usize) -> i64 {
    i64::try_from(side).expect("no tensor has 2^63 numbers")
}

#[expect(clippy::cast_possible_truncation, reason = "networks run in f32")]
pub(super) fn narrow(number: f64) -> f32 {
    number as f32
}

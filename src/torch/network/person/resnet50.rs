//! ResNet-50 (He et al. 2016) for person re-identification: the last stage has stride 1, and the BNNeck normalisation
//! (Luo et al. 2019) gives the features. Persons of 256 x 128.
//!
//! IBN-a (Pan et al. 2018) uses instance normalisation for half of the channels of a bottleneck's first convolution, in
//! all stages but the last.

use tch::{TchError, Tensor};

use crate::network::{
    Folding, NetworkError,
    instance::InstanceNorm,
    layers::{
        Activation, Affine, Bias, Chain, ChannelScales, Conv, ConvShape, Layer, Norm, Scale, channels_last,
        mean_over_map, side,
    },
    parameters::Parameters,
};

/// `[RGB, height, width]`.
pub(in crate::network) const INPUT: [usize; 3] = [3, 256, 128];
pub(in crate::network) const DIMENSION: usize = 2048;

const STEM: usize = 64;
/// Expansion of a bottleneck's output.
const EXPANSION: usize = 4;

/// Bottlenecks of one width: the first has the stride.
struct Stage {
    middle: usize,
    repeats: usize,
    stride: usize,
}

const STAGES: [Stage; 4] = [
    Stage { middle: 64, repeats: 3, stride: 1 },
    Stage { middle: 128, repeats: 4, stride: 2 },
    Stage { middle: 256, repeats: 6, stride: 2 },
    Stage { middle: 512, repeats: 3, stride: 1 },
];

/// The normalisation of a ResNet-50.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResNet50Norm {
    Batch,
    IbnA,
}

/// The naming of the tensors and small differences between the networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResNet50Layout {
    /// The baseline of LaST (Shu et al. 2021): `base.0`, `base.1`, `layer1`, `bottleneck`.
    Last,
    /// The strong baseline of Luo et al. 2019: `base.conv1`, `base.layer1`, `bottleneck`. Without IBN-a its stem has no
    /// ReLU: the published code omits it and the published weights rely on that.
    StrongBaseline,
    /// DomainMix (Wang et al. 2021): `base.0`, `base.1`, `base.4` to `base.7`, `feat_bn`.
    DomainMix,
    /// FastReID (He et al. 2020): `backbone.conv1`, `backbone.layer1`, `heads.bottleneck.0`. The stem's pooling does
    /// not pad. With a `heads.pool_layer.p`, features use generalised mean pooling with that exponent, otherwise the
    /// mean; non-local blocks, squeeze and excitation, and multi-branch heads are not supported.
    FastReid,
}

impl ResNet50Layout {
    /// Prefixes of training tensors.
    pub(in crate::network) fn training_alone(self) -> &'static [&'static str] {
        match self {
            Self::Last => &["classifier."],
            // With IBN-a, the checkpoint still has ImageNet's classifier.
            Self::StrongBaseline => &["classifier.", "base.fc."],
            Self::DomainMix => &["classifier.", "classifier_D."],
            Self::FastReid => &["heads.weight", "heads.classifier.", "pixel_mean", "pixel_std"],
        }
    }

    /// Names of the stem's convolution, its normalisation, and the normalisation of the features.
    fn ends(self) -> [&'static str; 3] {
        match self {
            Self::Last => ["base.0", "base.1", "bottleneck"],
            Self::StrongBaseline => ["base.conv1", "base.bn1", "bottleneck"],
            Self::DomainMix => ["base.0", "base.1", "feat_bn"],
            Self::FastReid => ["backbone.conv1", "backbone.bn1", "heads.bottleneck.0"],
        }
    }

    /// The name of a stage, counted from 0.
    fn stage(self, stage: usize) -> String {
        match self {
            Self::Last => format!("layer{}", stage + 1),
            Self::StrongBaseline => format!("base.layer{}", stage + 1),
            Self::DomainMix => format!("base.{}", stage + 4),
            Self::FastReid => format!("backbone.layer{}", stage + 1),
        }
    }

    fn stem_activation(self, norm: ResNet50Norm) -> Activation {
        match (self, norm) {
            (Self::StrongBaseline, ResNet50Norm::Batch) => Activation::None,
            _ => Activation::Relu,
        }
    }
}

#[derive(Debug)]
pub(in crate::network) struct ResNet50 {
    stem: Conv,
    layout: ResNet50Layout,
    bottlenecks: Chain<Bottleneck>,
    pooling: Pooling,
    neck: Norm,
}

impl ResNet50 {
    pub(in crate::network) fn new(
        parameters: &mut Parameters<'_>,
        norm: ResNet50Norm,
        layout: ResNet50Layout,
    ) -> Result<Self, NetworkError> {
        let [conv, stem_norm, neck] = layout.ends();
        let look = ConvShape::point(INPUT[0], STEM).kernel([7, 7]).stride([2, 2]).padding([3, 3]);
        let activation = layout.stem_activation(norm);
        let stem = Conv::normed(parameters, [conv, stem_norm], look, Bias::Absent, activation)?;
        let mut bottlenecks = Vec::new();
        let mut inputs = STEM;
        for (stage, Stage { middle, repeats, stride }) in STAGES.into_iter().enumerate() {
            let norm = if stage + 1 < STAGES.len() { norm } else { ResNet50Norm::Batch };
            for repeat in 0..repeats {
                let key = format!("{}.{repeat}", layout.stage(stage));
                let stride = if repeat == 0 { stride } else { 1 };
                bottlenecks.push(Bottleneck::new(parameters, &key, norm, [inputs, middle], stride)?);
                inputs = middle * EXPANSION;
            }
        }
        let pooling = Pooling::new(parameters, layout)?;
        let neck = Norm::new(&Scale::take(parameters, neck, DIMENSION)?)?;
        Ok(Self { stem, layout, bottlenecks: Chain(bottlenecks), pooling, neck })
    }
}

impl Layer for ResNet50 {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let stem = self.stem.forward(&channels_last(input)?)?;
        let (padding, ceil) = match self.layout {
            ResNet50Layout::FastReid => (0, true),
            ResNet50Layout::Last | ResNet50Layout::StrongBaseline | ResNet50Layout::DomainMix => (1, false),
        };
        let halved = stem.f_max_pool2d([3, 3], [2, 2], [padding, padding], [1, 1], ceil)?;
        let pooled = self.pooling.forward(&self.bottlenecks.forward(&halved)?)?;
        self.neck.forward(&pooled.f_flatten(1, -1)?)
    }
}

/// Reduce, 3 x 3 convolution, expand, add the input.
#[derive(Debug)]
struct Bottleneck {
    narrow: Narrow,
    layers: Chain<Conv>,
    /// Projects the input to the output's shape if they differ.
    shortcut: Option<Conv>,
}

impl Bottleneck {
    fn new(
        parameters: &mut Parameters<'_>,
        key: &str,
        norm: ResNet50Norm,
        [inputs, middle]: [usize; 2],
        stride: usize,
    ) -> Result<Self, NetworkError> {
        let outputs = middle * EXPANSION;
        let mut normed = |[conv, norm]: [&str; 2], shape: ConvShape, activation: Activation| {
            let names = [&*format!("{key}.{conv}"), &*format!("{key}.{norm}")];
            Conv::normed(parameters, names, shape, Bias::Absent, activation)
        };
        let around = ConvShape::around(middle, middle).stride([stride, stride]);
        let look = normed(["conv2", "bn2"], around, Activation::Relu)?;
        let widen = normed(["conv3", "bn3"], ConvShape::point(middle, outputs), Activation::None)?;
        let project = ConvShape::point(inputs, outputs).stride([stride, stride]);
        let shortcut = (inputs != outputs || stride != 1)
            .then(|| normed(["downsample.0", "downsample.1"], project, Activation::None))
            .transpose()?;
        let narrow = match norm {
            ResNet50Norm::Batch => {
                Narrow::Batch(normed(["conv1", "bn1"], ConvShape::point(inputs, middle), Activation::Relu)?)
            }
            ResNet50Norm::IbnA => Narrow::Ibn(Ibn::new(parameters, key, [inputs, middle])?),
        };
        Ok(Self { narrow, layers: Chain(vec![look, widen]), shortcut })
    }
}

impl Layer for Bottleneck {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let narrow = match &self.narrow {
            Narrow::Batch(conv) => conv.forward(input)?,
            Narrow::Ibn(ibn) => ibn.forward(input)?,
        };
        let mut output = self.layers.forward(&narrow)?;
        let mut sum = match &self.shortcut {
            None => output.f_add_(input)?,
            Some(shortcut) => output.f_add_(&shortcut.forward(input)?)?,
        };
        sum.f_relu_()
    }
}

/// The first convolution of a bottleneck, its normalisation, ReLU.
#[derive(Debug)]
enum Narrow {
    Batch(Conv),
    Ibn(Ibn),
}

/// A 1 x 1 convolution with instance normalisation for the first half of the channels and batch normalisation for the
/// second.
#[derive(Debug)]
struct Ibn {
    conv: Conv,
    instance: InstanceNorm,
    /// `None` when folded into the second half of the convolution.
    batch: Option<Norm>,
    half: i64,
}

impl Ibn {
    fn new(parameters: &mut Parameters<'_>, key: &str, [inputs, outputs]: [usize; 2]) -> Result<Self, NetworkError> {
        let shape = ConvShape::point(inputs, outputs);
        let affine = Affine::take(parameters, &format!("{key}.conv1"), &[outputs, inputs, 1, 1], Bias::Absent)?;
        let half = outputs / 2;
        let instance = InstanceNorm::take(parameters, &format!("{key}.bn1.IN"), half)?;
        let scale = Scale::take(parameters, &format!("{key}.bn1.BN"), outputs - half)?;
        let (affine, batch) = match parameters.folding {
            Folding::Folded => {
                let ChannelScales { factors, shifts } = scale.channel_scales();
                let factors = [vec![1.0; half], factors].concat();
                let shifts = [vec![0.0; half], shifts].concat();
                (affine.followed_by_scales(&ChannelScales { factors, shifts }), None)
            }
            Folding::Unfolded => (affine, Some(Norm::new(&scale)?)),
        };
        Ok(Self { conv: Conv::from(affine, shape, Activation::None)?, instance, batch, half: side(half) })
    }
}

impl Layer for Ibn {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let mut map = self.conv.forward(input)?;
        let rest = map.size()[1] - self.half;
        let mut first = map.f_narrow(1, 0, self.half)?;
        first.f_copy_(&self.instance.forward(&first)?)?;
        if let Some(norm) = &self.batch {
            let mut second = map.f_narrow(1, self.half, rest)?;
            second.f_copy_(&norm.forward(&second)?)?;
        }
        map.f_relu_()
    }
}

/// Pooling of each channel's map to one number.
#[derive(Debug)]
enum Pooling {
    Mean,
    /// The generalised mean: the p-th root of the mean of p-th powers.
    Generalised(f64),
}

impl Pooling {
    /// Minimum value before the power, so that zero has a gradient.
    const LEAST: f64 = 1e-6;

    fn new(parameters: &mut Parameters<'_>, layout: ResNet50Layout) -> Result<Self, NetworkError> {
        let key = "heads.pool_layer.p";
        if layout != ResNet50Layout::FastReid || !parameters.has(key) {
            return Ok(Self::Mean);
        }
        let power = f64::from(parameters.take(key, &[1])?[0]);
        if power > 0.0 { Ok(Self::Generalised(power)) } else { Err(NetworkError::NotAPower(key.to_owned())) }
    }

    fn forward(&self, map: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::Mean => mean_over_map(map),
            Self::Generalised(power) => {
                let powers = map.f_clamp_min(Self::LEAST)?.f_pow_(*power)?;
                mean_over_map(&powers)?.f_pow_tensor_scalar(1.0 / power)
            }
        }
    }
}

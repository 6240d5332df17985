//! MiniFASNet (Minivision, Silent-Face-Anti-Spoofing 2020): a pruned MobileFaceNet for 80 x 80 crops of faces with
//! their surroundings. Its three outputs are two kinds of attack and, between them, bona fide.

use tch::{TchError, Tensor};

use super::{
    Folding, NetworkError,
    layers::{Activation, Affine, Bias, Chain, Conv, ConvShape, Layer, Linear, Scale, channels_last},
    parameters::{Parameters, StrictSource},
};
use weights::StateDict;

/// `[BGR, height, width]`, values 0 to 255.
pub(crate) const INPUT: [usize; 3] = [3, 80, 80];
pub(crate) const CLASSES: usize = 3;
/// Index of the bona fide output.
pub(crate) const BONA_FIDE: usize = 1;

const STEM: usize = 32;
const TOP: usize = 512;
const FEATURES: usize = 128;
/// Height and width of the last map after four halvings; a global depthwise convolution covers all of it.
const LAST_MAP: [usize; 2] = [5, 5];
/// Reduction of a gate's hidden layer.
const GATE_REDUCTION: usize = 4;

/// The two published networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    V2,
    V1Se,
}

/// Bottlenecks of one width: one that halves the map, then residual ones.
struct Stage {
    entry: &'static str,
    rest: &'static str,
    channels: usize,
    /// Inner channels of each bottleneck after pruning.
    wide: &'static [usize],
}

impl Variant {
    fn stages(self) -> [Stage; 3] {
        let [near, middle, far]: [&[usize]; 3] = match self {
            Self::V2 => [&[103, 13, 13, 13, 13], &[231, 231, 52, 26, 77, 26, 26], &[308, 26, 26]],
            Self::V1Se => [&[103, 13, 26, 13, 52], &[231, 154, 52, 26, 52, 26, 26], &[308, 26, 26]],
        };
        [
            Stage { entry: "conv_23", rest: "conv_3", channels: 64, wide: near },
            Stage { entry: "conv_34", rest: "conv_4", channels: 128, wide: middle },
            Stage { entry: "conv_45", rest: "conv_5", channels: 128, wide: far },
        ]
    }

    /// Whether the last bottleneck of a stage has a gate.
    fn is_gated(self) -> bool {
        self == Self::V1Se
    }
}

#[derive(Debug)]
pub(crate) struct MiniFasNet {
    stem: Chain<Conv>,
    bottlenecks: Chain<Bottleneck>,
    top: Chain<Conv>,
    answer: Chain<Linear>,
}

/// The published networks and their tensor prefixes in a joint state dict.
pub(crate) const PUBLISHED: [(&str, Variant); 2] = [("scale2_7.", Variant::V2), ("scale4_0.", Variant::V1Se)];

/// Builds the networks from one state dict.
pub(crate) fn build<const N: usize>(
    weights: StateDict,
    which: [(&str, Variant); N],
    folding: Folding,
) -> Result<[MiniFasNet; N], NetworkError> {
    let mut source = StrictSource::new(weights);
    let built = nets(&mut Parameters::new(&mut source, folding), which)?;
    source.finish(|key| key.ends_with(".num_batches_tracked"))?;
    Ok(built)
}

pub(super) fn nets<const N: usize>(
    parameters: &mut Parameters<'_>,
    which: [(&str, Variant); N],
) -> Result<[MiniFasNet; N], NetworkError> {
    let built = which.into_iter().map(|(prefix, variant)| MiniFasNet::new(parameters, prefix, variant));
    let built: Vec<MiniFasNet> = built.collect::<Result<_, _>>()?;
    Ok(built.try_into().expect("one net for each prefix"))
}

impl MiniFasNet {
    fn new(parameters: &mut Parameters<'_>, prefix: &str, variant: Variant) -> Result<Self, NetworkError> {
        let name = |layer: &str| format!("{prefix}{layer}");
        let wide = ConvShape::point(INPUT[0], STEM).kernel([3, 3]).stride([2, 2]).padding([1, 1]);
        let deep = ConvShape::depthwise(STEM).kernel([3, 3]).padding([1, 1]);
        let stem =
            vec![prelu(parameters, &name("conv1"), wide, STEM)?, prelu(parameters, &name("conv2_dw"), deep, STEM)?];
        let bottlenecks = bottlenecks(parameters, prefix, variant)?;
        let global = ConvShape::depthwise(TOP).kernel(LAST_MAP);
        let top = vec![
            prelu(parameters, &name("conv_6_sep"), ConvShape::point(FEATURES, TOP), TOP)?,
            linear(parameters, &name("conv_6_dw"), global)?,
        ];
        let features = Affine::take(parameters, &name("linear"), &[FEATURES, TOP], Bias::Absent)?;
        let features = features.followed_by(&Scale::take(parameters, &name("bn"), FEATURES)?);
        let classes = Affine::take(parameters, &name("prob"), &[CLASSES, FEATURES], Bias::Absent)?;
        let answer = vec![Linear::from(features, [TOP, FEATURES])?, Linear::from(classes, [FEATURES, CLASSES])?];
        Ok(Self { stem: Chain(stem), bottlenecks, top: Chain(top), answer: Chain(answer) })
    }

    /// From `[batch, 3, 80, 80]` to logits `[batch, 3]`.
    pub(crate) fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let stem = self.stem.forward(&channels_last(input)?)?;
        let top = self.top.forward(&self.bottlenecks.forward(&stem)?)?;
        self.answer.forward(&top.f_flatten(1, -1)?)
    }
}

/// Convolution, normalisation, PReLU.
fn prelu(parameters: &mut Parameters<'_>, key: &str, shape: ConvShape, channels: usize) -> Result<Conv, NetworkError> {
    let activation = Activation::prelu(parameters, &format!("{key}.prelu"), channels)?;
    Conv::normed(parameters, [&format!("{key}.conv"), &format!("{key}.bn")], shape, Bias::Absent, activation)
}

fn linear(parameters: &mut Parameters<'_>, key: &str, shape: ConvShape) -> Result<Conv, NetworkError> {
    Conv::normed(parameters, [&format!("{key}.conv"), &format!("{key}.bn")], shape, Bias::Absent, Activation::None)
}

fn bottlenecks(
    parameters: &mut Parameters<'_>,
    prefix: &str,
    variant: Variant,
) -> Result<Chain<Bottleneck>, NetworkError> {
    let mut chain = Vec::new();
    let mut inputs = STEM;
    for Stage { entry, rest, channels, wide } in variant.stages() {
        chain.push(Bottleneck::halving(parameters, &format!("{prefix}{entry}"), [inputs, wide[0], channels])?);
        for (at, inside) in wide[1..].iter().enumerate() {
            let key = format!("{prefix}{rest}.model.{at}");
            let mut bottleneck = Bottleneck::keeping(parameters, &key, [channels, *inside])?;
            if variant.is_gated() && at + 2 == wide.len() {
                bottleneck.gate = Some(Gate::new(parameters, &format!("{key}.se_module"), channels)?);
            }
            chain.push(bottleneck);
        }
        inputs = channels;
    }
    Ok(Chain(chain))
}

/// Expand, depthwise convolution, project.
#[derive(Debug)]
struct Bottleneck {
    layers: Chain<Conv>,
    gate: Option<Gate>,
    keeps_input: bool,
}

impl Bottleneck {
    fn halving(parameters: &mut Parameters<'_>, key: &str, widths: [usize; 3]) -> Result<Self, NetworkError> {
        Ok(Self { layers: Self::layers(parameters, key, widths, 2)?, gate: None, keeps_input: false })
    }

    fn keeping(parameters: &mut Parameters<'_>, key: &str, [channels, wide]: [usize; 2]) -> Result<Self, NetworkError> {
        let layers = Self::layers(parameters, key, [channels, wide, channels], 1)?;
        Ok(Self { layers, gate: None, keeps_input: true })
    }

    fn layers(
        parameters: &mut Parameters<'_>,
        key: &str,
        [inputs, wide, outputs]: [usize; 3],
        stride: usize,
    ) -> Result<Chain<Conv>, NetworkError> {
        let around = ConvShape::depthwise(wide).kernel([3, 3]).stride([stride, stride]).padding([1, 1]);
        Ok(Chain(vec![
            prelu(parameters, &format!("{key}.conv"), ConvShape::point(inputs, wide), wide)?,
            prelu(parameters, &format!("{key}.conv_dw"), around, wide)?,
            linear(parameters, &format!("{key}.project"), ConvShape::point(wide, outputs))?,
        ]))
    }
}

impl Layer for Bottleneck {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let mut output = self.layers.forward(input)?;
        if let Some(gate) = &self.gate {
            output = gate.forward(&output)?;
        }
        if self.keeps_input { output.f_add_(input) } else { Ok(output) }
    }
}

/// Weights channels by their means (squeeze and excitation).
#[derive(Debug)]
struct Gate {
    layers: Chain<Conv>,
}

impl Gate {
    fn new(parameters: &mut Parameters<'_>, key: &str, channels: usize) -> Result<Self, NetworkError> {
        let hidden = channels / GATE_REDUCTION;
        let mut layer = |number: usize, [inputs, outputs]: [usize; 2], activation: Activation| {
            let names = [&*format!("{key}.fc{number}"), &*format!("{key}.bn{number}")];
            Conv::normed(parameters, names, ConvShape::point(inputs, outputs), Bias::Absent, activation)
        };
        let first = layer(1, [channels, hidden], Activation::Relu)?;
        Ok(Self { layers: Chain(vec![first, layer(2, [hidden, channels], Activation::None)?]) })
    }
}

impl Layer for Gate {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let mean = input.f_mean_dim([2_i64, 3].as_slice(), true, None)?;
        input.f_mul(&self.layers.forward(&mean)?.f_sigmoid()?)
    }
}

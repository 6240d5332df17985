//! GaitGraph's encoder: ResGCN-N39-r8 (Teepe et al. 2021, after Song et al. 2020) over walks of 60 frames of 17 joints.
//!
//! A unit convolves over the joints of the skeleton's graph, then over time for each joint, both as bottlenecks with an
//! eighth of the channels. Tensors are `[batch, channels, frames, joints]`.

use tch::{TchError, Tensor};

use crate::network::{
    Folding, NetworkError,
    layers::{
        Activation, Affine, Bias, Chain, ChannelScales, Conv, ConvShape, Layer, Linear, Norm, Scale, narrow, side,
        tensor,
    },
    parameters::Parameters,
};

/// `[frames, joints in COCO order, (x, y, score)]`.
pub(in crate::network) const INPUT: [usize; 3] = [60, JOINTS, CHANNELS];
pub(in crate::network) const DIMENSION: usize = 128;

const JOINTS: usize = 17;
const CHANNELS: usize = 3;
/// Weight files store adjacency up to distance three and use it up to two: 0, 1 and 2 edges.
const DISTANCES_STORED: usize = 4;
const DISTANCES: usize = 3;
const REDUCTION: usize = 8;
/// Window of a temporal convolution in frames.
const WINDOW: usize = 9;

#[derive(Debug)]
pub(in crate::network) struct GaitGraph {
    /// Input normalisation, unless it is folded into the stem.
    norm: Option<Norm>,
    stem: Stem,
    units: Chain<Unit>,
    features: Linear,
}

impl GaitGraph {
    pub(in crate::network) fn new(parameters: &mut Parameters<'_>) -> Result<Self, NetworkError> {
        let graph = Adjacency::take(parameters, "input_branches.0.A")?;
        let scale = Scale::take(parameters, "input_branches.0.bn", CHANNELS)?;
        let (norm, scale) = match parameters.folding {
            Folding::Folded => (None, Some(scale)),
            Folding::Unfolded => (Some(Norm::new(&scale)?), None),
        };
        let stem = Stem::new(parameters, "input_branches.0.layers.0", &graph, scale.as_ref())?;
        let mut units = Vec::new();
        for (layer, widths) in [(1, [64, 64]), (2, [64, 32])] {
            units.push(Unit::new(parameters, &format!("input_branches.0.layers.{layer}"), &graph, widths, 1)?);
        }
        let graph = Adjacency::take(parameters, "A")?;
        for (layer, widths, stride) in [(0, [32, 128], 2), (1, [128, 128], 1), (2, [128, 256], 2), (3, [256, 256], 1)] {
            units.push(Unit::new(parameters, &format!("main_stream.{layer}"), &graph, widths, stride)?);
        }
        let features = Linear::plain(parameters, "fcn", [256, DIMENSION])?;
        Ok(Self { norm, stem, units: Chain(units), features })
    }
}

impl Layer for GaitGraph {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let input = input.f_permute([0, 3, 1, 2])?.f_contiguous()?;
        let input = match &self.norm {
            None => input,
            Some(norm) => norm.forward(&input)?,
        };
        let walk = self.units.forward(&self.stem.forward(&input)?)?;
        self.features.forward(&walk.f_mean_dim([2_i64, 3].as_slice(), false, None)?)
    }
}

/// The first unit, without bottleneck and shortcut.
#[derive(Debug)]
struct Stem {
    space: GraphConv,
    time: Conv,
}

impl Stem {
    fn new(
        parameters: &mut Parameters<'_>,
        key: &str,
        graph: &Adjacency,
        input_scale: Option<&Scale>,
    ) -> Result<Self, NetworkError> {
        let width = 64;
        let graph = graph.weighed(parameters, key)?;
        let names = [&*format!("{key}.tcn.conv"), &*format!("{key}.tcn.bn")];
        Ok(Self {
            space: GraphConv::new(parameters, &format!("{key}.scn"), &graph, [CHANNELS, width], input_scale)?,
            time: Conv::normed(parameters, names, along_time(width, 1), Bias::Present, Activation::Relu)?,
        })
    }
}

impl Layer for Stem {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        self.time.forward(&self.space.forward(input)?)
    }
}

/// Convolution over joints, then over time.
#[derive(Debug)]
struct Unit {
    space: Bottleneck<GraphConv>,
    time: Bottleneck<Conv>,
}

impl Unit {
    fn new(
        parameters: &mut Parameters<'_>,
        key: &str,
        graph: &Adjacency,
        [inputs, outputs]: [usize; 2],
        stride: usize,
    ) -> Result<Self, NetworkError> {
        let middle = outputs / REDUCTION;
        let graph = graph.weighed(parameters, key)?;
        let scn = format!("{key}.scn");
        let across = GraphConv::new(parameters, &scn, &graph, [middle, middle], None)?;
        let tcn = format!("{key}.tcn");
        let names = [&*format!("{tcn}.conv"), &*format!("{tcn}.bn")];
        let along = Conv::normed(parameters, names, along_time(middle, stride), Bias::Present, Activation::Relu)?;
        Ok(Self {
            space: Bottleneck::new(parameters, &scn, across, [inputs, outputs], 1)?,
            time: Bottleneck::new(parameters, &tcn, along, [outputs, outputs], stride)?,
        })
    }
}

impl Layer for Unit {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        self.time.forward(&self.space.forward(input)?)
    }
}

/// Every convolution is followed by a product over joints, so joints are innermost.
fn joint_by_joint(inputs: usize, outputs: usize) -> ConvShape {
    ConvShape::point(inputs, outputs).channels_first()
}

fn along_time(channels: usize, stride: usize) -> ConvShape {
    let shape = joint_by_joint(channels, channels).kernel([WINDOW, 1]);
    shape.stride([stride, 1]).padding([WINDOW / 2, 0])
}

/// Reduce, process, expand, add the input.
#[derive(Debug)]
struct Bottleneck<L> {
    down: Conv,
    middle: L,
    up: Conv,
    /// Projects the input to the output's shape if they differ.
    shortcut: Option<Conv>,
}

impl<L: Layer> Bottleneck<L> {
    fn new(
        parameters: &mut Parameters<'_>,
        key: &str,
        middle: L,
        [inputs, outputs]: [usize; 2],
        stride: usize,
    ) -> Result<Self, NetworkError> {
        let width = outputs / REDUCTION;
        let names = |conv: &str, norm: &str| [format!("{key}.{conv}"), format!("{key}.{norm}")];
        let mut point = |names: [String; 2], shape: ConvShape, activation: Activation| {
            Conv::normed(parameters, [&names[0], &names[1]], shape, Bias::Present, activation)
        };
        let project = joint_by_joint(inputs, outputs).stride([stride, 1]);
        Ok(Self {
            down: point(names("conv_down", "bn_down"), joint_by_joint(inputs, width), Activation::Relu)?,
            up: point(names("conv_up", "bn_up"), joint_by_joint(width, outputs), Activation::None)?,
            shortcut: (inputs != outputs || stride != 1)
                .then(|| point(names("residual.0", "residual.1"), project, Activation::None))
                .transpose()?,
            middle,
        })
    }
}

impl<L: Layer> Layer for Bottleneck<L> {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let mut output = self.up.forward(&self.middle.forward(&self.down.forward(input)?)?)?;
        let mut sum = match &self.shortcut {
            None => output.f_add_(input)?,
            Some(shortcut) => output.f_add_(&shortcut.forward(input)?)?,
        };
        sum.f_relu_()
    }
}

/// Per distance, the weight from joint `v` to joint `w`: `[distance, v, w]`.
struct Adjacency(Vec<f32>);

impl Adjacency {
    const SHAPE: [usize; 3] = [DISTANCES_STORED, JOINTS, JOINTS];

    fn take(parameters: &mut Parameters<'_>, key: &str) -> Result<Self, NetworkError> {
        Ok(Self(parameters.take(key, &Self::SHAPE)?))
    }

    /// The adjacency of one unit, each edge multiplied by its learnt importance: `[distances, v, w]`.
    fn weighed(&self, parameters: &mut Parameters<'_>, key: &str) -> Result<Tensor, NetworkError> {
        let edges = parameters.take(&format!("{key}.edge"), &Self::SHAPE)?;
        let used = DISTANCES * JOINTS * JOINTS;
        let weighed: Vec<f32> = self.0[..used].iter().zip(&edges).map(|(graph, edge)| graph * edge).collect();
        tensor(&weighed, &[DISTANCES, JOINTS, JOINTS])
    }
}

/// A 1 x 1 convolution per distance, summed over the joints at that distance; normalisation; ReLU.
#[derive(Debug)]
struct GraphConv {
    conv: Conv,
    graph: Tensor,
    after: After,
    outputs: usize,
}

/// The normalisation after the sum over joints.
#[derive(Debug)]
enum After {
    /// Folded: the factor is in the convolution, one shift per channel remains.
    Shift(Tensor),
    Norm(Norm),
}

impl GraphConv {
    fn new(
        parameters: &mut Parameters<'_>,
        key: &str,
        graph: &Tensor,
        [inputs, outputs]: [usize; 2],
        input_scale: Option<&Scale>,
    ) -> Result<Self, NetworkError> {
        let shape = joint_by_joint(inputs, DISTANCES * outputs);
        let gcn = format!("{key}.conv.gcn");
        let mut affine = Affine::take(parameters, &gcn, &[DISTANCES * outputs, inputs, 1, 1], Bias::Present)?;
        if let Some(scale) = input_scale {
            affine = affine.preceded_by(&scale.channel_scales());
        }
        let scale = Scale::take(parameters, &format!("{key}.bn"), outputs)?;
        let after = match parameters.folding {
            Folding::Unfolded => After::Norm(Norm::new(&scale)?),
            Folding::Folded => {
                let ChannelScales { factors, shifts } = scale.channel_scales();
                affine = affine.scaled(&factors);
                let shifts: Vec<f32> = shifts.into_iter().map(narrow).collect();
                After::Shift(tensor(&shifts, &[outputs, 1, 1])?)
            }
        };
        Ok(Self { conv: Conv::from(affine, shape, Activation::None)?, graph: graph.shallow_clone(), after, outputs })
    }
}

impl Layer for GraphConv {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let (batch, _, frames, joints) = input.size4()?;
        let outputs = side(self.outputs);
        let mixed = self.conv.forward(input)?.f_reshape([batch, side(DISTANCES), outputs * frames, joints])?;
        let summed = mixed.f_matmul(&self.graph)?.f_sum_dim_intlist([1_i64].as_slice(), false, None)?;
        let mut summed = summed.f_reshape([batch, outputs, frames, joints])?;
        match &self.after {
            After::Shift(shift) => summed.f_add_(shift)?.f_relu_(),
            After::Norm(norm) => norm.forward(&summed)?.f_relu_(),
        }
    }
}

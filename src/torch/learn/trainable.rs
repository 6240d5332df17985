//! The trainable gait network.
//!
//! The order of layers is [`gaittcn::embed`], as in serving; here are the trainable layers, with batch statistics in
//! training and running statistics otherwise.

use std::collections::HashMap;

use tch::{Kind, TchError, Tensor};

use super::{LearnError, numbers};
use crate::network::gaittcn::{self, Extent, Following, LayerRunner, LayerSpec};
use weights::{Dtype, RawTensor, StateDict};

/// The same as in the served layers.
const NORM_EPSILON: f64 = 1e-5;
/// Momentum of the running statistics.
const MOMENTUM: f64 = 0.05;

#[derive(Debug)]
pub(super) struct Trainable {
    keys: Vec<String>,
    /// Trainable tensors in the order of `keys`.
    learnt: Vec<Tensor>,
    /// Index of a key in `learnt`.
    places: HashMap<String, usize>,
    /// Running means and variances of the normalisations.
    gathered: HashMap<String, Tensor>,
}

/// The statistics of a normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NormMode {
    /// The batch's, which update the running statistics.
    OfBatch,
    Gathered,
}

/// A tensor of the layout and its initial values.
struct TensorSpec {
    key: String,
    shape: Vec<i64>,
    first: InitialValues,
}

#[derive(Clone, Copy)]
enum InitialValues {
    /// Normal numbers scaled by fan-in (He et al. 2015).
    Drawn {
        fan_in: usize,
    },
    Zeros,
    Ones,
}

/// Trainable tensors, then running statistics.
fn layout(layer: &LayerSpec) -> (Vec<TensorSpec>, Vec<TensorSpec>) {
    let entry = |name: &str, shape: &[usize], first| {
        let key = format!("{}.{name}", layer.key);
        TensorSpec { key, shape: shape.iter().copied().map(side).collect(), first }
    };
    let LayerSpec { inputs, outputs, .. } = *layer;
    let [weight, bias] = names(layer);
    let weight = match layer.extent {
        Extent::Whole => entry(weight, &[outputs, inputs], InitialValues::Drawn { fan_in: inputs }),
        Extent::Along { window, .. } => {
            entry(weight, &[outputs, inputs, 1, window], InitialValues::Drawn { fan_in: inputs * window })
        }
    };
    let one = |name: &str, first| entry(name, &[outputs], first);
    let bias = one(bias, InitialValues::Zeros);
    match layer.following {
        Following::Nothing => (vec![weight, bias], Vec::new()),
        Following::Norm => (
            vec![weight, bias, one("norm.weight", InitialValues::Ones), one("norm.bias", InitialValues::Zeros)],
            vec![one("norm.running_mean", InitialValues::Zeros), one("norm.running_var", InitialValues::Ones)],
        ),
    }
}

/// Names of a layer's weight and bias.
fn names(layer: &LayerSpec) -> [&'static str; 2] {
    match layer.extent {
        Extent::Along { .. } => ["conv.weight", "conv.bias"],
        Extent::Whole => ["linear.weight", "linear.bias"],
    }
}

impl Trainable {
    pub(super) fn new(normal: &mut dyn FnMut() -> f32) -> Result<Self, LearnError> {
        Self::made(&mut |entry| {
            let count = usize::try_from(entry.shape.iter().product::<i64>()).expect("sides are positive");
            let numbers: Vec<f32> = match entry.first {
                InitialValues::Zeros => vec![0.0; count],
                InitialValues::Ones => vec![1.0; count],
                InitialValues::Drawn { fan_in } => {
                    let size = (2.0 / fan_in as f32).sqrt();
                    (0..count).map(|_| normal() * size).collect()
                }
            };
            Ok(Tensor::f_from_slice(&numbers)?.f_reshape(&entry.shape)?)
        })
    }

    /// Takes its tensors out of `state`.
    pub(super) fn from_state(state: &mut StateDict) -> Result<Self, LearnError> {
        Self::made(&mut |entry| take(state, &entry.key, &entry.shape))
    }

    fn made(make: &mut dyn FnMut(&TensorSpec) -> Result<Tensor, LearnError>) -> Result<Self, LearnError> {
        let (mut keys, mut learnt, mut gathered) = (Vec::new(), Vec::new(), HashMap::new());
        for layer in gaittcn::layer_specs() {
            let (of_piece, statistics) = layout(&layer);
            for entry in of_piece {
                learnt.push(make(&entry)?.f_set_requires_grad(true)?);
                keys.push(entry.key);
            }
            for entry in statistics {
                let tensor = make(&entry)?;
                gathered.insert(entry.key, tensor);
            }
        }
        let places = keys.iter().cloned().zip(0..).collect();
        Ok(Self { keys, learnt, places, gathered })
    }

    pub(super) fn learnt(&self) -> &[Tensor] {
        &self.learnt
    }

    pub(super) fn learnt_keys(&self) -> &[String] {
        &self.keys
    }

    /// The same parameters with batch statistics, which update the running statistics.
    pub(super) fn learning(&self) -> TrainingPass<'_> {
        TrainingPass(self)
    }

    pub(super) fn state(&self) -> Result<StateDict, LearnError> {
        let mut state = StateDict::default();
        let learnt = self.keys.iter().zip(&self.learnt);
        for (key, tensor) in learnt.chain(self.gathered.iter()) {
            state.insert(key.clone(), raw(tensor)?)?;
        }
        Ok(state)
    }

    fn tensor(&self, layer: &LayerSpec, name: &str) -> &Tensor {
        let key = format!("{}.{name}", layer.key);
        self.places.get(&key).map_or_else(|| &self.gathered[&key], |place| &self.learnt[*place])
    }

    fn step(&self, layer: &LayerSpec, input: &Tensor, norms: NormMode) -> Result<Tensor, TchError> {
        let tensor = |name: &str| self.tensor(layer, name);
        let [weight, bias] = names(layer).map(tensor);
        let output = match layer.extent {
            Extent::Whole => input.f_linear(weight, Some(bias))?,
            Extent::Along { window, stride } => {
                let (stride, padding) = ([1, side(stride)], [0, side(window / 2)]);
                input.f_conv2d(weight, Some(bias), stride, padding, [1, 1], 1)?
            }
        };
        match layer.following {
            Following::Nothing => Ok(output),
            Following::Norm => {
                let (weight, bias) = (Some(tensor("norm.weight")), Some(tensor("norm.bias")));
                let (mean, variance) = (Some(tensor("norm.running_mean")), Some(tensor("norm.running_var")));
                output.f_batch_norm(
                    weight,
                    bias,
                    mean,
                    variance,
                    norms == NormMode::OfBatch,
                    MOMENTUM,
                    NORM_EPSILON,
                    false,
                )
            }
        }
    }
}

impl LayerRunner for Trainable {
    fn run(&self, layer: &LayerSpec, input: &Tensor) -> Result<Tensor, TchError> {
        self.step(layer, input, NormMode::Gathered)
    }
}

pub(super) struct TrainingPass<'a>(&'a Trainable);

impl LayerRunner for TrainingPass<'_> {
    fn run(&self, layer: &LayerSpec, input: &Tensor) -> Result<Tensor, TchError> {
        self.0.step(layer, input, NormMode::OfBatch)
    }
}

/// Takes an f32 tensor out of a state.
pub(super) fn take(state: &mut StateDict, key: &str, shape: &[i64]) -> Result<Tensor, LearnError> {
    let bad = |why: &str| LearnError::BadState(format!("{key:?} {why}"));
    let tensor = state.remove(key).ok_or_else(|| bad("is missing"))?;
    if tensor.dtype() != Dtype::F32 || !tensor.shape().iter().copied().map(side).eq(shape.iter().copied()) {
        return Err(bad("has another shape or number type"));
    }
    let numbers: Vec<f32> = tensor.bytes().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    if numbers.iter().any(|number| !number.is_finite()) {
        return Err(bad("has a number that is not finite"));
    }
    Ok(Tensor::f_from_slice(&numbers)?.f_reshape(shape)?)
}

pub(super) fn raw(tensor: &Tensor) -> Result<RawTensor, LearnError> {
    let numbers = numbers(&tensor.f_detach()?.f_to_kind(Kind::Float)?)?;
    if numbers.iter().any(|number| !number.is_finite()) {
        return Err(LearnError::Diverged);
    }
    let shape = tensor.size().iter().map(|side| usize::try_from(*side).expect("sides are positive")).collect();
    Ok(RawTensor::from_f32(shape, &numbers).expect("the shape matches"))
}

/// The length of an axis as libtorch's i64.
pub(super) fn side(side: usize) -> i64 {
    i64::try_from(side).expect("no tensor has 2^63 numbers")
}

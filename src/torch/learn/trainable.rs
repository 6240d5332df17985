//! The gait network with numbers that learn.
//!
//! The way through its layers is [`gaittcn::embed`], the same as when it is served; here are the steps of that way, with
//! normalisation by the batch while learning and by what was gathered meanwhile otherwise.

use std::collections::HashMap;

use tch::{Kind, TchError, Tensor};

use super::{LearnError, numbers};
use crate::network::gaittcn::{self, After, Piece, Reach, Steps};
use weights::{Dtype, RawTensor, StateDict};

/// As the layers that serve have it.
const NORM_EPSILON: f64 = 1e-5;
/// How fast the gathered statistics follow the batches.
const MOMENTUM: f64 = 0.05;

#[derive(Debug)]
pub(super) struct Trainable {
    keys: Vec<String>,
    /// What the optimizer changes, in the order of `keys`.
    learnt: Vec<Tensor>,
    /// Where in `learnt` a key is.
    places: HashMap<String, usize>,
    /// Means and variances of the normalisations, gathered while learning.
    gathered: HashMap<String, Tensor>,
}

/// What a normalisation goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Norms {
    /// The batch, whose statistics are gathered by the way.
    OfBatch,
    Gathered,
}

/// A tensor of the layout, and what it holds before anything is learnt.
struct Entry {
    key: String,
    shape: Vec<i64>,
    first: First,
}

#[derive(Clone, Copy)]
enum First {
    /// Normal numbers that keep the size of what goes through (He et al. 2015).
    Drawn {
        fan_in: usize,
    },
    Zeros,
    Ones,
}

/// What is learnt, then what is gathered.
fn layout(piece: &Piece) -> (Vec<Entry>, Vec<Entry>) {
    let entry = |name: &str, shape: &[usize], first| {
        let key = format!("{}.{name}", piece.key);
        Entry { key, shape: shape.iter().copied().map(side).collect(), first }
    };
    let Piece { inputs, outputs, .. } = *piece;
    let [weight, bias] = names(piece);
    let weight = match piece.reach {
        Reach::Whole => entry(weight, &[outputs, inputs], First::Drawn { fan_in: inputs }),
        Reach::Along { window, .. } => {
            entry(weight, &[outputs, inputs, 1, window], First::Drawn { fan_in: inputs * window })
        }
    };
    let one = |name: &str, first| entry(name, &[outputs], first);
    let bias = one(bias, First::Zeros);
    match piece.after {
        After::Nothing => (vec![weight, bias], Vec::new()),
        After::Norm => (
            vec![weight, bias, one("norm.weight", First::Ones), one("norm.bias", First::Zeros)],
            vec![one("norm.running_mean", First::Zeros), one("norm.running_var", First::Ones)],
        ),
    }
}

/// Weight and bias of a piece's linear step.
fn names(piece: &Piece) -> [&'static str; 2] {
    match piece.reach {
        Reach::Along { .. } => ["conv.weight", "conv.bias"],
        Reach::Whole => ["linear.weight", "linear.bias"],
    }
}

impl Trainable {
    pub(super) fn new(normal: &mut dyn FnMut() -> f32) -> Result<Self, LearnError> {
        Self::made(&mut |entry| {
            let count = usize::try_from(entry.shape.iter().product::<i64>()).expect("sides are positive");
            let numbers: Vec<f32> = match entry.first {
                First::Zeros => vec![0.0; count],
                First::Ones => vec![1.0; count],
                First::Drawn { fan_in } => {
                    let size = (2.0 / fan_in as f32).sqrt();
                    (0..count).map(|_| normal() * size).collect()
                }
            };
            Ok(Tensor::f_from_slice(&numbers)?.f_reshape(&entry.shape)?)
        })
    }

    /// Takes what it needs out of `state`.
    pub(super) fn from_state(state: &mut StateDict) -> Result<Self, LearnError> {
        Self::made(&mut |entry| take(state, &entry.key, &entry.shape))
    }

    fn made(make: &mut dyn FnMut(&Entry) -> Result<Tensor, LearnError>) -> Result<Self, LearnError> {
        let (mut keys, mut learnt, mut gathered) = (Vec::new(), Vec::new(), HashMap::new());
        for piece in gaittcn::pieces() {
            let (of_piece, statistics) = layout(&piece);
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

    /// The same numbers, normalising by the batch and gathering its statistics.
    pub(super) fn learning(&self) -> Learning<'_> {
        Learning(self)
    }

    pub(super) fn state(&self) -> Result<StateDict, LearnError> {
        let mut state = StateDict::default();
        let learnt = self.keys.iter().zip(&self.learnt);
        for (key, tensor) in learnt.chain(self.gathered.iter()) {
            state.insert(key.clone(), raw(tensor)?)?;
        }
        Ok(state)
    }

    fn tensor(&self, piece: &Piece, name: &str) -> &Tensor {
        let key = format!("{}.{name}", piece.key);
        self.places.get(&key).map_or_else(|| &self.gathered[&key], |place| &self.learnt[*place])
    }

    fn step(&self, piece: &Piece, input: &Tensor, norms: Norms) -> Result<Tensor, TchError> {
        let tensor = |name: &str| self.tensor(piece, name);
        let [weight, bias] = names(piece).map(tensor);
        let output = match piece.reach {
            Reach::Whole => input.f_linear(weight, Some(bias))?,
            Reach::Along { window, stride } => {
                let (stride, padding) = ([1, side(stride)], [0, side(window / 2)]);
                input.f_conv2d(weight, Some(bias), stride, padding, [1, 1], 1)?
            }
        };
        match piece.after {
            After::Nothing => Ok(output),
            After::Norm => {
                let (weight, bias) = (Some(tensor("norm.weight")), Some(tensor("norm.bias")));
                let (mean, variance) = (Some(tensor("norm.running_mean")), Some(tensor("norm.running_var")));
                output.f_batch_norm(
                    weight,
                    bias,
                    mean,
                    variance,
                    norms == Norms::OfBatch,
                    MOMENTUM,
                    NORM_EPSILON,
                    false,
                )
            }
        }
    }
}

impl Steps for Trainable {
    fn run(&self, piece: &Piece, input: &Tensor) -> Result<Tensor, TchError> {
        self.step(piece, input, Norms::Gathered)
    }
}

pub(super) struct Learning<'a>(&'a Trainable);

impl Steps for Learning<'_> {
    fn run(&self, piece: &Piece, input: &Tensor) -> Result<Tensor, TchError> {
        self.0.step(piece, input, Norms::OfBatch)
    }
}

/// Takes a tensor of f32 out of a state.
pub(super) fn take(state: &mut StateDict, key: &str, shape: &[i64]) -> Result<Tensor, LearnError> {
    let bad = |why: &str| LearnError::BadState(format!("{key:?} {why}"));
    let tensor = state.remove(key).ok_or_else(|| bad("is missing"))?;
    if tensor.dtype() != Dtype::F32 || !tensor.shape().iter().copied().map(side).eq(shape.iter().copied()) {
        return Err(bad("has another shape or number type"));
    }
    let numbers: Vec<f32> = tensor.bytes().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    if numbers.iter().any(|number| !number.is_finite()) {
        return Err(bad("holds a number that is not finite"));
    }
    Ok(Tensor::f_from_slice(&numbers)?.f_reshape(shape)?)
}

pub(super) fn raw(tensor: &Tensor) -> Result<RawTensor, LearnError> {
    let numbers = numbers(&tensor.f_detach()?.f_to_kind(Kind::Float)?)?;
    if numbers.iter().any(|number| !number.is_finite()) {
        return Err(LearnError::Diverged);
    }
    let shape = tensor.size().iter().map(|side| usize::try_from(*side).expect("sides are positive")).collect();
    Ok(RawTensor::from_f32(shape, &numbers).expect("as many numbers as the shape says"))
}

/// A side of a tensor as libtorch counts it.
pub(super) fn side(side: usize) -> i64 {
    i64::try_from(side).expect("no tensor has 2^63 numbers")
}

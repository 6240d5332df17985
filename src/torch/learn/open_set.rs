//! The trainable networks of the open-set decider: whether a probe is enrolled, from relation features.
//!
//! `decision::decider` has the same layers without libtorch; its tests compare both. The sizes below must match it.

use std::collections::HashMap;

use tch::{Kind, Reduction, TchError, Tensor};

use super::{AdamWSettings, LearnError, adamw::AdamW, numbers, settle, trainable};
use weights::StateDict;

/// Features of a neighbour, of the gallery token and of a summary, and the maximum number of neighbours.
const ITEM: usize = 11;
const GLOBALS: usize = 12;
const SUMMARY: usize = 18;
const ITEMS: usize = 16;
const WIDTH: usize = 48;
const HEADS: usize = 4;
const WIDE: usize = 96;
const PERCEPTRON: usize = 64;
const NORM_EPSILON: f64 = 1e-5;
/// Mask added to the attention logits of absent neighbours.
const ABSENT: f64 = -1e9;

/// The two networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenSetNetwork {
    SetTransformer,
    Perceptron,
}

/// A batch of probes, row-major, with labels.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OpenSetBatch {
    /// `[probes, 16, 11]`; absent neighbours come last and are zeros.
    pub items: Vec<f32>,
    /// `[probes, 16]`, 1 for a neighbour and 0 for padding.
    pub present: Vec<f32>,
    /// `[probes, 12]`.
    pub globals: Vec<f32>,
    /// `[probes, 18]`.
    pub summaries: Vec<f32>,
    /// `[probes]`, 1 for enrolled and 0 for non-enrolled.
    pub enrolled: Vec<f32>,
}

/// A trainable network of the open-set decider.
#[derive(Debug)]
pub struct OpenSetLearner {
    network: OpenSetNetwork,
    keys: Vec<String>,
    learnt: Vec<Tensor>,
    places: HashMap<String, usize>,
    optimizer: AdamW,
}

impl OpenSetLearner {
    /// Draws initial weights with `normal`, a source of standard normal numbers.
    ///
    /// # Errors
    ///
    /// When libtorch fails.
    pub fn new(network: OpenSetNetwork, normal: &mut dyn FnMut() -> f32) -> Result<Self, LearnError> {
        Self::made(network, &mut |entry| {
            let size = match entry.first {
                InitialValues::Zeros => 0.0,
                InitialValues::Ones => 1.0,
                InitialValues::Drawn(inputs) => (1.0 / inputs as f32).sqrt(),
            };
            let count = entry.shape.iter().product::<usize>();
            let drawn = matches!(entry.first, InitialValues::Drawn(_));
            let numbers: Vec<f32> = (0..count).map(|_| if drawn { size * normal() } else { size }).collect();
            Ok(Tensor::f_from_slice(&numbers)?.f_reshape(sides(&entry.shape))?)
        })
    }

    /// Starts from weights of [`OpenSetLearner::weights`]; other tensors in the dict are ignored.
    ///
    /// # Errors
    ///
    /// [`LearnError::BadState`] when a tensor is missing or malformed.
    pub fn with_weights(network: OpenSetNetwork, mut weights: StateDict) -> Result<Self, LearnError> {
        Self::made(network, &mut |entry| trainable::take(&mut weights, &entry.key, &sides(&entry.shape)))
    }

    fn made(
        network: OpenSetNetwork,
        make: &mut dyn FnMut(&TensorSpec) -> Result<Tensor, LearnError>,
    ) -> Result<Self, LearnError> {
        settle();
        let (mut keys, mut learnt) = (Vec::new(), Vec::new());
        for entry in layout(network) {
            learnt.push(make(&entry)?.f_set_requires_grad(true)?);
            keys.push(entry.key);
        }
        let places = keys.iter().cloned().zip(0..).collect();
        Ok(Self { network, optimizer: AdamW::new(&learnt)?, keys, learnt, places })
    }

    /// One optimizer step on the binary cross-entropy of a batch; returns the loss before the step.
    ///
    /// # Errors
    ///
    /// [`LearnError::WrongProbes`], [`LearnError::Diverged`], or an error of libtorch.
    pub fn step(&mut self, batch: &OpenSetBatch, settings: AdamWSettings) -> Result<f64, LearnError> {
        settle();
        let target = tensor(&batch.enrolled, [batch.enrolled.len()])?;
        let loss =
            self.forward(batch)?.f_binary_cross_entropy_with_logits::<&Tensor>(&target, None, None, Reduction::Mean)?;
        let gradients = Tensor::f_run_backward(&[&loss], &self.learnt, false, false)?;
        let loss = loss.f_double_value(&[])?;
        if !loss.is_finite() {
            return Err(LearnError::Diverged);
        }
        let _gradients_off = tch::no_grad_guard();
        self.optimizer.step(&self.learnt, &gradients, settings)?;
        Ok(loss)
    }

    /// The uncalibrated logit of each probe.
    ///
    /// # Errors
    ///
    /// [`LearnError::WrongProbes`], or an error of libtorch.
    pub fn logits(&self, batch: &OpenSetBatch) -> Result<Vec<f32>, LearnError> {
        settle();
        let _gradients_off = tch::no_grad_guard();
        Ok(numbers(&self.forward(batch)?)?)
    }

    pub fn weights(&self) -> Result<StateDict, LearnError> {
        let mut weights = StateDict::default();
        for (key, tensor) in self.keys.iter().zip(&self.learnt) {
            weights.insert(key.clone(), trainable::raw(tensor)?)?;
        }
        Ok(weights)
    }

    fn forward(&self, batch: &OpenSetBatch) -> Result<Tensor, LearnError> {
        let probes = batch.enrolled.len();
        let sound = [
            (batch.items.len(), ITEMS * ITEM),
            (batch.present.len(), ITEMS),
            (batch.globals.len(), GLOBALS),
            (batch.summaries.len(), SUMMARY),
        ];
        if probes == 0 || sound.iter().any(|(numbers, each)| *numbers != probes * each) {
            return Err(LearnError::WrongProbes { probes });
        }
        Ok(match self.network {
            OpenSetNetwork::SetTransformer => self.set_transformer(batch, probes)?,
            OpenSetNetwork::Perceptron => {
                let summaries = tensor(&batch.summaries, [probes, SUMMARY])?;
                let first = self.linear("perceptron.first", &summaries)?.f_gelu("tanh")?;
                let second = self.linear("perceptron.second", &first)?.f_gelu("tanh")?;
                self.linear("perceptron.answer", &second)?.f_squeeze_dim(-1)?
            }
        })
    }

    fn set_transformer(&self, batch: &OpenSetBatch, probes: usize) -> Result<Tensor, TchError> {
        let globals = tensor(&batch.globals, [probes, 1, GLOBALS])?;
        let items = tensor(&batch.items, [probes, ITEMS, ITEM])?;
        let tokens = Tensor::f_cat(&[self.linear("globals", &globals)?, self.linear("item", &items)?], 1)?;
        let present = tensor(&batch.present, [probes, 1, 1, ITEMS])?;
        let absent = present.f_mul_scalar(-ABSENT)?.f_add_scalar(ABSENT)?;
        let token_there = Tensor::f_zeros([trainable::side(probes), 1, 1, 1], (Kind::Float, tch::Device::Cpu))?;
        let absent = Tensor::f_cat(&[token_there, absent], -1)?;
        let normed = self.norm("set.norm", &tokens)?;
        let tokens = self.block("set", &tokens, [&normed, &normed], &absent)?;
        let normed = self.norm("pool.norm", &tokens)?;
        let sides = [probes, 1, WIDTH].map(trainable::side);
        let seed = self.tensor("pool.seed").f_unsqueeze(0)?.f_expand(sides, false)?;
        let gathered = self.block("pool", &seed, [&seed, &normed], &absent)?;
        let head = Tensor::f_cat(&[gathered, tokens.f_narrow(1, 0, 1)?], -1)?.f_squeeze_dim(1)?;
        let hidden = self.linear("head.hidden", &head)?.f_gelu("tanh")?;
        self.linear("head.answer", &hidden)?.f_squeeze_dim(-1)
    }

    fn block(
        &self,
        name: &str,
        stream: &Tensor,
        [asking, asked]: [&Tensor; 2],
        absent: &Tensor,
    ) -> Result<Tensor, TchError> {
        let heads = |part: &str, of: &Tensor| {
            let sides = [of.size()[0], of.size()[1], trainable::side(HEADS), trainable::side(WIDTH / HEADS)];
            self.linear(&format!("{name}.{part}"), of)?.f_reshape(sides)?.f_transpose(1, 2)
        };
        let (query, key, value) = (heads("query", asking)?, heads("key", asked)?, heads("value", asked)?);
        let scale = ((WIDTH / HEADS) as f64).sqrt();
        let attention = query.f_matmul(&key.f_transpose(-2, -1)?)?.f_div_scalar(scale)?.f_add(absent)?;
        let found = attention.f_softmax(-1, Kind::Float)?.f_matmul(&value)?.f_transpose(1, 2)?.f_contiguous()?;
        let found = found.f_reshape([asking.size()[0], asking.size()[1], trainable::side(WIDTH)])?;
        let stream = stream.f_add(&self.linear(&format!("{name}.mix"), &found)?)?;
        let normed = self.norm(&format!("{name}.feed_norm"), &stream)?;
        let wide = self.linear(&format!("{name}.wide"), &normed)?.f_relu()?;
        stream.f_add(&self.linear(&format!("{name}.narrow"), &wide)?)
    }

    fn linear(&self, name: &str, input: &Tensor) -> Result<Tensor, TchError> {
        let [weight, bias] = ["weight", "bias"].map(|part| self.tensor(&format!("{name}.{part}")));
        input.f_linear(weight, Some(bias))
    }

    fn norm(&self, name: &str, input: &Tensor) -> Result<Tensor, TchError> {
        let [weight, bias] = ["weight", "bias"].map(|part| self.tensor(&format!("{name}.{part}")));
        input.f_layer_norm([trainable::side(WIDTH)], Some(weight), Some(bias), NORM_EPSILON, false)
    }

    fn tensor(&self, key: &str) -> &Tensor {
        &self.learnt[self.places[key]]
    }
}

/// A tensor of a network and its initial values.
struct TensorSpec {
    key: String,
    shape: Vec<usize>,
    first: InitialValues,
}

enum InitialValues {
    /// Normal numbers scaled by the number of inputs.
    Drawn(usize),
    Zeros,
    Ones,
}

fn layout(network: OpenSetNetwork) -> Vec<TensorSpec> {
    match network {
        OpenSetNetwork::SetTransformer => {
            let ends = [
                ("item", ITEM, WIDTH),
                ("globals", GLOBALS, WIDTH),
                ("head.hidden", 2 * WIDTH, WIDTH),
                ("head.answer", WIDTH, 1),
            ];
            let mut entries: Vec<TensorSpec> = ends.into_iter().flat_map(|(name, i, o)| linear(name, i, o)).collect();
            for block in ["set", "pool"] {
                for part in ["query", "key", "value", "mix"] {
                    entries.extend(linear(&format!("{block}.{part}"), WIDTH, WIDTH));
                }
                entries.extend(linear(&format!("{block}.wide"), WIDTH, WIDE));
                entries.extend(linear(&format!("{block}.narrow"), WIDE, WIDTH));
                for norm in ["norm", "feed_norm"] {
                    entries.push(entry(format!("{block}.{norm}.weight"), &[WIDTH], InitialValues::Ones));
                    entries.push(entry(format!("{block}.{norm}.bias"), &[WIDTH], InitialValues::Zeros));
                }
            }
            entries.push(entry("pool.seed".to_owned(), &[1, WIDTH], InitialValues::Drawn(1)));
            entries
        }
        OpenSetNetwork::Perceptron => [
            linear("perceptron.first", SUMMARY, PERCEPTRON),
            linear("perceptron.second", PERCEPTRON, PERCEPTRON),
            linear("perceptron.answer", PERCEPTRON, 1),
        ]
        .into_iter()
        .flatten()
        .collect(),
    }
}

fn linear(name: &str, inputs: usize, outputs: usize) -> [TensorSpec; 2] {
    [
        entry(format!("{name}.weight"), &[outputs, inputs], InitialValues::Drawn(inputs)),
        entry(format!("{name}.bias"), &[outputs], InitialValues::Zeros),
    ]
}

fn entry(key: String, shape: &[usize], first: InitialValues) -> TensorSpec {
    TensorSpec { key, shape: shape.to_vec(), first }
}

fn sides(shape: &[usize]) -> Vec<i64> {
    shape.iter().copied().map(trainable::side).collect()
}

fn tensor<const N: usize>(numbers: &[f32], shape: [usize; N]) -> Result<Tensor, TchError> {
    Tensor::f_from_slice(numbers)?.f_reshape(shape.map(trainable::side))
}

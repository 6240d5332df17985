//! The layers of the networks in plain Rust. `torch::learn::open_set` has the same layers for training; a test of `train`
//! compares both.

use super::tensors::{DeciderError, TensorReader};
use crate::relations::{GLOBALS, ITEM, Relations, SUMMARY};

/// Width of a token.
const WIDTH: usize = 48;
const HEADS: usize = 4;
const HEAD: usize = WIDTH / HEADS;
/// Width of the hidden layer in the feed-forward step.
const WIDE: usize = 96;
const PERCEPTRON: usize = 64;
/// As in libtorch.
const NORM_EPSILON: f32 = 1e-5;

/// A set transformer: one self-attention block over the neighbour tokens and the gallery token, attention pooling with
/// one learned seed, and two linear layers over the pooled token and the gallery token.
#[derive(Debug)]
pub(super) struct SetTransformer {
    item: Linear,
    globals: Linear,
    set: Block,
    seed: Vec<f32>,
    pool: Block,
    hidden: Linear,
    answer: Linear,
}

impl SetTransformer {
    pub(super) fn take(tensors: &mut TensorReader) -> Result<Self, DeciderError> {
        Ok(Self {
            item: Linear::take(tensors, "item", ITEM, WIDTH)?,
            globals: Linear::take(tensors, "globals", GLOBALS, WIDTH)?,
            set: Block::take(tensors, "set")?,
            seed: tensors.take("pool.seed", &[1, WIDTH])?,
            pool: Block::take(tensors, "pool")?,
            hidden: Linear::take(tensors, "head.hidden", 2 * WIDTH, WIDTH)?,
            answer: Linear::take(tensors, "head.answer", WIDTH, 1)?,
        })
    }

    pub(super) fn logit(&self, relations: &Relations) -> f32 {
        let mut tokens = self.globals.rows(relations.globals());
        tokens.extend(self.item.rows(relations.items().as_flattened()));
        let normed = self.set.norm.rows(&tokens);
        let tokens = self.set.run(&tokens, &normed, &normed);
        let normed = self.pool.norm.rows(&tokens);
        let mut gathered = self.pool.run(&self.seed, &self.seed, &normed);
        gathered.extend(&tokens[..WIDTH]);
        let mut hidden = self.hidden.rows(&gathered);
        for number in &mut hidden {
            *number = gelu(*number);
        }
        self.answer.rows(&hidden)[0]
    }
}

/// Two hidden layers over the summary.
#[derive(Debug)]
pub(super) struct Perceptron([Linear; 3]);

impl Perceptron {
    pub(super) fn take(tensors: &mut TensorReader) -> Result<Self, DeciderError> {
        Ok(Self([
            Linear::take(tensors, "perceptron.first", SUMMARY, PERCEPTRON)?,
            Linear::take(tensors, "perceptron.second", PERCEPTRON, PERCEPTRON)?,
            Linear::take(tensors, "perceptron.answer", PERCEPTRON, 1)?,
        ]))
    }

    pub(super) fn logit(&self, summary: &[f32; SUMMARY]) -> f32 {
        let [first, second, answer] = &self.0;
        let hidden = |layer: &Linear, input: &[f32]| -> Vec<f32> { layer.rows(input).into_iter().map(gelu).collect() };
        answer.rows(&hidden(second, &hidden(first, summary)))[0]
    }
}

/// Attention and a feed-forward step, each with a residual connection.
#[derive(Debug)]
struct Block {
    norm: Norm,
    query: Linear,
    key: Linear,
    value: Linear,
    mix: Linear,
    feed_norm: Norm,
    wide: Linear,
    narrow: Linear,
}

impl Block {
    fn take(tensors: &mut TensorReader, name: &str) -> Result<Self, DeciderError> {
        let mut linear =
            |part: &str, inputs, outputs| Linear::take(tensors, &format!("{name}.{part}"), inputs, outputs);
        let (query, key) = (linear("query", WIDTH, WIDTH)?, linear("key", WIDTH, WIDTH)?);
        let (value, mix) = (linear("value", WIDTH, WIDTH)?, linear("mix", WIDTH, WIDTH)?);
        let (wide, narrow) = (linear("wide", WIDTH, WIDE)?, linear("narrow", WIDE, WIDTH)?);
        let norm = Norm::take(tensors, &format!("{name}.norm"))?;
        let feed_norm = Norm::take(tensors, &format!("{name}.feed_norm"))?;
        Ok(Self { norm, query, key, value, mix, feed_norm, wide, narrow })
    }

    /// Adds attention from `asking` to `asked`, then the feed-forward step, to `stream`. All have rows of [`WIDTH`]
    /// values.
    fn run(&self, stream: &[f32], asking: &[f32], asked: &[f32]) -> Vec<f32> {
        let found = attend(&self.query.rows(asking), &self.key.rows(asked), &self.value.rows(asked));
        let stream = sum(stream, &self.mix.rows(&found));
        let mut wide = self.wide.rows(&self.feed_norm.rows(&stream));
        for number in &mut wide {
            *number = number.max(0.0);
        }
        sum(&stream, &self.narrow.rows(&wide))
    }
}

/// Multi-head scaled dot-product attention.
fn attend(queries: &[f32], keys: &[f32], values: &[f32]) -> Vec<f32> {
    let mut found = vec![0.0; queries.len()];
    let mut shares = vec![0.0_f32; keys.len() / WIDTH];
    let scale = 1.0 / (HEAD as f32).sqrt();
    for (query, found) in queries.chunks_exact(WIDTH).zip(found.chunks_exact_mut(WIDTH)) {
        for head in (0..WIDTH).step_by(HEAD) {
            let part = head..head + HEAD;
            for (share, key) in shares.iter_mut().zip(keys.chunks_exact(WIDTH)) {
                let score = query[part.clone()].iter().zip(&key[part.clone()]).map(|(q, k)| q * k).sum::<f32>();
                *share = score * scale;
            }
            let highest = shares.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            for share in &mut shares {
                *share = (*share - highest).exp();
            }
            let all = shares.iter().sum::<f32>();
            for (share, value) in shares.iter().zip(values.chunks_exact(WIDTH)) {
                let found = found[part.clone()].iter_mut().zip(&value[part.clone()]);
                found.for_each(|(found, value)| *found += share / all * value);
            }
        }
    }
    found
}

/// A linear layer. Its weights are stored input-major, so that the outputs of a row are summed side by side.
#[derive(Debug)]
struct Linear {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Linear {
    fn take(tensors: &mut TensorReader, name: &str, inputs: usize, outputs: usize) -> Result<Self, DeciderError> {
        let stored = tensors.take(&format!("{name}.weight"), &[outputs, inputs])?;
        let weight = (0..inputs).flat_map(|i| stored[i..].iter().step_by(inputs).copied()).collect();
        Ok(Self { weight, bias: tensors.take(&format!("{name}.bias"), &[outputs])? })
    }

    fn rows(&self, input: &[f32]) -> Vec<f32> {
        let outputs = self.bias.len();
        let inputs = self.weight.len() / outputs;
        let mut rows = Vec::with_capacity(input.len() / inputs * outputs);
        for row in input.chunks_exact(inputs) {
            let begins = rows.len();
            rows.extend_from_slice(&self.bias);
            let out = &mut rows[begins..];
            for (number, weights) in row.iter().zip(self.weight.chunks_exact(outputs)) {
                out.iter_mut().zip(weights).for_each(|(out, weight)| *out += number * weight);
            }
        }
        rows
    }
}

/// Layer normalisation: each row to mean 0 and variance 1, then scaled and shifted.
#[derive(Debug)]
struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Norm {
    fn take(tensors: &mut TensorReader, name: &str) -> Result<Self, DeciderError> {
        let mut take = |part: &str| tensors.take(&format!("{name}.{part}"), &[WIDTH]);
        Ok(Self { weight: take("weight")?, bias: take("bias")? })
    }

    fn rows(&self, input: &[f32]) -> Vec<f32> {
        let mut rows = Vec::with_capacity(input.len());
        for row in input.chunks_exact(WIDTH) {
            let mean = row.iter().sum::<f32>() / WIDTH as f32;
            let variance = row.iter().map(|number| (number - mean).powi(2)).sum::<f32>() / WIDTH as f32;
            let scale = 1.0 / (variance + NORM_EPSILON).sqrt();
            let affine = self.weight.iter().zip(&self.bias);
            rows.extend(row.iter().zip(affine).map(|(number, (weight, bias))| (number - mean) * scale * weight + bias));
        }
        rows
    }
}

fn sum(one: &[f32], other: &[f32]) -> Vec<f32> {
    one.iter().zip(other).map(|(one, other)| one + other).collect()
}

/// GELU with the tanh approximation, as in libtorch.
fn gelu(x: f32) -> f32 {
    let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
    0.5 * x * (1.0 + inner.tanh())
}

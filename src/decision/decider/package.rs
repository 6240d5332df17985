//! The decider's package: a manifest that people can read, and the weights.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    Decider,
    network::{Perceptron, SetTransformer},
};
use crate::relations::{SUMMARY, SUMMARY_NAMES};
use weights::{Dtype, StateDict, WeightsError};

/// Why a decider cannot be read.
#[derive(Debug, Error)]
pub enum DeciderError {
    #[error("the decider's manifest cannot be read: {0}")]
    Manifest(#[from] toml::de::Error),
    #[error("the decider's weights cannot be read: {0}")]
    Weights(#[from] WeightsError),
    #[error("the decider's weights lack {key:?} as finite 32-bit numbers of shape {shape:?}")]
    Tensor { key: String, shape: Vec<usize> },
    #[error("the decider's weights hold {0:?}, for which it has no place")]
    Surplus(String),
    #[error("the decider's manifest says {0} that is no finite number, or none at all")]
    Number(String),
}

/// What a manifest says that decides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    pub id: String,
    pub version: String,
    /// The command that made it.
    pub provenance: String,
    pub set_transformer: Platt,
    pub perceptron: Platt,
    pub logistic: Coefficients,
    /// The best single ones on the worlds that the networks learnt on: what the usual methods are compared by.
    pub thresholds: Thresholds,
}

/// What makes a network's answer log-odds (Platt 1999), fitted on worlds that it did not learn on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Platt {
    pub scale: f64,
    pub shift: f64,
}

impl Platt {
    #[must_use]
    pub fn apply(&self, logit: f64) -> f64 {
        self.scale * logit + self.shift
    }
}

/// Of the scores of [`Scores`](crate::relations::Scores).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    pub cosine: f32,
    pub as_norm: f32,
    pub nac: f32,
    pub margin: f32,
}

/// A logistic regression over a summary, by the names of what it reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Coefficients {
    pub constant: f64,
    pub terms: BTreeMap<String, f64>,
}

/// The same, in the order of a summary.
#[derive(Debug)]
pub(super) struct Logistic {
    constant: f64,
    coefficients: [f64; SUMMARY],
}

impl Logistic {
    fn of(said: &Coefficients) -> Result<Self, DeciderError> {
        let mut coefficients = [0.0; SUMMARY];
        for (place, name) in coefficients.iter_mut().zip(SUMMARY_NAMES) {
            *place = finite(name, said.terms.get(name).copied())?;
        }
        match said.terms.keys().find(|name| !SUMMARY_NAMES.contains(&name.as_str())) {
            None => Ok(Self { constant: finite("logistic.constant", Some(said.constant))?, coefficients }),
            Some(surplus) => Err(DeciderError::Surplus(surplus.clone())),
        }
    }

    pub(super) fn coefficients(&self) -> &[f64; SUMMARY] {
        &self.coefficients
    }

    pub(super) fn logit(&self, summary: &[f32; SUMMARY]) -> f64 {
        let terms = self.coefficients.iter().zip(summary).map(|(weight, number)| weight * f64::from(*number));
        self.constant + terms.sum::<f64>()
    }
}

pub(super) fn read(manifest: &str, weights: &[u8]) -> Result<Decider, DeciderError> {
    let facts: Facts = toml::from_str(manifest)?;
    for (name, Platt { scale, shift }) in [("set_transformer", facts.set_transformer), ("perceptron", facts.perceptron)]
    {
        finite(name, Some(scale + shift))?;
    }
    let mut shelf = Shelf(StateDict::read_bytes(weights, None)?);
    let network = SetTransformer::take(&mut shelf)?;
    let perceptron = Perceptron::take(&mut shelf)?;
    if let Some((key, _)) = shelf.0.iter().next() {
        return Err(DeciderError::Surplus(key.to_owned()));
    }
    Ok(Decider { network, perceptron, logistic: Logistic::of(&facts.logistic)?, facts })
}

fn finite(name: &str, number: Option<f64>) -> Result<f64, DeciderError> {
    number.filter(|number| number.is_finite()).ok_or_else(|| DeciderError::Number(name.to_owned()))
}

/// Weights that are taken one by one, until none is left.
pub(super) struct Shelf(StateDict);

impl Shelf {
    pub(super) fn take(&mut self, key: &str, shape: &[usize]) -> Result<Vec<f32>, DeciderError> {
        let lacking = || DeciderError::Tensor { key: key.to_owned(), shape: shape.to_vec() };
        let tensor = self.0.remove(key).ok_or_else(lacking)?;
        if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
            return Err(lacking());
        }
        let numbers: Vec<f32> =
            tensor.bytes().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        if numbers.iter().all(|number| number.is_finite()) { Ok(numbers) } else { Err(lacking()) }
    }
}

//! The decider's package: a manifest that people can read, and the weights.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Decider,
    network::{Perceptron, SetTransformer},
    tensors::{DeciderError, TensorReader},
};
use crate::relations::{SUMMARY, SUMMARY_NAMES};
use weights::StateDict;

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
    let mut tensors = TensorReader::new(StateDict::read_bytes(weights, None)?);
    let network = SetTransformer::take(&mut tensors)?;
    let perceptron = Perceptron::take(&mut tensors)?;
    tensors.finish()?;
    Ok(Decider { network, perceptron, logistic: Logistic::of(&facts.logistic)?, facts })
}

fn finite(name: &str, number: Option<f64>) -> Result<f64, DeciderError> {
    number.filter(|number| number.is_finite()).ok_or_else(|| DeciderError::Number(name.to_owned()))
}

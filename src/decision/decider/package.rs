//! The package of a decider: its manifest and its weights.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Decider,
    network::{Perceptron, SetTransformer},
    tensors::{DeciderError, TensorReader},
};
use crate::relations::{SUMMARY, SUMMARY_NAMES};
use weights::StateDict;

/// Content of the manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeciderManifest {
    pub id: String,
    pub version: String,
    /// Command that trained it.
    pub provenance: String,
    pub set_transformer: Platt,
    pub perceptron: Platt,
    pub logistic: Coefficients,
    /// The best thresholds of the baseline methods on the training worlds.
    pub thresholds: BaselineThresholds,
}

/// Platt scaling from a network's output to log-odds (Platt 1999), fitted on worlds that were not used for training.
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

/// Thresholds of the baseline [`Scores`](crate::relations::Scores).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BaselineThresholds {
    pub cosine: f32,
    pub as_norm: f32,
    pub nac: f32,
    pub margin: f32,
}

/// A logistic regression over the summary, with coefficients by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Coefficients {
    pub constant: f64,
    pub terms: BTreeMap<String, f64>,
}

/// The same with coefficients in summary order.
#[derive(Debug)]
pub(super) struct Logistic {
    constant: f64,
    coefficients: [f64; SUMMARY],
}

impl Logistic {
    fn of(written: &Coefficients) -> Result<Self, DeciderError> {
        let mut coefficients = [0.0; SUMMARY];
        for (place, name) in coefficients.iter_mut().zip(SUMMARY_NAMES) {
            *place = finite(name, written.terms.get(name).copied())?;
        }
        match written.terms.keys().find(|name| !SUMMARY_NAMES.contains(&name.as_str())) {
            None => Ok(Self { constant: finite("logistic.constant", Some(written.constant))?, coefficients }),
            Some(surplus) => Err(DeciderError::Surplus(surplus.clone())),
        }
    }

    pub(super) fn logit(&self, summary: &[f32; SUMMARY]) -> f64 {
        let terms = self.coefficients.iter().zip(summary).map(|(weight, number)| weight * f64::from(*number));
        self.constant + terms.sum::<f64>()
    }
}

pub(super) fn read(text: &str, weights: &[u8]) -> Result<Decider, DeciderError> {
    let manifest: DeciderManifest = toml::from_str(text)?;
    for (name, Platt { scale, shift }) in
        [("set_transformer", manifest.set_transformer), ("perceptron", manifest.perceptron)]
    {
        finite(name, Some(scale + shift))?;
    }
    let mut tensors = TensorReader::new(StateDict::read_bytes(weights, None)?);
    let network = SetTransformer::take(&mut tensors)?;
    let perceptron = Perceptron::take(&mut tensors)?;
    tensors.finish()?;
    Ok(Decider { network, perceptron, logistic: Logistic::of(&manifest.logistic)?, manifest })
}

fn finite(name: &str, number: Option<f64>) -> Result<f64, DeciderError> {
    number.filter(|number| number.is_finite()).ok_or_else(|| DeciderError::Number(name.to_owned()))
}

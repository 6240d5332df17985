//! Learned open-set decision: the probability that a probe's identity is enrolled, from relations, by a small network
//! trained on simulated galleries only.
//!
//! A set transformer (Lee et al. 2019) reads the probe's most similar templates as a set, so that their order does not
//! matter, and one token for the whole gallery. Two simpler models of the same inputs serve for comparison.
//!
//! Training is in the package `train`. This module evaluates the same layers without libtorch, in some tens of
//! microseconds.

mod network;
mod package;
mod tensors;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use serde::Serialize;

use self::{
    network::{Perceptron, SetTransformer},
    package::Logistic,
};
use super::relations::Relations;

pub use self::{
    package::{BaselineThresholds, Coefficients, DeciderManifest, Platt},
    tensors::DeciderError,
};

/// A trained open-set model. Immutable and shared; it keeps no state between calls.
#[derive(Debug)]
pub struct Decider {
    network: SetTransformer,
    perceptron: Perceptron,
    logistic: Logistic,
    manifest: DeciderManifest,
}

/// The models of a decider, which were trained together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OpenSetModel {
    SetTransformer,
    /// A multilayer perceptron over the summary: the network without attention.
    Perceptron,
    /// A logistic regression over the summary.
    Logistic,
}

/// Prior probability that a probe is of an enrolled person, above 0 and below 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prior(f64);

/// Limit of the log-odds.
const LOGIT_MAX: f64 = 30.0;

static SHIPPED: LazyLock<Decider> = LazyLock::new(|| {
    let weights = include_bytes!("../../models/open-set-decider/weights.safetensors");
    Decider::from_package(include_str!("../../models/open-set-decider/model.toml"), weights)
        .expect("a test loads the package that is shipped")
});

impl Decider {
    /// The decider that is compiled into this program.
    #[must_use]
    pub fn shipped() -> &'static Self {
        &SHIPPED
    }

    /// Reads a decider from its `model.toml` and the bytes of its safetensors file.
    ///
    /// # Errors
    /// [`DeciderError`] when they do not match, or when a number is missing or not finite.
    pub fn from_package(manifest: &str, weights: &[u8]) -> Result<Self, DeciderError> {
        package::read(manifest, weights)
    }

    /// Probability that the probe is of an enrolled person, at even prior odds; 0 in an empty gallery.
    #[must_use]
    pub fn probability(&self, relations: &Relations) -> f64 {
        self.probability_by(OpenSetModel::SetTransformer, relations, Prior::EVEN)
    }

    /// The same by a chosen model and prior.
    #[must_use]
    pub fn probability_by(&self, model: OpenSetModel, relations: &Relations, prior: Prior) -> f64 {
        if relations.is_empty() {
            return 0.0;
        }
        let logit = self.logit(model, relations) + prior.log_odds();
        1.0 / (1.0 + (-logit.clamp(-LOGIT_MAX, LOGIT_MAX)).exp())
    }

    /// Natural log-odds that the probe is of an enrolled person, at even prior odds, -30 to 30; -30 in an empty gallery.
    #[must_use]
    pub fn log_odds(&self, relations: &Relations) -> f64 {
        if relations.is_empty() {
            return -LOGIT_MAX;
        }
        self.logit(OpenSetModel::SetTransformer, relations).clamp(-LOGIT_MAX, LOGIT_MAX)
    }

    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> &DeciderManifest {
        &self.manifest
    }

    /// Calibrated log-odds at even prior odds.
    fn logit(&self, model: OpenSetModel, relations: &Relations) -> f64 {
        let DeciderManifest { set_transformer, perceptron, .. } = &self.manifest;
        match model {
            OpenSetModel::SetTransformer => set_transformer.apply(self.network.logit(relations).into()),
            OpenSetModel::Perceptron => perceptron.apply(self.perceptron.logit(relations.summary()).into()),
            OpenSetModel::Logistic => self.logistic.logit(relations.summary()),
        }
    }
}

impl Prior {
    pub const EVEN: Self = Self(0.5);

    /// `None` unless 0 < share < 1: at 0 and 1 no evidence would count.
    #[must_use]
    pub fn new(share: f64) -> Option<Self> {
        (share > 0.0 && share < 1.0).then_some(Self(share))
    }

    fn log_odds(self) -> f64 {
        (self.0 / (1.0 - self.0)).ln()
    }
}

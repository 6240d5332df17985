//! Is the probe enrolled here? Answered from relations by a small network that learnt on simulated galleries alone.
//!
//! A set transformer (Lee et al. 2019) reads the probe's nearest templates as a set, so their order never matters, beside
//! one token that stands for the gallery as a whole. A logistic regression over a summary of the same relations stands
//! beside it: a little less exact, and every answer of it can be taken apart.
//!
//! Learning is the part of the room `train`; here are the same layers in plain numbers, some tens of microseconds each time.

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
use super::relations::{Relations, SUMMARY, SUMMARY_NAMES};

pub use self::{
    package::{Coefficients, Facts, Platt, Thresholds},
    tensors::DeciderError,
};

/// Says how likely it is that a probe is of somebody who is enrolled. Read-only and shared: it keeps nothing of what it saw.
#[derive(Debug)]
pub struct Decider {
    network: SetTransformer,
    perceptron: Perceptron,
    logistic: Logistic,
    facts: Facts,
}

/// By which of the methods that learnt together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Judge {
    SetTransformer,
    /// A perceptron over the summary: what the network would be without attention.
    Perceptron,
    /// A logistic regression over the summary, whose answers [`Decider::explain`] takes apart.
    Logistic,
}

/// How many of the probes are of enrolled people, before anything is seen of them: above 0 and below 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prior(f64);

/// One term of a logistic answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Reasoned {
    pub name: &'static str,
    pub value: f32,
    /// What it adds to the log-odds of being enrolled.
    pub contribution: f64,
}

/// Log-odds beyond this are no knowledge of anybody's.
const LOGIT_MAX: f64 = 30.0;

static SHIPPED: LazyLock<Decider> = LazyLock::new(|| {
    let weights = include_bytes!("../../models/open-set-decider/weights.safetensors");
    Decider::from_package(include_str!("../../models/open-set-decider/model.toml"), weights)
        .expect("a test loads the package that is shipped")
});

impl Decider {
    /// The one in this program.
    #[must_use]
    pub fn shipped() -> &'static Self {
        &SHIPPED
    }

    /// Of a package's `model.toml` and the bytes of its safetensors file.
    ///
    /// # Errors
    /// When they do not belong together, a number is missing or one is not finite.
    pub fn from_package(manifest: &str, weights: &[u8]) -> Result<Self, DeciderError> {
        package::read(manifest, weights)
    }

    /// The probability that the probe is of somebody enrolled, where one probe of two is; 0 in an empty gallery.
    #[must_use]
    pub fn probability(&self, relations: &Relations) -> f64 {
        self.probability_by(Judge::SetTransformer, relations, Prior::EVEN)
    }

    /// The same where another share of probes is of enrolled people.
    #[must_use]
    pub fn probability_given(&self, relations: &Relations, prior: Prior) -> f64 {
        self.probability_by(Judge::SetTransformer, relations, prior)
    }

    /// The same by one of the methods.
    #[must_use]
    pub fn probability_by(&self, judge: Judge, relations: &Relations, prior: Prior) -> f64 {
        if relations.is_empty() {
            return 0.0;
        }
        let logit = self.logit(judge, relations) + prior.log_odds();
        1.0 / (1.0 + (-logit.clamp(-LOGIT_MAX, LOGIT_MAX)).exp())
    }

    /// What the logistic regression's answer is made of; with its constant, the contributions sum up to its log-odds at
    /// even odds.
    #[must_use]
    pub fn explain(&self, relations: &Relations) -> [Reasoned; SUMMARY] {
        let (values, weights) = (relations.summary(), self.logistic.coefficients());
        std::array::from_fn(|at| Reasoned {
            name: SUMMARY_NAMES[at],
            value: values[at],
            contribution: f64::from(values[at]) * weights[at],
        })
    }

    /// What its package says of it.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Calibrated log-odds at even odds.
    fn logit(&self, judge: Judge, relations: &Relations) -> f64 {
        let Facts { set_transformer, perceptron, .. } = &self.facts;
        match judge {
            Judge::SetTransformer => set_transformer.apply(self.network.logit(relations).into()),
            Judge::Perceptron => perceptron.apply(self.perceptron.logit(relations.summary()).into()),
            Judge::Logistic => self.logistic.logit(relations.summary()),
        }
    }
}

impl Prior {
    pub const EVEN: Self = Self(0.5);

    /// `None` for what is no share, and for 0 and 1, under which no evidence would count.
    #[must_use]
    pub fn new(share: f64) -> Option<Self> {
        (share > 0.0 && share < 1.0).then_some(Self(share))
    }

    fn log_odds(self) -> f64 {
        (self.0 / (1.0 - self.0)).ln()
    }
}

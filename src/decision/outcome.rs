//! The answer to an open-set question.

use domain::{DecisionKind, Reason, Similarity};

/// The answer to "who is this".
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    pub kind: DecisionKind,
    /// Why, and what to keep in mind.
    pub reasons: Vec<Reason>,
    /// Of the best candidate.
    pub similarity: Option<Similarity>,
    /// How far the runner-up is behind.
    pub margin: Option<f32>,
}

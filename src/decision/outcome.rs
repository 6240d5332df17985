//! Result of an open-set decision.

use domain::{DecisionKind, Reason, Similarity};

/// Answer to an open-set identification.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    pub kind: DecisionKind,
    /// Reasons and caveats.
    pub reasons: Vec<Reason>,
    /// Similarity of the best candidate.
    pub similarity: Option<Similarity>,
    /// Similarity difference between the best candidate and the second.
    pub margin: Option<f32>,
}

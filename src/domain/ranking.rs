//! What orders the candidates of a search.

use serde::{Deserialize, Serialize};

/// Whether a search looks at how the templates of its nearest identities stand to each other before it puts them in order.
/// It moves places in the list and nothing else: similarities stay, and nothing is decided by it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reranking {
    #[default]
    Off,
    /// Neighbour feature centralisation (Yuan et al. 2025): each template moves towards its mutual nearest neighbours.
    Neighbours,
    /// K-reciprocal neighbours (Zhong et al. 2017): who has the same neighbours is nearer.
    KReciprocal,
}

/// What ordered a list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ranking {
    /// Similarity: no re-ranking was asked for, or the people of the list have too few templates for one.
    #[default]
    Similarity,
    Neighbours,
    KReciprocal,
}

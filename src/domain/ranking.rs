//! The order of the candidates of a search.

use serde::{Deserialize, Serialize};

/// Whether a search re-ranks its nearest identities by the similarities among their templates. Re-ranking changes only
/// the order of the list: similarities and decisions stay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reranking {
    #[default]
    Off,
    /// Neighbour feature centralisation (Yuan et al. 2025): moves each template towards its mutual nearest neighbours.
    Neighbours,
    /// K-reciprocal neighbours (Zhong et al. 2017): identities with common neighbours rank higher.
    KReciprocal,
}

/// The order of a list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ranking {
    /// By similarity: re-ranking is off, or the identities have too few templates for it.
    #[default]
    Similarity,
    /// By [`Reranking::Neighbours`].
    Neighbours,
    /// By [`Reranking::KReciprocal`].
    KReciprocal,
}

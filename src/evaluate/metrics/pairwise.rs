//! Rank 1 between the values of a label, such as viewpoints.

use serde::Serialize;

/// Every pair of different values has equal weight.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pairwise {
    pub label: String,
    /// Mean over the pairs.
    pub mean_rank_1: f64,
    /// Mean over the galleries of each probe value.
    pub by_probe: Vec<(String, f64)>,
    pub pairs: Vec<ValuePair>,
}

/// Probes of one value against a gallery of another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ValuePair {
    pub probe: String,
    pub gallery: String,
    pub probes: usize,
    pub rank_1: f64,
}

/// # Panics
/// Without a pair.
#[must_use]
pub fn pairwise(label: &str, pairs: Vec<ValuePair>) -> Pairwise {
    assert!(!pairs.is_empty(), "there must be a pair");
    let mean = |of: &[&ValuePair]| of.iter().map(|pair| pair.rank_1).sum::<f64>() / of.len() as f64;
    let mut probes: Vec<&String> = pairs.iter().map(|pair| &pair.probe).collect();
    probes.dedup();
    let by_probe = probes.into_iter().map(|probe| {
        let own: Vec<&ValuePair> = pairs.iter().filter(|pair| pair.probe == *probe).collect();
        (probe.clone(), mean(&own))
    });
    Pairwise {
        label: label.to_owned(),
        mean_rank_1: mean(&pairs.iter().collect::<Vec<_>>()),
        by_probe: by_probe.collect(),
        pairs,
    }
}

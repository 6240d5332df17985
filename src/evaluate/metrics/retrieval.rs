//! Ranked retrieval: rank-k and mean average precision.

use serde::Serialize;

use super::rate::{Interval, Rate};

/// Number of ranks of the cumulative match characteristic.
const RANKS: usize = 50;

/// Closed-set identification and retrieval.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Retrieval {
    /// Probes with a mate in the gallery.
    pub probes: usize,
    pub gallery: usize,
    /// Share of probes with a correct first answer.
    pub rank_1: f64,
    pub rank_5: f64,
    pub rank_10: f64,
    /// Mean average precision.
    pub map: f64,
    /// 95 % interval of rank 1 over probes.
    pub rank_1_interval: Interval,
    /// 95 % interval over persons, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank_1_by_person: Option<Interval>,
    /// Share of probes with a correct answer within the first 1, 2, 3, ... ranks.
    pub cmc: Vec<f64>,
}

/// Whether each gallery item is correct, the most similar first.
pub type RankedRelevance = Vec<bool>;

/// The relevant figures of a ranking with a correct answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RankingOutcome {
    /// Rank of the first correct answer, counted from 1.
    pub first_right: usize,
    /// Mean over correct answers of the precision down to each.
    pub average_precision: f64,
}

impl RankingOutcome {
    /// `None` without a correct answer.
    #[must_use]
    pub fn of(ranking: &[bool]) -> Option<Self> {
        let places = ranking.iter().enumerate().filter(|(_, right)| **right);
        Self::at(&places.map(|(place, _)| place + 1).collect::<Vec<usize>>())
    }

    /// From ascending ranks of the correct answers, counted from 1; `None` without one.
    #[must_use]
    pub fn at(ranks: &[usize]) -> Option<Self> {
        let first_right = *ranks.first()?;
        let precision = |(before, rank): (usize, &usize)| (before + 1) as f64 / *rank as f64;
        let sum: f64 = ranks.iter().enumerate().map(precision).sum();
        Some(Self { first_right, average_precision: sum / ranks.len() as f64 })
    }
}

/// Measures retrieval. Probes without a mate in the gallery are ignored.
///
/// # Panics
/// When no probe has a mate.
#[must_use]
pub fn retrieval(rankings: &[RankedRelevance], gallery: usize) -> Retrieval {
    let outcomes: Vec<RankingOutcome> = rankings.iter().filter_map(|ranking| RankingOutcome::of(ranking)).collect();
    retrieval_of(&outcomes, gallery)
}

/// Like [`retrieval`], from ranking outcomes.
///
/// # Panics
/// Without an outcome.
#[must_use]
pub fn retrieval_of(outcomes: &[RankingOutcome], gallery: usize) -> Retrieval {
    assert!(!outcomes.is_empty(), "some probe must have a mate");
    let probes = outcomes.len();
    let count = |rank: usize| outcomes.iter().filter(|outcome| outcome.first_right <= rank).count();
    let within = |rank: usize| count(rank) as f64 / probes as f64;
    Retrieval {
        probes,
        gallery,
        rank_1: within(1),
        rank_5: within(5),
        rank_10: within(10),
        map: outcomes.iter().map(|outcome| outcome.average_precision).sum::<f64>() / probes as f64,
        rank_1_interval: Rate::of(count(1), probes).interval,
        rank_1_by_person: None,
        cmc: (1..=RANKS.min(gallery.max(1))).map(within).collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a} is not {b}");
    }

    #[test]
    fn retrieval_by_hand() {
        let rankings = vec![
            vec![true, false, true, false],  // precision 1 and 2/3
            vec![false, true, false, false], // precision 1/2
            vec![false, false, false, false],
        ];
        let measured = retrieval(&rankings, 4);
        assert_eq!(measured.probes, 2);
        close(measured.rank_1, 0.5);
        close(measured.rank_5, 1.0);
        close(measured.map, f64::midpoint(5.0 / 6.0, 0.5));
        assert_eq!(measured.cmc, [0.5, 1.0, 1.0, 1.0]);
    }

    proptest! {
        /// The definition of scikit-learn: the sum of precision times the step in recall.
        #[test]
        fn average_precision_is_the_area_under_precision_and_recall(ranking in prop::collection::vec(any::<bool>(), 1..40)) {
            let right = ranking.iter().filter(|right| **right).count();
            let Some(outcome) = RankingOutcome::of(&ranking) else {
                prop_assert_eq!(right, 0);
                return Ok(());
            };
            let (mut area, mut recall_before) = (0.0, 0.0);
            for end in 1..=ranking.len() {
                let found = ranking[..end].iter().filter(|right| **right).count() as f64;
                area += found / end as f64 * (found / right as f64 - recall_before);
                recall_before = found / right as f64;
            }
            close(outcome.average_precision, area);
        }
    }
}

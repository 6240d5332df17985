//! Recall of graph searches, sampled: one enrolled template is searched with the graph and with the exact scan.

use std::collections::BTreeSet;

use crate::{
    roster::Slot,
    scan::{
        filter::CandidateFilter,
        query::{PendingQuery, SpaceQuery},
        scan_codes,
        top::TopIdentities,
    },
    space::SpaceIndex,
};
use domain::Pooling;

/// Identities per answer that are compared (recall@10).
const IDENTITIES_COMPARED: usize = 10;
/// Weight of a sample relative to the next one. After some hundred samples the first has no influence.
const DECAY: f64 = 0.98;

/// Sums of recall samples: identities that the graph found, and identities that the scan found.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RecallSample {
    found: f64,
    wanted: f64,
}

impl RecallSample {
    /// Share of the exact answer that the graph found, 0 to 1; `None` when no graph was sampled.
    pub fn ratio(self) -> Option<f64> {
        (self.wanted > 0.0).then(|| self.found / self.wanted)
    }

    /// Exponentially weighted sum: the later sample counts more. Empty when `later` is empty, which means that no graph
    /// exists any more.
    #[must_use]
    pub fn then(self, later: Self) -> Self {
        if later == Self::default() {
            return later;
        }
        Self { found: self.found * DECAY + later.found, wanted: self.wanted * DECAY + later.wanted }
    }
}

impl std::ops::Add for RecallSample {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { found: self.found + other.found, wanted: self.wanted + other.wanted }
    }
}

/// Searches the template in row `draw` modulo the number of rows, with the graph and with the exact scan. Its own
/// identity is excluded, because a template always finds itself. Empty when the space has no graph.
pub(crate) fn sample_recall(
    space: &SpaceIndex,
    candidate_filter: &CandidateFilter<'_>,
    width: usize,
    draw: u64,
) -> RecallSample {
    let rows = space.rows();
    if !space.has_graph() || rows.len() == 0 {
        return RecallSample::default();
    }
    let row = usize::try_from(draw % rows.len() as u64).expect("a remainder is below the count");
    let (owner, probe) = (rows.owner(row), rows.values(row));
    let query = SpaceQuery { probe, candidate_filter, width, pooling: Pooling::Best };
    let other_identities = |top: TopIdentities| -> BTreeSet<Slot> {
        top.into_hits().iter().map(|hit| hit.owner).filter(|other| *other != owner).take(IDENTITIES_COMPARED).collect()
    };
    let (mut by_graph, mut by_scan) =
        (TopIdentities::new(IDENTITIES_COMPARED + 1, None), TopIdentities::new(IDENTITIES_COMPARED + 1, None));
    space.search(vec![PendingQuery { query: &query, top: &mut by_graph }], None);
    scan_codes(rows, &mut [PendingQuery { query: &query, top: &mut by_scan }], None);
    let (by_graph, by_scan) = (other_identities(by_graph), other_identities(by_scan));
    RecallSample { found: by_graph.intersection(&by_scan).count() as f64, wanted: by_scan.len() as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Gallery, GalleryOptions,
        testbed::{LogWriter, now, unit_rows},
    };

    #[test]
    fn a_graph_is_compared_with_the_scan_and_there_is_no_sample_without_one() {
        let gallery = Gallery::new(GalleryOptions {
            graph_templates_min: 100,
            graph_search_width: 32,
            ..GalleryOptions::default()
        });
        let index = gallery.open(domain::CollectionUid(uuid::Uuid::nil()));
        let mut writer = LogWriter::new(32);
        for (number, row) in unit_rows(600, 32, 13).iter().enumerate() {
            index.apply(&writer.enroll(&format!("p{}", number / 2), row)).expect("in order");
        }
        assert_eq!(gallery.sample_recall(now(), 7).ratio(), None);
        index.maintain();
        let seen = (0..20)
            .map(|draw| gallery.sample_recall(now(), draw * 31))
            .fold(RecallSample::default(), RecallSample::then);
        assert!(seen.ratio().is_some_and(|ratio| ratio > 0.9), "{seen:?}");
        assert!(seen.wanted > 100.0, "ten of each, the older ones for less");
    }

    #[test]
    fn the_ratio_follows_recent_samples() {
        let (all, none) = (RecallSample { found: 10.0, wanted: 10.0 }, RecallSample { found: 0.0, wanted: 10.0 });
        assert_eq!(RecallSample::default().ratio(), None);
        assert_eq!(RecallSample::default().then(all).ratio(), Some(1.0));
        let half = all.then(none).ratio().expect("two samples");
        assert!((0.45..0.5).contains(&half), "{half}");
        let later = (0..500).fold(all, |before, _| before.then(none));
        assert!(later.ratio().is_some_and(|ratio| ratio < 1e-3));
        assert_eq!(later.then(RecallSample::default()).ratio(), None, "the graph is gone");
    }
}

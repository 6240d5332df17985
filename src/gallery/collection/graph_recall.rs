//! Whether graphs still find what the scan finds: now and then somebody who is enrolled is looked for with both.

use std::collections::BTreeSet;

use crate::{
    roster::Slot,
    scan::{filter::Sieve, query::Ask, sweep, top::Best},
    space::Space,
};
use domain::Pooling;

/// So many identities of each answer are compared.
const COMPARED: usize = 10;
/// What a sample weighs against the one after it: after some hundred samples the first no longer counts.
const KEPT_SHARE: f64 = 0.98;

/// What looking with both showed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Watched {
    found: f64,
    wanted: f64,
}

impl Watched {
    /// The share of the nearest identities that answers of graphs hold; `None` where no graph was watched.
    pub fn ratio(self) -> Option<f64> {
        (self.wanted > 0.0).then(|| self.found / self.wanted)
    }

    /// With what was seen after it, which counts for more. Nothing is left once no graph is there any more.
    #[must_use]
    pub fn then(self, later: Self) -> Self {
        if later == Self::default() {
            return later;
        }
        Self { found: self.found * KEPT_SHARE + later.found, wanted: self.wanted * KEPT_SHARE + later.wanted }
    }
}

impl std::ops::Add for Watched {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { found: self.found + other.found, wanted: self.wanted + other.wanted }
    }
}

/// Looks for the template in row `draw` modulo their number, by a walk of this width and by a sweep. Its own identity is
/// left out, because a template that looks for itself says nothing. Nothing where no graph answers.
pub(crate) fn watch(space: &Space, sieve: &Sieve<'_>, width: usize, draw: u64) -> Watched {
    let rows = space.rows();
    if !space.has_graph() || rows.len() == 0 {
        return Watched::default();
    }
    let row = usize::try_from(draw % rows.len() as u64).expect("a remainder is below the count");
    let (owner, probe) = (rows.owner(row), rows.values(row));
    let ask = Ask { probe, sieve, width, pooling: Pooling::Best };
    let strangers = |best: Best| -> BTreeSet<Slot> {
        best.into_hits().iter().map(|hit| hit.owner).filter(|other| *other != owner).take(COMPARED).collect()
    };
    let (mut walked, mut swept) = (Best::new(COMPARED + 1, None), Best::new(COMPARED + 1, None));
    space.search(vec![(&ask, &mut walked)], None);
    sweep(rows, &mut [(&ask, &mut swept)], None);
    let (walked, swept) = (strangers(walked), strangers(swept));
    Watched { found: walked.intersection(&swept).count() as f64, wanted: swept.len() as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Gallery, GalleryOptions,
        testbed::{Writer, now, unit_rows},
    };

    #[test]
    fn a_graph_is_compared_with_the_scan_and_nothing_is_said_without_one() {
        let gallery =
            Gallery::new(GalleryOptions { graph_from: 100, graph_search_width: 32, ..GalleryOptions::default() });
        let shelf = gallery.open(domain::CollectionUid(uuid::Uuid::nil()));
        let mut writer = Writer::new(32);
        for (number, row) in unit_rows(600, 32, 13).iter().enumerate() {
            shelf.apply(&writer.enroll(&format!("p{}", number / 2), row)).expect("in order");
        }
        assert_eq!(gallery.watch(now(), 7).ratio(), None);
        shelf.maintain();
        let seen = (0..20).map(|draw| gallery.watch(now(), draw * 31)).fold(Watched::default(), Watched::then);
        assert!(seen.ratio().is_some_and(|ratio| ratio > 0.9), "{seen:?}");
        assert!(seen.wanted > 100.0, "ten of each, the older ones for less");
    }

    #[test]
    fn the_ratio_follows_what_was_seen_last() {
        let (all, none) = (Watched { found: 10.0, wanted: 10.0 }, Watched { found: 0.0, wanted: 10.0 });
        assert_eq!(Watched::default().ratio(), None);
        assert_eq!(Watched::default().then(all).ratio(), Some(1.0));
        let half = all.then(none).ratio().expect("two samples");
        assert!((0.45..0.5).contains(&half), "{half}");
        let later = (0..500).fold(all, |before, _| before.then(none));
        assert!(later.ratio().is_some_and(|ratio| ratio < 1e-3));
        assert_eq!(later.then(Watched::default()).ratio(), None, "the graph is gone");
    }
}

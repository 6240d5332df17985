//! Re-ranking of found candidates by the similarities among their templates.

use crate::{collection::CollectionIndex, roster::Slot, rows::measure::Measure, space::SpaceIndex};
use domain::{Embedding, IdentityId, Ranking, Reranking};
use ranking::Shortlist;

impl CollectionIndex {
    /// Re-ranks `identities`, which are sorted by falling similarity. Returns their indexes in the new order, and the
    /// method used. Compares up to [`ranking::SHORTLIST`] templates with each other: some milliseconds.
    pub fn rerank(&self, probe: &Embedding, identities: &[IdentityId], by: Reranking) -> (Vec<usize>, Ranking) {
        let state = self.state.read();
        let owners: Vec<Option<Slot>> = identities.iter().map(|id| state.roster.slot(id)).collect();
        match state.enrolled(probe.space()) {
            Some(space) => space.rerank(probe.values(), &owners, by),
            None => ((0..identities.len()).collect(), Ranking::Similarity),
        }
    }
}

impl SpaceIndex {
    /// An owner is `None` when the identity was deleted after the search. It comes last.
    fn rerank(&self, probe: &[f32], owners: &[Option<Slot>], by: Reranking) -> (Vec<usize>, Ranking) {
        let (rows, measure) = (self.rows(), self.rows().measure());
        // The similarity of a space of parts is no cosine of whole rows, so a sum of rows means nothing there.
        let by = match (measure, by) {
            (Measure::Parts(_), Reranking::Neighbours) => Reranking::Off,
            (Measure::Whole | Measure::Parts(_), by) => by,
        };
        let most = ranking::SHORTLIST.min(owners.len());
        let templates_of = |owner: &Option<Slot>| {
            let mut its = owner.map(|owner| self.rows_of(owner)).unwrap_or_default();
            its.sort_unstable_by_key(|row| rows.template(*row));
            its
        };
        // Each identity has at least one template, so more identities than templates in the shortlist cannot take part.
        let identities: Vec<Vec<usize>> = owners[..most].iter().map(templates_of).collect();
        let shortlist = Shortlist::of(
            &identities,
            |row| measure.of(probe, rows.values(row)),
            |one, other| measure.of(rows.values(one), rows.values(other)),
        );
        shortlist.order(by, owners.len())
    }
}

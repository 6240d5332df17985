//! Candidates that were found, in another order: by how their templates stand to each other.

use crate::{collection::Shelf, roster::Slot, rows::measure::Measure, space::Space};
use domain::{Embedding, IdentityId, Ranking, Reranking};
use ranking::Shortlist;

impl Shelf {
    /// The places of these identities, the nearest first, in the order that re-ranking gives, and what ordered them. Takes a
    /// comparison of each of [`ranking::SHORTLIST`] templates with each other: some milliseconds.
    pub fn rerank(&self, probe: &Embedding, identities: &[IdentityId], by: Reranking) -> (Vec<usize>, Ranking) {
        let fold = self.fold.read();
        let owners: Vec<Option<Slot>> = identities.iter().map(|id| fold.roster.slot(id)).collect();
        match fold.spaces.get(&probe.space()) {
            Some(space) => space.rerank(probe.values(), &owners, by),
            None => ((0..identities.len()).collect(), Ranking::Similarity),
        }
    }
}

impl Space {
    /// Nobody has the slot of an identity that was forgotten since it was found: it comes last.
    fn rerank(&self, probe: &[f32], owners: &[Option<Slot>], by: Reranking) -> (Vec<usize>, Ranking) {
        let (rows, measure) = (self.rows(), self.rows().measure());
        // A sum of rows is no template where similarity goes part by part.
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
        // An identity has one template or more, so no more of them can have a part.
        let identities: Vec<Vec<usize>> = owners[..most].iter().map(templates_of).collect();
        let shortlist = Shortlist::of(
            &identities,
            |row| measure.of(probe, rows.values(row)),
            |one, other| measure.of(rows.values(one), rows.values(other)),
        );
        shortlist.order(by, owners.len())
    }
}

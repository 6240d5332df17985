//! The order of a search's candidates, where a policy asks for more than similarity.

use std::sync::Arc;

use super::{Fault, Matcher, directory::Open, probe::View, search::Wanted};
use domain::{Candidate, IdentityId, Ranking, Reranking, Similarity};
use ranking::SHORTLIST;

impl Matcher {
    /// The nearest identities in the order that the policy asks for, and what ordered them. Their similarities are what they
    /// are without re-ranking.
    pub(super) async fn ranked(
        &self,
        open: &Open,
        probe: &View,
        wanted: Wanted,
    ) -> Result<(Vec<Candidate>, Ranking), Fault> {
        let by = open.collection.policy.reranking;
        if by == Reranking::Off {
            return Ok((self.nearest(open, probe, wanted).await?, Ranking::Similarity));
        }
        let (limit, least) = (wanted.limit, wanted.min_similarity.unwrap_or(Similarity::LOWEST));
        // Whoever is not listed in the end is a neighbour all the same.
        let wide = Wanted { limit: limit.max(SHORTLIST), filter: wanted.filter, min_similarity: None };
        let nearest = self.nearest(open, probe, wide).await?;
        let identities: Vec<IdentityId> = nearest.iter().map(|candidate| candidate.identity.clone()).collect();
        let (shelf, embedding) = (Arc::clone(&open.shelf), probe.embedding.clone());
        let place = self.pool.place()?;
        let (order, ranking) = self.pool.run_in(place, move || shelf.rerank(&embedding, &identities, by)).await?;
        let ordered = order.into_iter().filter_map(|place| nearest.get(place).cloned());
        Ok((ordered.filter(|candidate| candidate.similarity >= least).take(limit).collect(), ranking))
    }
}

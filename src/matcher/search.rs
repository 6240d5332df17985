//! Search: who is most similar. Lists candidates and decides nothing.

use std::time::Instant;

use super::{ConsistencyToken, Context, Fault, Matcher, directory::Open, probe::Probe};
use crate::domain::{Candidate, CollectionId, Filter, Sample, SampleReport, Similarity, SpaceName};

/// What to look for.
#[derive(Debug, Clone)]
pub struct Search {
    pub collection: CollectionId,
    pub samples: Vec<Sample>,
    pub limit: usize,
    pub filter: Option<Filter>,
    pub min_similarity: Option<Similarity>,
    pub token: Option<ConsistencyToken>,
}

/// Who is similar.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The most similar first; ties in order of template ids.
    pub candidates: Vec<Candidate>,
    /// How many identities the searched gallery holds.
    pub gallery_identities: u64,
    pub model: SpaceName,
    /// What was seen in each sample, in order.
    pub samples: Vec<SampleReport>,
}

/// Which of the nearest.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) limit: usize,
    pub(super) filter: Option<Filter>,
    pub(super) min_similarity: Option<Similarity>,
}

impl Matcher {
    pub async fn search(&self, context: &Context, search: Search) -> Result<Found, Fault> {
        self.check_limit(search.limit)?;
        let open = self.open_at(context, &search.collection, search.token).await?;
        let probe = self.probe(context, &open.collection, search.samples).await?;
        let wanted = Wanted { limit: search.limit, filter: search.filter, min_similarity: search.min_similarity };
        let candidates = self.nearest(&open, &probe, wanted).await?;
        Ok(Found {
            candidates,
            gallery_identities: open.shelf.identities_in(probe.embedding.space()),
            samples: probe.reports(),
            model: probe.model,
        })
    }

    pub(super) fn check_limit(&self, limit: usize) -> Result<(), Fault> {
        let most = self.options.candidates_max;
        if (1..=most).contains(&limit) { Ok(()) } else { Err(Fault::invalid("topK", format!("topK is 1 to {most}"))) }
    }

    /// The nearest identities, found on the pool.
    pub(super) async fn nearest(&self, open: &Open, probe: &Probe, wanted: Wanted) -> Result<Vec<Candidate>, Fault> {
        let began = Instant::now();
        let found = self.look_up(open, probe.embedding.clone(), wanted).await?;
        metrics::histogram!("semblance_search_duration_seconds").record(began.elapsed().as_secs_f64());
        Ok(found)
    }
}

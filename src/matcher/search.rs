//! Search: who is most similar. Lists candidates and decides nothing.

use std::time::Instant;

use super::{ConsistencyToken, Context, Fault, Matcher, directory::Open, probe::View};
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
    /// The most similar first, and of a probe of several modalities those for whom the most speaks; ties in order of
    /// template ids.
    pub candidates: Vec<Candidate>,
    /// How many identities the searched gallery holds.
    pub gallery_identities: u64,
    /// Of the first modality.
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
        let (candidates, gallery_identities) = if probe.is_fused() {
            no_least(search.min_similarity)?;
            let (scales, terms) = self.scales(&open, &probe).await;
            let gallery_identities = terms.point.gallery_identities;
            if scales.are_empty() && gallery_identities > 0 {
                return Err(Fault::NothingToWeigh);
            }
            let mut weighed = self.weigh(&open, &scales, (search.limit, search.filter)).await?;
            weighed.candidates.truncate(search.limit);
            (weighed.candidates, gallery_identities)
        } else {
            let wanted = Wanted { limit: search.limit, filter: search.filter, min_similarity: search.min_similarity };
            let candidates = self.nearest(&open, probe.first(), wanted).await?;
            (candidates, open.shelf.identities_in(probe.first().embedding.space()))
        };
        let (samples, model) = (probe.reports(), probe.first().model.clone());
        Ok(Found { candidates, gallery_identities, model, samples })
    }

    pub(super) fn check_limit(&self, limit: usize) -> Result<(), Fault> {
        let most = self.options.candidates_max;
        if (1..=most).contains(&limit) { Ok(()) } else { Err(Fault::invalid("topK", format!("topK is 1 to {most}"))) }
    }

    /// The nearest identities, found on the pool.
    pub(super) async fn nearest(&self, open: &Open, probe: &View, wanted: Wanted) -> Result<Vec<Candidate>, Fault> {
        let began = Instant::now();
        let found = self.look_up(open, probe.embedding.clone(), wanted).await?;
        metrics::histogram!("semblance_search_duration_seconds").record(began.elapsed().as_secs_f64());
        Ok(found)
    }
}

/// # Errors
/// Where evidence of several modalities is asked to be of a similarity at least.
pub(super) fn no_least(min_similarity: Option<Similarity>) -> Result<(), Fault> {
    let problem = "what several modalities say together is no similarity; leave it out, and look at logLikelihoodRatio";
    min_similarity.map_or(Ok(()), |_| Err(Fault::invalid("minSimilarity", problem)))
}

//! Search: who is most similar. Lists candidates and decides nothing.

use std::time::Instant;

use super::{ConsistencyToken, Context, Fault, Matcher, directory::Open, probe::View};
use domain::{Candidate, CollectionId, Filter, Modality, Ranking, Sample, SampleReport, Similarity, SpaceName};

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
    /// template ids; unless `ranking` says otherwise.
    pub candidates: Vec<Candidate>,
    /// What ordered them.
    pub ranking: Ranking,
    /// How many identities the searched gallery holds.
    pub gallery_identities: u64,
    /// Of the modality that the candidates are of, or of the first of several.
    pub model: SpaceName,
    pub modality: Modality,
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
        let (view, scales) = if probe.is_fused() {
            no_least(search.min_similarity)?;
            let heard = self.heard(&open, &probe).await;
            (heard.view, heard.scales)
        } else {
            // Whom it lists no calibration decides, so it waits for none.
            (probe.first().clone(), None)
        };
        let (candidates, ranking, gallery_identities) = if let Some(scales) = &scales {
            let gallery_identities = scales.identities();
            if scales.are_empty() && gallery_identities > 0 {
                return Err(Fault::NothingToWeigh);
            }
            let mut weighed = self.weigh(&open, scales, (search.limit, search.filter)).await?;
            weighed.candidates.truncate(search.limit);
            (weighed.candidates, Ranking::Similarity, gallery_identities)
        } else {
            let wanted = Wanted { limit: search.limit, filter: search.filter, min_similarity: search.min_similarity };
            let (candidates, ranking) = self.ranked(&open, &view, wanted).await?;
            (candidates, ranking, open.shelf.identities_in(view.embedding.space()))
        };
        let (modality, samples) = (view.modality(), probe.reports());
        Ok(Found { candidates, ranking, gallery_identities, model: view.model, modality, samples })
    }

    pub(super) fn check_limit(&self, limit: usize) -> Result<(), Fault> {
        let most = self.options.candidates_max;
        if (1..=most).contains(&limit) { Ok(()) } else { Err(Fault::invalid("topK", format!("topK is 1 to {most}"))) }
    }

    /// The nearest identities, found on the pool.
    pub(super) async fn nearest(&self, open: &Open, probe: &View, wanted: Wanted) -> Result<Vec<Candidate>, Fault> {
        let began = Instant::now();
        let found = self.look_up(open, probe.embedding.clone(), wanted).await?;
        metrics::histogram!(domain::metric::SEARCH_DURATION).record(began.elapsed().as_secs_f64());
        Ok(found)
    }
}

/// # Errors
/// Where evidence of several modalities is asked to be of a similarity at least.
pub(super) fn no_least(min_similarity: Option<Similarity>) -> Result<(), Fault> {
    let problem = "what several modalities say together is no similarity; leave it out, and look at logLikelihoodRatio";
    min_similarity.map_or(Ok(()), |_| Err(Fault::invalid("minSimilarity", problem)))
}

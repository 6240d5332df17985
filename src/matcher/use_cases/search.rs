//! Search: lists the most similar identities and decides nothing.

use crate::matcher::{
    Matcher, collection::scan_batch::CandidateQuery, request::consistency_token::ConsistencyToken,
    request::context::Context, request::fault::Fault,
};
use domain::{Candidate, CollectionId, Filter, Modality, Ranking, Sample, SampleReport, Similarity, SpaceName};
use gallery::Searched;

/// A search request.
#[derive(Debug, Clone)]
pub struct Search {
    pub collection: CollectionId,
    pub samples: Vec<Sample>,
    pub limit: usize,
    pub filter: Option<Filter>,
    pub min_similarity: Option<Similarity>,
    /// Also lists provisional identities.
    pub includes_provisional: bool,
    pub token: Option<ConsistencyToken>,
}

/// The answer of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchResult {
    /// By falling similarity, of a probe with several modalities by falling log-likelihood ratio; ties by template id.
    /// `ranking` may name another order.
    pub candidates: Vec<Candidate>,
    pub ranking: Ranking,
    /// Identities in the searched gallery.
    pub gallery_identities: u64,
    /// The model of `modality`.
    pub model: SpaceName,
    /// The modality of the candidates, or the first of several.
    pub modality: Modality,
    /// One report per sample, in order.
    pub samples: Vec<SampleReport>,
}

impl Matcher {
    /// The most similar identities, without the database.
    ///
    /// # Errors
    /// [`Fault::NothingToWeigh`] when the probe has several modalities and none of them is calibrated.
    pub async fn search(&self, context: &Context, search: Search) -> Result<SearchResult, Fault> {
        self.scans.check_limit(search.limit)?;
        let handle = self.replica.open_at(context, &search.collection, search.token).await?;
        let probe = self.recognition.probe(context, &handle.collection, search.samples).await?;
        let (view, fusion) = if probe.is_fused() {
            refuse_similarity_min(search.min_similarity)?;
            if search.includes_provisional {
                let problem =
                    "provisional identities are of one modality; omit includeProvisional, or search one modality";
                return Err(Fault::invalid("includeProvisional", problem));
            }
            let usable = self.judging.usable_modalities(&handle, &probe).await;
            (usable.view, usable.fusion)
        } else {
            // A list of candidates needs no calibration, so it waits for none.
            (probe.first().clone(), None)
        };
        let (candidates, ranking, gallery_identities) = if let Some(fusion) = &fusion {
            let gallery_identities = fusion.identities();
            if fusion.is_empty() && gallery_identities > 0 {
                return Err(Fault::NothingToWeigh);
            }
            let mut weighed = self.judging.weigh(&handle, fusion, search.limit, search.filter).await?;
            weighed.candidates.truncate(search.limit);
            (weighed.candidates, Ranking::Similarity, gallery_identities)
        } else {
            let searched = if search.includes_provisional { Searched::Both } else { Searched::Enrolled };
            let query = CandidateQuery {
                limit: search.limit,
                filter: search.filter,
                similarity_min: search.min_similarity,
                searched,
            };
            let (candidates, ranking) = self.scans.ranked(&handle, &view.embedding, query).await?;
            (candidates, ranking, handle.index.identities_in(view.embedding.space()))
        };
        let (modality, samples) = (view.modality(), probe.reports());
        Ok(SearchResult { candidates, ranking, gallery_identities, model: view.model, modality, samples })
    }
}

/// # Errors
/// An invalid argument when a probe of several modalities has a minimum similarity.
pub(crate) fn refuse_similarity_min(similarity_min: Option<Similarity>) -> Result<(), Fault> {
    let problem = "the fusion of several modalities is no similarity; omit minSimilarity and use logLikelihoodRatio";
    similarity_min.map_or(Ok(()), |_| Err(Fault::invalid("minSimilarity", problem)))
}

//! Fusion of modalities: every identity that a scan of one modality finds is weighed by all of them.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use super::Judging;
use crate::matcher::{
    collection::{collection_handle::CollectionHandle, scan_batch::CandidateQuery},
    recognition::probe::ProbeView,
    request::fault::Fault,
};
use decision::{Calibration, Fusion};
use domain::{Candidate, Filter, FusedEvidence, IdentityId, ModalityEvidence, Pooling, TemplateId, Timestamp};
use gallery::CollectionIndex;

/// The candidates that each modality contributes. The next width follows while an identity outside all scans could rank
/// before the listed ones.
const WIDTHS: [usize; 3] = [64, 256, 1024];

/// The calibrated modalities of a probe.
#[derive(Debug, Clone)]
pub(crate) struct FusionInput {
    scales: Vec<FusionScale>,
    fusion: Arc<Fusion>,
    /// The number of identities that the probe may belong to.
    identities: u64,
}

/// One modality of a probe, with the calibration of its similarities.
#[derive(Debug, Clone)]
pub(crate) struct FusionScale {
    pub(crate) view: ProbeView,
    pub(crate) calibration: Arc<Calibration>,
    /// The age in seconds at which the evidence of a template counts half; zero for no decay.
    pub(crate) half_life: f64,
}

/// The gallery settings of one weighing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WeighingSettings {
    pub(crate) pooling: Pooling,
    pub(crate) now: Timestamp,
}

/// Candidates with their evidence.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct WeighedCandidates {
    /// By falling log-likelihood ratio, ties by template id.
    pub(crate) candidates: Vec<Candidate>,
    /// The probability that the probe is of an enrolled identity, at equal priors of enrolled and not; `None` without
    /// candidates.
    pub(crate) posterior: Option<f64>,
}

impl FusionScale {
    fn evidence(&self, found: &Candidate, now: Timestamp) -> Option<ModalityEvidence> {
        let ratio = self.calibration.log_likelihood_ratio(found.similarity)?;
        Some(ModalityEvidence {
            modality: self.view.modality(),
            model: self.view.model.clone(),
            template: found.template,
            similarity: found.similarity,
            log_likelihood_ratio: decision::decayed(ratio, age_seconds(found.template, now), self.half_life),
        })
    }
}

impl FusionInput {
    pub(crate) fn new(scales: Vec<FusionScale>, fusion: Arc<Fusion>, identities: u64) -> Self {
        Self { scales, fusion, identities }
    }

    /// The number of identities that the probe may belong to.
    pub(crate) fn identities(&self) -> u64 {
        self.identities
    }

    /// Whether no modality is calibrated; then no candidate can be weighed.
    pub(crate) fn is_empty(&self) -> bool {
        self.scales.is_empty()
    }

    /// Fuses the evidence about one identity: its best candidate in each modality.
    fn fuse(&self, found: &[Option<Candidate>], now: Timestamp) -> Option<Candidate> {
        let each = self.scales.iter().zip(found);
        let each: Vec<Option<ModalityEvidence>> =
            each.map(|(scale, found)| scale.evidence(found.as_ref()?, now)).collect();
        let ratios: Vec<Option<f64>> =
            each.iter().map(|evidence| evidence.as_ref().map(|e| e.log_likelihood_ratio)).collect();
        let evidence: Vec<ModalityEvidence> = each.into_iter().flatten().collect();
        let strongest =
            evidence.iter().max_by(|one, other| one.log_likelihood_ratio.total_cmp(&other.log_likelihood_ratio))?;
        let identity = found.iter().flatten().next()?.identity.clone();
        let (template, similarity) = (strongest.template, strongest.similarity);
        let log_likelihood_ratio = self.fusion.sum(&ratios);
        Some(Candidate {
            identity,
            template,
            similarity,
            fused: Some(FusedEvidence { log_likelihood_ratio, posterior: 0.0, evidence }),
        })
    }

    /// Weighs one identity; `None` when it has no template in any of the spaces.
    pub(crate) fn weigh_one(
        &self,
        index: &CollectionIndex,
        id: &IdentityId,
        settings: WeighingSettings,
    ) -> Option<Candidate> {
        let WeighingSettings { pooling, now } = settings;
        let nearest = |scale: &FusionScale| index.nearest_of(&scale.view.embedding, id, pooling, now);
        let found: Vec<Option<Candidate>> = self.scales.iter().map(nearest).collect();
        let mut candidate = self.fuse(&found, now)?;
        if let Some(fused) = &mut candidate.fused {
            // Two hypotheses: the claimed identity, or any other person.
            fused.posterior = decision::posteriors(&[fused.log_likelihood_ratio], 1).0;
        }
        Some(candidate)
    }

    /// Weighs every identity that a modality found; the similarities in the other modalities are looked up.
    pub(crate) fn weigh_all(
        &self,
        index: &CollectionIndex,
        found: Vec<Vec<Candidate>>,
        settings: WeighingSettings,
    ) -> WeighedCandidates {
        let WeighingSettings { pooling, now } = settings;
        let mut by_identity: BTreeMap<IdentityId, Vec<Option<Candidate>>> = BTreeMap::new();
        for (of, found) in found.into_iter().enumerate() {
            for candidate in found {
                let each =
                    by_identity.entry(candidate.identity.clone()).or_insert_with(|| vec![None; self.scales.len()]);
                each[of] = Some(candidate);
            }
        }
        let weigh = |(id, each): (IdentityId, Vec<Option<Candidate>>)| {
            let probes = self.scales.iter().map(|scale| &scale.view.embedding);
            let all = each.into_iter().zip(probes);
            let all: Vec<Option<Candidate>> =
                all.map(|(found, probe)| found.or_else(|| index.nearest_of(probe, &id, pooling, now))).collect();
            self.fuse(&all, now)
        };
        let mut candidates: Vec<Candidate> = by_identity.into_iter().filter_map(weigh).collect();
        candidates.sort_by(|one, other| ratio(other).total_cmp(&ratio(one)).then(one.template.cmp(&other.template)));
        let ratios: Vec<f64> = candidates.iter().map(ratio).collect();
        let (posterior, each) = decision::posteriors(&ratios, self.identities);
        for (candidate, posterior) in candidates.iter_mut().zip(each) {
            if let Some(fused) = &mut candidate.fused {
                fused.posterior = posterior;
            }
        }
        WeighedCandidates { posterior: (!candidates.is_empty()).then_some(posterior), candidates }
    }

    /// An upper bound of the log-likelihood ratio of an identity that no scan returned: each scan returns the nearest
    /// ones, so any other is at most as similar as its last.
    fn unlisted_ratio_max(&self, found: &[Vec<Candidate>], width: usize) -> f64 {
        let bound = |(scale, found): (&FusionScale, &Vec<Candidate>)| {
            let last = found.last().filter(|_| found.len() == width)?;
            scale.calibration.log_likelihood_ratio(last.similarity)
        };
        self.scales.iter().zip(found).filter_map(bound).map(|ratio| ratio.max(0.0)).sum()
    }
}

/// The log-likelihood ratio of a weighed candidate.
fn ratio(candidate: &Candidate) -> f64 {
    candidate.fused.as_ref().map_or(0.0, |fused| fused.log_likelihood_ratio)
}

/// The age of a template: its id holds the time of its enrollment. A template without one counts as new.
fn age_seconds(template: TemplateId, now: Timestamp) -> f64 {
    let enrolled =
        template.0.get_timestamp().map_or(now.as_second(), |time| i64::try_from(time.to_unix().0).unwrap_or(i64::MAX));
    now.as_second().saturating_sub(enrolled) as f64
}

impl Judging {
    /// The candidates with the highest log-likelihood ratios, and all other weighed ones for the posterior. The first
    /// `limit` of them are exact over the whole gallery, as far as their ratio is positive.
    pub(crate) async fn weigh(
        &self,
        handle: &CollectionHandle,
        input: &Arc<FusionInput>,
        limit: usize,
        filter: Option<Filter>,
    ) -> Result<WeighedCandidates, Fault> {
        if input.is_empty() {
            return Ok(WeighedCandidates::default());
        }
        let began = Instant::now();
        let settings = WeighingSettings { pooling: handle.collection.policy.pooling, now: self.clock.now() };
        let mut weighed = WeighedCandidates::default();
        for width in WIDTHS.into_iter().map(|width| width.max(limit)) {
            let query = CandidateQuery { filter: filter.clone(), ..CandidateQuery::top(width) };
            let one = |scale: &FusionScale| self.scans.scan(handle, scale.view.embedding.clone(), query.clone());
            let found = futures::future::try_join_all(input.scales.iter().map(one)).await?;
            let unlisted = input.unlisted_ratio_max(&found, width);
            let (index, on) = (Arc::clone(&handle.index), Arc::clone(input));
            weighed = self.scans.run(move || on.weigh_all(&index, found, settings)).await?;
            let last = weighed.candidates.get(limit.saturating_sub(1)).map_or(f64::NEG_INFINITY, ratio);
            if unlisted <= 0.0 || last >= unlisted {
                break;
            }
        }
        metrics::histogram!(domain::metric::SEARCH_DURATION).record(began.elapsed().as_secs_f64());
        Ok(weighed)
    }
}

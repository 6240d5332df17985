//! Probes of several modalities: whoever one of them finds is weighed by all of them.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use super::{
    Fault, Matcher,
    calibrate::{InForce, Patience},
    directory::Open,
    probe::{Probe, View},
    search::Wanted,
};
use decision::{Calibration, Fusion, Terms};
use domain::{
    Candidate, EmbeddingSpace, Filter, Fused, IdentityId, Modality, ModalityEvidence, Pooling, Reason, TemplateId,
    Timestamp,
};
use gallery::Shelf;

/// How many identities each modality names. Wider and wider, while somebody whom none of them named could be ahead of those
/// who are listed.
const WIDTHS: [usize; 3] = [64, 256, 1024];

/// The modalities of a probe that have something to say here, and what their similarities are worth.
#[derive(Debug, Clone)]
pub(super) struct Scales {
    of: Vec<Scale>,
    fusion: Arc<Fusion>,
    /// Among how many identities the probe's may be.
    identities: u64,
}

#[derive(Debug, Clone)]
struct Scale {
    view: View,
    calibration: Arc<Calibration>,
    /// After so many seconds a similarity is worth half; zero for never.
    half_life: f64,
}

/// The modalities that have something to say.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    /// The one that speaks alone, or the first of several.
    pub(super) view: View,
    /// Where several speak.
    pub(super) scales: Option<Arc<Scales>>,
    pub(super) terms: Terms,
}

/// Who was weighed.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Weighed {
    /// Those with the most evidence first; ties in order of template ids.
    pub(super) candidates: Vec<Candidate>,
    /// How likely the probe is of somebody who is enrolled, where one probe of two is; `None` where nobody was weighed.
    pub(super) posterior: Option<f64>,
}

impl Scale {
    fn weigh(&self, found: &Candidate, now: Timestamp) -> Option<ModalityEvidence> {
        let ratio = self.calibration.weigh(found.similarity)?;
        Some(ModalityEvidence {
            modality: self.view.modality(),
            model: self.view.model.clone(),
            template: found.template,
            similarity: found.similarity,
            log_likelihood_ratio: decision::faded(ratio, age_seconds(found.template, now), self.half_life),
        })
    }
}

impl Scales {
    /// Of modalities that have something to say, each with what its similarities are worth and the seconds that halve it.
    pub(super) fn new(scales: Vec<(View, Arc<Calibration>, f64)>, fusion: Arc<Fusion>, identities: u64) -> Self {
        let scale = |(view, calibration, half_life)| Scale { view, calibration, half_life };
        Self { of: scales.into_iter().map(scale).collect(), fusion, identities }
    }

    /// Among how many identities the probe's may be.
    pub(super) fn identities(&self) -> u64 {
        self.identities
    }

    /// Nobody can be weighed where no modality has anything to say.
    pub(super) fn are_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// What the modalities say together of the identity of whom each found this.
    pub(super) fn weigh(&self, found: &[Option<Candidate>], now: Timestamp) -> Option<Candidate> {
        let each = self.of.iter().zip(found);
        let each: Vec<Option<ModalityEvidence>> =
            each.map(|(scale, found)| scale.weigh(found.as_ref()?, now)).collect();
        let ratios: Vec<Option<f64>> =
            each.iter().map(|evidence| evidence.as_ref().map(|e| e.log_likelihood_ratio)).collect();
        let evidence: Vec<ModalityEvidence> = each.into_iter().flatten().collect();
        let most =
            evidence.iter().max_by(|one, other| one.log_likelihood_ratio.total_cmp(&other.log_likelihood_ratio))?;
        let identity = found.iter().flatten().next()?.identity.clone();
        let (template, similarity) = (most.template, most.similarity);
        let log_likelihood_ratio = self.fusion.of(&ratios);
        Some(Candidate {
            identity,
            template,
            similarity,
            fused: Some(Fused { log_likelihood_ratio, posterior: 0.0, evidence }),
        })
    }

    /// What the modalities say of one identity; `None` where it has no template that any of them could compare with.
    pub(super) fn weigh_one(
        &self,
        shelf: &Shelf,
        id: &IdentityId,
        (pooling, now): (Pooling, Timestamp),
    ) -> Option<Candidate> {
        let look = |scale: &Scale| shelf.nearest_of(&scale.view.embedding, id, pooling, now);
        let found: Vec<Option<Candidate>> = self.of.iter().map(look).collect();
        let mut candidate = self.weigh(&found, now)?;
        if let Some(fused) = &mut candidate.fused {
            // Of two people, the claimed one and anybody else.
            fused.posterior = decision::posteriors(&[fused.log_likelihood_ratio], 1).0;
        }
        Some(candidate)
    }

    /// Weighs everybody whom a modality found. What a modality did not find of somebody is looked up.
    pub(super) fn weigh_all(
        &self,
        shelf: &Shelf,
        found: Vec<Vec<Candidate>>,
        (pooling, now): (Pooling, Timestamp),
    ) -> Weighed {
        let mut people: BTreeMap<IdentityId, Vec<Option<Candidate>>> = BTreeMap::new();
        for (of, found) in found.into_iter().enumerate() {
            for candidate in found {
                let seen = people.entry(candidate.identity.clone()).or_insert_with(|| vec![None; self.of.len()]);
                seen[of] = Some(candidate);
            }
        }
        let look = |(id, seen): (IdentityId, Vec<Option<Candidate>>)| {
            let views = self.of.iter().map(|scale| &scale.view.embedding);
            let all = seen.into_iter().zip(views);
            let all: Vec<Option<Candidate>> =
                all.map(|(seen, probe)| seen.or_else(|| shelf.nearest_of(probe, &id, pooling, now))).collect();
            self.weigh(&all, now)
        };
        let mut candidates: Vec<Candidate> = people.into_iter().filter_map(look).collect();
        candidates.sort_by(|one, other| ratio(other).total_cmp(&ratio(one)).then(one.template.cmp(&other.template)));
        let ratios: Vec<f64> = candidates.iter().map(ratio).collect();
        let (posterior, each) = decision::posteriors(&ratios, self.identities);
        for (candidate, posterior) in candidates.iter_mut().zip(each) {
            if let Some(fused) = &mut candidate.fused {
                fused.posterior = posterior;
            }
        }
        Weighed { posterior: (!candidates.is_empty()).then_some(posterior), candidates }
    }

    /// The most that can speak for somebody whom no modality named: each names those nearest to it, so nobody else is nearer
    /// than the last whom it named.
    fn most_unnamed(&self, found: &[Vec<Candidate>], width: usize) -> f64 {
        let edge = |(scale, found): (&Scale, &Vec<Candidate>)| {
            let last = found.last().filter(|_| found.len() == width)?;
            scale.calibration.weigh(last.similarity)
        };
        self.of.iter().zip(found).filter_map(edge).map(|ratio| ratio.max(0.0)).sum()
    }
}

/// The log-likelihood ratio of a candidate who was weighed.
fn ratio(candidate: &Candidate) -> f64 {
    candidate.fused.as_ref().map_or(0.0, |fused| fused.log_likelihood_ratio)
}

/// A template's id says when it was enrolled. One whose id does not is taken for new.
fn age_seconds(template: TemplateId, now: Timestamp) -> f64 {
    let enrolled =
        template.0.get_timestamp().map_or(now.as_second(), |time| i64::try_from(time.to_unix().0).unwrap_or(i64::MAX));
    now.as_second().saturating_sub(enrolled) as f64
}

impl Matcher {
    /// Which modalities of the probe have something to say here, and the terms of a decision by them.
    pub(super) async fn heard(&self, open: &Open, probe: &Probe) -> Heard {
        let first = || probe.first().clone();
        if !probe.is_fused() {
            return Heard { view: first(), scales: None, terms: self.terms(open, first().embedding.space()).await };
        }
        // A modality that nobody was enrolled with is missing here, whatever is known of it.
        let there: Vec<&View> =
            probe.views.iter().filter(|view| open.shelf.templates_in(view.embedding.space()) > 0).collect();
        let mut able: Vec<(&View, InForce)> = Vec::new();
        for view in &there {
            let in_force = self.in_force(open, view.embedding.space(), Patience::Request).await;
            able.extend(in_force.filter(|i| i.calibration.weight_max().is_some()).map(|in_force| (*view, in_force)));
        }
        let uncalibrated = able.len() < there.len();
        if let ([view], _) | (_, [(view, _)]) = (&there[..], &able[..]) {
            // Who speaks alone is held against thresholds, as if nobody else had been asked.
            let mut terms = self.terms(open, view.embedding.space()).await;
            if uncalibrated && there.len() > 1 {
                terms.resolve_reasons.push(Reason::ModalityUncalibrated);
                terms.verify_reasons.push(Reason::ModalityUncalibrated);
            }
            return Heard { view: (*view).clone(), scales: None, terms };
        }
        let enrolled: u64 = there.iter().map(|view| open.shelf.identities_in(view.embedding.space())).sum();
        let identities = enrolled.min(open.shelf.stats().identities);
        let policy = open.collection.policy;
        let together: Vec<(EmbeddingSpace, InForce)> =
            able.iter().map(|(view, in_force)| (view.embedding.space(), in_force.clone())).collect();
        let fusion = self.fusion(open, &together).await;
        let calibrations: Vec<&Calibration> = able.iter().map(|(_, in_force)| &*in_force.calibration).collect();
        let mut terms = fusion.terms(policy, identities, &calibrations, uncalibrated);
        if able.iter().any(|(_, in_force)| in_force.is_stale)
            && !terms.resolve_reasons.contains(&Reason::CalibrationStale)
        {
            terms.resolve_reasons.push(Reason::CalibrationStale);
        }
        let scale = |(view, in_force): (&View, InForce)| {
            let is_body = view.modality() == Modality::Person;
            let half_life = if is_body { policy.person_half_life.as_secs_f64() } else { 0.0 };
            (view.clone(), in_force.calibration, half_life)
        };
        let scales = able.into_iter().map(scale).collect();
        Heard { view: first(), scales: Some(Arc::new(Scales::new(scales, fusion, identities))), terms }
    }

    /// Those for whom the most speaks, with all who were weighed for the posterior. The first `limit` of them are exactly those
    /// of the whole gallery, as far as anything speaks for them.
    pub(super) async fn weigh(
        &self,
        open: &Open,
        scales: &Arc<Scales>,
        (limit, filter): (usize, Option<Filter>),
    ) -> Result<Weighed, Fault> {
        if scales.are_empty() {
            return Ok(Weighed::default());
        }
        let began = Instant::now();
        let terms = (open.collection.policy.pooling, self.clock.now());
        let mut weighed = Weighed::default();
        for width in WIDTHS.into_iter().map(|width| width.max(limit)) {
            let wanted = Wanted { limit: width, filter: filter.clone(), min_similarity: None };
            let one = |scale: &Scale| self.look_up(open, scale.view.embedding.clone(), wanted.clone());
            let found = futures::future::try_join_all(scales.of.iter().map(one)).await?;
            let unnamed = scales.most_unnamed(&found, width);
            let (shelf, on) = (Arc::clone(&open.shelf), Arc::clone(scales));
            let place = self.pool.place()?;
            weighed = self.pool.run_in(place, move || on.weigh_all(&shelf, found, terms)).await?;
            let last = weighed.candidates.get(limit.saturating_sub(1)).map_or(f64::NEG_INFINITY, ratio);
            if unnamed <= 0.0 || last >= unnamed {
                break;
            }
        }
        metrics::histogram!(domain::metric::SEARCH_DURATION).record(began.elapsed().as_secs_f64());
        Ok(weighed)
    }
}

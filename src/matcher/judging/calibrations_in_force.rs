//! The calibration in force of a space: the one that an operator activated, else one from a rehearsal of the gallery,
//! which is repeated when the gallery has grown or shrunk by a fifth, else the measurements of the model package.
//!
//! Rehearsals run in the background, one at a time. A request waits a bounded time for its first rehearsal, then
//! continues with what exists and reports that.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::Judging;
use crate::matcher::{
    collection::{
        active_calibrations::ActiveCalibration,
        collection_handle::CollectionHandle,
        rehearsals::{JointSpaces, Rehearsals, Rehearsed, SpaceRehearsal},
    },
    request::fault::Fault,
};
use decision::{
    Calibration, Decider, Fusion, JointTrials, PosteriorCalibration, PosteriorThresholds, TRIALS_MIN, Thresholds,
    genuine_similarities,
    relations::{NEIGHBOURS_MAX, Relations},
};
use domain::{
    CalibrationId, CaseSelection, EmbeddingSpace, ErrorChain, GalleryStatistics, Modality, Neighbour, Pooling,
    PosteriorTrials, Reason, Rehearsal, ReviewTrial, ReviewedSimilarities, Similarity, ThresholdSource,
};
use gallery::{JointRehearsal, RehearsalLimits};

/// The seed of every rehearsal: the same gallery always gives the same thresholds.
pub(crate) const SEED: u64 = 1;

/// Maximum scores of a joint rehearsal: above 25 000 identities it makes fewer trials.
const SCORES_MAX: u64 = 50_000_000;
/// How long a survey waits for a fresh rehearsal before it continues with what exists.
const SURVEY_WAIT: Duration = Duration::from_mins(10);

/// The calibration that maps similarities of a space.
#[derive(Debug, Clone)]
pub(crate) struct InForce {
    pub(crate) calibration: Arc<Calibration>,
    /// Its id, when an operator activated it.
    pub(crate) active: Option<CalibrationId>,
    /// The gallery has changed too much since it was made, or since the active one that no longer fits was made.
    pub(crate) is_stale: bool,
}

/// How long a caller waits for a rehearsal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitLimits {
    /// Uses a stale result at once; waits shortly only when there is none.
    Request,
    /// Waits minutes for a fresh result.
    Survey,
}

/// A space and its calibration in force.
#[derive(Debug, Clone)]
pub(crate) struct CalibratedSpace {
    pub(crate) space: EmbeddingSpace,
    pub(crate) in_force: InForce,
}

impl Judging {
    /// The thresholds of a space for the gallery as it is now.
    pub(crate) async fn thresholds(&self, handle: &CollectionHandle, space: EmbeddingSpace) -> Thresholds {
        let (policy, identities) = (handle.collection.policy, handle.index.identities_in(space));
        let Some(in_force) = self.in_force(handle, space, WaitLimits::Request).await else {
            return Thresholds::uncalibrated(policy, identities);
        };
        // A package was measured on pairs of single templates, and several templates of one identity are as many chances.
        let is_best_of_pairs =
            policy.pooling == Pooling::Best && in_force.calibration.source() == ThresholdSource::Package;
        let chances = if is_best_of_pairs { handle.index.templates_in(space) } else { identities };
        let mut thresholds = in_force.calibration.thresholds(policy, chances);
        thresholds.point.gallery_identities = identities;
        thresholds.point.calibration = in_force.active;
        if in_force.is_stale && !thresholds.resolve_reasons.contains(&Reason::CalibrationStale) {
            thresholds.resolve_reasons.push(Reason::CalibrationStale);
        }
        thresholds
    }

    /// The similarity that would be KNOWN in a gallery of the provisional identities of a space; `None` without a
    /// calibration.
    pub(crate) async fn provisional_threshold(
        &self,
        handle: &CollectionHandle,
        space: EmbeddingSpace,
    ) -> Option<Similarity> {
        let in_force = self.in_force(handle, space, WaitLimits::Request).await?;
        let identities = handle.index.provisional_in(space).max(1);
        in_force.calibration.thresholds(handle.collection.policy, identities).point.threshold_known
    }

    /// The calibration in force of a space. An active one of another space or pooling does not fit these similarities;
    /// then the rehearsal or the model package replaces it.
    pub(crate) async fn in_force(
        &self,
        handle: &CollectionHandle,
        space: EmbeddingSpace,
        wait: WaitLimits,
    ) -> Option<InForce> {
        let active = self.active(handle, space.modality).await;
        let has_moved = active.as_ref().is_some_and(|active| has_moved(handle, active));
        let fitting = active.filter(|active| active.kept.fits(space, handle.collection.policy.pooling));
        if let Some(active) = fitting
            && let Some(calibration) = active.calibration.clone()
        {
            return Some(InForce { calibration, active: Some(active.kept.id), is_stale: has_moved });
        }
        let rehearsed = self.rehearsed(handle, space, wait).await;
        let is_stale =
            has_moved || rehearsed.as_ref().is_some_and(|made| made.is_stale(handle.index.identities_in(space)));
        let packaged = || self.recognition.package_calibration(space).and_then(Calibration::from_package).map(Arc::new);
        let calibration = rehearsed.and_then(|rehearsed| rehearsed.made).or_else(packaged)?;
        Some(InForce { calibration, active: None, is_stale })
    }

    /// The active calibration of a modality. When the database cannot be read, the last known one stays in force.
    pub(crate) async fn active(&self, handle: &CollectionHandle, modality: Modality) -> Option<Arc<ActiveCalibration>> {
        if !handle.active_calibrations.is_as_of(handle.collection.revision)
            && let Err(fault) = self.replica.read_active_calibrations(handle).await
        {
            let error = ErrorChain(&fault);
            tracing::warn!(%error, "the active calibrations cannot be read; the last known ones stay in force");
        }
        handle.active_calibrations.of(modality)
    }

    /// The number of collections whose gallery has changed too much for an active calibration.
    #[must_use]
    pub fn stale_calibrations(&self) -> usize {
        let is_stale =
            |handle: &CollectionHandle| handle.active_calibrations.all().iter().any(|active| has_moved(handle, active));
        self.replica.directory().all().iter().filter(|handle| is_stale(handle)).count()
    }

    async fn rehearsed(
        &self,
        handle: &CollectionHandle,
        space: EmbeddingSpace,
        wait: WaitLimits,
    ) -> Option<Rehearsed<Option<Arc<Calibration>>>> {
        if handle.index.templates_in(space) < TRIALS_MIN as u64 {
            return None;
        }
        let subject = SpaceRehearsal { space, pooling: handle.collection.policy.pooling };
        let identities = handle.index.identities_in(space);
        let ticket = handle.rehearsals.one_space.subscribe(subject, identities);
        if ticket.must_rehearse {
            let package = self.recognition.package_calibration(space).cloned();
            let trials_max = self.options.rehearsal_trials_max;
            let reviewed = {
                let (judging, handle) = (self.clone(), handle.clone());
                async move {
                    judging.reviewed(&handle, space).await.unwrap_or_else(|fault| {
                        let error = ErrorChain(&fault);
                        tracing::warn!(%error, "review trials cannot be read; a rehearsal continues without them");
                        ReviewedSimilarities::default()
                    })
                }
            };
            let rehearse = move |handle: &CollectionHandle, reviewed| {
                let rehearsal = handle.index.rehearse(space, subject.pooling, trials_max, SEED);
                let rehearsal = Rehearsal { reviewed, ..rehearsal };
                let made = Calibration::from_rehearsal(&rehearsal, package.as_ref()).map(Arc::new);
                Rehearsed { made, identities: rehearsal.identities }
            };
            let put = move |rehearsals: &Rehearsals, made| rehearsals.one_space.put(&subject, made);
            self.begin_rehearsal(handle, reviewed, rehearse, put);
        }
        let mut made = ticket.made;
        if wait == WaitLimits::Survey {
            let fresh = made.wait_for(|made| made.as_ref().is_some_and(|made| !made.is_stale(identities)));
            // After the wait a stale result is used.
            let _ = tokio::time::timeout(SURVEY_WAIT, fresh).await;
        }
        self.wait_for(made).await
    }

    /// The thresholds on the posterior of a space for the gallery as it is now.
    pub(crate) async fn posterior_thresholds(
        &self,
        handle: &CollectionHandle,
        space: EmbeddingSpace,
    ) -> PosteriorThresholds {
        let policy = &handle.collection.policy;
        let active = self.active(handle, space.modality).await;
        let has_moved = active.as_ref().is_some_and(|active| has_moved(handle, active));
        if let Some(active) = active.filter(|active| active.kept.fits(space, policy.pooling))
            && let Some(posterior) = &active.posterior
        {
            let thresholds = posterior.thresholds(policy, has_moved);
            return PosteriorThresholds { calibration: Some(active.kept.id), ..thresholds };
        }
        let identities = handle.index.identities_in(space);
        let ticket = handle.rehearsals.posterior.subscribe(space, identities);
        if ticket.must_rehearse {
            let (limits, genuine) = (self.open_set_limits(), self.genuine_similarities(space));
            let rehearse = move |handle: &CollectionHandle, ()| {
                let trials = handle.index.rehearse_open_set(space, limits, &genuine, &log_odds);
                Rehearsed { made: Arc::new(PosteriorCalibration::from_trials(&trials)), identities: trials.identities }
            };
            let put = move |rehearsals: &Rehearsals, made| rehearsals.posterior.put(&space, made);
            self.begin_rehearsal(handle, async {}, rehearse, put);
        }
        match self.wait_for(ticket.made).await {
            Some(rehearsed) => rehearsed.made.thresholds(policy, has_moved || rehearsed.is_stale(identities)),
            None => PosteriorCalibration::from_trials(&PosteriorTrials::default()).thresholds(policy, has_moved),
        }
    }

    pub(crate) fn open_set_limits(&self) -> RehearsalLimits {
        let trials_max = self.options.rehearsal_trials_max;
        RehearsalLimits { trials_max, neighbours_max: NEIGHBOURS_MAX, seed: SEED }
    }

    /// Similarities of genuine pairs that the package of a space was measured with; empty without a package.
    pub(crate) fn genuine_similarities(&self, space: EmbeddingSpace) -> Vec<f32> {
        self.recognition.package_calibration(space).map_or_else(Vec::new, genuine_similarities)
    }

    /// The fusion of several modalities, fitted on a joint rehearsal of the gallery; without one the modalities count as
    /// independent.
    pub(crate) async fn fusion(&self, handle: &CollectionHandle, spaces: &[CalibratedSpace]) -> Arc<Fusion> {
        let independent = || Arc::new(Fusion::independent(spaces.len()));
        if spaces.len() < 2 {
            return independent();
        }
        let subject = JointSpaces {
            spaces: spaces.iter().map(|calibrated| (calibrated.space, calibrated.in_force.active)).collect(),
            pooling: handle.collection.policy.pooling,
        };
        let of_space = |calibrated: &CalibratedSpace| handle.index.identities_in(calibrated.space);
        let identities = spaces.iter().map(of_space).min().unwrap_or(0);
        let ticket = handle.rehearsals.joint.subscribe(subject.clone(), identities);
        if ticket.must_rehearse {
            let spaces = spaces.to_vec();
            let pooling = subject.pooling;
            let affordable = usize::try_from(SCORES_MAX / identities.max(1)).unwrap_or(usize::MAX).max(TRIALS_MIN);
            let trials_max = self.options.rehearsal_trials_max.min(affordable);
            let rehearse = move |handle: &CollectionHandle, ()| {
                let of: Vec<EmbeddingSpace> = spaces.iter().map(|calibrated| calibrated.space).collect();
                let calibrations: Vec<&Calibration> =
                    spaces.iter().map(|calibrated| &*calibrated.in_force.calibration).collect();
                let made = match handle.index.joint_rehearsal(&of, pooling, trials_max, SEED) {
                    Some(joint) => fit_fusion(&joint, &calibrations),
                    None => Fusion::independent(of.len()),
                };
                Rehearsed { made: Arc::new(made), identities }
            };
            let put = move |rehearsals: &Rehearsals, made| rehearsals.joint.put(&subject, made);
            self.begin_rehearsal(handle, async {}, rehearse, put);
        }
        self.wait_for(ticket.made).await.map_or_else(independent, |rehearsed| rehearsed.made)
    }

    /// An existing result, even a stale one; else the first result within the wait of a request.
    async fn wait_for<T: Clone>(&self, mut made: watch::Receiver<Option<Rehearsed<T>>>) -> Option<Rehearsed<T>> {
        if let Some(there) = made.borrow().clone() {
            return Some(there);
        }
        let some = made.wait_for(Option::is_some);
        tokio::time::timeout(self.options.calibration_wait, some).await.ok()?.ok()?.clone()
    }

    /// The best similarities of decided review cases, by whether that candidate was right. Only cases that were selected
    /// by similarity alone: others are no fair sample of the answers at that similarity.
    pub(crate) async fn reviewed(
        &self,
        handle: &CollectionHandle,
        space: EmbeddingSpace,
    ) -> Result<ReviewedSimilarities, Fault> {
        let pooling = handle.collection.policy.pooling;
        let mut reviewed = ReviewedSimilarities::default();
        let trials = self.store.in_collection(handle.collection.uid).review_trials().await?;
        for ReviewTrial { doubt, was_right, .. } in trials {
            if doubt.space == space && doubt.pooling == pooling && doubt.selection == CaseSelection::Blind {
                let kind = if was_right { &mut reviewed.right } else { &mut reviewed.wrong };
                kind.push(doubt.similarity);
            }
        }
        Ok(reviewed)
    }

    /// Starts a rehearsal in the background: waits for its turn, for `prepared`, then rehearses on a blocking thread.
    fn begin_rehearsal<T: Send + 'static, P: Send + 'static>(
        &self,
        handle: &CollectionHandle,
        prepared: impl Future<Output = P> + Send + 'static,
        rehearse: impl FnOnce(&CollectionHandle, P) -> Rehearsed<T> + Send + 'static,
        put: impl FnOnce(&Rehearsals, Option<Rehearsed<T>>) + Send + 'static,
    ) {
        let (lock, handle) = (Arc::clone(&self.rehearsal_lock), handle.clone());
        self.tasks.spawn(async move {
            let rehearsal = lock.lock().await;
            let (rehearsed, prepared) = (handle.clone(), prepared.await);
            let made = tokio::task::spawn_blocking(move || rehearse(&rehearsed, prepared)).await;
            if let Err(error) = &made {
                tracing::error!(%error, "a rehearsal failed");
            }
            drop(rehearsal);
            put(&handle.rehearsals, made.ok());
        });
    }
}

/// The log-odds of the decider that a probe with these surroundings is enrolled.
pub(crate) fn log_odds(neighbours: &[Neighbour], surroundings: &GalleryStatistics) -> f64 {
    Decider::shipped().log_odds(&Relations::new(neighbours, surroundings))
}

/// Whether the gallery has changed too much since the calibration was made.
fn has_moved(handle: &CollectionHandle, active: &ActiveCalibration) -> bool {
    !active.kept.stale_reasons(&handle.gallery_state(active.kept.space)).is_empty()
}

/// Fits the fusion of several modalities on a joint rehearsal, with mated and non-mated trials. Each calibration gives
/// log-likelihood ratios.
pub(crate) fn fit_fusion(joint: &JointRehearsal, calibrations: &[&Calibration]) -> Fusion {
    let ratio =
        |(of, similarity): (usize, Similarity)| calibrations[of].log_likelihood_ratio(similarity).unwrap_or(0.0);
    let ratios = |trial: &Vec<Similarity>| trial.iter().copied().enumerate().map(ratio).collect::<Vec<f64>>();
    let (mated, nonmated) = joint.pairs();
    let (mated, nonmated): (Vec<_>, Vec<_>) =
        (mated.iter().map(ratios).collect(), nonmated.iter().map(ratios).collect());
    let trials = JointTrials { mated: &mated, nonmated: &nonmated };
    let fusion = Fusion::fit(calibrations.len(), trials);
    let nonmated_best = joint.nonmated_best(|each| {
        let ratios: Vec<Option<f64>> =
            each.iter().enumerate().map(|(of, similarity)| similarity.map(|s| ratio((of, s)))).collect();
        fusion.sum(&ratios)
    });
    fusion.calibrated(joint.identities(), &nonmated_best, trials)
}

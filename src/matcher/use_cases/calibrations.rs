//! Stored calibrations: create, get, list, activate, deactivate, delete.

use std::{sync::Arc, time::Instant};

use futures::FutureExt;
use tokio::time::timeout_at;

use crate::matcher::{
    collection::collection_handle::CollectionHandle,
    judging::{
        Judging,
        calibrations_in_force::{SEED, log_odds},
    },
    options::CalibrationOptions,
    recognition::Recognition,
    replica::Replica,
    request::context::{Context, Urgency},
    request::fault::Fault,
    turn::{Writes, collection_turn::CollectionTurn},
};
use decision::{Calibration, TRIALS_MIN, relations::NEIGHBOURS_MAX};
use domain::{
    CalibrationId, Clock, CollectionId, Embedding, EmbeddingSpace, IdSource, IdentityId, Modality, PosteriorTrials,
    Rehearsal, SAME_IMAGE, Sample, Similarity, SpaceBinding, SpaceName, StaleReason, StoredCalibration,
    ThresholdEstimate, ThresholdSource,
};
use gallery::{Query, Searched};
use store::Store;

/// A request for a calibration.
#[derive(Debug, Clone)]
pub struct CalibrationDraft {
    pub collection: CollectionId,
    /// The modality of the gallery; that of the model when absent.
    pub modality: Option<Modality>,
    /// The space; the active one when absent.
    pub model: Option<SpaceName>,
    /// Samples of people who are not enrolled.
    pub outsiders: Vec<Sample>,
}

/// The trials of a gallery.
struct GalleryTrials {
    rehearsal: Rehearsal,
    posterior: PosteriorTrials,
    /// The highest similarity of each outsider.
    outsiders: Vec<Similarity>,
    /// Enough trials for a calibration.
    is_enough: bool,
}

/// A stored calibration, compared with the gallery as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct CalibrationView {
    pub kept: StoredCalibration,
    pub source: ThresholdSource,
    /// The number of non-mated trials.
    pub trials: u64,
    pub state: CalibrationState,
    /// What has changed since, when it is stale.
    pub moved: Vec<StaleReason>,
    /// The identities of its space now.
    pub gallery_identities: u64,
    /// Its error rates by level, at that size.
    pub levels: Vec<ThresholdEstimate>,
}

/// Whether a calibration shall apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    Activate,
    Deactivate,
}

/// The state of a calibration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CalibrationState {
    Active,
    Inactive,
    /// The gallery has changed too much since, whether the calibration is active or not.
    Stale,
}

/// The stored calibrations of all collections. Clones share all state.
#[derive(Debug, Clone)]
pub struct CalibrationUseCases {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    recognition: Recognition,
    replica: Replica,
    judging: Judging,
    writes: Writes,
    options: CalibrationOptions,
}

/// What the stored calibrations are made of.
pub(crate) struct CalibrationParts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) recognition: Recognition,
    pub(crate) judging: Judging,
    pub(crate) writes: Writes,
}

impl CalibrationUseCases {
    pub(crate) fn new(parts: CalibrationParts, options: CalibrationOptions) -> Self {
        let CalibrationParts { store, clock, ids, recognition, judging, writes } = parts;
        let replica = writes.replica().clone();
        Self { store, clock, ids, recognition, replica, judging, writes, options }
    }

    /// Rehearses the gallery, compares the outsiders with it, and keeps the trials.
    pub async fn create_calibration(
        &self,
        context: &Context,
        draft: CalibrationDraft,
    ) -> Result<CalibrationView, Fault> {
        let collection = draft.collection.clone();
        let id = if let Some(id) = self.writes.answered_before(context, &collection).await? {
            id
        } else {
            let made = timeout_at(context.deadline.into(), self.calibrate(context, draft)).await;
            let kept = made.map_err(|_| Fault::TooLate)??;
            let most = self.options.calibrations_max;
            self.writes
                .change(context, &collection, move |turn| async move { keep_in_turn(turn, kept, most).await }.boxed())
                .await?
        };
        self.calibration(&collection, id).await
    }

    async fn calibrate(&self, context: &Context, draft: CalibrationDraft) -> Result<StoredCalibration, Fault> {
        let most = self.options.outsiders_max;
        if draft.outsiders.len() > most {
            return Err(Fault::invalid("outsiders", format!("a calibration takes at most {most} outsiders")));
        }
        let handle = self.replica.open(&draft.collection).await?;
        let binding = calibrated_space(&handle, draft.modality, draft.model.as_ref())?;
        let embeddings = self.outsiders(context, &handle, &binding, draft.outsiders).await?;
        let GalleryTrials { mut rehearsal, posterior, outsiders, is_enough } =
            self.try_out(&handle, binding.space, embeddings).await?;
        rehearsal.reviewed = self.judging.reviewed(&handle, binding.space).await?;
        if !is_enough {
            let trials = rehearsal.nonmated_best.len().min(rehearsal.impostor.len());
            return Err(Fault::TooFewTrials { model: binding.name, trials, needed: TRIALS_MIN });
        }
        Ok(StoredCalibration {
            id: CalibrationId(self.ids.fresh()),
            quality_mean: handle.index.quality_mean_in(binding.space),
            model: binding.name,
            space: binding.space,
            pooling: handle.collection.policy.pooling,
            is_active: false,
            create_time: self.clock.now(),
            rehearsal,
            outsiders,
            posterior,
        })
    }

    /// The embeddings of the outsiders, encoded in requests of the usual size, behind interactive work.
    async fn outsiders(
        &self,
        context: &Context,
        handle: &CollectionHandle,
        binding: &SpaceBinding,
        mut samples: Vec<Sample>,
    ) -> Result<Vec<Embedding>, Fault> {
        let bulk = Context { urgency: Urgency::Bulk, ..context.clone() };
        let collection = &*handle.collection;
        let mut embeddings = Vec::with_capacity(samples.len());
        while !samples.is_empty() {
            let first = embeddings.len();
            let some: Vec<Sample> = samples.drain(..samples.len().min(self.recognition.samples_max())).collect();
            let share = self.recognition.admit(&bulk, &some)?;
            let one = |(at, sample)| {
                let encoded = self.recognition.encode_one(&bulk, Some(collection), sample, share.id());
                async move { encoded.await.map_err(|fault| fault.of_sample(at)) }
            };
            let encoded = futures::future::try_join_all((first..).zip(some).map(one)).await?;
            for part in encoded {
                let (modality, given) = (binding.space.modality, part.model);
                if part.embedding.space() != binding.space {
                    return Err(Fault::OtherSpace { modality, active: binding.name.clone(), given });
                }
                embeddings.push(part.embedding);
            }
        }
        Ok(embeddings)
    }

    /// Compares the gallery with itself and the outsiders with the gallery.
    async fn try_out(
        &self,
        handle: &CollectionHandle,
        space: EmbeddingSpace,
        outsiders: Vec<Embedding>,
    ) -> Result<GalleryTrials, Fault> {
        let (index, pooling, now) = (Arc::clone(&handle.index), handle.collection.policy.pooling, self.clock.now());
        let trials_max = self.judging.options().rehearsal_trials_max;
        let limits = self.judging.open_set_limits();
        let genuine = self.judging.genuine_similarities(space);
        let try_out = move || {
            let began = Instant::now();
            let mut rehearsal = index.rehearse(space, pooling, trials_max, SEED);
            let mut posterior = index.rehearse_open_set(space, limits, &genuine, &log_odds);
            let query = Query {
                limit: NEIGHBOURS_MAX,
                filter: None,
                now,
                pooling,
                similarity_min: None,
                searched: Searched::Enrolled,
            };
            let mut best = Vec::with_capacity(outsiders.len());
            for outsider in &outsiders {
                let nearest = index.search(outsider, &query);
                let similarity = nearest.first().map(|best| best.similarity).filter(|best| best.0 < SAME_IMAGE);
                best.extend(similarity);
                let identities: Vec<IdentityId> = nearest.into_iter().map(|candidate| candidate.identity).collect();
                let surroundings = similarity.and_then(|_| index.neighbourhood(outsider, &identities, NEIGHBOURS_MAX));
                #[expect(clippy::cast_possible_truncation, reason = "log-odds are limited")]
                posterior.outsiders.extend(surroundings.map(|(near, gallery)| log_odds(&near, &gallery) as f32));
            }
            if best.len() >= TRIALS_MIN {
                let impostors = index.outsider_trials(pooling, &outsiders, trials_max, SEED);
                rehearsal.impostor = impostors.similarities;
                rehearsal.impostor_independent = impostors.independent;
            }
            let outsiders = best;
            tracing::debug!(took = ?began.elapsed(), "rehearsed a gallery");
            let is_enough = Calibration::from_trials(&rehearsal, &outsiders, None).is_some();
            GalleryTrials { rehearsal, posterior, outsiders, is_enough }
        };
        self.judging.rehearse_alone(try_out).await.map_err(Fault::internal)
    }

    /// # Errors
    /// [`Fault::NoCalibration`].
    pub async fn calibration(&self, collection: &CollectionId, id: CalibrationId) -> Result<CalibrationView, Fault> {
        let handle = self.replica.open(collection).await?;
        let kept =
            self.store.in_collection(handle.collection.uid).calibration(id).await?.ok_or(Fault::NoCalibration(id))?;
        let shown = self.views(&handle, vec![kept]).await?.pop();
        shown.ok_or_else(|| Fault::internal("one view per calibration"))
    }

    /// Calibrations by id, oldest first; those after `after`.
    pub async fn list_calibrations(
        &self,
        collection: &CollectionId,
        after: Option<CalibrationId>,
        limit: u32,
    ) -> Result<Vec<CalibrationView>, Fault> {
        let handle = self.replica.open(collection).await?;
        let kept = self.store.in_collection(handle.collection.uid).calibrations(after, limit).await?;
        self.views(&handle, kept).await
    }

    /// Activates a calibration for its modality, or deactivates it, so that automatic ones apply again.
    pub async fn activate_calibration(
        &self,
        context: &Context,
        collection: &CollectionId,
        id: CalibrationId,
        activation: Activation,
    ) -> Result<CalibrationView, Fault> {
        self.writes
            .change(context, collection, move |turn| {
                async move { activate_in_turn(turn, id, activation).await }.boxed()
            })
            .await?;
        let calibrated = self.calibration(collection, id).await?;
        // Read it now, so that no answer waits for it.
        self.judging.active(&self.replica.open(collection).await?, calibrated.kept.space.modality).await;
        Ok(calibrated)
    }

    pub async fn delete_calibration(
        &self,
        context: &Context,
        collection: &CollectionId,
        id: CalibrationId,
    ) -> Result<(), Fault> {
        self.writes.change(context, collection, move |turn| async move { delete_in_turn(turn, id).await }.boxed()).await
    }

    /// A fit takes milliseconds, so it runs on a blocking thread.
    async fn views(
        &self,
        handle: &CollectionHandle,
        kept: Vec<StoredCalibration>,
    ) -> Result<Vec<CalibrationView>, Fault> {
        let (calibrations, handle) = (self.clone(), handle.clone());
        let all = move || kept.into_iter().map(|kept| calibrations.view(&handle, kept)).collect();
        tokio::task::spawn_blocking(all).await.map_err(Fault::internal)
    }

    fn view(&self, handle: &CollectionHandle, kept: StoredCalibration) -> CalibrationView {
        let now = handle.gallery_state(kept.space);
        let moved = kept.stale_reasons(&now);
        let calibration = Calibration::from_kept(&kept, self.recognition.package_calibration(kept.space));
        CalibrationView {
            source: calibration.as_ref().map_or(ThresholdSource::None, Calibration::source),
            trials: calibration.as_ref().map_or(0, Calibration::trials),
            state: match kept.is_active {
                _ if !moved.is_empty() => CalibrationState::Stale,
                true => CalibrationState::Active,
                false => CalibrationState::Inactive,
            },
            moved,
            gallery_identities: now.identities,
            levels: calibration.map_or_else(Vec::new, |c| c.levels(now.identities)),
            kept,
        }
    }
}

async fn keep_in_turn(turn: &mut CollectionTurn, kept: StoredCalibration, most: u64) -> Result<CalibrationId, Fault> {
    let is_kept = turn.store().put_calibration(&kept, most).await?;
    if is_kept { Ok(kept.id) } else { Err(Fault::TooManyCalibrations(most)) }
}

async fn activate_in_turn(turn: &mut CollectionTurn, id: CalibrationId, activation: Activation) -> Result<(), Fault> {
    let kept = turn.store().calibration(id).await?.ok_or(Fault::NoCalibration(id))?;
    let shall_be_active = activation == Activation::Activate;
    if kept.is_active == shall_be_active {
        return Ok(());
    }
    let active = shall_be_active.then_some(id);
    turn.store().activate_calibration(kept.space.modality, active).await?;
    turn.touch_collection().await
}

async fn delete_in_turn(turn: &mut CollectionTurn, id: CalibrationId) -> Result<(), Fault> {
    let kept = turn.store().calibration(id).await?.ok_or(Fault::NoCalibration(id))?;
    turn.store().delete_calibration(id).await?;
    if kept.is_active { turn.touch_collection().await } else { Ok(()) }
}

/// The space of a calibration request; at least one identity is enrolled in it.
fn calibrated_space(
    handle: &CollectionHandle,
    modality: Option<Modality>,
    model: Option<&SpaceName>,
) -> Result<SpaceBinding, Fault> {
    let binding = match (model, modality) {
        (Some(model), _) => handle.collection.space_named(model).cloned().ok_or_else(|| {
            let problem = format!("this collection holds nothing of {model}; its spaces are listed with it");
            Fault::invalid("model", problem)
        })?,
        (None, Some(modality)) => {
            handle.collection.active_space(modality).cloned().ok_or(Fault::NothingToCalibrate(modality))?
        }
        (None, None) => {
            return Err(Fault::invalid("modality", "a modality is needed: face, person or gait"));
        }
    };
    if let Some(modality) = modality.filter(|asked| *asked != binding.space.modality) {
        let problem = format!("{} is a space of {}, not of {modality}", binding.name, binding.space.modality);
        return Err(Fault::invalid("modality", problem));
    }
    if handle.index.identities_in(binding.space) == 0 {
        return Err(Fault::NothingToCalibrate(binding.space.modality));
    }
    Ok(binding)
}

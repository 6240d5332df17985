//! Calibrations that are kept: make, show, list, pin, let go, delete.

use std::{sync::Arc, time::Instant};

use futures::FutureExt;
use tokio::time::timeout_at;

use super::{Context, Fault, Matcher, calibrate::SEED, directory::Open, pins::standing, turn::Turn};
use decision::{Calibration, TRIALS_MIN};
use domain::{
    CalibrationId, CollectionId, Embedding, EmbeddingSpace, KeptCalibration, Level, Modality, Moved, Rehearsal,
    SAME_IMAGE, Sample, Similarity, SpaceBinding, SpaceName, ThresholdSource,
};
use encoder::Urgency;
use gallery::Query;

/// What a calibration is to be made of.
#[derive(Debug, Clone)]
pub struct CalibrationDraft {
    pub collection: CollectionId,
    /// Which gallery; the model's own when absent.
    pub modality: Option<Modality>,
    /// The space; the one that is searched when absent.
    pub model: Option<SpaceName>,
    /// People who are not enrolled.
    pub outsiders: Vec<Sample>,
}

/// What came of trying a gallery out.
struct Tried {
    rehearsal: Rehearsal,
    /// The highest similarity that each outsider reached.
    outsiders: Vec<Similarity>,
    /// A calibration can be made of it.
    is_enough: bool,
}

/// A calibration beside the gallery as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibrated {
    pub kept: KeptCalibration,
    pub source: ThresholdSource,
    /// How many strangers were tried against the gallery.
    pub trials: u64,
    pub state: CalibrationState,
    /// Why it is stale.
    pub moved: Vec<Moved>,
    /// How many identities its space holds now.
    pub gallery_identities: u64,
    /// What it promises at that size.
    pub levels: Vec<Level>,
}

/// What has become of a calibration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CalibrationState {
    Active,
    Inactive,
    /// The gallery has moved since; whether it is active or not.
    Stale,
}

impl Matcher {
    /// Rehearses the gallery, tries the outsiders against it, and keeps the trials.
    pub async fn create_calibration(&self, context: &Context, draft: CalibrationDraft) -> Result<Calibrated, Fault> {
        let collection = draft.collection.clone();
        let id = if let Some(id) = self.answered_before(context, &collection).await? {
            id
        } else {
            let made = timeout_at(context.deadline.into(), self.calibrate(context, draft)).await;
            let kept = made.map_err(|_| Fault::TooLate)??;
            self.change(context, &collection, move |turn| turn.keep_calibration(kept).boxed()).await?
        };
        self.calibration(&collection, id).await
    }

    async fn calibrate(&self, context: &Context, draft: CalibrationDraft) -> Result<KeptCalibration, Fault> {
        let most = self.options.outsiders_max;
        if draft.outsiders.len() > most {
            return Err(Fault::invalid("outsiders", format!("a calibration takes at most {most} outsiders")));
        }
        let open = self.open(&draft.collection).await?;
        let binding = calibrated_space(&open, draft.modality, draft.model.as_ref())?;
        let embeddings = self.outsiders(context, &open, &binding, draft.outsiders).await?;
        let Tried { mut rehearsal, outsiders, is_enough } = self.try_out(&open, binding.space, embeddings).await?;
        rehearsal.reviewed = self.reviewed(&open, binding.space).await?;
        if !is_enough {
            let trials = rehearsal.nonmated_best.len().min(rehearsal.impostor.len());
            return Err(Fault::TooFewTrials { model: binding.name, trials, needed: TRIALS_MIN });
        }
        Ok(KeptCalibration {
            id: CalibrationId(self.ids.fresh()),
            quality_mean: open.shelf.quality_mean_in(binding.space),
            model: binding.name,
            space: binding.space,
            pooling: open.collection.policy.pooling,
            is_active: false,
            create_time: self.clock.now(),
            rehearsal,
            outsiders,
        })
    }

    /// The outsiders in the space, a request's worth at a time, behind those who wait for an answer.
    async fn outsiders(
        &self,
        context: &Context,
        open: &Open,
        binding: &SpaceBinding,
        mut samples: Vec<Sample>,
    ) -> Result<Vec<Embedding>, Fault> {
        let bulk = Context { urgency: Urgency::Bulk, ..context.clone() };
        let collection = &*open.collection;
        let mut embeddings = Vec::with_capacity(samples.len());
        while !samples.is_empty() {
            let first = embeddings.len();
            let some = samples.drain(..samples.len().min(self.options.samples_max));
            let one = |(at, sample)| {
                let encoded = self.encode_one(&bulk, Some(collection), sample);
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

    /// The gallery against itself, and the outsiders against it.
    async fn try_out(&self, open: &Open, space: EmbeddingSpace, outsiders: Vec<Embedding>) -> Result<Tried, Fault> {
        let _alone = self.calibrations.alone.lock().await;
        let (shelf, pooling, now) = (Arc::clone(&open.shelf), open.collection.policy.pooling, self.clock.now());
        let trials_max = self.options.rehearsal_trials_max;
        let try_out = move || {
            let began = Instant::now();
            let rehearsal = shelf.rehearse(space, pooling, trials_max, SEED);
            let query = Query { limit: 1, filter: None, now, pooling, similarity_min: None };
            let nearest = |embedding: &Embedding| shelf.search(embedding, &query).first().map(|best| best.similarity);
            let outsiders: Vec<Similarity> =
                outsiders.iter().filter_map(nearest).filter(|best| best.0 < SAME_IMAGE).collect();
            tracing::debug!(took = ?began.elapsed(), "tried a gallery out");
            let is_enough = Calibration::from_trials(&rehearsal, &outsiders, None).is_some();
            Tried { rehearsal, outsiders, is_enough }
        };
        tokio::task::spawn_blocking(try_out).await.map_err(Fault::internal)
    }

    pub async fn calibration(&self, collection: &CollectionId, id: CalibrationId) -> Result<Calibrated, Fault> {
        let open = self.open(collection).await?;
        let kept =
            self.store.in_collection(open.collection.uid).calibration(id).await?.ok_or(Fault::NoCalibration(id))?;
        let shown = self.beside_the_gallery(&open, vec![kept]).await?.pop();
        shown.ok_or_else(|| Fault::internal("as many are shown as there are"))
    }

    /// Calibrations in order of their ids, which is that of their making; those after `after`.
    pub async fn list_calibrations(
        &self,
        collection: &CollectionId,
        after: Option<CalibrationId>,
        limit: u32,
    ) -> Result<Vec<Calibrated>, Fault> {
        let open = self.open(collection).await?;
        let kept = self.store.in_collection(open.collection.uid).calibrations(after, limit).await?;
        self.beside_the_gallery(&open, kept).await
    }

    /// Puts the calibration in force for its modality, or, if it was, automatic ones again.
    pub async fn pin_calibration(
        &self,
        context: &Context,
        collection: &CollectionId,
        (id, pinned): (CalibrationId, CalibrationState),
    ) -> Result<Calibrated, Fault> {
        self.change(context, collection, move |turn| turn.pin_calibration(id, pinned).boxed()).await?;
        let calibrated = self.calibration(collection, id).await?;
        // Now, so that no answer has to.
        self.pinned(&self.open(collection).await?, calibrated.kept.space.modality).await;
        Ok(calibrated)
    }

    pub async fn delete_calibration(
        &self,
        context: &Context,
        collection: &CollectionId,
        id: CalibrationId,
    ) -> Result<(), Fault> {
        self.change(context, collection, move |turn| turn.delete_calibration(id).boxed()).await
    }

    /// Fitting takes milliseconds each, so it is done off the reactor.
    async fn beside_the_gallery(&self, open: &Open, kept: Vec<KeptCalibration>) -> Result<Vec<Calibrated>, Fault> {
        let (matcher, open) = (self.clone(), open.clone());
        let all = move || kept.into_iter().map(|kept| matcher.one_beside_the_gallery(&open, kept)).collect();
        tokio::task::spawn_blocking(all).await.map_err(Fault::internal)
    }

    fn one_beside_the_gallery(&self, open: &Open, kept: KeptCalibration) -> Calibrated {
        let now = standing(open, kept.space);
        let moved = kept.moved(&now);
        let calibration = Calibration::from_kept(&kept, self.package_calibration(kept.space));
        Calibrated {
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

impl Turn {
    async fn keep_calibration(&mut self, kept: KeptCalibration) -> Result<CalibrationId, Fault> {
        let most = self.matcher().options.calibrations_max;
        let is_kept = self.store().put_calibration(&kept, most).await?;
        if is_kept { Ok(kept.id) } else { Err(Fault::TooManyCalibrations(most)) }
    }

    async fn pin_calibration(&mut self, id: CalibrationId, pinned: CalibrationState) -> Result<(), Fault> {
        let kept = self.store().calibration(id).await?.ok_or(Fault::NoCalibration(id))?;
        let shall_be_active = pinned == CalibrationState::Active;
        if kept.is_active == shall_be_active {
            return Ok(());
        }
        let active = shall_be_active.then_some(id);
        self.store().activate_calibration(kept.space.modality, active).await?;
        self.move_record().await
    }

    async fn delete_calibration(&mut self, id: CalibrationId) -> Result<(), Fault> {
        let kept = self.store().calibration(id).await?.ok_or(Fault::NoCalibration(id))?;
        self.store().delete_calibration(id).await?;
        if kept.is_active { self.move_record().await } else { Ok(()) }
    }

    /// Writes the collection's record anew, so that every replica looks at what is pinned.
    async fn move_record(&mut self) -> Result<(), Fault> {
        let mut collection = (*self.open().collection).clone();
        collection.revision = collection.revision.next();
        collection.update_time = self.matcher().clock.now();
        self.put_collection(collection).await
    }
}

/// The space that is meant, in which somebody is enrolled.
fn calibrated_space(open: &Open, modality: Option<Modality>, model: Option<&SpaceName>) -> Result<SpaceBinding, Fault> {
    let binding = match (model, modality) {
        (Some(model), _) => open.collection.space_named(model).cloned().ok_or_else(|| {
            let problem = format!("this collection holds nothing of {model}; its spaces are listed with it");
            Fault::invalid("model", problem)
        })?,
        (None, Some(modality)) => {
            open.collection.active_space(modality).cloned().ok_or(Fault::NothingToCalibrate(modality))?
        }
        (None, None) => {
            return Err(Fault::invalid("modality", "a modality is needed: face, person or gait"));
        }
    };
    if let Some(modality) = modality.filter(|asked| *asked != binding.space.modality) {
        let problem = format!("{} is a space of {}, not of {modality}", binding.name, binding.space.modality);
        return Err(Fault::invalid("modality", problem));
    }
    if open.shelf.identities_in(binding.space) == 0 {
        return Err(Fault::NothingToCalibrate(binding.space.modality));
    }
    Ok(binding)
}

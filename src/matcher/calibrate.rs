//! Calibrations in force: the one that an operator pinned, else one made by the gallery's own rehearsal, made again when it
//! has grown or shrunk by a fifth.
//!
//! A rehearsal runs in the background, one at a time for each gallery. A request waits for it a little and then goes
//! on with what there is, saying so.

use std::{collections::HashMap, hash::Hash, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Fault, Matcher, directory::Open, pins::standing};
use decision::{Calibration, Fusion, TRIALS_MIN, Terms};
use domain::{
    CalibrationId, CollectionUid, EmbeddingSpace, ErrorChain, PackageCalibration, Pooling, Reason, Rehearsal,
    ReviewTrial, Reviewed, Selection, Similarity, has_moved,
};
use encoder::Encoder;
use gallery::Together;

/// Rehearsals draw their trials from this seed: the same gallery always gives the same thresholds.
pub(super) const SEED: u64 = 1;

/// A rehearsal of several modalities scores so many identities: above 25 000 of them it makes fewer trials.
const SCORES_MAX: u64 = 50_000_000;
/// How long a look at everybody waits for a calibration that is being made, before it goes on with what there is.
const SURVEY_WAIT: Duration = Duration::from_mins(10);

#[derive(Debug, Default)]
pub(super) struct Calibrations {
    /// `None` where the trials were too few after all.
    alone_in_space: Slots<Key, Option<Arc<Calibration>>>,
    together: Slots<Joint, Arc<Fusion>>,
    /// Held by whoever rehearses: after a restart every collection wants to, and searches need the cores.
    pub(super) alone: tokio::sync::Mutex<()>,
}

/// What a calibration is of. Another pooling makes other similarities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    uid: CollectionUid,
    space: EmbeddingSpace,
    pooling: Pooling,
}

impl Key {
    fn of(open: &Open, space: EmbeddingSpace) -> Self {
        Self { uid: open.collection.uid, space, pooling: open.collection.policy.pooling }
    }
}

/// What the evidence of several modalities is of: another calibration makes other evidence.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Joint {
    uid: CollectionUid,
    spaces: Vec<(EmbeddingSpace, Option<CalibrationId>)>,
    pooling: Pooling,
}

/// What rehearsals have made, and what is being made.
#[derive(Debug)]
struct Slots<K, T>(Mutex<HashMap<K, Slot<T>>>);

impl<K, T> Default for Slots<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

#[derive(Debug)]
struct Slot<T> {
    made: watch::Sender<Option<Rehearsed<T>>>,
    /// A rehearsal is under way.
    rehearsing: bool,
}

/// What a rehearsal made and the gallery size at which it did.
#[derive(Debug, Clone)]
struct Rehearsed<T> {
    made: T,
    identities: u64,
}

impl<T> Rehearsed<T> {
    fn is_stale(&self, identities: u64) -> bool {
        has_moved(self.identities, identities)
    }
}

impl<K: Eq + Hash, T: Clone> Slots<K, T> {
    fn remove(&self, has_gone: impl Fn(&K) -> bool) {
        self.0.lock().retain(|key, _| !has_gone(key));
    }

    /// What there is, and whether the caller shall make it anew: at most one caller at a time is told so.
    fn ask(&self, key: K, identities: u64) -> (watch::Receiver<Option<Rehearsed<T>>>, bool) {
        let mut slots = self.0.lock();
        let slot = slots.entry(key).or_insert_with(|| Slot { made: watch::channel(None).0, rehearsing: false });
        let fresh = slot.made.borrow().as_ref().is_some_and(|made| !made.is_stale(identities));
        let shall_make = !fresh && !slot.rehearsing;
        slot.rehearsing |= shall_make;
        (slot.made.subscribe(), shall_make)
    }

    fn put(&self, key: &K, rehearsed: Option<Rehearsed<T>>) {
        if let Some(slot) = self.0.lock().get_mut(key) {
            slot.rehearsing = false;
            if rehearsed.is_some() {
                slot.made.send_replace(rehearsed);
            }
        }
    }
}

impl Calibrations {
    pub(super) fn remove(&self, uid: CollectionUid) {
        self.alone_in_space.remove(|key| key.uid == uid);
        self.together.remove(|key| key.uid == uid);
    }
}

/// The calibration that says what similarities of a space are.
#[derive(Debug, Clone)]
pub(super) struct InForce {
    pub(super) calibration: Arc<Calibration>,
    /// The one that was pinned, where that is it.
    pub(super) pinned: Option<CalibrationId>,
    /// The gallery has moved away from it, or from what is pinned and does not fit.
    pub(super) is_stale: bool,
}

/// Who waits for a calibration that is being made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// What is stale serves at once; only who has nothing waits a little.
    Request,
    /// What is fresh is worth minutes.
    Survey,
}

impl Matcher {
    /// The terms for this gallery as it is now.
    pub(super) async fn terms(&self, open: &Open, space: EmbeddingSpace) -> Terms {
        let (policy, identities) = (open.collection.policy, open.shelf.identities_in(space));
        let Some(InForce { calibration, pinned, is_stale }) = self.in_force(open, space, Patience::Request).await
        else {
            return Terms::uncalibrated(policy, identities);
        };
        let mut terms = calibration.terms(policy, identities);
        terms.point.calibration = pinned;
        if is_stale && !terms.resolve_reasons.contains(&Reason::CalibrationStale) {
            terms.resolve_reasons.push(Reason::CalibrationStale);
        }
        terms
    }

    /// The calibration that was pinned, else the gallery's own rehearsal, else the package's measurements, else none. A pinned
    /// one that is of another space or pooling says nothing of these similarities: then the others stand in.
    pub(super) async fn in_force(&self, open: &Open, space: EmbeddingSpace, patience: Patience) -> Option<InForce> {
        let pin = self.pinned(open, space.modality).await;
        let has_moved = pin.as_ref().is_some_and(|pin| !pin.kept.moved(&standing(open, pin.kept.space)).is_empty());
        let fitting = pin.filter(|pin| pin.kept.fits(space, open.collection.policy.pooling));
        if let Some(pin) = fitting
            && let Some(calibration) = pin.calibration.clone()
        {
            return Some(InForce { calibration, pinned: Some(pin.kept.id), is_stale: has_moved });
        }
        let rehearsed = self.rehearsed(open, space, patience).await;
        let is_stale =
            has_moved || rehearsed.as_ref().is_some_and(|made| made.is_stale(open.shelf.identities_in(space)));
        let packaged = || self.package_calibration(space).and_then(Calibration::from_package).map(Arc::new);
        let calibration = rehearsed.and_then(|rehearsed| rehearsed.made).or_else(packaged)?;
        Some(InForce { calibration, pinned: None, is_stale })
    }

    pub(super) fn package_calibration(&self, space: EmbeddingSpace) -> Option<&PackageCalibration> {
        self.encoders.by_digest(space.digest).and_then(Encoder::calibration)
    }

    async fn rehearsed(
        &self,
        open: &Open,
        space: EmbeddingSpace,
        patience: Patience,
    ) -> Option<Rehearsed<Option<Arc<Calibration>>>> {
        if open.shelf.templates_in(space) < TRIALS_MIN as u64 {
            return None;
        }
        let (key, identities) = (Key::of(open, space), open.shelf.identities_in(space));
        let (mut made, shall_make) = self.calibrations.alone_in_space.ask(key, identities);
        if shall_make {
            let package = self.package_calibration(space).cloned();
            let verdicts = {
                let (matcher, open) = (self.clone(), open.clone());
                async move {
                    matcher.reviewed(&open, space).await.unwrap_or_else(|fault| {
                        tracing::warn!(error = %ErrorChain(&fault), "what verdicts showed cannot be read; a rehearsal goes without");
                        Reviewed::default()
                    })
                }
            };
            let rehearse = move |matcher: &Self, open: &Open, reviewed| {
                let trials_max = matcher.options.rehearsal_trials_max;
                let rehearsal = open.shelf.rehearse(space, key.pooling, trials_max, SEED);
                let rehearsal = Rehearsal { reviewed, ..rehearsal };
                let made = Calibration::from_rehearsal(&rehearsal, package.as_ref()).map(Arc::new);
                Rehearsed { made, identities: rehearsal.identities }
            };
            self.begin_rehearsal(open, verdicts, rehearse, move |calibrations, made| {
                calibrations.alone_in_space.put(&key, made);
            });
        }
        if patience == Patience::Survey {
            let fresh = made.wait_for(|made| made.as_ref().is_some_and(|made| !made.is_stale(identities)));
            // What is stale serves where no other comes.
            let _ = tokio::time::timeout(SURVEY_WAIT, fresh).await;
        }
        self.wait_for(made).await
    }

    /// How much each of several modalities counts where all of them speak, and what they come to, by the gallery's own trials.
    pub(super) async fn fusion(&self, open: &Open, spaces: &[(EmbeddingSpace, InForce)]) -> Arc<Fusion> {
        let independent = || Arc::new(Fusion::independent(spaces.len()));
        if spaces.len() < 2 {
            return independent();
        }
        let key = Joint {
            uid: open.collection.uid,
            spaces: spaces.iter().map(|(space, in_force)| (*space, in_force.pinned)).collect(),
            pooling: open.collection.policy.pooling,
        };
        let identities = spaces.iter().map(|(space, _)| open.shelf.identities_in(*space)).min().unwrap_or(0);
        let (made, shall_make) = self.calibrations.together.ask(key.clone(), identities);
        if shall_make {
            let scale = |(space, in_force): &(EmbeddingSpace, InForce)| (*space, Arc::clone(&in_force.calibration));
            let scales: Vec<(EmbeddingSpace, Arc<Calibration>)> = spaces.iter().map(scale).collect();
            let pooling = key.pooling;
            let rehearse = move |matcher: &Self, open: &Open, ()| {
                let of: Vec<EmbeddingSpace> = scales.iter().map(|(space, _)| *space).collect();
                let affordable = usize::try_from(SCORES_MAX / identities.max(1)).unwrap_or(usize::MAX).max(TRIALS_MIN);
                let most = matcher.options.rehearsal_trials_max.min(affordable);
                let made = match open.shelf.together(&of, pooling, most, SEED) {
                    Some(together) => fused(&together, &scales),
                    None => Fusion::independent(scales.len()),
                };
                let made = Arc::new(made);
                Rehearsed { made, identities }
            };
            self.begin_rehearsal(open, async {}, rehearse, move |calibrations, made| {
                calibrations.together.put(&key, made);
            });
        }
        self.wait_for(made).await.map_or_else(independent, |rehearsed| rehearsed.made)
    }

    /// What is stale serves at once; only who has nothing waits a little.
    async fn wait_for<T: Clone>(&self, mut made: watch::Receiver<Option<Rehearsed<T>>>) -> Option<Rehearsed<T>> {
        if let Some(there) = made.borrow().clone() {
            return Some(there);
        }
        let some = made.wait_for(Option::is_some);
        tokio::time::timeout(self.options.calibration_wait, some).await.ok()?.ok()?.clone()
    }

    /// How similar the best candidates of review cases were, and whether they were right: of cases that became questions by
    /// their similarity alone, for only those are as other answers of that similarity are.
    pub(super) async fn reviewed(&self, open: &Open, space: EmbeddingSpace) -> Result<Reviewed, Fault> {
        let pooling = open.collection.policy.pooling;
        let mut reviewed = Reviewed::default();
        for ReviewTrial { doubt, was_right, .. } in
            self.store.in_collection(open.collection.uid).review_trials().await?
        {
            if doubt.space == space && doubt.pooling == pooling && doubt.selection == Selection::Blind {
                let kind = if was_right { &mut reviewed.right } else { &mut reviewed.wrong };
                kind.push(doubt.similarity);
            }
        }
        Ok(reviewed)
    }

    fn begin_rehearsal<T: Send + 'static, P: Send + 'static>(
        &self,
        open: &Open,
        prepared: impl Future<Output = P> + Send + 'static,
        rehearse: impl FnOnce(&Self, &Open, P) -> Rehearsed<T> + Send + 'static,
        put: impl FnOnce(&Calibrations, Option<Rehearsed<T>>) + Send + 'static,
    ) {
        let (matcher, open) = (self.clone(), open.clone());
        self.tasks.spawn(async move {
            let alone = matcher.calibrations.alone.lock().await;
            let (worker, prepared) = (matcher.clone(), prepared.await);
            let made = tokio::task::spawn_blocking(move || rehearse(&worker, &open, prepared)).await;
            if let Err(error) = &made {
                tracing::error!(%error, "a rehearsal failed");
            }
            drop(alone);
            put(&matcher.calibrations, made.ok());
        });
    }
}

/// What several modalities come to together, for acquaintances and for strangers. All of them have something to say.
pub(super) fn fused(together: &Together, scales: &[(EmbeddingSpace, Arc<Calibration>)]) -> Fusion {
    let ratio = |(of, similarity): (usize, Similarity)| scales[of].1.weigh(similarity).unwrap_or(0.0);
    let weigh = |trial: &Vec<Similarity>| trial.iter().copied().enumerate().map(ratio).collect::<Vec<f64>>();
    let (genuine, impostor) = together.pairs();
    let (genuine, impostor): (Vec<_>, Vec<_>) =
        (genuine.iter().map(weigh).collect(), impostor.iter().map(weigh).collect());
    let fusion = Fusion::fit(scales.len(), &genuine, &impostor);
    let strangers = together.strangers(|each| {
        let ratios: Vec<Option<f64>> =
            each.iter().enumerate().map(|(of, similarity)| similarity.map(|s| ratio((of, s)))).collect();
        fusion.of(&ratios)
    });
    fusion.calibrated(together.identities(), &strangers, (&genuine, &impostor))
}

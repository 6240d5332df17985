//! Calibrations in force: the one that an operator pinned, else one made by the gallery's own rehearsal, made again when it
//! has grown or shrunk by a fifth.
//!
//! A rehearsal runs in the background, one at a time for each gallery. A request waits for it a little and then goes
//! on with what there is, saying so.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Matcher, directory::Open, pins::standing};
use crate::{
    decision::{Calibration, TRIALS_MIN, Terms},
    domain::{CollectionUid, EmbeddingSpace, PackageCalibration, Pooling, Reason, has_moved},
    encoder::Encoder,
};

/// Rehearsals draw their trials from this seed: the same gallery always gives the same thresholds.
pub(super) const SEED: u64 = 1;

#[derive(Debug, Default)]
pub(super) struct Calibrations {
    slots: Mutex<HashMap<Key, Slot>>,
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

#[derive(Debug)]
struct Slot {
    made: watch::Sender<Option<Rehearsed>>,
    /// A rehearsal is under way.
    rehearsing: bool,
}

/// A calibration and the gallery size at which it was made.
#[derive(Debug, Clone)]
struct Rehearsed {
    /// `None` when the trials were too few after all.
    calibration: Option<Arc<Calibration>>,
    identities: u64,
}

impl Rehearsed {
    fn is_stale(&self, identities: u64) -> bool {
        has_moved(self.identities, identities)
    }
}

impl Calibrations {
    pub(super) fn remove(&self, uid: CollectionUid) {
        self.slots.lock().retain(|key, _| key.uid != uid);
    }

    /// What there is, and whether the caller shall make it anew: at most one caller at a time is told so.
    fn ask(&self, key: Key, identities: u64) -> (watch::Receiver<Option<Rehearsed>>, bool) {
        let mut slots = self.slots.lock();
        let slot = slots.entry(key).or_insert_with(|| Slot { made: watch::channel(None).0, rehearsing: false });
        let fresh = slot.made.borrow().as_ref().is_some_and(|r| !r.is_stale(identities));
        let shall_make = !fresh && !slot.rehearsing;
        slot.rehearsing |= shall_make;
        (slot.made.subscribe(), shall_make)
    }

    fn put(&self, key: Key, rehearsed: Option<Rehearsed>) {
        if let Some(slot) = self.slots.lock().get_mut(&key) {
            slot.rehearsing = false;
            if rehearsed.is_some() {
                slot.made.send_replace(rehearsed);
            }
        }
    }
}

impl Matcher {
    /// The terms for this gallery as it is now: by the calibration that was pinned, else by its own rehearsal, else by the
    /// package's measurements, else none. A pinned one that is of another space or pooling says nothing of these
    /// similarities: then the others stand in, and the reasons say so.
    pub(super) async fn terms(&self, open: &Open, space: EmbeddingSpace) -> Terms {
        let pinned = self.pinned(open, space.modality).await;
        let fitting = pinned.as_ref().filter(|pin| pin.kept.fits(space, open.collection.policy.pooling));
        let mut terms = match fitting.and_then(|pin| Some((pin, pin.calibration.as_ref()?))) {
            Some((pin, calibration)) => {
                let mut terms = calibration.terms(open.collection.policy, open.shelf.identities_in(space));
                terms.point.calibration = Some(pin.kept.id);
                terms
            }
            None => self.automatic_terms(open, space).await,
        };
        let has_moved = pinned.is_some_and(|pin| !pin.kept.moved(&standing(open, pin.kept.space)).is_empty());
        if has_moved && !terms.resolve_reasons.contains(&Reason::CalibrationStale) {
            terms.resolve_reasons.push(Reason::CalibrationStale);
        }
        terms
    }

    async fn automatic_terms(&self, open: &Open, space: EmbeddingSpace) -> Terms {
        let identities = open.shelf.identities_in(space);
        let policy = open.collection.policy;
        let rehearsed = self.rehearsed(open, space, identities).await.and_then(|r| r.calibration);
        let packaged = || self.package_calibration(space).and_then(Calibration::from_package).map(Arc::new);
        match rehearsed.or_else(packaged) {
            Some(calibration) => calibration.terms(policy, identities),
            None => Terms::uncalibrated(policy, identities),
        }
    }

    pub(super) fn package_calibration(&self, space: EmbeddingSpace) -> Option<&PackageCalibration> {
        self.encoders.by_digest(space.digest).and_then(Encoder::calibration)
    }

    async fn rehearsed(&self, open: &Open, space: EmbeddingSpace, identities: u64) -> Option<Rehearsed> {
        if open.shelf.templates_in(space) < TRIALS_MIN as u64 {
            return None;
        }
        let (mut made, shall_make) = self.calibrations.ask(Key::of(open, space), identities);
        if shall_make {
            self.begin_rehearsal(open, space);
        }
        // What is stale serves at once, and says that it is; only who has nothing waits a little.
        if let Some(there) = made.borrow().clone() {
            return Some(there);
        }
        let some = made.wait_for(Option::is_some);
        tokio::time::timeout(self.options.calibration_wait, some).await.ok()?.ok()?.clone()
    }

    fn begin_rehearsal(&self, open: &Open, space: EmbeddingSpace) {
        let (matcher, open) = (self.clone(), open.clone());
        let package = self.package_calibration(space).cloned();
        self.tasks.spawn(async move {
            let key = Key::of(&open, space);
            let alone = matcher.calibrations.alone.lock().await;
            let trials_max = matcher.options.rehearsal_trials_max;
            let made = tokio::task::spawn_blocking(move || {
                let rehearsal = open.shelf.rehearse(space, key.pooling, trials_max, SEED);
                let calibration = Calibration::from_rehearsal(&rehearsal, package.as_ref()).map(Arc::new);
                Rehearsed { calibration, identities: rehearsal.identities }
            })
            .await;
            if let Err(error) = &made {
                tracing::error!(%error, "a rehearsal failed");
            }
            drop(alone);
            matcher.calibrations.put(key, made.ok());
        });
    }
}

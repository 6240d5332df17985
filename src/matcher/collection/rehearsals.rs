//! The automatic calibrations of a collection: made by rehearsals of its gallery, kept until the gallery has changed too
//! much.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::watch;

use decision::{Calibration, Fusion, PosteriorCalibration};
use domain::{CalibrationId, EmbeddingSpace, Pooling, has_moved};

/// The rehearsals of a collection, by what they rehearse.
#[derive(Debug, Default)]
pub(crate) struct Rehearsals {
    /// `None` when the rehearsal had too few trials.
    pub(crate) one_space: RehearsalSlots<SpaceRehearsal, Option<Arc<Calibration>>>,
    pub(crate) joint: RehearsalSlots<JointSpaces, Arc<Fusion>>,
    pub(crate) posterior: RehearsalSlots<EmbeddingSpace, Arc<PosteriorCalibration>>,
}

/// The subject of a rehearsal. Another pooling gives other similarities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SpaceRehearsal {
    pub(crate) space: EmbeddingSpace,
    pub(crate) pooling: Pooling,
}

/// The subject of a joint rehearsal. Another active calibration gives other log-likelihood ratios.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct JointSpaces {
    pub(crate) spaces: Vec<(EmbeddingSpace, Option<CalibrationId>)>,
    pub(crate) pooling: Pooling,
}

/// The results of rehearsals, and the rehearsals that run.
#[derive(Debug)]
pub(crate) struct RehearsalSlots<K, T>(Mutex<HashMap<K, RehearsalSlot<T>>>);

impl<K, T> Default for RehearsalSlots<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

#[derive(Debug)]
struct RehearsalSlot<T> {
    made: watch::Sender<Option<Rehearsed<T>>>,
    is_rehearsing: bool,
}

/// The result of a rehearsal, and the gallery size at that time.
#[derive(Debug, Clone)]
pub(crate) struct Rehearsed<T> {
    pub(crate) made: T,
    pub(crate) identities: u64,
}

impl<T> Rehearsed<T> {
    pub(crate) fn is_stale(&self, identities: u64) -> bool {
        has_moved(self.identities, identities)
    }
}

/// The answer of [`RehearsalSlots::subscribe`].
#[derive(Debug)]
pub(crate) struct RehearsalTicket<T> {
    pub(crate) made: watch::Receiver<Option<Rehearsed<T>>>,
    /// The caller must start a rehearsal and put its result: only one caller at a time receives `true`.
    pub(crate) must_rehearse: bool,
}

impl<K: Eq + Hash, T: Clone> RehearsalSlots<K, T> {
    /// Subscribes to the result for a subject; a missing or stale result must be made again.
    pub(crate) fn subscribe(&self, subject: K, identities: u64) -> RehearsalTicket<T> {
        let mut slots = self.0.lock();
        let slot = slots
            .entry(subject)
            .or_insert_with(|| RehearsalSlot { made: watch::channel(None).0, is_rehearsing: false });
        let is_fresh = slot.made.borrow().as_ref().is_some_and(|made| !made.is_stale(identities));
        let must_rehearse = !is_fresh && !slot.is_rehearsing;
        slot.is_rehearsing |= must_rehearse;
        RehearsalTicket { made: slot.made.subscribe(), must_rehearse }
    }

    /// Ends a rehearsal; `None` keeps the earlier result.
    pub(crate) fn put(&self, subject: &K, rehearsed: Option<Rehearsed<T>>) {
        if let Some(slot) = self.0.lock().get_mut(subject) {
            slot.is_rehearsing = false;
            if rehearsed.is_some() {
                slot.made.send_replace(rehearsed);
            }
        }
    }
}

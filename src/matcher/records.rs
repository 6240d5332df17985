//! The records of decisions that changed nothing: queued, bounded, and dropped (and counted) when the store is down,
//! because an answer must not wait for its own record.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::{ResolveMode, Resolved};
use crate::{
    domain::{CollectionUid, Timestamp},
    store::{DecisionRecord, Store},
};

/// The most records written at once.
const WRITTEN_AT_ONCE: usize = 256;

type Waiting = (CollectionUid, DecisionRecord);

/// Where records wait to be written.
#[derive(Debug)]
pub(super) struct Records(Mutex<Option<mpsc::Sender<Waiting>>>);

impl Records {
    pub(super) fn start(store: Arc<dyn Store>, tasks: &TaskTracker, waiting_max: usize) -> Self {
        let (sender, receiver) = mpsc::channel(waiting_max);
        tasks.spawn(write(store, receiver));
        Self(Mutex::new(Some(sender)))
    }

    pub(super) fn keep(&self, uid: CollectionUid, record: DecisionRecord) {
        let kept = self.0.lock().as_ref().is_some_and(|sender| sender.try_send((uid, record)).is_ok());
        if !kept {
            dropped(1);
        }
    }

    /// Lets the writer end once it has written what waits.
    pub(super) fn close(&self) {
        self.0.lock().take();
    }
}

fn dropped(records: usize) {
    metrics::counter!("semblance_decision_records_dropped_total").increment(records as u64);
}

async fn write(store: Arc<dyn Store>, mut waiting: mpsc::Receiver<Waiting>) {
    let mut records = Vec::with_capacity(WRITTEN_AT_ONCE);
    while waiting.recv_many(&mut records, WRITTEN_AT_ONCE).await > 0 {
        if let Err(error) = store.keep_decisions(&records).await {
            tracing::warn!(%error, records = records.len(), "decision records are lost");
            dropped(records.len());
        }
        records.clear();
    }
}

/// The record of an answer: all that it said, nothing of what the probe was made of.
pub(super) fn of(resolved: &Resolved, mode: ResolveMode, now: Timestamp) -> DecisionRecord {
    DecisionRecord { id: resolved.id, time: now, body: json!({ "mode": mode, "answer": resolved }) }
}

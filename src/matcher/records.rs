//! The records of decisions that changed nothing: queued, bounded, and dropped (and counted) when the store is down,
//! because an answer must not wait for its own record.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use domain::CollectionUid;
use store::{DecisionRecord, Store};

/// The most records written at once.
const WRITTEN_AT_ONCE: usize = 256;

type Record = (CollectionUid, DecisionRecord);

/// What the writer is told, in order.
#[derive(Debug)]
enum Waiting {
    Record(Record),
    /// Somebody wants to know when all that came before is written.
    Mark(oneshot::Sender<()>),
}

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
        let kept = self.0.lock().as_ref().is_some_and(|sender| sender.try_send(Waiting::Record((uid, record))).is_ok());
        if !kept {
            dropped(1);
        }
    }

    /// Waits until what was kept before is written, or lost.
    pub(super) async fn written(&self) {
        let (mark, written) = oneshot::channel();
        let sender = self.0.lock().clone();
        if let Some(sender) = sender
            && sender.send(Waiting::Mark(mark)).await.is_ok()
        {
            // An error says that the writer has ended, and with it all that it will write.
            let _ = written.await;
        }
    }

    /// Lets the writer end once it has written what waits.
    pub(super) fn close(&self) {
        self.0.lock().take();
    }
}

fn dropped(records: usize) {
    metrics::counter!(domain::metric::DECISION_RECORDS_DROPPED).increment(records as u64);
}

async fn write(store: Arc<dyn Store>, mut waiting: mpsc::Receiver<Waiting>) {
    let mut told = Vec::with_capacity(WRITTEN_AT_ONCE);
    while waiting.recv_many(&mut told, WRITTEN_AT_ONCE).await > 0 {
        let (mut records, mut marks): (Vec<Record>, Vec<oneshot::Sender<()>>) = (Vec::new(), Vec::new());
        for one in told.drain(..) {
            match one {
                Waiting::Record(record) => records.push(record),
                Waiting::Mark(mark) => marks.push(mark),
            }
        }
        if let Err(error) = store.keep_decisions(&records).await {
            tracing::warn!(%error, records = records.len(), "decision records are lost");
            dropped(records.len());
        }
        for mark in marks {
            // Who hung up does not need to know.
            let _ = mark.send(());
        }
    }
}

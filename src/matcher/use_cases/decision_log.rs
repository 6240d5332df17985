//! The queue of decision records that are not part of a turn. It is bounded; records are dropped and counted when the store
//! is down, because an answer must not wait for its record.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use domain::CollectionUid;
use store::{DecisionRecord, Store};

/// Maximum records per write.
const WRITTEN_AT_ONCE: usize = 256;

type Record = (CollectionUid, DecisionRecord);

/// An item of the queue.
#[derive(Debug)]
enum Queued {
    Record(Record),
    /// A request for a signal when everything before it is written.
    Flush(oneshot::Sender<()>),
}

/// The queue of records. `None` after its close.
#[derive(Debug)]
pub(crate) struct DecisionLog(Mutex<Option<mpsc::Sender<Queued>>>);

impl DecisionLog {
    pub(crate) fn start(store: Arc<dyn Store>, tasks: &TaskTracker, waiting_max: usize) -> Self {
        let (sender, receiver) = mpsc::channel(waiting_max);
        tasks.spawn(write(store, receiver));
        Self(Mutex::new(Some(sender)))
    }

    /// Queues a record, or drops it when the queue is full.
    pub(crate) fn push(&self, uid: CollectionUid, record: DecisionRecord) {
        let kept = self.0.lock().as_ref().is_some_and(|sender| sender.try_send(Queued::Record((uid, record))).is_ok());
        if !kept {
            dropped(1);
        }
    }

    /// Waits until the records before it are written or lost.
    pub(crate) async fn written(&self) {
        let (flush, written) = oneshot::channel();
        let sender = self.0.lock().clone();
        if let Some(sender) = sender
            && sender.send(Queued::Flush(flush)).await.is_ok()
        {
            // It fails when the writer has ended; then it writes no more.
            let _ = written.await;
        }
    }

    /// Closes the queue; the writer ends after the last record.
    pub(crate) fn close(&self) {
        self.0.lock().take();
    }
}

fn dropped(records: usize) {
    metrics::counter!(domain::metric::DECISION_RECORDS_DROPPED).increment(records as u64);
}

async fn write(store: Arc<dyn Store>, mut waiting: mpsc::Receiver<Queued>) {
    let mut queued = Vec::with_capacity(WRITTEN_AT_ONCE);
    while waiting.recv_many(&mut queued, WRITTEN_AT_ONCE).await > 0 {
        let (mut records, mut flushes): (Vec<Record>, Vec<oneshot::Sender<()>>) = (Vec::new(), Vec::new());
        for one in queued.drain(..) {
            match one {
                Queued::Record(record) => records.push(record),
                Queued::Flush(flush) => flushes.push(flush),
            }
        }
        if let Err(error) = store.put_decisions(&records).await {
            tracing::warn!(%error, records = records.len(), "decision records are lost");
            dropped(records.len());
        }
        for flush in flushes {
            // It fails when the caller hung up.
            let _ = flush.send(());
        }
    }
}

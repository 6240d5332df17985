//! The enrolls that wait for the turn of a collection and share its commit.
//!
//! A durable write costs one disk write, whatever its length. So the enroll that gets the turn writes for all enrolls
//! that wait, each with its own answer or fault, and none is answered before the commit. A write never waits for others
//! to arrive: with no other write in front, it commits alone.
//!
//! Only enrolls share a commit. A resolve searches the gallery, which shows a write only after its commit, so a resolve
//! must not decide behind uncommitted writes of the same turn.

use std::{sync::Arc, time::Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, oneshot};
use tracing::Span;

use crate::matcher::{request::consistency_token::ConsistencyToken, request::context::Context, request::fault::Fault};
use domain::{Encoded, ErrorChain, IdentityId, Labels, SampleReport, Template};
use store::StoreError;

/// An enroll whose samples are encoded.
#[derive(Debug)]
pub(crate) struct EnrollWrite {
    pub(crate) identity: IdentityId,
    pub(crate) labels: Labels,
    pub(crate) encoded: Vec<Encoded>,
    pub(crate) samples: Vec<SampleReport>,
}

/// The answer of an enroll.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnrollResult {
    pub identity: IdentityId,
    pub templates: Vec<Template>,
    pub token: ConsistencyToken,
    /// One report per sample, in order.
    #[serde(default)]
    pub samples: Vec<SampleReport>,
}

/// A write in the queue, and the channel of its answer.
#[derive(Debug)]
pub(crate) struct PendingWrite {
    number: u64,
    pub(crate) context: Context,
    pub(crate) write: EnrollWrite,
    pub(crate) answer: oneshot::Sender<Result<EnrollResult, Fault>>,
    /// Notified when this write becomes the leader.
    chosen: Arc<Notify>,
    /// The start of the wait.
    since: Instant,
    /// Receives `wait_ms` and `batch` when the write is taken.
    span: Span,
}

/// The writes that wait for the turn of a collection. The limit of requests in flight also limits them: a write leaves
/// with its request.
#[derive(Debug, Default)]
pub(crate) struct GroupCommit(Mutex<WriteQueue>);

#[derive(Debug, Default)]
struct WriteQueue {
    joined: u64,
    writes: Vec<PendingWrite>,
    /// The write that waits for the turn. Only one does: if all did, each would wake for a turn that it no longer needs.
    leader: Option<u64>,
}

impl WriteQueue {
    /// Chooses a leader if there is none and a write waits.
    fn choose(&mut self) {
        if self.leader.is_none()
            && let Some(first) = self.writes.first()
        {
            self.leader = Some(first.number);
            first.chosen.notify_one();
        }
    }
}

/// The limits of one commit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CommitLimits {
    pub(crate) writes: usize,
    pub(crate) templates: usize,
}

/// A write's membership in the queue; dropping it removes the write.
pub(crate) struct QueueMembership<'q> {
    queue: &'q GroupCommit,
    number: u64,
    chosen: Arc<Notify>,
}

impl QueueMembership<'_> {
    /// Returns when this write is the leader.
    pub(crate) async fn chosen(&self) {
        self.chosen.notified().await;
    }

    /// Removes the write from the queue. Returns whether it was still there.
    pub(crate) fn leave(&self) -> bool {
        let mut queue = self.queue.0.lock();
        let before = queue.writes.len();
        queue.writes.retain(|write| write.number != self.number);
        let was_there = queue.writes.len() < before;
        if queue.leader == Some(self.number) {
            queue.leader = None;
            queue.choose();
        }
        was_there
    }

    /// Takes this write, the leader's, then the longest waiting ones within the limits; another write leads the rest.
    /// Writes past their deadline stay queued; their own request reports the timeout.
    pub(crate) fn take(&self, limits: CommitLimits) -> Vec<PendingWrite> {
        let now = Instant::now();
        let mut queue = self.queue.0.lock();
        let writes = std::mem::take(&mut queue.writes);
        let (mut taken, others): (Vec<PendingWrite>, Vec<PendingWrite>) =
            writes.into_iter().partition(|write| write.number == self.number);
        let mut templates: usize = taken.iter().map(|pending| pending.write.encoded.len()).sum();
        let mut is_full = false;
        for pending in others {
            let more = pending.write.encoded.len();
            is_full |= taken.len() >= limits.writes || templates + more > limits.templates;
            if is_full || pending.context.deadline <= now {
                queue.writes.push(pending);
            } else {
                templates += more;
                taken.push(pending);
            }
        }
        queue.leader = None;
        queue.choose();
        drop(queue);
        for pending in &taken {
            let wait_ms = 1e3 * pending.since.elapsed().as_secs_f64();
            pending.span.record("wait_ms", wait_ms).record("batch", taken.len());
        }
        taken
    }

    /// Fails all other writes that wait, because the turn cannot be taken.
    pub(crate) fn fail_others(&self, fault: &Fault) {
        let writes = std::mem::take(&mut self.queue.0.lock().writes);
        for pending in writes.into_iter().filter(|pending| pending.number != self.number) {
            let _ = pending.answer.send(Err(shared_fault(fault)));
        }
    }
}

impl Drop for QueueMembership<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl GroupCommit {
    /// Queues a write. Returns its membership and the channel of its answer.
    pub(crate) fn join(
        &self,
        context: &Context,
        write: EnrollWrite,
    ) -> (QueueMembership<'_>, oneshot::Receiver<Result<EnrollResult, Fault>>) {
        let (answer, answered) = oneshot::channel();
        let chosen = Arc::new(Notify::new());
        let mut queue = self.0.lock();
        queue.joined += 1;
        let number = queue.joined;
        queue.writes.push(PendingWrite {
            number,
            context: context.clone(),
            write,
            answer,
            chosen: Arc::clone(&chosen),
            since: Instant::now(),
            span: Span::current(),
        });
        queue.choose();
        (QueueMembership { queue: self, number, chosen }, answered)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.lock().writes.len()
    }
}

/// The fault of all writes that shared a failed turn. Unless the outcome is unknown, none of them was written, and each
/// may succeed alone, so the caller may retry.
pub(crate) fn shared_fault(fault: &Fault) -> Fault {
    let cause = ErrorChain(fault).to_string().into();
    match fault {
        Fault::OutcomeUnknown(_) => Fault::OutcomeUnknown(StoreError::OutcomeUnknown(cause)),
        _ => Fault::StoreUnavailable(StoreError::Unavailable(cause)),
    }
}

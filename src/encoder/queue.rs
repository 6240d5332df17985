//! The bounded queue of one model.
//!
//! A caller takes a [`QueueSlot`] before any costly work, or is refused at once. The slot stays taken until its entry
//! is answered or dropped, and travels inside the entry: a caller that disconnects cannot make the queue exceed its
//! limit. Interactive entries precede bulk entries, but a bulk entry waits for a bounded number of batches only.

use std::{
    collections::VecDeque,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;
use tracing::Span;

/// Maximum number of consecutive batches without bulk entries while bulk entries wait; the next batch begins with them.
const BULK_PASSED_OVER_MAX: u32 = 4;
/// Retry delay before anything has been measured.
const RETRY_AFTER_UNMEASURED: Duration = Duration::from_secs(1);
const RETRY_AFTER_MIN: Duration = Duration::from_millis(10);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
/// Weight of the newest batch in the drain rate: a change shows within about five batches.
const NEWEST_WEIGHT: f64 = 0.2;

/// Priority class of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// A client waits for the answer.
    Interactive,
    /// Served after interactive samples.
    Bulk,
}

/// When an entry is served.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    pub(super) urgency: Urgency,
    /// After this time the entry is dropped.
    pub(super) deadline: Instant,
}

/// The limits of one queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueueLimits {
    /// Maximum number of slots: entries that are being prepared, queued or encoded.
    pub(super) slots_max: usize,
    /// Maximum number of entries in a batch.
    pub(super) batch_max: usize,
    /// How long the oldest entry waits for a full batch. Zero starts at once.
    pub(super) linger_max: Duration,
    /// Number of workers of this queue.
    pub(super) workers: usize,
}

/// Why a slot was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QueueRefusal {
    /// All slots are taken; at the current rate they are free after this time.
    Full { retry_after: Duration },
    /// The server is stopping.
    Closed,
}

/// Why an entry has no output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EntryFailure {
    /// Its deadline passed while it was queued.
    TooLate,
    /// The server stopped before it was served.
    Stopped,
    /// The model failed.
    Failed(String),
}

pub(super) type EntryResult<O> = Result<O, EntryFailure>;

pub(super) struct Queue<I, O> {
    limits: QueueLimits,
    state: Mutex<QueueState<I, O>>,
    /// An entry arrived or the phase changed.
    changed: Condvar,
    meters: QueueMetrics,
}

struct QueueState<I, O> {
    interactive: VecDeque<QueueEntry<I, O>>,
    bulk: VecDeque<QueueEntry<I, O>>,
    /// Number of taken slots.
    slots_taken: usize,
    phase: QueuePhase,
    /// Consecutive batches that took no bulk entry while bulk entries waited.
    bulk_passed_over: u32,
    /// Recent mean time of one worker per entry.
    seconds_per_entry: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum QueuePhase {
    Open,
    /// No new slots; entries with a slot are served.
    Draining,
    /// No entry is served.
    Abandoned,
}

/// The right to put one entry into a queue. Dropping it frees the slot.
pub(super) struct QueueSlot<I, O> {
    queue: Arc<Queue<I, O>>,
}

/// A prepared sample; its caller waits on the other end of the channel.
pub(super) struct QueueEntry<I, O> {
    pub(super) input: I,
    answer: oneshot::Sender<EntryResult<O>>,
    deadline: Instant,
    since: Instant,
    /// The caller's span, which learns how long the entry waited and how long its batch was.
    span: Span,
    slot: QueueSlot<I, O>,
}

impl<I, O> fmt::Debug for Queue<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl<I, O> Queue<I, O> {
    pub(super) fn new(model: &str, limits: QueueLimits) -> Arc<Self> {
        let state = QueueState {
            interactive: VecDeque::new(),
            bulk: VecDeque::new(),
            slots_taken: 0,
            phase: QueuePhase::Open,
            bulk_passed_over: 0,
            seconds_per_entry: None,
        };
        Arc::new(Self { limits, state: Mutex::new(state), changed: Condvar::new(), meters: QueueMetrics::new(model) })
    }

    /// Takes a slot.
    pub(super) fn take_slot(self: &Arc<Self>) -> Result<QueueSlot<I, O>, QueueRefusal> {
        let mut state = self.state.lock();
        if state.phase != QueuePhase::Open {
            return Err(QueueRefusal::Closed);
        }
        if state.slots_taken >= self.limits.slots_max {
            self.meters.refused.increment(1);
            return Err(QueueRefusal::Full { retry_after: state.retry_after(self.limits.workers) });
        }
        state.slots_taken += 1;
        Ok(QueueSlot { queue: Arc::clone(self) })
    }

    /// Waits for entries and takes the next batch: 1 to `batch_max` entries, none expired or abandoned by its caller.
    /// `None` when the queue is closed and no entry can arrive.
    pub(super) fn next_batch(&self) -> Option<Vec<QueueEntry<I, O>>> {
        loop {
            let mut state = self.state.lock();
            while state.waiting() == 0 {
                if state.is_over() {
                    return None;
                }
                self.changed.wait(&mut state);
            }
            self.linger(&mut state);
            let picked = state.pick(self.limits.batch_max);
            self.meters.depth.set(state.waiting() as f64);
            if state.waiting() > 0 {
                // Wakes another worker for the entries that do not fit this batch.
                self.changed.notify_one();
            }
            // Dropping an entry frees its slot, which takes the lock.
            drop(state);
            let batch = self.still_wanted(picked);
            if !batch.is_empty() {
                self.meters.began(&batch);
                return Some(batch);
            }
        }
    }

    /// Returns the entries whose callers still wait; answers or drops the others.
    pub(super) fn still_wanted(&self, entries: Vec<QueueEntry<I, O>>) -> Vec<QueueEntry<I, O>> {
        let now = Instant::now();
        let mut wanted = Vec::with_capacity(entries.len());
        for entry in entries {
            if entry.answer.is_closed() {
                self.meters.dropped_abandoned.increment(1);
            } else if entry.deadline <= now {
                self.meters.dropped_expired.increment(1);
                entry.answer(Err(EntryFailure::TooLate));
            } else {
                wanted.push(entry);
            }
        }
        wanted
    }

    /// Updates the drain rate with a served batch.
    pub(super) fn served(&self, entries: usize, took: Duration) {
        let newest = took.as_secs_f64() / entries.max(1) as f64;
        let mut state = self.state.lock();
        let before = state.seconds_per_entry.unwrap_or(newest);
        state.seconds_per_entry = Some(before + NEWEST_WEIGHT * (newest - before));
    }

    /// Gives out no more slots. Entries with a slot are still served.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        if state.phase == QueuePhase::Open {
            state.phase = QueuePhase::Draining;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Closes, and answers all queued entries with [`EntryFailure::Stopped`].
    pub(super) fn abandon(&self) {
        let mut state = self.state.lock();
        state.phase = QueuePhase::Abandoned;
        let left: Vec<QueueEntry<I, O>> = state.take_all();
        self.meters.depth.set(0.0);
        drop(state);
        self.changed.notify_all();
        self.meters.dropped_stopped.increment(left.len() as u64);
        for entry in left {
            entry.answer(Err(EntryFailure::Stopped));
        }
    }

    /// Waits until the batch is full or the linger time is over.
    fn linger(&self, state: &mut parking_lot::MutexGuard<'_, QueueState<I, O>>) {
        let Some(until) = state.oldest().map(|since| since + self.limits.linger_max) else {
            return;
        };
        while state.waiting() < self.limits.batch_max && state.phase == QueuePhase::Open {
            if self.changed.wait_until(state, until).timed_out() {
                return;
            }
        }
    }

    fn put(&self, urgency: Urgency, entry: QueueEntry<I, O>) {
        let mut state = self.state.lock();
        if state.phase == QueuePhase::Abandoned {
            drop(state);
            entry.answer(Err(EntryFailure::Stopped));
            return;
        }
        match urgency {
            Urgency::Interactive => state.interactive.push_back(entry),
            Urgency::Bulk => state.bulk.push_back(entry),
        }
        self.meters.depth.set(state.waiting() as f64);
        drop(state);
        self.changed.notify_one();
    }

    fn give_back(&self) {
        let mut state = self.state.lock();
        state.slots_taken -= 1;
        if state.is_over() {
            drop(state);
            self.changed.notify_all();
        }
    }
}

impl<I, O> QueueState<I, O> {
    fn waiting(&self) -> usize {
        self.interactive.len() + self.bulk.len()
    }

    fn oldest(&self) -> Option<Instant> {
        [&self.interactive, &self.bulk].into_iter().filter_map(|lane| lane.front()).map(|entry| entry.since).min()
    }

    /// No entry is queued and none can arrive.
    fn is_over(&self) -> bool {
        match self.phase {
            QueuePhase::Open => false,
            QueuePhase::Draining => self.slots_taken == 0,
            QueuePhase::Abandoned => true,
        }
    }

    fn pick(&mut self, count_max: usize) -> Vec<QueueEntry<I, O>> {
        let bulk_waits = !self.bulk.is_empty();
        let bulk_first = bulk_waits && self.bulk_passed_over >= BULK_PASSED_OVER_MAX;
        let lanes =
            if bulk_first { [&mut self.bulk, &mut self.interactive] } else { [&mut self.interactive, &mut self.bulk] };
        let [first, second] = lanes;
        let from_first = first.len().min(count_max);
        let from_second = second.len().min(count_max - from_first);
        let picked = first.drain(..from_first).chain(second.drain(..from_second)).collect();
        let bulk_was_taken = bulk_first || from_second > 0;
        self.bulk_passed_over = if bulk_waits && !bulk_was_taken { self.bulk_passed_over + 1 } else { 0 };
        picked
    }

    fn take_all(&mut self) -> Vec<QueueEntry<I, O>> {
        self.interactive.drain(..).chain(self.bulk.drain(..)).collect()
    }

    /// Estimated time until all taken slots are free.
    fn retry_after(&self, workers: usize) -> Duration {
        let measured = self.seconds_per_entry.map(|seconds| seconds * self.slots_taken as f64 / workers.max(1) as f64);
        let after = measured.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        after.unwrap_or(RETRY_AFTER_UNMEASURED).clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX)
    }
}

impl<I, O> QueueSlot<I, O> {
    /// Queues an input. The result arrives on the returned channel; dropping the receiver abandons the entry.
    pub(super) fn put(self, input: I, schedule: Schedule) -> oneshot::Receiver<EntryResult<O>> {
        let (answer, answered) = oneshot::channel();
        let queue = Arc::clone(&self.queue);
        let Schedule { urgency, deadline } = schedule;
        let (since, span) = (Instant::now(), Span::current());
        queue.put(urgency, QueueEntry { input, answer, deadline, since, span, slot: self });
        answered
    }
}

impl<I, O> Drop for QueueSlot<I, O> {
    fn drop(&mut self) {
        self.queue.give_back();
    }
}

impl<I, O> QueueEntry<I, O> {
    /// Frees the slot, then answers: a caller that has its answer finds a free slot for its next request. A caller that
    /// is gone is ignored.
    pub(super) fn answer(self, answer: EntryResult<O>) {
        let Self { answer: caller, slot, .. } = self;
        drop(slot);
        let _gone = caller.send(answer);
    }
}

/// The queue's metrics. They go to the recorder that is installed when the queue is created.
#[derive(Debug)]
struct QueueMetrics {
    depth: Gauge,
    wait_seconds: Histogram,
    batch_length: Histogram,
    refused: Counter,
    dropped_expired: Counter,
    dropped_abandoned: Counter,
    dropped_stopped: Counter,
}

impl QueueMetrics {
    fn new(model: &str) -> Self {
        let model = model.to_owned();
        let dropped = |reason: &'static str| counter!(domain::metric::QUEUE_DROPPED, "model" => model.clone(), "reason" => reason);
        Self {
            depth: gauge!(domain::metric::QUEUE_DEPTH, "model" => model.clone()),
            wait_seconds: histogram!(domain::metric::QUEUE_WAIT, "model" => model.clone()),
            batch_length: histogram!(domain::metric::BATCH_LENGTH, "model" => model.clone()),
            refused: counter!(domain::metric::QUEUE_REFUSED, "model" => model.clone()),
            dropped_expired: dropped("expired"),
            dropped_abandoned: dropped("abandoned"),
            dropped_stopped: dropped("stopped"),
        }
    }

    fn began<I, O>(&self, batch: &[QueueEntry<I, O>]) {
        self.batch_length.record(batch.len() as f64);
        for entry in batch {
            let wait = entry.since.elapsed().as_secs_f64();
            self.wait_seconds.record(wait);
            entry.span.record("wait_ms", 1e3 * wait).record("batch", batch.len());
        }
    }
}

#[cfg(test)]
mod tests;

//! What waits before one model.
//!
//! A caller takes a [`QueueSlot`] before anything costly is done for it, or is refused at once. The place stays taken until
//! the entry is answered or dropped, and travels inside the entry: a caller that hangs up cannot make room for more than
//! the queue may hold. Interactive entries go before bulk ones, which are never passed over forever.

use std::{
    collections::VecDeque,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

/// This many batches may leave waiting bulk entries behind; the next one begins with them.
const BULK_PASSED_OVER_MAX: u32 = 4;
/// What a refused caller is told to wait while nothing has been measured.
const RETRY_AFTER_UNMEASURED: Duration = Duration::from_secs(1);
const RETRY_AFTER_MIN: Duration = Duration::from_millis(10);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
/// The weight of the newest batch in the drain rate: a change shows within some five batches.
const NEWEST_WEIGHT: f64 = 0.2;

/// Whether somebody waits for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// A request waits.
    Interactive,
    /// Work that may come after everything interactive.
    Bulk,
}

/// When an entry is served.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    pub(super) urgency: Urgency,
    /// After this the answer is of no use: the entry is dropped.
    pub(super) deadline: Instant,
}

/// The limits of one queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueueLimits {
    /// Places: entries that are being prepared, wait, or are being encoded.
    pub(super) slots_max: usize,
    /// Entries of one batch.
    pub(super) batch_max: usize,
    /// How long the oldest entry waits for company. Zero: what waits is the batch.
    pub(super) linger_max: Duration,
    /// How many workers take from this queue.
    pub(super) workers: usize,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QueueRefusal {
    /// All places are taken; at the present rate they will have been served after this time.
    Full { retry_after: Duration },
    /// The server stops.
    Closed,
}

/// Why an entry was not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EntryFailure {
    /// Its deadline passed while it waited.
    TooLate,
    /// The server stopped without waiting for it.
    Stopped,
    /// The model could not encode it.
    Failed(String),
}

pub(super) type EntryResult<O> = Result<O, EntryFailure>;

pub(super) struct Queue<I, O> {
    limits: QueueLimits,
    state: Mutex<QueueState<I, O>>,
    /// An entry came, or the queue's life went on to its next part.
    changed: Condvar,
    meters: QueueMetrics,
}

struct QueueState<I, O> {
    interactive: VecDeque<QueueEntry<I, O>>,
    bulk: VecDeque<QueueEntry<I, O>>,
    /// Places given out and not yet given back.
    slots_taken: usize,
    phase: QueuePhase,
    /// Batches in a row that left bulk entries waiting and took none.
    bulk_passed_over: u32,
    /// How long one worker takes for one entry, lately.
    seconds_per_entry: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum QueuePhase {
    Open,
    /// No new places; whoever has one is served.
    Draining,
    /// Nobody is served any more.
    Abandoned,
}

/// The right to put one entry into a queue. Dropping it gives the place back.
pub(super) struct QueueSlot<I, O> {
    queue: Arc<Queue<I, O>>,
}

/// One prepared sample, its caller waiting on the other side of the channel.
pub(super) struct QueueEntry<I, O> {
    pub(super) input: I,
    answer: oneshot::Sender<EntryResult<O>>,
    deadline: Instant,
    since: Instant,
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

    /// Takes a place, or says at once why there is none.
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

    /// Waits for entries and takes the next batch: at least one entry, at most `batch_max`, none of them expired or
    /// abandoned by its caller. `None` when the queue has been closed and nothing can come any more.
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
                // A worker that lingers hears of entries that are then too many for its batch.
                self.changed.notify_one();
            }
            // Entries give their places back when they are dropped, and that takes the lock.
            drop(state);
            let batch = self.still_wanted(picked);
            if !batch.is_empty() {
                self.meters.began(&batch);
                return Some(batch);
            }
        }
    }

    /// The entries that somebody still waits for; the others are answered and dropped.
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

    /// Learns the drain rate from a batch that was served.
    pub(super) fn served(&self, entries: usize, took: Duration) {
        let newest = took.as_secs_f64() / entries.max(1) as f64;
        let mut state = self.state.lock();
        let before = state.seconds_per_entry.unwrap_or(newest);
        state.seconds_per_entry = Some(before + NEWEST_WEIGHT * (newest - before));
    }

    /// Gives out no more places. Entries that have one are still served.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        if state.phase == QueuePhase::Open {
            state.phase = QueuePhase::Draining;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Closes, and answers everything that waits with [`EntryFailure::Stopped`].
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

    /// Lets a batch that is not full wait for company.
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

    /// Nothing waits, and nothing will.
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

    /// When all who have a place now will have been served.
    fn retry_after(&self, workers: usize) -> Duration {
        let measured = self.seconds_per_entry.map(|seconds| seconds * self.slots_taken as f64 / workers.max(1) as f64);
        let after = measured.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        after.unwrap_or(RETRY_AFTER_UNMEASURED).clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX)
    }
}

impl<I, O> QueueSlot<I, O> {
    /// Puts an entry in. The answer comes through the channel; dropping its receiving end abandons the entry.
    pub(super) fn put(self, input: I, schedule: Schedule) -> oneshot::Receiver<EntryResult<O>> {
        let (answer, answered) = oneshot::channel();
        let queue = Arc::clone(&self.queue);
        let Schedule { urgency, deadline } = schedule;
        queue.put(urgency, QueueEntry { input, answer, deadline, since: Instant::now(), slot: self });
        answered
    }
}

impl<I, O> Drop for QueueSlot<I, O> {
    fn drop(&mut self) {
        self.queue.give_back();
    }
}

impl<I, O> QueueEntry<I, O> {
    /// Gives the place back, then answers: whoever has an answer finds a place for the next question. A caller that went
    /// away meanwhile does not matter.
    pub(super) fn answer(self, answer: EntryResult<O>) {
        let Self { answer: caller, slot, .. } = self;
        drop(slot);
        let _gone = caller.send(answer);
    }
}

/// The queue's measurements. They go to the recorder that is installed when the queue is made.
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
        let dropped = |reason: &'static str| counter!("semblance_queue_dropped_total", "model" => model.clone(), "reason" => reason);
        Self {
            depth: gauge!("semblance_queue_depth", "model" => model.clone()),
            wait_seconds: histogram!("semblance_queue_wait_seconds", "model" => model.clone()),
            batch_length: histogram!("semblance_batch_length", "model" => model.clone()),
            refused: counter!("semblance_queue_refused_total", "model" => model.clone()),
            dropped_expired: dropped("expired"),
            dropped_abandoned: dropped("abandoned"),
            dropped_stopped: dropped("stopped"),
        }
    }

    fn began<I, O>(&self, batch: &[QueueEntry<I, O>]) {
        self.batch_length.record(batch.len() as f64);
        for entry in batch {
            self.wait_seconds.record(entry.since.elapsed().as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests;

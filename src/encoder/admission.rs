//! Which samples are worked on: few at once, and those of small requests first.
//!
//! Work that is begun for everybody is finished for nobody in time: a photo is decoded, searched for faces, aligned and
//! encoded, and each stage has its own queue. So a sample waits here before its first stage. When a place is free, the
//! request that began the fewest samples goes next (least attained service): a request with one photo does not wait for
//! the rest of a request with hundreds. Of several principals the one with the fewest samples in work goes first.
//!
//! A request is refused before any work when it would wait too long for others: half its deadline in a burst, and a
//! configured time once the queue stands, because a queue that stands only adds to everybody's wait (the reasoning of
//! RFC 8289, `CoDel`).

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use metrics::{counter, gauge, histogram};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::oneshot;

use super::{EncoderError, Urgency};

/// The assumed time between two finished samples, before anything has been measured.
const SECONDS_PER_SAMPLE_UNMEASURED: f64 = 0.05;
/// Weight of the newest sample in the measured times: a change shows within about twenty samples.
const NEWEST_WEIGHT: f64 = 0.05;
/// Maximum number of consecutive interactive samples while bulk samples wait.
const BULK_PASSED_OVER_MAX: u32 = 8;
/// A queue that is younger is a burst.
const BURST_MAX: Duration = Duration::from_millis(500);
const RETRY_AFTER_MIN: Duration = Duration::from_millis(100);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// The limits of the work on samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdmissionLimits {
    /// Samples in work at once, from decoding to the embedding.
    pub in_work_max: usize,
    /// How long a request may wait for others once the queue stands, unless its own work takes longer.
    pub wait_max: Duration,
}

/// A request that asks for admission.
#[derive(Debug, Clone)]
pub struct WorkRequest {
    pub principal: Arc<str>,
    /// Pictures, sequences or frames that need a model.
    pub samples: usize,
    pub urgency: Urgency,
    pub deadline: Instant,
}

/// A request would wait too long for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the server has too much to do; try again in {} ms", retry_after.as_millis())]
pub struct Overloaded {
    pub retry_after: Duration,
}

/// The number of an admitted request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShareId(u64);

/// An admitted request, until it is dropped.
#[derive(Debug)]
pub struct RequestShare(Option<(Arc<Admission>, ShareId)>);

/// The right to work on one sample, until it is dropped.
#[derive(Debug)]
pub(super) struct WorkPermit {
    /// `None` once its place is free.
    admission: Option<Arc<Admission>>,
    principal: Arc<str>,
    urgency: Urgency,
    since: Instant,
}

#[derive(Debug)]
pub(super) struct Admission {
    limits: AdmissionLimits,
    state: Mutex<AdmissionState>,
}

#[derive(Debug)]
struct AdmissionState {
    /// By arrival.
    requests: BTreeMap<ShareId, AdmittedRequest>,
    arrived: u64,
    in_work: usize,
    bulk_in_work: usize,
    in_work_by_principal: HashMap<Arc<str>, usize>,
    bulk_passed_over: u32,
    /// Since when interactive samples have waited without a break.
    standing_since: Option<Instant>,
    times: MeasuredTimes,
}

#[derive(Debug)]
struct AdmittedRequest {
    principal: Arc<str>,
    urgency: Urgency,
    deadline: Instant,
    samples: usize,
    begun: usize,
    waiting: VecDeque<oneshot::Sender<WorkPermit>>,
}

/// Recent times of samples.
#[derive(Debug)]
struct MeasuredTimes {
    /// Mean time between two finished samples while all places are taken.
    between_ends: f64,
    /// Mean time of a sample in work.
    in_work: f64,
    /// The last end, if all places have been taken since.
    last_end: Option<Instant>,
}

impl Admission {
    pub(super) fn new(limits: AdmissionLimits) -> Arc<Self> {
        let times = MeasuredTimes { between_ends: SECONDS_PER_SAMPLE_UNMEASURED, in_work: 0.0, last_end: None };
        let state = AdmissionState {
            requests: BTreeMap::new(),
            arrived: 0,
            in_work: 0,
            bulk_in_work: 0,
            in_work_by_principal: HashMap::new(),
            bulk_passed_over: 0,
            standing_since: None,
            times,
        };
        let in_work_max = limits.in_work_max.max(1);
        Arc::new(Self { limits: AdmissionLimits { in_work_max, ..limits }, state: Mutex::new(state) })
    }

    /// Admits a request, or refuses it because it would wait too long for others. Bulk requests are never refused; they
    /// wait.
    ///
    /// # Errors
    /// [`Overloaded`].
    pub(super) fn admit(self: &Arc<Self>, request: WorkRequest) -> Result<RequestShare, Overloaded> {
        let WorkRequest { principal, samples, urgency, deadline } = request;
        let mut state = self.state.lock();
        if urgency == Urgency::Interactive {
            let wait = state.wait_for_others(samples, self.limits.in_work_max);
            let own = Duration::from_secs_f64(state.times.between_ends * samples as f64);
            let half = deadline.saturating_duration_since(Instant::now()) / 2;
            let stands = state.standing_since.is_some_and(|since| since.elapsed() > BURST_MAX);
            let allowed = if stands { self.limits.wait_max.max(own).min(half) } else { half };
            if wait > allowed {
                counter!(domain::metric::ADMISSION_REFUSED).increment(1);
                let retry_after = wait.saturating_sub(allowed).clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX);
                return Err(Overloaded { retry_after });
            }
        }
        state.arrived += 1;
        let id = ShareId(state.arrived);
        let waiting = VecDeque::new();
        state.requests.insert(id, AdmittedRequest { principal, urgency, deadline, samples, begun: 0, waiting });
        Ok(RequestShare(Some((Arc::clone(self), id))))
    }

    /// Waits until the next sample of the request may be worked on. Without a share it may at once.
    ///
    /// # Errors
    /// [`EncoderError::DeadlinePassed`] when the request cannot be answered in time any more.
    pub(super) async fn enter(self: &Arc<Self>, share: Option<ShareId>) -> Result<Option<WorkPermit>, EncoderError> {
        let Some(share) = share else {
            return Ok(None);
        };
        let began = Instant::now();
        let (sender, permitted) = oneshot::channel();
        {
            let mut state = self.state.lock();
            let request = state.requests.get_mut(&share).ok_or(EncoderError::DeadlinePassed)?;
            request.waiting.push_back(sender);
            self.begin_next(&mut state);
        }
        let permit = permitted.await.map_err(|_| EncoderError::DeadlinePassed)?;
        histogram!(domain::metric::ADMISSION_WAIT).record(began.elapsed().as_secs_f64());
        Ok(Some(permit))
    }

    /// Gives out the free places.
    fn begin_next(self: &Arc<Self>, state: &mut AdmissionState) {
        while state.in_work < self.limits.in_work_max {
            let Some((next, waiting)) = state.next(self.limits.in_work_max) else {
                break;
            };
            let request = &state.requests[&next];
            let (principal, urgency) = (Arc::clone(&request.principal), request.urgency);
            state.take_place(&principal, urgency);
            let admission = Some(Arc::clone(self));
            let permit = WorkPermit { admission, principal, urgency, since: Instant::now() };
            if let Err(mut unwanted) = waiting.send(permit) {
                // Its caller is gone. Its drop must not take the lock.
                unwanted.admission = None;
                state.free_place(&unwanted.principal, urgency);
            }
        }
        let waits = state.first(Urgency::Interactive).is_some();
        state.standing_since = state.standing_since.filter(|_| waits).or_else(|| waits.then(Instant::now));
        gauge!(domain::metric::ADMISSION_WAITING).set(state.waiting() as f64);
    }
}

impl AdmissionState {
    fn waiting(&self) -> usize {
        self.requests.values().map(|request| request.waiting.len()).sum()
    }

    /// The expected wait of a request of so many samples for those of others that go before its last one.
    fn wait_for_others(&self, samples: usize, in_work_max: usize) -> Duration {
        // By least attained service, the n-th sample of every request goes before the n+1-th of any.
        let goes_before = |request: &AdmittedRequest| samples.min(request.samples).saturating_sub(request.begun);
        let interactive = self.requests.values().filter(|request| request.urgency == Urgency::Interactive);
        let before = self.in_work + interactive.map(goes_before).sum::<usize>();
        Duration::from_secs_f64(self.times.between_ends * (before + 1).saturating_sub(in_work_max) as f64)
    }

    /// The next waiting sample and its request. Drops samples that cannot be finished in time.
    fn next(&mut self, in_work_max: usize) -> Option<(ShareId, oneshot::Sender<WorkPermit>)> {
        let in_time = Instant::now() + Duration::from_secs_f64(self.times.in_work / 2.0);
        for request in self.requests.values_mut().filter(|request| request.deadline < in_time) {
            request.waiting.clear();
        }
        let bulk_may = self.bulk_in_work < in_work_max.div_ceil(2);
        let bulk = self.first(Urgency::Bulk).filter(|_| bulk_may);
        let interactive = self.first(Urgency::Interactive);
        let chosen = match (interactive, bulk) {
            (Some(_), Some(bulk)) if self.bulk_passed_over >= BULK_PASSED_OVER_MAX => bulk,
            (Some(interactive), bulk) => {
                self.bulk_passed_over = if bulk.is_some() { self.bulk_passed_over + 1 } else { 0 };
                interactive
            }
            (None, bulk) => bulk?,
        };
        let request = self.requests.get_mut(&chosen)?;
        if request.urgency == Urgency::Bulk {
            self.bulk_passed_over = 0;
        }
        request.begun += 1;
        let sample = request.waiting.pop_front()?;
        Some((chosen, sample))
    }

    /// The request of this urgency that goes first.
    fn first(&self, urgency: Urgency) -> Option<ShareId> {
        let waiting = |request: &&AdmittedRequest| request.urgency == urgency && !request.waiting.is_empty();
        let of_principal = |principal| self.in_work_by_principal.get(principal).copied().unwrap_or(0);
        self.requests
            .iter()
            .filter(|(_, request)| waiting(request))
            .min_by_key(|(id, request)| (of_principal(&request.principal), request.begun, **id))
            .map(|(id, _)| *id)
    }

    fn take_place(&mut self, principal: &Arc<str>, urgency: Urgency) {
        self.in_work += 1;
        self.bulk_in_work += usize::from(urgency == Urgency::Bulk);
        *self.in_work_by_principal.entry(Arc::clone(principal)).or_default() += 1;
    }

    fn free_place(&mut self, principal: &Arc<str>, urgency: Urgency) {
        self.in_work -= 1;
        self.bulk_in_work -= usize::from(urgency == Urgency::Bulk);
        if let Some(in_work) = self.in_work_by_principal.get_mut(principal) {
            *in_work -= 1;
            if *in_work == 0 {
                self.in_work_by_principal.remove(principal);
            }
        }
    }
}

impl MeasuredTimes {
    /// A sample ended after `in_work`; `is_full` tells whether all places were taken until now.
    fn ended(&mut self, in_work: Duration, is_full: bool) {
        let newest = |before: f64, newest: Duration| before + NEWEST_WEIGHT * (newest.as_secs_f64() - before);
        self.in_work = newest(self.in_work, in_work);
        let now = Instant::now();
        if let Some(last) = self.last_end.filter(|_| is_full) {
            self.between_ends = newest(self.between_ends, now - last);
        }
        self.last_end = is_full.then_some(now);
    }
}

impl RequestShare {
    /// The share of a request that needs no model.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    #[must_use]
    pub fn id(&self) -> Option<ShareId> {
        self.0.as_ref().map(|(_, id)| *id)
    }
}

impl Drop for RequestShare {
    fn drop(&mut self) {
        if let Some((admission, id)) = &self.0 {
            admission.state.lock().requests.remove(id);
        }
    }
}

impl Drop for WorkPermit {
    fn drop(&mut self) {
        if let Some(admission) = self.admission.take() {
            let mut state = admission.state.lock();
            let is_full = state.in_work == admission.limits.in_work_max;
            state.times.ended(self.since.elapsed(), is_full);
            state.free_place(&self.principal, self.urgency);
            admission.begin_next(&mut state);
        }
    }
}

#[cfg(test)]
mod tests;

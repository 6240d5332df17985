//! Scan batching: several searches of one collection share one scan over memory.
//!
//! A search reserves a slot of the pool and queues its request here. When a thread becomes free, it takes the requests
//! that wait for the collection, at most a full pass, and answers them together; meanwhile the next batch gathers. A
//! single search waits for no other.

use std::{collections::VecDeque, time::Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tracing::Span;

use domain::{Candidate, Embedding, Filter, Pooling, Similarity, Timestamp};
use gallery::{CollectionIndex, Query, SCAN_BATCH_MAX, Searched};

/// Which candidates a scan returns.
#[derive(Debug, Clone)]
pub(crate) struct CandidateQuery {
    pub(crate) limit: usize,
    pub(crate) filter: Option<Filter>,
    pub(crate) similarity_min: Option<Similarity>,
    pub(crate) searched: Searched,
}

impl CandidateQuery {
    /// The `limit` most similar enrolled identities.
    pub(crate) fn top(limit: usize) -> Self {
        Self { limit, filter: None, similarity_min: None, searched: Searched::Enrolled }
    }
}

/// The scan requests that wait for a collection.
#[derive(Debug, Default)]
pub(crate) struct ScanBatch(Mutex<VecDeque<ScanRequest>>);

#[derive(Debug)]
pub(crate) struct ScanRequest {
    pub(crate) probe: Embedding,
    pub(crate) query: CandidateQuery,
    pub(crate) pooling: Pooling,
    pub(crate) now: Timestamp,
    /// The start of the wait.
    pub(crate) since: Instant,
    /// Receives `wait_ms` and `batch` when the scan starts.
    pub(crate) span: Span,
    pub(crate) answer: oneshot::Sender<Vec<Candidate>>,
}

impl ScanBatch {
    pub(crate) fn push(&self, request: ScanRequest) {
        self.0.lock().push_back(request);
    }

    /// Answers the requests that wait, at most a full pass of them.
    pub(crate) fn run(&self, index: &CollectionIndex) {
        let requests: Vec<ScanRequest> = {
            let mut waiting = self.0.lock();
            // A closed channel means that the caller hung up.
            waiting.retain(|request| !request.answer.is_closed());
            let pass = waiting.len().min(SCAN_BATCH_MAX);
            waiting.drain(..pass).collect()
        };
        if requests.is_empty() {
            return;
        }
        metrics::histogram!(domain::metric::SEARCH_PASS_LENGTH).record(requests.len() as f64);
        for request in &requests {
            let wait_ms = 1e3 * request.since.elapsed().as_secs_f64();
            request.span.record("wait_ms", wait_ms).record("batch", requests.len());
        }
        let searches: Vec<(&Embedding, Query<'_>)> = requests.iter().map(ScanRequest::search).collect();
        let answers = index.search_all(&searches);
        for (request, answer) in requests.into_iter().zip(answers) {
            // It fails when the caller hung up meanwhile.
            let _ = request.answer.send(answer);
        }
    }
}

impl ScanRequest {
    fn search(&self) -> (&Embedding, Query<'_>) {
        let CandidateQuery { limit, filter, similarity_min, searched } = &self.query;
        let query = Query {
            limit: *limit,
            filter: filter.as_ref(),
            now: self.now,
            pooling: self.pooling,
            similarity_min: *similarity_min,
            searched: *searched,
        };
        (&self.probe, query)
    }
}

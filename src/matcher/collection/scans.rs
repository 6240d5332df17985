//! Gallery scans on the compute pool, and the order of their candidates.

use std::{sync::Arc, time::Instant};

use tokio::sync::oneshot;
use tracing::{Instrument, debug_span, field::Empty};

use crate::matcher::{
    collection::compute_pool::ComputePool,
    collection::{
        collection_handle::CollectionHandle,
        scan_batch::{CandidateQuery, ScanRequest},
    },
    options::ScanLimits,
    request::fault::Fault,
};
use domain::{Candidate, Clock, Embedding, IdentityId, Ranking, Reranking, Similarity};
use gallery::Searched;
use ranking::SHORTLIST;

/// Runs gallery scans. Clones share one pool.
#[derive(Debug, Clone)]
pub(crate) struct Scans {
    pool: Arc<ComputePool>,
    clock: Arc<dyn Clock>,
    candidates_max: usize,
}

impl Scans {
    pub(crate) fn new(limits: &ScanLimits, clock: Arc<dyn Clock>) -> Self {
        let pool = Arc::new(ComputePool::new(limits.threads, limits.queue_max));
        Self { pool, clock, candidates_max: limits.candidates_max }
    }

    /// # Errors
    /// An invalid argument when the limit is 0 or above the maximum.
    pub(crate) fn check_limit(&self, limit: usize) -> Result<(), Fault> {
        let most = self.candidates_max;
        if (1..=most).contains(&limit) { Ok(()) } else { Err(Fault::invalid("topK", format!("topK is 1 to {most}"))) }
    }

    /// Runs other work of a search on the pool.
    ///
    /// # Errors
    /// [`Fault::Busy`] when the queue of the pool is full.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
        self.pool.run_in(self.pool.slot()?, work).await
    }

    /// The most similar identities of a collection, found by a shared scan.
    ///
    /// # Errors
    /// [`Fault::Busy`] when the queue of the pool is full.
    pub(crate) async fn scan(
        &self,
        handle: &CollectionHandle,
        probe: Embedding,
        query: CandidateQuery,
    ) -> Result<Vec<Candidate>, Fault> {
        let slot = self.pool.slot()?;
        let (answer, candidates) = oneshot::channel();
        let (pooling, now) = (handle.collection.policy.pooling, self.clock.now());
        let (since, span) = (Instant::now(), debug_span!("scan", wait_ms = Empty, batch = Empty));
        handle.scans.push(ScanRequest { probe, query, pooling, now, since, span: span.clone(), answer });
        // Every request brings a thread, so there is one for every request, whichever thread answers it.
        let (batch, index) = (Arc::clone(&handle.scans), Arc::clone(&handle.index));
        self.pool.run_in(slot, move || batch.run(&index)).instrument(span).await?;
        candidates.await.map_err(Fault::internal)
    }

    /// As [`Scans::scan`], with its duration measured.
    pub(crate) async fn nearest(
        &self,
        handle: &CollectionHandle,
        probe: &Embedding,
        query: CandidateQuery,
    ) -> Result<Vec<Candidate>, Fault> {
        let began = Instant::now();
        let candidates = self.scan(handle, probe.clone(), query).await?;
        metrics::histogram!(domain::metric::SEARCH_DURATION).record(began.elapsed().as_secs_f64());
        Ok(candidates)
    }

    /// The most similar identities in the order of the policy, and the name of that order. Re-ranking does not change
    /// their similarities.
    pub(crate) async fn ranked(
        &self,
        handle: &CollectionHandle,
        probe: &Embedding,
        query: CandidateQuery,
    ) -> Result<(Vec<Candidate>, Ranking), Fault> {
        let by = handle.collection.policy.reranking;
        // Re-ranking compares enrolled identities only.
        if by == Reranking::Off || query.searched != Searched::Enrolled {
            return Ok((self.nearest(handle, probe, query).await?, Ranking::Similarity));
        }
        let (limit, least) = (query.limit, query.similarity_min.unwrap_or(Similarity::LOWEST));
        // Re-ranking also needs the neighbours that the answer does not list.
        let wide = CandidateQuery { limit: limit.max(SHORTLIST), similarity_min: None, ..query };
        let nearest = self.nearest(handle, probe, wide).await?;
        let identities: Vec<IdentityId> = nearest.iter().map(|candidate| candidate.identity.clone()).collect();
        let (index, embedding) = (Arc::clone(&handle.index), probe.clone());
        let (order, ranking) = self.run(move || index.rerank(&embedding, &identities, by)).await?;
        let ordered = order.into_iter().filter_map(|at| nearest.get(at).cloned());
        Ok((ordered.filter(|candidate| candidate.similarity >= least).take(limit).collect(), ranking))
    }
}

//! Many enrollments: over one stream of batches, or in one batch.

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt, Stream, StreamExt, future, stream};
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, Streaming};

use super::Services;
use crate::{
    api::{
        metered_body::RequestMemory,
        proto::{self, enroll_outcome::Outcome},
        status::{self, status},
        wire::{self, CollectionName},
    },
    matcher::{Context, Fault},
};
use domain::CollectionId;

/// The largest number of entries of one batch.
const ENTRIES_MAX: usize = 1000;
/// The batches of one stream in progress: the next one arrives while the server works on the first.
const BATCHES_IN_PROGRESS_MAX: usize = 2;
/// The largest number of open streams. Their batches take from the memory budget as they arrive.
const STREAMS_MAX: usize = 8;
/// The longest wait for the next batch. A client that is gone must not keep its stream open.
const SILENCE_MAX: Duration = Duration::from_mins(1);

/// The answers to a stream of batches.
pub(super) type Outcomes = Pin<Box<dyn Stream<Item = Result<proto::BatchEnrollResponse, Status>> + Send>>;

/// The open streams of batches.
#[derive(Debug, Clone)]
pub(in crate::api) struct Streams {
    free: Arc<Semaphore>,
    /// The server is about to stop.
    ending: CancellationToken,
}

impl Default for Streams {
    fn default() -> Self {
        Self { free: Arc::new(Semaphore::new(STREAMS_MAX)), ending: CancellationToken::new() }
    }
}

impl Streams {
    /// Streams take no more batches. Those that arrived are answered.
    pub(in crate::api) fn end(&self) {
        self.ending.cancel();
    }
}

impl Services {
    pub(super) fn open_stream(
        &self,
        request: Request<Streaming<proto::BatchEnrollRequest>>,
    ) -> Result<Outcomes, Fault> {
        let busy = |_| Fault::busy();
        let permit = Arc::clone(&self.streams.free).try_acquire_owned().map_err(busy)?;
        let context = wire::context(&request);
        let memory = request.extensions().get::<RequestMemory>().cloned();
        // The layers gave the stream the deadline of one request; here each batch gets the same time.
        let allowed = context.deadline.saturating_duration_since(Instant::now());
        let batches = Batches { incoming: request.into_inner(), ending: self.streams.ending.clone(), _permit: permit };
        let services = self.clone();
        // An error of the stream follows the answers to the batches before it.
        let answers = stream::try_unfold(batches, Batches::next).map(move |arrived| {
            let context = Context { deadline: Instant::now() + allowed, ..context.clone() };
            services.clone().answer_batch(context, arrived, memory.clone())
        });
        Ok(answers.buffered(BATCHES_IN_PROGRESS_MAX).boxed())
    }

    /// Enrolls the one batch of a call. The request holds its memory until its answer.
    pub(super) async fn answer_one_batch(
        &self,
        request: Request<proto::BatchEnrollRequest>,
    ) -> Result<proto::BatchEnrollResponse, Status> {
        let context = wire::context(&request);
        self.clone().answer_batch(context, Ok(request.into_inner()), None).await
    }

    async fn answer_batch(
        self,
        context: Context,
        arrived: Result<proto::BatchEnrollRequest, Status>,
        memory: Option<RequestMemory>,
    ) -> Result<proto::BatchEnrollResponse, Status> {
        let batch = arrived?;
        let bytes = batch.encoded_len();
        let outcomes = AssertUnwindSafe(self.enroll_all(context, batch)).catch_unwind().await;
        if let Some(memory) = memory {
            memory.give_back_body(bytes);
        }
        outcomes.unwrap_or_else(|_| Err(Fault::internal("a batch panicked"))).map_err(|fault| status(&fault))
    }

    /// Enrolls the entries at the same time, each with its own outcome; `Err` when the batch as a whole is invalid.
    async fn enroll_all(
        self,
        context: Context,
        batch: proto::BatchEnrollRequest,
    ) -> Result<proto::BatchEnrollResponse, Fault> {
        let CollectionName(parent) = CollectionName::parse("parent", &batch.parent)?;
        if batch.requests.len() > ENTRIES_MAX {
            let problem = format!("a batch has at most {ENTRIES_MAX} entries, this one has {}", batch.requests.len());
            return Err(Fault::invalid("requests", problem));
        }
        let outcomes = batch.requests.into_iter().map(|request| self.enroll_one(&context, &parent, request));
        let outcomes = future::join_all(outcomes).await;
        let numbered = outcomes.into_iter().zip(0..).map(|(outcome, index)| {
            let code = outcome.as_ref().err().map_or("OK", Fault::code);
            metrics::counter!(domain::metric::BATCH_ENTRIES, "code" => code).increment(1);
            let outcome = match outcome {
                Ok(enrolled) => Outcome::Enrolled(enrolled),
                Err(fault) => Outcome::Refusal(status::refusal(&fault)),
            };
            proto::EnrollOutcome { index, outcome: Some(outcome) }
        });
        Ok(proto::BatchEnrollResponse { outcomes: numbered.collect() })
    }

    async fn enroll_one(
        &self,
        context: &Context,
        parent: &CollectionId,
        request: proto::EnrollRequest,
    ) -> Result<proto::EnrollResponse, Fault> {
        let (context, request) = self.once_in(context.clone(), request).await?;
        let (name, enrollment) = wire::enrollment(request)?;
        if name.collection != *parent {
            return Err(Fault::invalid("name", format!("this batch is for identities of collections/{parent}")));
        }
        Ok(wire::enrolled(&name, &self.matcher.enroll_in_bulk(&context, enrollment).await?))
    }
}

/// The batches of one stream as they arrive.
struct Batches {
    incoming: Streaming<proto::BatchEnrollRequest>,
    ending: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl Batches {
    async fn next(mut self) -> Result<Option<(proto::BatchEnrollRequest, Self)>, Status> {
        let arrived = tokio::select! {
            biased;
            () = self.ending.cancelled() => return Err(status(&Fault::ShuttingDown)),
            arrived = tokio::time::timeout(SILENCE_MAX, self.incoming.message()) => arrived,
        };
        let batch = arrived.map_err(|_| status(&Fault::TooLate))?;
        let batch = batch.map_err(|refused| status::malformed_message(&refused).unwrap_or(refused))?;
        Ok(batch.map(|batch| (batch, self)))
    }
}

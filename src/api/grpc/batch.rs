//! Many enrollments over one stream of batches. REST comes here too, with a stream of one.

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt, Stream, StreamExt, future, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, Streaming};

use super::{Services, identities::enrollment};
use crate::{
    api::{
        proto::{self, enroll_outcome::Outcome},
        status::{self, status},
        wire::{self, CollectionName},
    },
    matcher::{Context, Fault},
};
use domain::CollectionId;

/// The most entries of one batch.
const ENTRIES_MAX: usize = 1000;
/// Batches of one stream in hand: the next one is there when the one before is done.
const BATCHES_IN_HAND_MAX: usize = 2;
/// The most streams at once. With batches of 32 MB, this and the limit above hold half a gigabyte at most.
const STREAMS_MAX: usize = 8;
/// How long a stream may send nothing: whoever went away must not keep its place.
const SILENCE_MAX: Duration = Duration::from_mins(1);

/// The answers to a stream of batches.
pub(super) type Outcomes = Pin<Box<dyn Stream<Item = Result<proto::BatchEnrollResponse, Status>> + Send>>;

/// The streams of batches that are open.
#[derive(Debug, Clone)]
pub(in crate::api) struct Streams {
    places: Arc<Semaphore>,
    /// The server is about to go.
    ending: CancellationToken,
}

impl Default for Streams {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(STREAMS_MAX)), ending: CancellationToken::new() }
    }
}

impl Streams {
    /// Streams take no more batches; what they have is done and answered.
    pub(in crate::api) fn end(&self) {
        self.ending.cancel();
    }
}

impl Services {
    pub(super) fn batch_enroll(
        &self,
        request: Request<Streaming<proto::BatchEnrollRequest>>,
    ) -> Result<Outcomes, Fault> {
        let busy = |_| Fault::busy();
        let place = Arc::clone(&self.1.places).try_acquire_owned().map_err(busy)?;
        let context = wire::context(&request);
        // The layers gave the stream the time that a request may take; here each batch gets it.
        let allowed = context.deadline.saturating_duration_since(Instant::now());
        let batches = Batches { incoming: request.into_inner(), ending: self.1.ending.clone(), _place: place };
        let services = self.clone();
        // An error of the stream waits, as a batch does, for the answers to what came before it.
        let answers = stream::try_unfold(batches, Batches::next).map(move |come| {
            let context = Context { deadline: Instant::now() + allowed, ..context.clone() };
            services.clone().answer_batch(context, come)
        });
        Ok(answers.buffered(BATCHES_IN_HAND_MAX).boxed())
    }

    async fn answer_batch(
        self,
        context: Context,
        come: Result<proto::BatchEnrollRequest, Status>,
    ) -> Result<proto::BatchEnrollResponse, Status> {
        let outcomes = AssertUnwindSafe(self.enroll_all(context, come?)).catch_unwind().await;
        outcomes.unwrap_or_else(|_| Err(Fault::internal("a batch panicked"))).map_err(|fault| status(&fault))
    }

    /// Each entry by itself, side by side; `Err` when the batch as a whole makes no sense.
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
        mut request: proto::EnrollRequest,
    ) -> Result<proto::EnrollResponse, Fault> {
        // Under the name of the single method: an entry that was answered there is answered here, and the other way.
        let request_id = std::mem::take(&mut request.request_id);
        let context = wire::once(context.clone(), "Enroll", &request_id, &request)?;
        let (name, enrollment) = enrollment(request)?;
        if name.collection != *parent {
            return Err(Fault::invalid("name", format!("this batch is for identities of collections/{parent}")));
        }
        Ok(wire::enrolled(&name, &self.0.enroll_in_bulk(&context, enrollment).await?))
    }
}

/// The batches of one stream as they come.
struct Batches {
    incoming: Streaming<proto::BatchEnrollRequest>,
    ending: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Batches {
    async fn next(mut self) -> Result<Option<(proto::BatchEnrollRequest, Self)>, Status> {
        let come = tokio::select! {
            biased;
            () = self.ending.cancelled() => return Err(status(&Fault::ShuttingDown)),
            come = tokio::time::timeout(SILENCE_MAX, self.incoming.message()) => come,
        };
        let batch = come.map_err(|_| status(&Fault::TooLate))??;
        Ok(batch.map(|batch| (batch, self)))
    }
}

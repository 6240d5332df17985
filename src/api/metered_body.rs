//! The bodies of requests as they arrive, on both wires: each byte takes its part of the memory budget, and a body must
//! not stall.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};
use tonic::Status;

use super::status::{WireFault, status};
use crate::matcher::Fault;
use domain::{MemoryBudget, MemoryRefusal, MemoryShare};

/// What a byte of a body takes from the budget: it is held as it arrived, and as part of its message.
const TAKEN_PER_BYTE: usize = 2;

/// How fast bodies must arrive; filled from the configuration.
#[derive(Debug, Clone, Copy)]
pub struct UploadPace {
    /// In each window, on average.
    pub bytes_per_second_min: u64,
    pub window: Duration,
}

impl UploadPace {
    fn bytes_min(&self) -> u64 {
        let milliseconds = u64::try_from(self.window.as_millis()).unwrap_or(u64::MAX);
        self.bytes_per_second_min.saturating_mul(milliseconds) / 1000
    }
}

/// The memory that one request holds: its body, and what is made of it. Clones are one share.
#[derive(Debug, Clone)]
pub(super) struct RequestMemory(Arc<Mutex<MemoryShare>>);

impl RequestMemory {
    pub(super) fn new(budget: &MemoryBudget) -> Self {
        Self(Arc::new(Mutex::new(budget.share())))
    }

    /// Takes bytes from the budget.
    ///
    /// # Errors
    /// When other requests hold them, or one request may not take so many.
    pub(super) fn take(&self, bytes: usize) -> Result<(), Status> {
        self.0.lock().grow(bytes).map_err(|refusal| {
            metrics::counter!(domain::metric::MEMORY_REFUSED).increment(1);
            match refusal {
                MemoryRefusal::Busy => status(&Fault::busy()),
                MemoryRefusal::TooLarge { .. } => WireFault::BodyTooLarge.status(refusal.to_string()),
            }
        })
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.0.lock().shrink(bytes);
    }

    /// Takes the memory of so many bytes of the body.
    ///
    /// # Errors
    /// As [`RequestMemory::take`].
    pub(super) fn take_body(&self, bytes: usize) -> Result<(), Status> {
        self.take(bytes.saturating_mul(TAKEN_PER_BYTE))
    }

    /// Gives back the memory of so many bytes of the body.
    pub(super) fn give_back_body(&self, bytes: usize) {
        self.give_back(bytes.saturating_mul(TAKEN_PER_BYTE));
    }
}

/// A body that takes memory as it arrives. Its errors are [`Status`]es: tonic answers them as they are.
pub(super) struct MeteredBody {
    body: Body,
    memory: RequestMemory,
    /// None for streams of messages: their clients may pause between two of them.
    pace: Option<UploadPace>,
    /// Since the body first kept the server waiting.
    window: Option<Window>,
}

struct Window {
    end: Pin<Box<Sleep>>,
    bytes: u64,
}

impl MeteredBody {
    pub(super) fn new(body: Body, memory: RequestMemory, pace: Option<UploadPace>) -> Self {
        Self { body, memory, pace, window: None }
    }

    /// Ready when too few bytes arrived in a window.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        let Some(pace) = self.pace else { return Poll::Pending };
        let window =
            self.window.get_or_insert_with(|| Window { end: Box::pin(tokio::time::sleep(pace.window)), bytes: 0 });
        loop {
            ready!(window.end.as_mut().poll(cx));
            if window.bytes < pace.bytes_min() {
                return Poll::Ready(WireFault::BodyTooSlow.status(format!(
                    "the body stalled: fewer than {} bytes a second arrived in {} s; send it faster, or a smaller one",
                    pace.bytes_per_second_min,
                    pace.window.as_secs()
                )));
            }
            window.bytes = 0;
            window.end.as_mut().reset(Instant::now() + pace.window);
        }
    }
}

impl HttpBody for MeteredBody {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let frame = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(ended) => return Poll::Ready(ended.map(|frame| frame.map_err(Into::into))),
            Poll::Pending => {
                let stalled = ready!(self.poll_stalled(cx));
                return Poll::Ready(Some(Err(stalled.into())));
            }
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        if let Some(window) = &mut self.window {
            window.bytes += bytes as u64;
        }
        match self.memory.take(bytes.saturating_mul(TAKEN_PER_BYTE)) {
            Ok(()) => Poll::Ready(Some(Ok(frame))),
            Err(refused) => Poll::Ready(Some(Err(refused.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, stream};
    use http_body_util::BodyExt;
    use tonic::Code;

    use super::*;
    use crate::api::status::http;

    /// At least five bytes in each half second.
    const PACE: UploadPace = UploadPace { bytes_per_second_min: 10, window: Duration::from_millis(500) };
    const KILOBYTE: usize = 1024;

    /// The pieces, each after a wait in milliseconds, and then nothing for ever.
    fn pieces(pieces: Vec<(u64, usize)>) -> Body {
        let pieces = stream::iter(pieces).then(async |(milliseconds, bytes)| {
            if milliseconds > 0 {
                tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            }
            Ok::<Bytes, Status>(vec![7; bytes].into())
        });
        Body::from_stream(pieces.chain(stream::pending()))
    }

    fn metered(body: Body, budget: &MemoryBudget) -> MeteredBody {
        MeteredBody::new(body, RequestMemory::new(budget), Some(PACE))
    }

    /// The bytes that arrive before the error, and the error.
    async fn until_refused(mut body: MeteredBody) -> (usize, Status) {
        let mut bytes = 0;
        loop {
            match body.frame().await.expect("it has no end") {
                Ok(frame) => bytes += frame.data_ref().map_or(0, Bytes::len),
                Err(error) => return (bytes, Status::from_error(error)),
            }
        }
    }

    #[tokio::test]
    async fn a_body_that_stalls_is_refused_and_a_slow_one_is_not() {
        let budget = MemoryBudget::new(64 << 20);
        for stalls in [vec![], vec![(0, 1)], vec![(0, 30_000)], vec![(50, 1000), (50, 1000), (50, 1)]] {
            let (_, refused) = until_refused(metered(pieces(stalls.clone()), &budget)).await;
            assert_eq!((refused.code(), http(&refused).as_u16()), (Code::DeadlineExceeded, 408), "{stalls:?}");
        }
        // Longer than two windows.
        let (bytes, _) = until_refused(metered(pieces(vec![(50, 100); 25]), &budget)).await;
        assert_eq!(bytes, 25 * 100);
        assert_eq!(budget.taken(), 0, "all was given back");
    }

    #[tokio::test]
    async fn bodies_take_memory_as_they_arrive_and_not_as_they_are_announced() {
        let budget = MemoryBudget::new(2048 * KILOBYTE);
        let mut stalled: Vec<MeteredBody> = (0..16).map(|_| metered(pieces(vec![(0, 1)]), &budget)).collect();
        for body in &mut stalled {
            body.frame().await.expect("a piece").expect("taken");
        }
        assert_eq!(budget.taken(), 16 * TAKEN_PER_BYTE);
        let mut large = metered(pieces(vec![(0, 600 * KILOBYTE), (0, 600 * KILOBYTE)]), &budget);
        large.frame().await.expect("a piece").expect("taken");
        let (_, refused) = until_refused(large).await;
        assert_eq!(http(&refused).as_u16(), 413, "more than one request may take");
        let mut held = metered(pieces(vec![(0, 900 * KILOBYTE)]), &budget);
        held.frame().await.expect("a piece").expect("taken");
        let (_, refused) = until_refused(metered(pieces(vec![(0, 100 * KILOBYTE)]), &budget)).await;
        assert_eq!((refused.code(), http(&refused).as_u16()), (Code::ResourceExhausted, 429), "others hold it");
        let mut small = metered(pieces(vec![(0, 60 * KILOBYTE)]), &budget);
        small.frame().await.expect("a piece").expect("a small one is served beside large ones");
    }
}

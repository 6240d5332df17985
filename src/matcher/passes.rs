//! Searches that share a sweep over memory.
//!
//! A search takes a place on the pool and leaves its question here. Whenever a thread gets to a search, it takes all the
//! questions that wait for the same collection by then, up to as many as a sweep is good for, and answers them together:
//! while one sweep runs the next one gathers. A lone search waits for nobody.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tracing::{Instrument, Span, debug_span, field::Empty};

use super::{Fault, Matcher, directory::Open, search::Wanted};
use domain::{Candidate, Embedding, Pooling, Timestamp};
use gallery::{PASS_MAX, Query, Shelf};

/// The questions that wait for a collection.
#[derive(Debug, Default)]
pub(super) struct Passes(Mutex<VecDeque<Question>>);

#[derive(Debug)]
struct Question {
    probe: Embedding,
    wanted: Wanted,
    pooling: Pooling,
    now: Timestamp,
    /// Since when it waits, and the span that learns how long it did.
    since: Instant,
    span: Span,
    answer: oneshot::Sender<Vec<Candidate>>,
}

impl Passes {
    /// Answers those that wait, up to a pass of them.
    fn run(&self, shelf: &Shelf) {
        let questions: Vec<Question> = {
            let mut waiting = self.0.lock();
            // Nobody waits any more for the answer of a caller that hung up.
            waiting.retain(|question| !question.answer.is_closed());
            let pass = waiting.len().min(PASS_MAX);
            waiting.drain(..pass).collect()
        };
        if questions.is_empty() {
            return;
        }
        metrics::histogram!(domain::metric::SEARCH_PASS_LENGTH).record(questions.len() as f64);
        for question in &questions {
            let wait_ms = 1e3 * question.since.elapsed().as_secs_f64();
            question.span.record("wait_ms", wait_ms).record("batch", questions.len());
        }
        let searches: Vec<(&Embedding, Query<'_>)> = questions.iter().map(Question::search).collect();
        let answers = shelf.search_all(&searches);
        for (question, answer) in questions.into_iter().zip(answers) {
            // A caller that hung up meanwhile wants none.
            let _ = question.answer.send(answer);
        }
    }
}

impl Question {
    fn search(&self) -> (&Embedding, Query<'_>) {
        let Wanted { limit, filter, min_similarity } = &self.wanted;
        let query = Query {
            limit: *limit,
            filter: filter.as_ref(),
            now: self.now,
            pooling: self.pooling,
            similarity_min: *min_similarity,
        };
        (&self.probe, query)
    }
}

impl Matcher {
    /// The nearest identities in the collection, found on the pool.
    ///
    /// # Errors
    /// [`Fault::Busy`] when as many searches wait as may.
    pub(super) async fn look_up(&self, open: &Open, probe: Embedding, wanted: Wanted) -> Result<Vec<Candidate>, Fault> {
        let place = self.pool.place()?;
        let (answer, found) = oneshot::channel();
        let (pooling, now) = (open.collection.policy.pooling, self.clock.now());
        let (since, span) = (Instant::now(), debug_span!("scan", wait_ms = Empty, batch = Empty));
        let question = Question { probe, wanted, pooling, now, since, span: span.clone(), answer };
        open.passes.0.lock().push_back(question);
        // Each question brings a thread, so there is one for every question, whoever answers it.
        let (passes, shelf) = (Arc::clone(&open.passes), Arc::clone(&open.shelf));
        self.pool.run_in(place, move || passes.run(&shelf)).instrument(span).await?;
        found.await.map_err(Fault::internal)
    }
}

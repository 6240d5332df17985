//! Searches that share a sweep over memory.
//!
//! A search takes a place on the pool and leaves its question here. Whenever a thread gets to a search, it takes all the
//! questions that wait for the same collection by then, up to as many as a sweep is good for, and answers them together:
//! while one sweep runs the next one gathers. A lone search waits for nobody.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::oneshot;

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
        let pooling = open.collection.policy.pooling;
        open.passes.0.lock().push_back(Question { probe, wanted, pooling, now: self.clock.now(), answer });
        // Each question brings a thread, so there is one for every question, whoever answers it.
        let (passes, shelf) = (Arc::clone(&open.passes), Arc::clone(&open.shelf));
        self.pool.run_in(place, move || passes.run(&shelf)).await?;
        found.await.map_err(Fault::internal)
    }
}

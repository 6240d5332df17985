use std::time::Duration;

use tokio::task::JoinHandle;

use super::*;
use crate::matcher::testbed::{Bench, context, wish};
use domain::{CollectionUid, Entry, EntryKind, Position, Timestamp};

impl Bench {
    /// Asks for an enroll and answers once it stands in the queue.
    async fn ask(&self, identity: &str, templates: usize, request: Option<&str>) -> JoinHandle<Answer> {
        let before = self.waiting();
        let (matcher, id, context) = (self.matcher.clone(), self.open.collection.id.clone(), context(request));
        let wish = wish(identity, templates);
        let asked = tokio::spawn(async move { matcher.enroll_together(&context, &id, wish).await });
        while self.waiting() == before && !asked.is_finished() {
            tokio::task::yield_now().await;
        }
        asked
    }

    fn waiting(&self) -> usize {
        self.open.company.0.lock().writes.len()
    }

    async fn log(&self) -> Vec<Entry> {
        let uid: CollectionUid = self.open.collection.uid;
        self.matcher.store.in_collection(uid).entries_after(Position::START, 1000).await.expect("entries")
    }
}

type Answer = Result<Enrolled, Fault>;

async fn answered(asked: JoinHandle<Answer>) -> Answer {
    tokio::time::timeout(Duration::from_mins(1), asked).await.expect("answered").expect("no panic")
}

#[tokio::test]
async fn those_who_wait_share_a_commit_and_each_has_an_answer_of_its_own() {
    let bench = Bench::new(100).await;
    let turn = bench.matcher.take_turn(&bench.open).await.expect("the turn");
    let asked = [
        bench.ask("alice", 2, None).await,
        bench.ask("bob", 1, Some("once")).await,
        bench.ask("alice", 2, None).await, // one more than is allowed, with the two before it
        bench.ask("bob", 1, Some("once")).await,
        bench.ask("alice", 1, None).await,
    ];
    assert_eq!(bench.waiting(), 5);
    assert_eq!(bench.log().await, [], "nobody is written for before the turn");
    drop(turn);
    let mut answers = Vec::new();
    for one in asked {
        answers.push(answered(one).await);
    }
    let [alice, bob, refused, again, more] = answers.try_into().expect("five");
    let (alice, bob, more) = (alice.expect("enrolled"), bob.expect("enrolled"), more.expect("enrolled"));
    assert!(matches!(refused, Err(Fault::TooManyTemplates { limit: 3, .. })), "{refused:?}");
    assert_eq!(again.expect("the same request"), bob);

    let log = bench.log().await;
    let kinds: Vec<_> = log.iter().map(|entry| (entry.kind, entry.identity.as_str())).collect();
    let (label, admit) = (EntryKind::Label, EntryKind::Admit);
    let expected =
        [(label, "alice"), (admit, "alice"), (admit, "alice"), (label, "bob"), (admit, "bob"), (admit, "alice")];
    assert_eq!(kinds, expected);
    assert!(log.iter().all(|entry| entry.time == log[0].time), "they were appended at once");
    assert_eq!(alice.token.position(), Position(3), "a token is of its own write");
    assert_eq!((bob.token.position(), more.token.position()), (Position(5), Position(6)));
    for template in alice.templates.iter().chain(&bob.templates).chain(&more.templates) {
        let stored =
            bench.matcher.store.in_collection(bench.open.collection.uid).template(template.id).await.expect("read");
        assert_eq!(stored.as_ref(), Some(template), "the answer says what the store holds");
    }
    assert_eq!((bench.open.shelf.position(), bench.open.shelf.stats().templates), (Position(6), 4));
}

#[tokio::test]
async fn a_commit_takes_no_more_writes_than_it_may() {
    let bench = Bench::new(2).await;
    let turn = bench.matcher.take_turn(&bench.open).await.expect("the turn");
    let mut asked = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        asked.push(bench.ask(name, 1, None).await);
    }
    drop(turn);
    for one in asked {
        answered(one).await.expect("enrolled");
    }
    let log = bench.log().await;
    assert_eq!(log.len(), 10);
    let mut times: Vec<Timestamp> = log.iter().map(|entry| entry.time).collect();
    times.dedup();
    assert_eq!(times.len(), 3, "two and two and one");
}

#[tokio::test]
async fn who_hangs_up_or_runs_out_of_time_while_waiting_is_not_written() {
    let bench = Bench::new(100).await;
    let turn = bench.matcher.take_turn(&bench.open).await.expect("the turn");
    let hung_up = bench.ask("alice", 1, None).await;
    let stays = bench.ask("bob", 1, None).await;
    hung_up.abort();
    assert!(hung_up.await.expect_err("aborted").is_cancelled());
    let late = Context { deadline: Instant::now(), ..context(None) };
    let refused = bench.matcher.enroll_together(&late, &bench.open.collection.id, wish("eve", 1)).await;
    assert!(matches!(refused, Err(Fault::TooLate)), "{refused:?}");
    assert_eq!(bench.waiting(), 1);
    drop(turn);
    answered(stays).await.expect("enrolled");
    assert!(bench.log().await.iter().all(|entry| entry.identity.as_str() == "bob"));
}

#[tokio::test]
async fn when_the_turn_cannot_be_had_all_who_wait_are_told_to_ask_again() {
    let bench = Bench::new(100).await;
    let writer = Arc::clone(&bench.open.writers).lock_owned().await;
    let mut asked = Vec::new();
    for name in ["a", "b", "c"] {
        asked.push(bench.ask(name, 1, None).await);
    }
    bench.matcher.store.close().await;
    drop(writer);
    for one in asked {
        let fault = answered(one).await.expect_err("there is no database any more");
        assert!(matches!(fault, Fault::StoreUnavailable(_)), "{fault:?}");
        assert!(fault.retry_after().is_some());
    }
    assert_eq!(bench.waiting(), 0);
}

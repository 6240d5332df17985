use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::*;
use crate::matcher::{
    CollectionDraft,
    testbed::{NoEncoders, Testbed, context, enroll_write, options},
};
use domain::{CollectionUid, Entry, EntryKind, Position, Timestamp};

impl Testbed {
    /// Sends an enroll and returns once it is in the queue.
    async fn send(&self, identity: &str, templates: usize, request: Option<&str>) -> JoinHandle<Answer> {
        let before = self.waiting();
        let (matcher, id, context) = (self.matcher.clone(), self.handle.collection.id.clone(), context(request));
        let write = enroll_write(identity, templates);
        let sent = tokio::spawn(async move { matcher.writes.enroll(&context, &id, write).await });
        while self.waiting() == before && !sent.is_finished() {
            tokio::task::yield_now().await;
        }
        sent
    }

    fn waiting(&self) -> usize {
        self.handle.group_commit.len()
    }

    async fn log(&self) -> Vec<Entry> {
        let uid: CollectionUid = self.handle.collection.uid;
        self.matcher.store.in_collection(uid).entries_after(Position::START, 1000).await.expect("entries")
    }
}

type Answer = Result<EnrollResult, Fault>;

async fn answered(sent: JoinHandle<Answer>) -> Answer {
    tokio::time::timeout(Duration::from_mins(1), sent).await.expect("answered").expect("no panic")
}

#[tokio::test]
async fn waiting_enrolls_share_a_commit_and_each_has_its_own_answer() {
    let testbed = Testbed::new(100).await;
    let turn = testbed.matcher.writes.take_turn(&testbed.handle).await.expect("the turn");
    let sent = [
        testbed.send("alice", 2, None).await,
        testbed.send("bob", 1, Some("once")).await,
        testbed.send("alice", 2, None).await, // one template too many, with the two before it
        testbed.send("bob", 1, Some("once")).await,
        testbed.send("alice", 1, None).await,
    ];
    assert_eq!(testbed.waiting(), 5);
    assert_eq!(testbed.log().await, [], "nothing is written before the turn");
    drop(turn);
    let mut answers = Vec::new();
    for one in sent {
        answers.push(answered(one).await);
    }
    let [alice, bob, refused, again, more] = answers.try_into().expect("five");
    let (alice, bob, more) = (alice.expect("enrolled"), bob.expect("enrolled"), more.expect("enrolled"));
    assert!(matches!(refused, Err(Fault::TooManyTemplates { limit: 3, .. })), "{refused:?}");
    assert_eq!(again.expect("the same request"), bob);

    let log = testbed.log().await;
    let kinds: Vec<_> = log.iter().map(|entry| (entry.kind, entry.identity.as_str())).collect();
    let (label, admit) = (EntryKind::Label, EntryKind::Admit);
    let expected =
        [(label, "alice"), (admit, "alice"), (admit, "alice"), (label, "bob"), (admit, "bob"), (admit, "alice")];
    assert_eq!(kinds, expected);
    assert!(log.iter().all(|entry| entry.time == log[0].time), "they were appended at once");
    assert_eq!(alice.token.position(), Position(3), "a token is of its own write");
    assert_eq!((bob.token.position(), more.token.position()), (Position(5), Position(6)));
    for template in alice.templates.iter().chain(&bob.templates).chain(&more.templates) {
        let stored = testbed
            .matcher
            .store
            .in_collection(testbed.handle.collection.uid)
            .template(template.id)
            .await
            .expect("read");
        assert_eq!(stored.as_ref(), Some(template), "the answer says what the store holds");
    }
    assert_eq!((testbed.handle.position(), testbed.handle.index.stats().templates), (Position(6), 4));
}

#[tokio::test]
async fn a_commit_has_at_most_the_configured_writes() {
    let testbed = Testbed::new(2).await;
    let turn = testbed.matcher.writes.take_turn(&testbed.handle).await.expect("the turn");
    let mut sent = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        sent.push(testbed.send(name, 1, None).await);
    }
    drop(turn);
    for one in sent {
        answered(one).await.expect("enrolled");
    }
    let log = testbed.log().await;
    assert_eq!(log.len(), 10);
    let mut times: Vec<Timestamp> = log.iter().map(|entry| entry.time).collect();
    times.dedup();
    assert_eq!(times.len(), 3, "two and two and one");
}

#[tokio::test]
async fn an_enroll_that_hangs_up_or_times_out_in_the_queue_is_not_written() {
    let testbed = Testbed::new(100).await;
    let turn = testbed.matcher.writes.take_turn(&testbed.handle).await.expect("the turn");
    let hung_up = testbed.send("alice", 1, None).await;
    let stays = testbed.send("bob", 1, None).await;
    hung_up.abort();
    assert!(hung_up.await.expect_err("aborted").is_cancelled());
    let late = Context { deadline: Instant::now(), ..context(None) };
    let refused = testbed.matcher.writes.enroll(&late, &testbed.handle.collection.id, enroll_write("eve", 1)).await;
    assert!(matches!(refused, Err(Fault::TooLate)), "{refused:?}");
    assert_eq!(testbed.waiting(), 1);
    drop(turn);
    answered(stays).await.expect("enrolled");
    assert!(testbed.log().await.iter().all(|entry| entry.identity.as_str() == "bob"));
}

#[tokio::test]
async fn all_waiting_enrolls_may_retry_when_the_turn_cannot_be_taken() {
    let testbed = Testbed::new(100).await;
    let writer = Arc::clone(&testbed.handle.writers).lock_owned().await;
    let mut sent = Vec::new();
    for name in ["a", "b", "c"] {
        sent.push(testbed.send(name, 1, None).await);
    }
    testbed.matcher.store.close().await;
    drop(writer);
    for one in sent {
        let fault = answered(one).await.expect_err("the database is closed");
        assert!(matches!(fault, Fault::StoreUnavailable(_)), "{fault:?}");
        assert!(fault.retry_after().is_some());
    }
    assert_eq!(testbed.waiting(), 0);
}

#[tokio::test]
async fn an_enroll_that_is_repeated_because_its_answer_was_lost_is_stored_once() {
    let mut options = options(100);
    options.writes.repeat_window = Duration::from_mins(1);
    let testbed = Box::pin(Testbed::with(options, CollectionDraft::default(), Arc::new(NoEncoders))).await;
    let enroll = async |write: EnrollWrite, request: Option<&str>| {
        let id = testbed.handle.collection.id.clone();
        testbed.matcher.writes.enroll(&context(request), &id, write).await.expect("enrolled").templates
    };
    let first = enroll(enroll_write("alice", 1), None).await;
    assert_eq!(enroll(enroll_write("alice", 1), None).await, first);
    assert_ne!(enroll(enroll_write("bob", 1), None).await, first, "the same picture of another identity");
    assert_ne!(enroll(enroll_write("alice", 1), Some("another")).await, first, "its id says that it is another");
    let labelled = EnrollWrite { labels: testing::labels(&[("site", "north")]), ..enroll_write("alice", 1) };
    assert_ne!(enroll(labelled, None).await, first, "it changes the labels");

    // Two that share a commit.
    let turn = testbed.matcher.writes.take_turn(&testbed.handle).await.expect("the turn");
    let sent = [testbed.send("eve", 1, None).await, testbed.send("eve", 1, None).await];
    drop(turn);
    let [one, other] = sent;
    assert_eq!(answered(one).await.expect("enrolled").templates, answered(other).await.expect("enrolled").templates);
    assert_eq!(testbed.handle.index.stats().templates, 5);
}

#[tokio::test]
async fn an_enroll_of_the_same_picture_much_later_is_stored_again() {
    let mut options = options(100);
    options.writes.repeat_window = Duration::from_micros(1);
    let testbed = Box::pin(Testbed::with(options, CollectionDraft::default(), Arc::new(NoEncoders))).await;
    for _ in 0..2 {
        let id = testbed.handle.collection.id.clone();
        testbed.matcher.writes.enroll(&context(None), &id, enroll_write("alice", 1)).await.expect("enrolled");
    }
    assert_eq!(testbed.handle.index.stats().templates, 2);
}

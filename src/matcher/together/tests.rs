use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

use tokio::task::JoinHandle;
use uuid::Uuid;

use super::*;
use crate::{
    domain::{
        Clock, CollectionUid, Embedding, EmbeddingSpace, Entry, EntryKind, IdSource, Modality, ModelDigest, Position,
        SpaceName, TemplateOrigin, Timestamp,
    },
    encoder::{EncoderOptions, Encoders, Limits, Placements, Urgency},
    gallery::{Gallery, GalleryOptions},
    matcher::{CollectionDraft, MatcherOptions, Once, Parts, Principal},
    store::{self, StoreOptions},
};

/// Each look at it is a microsecond later: what was appended at once has one time, and nothing else has it.
#[derive(Debug, Default)]
pub(in crate::matcher) struct Ticks(AtomicI64);

impl Clock for Ticks {
    fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(self.0.fetch_add(1, Ordering::Relaxed)).expect("within the calendar")
    }
}

#[derive(Debug, Default)]
pub(in crate::matcher) struct Numbers(AtomicU64);

impl IdSource for Numbers {
    fn fresh(&self) -> Uuid {
        Uuid::from_u128(u128::from(self.0.fetch_add(1, Ordering::Relaxed)) + 1)
    }
}

/// A matcher on an empty database in memory, and its one collection.
pub(in crate::matcher) struct Bench {
    pub(in crate::matcher) matcher: Matcher,
    pub(in crate::matcher) open: Open,
}

impl Bench {
    pub(in crate::matcher) async fn new(commit_writes_max: usize) -> Self {
        let url = "sqlite::memory:".to_owned();
        let options = StoreOptions { url, connections_max: 4, acquire_timeout: Duration::from_secs(30) };
        let store = store::connect(&options).await.expect("connected");
        store.migrate().await.expect("migrated");
        let parts = Parts {
            store,
            gallery: Arc::new(Gallery::new(GalleryOptions::default())),
            encoders: Arc::new(no_encoders().await),
            clock: Arc::new(Ticks::default()),
            ids: Arc::new(Numbers::default()),
        };
        let matcher = Matcher::new(parts, options_with(commit_writes_max));
        let id = CollectionId::new("staff").expect("an id");
        let draft = CollectionDraft { id: Some(id.clone()), ..CollectionDraft::default() };
        matcher.create_collection(&context(None), draft).await.expect("created");
        let open = matcher.open(&id).await.expect("open");
        Self { matcher, open }
    }

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
        self.matcher.store.entries_after(uid, Position::START, 1000).await.expect("entries")
    }
}

type Answer = Result<Enrolled, Fault>;

pub(in crate::matcher) async fn no_encoders() -> Encoders {
    let limits = Limits {
        image_bytes_max: 1,
        image_pixels_max: 1,
        skeleton_frames_max: 1,
        track_frames_max: 1,
        detect_side_px_max: 64,
    };
    let options = EncoderOptions {
        models_dir: "no such folder".into(),
        batch_max: 1,
        linger: Duration::ZERO,
        queue_max: 1,
        workers_per_model: 1,
        placements: Placements::default(),
        preparation_threads: 1,
        limits,
    };
    Encoders::start(options).await.expect("none to start")
}

pub(in crate::matcher) fn options_with(commit_writes_max: usize) -> MatcherOptions {
    MatcherOptions {
        samples_max: 8,
        templates_per_identity_max: 3,
        candidates_max: 10,
        search_threads: 1,
        search_queue_max: 1,
        rehearsal_trials_max: 1,
        calibrations_max: 32,
        outsiders_max: 5000,
        calibration_wait: Duration::ZERO,
        commit_writes_max,
        commit_templates_max: 100,
        consistency_wait: Duration::ZERO,
        follow_interval: Duration::ZERO,
        snapshot_interval: Duration::ZERO,
        bulk_in_flight_max: 1,
        sweep_interval: Duration::ZERO,
        decisions_kept: Duration::ZERO,
        records_queue_max: 1,
        review_cases_max: 1,
        review_cases_kept: Duration::from_hours(24),
        operations_running_max: 2,
        operation_pairs_max: 1000,
        operation_findings_max: 1000,
        operations_kept: Duration::from_hours(24),
        review_trials_max: 1,
    }
}

pub(in crate::matcher) fn context(request: Option<&str>) -> Context {
    let once = request.map(|id| Once { method: "enroll", request_id: id.to_owned(), body_hash: [7; 32] });
    let deadline = Instant::now() + Duration::from_mins(1);
    Context { principal: Principal::new("tests"), deadline, once, urgency: Urgency::Interactive }
}

pub(in crate::matcher) fn wish(identity: &str, templates: usize) -> Wish {
    let space = EmbeddingSpace::whole(Modality::Face, ModelDigest([1; 32]), 2);
    let encoded = Encoded {
        embedding: Embedding::new(space, &[3.0, 4.0]).expect("an embedding"),
        model: SpaceName::new("mine").expect("a name"),
        origin: TemplateOrigin::Embedding,
        external: true,
        report: SampleReport::default(),
    };
    Wish {
        identity: IdentityId::new(identity).expect("an id"),
        labels: Labels::default(),
        encoded: vec![encoded; templates],
        samples: Vec::new(),
    }
}

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
        let stored = bench.matcher.store.template(bench.open.collection.uid, template.id).await.expect("read");
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

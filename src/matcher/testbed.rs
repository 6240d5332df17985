//! What the tests of the matcher share: a matcher on an empty in-memory database, and requests to it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{
    CollectionDraft, Context, IdempotentRequest, Matcher, MatcherOptions, MatcherParts, Principal, Urgency,
    collection::{collection_handle::CollectionHandle, group_commit::EnrollWrite},
    options::{JudgingOptions, ReplicaOptions, WriteOptions},
    recognition::sample_encoders::{SampleEncoder, SampleEncoders},
};
use domain::{
    Clock, CollectionId, Embedding, EmbeddingSpace, Encoded, IdSource, IdentityId, Labels, Modality, ModelDigest,
    SampleReport, SpaceName, TemplateOrigin, Timestamp,
};
use encoder::LoadedModel;
use gallery::{Gallery, GalleryOptions};
use store::StoreOptions;

/// A matcher on an empty in-memory database, and its one collection.
pub(super) struct Testbed {
    pub(super) matcher: Matcher,
    pub(super) handle: CollectionHandle,
}

impl Testbed {
    pub(super) async fn new(commit_writes_max: usize) -> Self {
        Box::pin(Self::with(options(commit_writes_max), CollectionDraft::default(), Arc::new(NoEncoders))).await
    }

    /// The id of the collection is `staff`, whatever the draft says.
    pub(super) async fn with(
        options: MatcherOptions,
        draft: CollectionDraft,
        encoders: Arc<dyn SampleEncoders>,
    ) -> Self {
        let url = "sqlite::memory:".to_owned();
        let store_options = StoreOptions { acquire_timeout: Duration::from_secs(30), ..StoreOptions::new(url) };
        let store = store::connect(&store_options).await.expect("connected");
        store.migrate().await.expect("migrated");
        let parts = MatcherParts {
            store,
            gallery: Arc::new(Gallery::new(GalleryOptions::default())),
            encoders,
            clock: Arc::new(SteppingClock::default()),
            ids: Arc::new(CountingIds::default()),
        };
        let matcher = Matcher::new(parts, options);
        let id = CollectionId::new("staff").expect("an id");
        let draft = CollectionDraft { id: Some(id.clone()), ..draft };
        Box::pin(matcher.create_collection(&context(None), draft)).await.expect("created");
        let handle = matcher.replica.open(&id).await.expect("open");
        Self { matcher, handle }
    }
}

/// Each reading is one microsecond later: entries of one append share their time, and no others do.
#[derive(Debug, Default)]
struct SteppingClock(AtomicI64);

impl Clock for SteppingClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(self.0.fetch_add(1, Ordering::Relaxed)).expect("within the calendar")
    }
}

#[derive(Debug, Default)]
struct CountingIds(AtomicU64);

impl IdSource for CountingIds {
    fn fresh(&self) -> Uuid {
        Uuid::from_u128(u128::from(self.0.fetch_add(1, Ordering::Relaxed)) + 1)
    }
}

/// A server without models.
#[derive(Debug)]
pub(super) struct NoEncoders;

impl SampleEncoders for NoEncoders {
    fn for_modality(&self, _: Modality) -> Option<&dyn SampleEncoder> {
        None
    }

    fn by_name(&self, _: &SpaceName) -> Option<&dyn SampleEncoder> {
        None
    }

    fn by_digest(&self, _: ModelDigest) -> Option<&dyn SampleEncoder> {
        None
    }

    fn models(&self) -> Vec<LoadedModel> {
        Vec::new()
    }
}

/// Few templates per identity, small commits, and no waits.
pub(super) fn options(commit_writes_max: usize) -> MatcherOptions {
    MatcherOptions {
        writes: WriteOptions {
            templates_per_identity_max: 3,
            commit_writes_max,
            repeat_window: Duration::ZERO,
            ..WriteOptions::default()
        },
        replica: ReplicaOptions { consistency_wait: Duration::ZERO, ..ReplicaOptions::default() },
        judging: JudgingOptions { rehearsal_trials_max: 1, calibration_wait: Duration::ZERO },
        ..MatcherOptions::default()
    }
}

pub(super) fn context(request_id: Option<&str>) -> Context {
    let idempotent =
        request_id.map(|id| IdempotentRequest { method: "enroll", request_id: id.to_owned(), body_hash: [7; 32] });
    let deadline = Instant::now() + Duration::from_mins(1);
    Context { principal: Principal::new("tests"), deadline, idempotent, urgency: Urgency::Interactive }
}

pub(super) fn enroll_write(identity: &str, templates: usize) -> EnrollWrite {
    let space = EmbeddingSpace::whole(Modality::Face, ModelDigest([1; 32]), 2);
    let encoded = Encoded {
        embedding: Embedding::new(space, &[3.0, 4.0]).expect("an embedding"),
        model: SpaceName::new("mine").expect("a name"),
        origin: TemplateOrigin::Embedding,
        external: true,
        report: SampleReport::default(),
    };
    EnrollWrite {
        identity: IdentityId::new(identity).expect("an id"),
        labels: Labels::default(),
        encoded: vec![encoded; templates],
        samples: Vec::new(),
    }
}

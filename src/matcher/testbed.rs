//! What the matcher's tests share: a matcher on an empty database in memory, and someone who asks it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{
    CollectionDraft, Context, Matcher, MatcherOptions, Once, Parts, Principal, Urgency, directory::Open, together::Wish,
};
use domain::{
    Clock, CollectionId, Embedding, EmbeddingSpace, Encoded, IdSource, IdentityId, Labels, Modality, ModelDigest,
    SampleReport, SpaceName, TemplateOrigin, Timestamp,
};
use encoder::{EncoderOptions, Encoders, Placements, SampleLimits};
use gallery::{Gallery, GalleryOptions};
use store::StoreOptions;

/// A matcher on an empty database in memory, and its one collection.
pub(super) struct Bench {
    pub(super) matcher: Matcher,
    pub(super) open: Open,
}

impl Bench {
    pub(super) async fn new(commit_writes_max: usize) -> Self {
        Box::pin(Self::with(options_with(commit_writes_max), CollectionDraft::default())).await
    }

    /// The collection is called staff, whatever the draft says.
    pub(super) async fn with(options: MatcherOptions, draft: CollectionDraft) -> Self {
        let url = "sqlite::memory:".to_owned();
        let store_options = StoreOptions { url, connections_max: 4, acquire_timeout: Duration::from_secs(30) };
        let store = store::connect(&store_options).await.expect("connected");
        store.migrate().await.expect("migrated");
        let parts = Parts {
            store,
            gallery: Arc::new(Gallery::new(GalleryOptions::default())),
            encoders: Arc::new(Box::pin(no_encoders()).await),
            clock: Arc::new(Ticks::default()),
            ids: Arc::new(Numbers::default()),
        };
        let matcher = Matcher::new(parts, options);
        let id = CollectionId::new("staff").expect("an id");
        let draft = CollectionDraft { id: Some(id.clone()), ..draft };
        Box::pin(matcher.create_collection(&context(None), draft)).await.expect("created");
        let open = matcher.open(&id).await.expect("open");
        Self { matcher, open }
    }
}

/// Each look at it is a microsecond later: what was appended at once has one time, and nothing else has it.
#[derive(Debug, Default)]
struct Ticks(AtomicI64);

impl Clock for Ticks {
    fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(self.0.fetch_add(1, Ordering::Relaxed)).expect("within the calendar")
    }
}

#[derive(Debug, Default)]
struct Numbers(AtomicU64);

impl IdSource for Numbers {
    fn fresh(&self) -> Uuid {
        Uuid::from_u128(u128::from(self.0.fetch_add(1, Ordering::Relaxed)) + 1)
    }
}

async fn no_encoders() -> Encoders {
    let limits = SampleLimits {
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

pub(super) fn options_with(commit_writes_max: usize) -> MatcherOptions {
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

pub(super) fn context(request: Option<&str>) -> Context {
    let once = request.map(|id| Once { method: "enroll", request_id: id.to_owned(), body_hash: [7; 32] });
    let deadline = Instant::now() + Duration::from_mins(1);
    Context { principal: Principal::new("tests"), deadline, once, urgency: Urgency::Interactive }
}

pub(super) fn wish(identity: &str, templates: usize) -> Wish {
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

//! The use cases: enroll, verify, search, resolve and the care of collections, identities and templates, one file
//! each, under both transports.
//!
//! This room joins the middle rooms, which never see each other: the encoders make embeddings, the gallery finds the
//! nearest, decision judges, the store keeps. It never names a wire format, a status code, a database or a tensor.
//!
//! Searches run on the gallery alone, so they survive an outage of the database. Whatever changes a collection takes
//! its turn first: `turn.rs` says how.

mod batch;
mod calibrate;
mod calibrations;
mod collections;
mod compare;
mod context;
mod decisions;
mod directory;
mod enroll;
mod fault;
mod follow;
mod fusion;
mod gate;
mod idempotency;
mod identities;
mod keep;
mod models;
mod operations;
mod passes;
mod pins;
mod plan;
mod pool;
mod probe;
#[cfg(test)]
mod promises;
mod records;
mod replay;
mod rerank;
mod resolve;
mod review;
mod search;
mod self_paced;
mod survey;
mod templates;
#[cfg(test)]
mod testbed;
mod together;
mod turn;
mod verify;
mod watch;

use std::{future::Future, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

pub use calibrations::{Calibrated, CalibrationDraft, CalibrationState};
pub use collections::{CollectionDraft, CollectionPatch, DeclaredSpace};
pub use compare::{Compared, Extracted, Extraction};
pub use context::{Context, Once, Principal, Urgency};
pub use decisions::{Decided, Evidence, Replayed};
pub use enroll::{Enrolled, Enrollment};
pub use fault::{Fault, FaultKind};
pub use identities::{IdentityDraft, IdentityPatch};
pub use models::{Model, ModelTask};
pub use operations::ShownOperation;
pub use replay::ReplayProgress;
pub use resolve::{Resolution, ResolveMode, Resolved};
pub use review::{LEASE, LEASE_MAX, Learning, ReviewClaim, ReviewVerdict, Reviewed};
pub use search::{Found, Search};
pub use survey::{Listing, SurveyDraft};
pub use turn::ConsistencyToken;
pub use verify::{Verification, Verified};

use domain::{Clock, CollectionStats, IdSource, Timestamp};
use encoder::Encoders;
use gallery::{Bytes, Gallery, Watched};
use store::Store;

/// The limits of the use cases; filled from the configuration.
#[derive(Debug, Clone)]
pub struct MatcherOptions {
    /// The most samples of one request.
    pub samples_max: usize,
    /// The most templates of one identity: near-duplicates by the hundred spoil a graph for everybody.
    pub templates_per_identity_max: u64,
    /// The most candidates of one answer.
    pub candidates_max: usize,
    /// The most samples of batches that are worked on at once, all batches together. Fewer than a queue has places, so
    /// that whoever waits for an answer finds one.
    pub bulk_in_flight_max: usize,
    /// How many gallery searches run at once.
    pub search_threads: usize,
    /// How many searches may wait for their turn on those threads.
    pub search_queue_max: usize,
    /// The most templates that a rehearsal tries.
    pub rehearsal_trials_max: usize,
    /// The most calibrations that a collection keeps.
    pub calibrations_max: u64,
    /// The most outsiders that one calibration takes.
    pub outsiders_max: usize,
    /// How long a request waits for a calibration that is being made, before it goes on with what there is.
    pub calibration_wait: Duration,
    /// The most enrolls that share a commit.
    pub commit_writes_max: usize,
    /// The most templates that one commit of several enrolls brings.
    pub commit_templates_max: usize,
    /// How long a read waits for the write that its token stands for.
    pub consistency_wait: Duration,
    /// How often the logs are asked for what other replicas appended; zero for never.
    pub follow_interval: Duration,
    /// How often snapshots of the gallery are taken, where it has changed; zero for never.
    pub snapshot_interval: Duration,
    /// How often what has expired is removed; zero for never.
    pub sweep_interval: Duration,
    /// How long decision records are kept.
    pub decisions_kept: Duration,
    /// The most decision records that wait to be written.
    pub records_queue_max: usize,
    /// The most review cases of one collection that wait for a verdict.
    pub review_cases_max: u64,
    /// How long a review case is kept, with its samples as embeddings.
    pub review_cases_kept: Duration,
    /// The most operations of one collection that run or wait to run.
    pub operations_running_max: u64,
    /// The most pairs of templates that a look at everybody keeps in hand.
    pub operation_pairs_max: usize,
    /// The most pairs, or templates in clusters, that an operation keeps.
    pub operation_findings_max: usize,
    /// How long an operation is kept, with what it found.
    pub operations_kept: Duration,
    /// The most verdicts of one collection of which it is kept what they showed.
    pub review_trials_max: u64,
}

/// What the use cases are made of.
#[derive(Debug)]
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub gallery: Arc<Gallery>,
    pub encoders: Arc<Encoders>,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn IdSource>,
}

/// The use cases. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Matcher {
    store: Arc<dyn Store>,
    gallery: Arc<Gallery>,
    encoders: Arc<Encoders>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    options: Arc<MatcherOptions>,
    directory: Arc<directory::Directory>,
    calibrations: Arc<calibrate::Calibrations>,
    operations: Arc<operations::Operations>,
    pool: Arc<pool::Pool>,
    /// Room for the samples of batches.
    bulk: Arc<Semaphore>,
    records: Arc<records::Records>,
    watched: Arc<Mutex<Watched>>,
    /// What goes on when its caller hangs up: writes that were begun, calibrations, operations.
    tasks: TaskTracker,
}

impl Matcher {
    /// Joins the rooms. Nothing is served before [`Matcher::replay`].
    #[must_use]
    pub fn new(parts: Parts, options: MatcherOptions) -> Self {
        let Parts { store, gallery, encoders, clock, ids } = parts;
        let tasks = TaskTracker::new();
        let records = records::Records::start(Arc::clone(&store), &tasks, options.records_queue_max);
        Self {
            store,
            gallery,
            encoders,
            clock,
            ids,
            directory: Arc::default(),
            calibrations: Arc::default(),
            operations: Arc::default(),
            pool: Arc::new(pool::Pool::new(options.search_threads, options.search_queue_max)),
            bulk: Arc::new(Semaphore::new(options.bulk_in_flight_max)),
            records: Arc::new(records),
            watched: Arc::default(),
            tasks,
            options: Arc::new(options),
        }
    }

    /// How many collections are open.
    #[must_use]
    pub fn collection_count(&self) -> usize {
        self.directory.len()
    }

    /// The instant that answers are given at.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// How much all of them hold in memory.
    #[must_use]
    pub fn totals(&self) -> CollectionStats {
        self.gallery.totals()
    }

    /// How many bytes the galleries take, part by part.
    #[must_use]
    pub fn gallery_bytes(&self) -> Bytes {
        self.gallery.bytes()
    }

    /// Lets the database and the snapshots let go of deleted bytes. What does not succeed now is tried again by the next sweep.
    async fn scrub(&self) {
        self.scrub_snapshots().await;
        if let Err(error) = self.store.scrub().await {
            tracing::warn!(%error, "deleted bytes still lie in the database's files; the next sweep tries again");
        }
    }

    /// Waits until everything that was begun has ended; afterwards the store may be closed.
    pub async fn finish(&self) {
        self.stop_operations();
        self.records.close();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Runs a write to its end even if its caller hangs up: a turn that is being committed must also reach the gallery.
    async fn detached<T: Send + 'static>(
        &self,
        write: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Fault> {
        self.tasks.spawn(write.in_current_span()).await.map_err(Fault::internal)?
    }
}

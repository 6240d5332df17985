//! The use cases: enroll, verify, search, resolve and the management of collections, identities and templates, under both
//! transports.
//!
//! The matcher joins the packages that do not know each other: encoders make embeddings, the gallery finds the nearest
//! ones, `decision` decides, the store keeps. It never names a wire format, a status code, a database or a tensor.
//!
//! Its folders, lowest first: `request` (context, token, faults), `recognition` (samples to embeddings), `collection` (the state of one open collection),
//! `replica` (the open collections of this process), `turn` (writes), `judging` (what similarities mean), `use_cases`. Each
//! imports only those before it.
//!
//! A search uses the gallery alone, so it works while the database is down. Every change of a collection happens in its
//! turn; `turn/collection_turn.rs` describes it.

mod collection;
mod judging;
mod options;
mod recognition;
mod replica;
mod request;
#[cfg(test)]
mod testbed;
mod turn;
mod use_cases;

use std::{sync::Arc, time::Duration};

use tokio_util::task::TaskTracker;

pub use collection::group_commit::EnrollResult;
pub use judging::Judging;
pub use options::{
    CalibrationOptions, DecisionOptions, HousekeepingOptions, JudgingOptions, MatcherOptions, OperationOptions,
    RecognitionOptions, ReplicaOptions, ReviewOptions, ScanLimits, WriteOptions,
};
pub use recognition::sample_encoders::{SampleEncoder, SampleEncoders};
pub use replica::{Removal, Replica, load::LoadProgress};
pub use request::{
    consistency_token::ConsistencyToken,
    context::{Context, IdempotentRequest, Principal, Urgency},
    fault::{Fault, FaultKind},
};
pub use use_cases::{
    calibrations::{Activation, CalibrationDraft, CalibrationState, CalibrationUseCases, CalibrationView},
    collections::{CollectionDraft, CollectionPatch, DeclaredSpace},
    compare::{CompareResult, ExtractedEmbedding, Extraction},
    decisions::{DecisionReplay, PastDecision},
    enroll::Enrollment,
    findings::FoundPair,
    identities::{IdentityDraft, IdentityPatch, ListedIdentities},
    models::{Model, ModelTask},
    operations::{OperationUseCases, OperationView},
    regroup::{MergeDraft, MergedLabels, Regrouped, RegroupingSummary, SplitDraft},
    resolve::Resolution,
    resolve_result::{Evidence, ResolveMode, ResolveResult},
    revert::{RevertDraft, RevertExtent},
    review::{LEASE, LEASE_MAX, Learning, ReviewClaim, ReviewVerdict, ReviewedCase, Reviews},
    search::{Search, SearchResult},
    survey::{Listing, SurveyDraft},
    verify::{Verification, VerifyResult},
};

use collection::scans::Scans;
use domain::{Clock, IdSource, Timestamp};
use gallery::Gallery;
use judging::JudgingParts;
use recognition::Recognition;
use replica::ReplicaParts;
use store::Store;
use turn::{WriteParts, Writes};
use use_cases::{calibrations::CalibrationParts, decision_log::DecisionLog, operations::OperationParts};

/// What the matcher is made of.
#[derive(Debug)]
pub struct MatcherParts {
    pub store: Arc<dyn Store>,
    pub gallery: Arc<Gallery>,
    pub encoders: Arc<dyn SampleEncoders>,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn IdSource>,
}

/// The use cases. Cheap to clone; clones share all state.
#[derive(Debug, Clone)]
pub struct Matcher {
    pub replica: Replica,
    pub judging: Judging,
    pub calibrations: CalibrationUseCases,
    pub reviews: Reviews,
    pub operations: OperationUseCases,
    recognition: Recognition,
    scans: Scans,
    writes: Writes,
    decision_log: Arc<DecisionLog>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    decisions_kept: Duration,
    sweep_interval: Duration,
    /// Work that continues when its caller hangs up: begun writes, rehearsals, operations.
    tasks: TaskTracker,
}

impl Matcher {
    /// Joins the parts. No request may be served before [`Replica::load_all`] returns.
    #[must_use]
    pub fn new(parts: MatcherParts, options: MatcherOptions) -> Self {
        let MatcherParts { store, gallery, encoders, clock, ids } = parts;
        let tasks = TaskTracker::new();
        let recognition = Recognition::new(encoders, &options.recognition);
        let scans = Scans::new(&options.scans, Arc::clone(&clock));
        let replica = Replica::new(
            ReplicaParts {
                store: Arc::clone(&store),
                gallery: Arc::clone(&gallery),
                recognition: recognition.clone(),
                tasks: tasks.clone(),
            },
            options.replica,
        );
        let writes = Writes::new(
            WriteParts {
                store: Arc::clone(&store),
                gallery,
                clock: Arc::clone(&clock),
                ids: Arc::clone(&ids),
                replica: replica.clone(),
                tasks: tasks.clone(),
            },
            options.writes,
        );
        let judging = Judging::new(
            JudgingParts {
                store: Arc::clone(&store),
                clock: Arc::clone(&clock),
                recognition: recognition.clone(),
                replica: replica.clone(),
                scans: scans.clone(),
                tasks: tasks.clone(),
            },
            options.judging,
        );
        let calibrations = CalibrationUseCases::new(
            CalibrationParts {
                store: Arc::clone(&store),
                clock: Arc::clone(&clock),
                ids: Arc::clone(&ids),
                recognition: recognition.clone(),
                judging: judging.clone(),
                writes: writes.clone(),
            },
            options.calibrations,
        );
        let operations = OperationUseCases::new(
            OperationParts {
                store: Arc::clone(&store),
                clock: Arc::clone(&clock),
                ids: Arc::clone(&ids),
                writes: writes.clone(),
                tasks: tasks.clone(),
            },
            options.operations,
        );
        let reviews = Reviews::new(Arc::clone(&store), Arc::clone(&clock), writes.clone(), options.reviews);
        let decision_log = Arc::new(DecisionLog::start(Arc::clone(&store), &tasks, options.decisions.queue_max));
        Self {
            replica,
            judging,
            calibrations,
            reviews,
            operations,
            recognition,
            scans,
            writes,
            decision_log,
            store,
            clock,
            ids,
            decisions_kept: options.decisions.kept,
            sweep_interval: options.housekeeping.sweep_interval,
            tasks,
        }
    }

    /// The time of the matcher's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Waits until all begun work has ended; after that the store may be closed.
    pub async fn finish(&self) {
        self.operations.stop();
        self.decision_log.close();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

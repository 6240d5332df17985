//! The limits of the use cases, one struct for each owner of state. `app` fills them from the configuration.

use std::{thread, time::Duration};

use domain::PROVISIONAL_TEMPLATES_MAX;

const DAY: Duration = Duration::from_hours(24);

/// All limits of the matcher.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MatcherOptions {
    pub recognition: RecognitionOptions,
    pub scans: ScanLimits,
    pub replica: ReplicaOptions,
    pub judging: JudgingOptions,
    pub writes: WriteOptions,
    pub calibrations: CalibrationOptions,
    pub decisions: DecisionOptions,
    pub reviews: ReviewOptions,
    pub operations: OperationOptions,
    pub housekeeping: HousekeepingOptions,
}

/// Limits of encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecognitionOptions {
    /// Maximum samples per request.
    pub samples_max: usize,
}

impl Default for RecognitionOptions {
    fn default() -> Self {
        Self { samples_max: 32 }
    }
}

/// Limits of gallery scans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanLimits {
    /// Maximum candidates per answer.
    pub candidates_max: usize,
    /// Gallery scans that run at once.
    pub threads: usize,
    /// Gallery scans that may wait for a thread; more are refused.
    pub queue_max: usize,
}

impl Default for ScanLimits {
    fn default() -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        Self { candidates_max: 1000, threads, queue_max: 256 }
    }
}

/// How this process follows the log and takes snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaOptions {
    /// How long a read waits for the write of its consistency token.
    pub consistency_wait: Duration,
    /// Interval between two polls of the logs; zero for none.
    pub follow_interval: Duration,
    /// Interval between two snapshots of a gallery that changed; zero for none.
    pub snapshot_interval: Duration,
}

impl Default for ReplicaOptions {
    fn default() -> Self {
        Self {
            consistency_wait: Duration::from_secs(2),
            follow_interval: Duration::from_secs(1),
            snapshot_interval: Duration::from_mins(5),
        }
    }
}

/// Limits of automatic calibrations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JudgingOptions {
    /// Maximum templates that a rehearsal tries.
    pub rehearsal_trials_max: usize,
    /// How long a request waits for its first calibration before it continues without one.
    pub calibration_wait: Duration,
}

impl Default for JudgingOptions {
    fn default() -> Self {
        Self { rehearsal_trials_max: 2000, calibration_wait: Duration::from_millis(250) }
    }
}

/// Limits of writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteOptions {
    /// Maximum templates per identity. Hundreds of near-duplicates degrade the graph for all identities.
    pub templates_per_identity_max: u64,
    /// Maximum templates per provisional identity; never more than per identity.
    pub provisional_templates_max: u64,
    /// Maximum enrolls per commit.
    pub commit_writes_max: usize,
    /// Maximum templates per commit of several enrolls.
    pub commit_templates_max: usize,
    /// Maximum samples of batches in work at once, over all batches. Smaller than a model's queue, so that an
    /// interactive request finds a free slot.
    pub bulk_in_flight_max: usize,
    /// How long an enroll without a request id is compared with earlier ones of its identity. Zero: never.
    pub repeat_window: Duration,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            templates_per_identity_max: 100,
            provisional_templates_max: PROVISIONAL_TEMPLATES_MAX,
            commit_writes_max: 128,
            commit_templates_max: 1024,
            bulk_in_flight_max: 64,
            repeat_window: Duration::from_mins(1),
        }
    }
}

/// Limits of stored calibrations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalibrationOptions {
    /// Maximum calibrations kept per collection.
    pub calibrations_max: u64,
    /// Maximum samples of non-enrolled people per calibration.
    pub outsiders_max: usize,
}

impl Default for CalibrationOptions {
    fn default() -> Self {
        Self { calibrations_max: 32, outsiders_max: 5000 }
    }
}

/// Limits of decision records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionOptions {
    /// Retention of decision records.
    pub kept: Duration,
    /// Maximum records that wait to be written; more are dropped and counted.
    pub queue_max: usize,
}

impl Default for DecisionOptions {
    fn default() -> Self {
        Self { kept: 90 * DAY, queue_max: 4096 }
    }
}

/// Limits of review.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReviewOptions {
    /// Maximum undecided review cases per collection.
    pub cases_max: u64,
    /// Retention of a review case with its embeddings.
    pub cases_kept: Duration,
    /// Maximum review trials kept per collection.
    pub trials_max: u64,
}

impl Default for ReviewOptions {
    fn default() -> Self {
        Self { cases_max: 10_000, cases_kept: 30 * DAY, trials_max: 5000 }
    }
}

/// Limits of operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationOptions {
    /// Maximum operations of one collection that run or wait.
    pub running_max: u64,
    /// Maximum template pairs that a survey holds in memory.
    pub pairs_max: usize,
    /// Maximum findings (pairs, or templates in clusters) that an operation keeps.
    pub findings_max: usize,
    /// Retention of an operation with its findings.
    pub kept: Duration,
}

impl Default for OperationOptions {
    fn default() -> Self {
        Self { running_max: 2, pairs_max: 5_000_000, findings_max: 20_000, kept: 7 * DAY }
    }
}

/// Background work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HousekeepingOptions {
    /// Interval between two removals of expired records; zero for none.
    pub sweep_interval: Duration,
}

impl Default for HousekeepingOptions {
    fn default() -> Self {
        Self { sweep_interval: Duration::from_mins(1) }
    }
}

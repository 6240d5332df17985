//! The metrics that the server records: one table of names, kinds, units, labels and descriptions.
//!
//! It stands in this package because every package that records imports it already. It holds names only: the recorder
//! and its exporter are the root package's.

/// How a metric is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// A total that only rises.
    Counter,
    /// A value that rises and falls.
    Gauge,
    /// Samples in buckets.
    Histogram,
}

/// What one of a metric's numbers is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricUnit {
    Count,
    Seconds,
    Bytes,
    /// From 0 to 1.
    Ratio,
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// The name of its constant in this module.
    pub constant: &'static str,
    /// The name that Prometheus reads.
    pub name: &'static str,
    pub kind: MetricKind,
    pub unit: MetricUnit,
    /// Its label names, in order.
    pub labels: &'static [&'static str],
    /// One sentence for operators.
    pub help: &'static str,
}

macro_rules! table {
    ($($constant:ident = $name:literal, $kind:ident, $unit:ident, [$($label:literal),*], $help:literal;)+) => {
        $(#[doc = $help] pub const $constant: &str = $name;)+

        /// Every metric, in the order of the documentation.
        pub const METRICS: &[Metric] = &[$(Metric {
            constant: stringify!($constant),
            name: $name,
            kind: MetricKind::$kind,
            unit: MetricUnit::$unit,
            labels: &[$($label),*],
            help: $help,
        }),+];
    };
}

table! {
    REQUESTS = "semblance_requests_total", Counter, Count, ["transport", "method", "code"],
        "Requests by transport, method and gRPC code.";
    REQUEST_DURATION = "semblance_request_duration_seconds", Histogram, Seconds, ["transport", "method"],
        "Duration of requests.";
    CONNECTIONS = "semblance_connections", Gauge, Count, ["transport"],
        "Open connections.";
    CONNECTIONS_CLOSED = "semblance_connections_closed_total", Counter, Count, ["transport", "reason"],
        "Connections that the server closed: header (the head took too long), idle, unread (the answer was not read), crowded (at the limit of connections).";
    ACCEPTS_REFUSED = "semblance_accepts_refused_total", Counter, Count, ["transport"],
        "Failures to accept a connection, such as no free file descriptor.";
    MEMORY_TAKEN = "semblance_memory_taken_bytes", Gauge, Bytes, [],
        "Bytes of the memory budget that requests hold.";
    MEMORY_REFUSED = "semblance_memory_refused_total", Counter, Count, [],
        "Times that a request was refused further memory.";
    BATCH_ENTRIES = "semblance_batch_entries_total", Counter, Count, ["code"],
        "Entries of batch enrollments by gRPC code.";
    DECISIONS = "semblance_decisions_total", Counter, Count, ["decision"],
        "Answers of resolve by decision.";
    DECISION_RECORDS_DROPPED = "semblance_decision_records_dropped_total", Counter, Count, [],
        "Decision records that could not be stored.";
    REVIEW_CASES = "semblance_review_cases_total", Counter, Count, ["event"],
        "Review cases, and uncertain answers that opened none, by event.";
    CALIBRATION_STALE = "semblance_calibration_stale", Gauge, Count, [],
        "Collections whose gallery has moved away from their active calibration.";
    OPERATIONS_RUNNING = "semblance_operations_running", Gauge, Count, ["kind"],
        "Operations that run on this server, by kind.";
    OPERATIONS = "semblance_operations_total", Counter, Count, ["kind", "outcome"],
        "Operations that ended on this server, by kind and outcome.";
    QUEUE_DEPTH = "semblance_queue_depth", Gauge, Count, ["model"],
        "Entries that wait for a batch of a model.";
    QUEUE_WAIT = "semblance_queue_wait_seconds", Histogram, Seconds, ["model"],
        "Time that entries waited for a batch of a model.";
    ADMISSION_WAITING = "semblance_admission_waiting", Gauge, Count, [],
        "Samples that wait until their work begins.";
    ADMISSION_WAIT = "semblance_admission_wait_seconds", Histogram, Seconds, [],
        "Time that samples waited until their work began.";
    ADMISSION_REFUSED = "semblance_admission_refused_total", Counter, Count, [],
        "Requests refused before any work, because they would wait too long for others.";
    QUEUE_REFUSED = "semblance_queue_refused_total", Counter, Count, ["model"],
        "Samples refused because a model's queue was full.";
    QUEUE_DROPPED = "semblance_queue_dropped_total", Counter, Count, ["model", "reason"],
        "Entries dropped before inference, by reason.";
    BATCH_LENGTH = "semblance_batch_length", Histogram, Count, ["model"],
        "Entries in a batch of a model.";
    INFERENCE_DURATION = "semblance_inference_seconds", Histogram, Seconds, ["model"],
        "Time that a model took for a batch.";
    MODEL_HEALTHY = "semblance_model_healthy", Gauge, Count, ["model"],
        "1 unless a model failed several times in a row.";
    SEARCH_DURATION = "semblance_search_duration_seconds", Histogram, Seconds, [],
        "Duration of gallery searches.";
    SEARCH_PASS_LENGTH = "semblance_search_pass_length", Histogram, Count, [],
        "Searches that shared one pass over the gallery.";
    COMMIT_LENGTH = "semblance_commit_length", Histogram, Count, [],
        "Enrollments that shared a commit.";
    GALLERY_COLLECTIONS = "semblance_gallery_collections", Gauge, Count, [],
        "Collections in memory.";
    GALLERY_IDENTITIES = "semblance_gallery_identities", Gauge, Count, [],
        "Identities in memory.";
    GALLERY_TEMPLATES = "semblance_gallery_templates", Gauge, Count, [],
        "Templates in memory.";
    GALLERY_BYTES = "semblance_gallery_bytes", Gauge, Bytes, ["part"],
        "Size of the galleries, by part.";
    STORE_WRITABLE = "semblance_store_writable", Gauge, Count, [],
        "1 when the last write to the database worked, else 0.";
    REMOVAL_PENDING = "semblance_removal_pending", Gauge, Count, [],
        "1 while bytes of deleted records are left on disk, because a reader needs them or the disk refused; else 0.";
    GALLERY_LAG = "semblance_gallery_lag_positions", Gauge, Count, [],
        "Log entries of other replicas that this server has not read.";
    GALLERY_NOTIFICATIONS = "semblance_gallery_notifications_total", Counter, Count, [],
        "Notifications of writes by the database, those of this server included.";
    GALLERY_RECALL = "semblance_gallery_recall_ratio", Gauge, Ratio, [],
        "Share of the ten nearest identities that recent graph searches found; NaN without a graph.";
    GALLERY_SNAPSHOTS = "semblance_gallery_snapshots_total", Counter, Count, ["outcome"],
        "Snapshots of the gallery, by outcome.";
    GALLERY_SNAPSHOT_DURATION = "semblance_gallery_snapshot_duration_seconds", Histogram, Seconds, [],
        "Duration of taking a snapshot.";
    GALLERY_PENDING_REMOVALS = "semblance_gallery_pending_removals", Gauge, Count, [],
        "Snapshots on disk that hold deleted data or wait for their removal.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_end_in_what_they_count() {
        let names: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
        for Metric { name, kind, unit, help, .. } in METRICS {
            assert!(name.starts_with("semblance_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == MetricKind::Counter, "{name}");
            assert_eq!(name.ends_with("_seconds"), *unit == MetricUnit::Seconds, "{name}");
            assert_eq!(name.ends_with("_bytes"), *unit == MetricUnit::Bytes, "{name}");
            assert!(help.ends_with('.'), "{name}: {help}");
        }
    }
}

//! Logs and metrics: started first, before anything has something to say.

use std::{
    io::{self, IsTerminal},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

/// Bounds of the duration histograms, in seconds: from a small scan to the longest request.
const DURATIONS: [f64; 15] =
    [0.0001, 0.0003, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 10.0, 30.0];
/// Bounds of the batch length histogram.
const LENGTHS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// How often samples are folded into their histograms.
const FOLDED_EVERY: Duration = Duration::from_secs(5);

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLines {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// Renders the metrics page.
pub type Page = Arc<dyn Fn() -> String + Send + Sync>;

/// Logs go to standard error, as text or as JSON; standard output belongs to what a command answers.
///
/// # Errors
/// When the filter cannot be read.
pub fn start_logs(filter: &str, lines: LogLines) -> anyhow::Result<()> {
    let filter = EnvFilter::builder()
        .parse(filter)
        .with_context(|| format!("SEMBLANCE_LOG {filter:?} is no filter such as info or semblance=debug"))?;
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    let registry = tracing_subscriber::registry().with(filter);
    match lines {
        LogLines::Text => registry.with(layer.with_target(false)).try_init(),
        LogLines::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    }
    .context("logs are started once")
}

/// What was measured.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// The page that Prometheus reads.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Folds samples into their histograms until told to stop: unfolded they would pile up where nobody reads the page.
    pub async fn keep_up(&self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(FOLDED_EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.0.run_upkeep(),
            }
        }
    }
}

/// Metrics, in the form that Prometheus reads.
///
/// # Errors
/// When they were started before.
pub fn start_metrics() -> anyhow::Result<Metrics> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &DURATIONS)?
        .set_buckets_for_metric(Matcher::Suffix("_length".to_owned()), &LENGTHS)?
        .install_recorder()
        .context("metrics are started once")?;
    describe();
    Ok(Metrics(handle))
}

fn describe() {
    describe_counter!("semblance_requests_total", "Requests by transport, method and gRPC code.");
    describe_histogram!("semblance_request_duration_seconds", Unit::Seconds, "How long requests took.");
    describe_counter!("semblance_decisions_total", "Answers of resolve by decision.");
    describe_counter!(
        "semblance_review_cases_total",
        "Review cases, and answers that might have become some, by what happened to them."
    );
    describe_counter!("semblance_decision_records_dropped_total", "Decision records that could not be kept.");
    describe_gauge!(
        "semblance_calibration_stale",
        "Collections with an active calibration that the gallery has moved away from."
    );
    describe_gauge!("semblance_queue_depth", "Entries that hold a place before a model.");
    describe_histogram!("semblance_queue_wait_seconds", Unit::Seconds, "How long entries waited for a batch.");
    describe_histogram!("semblance_batch_length", "Entries in a batch.");
    describe_histogram!("semblance_inference_seconds", Unit::Seconds, "How long a batch took in the network.");
    describe_counter!("semblance_queue_refused_total", "Samples refused because the queue was full.");
    describe_counter!("semblance_queue_dropped_total", "Entries dropped before inference, by reason.");
    describe_histogram!("semblance_search_duration_seconds", Unit::Seconds, "How long gallery searches took.");
    describe_histogram!("semblance_search_pass_length", "Searches that shared a sweep over memory.");
    describe_gauge!(
        "semblance_gallery_recall_ratio",
        "The share of the ten nearest identities that graphs have found of late; NaN where none answers."
    );
    describe_gauge!("semblance_gallery_bytes", Unit::Bytes, "Bytes that the galleries take, by part.");
    describe_counter!("semblance_gallery_snapshots_total", "Snapshots of the gallery, by outcome.");
    describe_histogram!(
        "semblance_gallery_snapshot_duration_seconds",
        Unit::Seconds,
        "How long it took to take a snapshot."
    );
    describe_gauge!("semblance_model_healthy", "1 unless a model failed several times in a row.");
    describe_histogram!("semblance_commit_length", "Enrolls that shared a commit.");
    describe_gauge!("semblance_gallery_templates", "Templates in memory.");
    describe_gauge!("semblance_gallery_identities", "Identities in memory.");
    describe_gauge!("semblance_gallery_collections", "Collections in memory.");
    describe_gauge!(
        "semblance_gallery_lag_positions",
        "Log entries that other replicas wrote and this one has not read."
    );
    describe_counter!("semblance_gallery_notifications_total", "What the database told of writes, own ones included.");
}

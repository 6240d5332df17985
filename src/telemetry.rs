//! Logs and metrics: started first, before anything has something to say.

use std::{
    io::{self, IsTerminal},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use domain::metric::{METRICS, Metric, MetricKind, MetricUnit};
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{EnvFilter, fmt::format::FmtSpan, layer::SubscriberExt, util::SubscriberInitExt};

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
/// A filter that admits debug lines also logs the end of each span, with the time that it was busy and idle.
///
/// # Errors
/// When the filter cannot be read.
pub fn start_logs(filter: &str, lines: LogLines) -> anyhow::Result<()> {
    let filter = EnvFilter::builder()
        .parse(filter)
        .with_context(|| format!("SEMBLANCE_LOG {filter:?} is no filter such as info or semblance=debug"))?;
    let is_debugging = filter.max_level_hint().is_some_and(|level| level >= LevelFilter::DEBUG);
    let span_events = if is_debugging { FmtSpan::CLOSE } else { FmtSpan::NONE };
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_span_events(span_events);
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

    /// Folds samples into their histograms until `stop`. Without it they would accumulate until a read of the metrics page.
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

/// Every metric of the table, whether or not it is recorded later.
fn describe() {
    for Metric { name, kind, unit, help, .. } in METRICS {
        let unit = match unit {
            MetricUnit::Count | MetricUnit::Ratio => Unit::Count,
            MetricUnit::Seconds => Unit::Seconds,
            MetricUnit::Bytes => Unit::Bytes,
        };
        match kind {
            MetricKind::Counter => describe_counter!(*name, unit, *help),
            MetricKind::Gauge => describe_gauge!(*name, unit, *help),
            MetricKind::Histogram => describe_histogram!(*name, unit, *help),
        }
    }
}

//! Builds the server from its modules, starts it and stops it in order.
//!
//! Start: configuration, telemetry, store, models, gallery, listeners. Stop: readiness, listeners, requests in flight,
//! writes in progress, queues and their threads, store.

use std::{
    io::IsTerminal,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::{
    net::TcpListener,
    task::{AbortHandle, JoinHandle},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    api::{AccessRule, Api, ApiParts, ConnectionLimits, OpenConnections, Readiness, RequestLimits, UploadPace},
    config::{GraphFlag, PlaceFlags, Secret, ServeFlags},
    matcher::{
        CalibrationOptions, DecisionOptions, HousekeepingOptions, JudgingOptions, LoadProgress, Matcher,
        MatcherOptions, MatcherParts, OperationOptions, RecognitionOptions, ReplicaOptions, ReviewOptions, ScanLimits,
        WriteOptions,
    },
    telemetry::{Metrics, Page},
};
use domain::{Clock, Device, ErrorChain, IdSource, MemoryBudget, Modality, Timestamp};
use encoder::{AdmissionLimits, EncoderOptions, Encoders, Placements, SampleLimits};
use gallery::{CodeBits, Gallery, GalleryOptions, GraphKind, SnapshotDirLock};
use store::{ListenAddress, Store, StoreError, StoreOptions};

/// The time for writes in progress, queues, threads and database connections to end after the last request.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// The time for the last snapshot at a stop.
const LAST_SNAPSHOT_MAX: Duration = Duration::from_secs(15);

/// The system clock, in microseconds.
#[derive(Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one clock, which all other code gets as a parameter")]
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }
}

/// Version 7 UUIDs.
#[derive(Debug)]
pub struct TimedIds;

impl IdSource for TimedIds {
    #[expect(clippy::disallowed_methods, reason = "the one source of ids, which all other code gets as a parameter")]
    fn fresh(&self) -> Uuid {
        Uuid::now_v7()
    }
}

/// Opens the store. Migrates its schema where `serve` asks for it.
///
/// # Errors
/// When the database cannot be opened or migrated; says what to do.
pub async fn open_store(places: &PlaceFlags, serve: Option<&ServeFlags>) -> anyhow::Result<Arc<dyn Store>> {
    let url = places.database_url();
    let (connections_max, wait) =
        serve.map_or((4, 5000), |s| (s.limits.store_connections_max, s.limits.store_wait_ms_max));
    let listen = match serve.and_then(|s| s.database_listen_url.as_ref()).map(Secret::reveal) {
        None | Some("") => ListenAddress::Database,
        Some("off") => ListenAddress::Off,
        Some(url) => ListenAddress::Url(url.to_owned()),
    };
    let options = StoreOptions {
        url: url.reveal().to_owned(),
        listen,
        connections_max,
        acquire_timeout: Duration::from_millis(wait),
        migrate_wait: Duration::from_secs(places.migrate_seconds_max),
    };
    let snapshots = SnapshotDirLock::count(&places.snapshots_dir());
    // Before the connection, which creates a missing file beside the write-ahead log of the moved one.
    ensure!(snapshots == 0 || !store::is_missing(&options.url), empty_beside_snapshots(places, snapshots));
    let store = store::connect(&options).await.map_err(unreachable_store)?;
    ensure!(snapshots == 0 || !store.is_new().await?, empty_beside_snapshots(places, snapshots));
    if serve.is_some_and(|s| s.auto_migrate) {
        store.migrate().await.context("the database cannot be migrated to the schema of this version")?;
    }
    Ok(store)
}

fn empty_beside_snapshots(places: &PlaceFlags, snapshots: usize) -> String {
    format!(
        "the database of DATABASE_URL is missing or empty, but {} holds snapshots of {snapshots} collections: the database \
         was moved, or DATABASE_URL names another one; put it back, or move that folder away to begin empty",
        places.snapshots_dir().display()
    )
}

fn unreachable_store(error: StoreError) -> anyhow::Error {
    anyhow::Error::new(error).context("cannot open the database of DATABASE_URL")
}

/// A running server.
pub struct Server {
    pub http_addr: SocketAddr,
    pub grpc_addr: SocketAddr,
    /// For the greeting.
    pub loaded: Loaded,
    readiness: Readiness,
    matcher: Matcher,
    encoders: Arc<Encoders>,
    store: Arc<dyn Store>,
    /// Held until the last snapshot is written.
    snapshots: Option<SnapshotDirLock>,
    stop: CancellationToken,
    listeners: Vec<JoinHandle<()>>,
    connections: Arc<OpenConnections>,
    housekeeping: JoinHandle<((), ())>,
    drain: Duration,
    drain_notice: Duration,
}

/// The contents and models of a server after its start.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub store: &'static str,
    pub progress: LoadProgress,
    pub load_took: Duration,
    /// The model per modality; `None` where no model is loaded.
    pub models: Vec<(Modality, Option<String>)>,
    /// A face detector is loaded, so photos need no alignment.
    pub finds_faces: bool,
}

/// Starts everything, in order, with settings that [`ServeFlags::check`] accepts. On return, the server answers requests.
///
/// # Errors
/// When a port, the database or a model package cannot be used.
pub async fn start(places: &PlaceFlags, flags: &ServeFlags, metrics: Metrics) -> anyhow::Result<Server> {
    // The ports first: a port in use is the likeliest mistake, and every other check takes longer.
    let http = bind(flags.http_addr, "REST", "SEMBLANCE_HTTP_ADDR").await?;
    let grpc = bind(flags.grpc_addr, "gRPC", "SEMBLANCE_GRPC_ADDR").await?;
    let store = open_store(places, Some(flags)).await?;
    store.check_schema().await?;
    let memory = MemoryHalves::new(flags);
    let encoders = Arc::new(Encoders::start(encoder_options(places, flags, &memory)).await?);

    let (snapshots, abandoned_snapshots_dir) = match claim_snapshots(places, flags).await {
        SnapshotClaim::Locked(lock) => (Some(lock), None),
        SnapshotClaim::Unused => (None, None),
        SnapshotClaim::Abandoned => (None, Some(places.snapshots_dir())),
    };
    let parts = MatcherParts {
        store: Arc::clone(&store),
        gallery: Arc::new(Gallery::new(GalleryOptions {
            graph_templates_min: flags.limits.graph_from,
            graph: match flags.graph {
                GraphFlag::Compact => GraphKind::Compact,
                GraphFlag::HnswRs => GraphKind::HnswRs,
            },
            graph_build_threads: cores().div_ceil(2),
            templates_max: flags.limits.templates_max,
            code_bits: if flags.limits.code_bits == 4 { CodeBits::Four } else { CodeBits::Eight },
            scan_threads: cores(),
            snapshots_dir: snapshots.as_ref().map(|_| places.snapshots_dir()),
            abandoned_snapshots_dir,
            ..GalleryOptions::default()
        })),
        encoders: Arc::<Encoders>::clone(&encoders),
        clock: Arc::new(SystemClock),
        ids: Arc::new(TimedIds),
    };
    let matcher = Matcher::new(parts, matcher_options(flags));
    let began = Instant::now();
    let loaded = load(&matcher).await?;
    let load_took = began.elapsed();

    let limits = RequestLimits {
        in_flight_max: flags.limits.requests_max,
        duration_max: Duration::from_secs(flags.limits.request_seconds_max),
        body_bytes_max: flags.limits.body_bytes_max,
        json_values_max: flags.limits.json_values_max,
    };
    let metrics_page = metrics_page(matcher.clone(), Arc::clone(&encoders), memory.clone(), metrics.clone());
    let parts = ApiParts {
        matcher: matcher.clone(),
        access: access_rule(flags),
        limits,
        memory: memory.bodies,
        upload_pace: UploadPace {
            bytes_per_second_min: flags.limits.upload_bytes_per_second_min,
            window: Duration::from_secs(flags.limits.upload_window_seconds),
        },
        connections: connection_limits(flags),
        body_threads: cores(),
        cors_origins: flags.cors_origins.0.clone(),
        metrics: metrics_page,
    };
    let api = Api::new(parts).await;
    let stop = CancellationToken::new();
    let (http_addr, grpc_addr) = (http.local_addr()?, grpc.local_addr()?);
    let rest = api.serve_rest(http, stop.clone().cancelled_owned());
    let calls = api.serve_grpc(grpc, stop.clone().cancelled_owned());
    let listeners = vec![tokio::spawn(rest), tokio::spawn(calls)];
    let housekeeping = tokio::spawn({
        let (matcher, stop) = (matcher.clone(), stop.clone());
        async move { tokio::join!(matcher.run_housekeeping(stop.clone()), metrics.keep_up(stop)) }
    });
    let readiness = api.readiness();
    readiness.open().await;
    let models = Modality::ALL
        .into_iter()
        .map(|modality| (modality, encoders.for_modality(modality).map(|e| e.name().to_string())))
        .collect();
    Ok(Server {
        http_addr,
        grpc_addr,
        loaded: Loaded {
            store: store.kind(),
            progress: loaded,
            load_took,
            models,
            finds_faces: encoders.finds_faces(),
        },
        readiness,
        matcher,
        encoders,
        store,
        snapshots,
        stop,
        listeners,
        connections: api.connections(),
        housekeeping,
        drain: flags.drain(),
        drain_notice: Duration::from_secs(flags.drain_notice_seconds),
    })
}

impl Server {
    /// Drains and stops, in order. Requests in flight get the configured time, their writes a few seconds more.
    ///
    /// # Errors
    /// When requests in flight did not end in time and were cut off.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        info!("stopping: no longer ready");
        self.readiness.close().await;
        tokio::time::sleep(self.drain_notice).await;
        self.readiness.end().await;
        self.stop.cancel();
        let cut: Vec<AbortHandle> = self.listeners.iter().map(JoinHandle::abort_handle).collect();
        let drained = tokio::time::timeout(self.drain, async {
            for listener in self.listeners {
                listener.await.context("a listener panicked")?;
            }
            anyhow::Ok(())
        })
        .await;
        let requests = self.connections.requests_in_progress();
        if drained.is_err() {
            cut.iter().for_each(AbortHandle::abort);
        }
        if self.snapshots.is_some()
            && tokio::time::timeout(LAST_SNAPSHOT_MAX, self.matcher.replica.take_last_snapshots()).await.is_err()
        {
            warn!(
                "the last snapshot takes longer than {} s; the next start reads more of the log",
                LAST_SNAPSHOT_MAX.as_secs()
            );
        }
        let closed = tokio::time::timeout(CLOSE_MAX, async {
            self.housekeeping.await.context("housekeeping panicked")?;
            self.matcher.finish().await;
            self.encoders.stop().await;
            self.store.close().await;
            anyhow::Ok(())
        })
        .await;
        match (drained, closed) {
            (Err(_), _) => bail!(
                "{} still in flight after {} s; cut off",
                if requests == 1 { "1 request was".to_owned() } else { format!("{requests} requests were") },
                self.drain.as_secs()
            ),
            (Ok(Err(error)), _) | (_, Ok(Err(error))) => Err(error),
            (_, Err(_)) => {
                bail!(
                    "the store or a model did not close within {} s; nothing acknowledged is lost",
                    CLOSE_MAX.as_secs()
                )
            }
            (Ok(Ok(())), Ok(Ok(()))) => {
                info!("stopped");
                Ok(())
            }
        }
    }

    /// Returns when a listener ends without a stop.
    pub async fn failed(&mut self) -> anyhow::Error {
        let ended = futures::future::select_all(&mut self.listeners).await.0;
        match ended {
            Ok(()) => anyhow::anyhow!("a listener ended without a stop"),
            Err(panic) => anyhow::Error::new(panic).context("a listener panicked"),
        }
    }
}

/// The use of the snapshot folder. Without an exclusive one the server runs too, and reads the whole log at each start.
enum SnapshotClaim {
    Locked(SnapshotDirLock),
    /// The folder holds no snapshot, or another server uses it.
    Unused,
    /// The folder cannot be used. It may hold snapshots of an earlier run, and no erasure reaches them.
    Abandoned,
}

async fn claim_snapshots(places: &PlaceFlags, flags: &ServeFlags) -> SnapshotClaim {
    let folder = places.snapshots_dir();
    let path = folder.display().to_string();
    let wanted = flags.limits.snapshot_interval_seconds > 0;
    if !wanted && !folder.try_exists().unwrap_or(true) {
        return SnapshotClaim::Unused;
    }
    let claim = move || match SnapshotDirLock::acquire(&folder)? {
        // Erasure does not reach a snapshot that is not in use, so an unused one is removed.
        Some(lock) if !wanted => lock.delete_snapshots().map(|()| SnapshotClaim::Unused),
        Some(lock) => Ok(SnapshotClaim::Locked(lock)),
        None => {
            if wanted {
                warn!(
                    path = %folder.display(),
                    "another server uses this snapshot folder; this server writes no snapshots: give it its own data folder"
                );
            }
            Ok(SnapshotClaim::Unused)
        }
    };
    match tokio::task::spawn_blocking(claim).await {
        Ok(Ok(claim)) => return claim,
        Ok(Err(error)) => warn!(path, error = %ErrorChain(&error), "no snapshots: the folder cannot be used"),
        Err(error) => warn!(%error, "no snapshots"),
    }
    SnapshotClaim::Abandoned
}

async fn bind(addr: SocketAddr, wire: &str, variable: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr)
        .await
        .with_context(|| format!("cannot listen for {wire} on {addr}; free the port or set {variable} to another"))
}

/// The memory of requests.
#[derive(Debug, Clone)]
struct MemoryHalves {
    bodies: MemoryBudget,
    /// A half of its own: bodies whose pictures wait to be decoded must not keep these from it.
    pictures: MemoryBudget,
}

impl MemoryHalves {
    fn new(flags: &ServeFlags) -> Self {
        let half = flags.limits.memory_bytes_max / 2;
        Self { bodies: MemoryBudget::new(half), pictures: MemoryBudget::new(half) }
    }
}

fn encoder_options(places: &PlaceFlags, flags: &ServeFlags, memory: &MemoryHalves) -> EncoderOptions {
    let limits = &flags.limits;
    EncoderOptions {
        models_dir: places.models_dir(),
        batch_max: limits.batch_max,
        linger: Duration::from_micros(limits.linger_us_max),
        queue_max: limits.queue_max,
        workers_per_model: limits.workers_per_model,
        placements: Placements { devices: flags.model_devices.0.clone(), threads: flags.model_threads.0.clone() },
        preparation_threads: cores(),
        admission: admission_limits(flags),
        limits: SampleLimits {
            image_bytes_max: limits.image_bytes_max,
            image_pixels_max: limits.image_pixels_max,
            skeleton_frames_max: limits.skeleton_frames_max,
            track_frames_max: limits.track_frames_max,
            detect_side_px_max: limits.detect_side_px_max,
        },
        memory: memory.pictures.clone(),
    }
}

fn matcher_options(flags: &ServeFlags) -> MatcherOptions {
    let limits = &flags.limits;
    MatcherOptions {
        recognition: RecognitionOptions { samples_max: limits.samples_max },
        scans: ScanLimits {
            candidates_max: limits.candidates_max,
            threads: cores(),
            queue_max: limits.search_queue_max,
        },
        replica: ReplicaOptions {
            consistency_wait: Duration::from_millis(limits.consistency_wait_ms_max),
            follow_interval: Duration::from_millis(limits.follow_interval_ms),
            snapshot_interval: Duration::from_secs(limits.snapshot_interval_seconds),
        },
        judging: JudgingOptions {
            rehearsal_trials_max: limits.rehearsal_trials_max,
            calibration_wait: Duration::from_millis(limits.calibration_wait_ms_max),
        },
        writes: WriteOptions {
            templates_per_identity_max: limits.templates_per_identity_max,
            provisional_templates_max: limits.provisional_templates_max,
            commit_writes_max: limits.commit_writes_max,
            commit_templates_max: limits.commit_templates_max,
            bulk_in_flight_max: limits.bulk_in_flight_max,
            repeat_window: Duration::from_secs(limits.repeat_seconds_max),
        },
        calibrations: CalibrationOptions {
            calibrations_max: limits.calibrations_max,
            outsiders_max: limits.outsiders_max,
        },
        decisions: DecisionOptions {
            kept: Duration::from_hours(24 * limits.decisions_kept_days),
            queue_max: limits.records_queue_max,
        },
        reviews: ReviewOptions {
            cases_max: limits.review_cases_max,
            cases_kept: Duration::from_hours(24 * limits.review_cases_kept_days),
            trials_max: limits.review_trials_max,
        },
        operations: OperationOptions {
            running_max: limits.operations_running_max,
            pairs_max: limits.operation_pairs_max,
            findings_max: limits.operation_findings_max,
            kept: Duration::from_hours(24 * limits.operations_kept_days),
        },
        housekeeping: HousekeepingOptions { sweep_interval: Duration::from_secs(limits.sweep_interval_seconds) },
    }
}

fn admission_limits(flags: &ServeFlags) -> AdmissionLimits {
    let limits = &flags.limits;
    let on_cuda = flags.model_devices.0.values().any(|device| *device != Device::Cpu);
    let automatic = if on_cuda { 2 * limits.batch_max.max(cores()) } else { 2 * cores() };
    let in_work_max = if limits.samples_in_work_max == 0 { automatic } else { limits.samples_in_work_max };
    AdmissionLimits { in_work_max, wait_max: Duration::from_millis(limits.wait_ms_max) }
}

/// [`ServeFlags::check`] refuses settings without a rule.
fn access_rule(flags: &ServeFlags) -> AccessRule {
    match &flags.api_key {
        Some(key) => AccessRule::Key(key.reveal().to_owned()),
        None if flags.allow_anonymous => AccessRule::Everybody,
        None => AccessRule::Loopback,
    }
}

fn connection_limits(flags: &ServeFlags) -> ConnectionLimits {
    let limits = &flags.limits;
    // The others are for the database, the snapshots and the models.
    let of_open_files = open_files_max().map_or(usize::MAX, |files| (files / 4 * 3).max(1));
    if of_open_files < limits.connections_max {
        info!(
            connections_max = of_open_files,
            "fewer connections than SEMBLANCE_CONNECTIONS_MAX: three quarters of the limit of open files"
        );
    }
    ConnectionLimits {
        connections_max: limits.connections_max.min(of_open_files),
        header_max: Duration::from_secs(limits.header_seconds_max),
        idle_max: Duration::from_secs(limits.idle_seconds_max),
        streams_max: u32::try_from(limits.requests_max).unwrap_or(u32::MAX),
    }
}

/// The limit of open files of this process; none where the system does not tell.
fn open_files_max() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    soft.split_whitespace().next()?.parse().ok()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Fills the gallery and shows the progress: a spinner on a terminal, otherwise a log line per 100,000 templates.
async fn load(matcher: &Matcher) -> anyhow::Result<LoadProgress> {
    const LOGGED_EVERY: u64 = 100_000;
    let bar = std::io::stderr().is_terminal().then(|| {
        let style = ProgressStyle::with_template("{spinner} loading the gallery: {msg}").expect("a template");
        ProgressBar::new_spinner().with_style(style)
    });
    let mut logged = 0;
    let loaded = matcher
        .replica
        .load_all(|progress| {
            let counts = format!("{} identities, {} templates", progress.identities, progress.templates);
            match &bar {
                Some(bar) => {
                    bar.set_message(counts);
                    bar.tick();
                }
                None if progress.templates >= logged + LOGGED_EVERY => {
                    logged = progress.templates;
                    info!("loading the gallery: {counts}");
                }
                None => {}
            }
        })
        .await
        .context("the gallery cannot be loaded from the database")?;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    Ok(loaded)
}

/// Renders the metrics page. Gauges of the gallery and the models are set when the page is read.
fn metrics_page(matcher: Matcher, encoders: Arc<Encoders>, memory: MemoryHalves, page: Metrics) -> Page {
    Arc::new(move || {
        metrics::gauge!(domain::metric::MEMORY_TAKEN).set((memory.bodies.taken() + memory.pictures.taken()) as f64);
        let totals = matcher.replica.totals();
        metrics::gauge!(domain::metric::GALLERY_COLLECTIONS).set(matcher.replica.collection_count() as f64);
        metrics::gauge!(domain::metric::GALLERY_IDENTITIES).set(totals.identities as f64);
        metrics::gauge!(domain::metric::GALLERY_TEMPLATES).set(totals.templates as f64);
        metrics::gauge!(domain::metric::GALLERY_LAG).set(matcher.replica.lag() as f64);
        metrics::gauge!(domain::metric::GALLERY_PENDING_REMOVALS).set(matcher.replica.pending_removals() as f64);
        metrics::gauge!(domain::metric::CALIBRATION_STALE).set(matcher.judging.stale_calibrations() as f64);
        let bytes = matcher.replica.gallery_bytes();
        for (part, bytes) in bytes.by_part() {
            metrics::gauge!(domain::metric::GALLERY_BYTES, "part" => part).set(bytes as f64);
        }
        // Without a graph, searches are exact and recall is not measured.
        metrics::gauge!(domain::metric::GALLERY_RECALL).set(matcher.replica.recall_ratio().unwrap_or(f64::NAN));
        for (model, is_healthy) in encoders.health() {
            let healthy = f64::from(u8::from(is_healthy));
            metrics::gauge!(domain::metric::MODEL_HEALTHY, "model" => model.to_string()).set(healthy);
        }
        page.render()
    })
}

/// Warns of modalities without a model.
pub fn warn_of_missing_models(loaded: &Loaded) {
    for (modality, _) in loaded.models.iter().filter(|(_, model)| model.is_none()) {
        warn!(%modality, "no model is loaded; this modality takes embeddings only");
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        serve: ServeFlags,
    }

    #[test]
    fn the_flags_default_to_the_default_options_of_the_matcher() {
        let flags = Flags::parse_from(["semblance"]).serve;
        assert_eq!(matcher_options(&flags), MatcherOptions::default());
    }
}

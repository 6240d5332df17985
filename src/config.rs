//! Every flag and every limit, from the command line, the environment or a TOML file, in that order of precedence,
//! checked once. No other file reads the environment.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    num::NonZeroU16,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use clap::{Args, Command, ValueEnum};

use domain::{Device, SpaceName};

/// The most threads of one operation: more than any machine has cores.
const MODEL_THREADS_MAX: u16 = 1024;

/// The settings of `serve`. Every flag is also a variable `SEMBLANCE_*` (the database: `DATABASE_URL`), and a key in snake
/// case of the TOML file in `SEMBLANCE_CONFIG`.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line, and any of them may be set alone"
)]
pub struct ServeFlags {
    /// Address of the REST listener.
    #[arg(long, env = "SEMBLANCE_HTTP_ADDR", default_value = "127.0.0.1:8080")]
    pub http_addr: SocketAddr,
    /// Address of the gRPC listener.
    #[arg(long, env = "SEMBLANCE_GRPC_ADDR", default_value = "127.0.0.1:50051")]
    pub grpc_addr: SocketAddr,
    /// Key of every request, sent as `Authorization: Bearer <key>`; at least 8 characters.
    #[arg(long, env = "SEMBLANCE_API_KEY", hide_env_values = true, hide_default_value = true)]
    pub api_key: Option<Secret>,
    /// Without a key, answer programs of this machine. Anybody may use the server through a TCP forwarder on this machine,
    /// or through a proxy that rewrites the host and adds no header: the server cannot tell them from local programs.
    #[arg(long, env = "SEMBLANCE_ALLOW_LOOPBACK", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub allow_loopback: bool,
    /// Without a key, answer everybody. Only for networks that restrict access themselves.
    #[arg(long, env = "SEMBLANCE_ALLOW_ANONYMOUS", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub allow_anonymous: bool,
    /// Do not download the starter models when the models folder is empty.
    #[arg(long, env = "SEMBLANCE_NO_PULL", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub no_pull: bool,
    /// Migrate the database to the schema of this version at start.
    #[arg(long, env = "SEMBLANCE_AUTO_MIGRATE", default_value_t = true, action = clap::ArgAction::Set)]
    pub auto_migrate: bool,
    /// PostgreSQL address for notices of other replicas' writes; `off` polls instead. Set it where `DATABASE_URL` leads
    /// to a connection pooler; default: the database itself.
    #[arg(long, env = "DATABASE_LISTEN_URL", hide_env_values = true, hide_default_value = true)]
    pub database_listen_url: Option<Secret>,
    /// Let the system write core dumps of the server, and let debuggers and profilers of its user attach. A core dump
    /// contains embeddings and photos.
    #[arg(long, env = "SEMBLANCE_ALLOW_CORE_DUMPS", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub allow_core_dumps: bool,
    /// Device per model, as `MODEL=cpu` or `MODEL=cuda:N`, separated by commas; the default is the CPU. On CUDA,
    /// networks run in half precision; it needs a libtorch with CUDA.
    #[arg(long, env = "SEMBLANCE_MODEL_DEVICES", default_value = "", hide_default_value = true)]
    pub model_devices: PerModel<Device>,
    /// Threads per operation of a model, as `MODEL=N`, separated by commas; the default is 1. More threads suit large
    /// models on idle cores.
    #[arg(long, env = "SEMBLANCE_MODEL_THREADS", default_value = "", hide_default_value = true)]
    pub model_threads: PerModel<NonZeroU16>,
    /// Graph index for spaces that are too large for the exact scan.
    #[arg(long, env = "SEMBLANCE_GRAPH", default_value = "compact")]
    pub graph: GraphFlag,
    /// Seconds for the requests in flight when the server stops.
    #[arg(long, env = "SEMBLANCE_DRAIN_SECONDS", default_value_t = 25)]
    pub drain_seconds: u64,
    /// Seconds between "not ready" and the end of the listeners, so that load balancers notice.
    #[arg(long, env = "SEMBLANCE_DRAIN_NOTICE_SECONDS", default_value_t = 0)]
    pub drain_notice_seconds: u64,
    #[command(flatten)]
    pub limits: LimitFlags,
}

/// The limits of `serve`.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitFlags {
    /// Largest request body, in bytes.
    #[arg(long, env = "SEMBLANCE_BODY_BYTES_MAX", default_value_t = 32 << 20)]
    pub body_bytes_max: usize,
    /// Memory of all requests together, in bytes, beside what models, galleries and the database take. Half of it is for
    /// bodies, and a body that finds none is answered 429: it takes twice its bytes as they arrive, and 200 bytes for each
    /// value of its JSON. A sixteenth of that is kept for bodies of up to 64 KiB. The other half is for pictures while they are
    /// decoded: 4 to 60 bytes per pixel, and 4 MiB. A picture waits for it until its deadline.
    #[arg(long, env = "SEMBLANCE_MEMORY_BYTES_MAX", default_value_t = 1536 << 20)]
    pub memory_bytes_max: usize,
    /// Fewest bytes a second of a body that arrives, in each window of `upload-window-seconds`; a slower one is answered
    /// 408.
    #[arg(long, env = "SEMBLANCE_UPLOAD_BYTES_PER_SECOND_MIN", default_value_t = 1024)]
    pub upload_bytes_per_second_min: u64,
    /// Seconds over which the pace of an upload is measured; a shorter pause does no harm.
    #[arg(long, env = "SEMBLANCE_UPLOAD_WINDOW_SECONDS", default_value_t = 10)]
    pub upload_window_seconds: u64,
    /// Most open connections, both wires together; at most three quarters of the limit of open files. For a further one,
    /// the one that is idle for longest is closed.
    #[arg(long, env = "SEMBLANCE_CONNECTIONS_MAX", default_value_t = 4096)]
    pub connections_max: usize,
    /// Seconds from the start of a connection, or the first byte of a further request, to the end of its header (HTTP/1) or
    /// of the connection's preface (HTTP/2); then it is closed.
    #[arg(long, env = "SEMBLANCE_HEADER_SECONDS_MAX", default_value_t = 10)]
    pub header_seconds_max: u64,
    /// Seconds after which a connection without a request in progress is closed, and one whose client does not read its
    /// answer. Keep it above the idle time of a proxy in front.
    #[arg(long, env = "SEMBLANCE_IDLE_SECONDS_MAX", default_value_t = 90)]
    pub idle_seconds_max: u64,
    /// Most values of a JSON body. A key counts as one value too, and an object as eight: it takes as much memory.
    #[arg(long, env = "SEMBLANCE_JSON_VALUES_MAX", default_value_t = 500_000)]
    pub json_values_max: usize,
    /// Largest encoded picture, in bytes.
    #[arg(long, env = "SEMBLANCE_IMAGE_BYTES_MAX", default_value_t = 16 << 20)]
    pub image_bytes_max: usize,
    /// Most pixels of a picture; checked before decoding.
    #[arg(long, env = "SEMBLANCE_IMAGE_PIXELS_MAX", default_value_t = 64_000_000)]
    pub image_pixels_max: u64,
    /// Most frames of a skeleton sequence.
    #[arg(long, env = "SEMBLANCE_SKELETON_FRAMES_MAX", default_value_t = 3600)]
    pub skeleton_frames_max: usize,
    /// Most pictures of a track.
    #[arg(long, env = "SEMBLANCE_TRACK_FRAMES_MAX", default_value_t = 300)]
    pub track_frames_max: usize,
    /// Longest side of a photo for face detection, in pixels; larger photos are scaled down for detection only. Small
    /// faces in large photos need more.
    #[arg(long, env = "SEMBLANCE_DETECT_SIDE_PX_MAX", default_value_t = 1280)]
    pub detect_side_px_max: u32,
    /// Most samples of a request.
    #[arg(long, env = "SEMBLANCE_SAMPLES_MAX", default_value_t = 32)]
    pub samples_max: usize,
    /// Most requests in flight; more are answered 429.
    #[arg(long, env = "SEMBLANCE_REQUESTS_MAX", default_value_t = 1024)]
    pub requests_max: usize,
    /// Longest duration of a request, in seconds.
    #[arg(long, env = "SEMBLANCE_REQUEST_SECONDS_MAX", default_value_t = 30)]
    pub request_seconds_max: u64,
    /// Most samples of batches in progress. Keep it below `queue-max`, so that single requests find a free slot.
    #[arg(long, env = "SEMBLANCE_BULK_IN_FLIGHT_MAX", default_value_t = 64)]
    pub bulk_in_flight_max: usize,
    /// Most entries that wait for one model; more are answered 429.
    #[arg(long, env = "SEMBLANCE_QUEUE_MAX", default_value_t = 256)]
    pub queue_max: usize,
    /// Most samples in work at once, from decoding to the embedding; further ones wait, those of small requests least. 0
    /// is twice the cores, or two batches where a model runs on CUDA.
    #[arg(long, env = "SEMBLANCE_SAMPLES_IN_WORK_MAX", default_value_t = 0)]
    pub samples_in_work_max: usize,
    /// Longest expected wait of a request for others while samples have waited for half a second, in milliseconds; more is
    /// answered 429 before any work. A burst, and a request whose own work takes longer, may wait up to half the deadline.
    #[arg(long, env = "SEMBLANCE_WAIT_MS_MAX", default_value_t = 2000)]
    pub wait_ms_max: u64,
    /// Most entries of an inference batch.
    #[arg(long, env = "SEMBLANCE_BATCH_MAX", default_value_t = 16)]
    pub batch_max: usize,
    /// Longest wait for a fuller inference batch, in microseconds; 0 does not wait.
    #[arg(long, env = "SEMBLANCE_LINGER_US_MAX", default_value_t = 0)]
    pub linger_us_max: u64,
    /// Threads per model; each loads the model's weights.
    #[arg(long, env = "SEMBLANCE_WORKERS_PER_MODEL", default_value_t = 1)]
    pub workers_per_model: usize,
    /// Most templates of an identity.
    #[arg(long, env = "SEMBLANCE_TEMPLATES_PER_IDENTITY_MAX", default_value_t = 100)]
    pub templates_per_identity_max: u64,
    /// Most templates of a provisional identity; later sightings are decided with them and not kept.
    #[arg(long, env = "SEMBLANCE_PROVISIONAL_TEMPLATES_MAX", default_value_t = domain::PROVISIONAL_TEMPLATES_MAX)]
    pub provisional_templates_max: u64,
    /// Seconds during which an enroll without a request id that repeats the pictures of an earlier one is answered as that
    /// one; 0 stores them again.
    #[arg(long, env = "SEMBLANCE_REPEAT_SECONDS_MAX", default_value_t = 60)]
    pub repeat_seconds_max: u64,
    /// Most templates in the memory of this server.
    #[arg(long, env = "SEMBLANCE_TEMPLATES_MAX", default_value_t = 5_000_000)]
    pub templates_max: u64,
    /// Templates per space from which searches use the graph instead of the exact scan.
    #[arg(long, env = "SEMBLANCE_GRAPH_FROM", default_value_t = 200_000)]
    pub graph_from: usize,
    /// Bits per number in the compressed codes of the scan: 8 or 4. With 8, results are exact; 4 takes half the memory
    /// and is exact with high probability only.
    #[arg(long, env = "SEMBLANCE_CODE_BITS", default_value_t = 8)]
    pub code_bits: u8,
    /// Most candidates of an answer.
    #[arg(long, env = "SEMBLANCE_CANDIDATES_MAX", default_value_t = 1000)]
    pub candidates_max: usize,
    /// Most searches that wait for a thread; more are answered 429.
    #[arg(long, env = "SEMBLANCE_SEARCH_QUEUE_MAX", default_value_t = 256)]
    pub search_queue_max: usize,
    /// Most connections to the database.
    #[arg(long, env = "SEMBLANCE_STORE_CONNECTIONS_MAX", default_value_t = 16)]
    pub store_connections_max: u32,
    /// Longest wait for a database connection or a collection's lock, in milliseconds; then the database counts as
    /// unavailable.
    #[arg(long, env = "SEMBLANCE_STORE_WAIT_MS_MAX", default_value_t = 5000)]
    pub store_wait_ms_max: u64,
    /// Most enrollments per group commit of a collection; 1 turns group commit off.
    #[arg(long, env = "SEMBLANCE_COMMIT_WRITES_MAX", default_value_t = 128)]
    pub commit_writes_max: usize,
    /// Most templates per group commit.
    #[arg(long, env = "SEMBLANCE_COMMIT_TEMPLATES_MAX", default_value_t = 1024)]
    pub commit_templates_max: usize,
    /// Longest wait of a read for the write of its consistency token, in milliseconds.
    #[arg(long, env = "SEMBLANCE_CONSISTENCY_WAIT_MS_MAX", default_value_t = 2000)]
    pub consistency_wait_ms_max: u64,
    /// Interval of reading the writes of other replicas, in milliseconds; 0 turns it off. PostgreSQL also notifies at
    /// once.
    #[arg(long, env = "SEMBLANCE_FOLLOW_INTERVAL_MS", default_value_t = 1000)]
    pub follow_interval_ms: u64,
    /// Interval of gallery snapshots, in seconds; one is also written at stop. They lie in the data folder and shorten
    /// the next start. 0 turns them off and removes existing ones.
    #[arg(long, env = "SEMBLANCE_SNAPSHOT_INTERVAL_SECONDS", default_value_t = 300)]
    pub snapshot_interval_seconds: u64,
    /// Interval of removing what has expired, in seconds; 0 turns it off.
    #[arg(long, env = "SEMBLANCE_SWEEP_INTERVAL_SECONDS", default_value_t = 60)]
    pub sweep_interval_seconds: u64,
    /// Most templates that a rehearsal of a gallery searches.
    #[arg(long, env = "SEMBLANCE_REHEARSAL_TRIALS_MAX", default_value_t = 2000)]
    pub rehearsal_trials_max: usize,
    /// Most calibrations of a collection.
    #[arg(long, env = "SEMBLANCE_CALIBRATIONS_MAX", default_value_t = 32)]
    pub calibrations_max: u64,
    /// Most outsiders (samples of non-enrolled persons) of a calibration.
    #[arg(long, env = "SEMBLANCE_OUTSIDERS_MAX", default_value_t = 5000)]
    pub outsiders_max: usize,
    /// Longest wait of a request for a calibration in progress, in milliseconds.
    #[arg(long, env = "SEMBLANCE_CALIBRATION_WAIT_MS_MAX", default_value_t = 250)]
    pub calibration_wait_ms_max: u64,
    /// Days that decision records are kept.
    #[arg(long, env = "SEMBLANCE_DECISIONS_KEPT_DAYS", default_value_t = 90)]
    pub decisions_kept_days: u64,
    /// Most decision records that wait to be written; more are dropped and counted.
    #[arg(long, env = "SEMBLANCE_RECORDS_QUEUE_MAX", default_value_t = 4096)]
    pub records_queue_max: usize,
    /// Most open review cases of a collection; beyond it no case is opened, and answers contain a reason.
    #[arg(long, env = "SEMBLANCE_REVIEW_CASES_MAX", default_value_t = 10_000)]
    pub review_cases_max: u64,
    /// Days that a review case is kept, with its samples as embeddings.
    #[arg(long, env = "SEMBLANCE_REVIEW_CASES_KEPT_DAYS", default_value_t = 30)]
    pub review_cases_kept_days: u64,
    /// Most operations of a collection that run or wait; more are answered 429.
    #[arg(long, env = "SEMBLANCE_OPERATIONS_RUNNING_MAX", default_value_t = 2)]
    pub operations_running_max: u64,
    /// Most pairs of similar templates in the memory of an operation; each takes 12 bytes, and more while they are
    /// clustered.
    #[arg(long, env = "SEMBLANCE_OPERATION_PAIRS_MAX", default_value_t = 5_000_000)]
    pub operation_pairs_max: usize,
    /// Most findings of an operation: pairs of identities, or templates in clusters.
    #[arg(long, env = "SEMBLANCE_OPERATION_FINDINGS_MAX", default_value_t = 20_000)]
    pub operation_findings_max: usize,
    /// Days that an operation is kept, with its findings.
    #[arg(long, env = "SEMBLANCE_OPERATIONS_KEPT_DAYS", default_value_t = 7)]
    pub operations_kept_days: u64,
    /// Most review trials kept per collection: similarities and verdicts, without names.
    #[arg(long, env = "SEMBLANCE_REVIEW_TRIALS_MAX", default_value_t = 5000)]
    pub review_trials_max: u64,
}

/// The folders and the database, for every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Storage")]
pub struct PlaceFlags {
    /// Folder of the embedded database, the models and the gallery snapshots.
    #[arg(long, global = true, env = "SEMBLANCE_DATA_DIR", default_value = "data")]
    pub data_dir: PathBuf,
    /// Folder of the installed model packages; default: `models` in the data folder.
    #[arg(long, global = true, env = "SEMBLANCE_MODELS_DIR")]
    pub models_dir: Option<PathBuf>,
    /// Folder with model files named by their sha256, used instead of the network.
    #[arg(long, global = true, env = "SEMBLANCE_MODEL_MIRROR")]
    pub model_mirror: Option<PathBuf>,
    /// Database: `sqlite:PATH` or `postgres://...`; default: an embedded one in the data folder.
    #[arg(long, global = true, env = "DATABASE_URL", hide_env_values = true, hide_default_value = true)]
    pub database_url: Option<Secret>,
    /// Seconds that a start or `migrate` waits for another process that migrates the database.
    #[arg(long, global = true, env = "SEMBLANCE_MIGRATE_SECONDS_MAX", default_value_t = 60)]
    pub migrate_seconds_max: u64,
}

/// The settings of the log.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logging")]
pub struct LogFlags {
    /// Log filter: error, warn, info, debug, or per target such as `semblance=debug,sqlx=warn`.
    #[arg(long, global = true, env = "SEMBLANCE_LOG", default_value = "info")]
    pub log: String,
    /// Log format.
    #[arg(long, global = true, env = "SEMBLANCE_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GraphFlag {
    /// Semblance's own graph over compressed codes; a twentieth of the memory of `hnsw-rs`.
    Compact,
    /// The graph of the crate hnsw_rs, over the original embeddings.
    HnswRs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines of text.
    Text,
    /// One JSON object per line.
    Json,
}

/// A setting per model, written `model=value,model=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerModel<T>(pub BTreeMap<SpaceName, T>);

impl<T: FromStr<Err: fmt::Display>> FromStr for PerModel<T> {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut settings = BTreeMap::new();
        for setting in text.split(',').map(str::trim).filter(|setting| !setting.is_empty()) {
            let (model, value) = setting.split_once('=').with_context(|| format!("{setting:?} is not MODEL=VALUE"))?;
            let model = SpaceName::new(model.trim()).with_context(|| format!("{model:?} is not a model name"))?;
            let value = value.trim().parse().map_err(|error| anyhow::anyhow!("{model}: {error}"))?;
            ensure!(settings.insert(model.clone(), value).is_none(), "{model} is named twice");
        }
        Ok(Self(settings))
    }
}

/// A text that logs and errors do not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl PlaceFlags {
    #[must_use]
    pub fn models_dir(&self) -> PathBuf {
        self.models_dir.clone().unwrap_or_else(|| self.data_dir.join("models"))
    }

    /// The folder of the gallery snapshots.
    #[must_use]
    pub fn snapshots_dir(&self) -> PathBuf {
        self.data_dir.join("gallery")
    }

    /// The database's URL: as set, or the embedded one in the data folder.
    #[must_use]
    pub fn database_url(&self) -> Secret {
        let embedded = || Secret(format!("sqlite:{}", self.data_dir.join("semblance.db").display()));
        self.database_url.clone().filter(|url| !url.0.is_empty()).unwrap_or_else(embedded)
    }
}

impl ServeFlags {
    /// # Errors
    /// One sentence about the first invalid setting.
    pub fn check(&self) -> anyhow::Result<()> {
        let limits = &self.limits;
        ensure!(
            self.api_key.as_ref().is_none_or(|key| key.0.len() >= 8),
            "SEMBLANCE_API_KEY has fewer than 8 characters; choose a longer key, or leave it out"
        );
        ensure!(
            self.api_key.is_some() || self.allow_loopback || self.allow_anonymous,
            "who may use this server? Set SEMBLANCE_API_KEY to the key of every request, SEMBLANCE_ALLOW_LOOPBACK=true to \
             answer programs of this machine without a key, or SEMBLANCE_ALLOW_ANONYMOUS=true to answer everybody"
        );
        for (name, value) in [
            ("SEMBLANCE_BODY_BYTES_MAX", limits.body_bytes_max),
            ("SEMBLANCE_IMAGE_BYTES_MAX", limits.image_bytes_max),
            ("SEMBLANCE_SKELETON_FRAMES_MAX", limits.skeleton_frames_max),
            ("SEMBLANCE_TRACK_FRAMES_MAX", limits.track_frames_max),
            ("SEMBLANCE_SAMPLES_MAX", limits.samples_max),
            ("SEMBLANCE_REQUESTS_MAX", limits.requests_max),
            ("SEMBLANCE_BULK_IN_FLIGHT_MAX", limits.bulk_in_flight_max),
            ("SEMBLANCE_CONNECTIONS_MAX", limits.connections_max),
            ("SEMBLANCE_QUEUE_MAX", limits.queue_max),
            ("SEMBLANCE_BATCH_MAX", limits.batch_max),
            ("SEMBLANCE_WORKERS_PER_MODEL", limits.workers_per_model),
            ("SEMBLANCE_CANDIDATES_MAX", limits.candidates_max),
            ("SEMBLANCE_RECORDS_QUEUE_MAX", limits.records_queue_max),
            ("SEMBLANCE_COMMIT_WRITES_MAX", limits.commit_writes_max),
            ("SEMBLANCE_COMMIT_TEMPLATES_MAX", limits.commit_templates_max),
        ] {
            ensure!(value > 0, "{name} must be at least 1");
        }
        let one_body =
            limits.body_bytes_max.saturating_mul(2).saturating_add(limits.json_values_max.saturating_mul(200));
        ensure!(
            limits.memory_bytes_max / 2 >= one_body,
            "SEMBLANCE_MEMORY_BYTES_MAX must be at least {}: four times SEMBLANCE_BODY_BYTES_MAX and 400 bytes for each of \
             SEMBLANCE_JSON_VALUES_MAX",
            one_body.saturating_mul(2)
        );
        ensure!(limits.upload_window_seconds > 0, "SEMBLANCE_UPLOAD_WINDOW_SECONDS must be at least 1");
        let detect_sides = 64..=8192;
        ensure!(
            detect_sides.contains(&limits.detect_side_px_max),
            "SEMBLANCE_DETECT_SIDE_PX_MAX must be {} to {}",
            detect_sides.start(),
            detect_sides.end()
        );
        ensure!(
            self.model_threads.0.values().all(|threads| threads.get() <= MODEL_THREADS_MAX),
            "SEMBLANCE_MODEL_THREADS must be at most {MODEL_THREADS_MAX} per model"
        );
        ensure!(matches!(limits.code_bits, 4 | 8), "SEMBLANCE_CODE_BITS must be 8 or 4");
        ensure!(limits.provisional_templates_max > 0, "SEMBLANCE_PROVISIONAL_TEMPLATES_MAX must be at least 1");
        ensure!(limits.request_seconds_max > 0, "SEMBLANCE_REQUEST_SECONDS_MAX must be at least 1");
        ensure!(limits.header_seconds_max > 0, "SEMBLANCE_HEADER_SECONDS_MAX must be at least 1");
        ensure!(limits.idle_seconds_max > 0, "SEMBLANCE_IDLE_SECONDS_MAX must be at least 1");
        ensure!(limits.store_connections_max > 0, "SEMBLANCE_STORE_CONNECTIONS_MAX must be at least 1");
        if self.http_addr == self.grpc_addr && self.http_addr.port() != 0 {
            bail!("REST and gRPC cannot both listen on {}", self.http_addr);
        }
        Ok(())
    }

    #[must_use]
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}

/// Sets the defaults of `command` from the TOML file in `SEMBLANCE_CONFIG`. Flags and environment take precedence.
///
/// # Errors
/// When the file cannot be read, is not TOML, or has a key that is not a setting.
#[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
pub fn with_file(command: Command) -> anyhow::Result<Command> {
    match std::env::var_os("SEMBLANCE_CONFIG").map(PathBuf::from) {
        Some(path) => with_defaults_of(command, &path),
        None => Ok(command),
    }
}

fn with_defaults_of(command: Command, path: &Path) -> anyhow::Result<Command> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read the configuration {}", path.display()))?;
    let table: toml::Table =
        toml::from_str(&text).with_context(|| format!("the configuration {} is not TOML", path.display()))?;
    let mut unused = BTreeMap::new();
    for (key, value) in table {
        let text = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            toml::Value::Boolean(truth) => truth.to_string(),
            toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => {
                bail!("{key:?} in {} must be a text, a number or true or false", path.display())
            }
        };
        unused.insert(key, text);
    }
    let defaults = unused.clone();
    let command = with_defaults(command, &defaults, &mut unused);
    match unused.keys().next() {
        None => Ok(command),
        Some(key) => bail!("{key:?} in {} is not a setting", path.display()),
    }
}

fn with_defaults(
    mut command: Command,
    defaults: &BTreeMap<String, String>,
    unused: &mut BTreeMap<String, String>,
) -> Command {
    let settings: Vec<String> =
        command.get_arguments().filter(|a| a.get_env().is_some()).map(|a| a.get_id().to_string()).collect();
    for setting in settings {
        if let Some(value) = defaults.get(&setting) {
            unused.remove(&setting);
            command = command.mut_arg(setting, |arg| arg.default_value(value.clone()));
        }
    }
    let commands: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    for name in commands {
        command = command.mut_subcommand(name, |c| with_defaults(c, defaults, unused));
    }
    command
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches};

    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let secret = Secret::from("postgres://user:hunter2@host/db");
        assert!(!format!("{secret:?} {secret}").contains("hunter2"));
    }

    #[test]
    fn settings_per_model_are_read_and_errors_name_the_model() {
        let devices: PerModel<Device> = "face=cuda:0, person = cpu,".parse().expect("two settings");
        let name = |text| SpaceName::new(text).expect("a name");
        assert_eq!(devices.0, BTreeMap::from([(name("face"), Device::Cuda(0)), (name("person"), Device::Cpu)]));
        assert!("".parse::<PerModel<Device>>().expect("none").0.is_empty());
        let threads: PerModel<NonZeroU16> = "face=2".parse().expect("a setting");
        assert_eq!(threads.0[&name("face")].get(), 2);
        for (text, sentence) in [
            ("face", "not MODEL=VALUE"),
            ("face=gpu", "face: \"gpu\" is not a device"),
            ("face=cpu,face=cpu", "named twice"),
            ("fa ce=cpu", "not a model name"),
            ("=cpu", "not a model name"),
        ] {
            let error = format!("{:#}", text.parse::<PerModel<Device>>().expect_err("invalid"));
            assert!(error.contains(sentence), "{text}: {error}");
        }
        for text in ["face=0", "face=-1", "face=two", "face=70000"] {
            assert!(text.parse::<PerModel<NonZeroU16>>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_gives_defaults_that_flags_overrule_and_unknown_keys_are_refused() {
        #[derive(clap::Parser)]
        struct Program {
            #[command(flatten)]
            places: PlaceFlags,
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("semblance.toml");
        std::fs::write(&path, "database_url = \"sqlite:x\"\ndata_dir = \"there\"\n").expect("written");
        let parse = |arguments: &[&str]| {
            let command = with_defaults_of(Program::command(), &path).expect("valid");
            Program::from_arg_matches(&command.get_matches_from(arguments)).expect("parsed").places
        };
        assert_eq!(parse(&["semblance"]).data_dir, Path::new("there"));
        assert_eq!(parse(&["semblance"]).database_url().reveal(), "sqlite:x");
        assert_eq!(parse(&["semblance", "--data-dir", "here"]).data_dir, Path::new("here"));
        std::fs::write(&path, "date_dir = \"there\"\n").expect("written");
        assert!(with_defaults_of(Program::command(), &path).expect_err("unknown").to_string().contains("date_dir"));
    }
}

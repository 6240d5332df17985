//! Every flag and every limit, from the command line, the environment or a TOML file, in that order of precedence,
//! checked once. Nothing else in the house reads the environment.

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

/// More threads than any machine has cores for one model.
const MODEL_THREADS_MAX: u16 = 1024;

/// What an operator may say. Every flag is also a variable `SEMBLANCE_*` (the database: `DATABASE_URL`), and a key of
/// the TOML file that `SEMBLANCE_CONFIG` names, in snake case.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server")]
pub struct ServeFlags {
    /// Where REST listens.
    #[arg(long, env = "SEMBLANCE_HTTP_ADDR", default_value = "127.0.0.1:8080")]
    pub http_addr: SocketAddr,
    /// Where gRPC listens.
    #[arg(long, env = "SEMBLANCE_GRPC_ADDR", default_value = "127.0.0.1:50051")]
    pub grpc_addr: SocketAddr,
    /// The key that callers must send as `Authorization: Bearer <key>`. Without one, only this machine may ask.
    #[arg(long, env = "SEMBLANCE_API_KEY", hide_env_values = true, hide_default_value = true)]
    pub api_key: Option<Secret>,
    /// Without a key: let others than this machine ask too. For networks that keep strangers out themselves.
    #[arg(long, env = "SEMBLANCE_ALLOW_ANONYMOUS", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub allow_anonymous: bool,
    /// Do not fetch the starter models when the models folder is empty.
    #[arg(long, env = "SEMBLANCE_NO_PULL", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub no_pull: bool,
    /// Bring the database to this version's schema at the start.
    #[arg(long, env = "SEMBLANCE_AUTO_MIGRATE", default_value_t = true, action = clap::ArgAction::Set)]
    pub auto_migrate: bool,
    /// Where models run, as `MODEL=cpu` or `MODEL=cuda:N` with commas between; the rest on the CPU. Networks run in half
    /// precision on CUDA, which a libtorch for CUDA must have been built in for.
    #[arg(long, env = "SEMBLANCE_MODEL_DEVICES", default_value = "", hide_default_value = true)]
    pub model_devices: PerModel<Device>,
    /// On how many threads one operation of a model runs, as `MODEL=N` with commas between; the rest on one. Several are
    /// for a large model on cores that are idle otherwise.
    #[arg(long, env = "SEMBLANCE_MODEL_THREADS", default_value = "", hide_default_value = true)]
    pub model_threads: PerModel<NonZeroU16>,
    /// Which graph searches spaces that are too large to scan.
    #[arg(long, env = "SEMBLANCE_GRAPH", default_value = "compact")]
    pub graph: GraphFlag,
    /// How long to wait for requests in flight when told to stop, in seconds.
    #[arg(long, env = "SEMBLANCE_DRAIN_SECONDS", default_value_t = 25)]
    pub drain_seconds: u64,
    /// How long to go on accepting, no longer ready, so that balancers notice, in seconds.
    #[arg(long, env = "SEMBLANCE_DRAIN_NOTICE_SECONDS", default_value_t = 0)]
    pub drain_notice_seconds: u64,
    #[command(flatten)]
    pub limits: LimitFlags,
}

/// How much is too much.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitFlags {
    /// The largest request body, in bytes.
    #[arg(long, env = "SEMBLANCE_BODY_BYTES_MAX", default_value_t = 32 << 20)]
    pub body_bytes_max: usize,
    /// The most bytes of REST bodies that are in hand at once; more are answered 429.
    #[arg(long, env = "SEMBLANCE_BODIES_BYTES_MAX", default_value_t = 512 << 20)]
    pub bodies_bytes_max: usize,
    /// The most values of a JSON body, numbers above all.
    #[arg(long, env = "SEMBLANCE_JSON_VALUES_MAX", default_value_t = 500_000)]
    pub json_values_max: usize,
    /// The largest encoded picture, in bytes.
    #[arg(long, env = "SEMBLANCE_IMAGE_BYTES_MAX", default_value_t = 16 << 20)]
    pub image_bytes_max: usize,
    /// The most pixels of a picture; checked before it is decoded.
    #[arg(long, env = "SEMBLANCE_IMAGE_PIXELS_MAX", default_value_t = 64_000_000)]
    pub image_pixels_max: u64,
    /// The most frames of a walk.
    #[arg(long, env = "SEMBLANCE_SKELETON_FRAMES_MAX", default_value_t = 3600)]
    pub skeleton_frames_max: usize,
    /// The most pictures of a track.
    #[arg(long, env = "SEMBLANCE_TRACK_FRAMES_MAX", default_value_t = 300)]
    pub track_frames_max: usize,
    /// The longest side, in pixels, at which faces are looked for in a photo; larger photos are looked at smaller, and
    /// encoded from all their pixels. Small faces in large photos need more.
    #[arg(long, env = "SEMBLANCE_DETECT_SIDE_PX_MAX", default_value_t = 1280)]
    pub detect_side_px_max: u32,
    /// The most samples of one request.
    #[arg(long, env = "SEMBLANCE_SAMPLES_MAX", default_value_t = 32)]
    pub samples_max: usize,
    /// The most requests in flight; more are answered 429.
    #[arg(long, env = "SEMBLANCE_REQUESTS_MAX", default_value_t = 1024)]
    pub requests_max: usize,
    /// The longest that a request may take, in seconds.
    #[arg(long, env = "SEMBLANCE_REQUEST_SECONDS_MAX", default_value_t = 30)]
    pub request_seconds_max: u64,
    /// The most samples of batches that are worked on at once. Below `queue-max`, so that batches leave places to whoever
    /// waits for an answer.
    #[arg(long, env = "SEMBLANCE_BULK_IN_FLIGHT_MAX", default_value_t = 64)]
    pub bulk_in_flight_max: usize,
    /// The most entries that wait before one model; more are answered 429.
    #[arg(long, env = "SEMBLANCE_QUEUE_MAX", default_value_t = 256)]
    pub queue_max: usize,
    /// The longest batch.
    #[arg(long, env = "SEMBLANCE_BATCH_MAX", default_value_t = 16)]
    pub batch_max: usize,
    /// How long a batch waits for company, in microseconds. 0: what waits is the batch.
    #[arg(long, env = "SEMBLANCE_LINGER_US_MAX", default_value_t = 0)]
    pub linger_us_max: u64,
    /// Threads for each model; each one loads the model's weights.
    #[arg(long, env = "SEMBLANCE_WORKERS_PER_MODEL", default_value_t = 1)]
    pub workers_per_model: usize,
    /// The most templates of one identity.
    #[arg(long, env = "SEMBLANCE_TEMPLATES_PER_IDENTITY_MAX", default_value_t = 100)]
    pub templates_per_identity_max: u64,
    /// The most templates that this server holds in memory.
    #[arg(long, env = "SEMBLANCE_TEMPLATES_MAX", default_value_t = 5_000_000)]
    pub templates_max: u64,
    /// From how many templates of one space on the graph searches, instead of the exact scan.
    #[arg(long, env = "SEMBLANCE_GRAPH_FROM", default_value_t = 200_000)]
    pub graph_from: usize,
    /// How many bits a number has in the codes that searches sweep over: 8 or 4. With 8 answers are exact; with 4 they take
    /// half of the memory and are exact with a probability only.
    #[arg(long, env = "SEMBLANCE_CODE_BITS", default_value_t = 8)]
    pub code_bits: u8,
    /// The most candidates of one answer.
    #[arg(long, env = "SEMBLANCE_CANDIDATES_MAX", default_value_t = 1000)]
    pub candidates_max: usize,
    /// How many searches may wait for a thread; more are answered 429.
    #[arg(long, env = "SEMBLANCE_SEARCH_QUEUE_MAX", default_value_t = 256)]
    pub search_queue_max: usize,
    /// The most connections to the database.
    #[arg(long, env = "SEMBLANCE_STORE_CONNECTIONS_MAX", default_value_t = 16)]
    pub store_connections_max: u32,
    /// How long to wait for a connection or a turn before the database counts as unavailable, in milliseconds.
    #[arg(long, env = "SEMBLANCE_STORE_WAIT_MS_MAX", default_value_t = 5000)]
    pub store_wait_ms_max: u64,
    /// The most enrolls to one collection that share a commit; 1: each has its own.
    #[arg(long, env = "SEMBLANCE_COMMIT_WRITES_MAX", default_value_t = 128)]
    pub commit_writes_max: usize,
    /// The most templates that one commit of several enrolls brings.
    #[arg(long, env = "SEMBLANCE_COMMIT_TEMPLATES_MAX", default_value_t = 1024)]
    pub commit_templates_max: usize,
    /// How long a read waits for the write that its consistency token stands for, in milliseconds.
    #[arg(long, env = "SEMBLANCE_CONSISTENCY_WAIT_MS_MAX", default_value_t = 2000)]
    pub consistency_wait_ms_max: u64,
    /// How often to ask what other replicas wrote, in milliseconds. PostgreSQL also tells, at once. 0: never.
    #[arg(long, env = "SEMBLANCE_FOLLOW_INTERVAL_MS", default_value_t = 1000)]
    pub follow_interval_ms: u64,
    /// How often to take snapshots of the gallery, where it has changed, in seconds; one is also taken at the stop. They lie
    /// in the data folder and make the next start short. 0: never, and those that are there are removed.
    #[arg(long, env = "SEMBLANCE_SNAPSHOT_INTERVAL_SECONDS", default_value_t = 300)]
    pub snapshot_interval_seconds: u64,
    /// How often to remove what has expired, in seconds. 0: never.
    #[arg(long, env = "SEMBLANCE_SWEEP_INTERVAL_SECONDS", default_value_t = 60)]
    pub sweep_interval_seconds: u64,
    /// The most templates that a gallery tries when it rehearses itself.
    #[arg(long, env = "SEMBLANCE_REHEARSAL_TRIALS_MAX", default_value_t = 2000)]
    pub rehearsal_trials_max: usize,
    /// The most calibrations that a collection keeps.
    #[arg(long, env = "SEMBLANCE_CALIBRATIONS_MAX", default_value_t = 32)]
    pub calibrations_max: u64,
    /// The most outsiders that one calibration takes.
    #[arg(long, env = "SEMBLANCE_OUTSIDERS_MAX", default_value_t = 5000)]
    pub outsiders_max: usize,
    /// How long a request waits for a calibration that is being made, in milliseconds.
    #[arg(long, env = "SEMBLANCE_CALIBRATION_WAIT_MS_MAX", default_value_t = 250)]
    pub calibration_wait_ms_max: u64,
    /// How long the records of decisions are kept, in days.
    #[arg(long, env = "SEMBLANCE_DECISIONS_KEPT_DAYS", default_value_t = 90)]
    pub decisions_kept_days: u64,
    /// The most decision records that wait to be written; more are dropped and counted.
    #[arg(long, env = "SEMBLANCE_RECORDS_QUEUE_MAX", default_value_t = 4096)]
    pub records_queue_max: usize,
    /// The most review cases of one collection that wait for a verdict; beyond it none is opened, and answers say so.
    #[arg(long, env = "SEMBLANCE_REVIEW_CASES_MAX", default_value_t = 10_000)]
    pub review_cases_max: u64,
    /// How long a review case is kept, with its samples as embeddings, in days.
    #[arg(long, env = "SEMBLANCE_REVIEW_CASES_KEPT_DAYS", default_value_t = 30)]
    pub review_cases_kept_days: u64,
    /// The most operations of one collection, looks at everybody, that run or wait to run; more are answered 429.
    #[arg(long, env = "SEMBLANCE_OPERATIONS_RUNNING_MAX", default_value_t = 2)]
    pub operations_running_max: u64,
    /// The most pairs of similar templates that an operation keeps in hand, in 12 bytes each and more while they are
    /// clustered.
    #[arg(long, env = "SEMBLANCE_OPERATION_PAIRS_MAX", default_value_t = 5_000_000)]
    pub operation_pairs_max: usize,
    /// The most pairs of identities, or templates in clusters, that an operation answers.
    #[arg(long, env = "SEMBLANCE_OPERATION_FINDINGS_MAX", default_value_t = 20_000)]
    pub operation_findings_max: usize,
    /// How long an operation is kept, with what it found, in days.
    #[arg(long, env = "SEMBLANCE_OPERATIONS_KEPT_DAYS", default_value_t = 7)]
    pub operations_kept_days: u64,
    /// The most verdicts of one collection of which it is kept what they showed: numbers, and nobody's.
    #[arg(long, env = "SEMBLANCE_REVIEW_TRIALS_MAX", default_value_t = 5000)]
    pub review_trials_max: u64,
}

/// Where things lie: needed by every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Places")]
pub struct PlaceFlags {
    /// The folder for the embedded database, the models and the gallery's snapshots.
    #[arg(long, global = true, env = "SEMBLANCE_DATA_DIR", default_value = "data")]
    pub data_dir: PathBuf,
    /// The folder of the installed model packages; `models` in the data folder when absent.
    #[arg(long, global = true, env = "SEMBLANCE_MODELS_DIR")]
    pub models_dir: Option<PathBuf>,
    /// A folder that model files are taken from, by their sha256, instead of the network.
    #[arg(long, global = true, env = "SEMBLANCE_MODEL_MIRROR")]
    pub model_mirror: Option<PathBuf>,
    /// The database: `sqlite:PATH` or `postgres://...`; an embedded one in the data folder when absent.
    #[arg(long, global = true, env = "DATABASE_URL", hide_env_values = true, hide_default_value = true)]
    pub database_url: Option<Secret>,
}

/// How to log.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logging")]
pub struct LogFlags {
    /// What to log: error, warn, info, debug, or a filter such as `semblance=debug,sqlx=warn`.
    #[arg(long, global = true, env = "SEMBLANCE_LOG", default_value = "info")]
    pub log: String,
    /// How to write it.
    #[arg(long, global = true, env = "SEMBLANCE_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GraphFlag {
    /// The one of our own, in a twentieth of the memory.
    Compact,
    /// That of hnsw_rs.
    HnswRs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// A setting for each of some models, written `model=value,model=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerModel<T>(pub BTreeMap<SpaceName, T>);

impl<T: FromStr<Err: fmt::Display>> FromStr for PerModel<T> {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut settings = BTreeMap::new();
        for setting in text.split(',').map(str::trim).filter(|setting| !setting.is_empty()) {
            let (model, value) = setting.split_once('=').with_context(|| format!("{setting:?} is not MODEL=VALUE"))?;
            let model = SpaceName::new(model.trim()).with_context(|| format!("{model:?} is no model's name"))?;
            let value = value.trim().parse().map_err(|error| anyhow::anyhow!("{model}: {error}"))?;
            ensure!(settings.insert(model.clone(), value).is_none(), "{model} is named twice");
        }
        Ok(Self(settings))
    }
}

/// A text that no log and no error shows.
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

    /// Where snapshots of the gallery lie.
    #[must_use]
    pub fn snapshots_dir(&self) -> PathBuf {
        self.data_dir.join("gallery")
    }

    /// The database's address: as given, or the embedded one in the data folder.
    #[must_use]
    pub fn database_url(&self) -> Secret {
        let embedded = || Secret(format!("sqlite:{}", self.data_dir.join("semblance.db").display()));
        self.database_url.clone().filter(|url| !url.0.is_empty()).unwrap_or_else(embedded)
    }
}

impl ServeFlags {
    /// # Errors
    /// One sentence for the first thing that cannot work.
    pub fn check(&self) -> anyhow::Result<()> {
        let limits = &self.limits;
        ensure!(
            self.api_key.as_ref().is_none_or(|key| key.0.len() >= 8),
            "SEMBLANCE_API_KEY has fewer than 8 characters; choose a longer key, or leave it away"
        );
        for (name, value) in [
            ("SEMBLANCE_BODY_BYTES_MAX", limits.body_bytes_max),
            ("SEMBLANCE_IMAGE_BYTES_MAX", limits.image_bytes_max),
            ("SEMBLANCE_SKELETON_FRAMES_MAX", limits.skeleton_frames_max),
            ("SEMBLANCE_TRACK_FRAMES_MAX", limits.track_frames_max),
            ("SEMBLANCE_SAMPLES_MAX", limits.samples_max),
            ("SEMBLANCE_REQUESTS_MAX", limits.requests_max),
            ("SEMBLANCE_BULK_IN_FLIGHT_MAX", limits.bulk_in_flight_max),
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
        let detect_sides = 64..=8192;
        ensure!(
            detect_sides.contains(&limits.detect_side_px_max),
            "SEMBLANCE_DETECT_SIDE_PX_MAX is {} to {}",
            detect_sides.start(),
            detect_sides.end()
        );
        ensure!(
            self.model_threads.0.values().all(|threads| threads.get() <= MODEL_THREADS_MAX),
            "SEMBLANCE_MODEL_THREADS asks for more than {MODEL_THREADS_MAX} threads"
        );
        ensure!(matches!(limits.code_bits, 4 | 8), "SEMBLANCE_CODE_BITS is 8 or 4");
        ensure!(limits.request_seconds_max > 0, "SEMBLANCE_REQUEST_SECONDS_MAX must be at least 1");
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

/// Makes what the TOML file that `SEMBLANCE_CONFIG` names says the defaults of `command`, below flags and environment.
///
/// # Errors
/// When the file cannot be read, is no TOML, or has a key that is no setting.
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
        toml::from_str(&text).with_context(|| format!("the configuration {} is no TOML", path.display()))?;
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
        Some(key) => bail!("{key:?} in {} is no setting", path.display()),
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
    fn settings_of_models_are_read_and_slips_are_said() {
        let devices: PerModel<Device> = "face=cuda:0, person = cpu,".parse().expect("two settings");
        let name = |text| SpaceName::new(text).expect("a name");
        assert_eq!(devices.0, BTreeMap::from([(name("face"), Device::Cuda(0)), (name("person"), Device::Cpu)]));
        assert!("".parse::<PerModel<Device>>().expect("none").0.is_empty());
        let threads: PerModel<NonZeroU16> = "face=2".parse().expect("a setting");
        assert_eq!(threads.0[&name("face")].get(), 2);
        for (text, sentence) in [
            ("face", "not MODEL=VALUE"),
            ("face=gpu", "face: \"gpu\" is no device"),
            ("face=cpu,face=cpu", "named twice"),
            ("fa ce=cpu", "no model's name"),
            ("=cpu", "no model's name"),
        ] {
            let error = format!("{:#}", text.parse::<PerModel<Device>>().expect_err("a slip"));
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

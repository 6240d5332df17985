//! Encoders: a sample becomes an embedding.
//!
//! A model package says how; the sample is prepared on a bounded pool, waits in its model's queue, and is encoded in a
//! batch on the model's own thread. This room never compares embeddings and never stores a sample, and it never lets
//! work pile up: a caller has a place before anything is done for it, or is refused at once.

mod catalogue;
mod digest;
pub mod fetch;
mod hash;
mod inference;
mod package;
mod preparation;
pub mod prepare;
mod proportions;
mod queue;
mod worker;

use std::{
    mem,
    path::PathBuf,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use thiserror::Error;

pub use self::{
    catalogue::{Catalogue, Recipe},
    hash::{FileHash, NotAHash},
    package::{Manifest, Metric, Package, PackageError, Task, WeightsFile},
    prepare::{Limits, PrepareError, SkeletonError},
    proportions::proportions,
    queue::Urgency,
};
use self::{
    inference::NetworkEncoder,
    preparation::Pool,
    prepare::{Prepared, Preprocessing, skeleton},
    queue::{Place, Queue, QueueLimits, Refused, Unanswered},
    worker::Health,
};
use crate::{
    domain::{
        Embedding, EmbeddingError, EmbeddingSpace, Modality, ModelDigest, PackageCalibration, Sample, SampleContent,
        Skeleton, SpaceName,
    },
    torch::network::NetworkError,
};

/// Every model that is loaded.
#[derive(Debug)]
pub struct Encoders {
    /// Sorted by name.
    encoders: Vec<Encoder>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// How models are served.
#[derive(Debug, Clone)]
pub struct EncoderOptions {
    /// The folder of the installed packages; it may be absent.
    pub models_dir: PathBuf,
    /// The longest batch.
    pub batch_max: usize,
    /// How long a batch that is not full waits for company; zero takes what waits.
    pub linger: Duration,
    /// How many samples one model has in hand, being prepared, waiting or being encoded; more are refused.
    pub queue_max: usize,
    /// Threads for each model. Each has the weights in memory once more.
    pub workers_per_model: usize,
    /// Samples that are prepared at once.
    pub preparation_threads: usize,
    /// How large a sample may be.
    pub limits: Limits,
}

/// One loaded model.
#[derive(Debug)]
pub struct Encoder {
    name: SpaceName,
    space: EmbeddingSpace,
    card: ModelCard,
    calibration: Option<PackageCalibration>,
    preprocessing: Arc<Preprocessing>,
    pool: Arc<Pool>,
    queue: Arc<Queue<Prepared>>,
    health: Arc<Health>,
}

/// What a model's package says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelCard {
    pub version: String,
    pub architecture: String,
    pub licence: String,
    pub provenance: String,
    pub source: String,
    pub intended_use: String,
    pub not_for: String,
}

/// Why there is no embedding, or no encoder.
#[derive(Debug, Error)]
pub enum EncoderError {
    /// The sample is at fault; the sentence is for whoever sent it.
    #[error(transparent)]
    BadSample(#[from] SampleError),
    #[error("the queue of {model} is full; try again in {} ms", retry_after.as_millis())]
    QueueFull { model: SpaceName, retry_after: Duration },
    #[error("the deadline passed before the sample was encoded")]
    DeadlinePassed,
    #[error("the server is stopping")]
    ShuttingDown,
    #[error("the model {model} failed: {problem}")]
    ModelFailed { model: SpaceName, problem: String },
    #[error("preparing a sample panicked")]
    PreparationPanicked,
    #[error("the model package in {folder} cannot be loaded: {source}")]
    Package { folder: PathBuf, source: PackageError },
    #[error("the models folder cannot be listed: {0}")]
    ModelsFolder(PackageError),
    #[error("the model {model} cannot be built: {source}; install its package again")]
    Unbuildable { model: String, source: NetworkError },
    #[error("building the model {model} panicked")]
    BuildPanicked { model: String },
    #[error("no thread starts for the model {model}: {source}")]
    NoThread { model: String, source: std::io::Error },
}

/// What is wrong with a sample.
#[derive(Debug, Error)]
pub enum SampleError {
    #[error("{model} encodes {expected} samples, and this is a {found} sample")]
    OtherModality { model: SpaceName, expected: Modality, found: Modality },
    #[error(transparent)]
    Unfit(#[from] PrepareError),
    #[error("the model sees nothing in this sample; send one that shows the subject")]
    Featureless,
}

impl Encoders {
    /// Loads every package of the models folder and starts its threads. Without a package there is no encoder, and that
    /// is no error.
    ///
    /// # Errors
    /// When a package is broken: it names the folder, and what to do about it.
    pub async fn start(options: EncoderOptions) -> Result<Self, EncoderError> {
        let load = tokio::task::spawn_blocking(move || Self::start_blocking(&options));
        load.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    fn start_blocking(options: &EncoderOptions) -> Result<Self, EncoderError> {
        let mut packages = Vec::new();
        for folder in package::folders(&options.models_dir).map_err(EncoderError::ModelsFolder)? {
            let package = package::load_installed(&folder);
            packages.push(package.map_err(|source| EncoderError::Package { folder, source })?);
        }
        Self::of(packages, options)
    }

    /// Starts the threads of packages that were loaded before.
    ///
    /// # Errors
    /// When the weights of one do not fit its architecture.
    pub fn of(packages: Vec<Package>, options: &EncoderOptions) -> Result<Self, EncoderError> {
        let pool = Arc::new(Pool::new(options.preparation_threads, options.limits));
        // Filled as it goes, so that an error on the way stops the threads that run already.
        let mut all = Self { encoders: Vec::new(), threads: Mutex::default() };
        for package in packages {
            let encoder = Encoder::new(&package, options, Arc::clone(&pool));
            let threads = encoder.start_workers(&package, options.workers_per_model.max(1), all.threads.get_mut());
            all.encoders.push(encoder);
            threads?;
        }
        all.encoders.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(all)
    }

    /// All encoders, sorted by name.
    pub fn all(&self) -> impl Iterator<Item = &Encoder> {
        self.encoders.iter()
    }

    /// The encoder that new samples of a modality go to: of several, the first by name.
    #[must_use]
    pub fn for_modality(&self, modality: Modality) -> Option<&Encoder> {
        self.all().find(|encoder| encoder.space.modality == modality)
    }

    #[must_use]
    pub fn by_name(&self, name: &SpaceName) -> Option<&Encoder> {
        self.all().find(|encoder| encoder.name == *name)
    }

    #[must_use]
    pub fn by_digest(&self, digest: ModelDigest) -> Option<&Encoder> {
        self.all().find(|encoder| encoder.space.digest == digest)
    }

    /// Refuses new samples, serves those that have a place, and joins the threads. A caller that stops waiting for this
    /// gives up what still waits: the threads end after the batch that they are at.
    pub async fn stop(&self) {
        self.all().for_each(|encoder| encoder.queue.close());
        let threads = mem::take(&mut *self.threads.lock());
        let cut_short = AbandonUnlessDone(self);
        let joined = tokio::task::spawn_blocking(|| join(threads));
        if joined.await.is_ok() {
            mem::forget(cut_short);
        }
    }

    fn abandon(&self) {
        self.all().for_each(|encoder| encoder.queue.abandon());
    }
}

impl Drop for Encoders {
    /// Waits for the batches that are being encoded, and for nothing else.
    fn drop(&mut self) {
        self.abandon();
        join(mem::take(self.threads.get_mut()));
    }
}

struct AbandonUnlessDone<'a>(&'a Encoders);

impl Drop for AbandonUnlessDone<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        let name = thread.thread().name().unwrap_or_default().to_owned();
        if thread.join().is_err() {
            tracing::error!(name, "a worker's thread had panicked outside of a batch");
        }
    }
}

impl Encoder {
    fn new(package: &Package, options: &EncoderOptions, pool: Arc<Pool>) -> Self {
        let manifest = &package.manifest;
        let limits = QueueLimits {
            places_max: options.queue_max.max(1),
            batch_max: options.batch_max.max(1),
            linger_max: options.linger,
            workers: options.workers_per_model.max(1),
        };
        Self {
            name: manifest.id.clone(),
            space: package.space(),
            card: ModelCard::from(manifest),
            calibration: manifest.calibration.clone(),
            preprocessing: Arc::new(manifest.preprocessing.clone()),
            pool,
            queue: Queue::new(manifest.id.as_str(), limits),
            health: Arc::default(),
        }
    }

    fn start_workers(
        &self,
        package: &Package,
        count: usize,
        threads: &mut Vec<JoinHandle<()>>,
    ) -> Result<(), EncoderError> {
        let architecture = package.manifest.architecture;
        for number in 0..count {
            let weights = package.weights.clone();
            let shared = (Arc::clone(&self.queue), Arc::clone(&self.health));
            let build = move || NetworkEncoder::new(architecture, weights);
            threads.push(worker::start(self.name.as_str(), number, shared, build)?);
        }
        Ok(())
    }

    /// The id of its package.
    #[must_use]
    pub fn name(&self) -> &SpaceName {
        &self.name
    }

    #[must_use]
    pub fn space(&self) -> EmbeddingSpace {
        self.space
    }

    #[must_use]
    pub fn card(&self) -> &ModelCard {
        &self.card
    }

    /// The quantiles that its package brought.
    #[must_use]
    pub fn calibration(&self) -> Option<&PackageCalibration> {
        self.calibration.as_ref()
    }

    /// False after several failures in a row. It goes on serving, and the next success heals it.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.health.is_good()
    }

    /// Makes the embedding of a sample. Dropping the future gives the work up.
    pub async fn encode(&self, sample: Sample, urgency: Urgency, deadline: Instant) -> Result<Embedding, EncoderError> {
        let (expected, found) = (self.space.modality, sample.modality);
        if expected != found {
            let model = self.name.clone();
            return Err(SampleError::OtherModality { model, expected, found }.into());
        }
        let place = self.queue.take_place().map_err(|refused| self.refusal(refused))?;
        let numbers = self.encode_in(place, sample.content, urgency, deadline);
        let in_time = tokio::time::timeout_at(deadline.into(), numbers).await;
        self.embedding(&in_time.map_err(|_| EncoderError::DeadlinePassed)??)
    }

    async fn encode_in(
        &self,
        place: Place<Prepared>,
        content: SampleContent,
        urgency: Urgency,
        deadline: Instant,
    ) -> Result<Vec<f32>, EncoderError> {
        let (place, prepared) = self.pool.prepare(&self.preprocessing, content, urgency, place).await?;
        match place.put(urgency, prepared, deadline).await {
            Ok(Ok(numbers)) => Ok(numbers),
            Ok(Err(Unanswered::TooLate)) => Err(EncoderError::DeadlinePassed),
            Ok(Err(Unanswered::Stopped)) => Err(EncoderError::ShuttingDown),
            Ok(Err(Unanswered::Failed(problem))) => Err(self.failed(problem)),
            Err(_) => Err(self.failed("its thread is gone".to_owned())),
        }
    }

    fn embedding(&self, values: &[f32]) -> Result<Embedding, EncoderError> {
        Embedding::new(self.space, values).map_err(|problem| match problem {
            EmbeddingError::NoDirection => SampleError::Featureless.into(),
            EmbeddingError::NotFinite(_) | EmbeddingError::WrongDimension { .. } => self.failed(problem.to_string()),
        })
    }

    fn refusal(&self, refused: Refused) -> EncoderError {
        match refused {
            Refused::Full { retry_after } => EncoderError::QueueFull { model: self.name.clone(), retry_after },
            Refused::Closed => EncoderError::ShuttingDown,
        }
    }

    fn failed(&self, problem: String) -> EncoderError {
        EncoderError::ModelFailed { model: self.name.clone(), problem }
    }
}

impl From<&Manifest> for ModelCard {
    fn from(manifest: &Manifest) -> Self {
        Self {
            version: manifest.version.clone(),
            architecture: manifest.architecture.to_string(),
            licence: manifest.licence.clone(),
            provenance: manifest.provenance.clone(),
            source: manifest.source.clone(),
            intended_use: manifest.intended_use.clone(),
            not_for: manifest.not_for.clone(),
        }
    }
}

/// Reads a walk from the JSON that PsyMo and other sets keep it in: a list of frames with `keypoints`.
pub fn read_walk(json: &[u8]) -> Result<Skeleton, SkeletonError> {
    skeleton::parse_json(json, &Limits::default())
}

#[cfg(test)]
mod tests;

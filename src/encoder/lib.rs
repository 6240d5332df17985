//! Encoders: turn samples into embeddings.
//!
//! A model package describes the preprocessing and the network. For a photo the detector finds the faces and the
//! selected face is aligned. A bounded pool prepares samples; each model has a queue and encodes batches on its own
//! threads. This package never compares embeddings, never stores a sample, and never queues without limit: a request
//! takes a queue slot before any work, or is refused at once.

mod admission;
mod catalogue;
mod faces;
pub mod fetch;
mod hash;
mod inference;
mod model;
mod network_check;
mod package;
mod placement;
mod preparation;
pub mod prepare;
mod proportions;
mod queue;
mod sample_error;
mod service;
mod track;
mod worker;

use std::{mem, path::PathBuf, sync::Arc, thread::JoinHandle, time::Duration};

use parking_lot::Mutex;
use thiserror::Error;

use self::{
    admission::Admission,
    faces::{FaceDetector, PadService, start_face_detector, start_pad_service},
    inference::EncoderModel,
    preparation::PreparationPool,
    queue::QueueLimits,
    service::{Service, ServingOptions},
};
pub use self::{
    admission::{AdmissionLimits, Overloaded, RequestShare, ShareId, WorkRequest},
    catalogue::{BundledPackage, Catalogue, CatalogueEntry, PublishedFile, WeightsOrigin},
    hash::{FileHash, NotAHash},
    model::{EncodeParameters, Encoder, Encoding},
    package::{
        DetectionSettings, DetectorArchitecture, DetectorManifest, EncoderArchitecture, EncoderManifest, Manifest,
        ModelKind, Package, PackageError, PadArchitecture, PadManifest, ScriptManifest, SimilarityMetric, Task,
        WeightsFile,
    },
    placement::{PlacementError, Placements},
    prepare::{PrepareError, SampleLimits, SkeletonError},
    proportions::proportions,
    queue::Urgency,
    sample_error::SampleError,
};
use domain::{Device, EmbeddingSpace, MemoryBudget, Modality, ModelDigest, SpaceName};
use torch::{detector::DetectorOptions, network::NetworkError};

/// All loaded models.
#[derive(Debug)]
pub struct Encoders {
    /// Sorted by name.
    all: Vec<Encoder>,
    detector: Option<Arc<FaceDetector>>,
    pad_service: Option<Arc<PadService>>,
    /// Detectors and PAD models, which make no embeddings.
    others: Vec<LoadedModel>,
    admission: Arc<Admission>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Options for serving models.
#[derive(Debug, Clone)]
pub struct EncoderOptions {
    /// Folder of the installed packages; it may be absent.
    pub models_dir: PathBuf,
    /// Maximum number of samples in a batch.
    pub batch_max: usize,
    /// How long an incomplete batch waits for more samples; zero starts at once.
    pub linger: Duration,
    /// Maximum number of samples per model that are being prepared, queued or encoded; more are refused.
    pub queue_max: usize,
    /// Threads per model. Each holds its own copy of the weights.
    pub workers_per_model: usize,
    /// Device and threads of each model.
    pub placements: Placements,
    /// Number of samples prepared at the same time.
    pub preparation_threads: usize,
    /// Which samples are worked on, over all models.
    pub admission: AdmissionLimits,
    /// Maximum sample sizes.
    pub limits: SampleLimits,
    /// What pictures take while they are decoded.
    pub memory: MemoryBudget,
}

/// A loaded model of any task.
#[derive(Debug, Clone)]
pub struct LoadedModel {
    pub name: SpaceName,
    pub modality: Modality,
    pub task: Task,
    pub digest: ModelDigest,
    /// The space of its embeddings; `None` for a detector or a PAD model.
    pub space: Option<EmbeddingSpace>,
    pub card: ModelCard,
    /// Whether it serves new samples of its modality.
    pub serving: bool,
    /// The device it runs on.
    pub device: Device,
}

/// The description in a model's package.
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

/// Why a sample was not encoded, or a model was not loaded.
#[derive(Debug, Error)]
pub enum EncoderError {
    /// The sample is unusable; the message is for the client.
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
    #[error(transparent)]
    Placement(#[from] PlacementError),
    #[error("the model {model} cannot be built: {source}; install its package again")]
    Unbuildable { model: String, source: NetworkError },
    #[error("building the model {model} panicked")]
    BuildPanicked { model: String },
    #[error("no thread starts for the model {model}: {source}")]
    NoThread { model: String, source: std::io::Error },
}

impl Encoders {
    /// Loads every package of the models folder and starts the threads. A folder without packages gives no encoders and
    /// no error.
    ///
    /// # Errors
    /// When a package is broken; the error names the folder and what to do.
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

    /// Starts the threads of loaded packages.
    ///
    /// # Errors
    /// When the weights of a package do not fit its architecture.
    pub fn of(mut packages: Vec<Package>, options: &EncoderOptions) -> Result<Self, EncoderError> {
        let installed: Vec<&SpaceName> = packages.iter().map(|package| &package.manifest.id).collect();
        options.placements.check(&installed)?;
        packages.sort_by(|one, other| one.manifest.id.cmp(&other.manifest.id));
        let pool = Arc::new(PreparationPool::new(options.preparation_threads));
        // Filled step by step, so that an error stops the threads that already run.
        let mut all = Self {
            all: Vec::new(),
            detector: None,
            pad_service: None,
            others: Vec::new(),
            admission: Admission::new(options.admission),
            threads: Mutex::default(),
        };
        // Detectors first: face encoders use them.
        for package in &packages {
            all.start_other(package, options)?;
        }
        for package in &packages {
            if let ModelKind::Encoder(manifest) = &package.manifest.kind {
                all.start_encoder(package, manifest, options, &pool)?;
            }
        }
        Ok(all)
    }

    /// Of several detectors or PAD models, the first by name serves.
    fn start_other(&mut self, package: &Package, options: &EncoderOptions) -> Result<(), EncoderError> {
        let Manifest { id, modality, kind, .. } = &package.manifest;
        let (serving_as, threads) = (served(options, id), self.threads.get_mut());
        let Some(tensors) = package.tensors() else { return Ok(()) };
        let (task, serving) = match kind {
            ModelKind::Encoder(_) => return Ok(()),
            ModelKind::Detector(manifest) => {
                let serving = self.detector.is_none();
                if serving {
                    self.detector = Some(Arc::new(start_face_detector(
                        id,
                        tensors,
                        DetectorOptions::from(&manifest.detection),
                        serving_as,
                        threads,
                    )?));
                }
                (Task::Detector, serving)
            }
            ModelKind::Pad(_) => {
                let serving = self.pad_service.is_none();
                if serving {
                    self.pad_service = Some(Arc::new(start_pad_service(id, tensors, serving_as, threads)?));
                }
                (Task::Pad, serving)
            }
        };
        self.others.push(LoadedModel {
            name: id.clone(),
            modality: *modality,
            task,
            digest: package.digest,
            space: None,
            card: ModelCard::from(&package.manifest),
            serving,
            device: options.placements.of(id).device,
        });
        Ok(())
    }

    fn start_encoder(
        &mut self,
        package: &Package,
        manifest: &EncoderManifest,
        options: &EncoderOptions,
        pool: &Arc<PreparationPool>,
    ) -> Result<(), EncoderError> {
        let Manifest { id, modality, .. } = &package.manifest;
        let (stated, weights) = (manifest.clone(), package.weights.clone());
        let build = move || EncoderModel::build(&stated, weights.clone());
        let service = Service::start(id, served(options, id), build, self.threads.get_mut())?;
        let of_faces = manifest.preprocessing.aligns();
        self.all.push(Encoder {
            space: EmbeddingSpace {
                parts: manifest.architecture.parts(),
                ..EmbeddingSpace::whole(*modality, package.digest, manifest.dimension)
            },
            card: ModelCard::from(&package.manifest),
            calibration: manifest.calibration.clone(),
            preprocessing: Arc::new(manifest.preprocessing.clone()),
            keypoint_channels: manifest.architecture.keypoint_channels(),
            pool: Arc::clone(pool),
            admission: Arc::clone(&self.admission),
            limits: options.limits,
            memory: options.memory.clone(),
            service,
            device: options.placements.of(id).device,
            detector: self.detector.clone().filter(|_| of_faces),
            pad_service: self.pad_service.clone().filter(|_| of_faces),
        });
        Ok(())
    }

    /// Admits a request whose samples need models, or refuses it before any work.
    ///
    /// # Errors
    /// [`Overloaded`].
    pub fn admit(&self, request: WorkRequest) -> Result<RequestShare, Overloaded> {
        self.admission.admit(request)
    }

    /// All encoders, sorted by name.
    pub fn all(&self) -> impl Iterator<Item = &Encoder> {
        self.all.iter()
    }

    /// The encoder for new samples of a modality: the first by name.
    #[must_use]
    pub fn for_modality(&self, modality: Modality) -> Option<&Encoder> {
        self.all().find(|encoder| encoder.space().modality == modality)
    }

    #[must_use]
    pub fn by_name(&self, name: &SpaceName) -> Option<&Encoder> {
        self.all().find(|encoder| encoder.name() == name)
    }

    #[must_use]
    pub fn by_digest(&self, digest: ModelDigest) -> Option<&Encoder> {
        self.all().find(|encoder| encoder.space().digest == digest)
    }

    /// Whether a face detector is loaded.
    #[must_use]
    pub fn finds_faces(&self) -> bool {
        self.detector.is_some()
    }

    /// Every loaded model, sorted by name.
    #[must_use]
    pub fn models(&self) -> Vec<LoadedModel> {
        let serves = |encoder: &Encoder| {
            self.for_modality(encoder.space().modality).is_some_and(|serving| serving.name() == encoder.name())
        };
        let encoders = self.all().map(|encoder| LoadedModel {
            name: encoder.name().clone(),
            modality: encoder.space().modality,
            task: Task::Encoder,
            digest: encoder.space().digest,
            space: Some(encoder.space()),
            card: encoder.card().clone(),
            serving: serves(encoder),
            device: encoder.device,
        });
        let mut models: Vec<LoadedModel> = self.others.iter().cloned().chain(encoders).collect();
        models.sort_by(|one, other| one.name.cmp(&other.name));
        models
    }

    /// Name and health of each serving model.
    pub fn health(&self) -> impl Iterator<Item = (&SpaceName, bool)> {
        let encoders = self.all().map(|encoder| (encoder.name(), encoder.is_healthy()));
        let detector = self.detector.iter().map(|detector| (detector.name(), detector.is_healthy()));
        let pad_service = self.pad_service.iter().map(|pad_service| (pad_service.name(), pad_service.is_healthy()));
        encoders.chain(detector).chain(pad_service)
    }

    /// Refuses new samples, serves those that hold a slot, and joins the threads. If the caller drops this future,
    /// queued samples are dropped and the threads end after their current batch.
    pub async fn stop(&self) {
        self.all().for_each(|encoder| encoder.service.close());
        self.detector.iter().for_each(|detector| detector.close());
        self.pad_service.iter().for_each(|pad_service| pad_service.close());
        let threads = mem::take(&mut *self.threads.lock());
        let cut_short = AbandonUnlessDone(self);
        let joined = tokio::task::spawn_blocking(|| join(threads));
        if joined.await.is_ok() {
            mem::forget(cut_short);
        }
    }

    fn abandon(&self) {
        self.all().for_each(|encoder| encoder.service.abandon());
        self.detector.iter().for_each(|detector| detector.abandon());
        self.pad_service.iter().for_each(|pad_service| pad_service.abandon());
    }
}

impl Drop for Encoders {
    /// Waits only for the batches that are being encoded.
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
            tracing::error!(name, "a worker thread panicked outside of a batch");
        }
    }
}

/// The serving options of one model.
fn served(options: &EncoderOptions, model: &SpaceName) -> ServingOptions {
    let limits = QueueLimits {
        slots_max: options.queue_max.max(1),
        batch_max: options.batch_max.max(1),
        linger_max: options.linger,
        workers: options.workers_per_model.max(1),
    };
    ServingOptions { limits, placement: options.placements.of(model) }
}

impl From<&Manifest> for ModelCard {
    fn from(manifest: &Manifest) -> Self {
        Self {
            version: manifest.version.clone(),
            architecture: manifest.kind.architecture(),
            licence: manifest.licence.clone(),
            provenance: manifest.provenance.clone(),
            source: manifest.source.clone(),
            intended_use: manifest.intended_use.clone(),
            not_for: manifest.not_for.clone(),
        }
    }
}

#[cfg(test)]
mod tests;

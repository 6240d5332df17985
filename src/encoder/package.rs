//! Model packages: a folder with `model.toml` and weight files.

pub(super) mod digest;
mod manifest;
mod manifest_table;

use std::{
    fmt, fs,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use thiserror::Error;

pub use self::{
    manifest::{
        DetectionSettings, DetectorArchitecture, DetectorManifest, EncoderArchitecture, EncoderManifest, Manifest,
        ModelKind, PadArchitecture, PadManifest, ScriptManifest, SimilarityMetric, Task,
    },
    manifest_table::WeightsFile,
};
use super::{
    hash::FileHash,
    prepare::{Preprocessing, PreprocessingError},
};
use domain::{Modality, ModelDigest, PackageCalibrationError, SpaceName};
use torch::network::NetworkError;
use weights::{FILE_BYTES_MAX, StateDict, WeightsError};

pub(super) const MANIFEST_FILE: &str = "model.toml";
/// The weight file of every installed package.
pub(super) const WEIGHTS_FILE: &str = "weights.safetensors";
/// The TorchScript file of a program package.
pub(super) const PROGRAM_FILE: &str = "weights.pt";
/// Maximum length of a manifest in bytes.
pub(super) const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// A package with a valid manifest and files of the stated sha256. [`Package::check_network`] checks whether the
/// weights fit the architecture.
#[derive(Clone)]
pub struct Package {
    pub manifest: Manifest,
    pub digest: ModelDigest,
    pub(super) weights: Weights,
}

/// The content of a package's weight files.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Weights {
    /// Tensors under the architecture's names.
    Tensors(StateDict),
    /// The bytes of a TorchScript file.
    Program(Arc<[u8]>),
}

/// Why a package cannot be used.
#[derive(Debug, Error)]
pub enum PackageError {
    #[error("cannot read {path}: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("cannot write {path}: {source}")]
    Unwritable { path: PathBuf, source: std::io::Error },
    #[error("the folder {0} has no {MANIFEST_FILE}; it is not a model package")]
    NoManifest(PathBuf),
    #[error("{MANIFEST_FILE} is longer than {MANIFEST_BYTES_MAX} bytes")]
    ManifestTooLong,
    #[error("{MANIFEST_FILE} is not a valid manifest: {0}")]
    Manifest(#[from] toml::de::Error),
    #[error("the package {id} is in the folder {folder:?}; a package's folder must have its id as its name")]
    Misplaced { id: SpaceName, folder: String },
    #[error("models of the task {task} are for faces, and {MANIFEST_FILE} has the modality {found}", task = .task.as_str())]
    WrongModality { task: Task, found: Modality },
    #[error("{0} must not be empty in {MANIFEST_FILE}")]
    Blank(&'static str),
    #[error("a package's id must not begin with a dot; {0} does")]
    HiddenId(SpaceName),
    #[error("{0:?} is not the name of a file in the package's folder")]
    BadFileName(String),
    #[error("{0:?} is named twice as a file of the weights")]
    SameFile(String),
    #[error("the weights must be in 1 to {max} files, and {MANIFEST_FILE} names {found}")]
    FileCount { found: usize, max: usize },
    #[error("{id} has its weights in {files} files, and the catalogue has {addresses} addresses for it")]
    WrongAddresses { id: SpaceName, files: usize, addresses: usize },
    #[error("the detection settings are invalid: {0}")]
    Detection(&'static str),
    #[error("the tensor {0:?} belongs to no network of the architecture; check strip_prefix and add_prefix")]
    StrayTensor(String),
    #[error("no tensor begins with {0:?}, which the architecture needs; check add_prefix")]
    NoTensors(&'static str),
    #[error("{architecture} makes embeddings of {expected} numbers, and {MANIFEST_FILE} has {found}")]
    WrongDimension { architecture: String, expected: usize, found: u32 },
    #[error("an embedding has 1 to {max} numbers")]
    Dimension { max: u32 },
    #[error("{architecture} takes inputs of the shape {expected:?}, and the preprocessing gives {found:?}")]
    WrongInput { architecture: String, expected: [usize; 3], found: [usize; 3] },
    #[error("the program's declaration in {MANIFEST_FILE} is invalid: {0}")]
    Script(&'static str),
    #[error(
        "{0} is a program, and the catalogue must not contain programs: install it from a folder if you trust its author"
    )]
    ProgramInCatalogue(SpaceName),
    #[error("the preprocessing is invalid: {0}")]
    Preprocessing(#[from] PreprocessingError),
    #[error("an atypical direction of the calibration has {found} numbers, and an embedding has {expected}")]
    DirectionLength { expected: u32, found: usize },
    #[error("the calibration is invalid: {0}")]
    Calibration(#[from] PackageCalibrationError),
    #[error("{file} has the sha256 {found} and not {expected}: it was changed or is incomplete")]
    WrongHash { file: String, expected: FileHash, found: FileHash },
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(transparent)]
    Network(#[from] NetworkError),
}

impl Package {
    /// Reads and checks the package in `folder`.
    ///
    /// # Errors
    ///
    /// See [`PackageError`].
    pub fn load(folder: &Path) -> Result<Self, PackageError> {
        let manifest = Manifest::load(folder)?;
        let mut bytes_left = FILE_BYTES_MAX;
        let mut files = Vec::new();
        for WeightsFile { file, .. } in &manifest.weights {
            let bytes = read_at_most(&folder.join(file), bytes_left)?.ok_or(WeightsError::TooLarge)?;
            bytes_left -= bytes.len() as u64;
            files.push(bytes);
        }
        Self::assemble(manifest, &files)
    }

    /// A package from a checked manifest and the bytes of its files, in the manifest's order.
    pub(super) fn assemble(manifest: Manifest, files: &[impl AsRef<[u8]>]) -> Result<Self, PackageError> {
        assert_eq!(manifest.weights.len(), files.len(), "the files follow the manifest");
        let stated = || manifest.weights.iter().zip(files.iter().map(AsRef::as_ref));
        stated().try_for_each(|(file, bytes)| file.check(bytes))?;
        let weights = match stated().next() {
            Some((_, bytes)) if manifest.is_program() => Weights::Program(bytes.into()),
            _ => {
                let mut tensors = StateDict::default();
                stated().try_for_each(|(file, bytes)| tensors.join(file.tensors(bytes)?))?;
                Weights::Tensors(tensors)
            }
        };
        let digest = digest::of_model(&weights, &manifest.kind);
        Ok(Self { manifest, digest, weights })
    }

    /// The tensors under the architecture's names; `None` for a TorchScript program.
    #[must_use]
    pub fn tensors(&self) -> Option<&StateDict> {
        match &self.weights {
            Weights::Tensors(tensors) => Some(tensors),
            Weights::Program(_) => None,
        }
    }

    /// The same model, but encoding each picture together with its mirror image. This is another space with another
    /// digest.
    #[must_use]
    pub fn mirrored(mut self) -> Self {
        if let ModelKind::Encoder(EncoderManifest { preprocessing: Preprocessing::Image(image), .. }) =
            &mut self.manifest.kind
        {
            image.mirror = true;
        }
        self.digest = digest::of_model(&self.weights, &self.manifest.kind);
        self
    }

    /// Writes the package into an empty folder (tensors as one safetensors file, a program unchanged) and syncs it to
    /// disk. The digest does not change.
    pub(super) fn write(&self, folder: &Path) -> Result<(), PackageError> {
        let name = self.weights.file();
        let path = folder.join(name);
        self.weights.write(&path)?;
        let unreadable = |source| PackageError::Unreadable { path: path.clone(), source };
        let file = fs::File::open(&path).map_err(unreadable)?;
        file.sync_all().map_err(unreadable)?;
        let sha256 = FileHash::of_reader(file).map_err(unreadable)?;
        let manifest = Manifest { weights: vec![WeightsFile::plain(name, sha256)], ..self.manifest.clone() };
        let text = toml::to_string(&manifest).expect("a manifest has only what TOML has");
        let path = folder.join(MANIFEST_FILE);
        let unwritable = |source| PackageError::Unwritable { path: path.clone(), source };
        fs::write(&path, text).map_err(unwritable)?;
        fs::File::open(&path).and_then(|file| file.sync_all()).map_err(unwritable)
    }
}

impl Weights {
    /// The name of the file.
    fn file(&self) -> &'static str {
        match self {
            Self::Tensors(_) => WEIGHTS_FILE,
            Self::Program(_) => PROGRAM_FILE,
        }
    }

    fn write(&self, path: &Path) -> Result<(), PackageError> {
        match self {
            Self::Tensors(tensors) => Ok(tensors.write_safetensors(path)?),
            Self::Program(bytes) => {
                let unwritable = |source| PackageError::Unwritable { path: path.to_owned(), source };
                fs::write(path, bytes).map_err(unwritable)
            }
        }
    }
}

impl WeightsFile {
    /// Checks the sha256.
    fn check(&self, bytes: &[u8]) -> Result<(), PackageError> {
        let found = FileHash::of(bytes);
        if found == self.sha256 {
            return Ok(());
        }
        Err(PackageError::WrongHash { file: self.file.clone(), expected: self.sha256, found })
    }

    /// Reads the tensors under the architecture's names.
    fn tensors(&self, bytes: &[u8]) -> Result<StateDict, WeightsError> {
        let tensors = StateDict::read_bytes(bytes, self.entry.as_deref())?;
        Ok(tensors.strip_prefix(&self.strip_prefix)?.without(&self.ignored_prefixes).add_prefix(&self.add_prefix))
    }
}

impl fmt::Debug for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.manifest.id, self.manifest.version, self.digest)
    }
}

/// The package folders in `models_dir`, sorted. A missing folder has none; hidden folders are installations in
/// progress.
pub(super) fn folders(models_dir: &Path) -> Result<Vec<PathBuf>, PackageError> {
    let unreadable = |source| PackageError::Unreadable { path: models_dir.to_owned(), source };
    let entries = match fs::read_dir(models_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        if entry.path().is_dir() && !entry.file_name().as_encoded_bytes().starts_with(b".") {
            folders.push(entry.path());
        }
    }
    folders.sort();
    Ok(folders)
}

/// Loads an installed package; its folder must have its id as its name.
pub(super) fn load_installed(folder: &Path) -> Result<Package, PackageError> {
    let package = Package::load(folder)?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    if name != package.manifest.id.as_str() {
        return Err(PackageError::Misplaced { id: package.manifest.id, folder: name.into_owned() });
    }
    Ok(package)
}

/// The file's bytes, or `None` when it has more than `bytes_max`.
fn read_at_most(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, PackageError> {
    let unreadable = |source| PackageError::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.len() > bytes_max {
        return Ok(None);
    }
    // The file may grow while it is read.
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok((bytes.len() as u64 <= bytes_max).then_some(bytes))
}

#[cfg(test)]
mod tests;

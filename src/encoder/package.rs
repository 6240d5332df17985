//! Model packages: a folder with `model.toml` and one file of weights.

use std::{
    fmt, fs,
    io::Read,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    digest,
    hash::FileHash,
    prepare::{Preprocessing, PreprocessingError},
};
use crate::{
    domain::{
        DIMENSION_MAX, EmbeddingSpace, Modality, ModelDigest, PackageCalibration, PackageCalibrationError, SpaceName,
    },
    torch::{
        network::{Architecture, Folding, Network, NetworkError},
        weights::{FILE_BYTES_MAX, StateDict, WeightsError},
    },
};

pub(super) const MANIFEST_FILE: &str = "model.toml";
/// The weights of every package that is made here.
pub(super) const WEIGHTS_FILE: &str = "weights.safetensors";
/// The longest manifest that is read.
pub(super) const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// What `model.toml` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// What the package, its folder and its embedding space are called.
    pub id: SpaceName,
    pub version: String,
    pub modality: Modality,
    pub task: Task,
    pub architecture: Architecture,
    /// How many numbers an embedding has.
    pub dimension: u32,
    pub metric: Metric,
    /// As whoever published the weights states it, or "none stated".
    pub licence: String,
    /// Who made the weights, from what.
    pub provenance: String,
    /// Where they were published.
    pub source: String,
    pub intended_use: String,
    pub not_for: String,
    pub weights: WeightsFile,
    pub preprocessing: Preprocessing,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<PackageCalibration>,
}

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Makes embeddings.
    Encoder,
    /// Finds bodies or faces in a picture.
    Detector,
    /// Tells a presentation attack from a living person.
    Pad,
    /// Tells how fit a sample is.
    Quality,
}

/// How embeddings are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    Cosine,
}

/// The file of the weights, and how the state dict lies in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightsFile {
    /// A name within the package's folder.
    pub file: String,
    pub sha256: FileHash,
    /// The key under which a checkpoint keeps its state dict; absent when the file is the state dict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// Taken off the names that begin with it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub strip_prefix: String,
    /// Tensors whose names begin so serve training alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored_prefixes: Vec<String>,
}

/// A package that was read and checked: its file has the stated sha256 and its manifest makes sense. Whether the weights
/// fit the architecture shows when the network is built, here by [`Package::prove`].
#[derive(Clone)]
pub struct Package {
    pub manifest: Manifest,
    pub digest: ModelDigest,
    pub(super) weights: StateDict,
}

/// What can be wrong with a package.
#[derive(Debug, Error)]
pub enum PackageError {
    #[error("cannot read {path}: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("cannot write {path}: {source}")]
    Unwritable { path: PathBuf, source: std::io::Error },
    #[error("the folder {0} has no {MANIFEST_FILE}; it is no model package")]
    NoManifest(PathBuf),
    #[error("{MANIFEST_FILE} is longer than {MANIFEST_BYTES_MAX} bytes")]
    ManifestTooLong,
    #[error("{MANIFEST_FILE} is not what a package's manifest should be: {0}")]
    Manifest(#[from] toml::de::Error),
    #[error("the package {id} lies in the folder {folder:?}; a package's folder has its id as its name")]
    Misplaced { id: SpaceName, folder: String },
    #[error("the package is a {0:?}, and only encoders are served")]
    NotAnEncoder(Task),
    #[error("{0} must not be empty in {MANIFEST_FILE}")]
    Blank(&'static str),
    #[error("a package's id does not begin with a dot; {0} does")]
    HiddenId(SpaceName),
    #[error("{0:?} is not the name of a file in the package's folder")]
    BadFileName(String),
    #[error("{architecture} makes embeddings of {expected} numbers, {MANIFEST_FILE} says {found}")]
    WrongDimension { architecture: Architecture, expected: usize, found: u32 },
    #[error("{architecture} takes inputs of the shape {expected:?}, the preprocessing makes {found:?}")]
    WrongInput { architecture: Architecture, expected: [usize; 3], found: [usize; 3] },
    #[error("the preprocessing makes no sense: {0}")]
    Preprocessing(#[from] PreprocessingError),
    #[error("the calibration makes no sense: {0}")]
    Calibration(#[from] PackageCalibrationError),
    #[error("the weights have the sha256 {found}, {MANIFEST_FILE} says {expected}: they were changed or cut off")]
    WrongHash { expected: FileHash, found: FileHash },
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(transparent)]
    Network(#[from] NetworkError),
}

impl Package {
    /// Reads and checks the package in `folder`.
    pub fn load(folder: &Path) -> Result<Self, PackageError> {
        let manifest = Manifest::load(folder)?;
        let path = folder.join(&manifest.weights.file);
        let bytes = read_at_most(&path, FILE_BYTES_MAX)?.ok_or(WeightsError::TooLarge)?;
        Self::assemble(manifest, &bytes)
    }

    /// A package of a checked manifest and the bytes of its weights.
    pub(super) fn assemble(manifest: Manifest, bytes: &[u8]) -> Result<Self, PackageError> {
        let (stated, found) = (&manifest.weights, FileHash::of(bytes));
        if found != stated.sha256 {
            return Err(PackageError::WrongHash { expected: stated.sha256, found });
        }
        let weights = StateDict::read_bytes(bytes, stated.entry.as_deref())?
            .strip_prefix(&stated.strip_prefix)?
            .without(&stated.ignored_prefixes);
        let digest = digest::of_model(&weights, manifest.architecture, &manifest.preprocessing);
        Ok(Self { manifest, digest, weights })
    }

    /// The space of the embeddings that the package makes.
    #[must_use]
    pub fn space(&self) -> EmbeddingSpace {
        let Manifest { modality, dimension, .. } = self.manifest;
        EmbeddingSpace { modality, digest: self.digest, dimension }
    }

    /// The tensors, under the names that the architecture knows.
    #[must_use]
    pub fn weights(&self) -> &StateDict {
        &self.weights
    }

    /// The same model, encoding each picture together with its mirror image: another space, with another digest.
    #[must_use]
    pub fn mirrored(mut self) -> Self {
        if let Preprocessing::Image(image) = &mut self.manifest.preprocessing {
            image.mirror = true;
        }
        self.digest = digest::of_model(&self.weights, self.manifest.architecture, &self.manifest.preprocessing);
        self
    }

    /// Builds the network and lets it go: tells whether the weights fit the architecture.
    pub fn prove(&self) -> Result<(), PackageError> {
        Network::build(self.manifest.architecture, self.weights.clone(), Folding::Folded)?;
        Ok(())
    }

    /// Writes the package into an empty folder, its weights as safetensors, and waits for the disk. The digest stays.
    pub(super) fn write(&self, folder: &Path) -> Result<(), PackageError> {
        let weights = folder.join(WEIGHTS_FILE);
        self.weights.write_safetensors(&weights)?;
        let unreadable = |source| PackageError::Unreadable { path: weights.clone(), source };
        let file = fs::File::open(&weights).map_err(unreadable)?;
        file.sync_all().map_err(unreadable)?;
        let sha256 = FileHash::of_reader(file).map_err(unreadable)?;
        let written = WeightsFile {
            file: WEIGHTS_FILE.to_owned(),
            sha256,
            entry: None,
            strip_prefix: String::new(),
            ignored_prefixes: Vec::new(),
        };
        let manifest = Manifest { weights: written, ..self.manifest.clone() };
        let text = toml::to_string(&manifest).expect("a manifest has only what TOML has");
        let path = folder.join(MANIFEST_FILE);
        let unwritable = |source| PackageError::Unwritable { path: path.clone(), source };
        fs::write(&path, text).map_err(unwritable)?;
        fs::File::open(&path).and_then(|file| file.sync_all()).map_err(unwritable)
    }
}

impl fmt::Debug for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.manifest.id, self.manifest.version, self.digest)
    }
}

impl Manifest {
    /// Reads and checks the manifest in `folder`.
    pub fn load(folder: &Path) -> Result<Self, PackageError> {
        let path = folder.join(MANIFEST_FILE);
        if !path.is_file() {
            return Err(PackageError::NoManifest(folder.to_owned()));
        }
        Self::parse(&read_at_most(&path, MANIFEST_BYTES_MAX)?.ok_or(PackageError::ManifestTooLong)?)
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, PackageError> {
        toml::from_slice::<Self>(bytes)?.checked()
    }

    /// What the types do not hold.
    pub(super) fn checked(self) -> Result<Self, PackageError> {
        self.check_words()?;
        if self.task != Task::Encoder {
            return Err(PackageError::NotAnEncoder(self.task));
        }
        self.preprocessing.check()?;
        let (architecture, expected) = (self.architecture, self.architecture.dimension());
        if self.dimension > DIMENSION_MAX || self.dimension as usize != expected {
            return Err(PackageError::WrongDimension { architecture, expected, found: self.dimension });
        }
        let (expected, found) = (architecture.input_shape(), self.preprocessing.shape());
        if expected != found {
            return Err(PackageError::WrongInput { architecture, expected, found });
        }
        let calibration = self.calibration.map(PackageCalibration::checked).transpose()?;
        Ok(Self { calibration, ..self })
    }

    fn check_words(&self) -> Result<(), PackageError> {
        let words = [
            ("version", &self.version),
            ("licence", &self.licence),
            ("provenance", &self.provenance),
            ("source", &self.source),
            ("intended_use", &self.intended_use),
            ("not_for", &self.not_for),
        ];
        if let Some((field, _)) = words.into_iter().find(|(_, text)| text.trim().is_empty()) {
            return Err(PackageError::Blank(field));
        }
        // Hidden folders are installations under way.
        if self.id.as_str().starts_with('.') {
            return Err(PackageError::HiddenId(self.id.clone()));
        }
        let file = &self.weights.file;
        let is_plain = Path::new(file).file_name().is_some_and(|name| name == file.as_str()) && !file.contains('\\');
        if is_plain { Ok(()) } else { Err(PackageError::BadFileName(file.clone())) }
    }
}

/// The folders of the packages in `models_dir`, sorted. A folder that does not exist holds none; hidden folders are
/// installations under way.
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

/// Loads an installed package, whose folder is named for it.
pub(super) fn load_installed(folder: &Path) -> Result<Package, PackageError> {
    let package = Package::load(folder)?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    if name != package.manifest.id.as_str() {
        return Err(PackageError::Misplaced { id: package.manifest.id, folder: name.into_owned() });
    }
    Ok(package)
}

/// The file's bytes, or nothing when they are more than `bytes_max`.
fn read_at_most(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, PackageError> {
    let unreadable = |source| PackageError::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok((bytes.len() as u64 <= bytes_max).then_some(bytes))
}

#[cfg(test)]
mod tests;

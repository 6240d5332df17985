//! Installs model packages from the catalogue, a folder, an archive or an address.
//!
//! Length and sha256 are checked before use, and an installation is atomic: a package is written to a hidden folder,
//! synced to disk, and then renamed. A lock file allows one installation at a time per models folder, across processes.
//! All functions block; they print nothing and report to an [`InstallProgress`].

mod archive;
mod download;
mod mirror;
mod progress;

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use thiserror::Error;

use self::download::{Address, ExpectedFile};
pub use self::progress::{InstallProgress, NoProgress, ProgressBars};
use super::{
    Catalogue, CatalogueEntry, FileHash, Package, PackageError, PublishedFile, WeightsOrigin,
    package::{self, MANIFEST_BYTES_MAX},
};
use domain::{ModelDigest, SpaceName};
use weights::FILE_BYTES_MAX;

/// The models folder and the sources of files.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// Folder of the installed packages; created when absent.
    pub models_dir: PathBuf,
    /// If set, files are found by sha256 in this folder and its subfolders, and never downloaded.
    pub mirror: Option<PathBuf>,
    /// Network timeout without received bytes.
    pub silence_max: Duration,
}

/// The source of a package for [`install`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackageSource {
    /// A package folder.
    Folder(PathBuf),
    /// A zip archive of a package folder.
    Archive(PathBuf),
    /// The address of such an archive.
    Url { url: String, sha256: FileHash },
}

/// The result of an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledPackage {
    pub id: SpaceName,
    pub digest: ModelDigest,
    pub folder: PathBuf,
    pub outcome: InstallOutcome,
}

/// What an installation changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstallOutcome {
    New,
    /// The installed package was broken, or had another description of the same model.
    Replaced,
    AlreadyInstalled,
}

/// The check of one installed package.
#[derive(Debug)]
pub struct VerifiedPackage {
    pub folder: PathBuf,
    /// The package, if its files have the stated sha256 and its weights fit its architecture.
    pub outcome: Result<Package, PackageError>,
}

/// Why a package was not installed.
#[derive(Debug, Error)]
pub enum FetchError {
    #[error("the catalogue has no {name:?}; it has {known}")]
    NotInCatalogue { name: String, known: String },
    #[error("no file in the mirror {mirror} has the sha256 {sha256}")]
    NotInMirror { mirror: PathBuf, sha256: FileHash },
    #[error("the mirror {mirror} has more than {limit} files or too many levels; use a smaller folder")]
    MirrorTooLarge { mirror: PathBuf, limit: usize },
    #[error("{url} is not allowed: use https (http is for this machine only)")]
    BadUrl { url: String },
    #[error("{url} needs an expected sha256")]
    NoHash { url: String },
    #[error("cannot reach {url}: {source}")]
    Unreachable { url: String, source: Box<ureq::Error> },
    #[error("{url} returned status {status}")]
    Status { url: String, status: u16 },
    #[error("the connection to {url} broke after {received} bytes; run the command again to resume")]
    Cut { url: String, received: u64 },
    #[error("{url} has more than the stated {bytes_max} bytes")]
    TooLong { url: String, bytes_max: u64 },
    #[error("{origin} has the sha256 {found} and not {expected}; the download was deleted")]
    WrongHash { origin: String, expected: FileHash, found: FileHash },
    #[error("the archive is not a package: {0}")]
    Archive(#[from] ArchiveError),
    #[error("{action} {path}: {source}")]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "a package {id} with another model is installed; its embeddings cannot be used with the new one. To replace it, remove {folder} first"
    )]
    OtherModel { id: SpaceName, folder: PathBuf },
    #[error(transparent)]
    Package(#[from] PackageError),
}

/// Why an archive is not a package.
#[derive(Debug, Error)]
pub enum ArchiveError {
    #[error("it cannot be read as zip: {0}")]
    Zip(#[from] zip::result::ZipError),
    #[error("a member cannot be unpacked: {0}")]
    Io(#[from] io::Error),
    #[error("it has more than {0} members")]
    TooManyMembers(usize),
    #[error("the member {0:?} is outside of the folder")]
    Escapes(String),
    #[error("it must hold the folder of exactly one package, with one model.toml")]
    NoManifest,
    #[error("it lacks the weight file {0:?}")]
    NoWeights(String),
    #[error("its member {name:?} has more than {bytes_max} bytes")]
    TooLarge { name: String, bytes_max: u64 },
}

impl FetchOptions {
    #[must_use]
    pub fn new(models_dir: PathBuf, mirror: Option<PathBuf>) -> Self {
        Self { models_dir, mirror, silence_max: Duration::from_secs(30) }
    }
}

/// Installs a package of the catalogue by name. Does nothing when a working package of that name is installed.
///
/// # Errors
///
/// See [`FetchError`].
pub fn pull(
    catalogue: &Catalogue,
    name: &str,
    options: &FetchOptions,
    progress: &dyn InstallProgress,
) -> Result<InstalledPackage, FetchError> {
    let entry = catalogue.named(name).ok_or_else(|| {
        let known: Vec<&str> = catalogue.names().map(SpaceName::as_str).collect();
        FetchError::NotInCatalogue { name: name.to_owned(), known: known.join(", ") }
    })?;
    let lock = ModelsFolderLock::take(&options.models_dir)?;
    let folder = lock.folder_of(&entry.manifest.id);
    if let Ok(there) = package::load_installed(&folder) {
        return Ok(InstalledPackage {
            id: there.manifest.id,
            digest: there.digest,
            folder,
            outcome: InstallOutcome::AlreadyInstalled,
        });
    }
    let package = match &entry.origin {
        WeightsOrigin::Published(files) => {
            let addresses: Vec<&str> = files.iter().map(|file| &*file.url).collect();
            progress.describe(&entry.manifest, &addresses);
            let make = |files: &[Vec<u8>]| Ok(Package::assemble(entry.manifest.clone(), files)?);
            lock.with_files(&expected(entry, files), options, progress, make)?
        }
        WeightsOrigin::Bundled(weights) => {
            progress.describe(&entry.manifest, &["this program"]);
            Package::assemble(entry.manifest.clone(), &[weights])?
        }
    };
    lock.install(&package)
}

fn expected(entry: &CatalogueEntry, files: &[PublishedFile]) -> Vec<ExpectedFile> {
    let files = entry.manifest.weights.iter().zip(files);
    files
        .map(|(weights, file)| ExpectedFile { url: file.url.clone(), sha256: weights.sha256, bytes: Some(file.bytes) })
        .collect()
}

/// Installs a package from another source. Its description is reported before anything of it runs: a TorchScript file
/// is a program.
///
/// # Errors
///
/// See [`FetchError`].
pub fn install(
    source: &PackageSource,
    options: &FetchOptions,
    progress: &dyn InstallProgress,
) -> Result<InstalledPackage, FetchError> {
    let lock = ModelsFolderLock::take(&options.models_dir)?;
    let package = match source {
        PackageSource::Folder(folder) => Package::load(folder)?,
        PackageSource::Archive(path) => {
            let file = fs::File::open(path).map_err(failed("cannot open", path))?;
            archive::read(io::BufReader::new(file))?
        }
        PackageSource::Url { url, sha256 } => {
            let expected = ExpectedFile { url: url.clone(), sha256: *sha256, bytes: None };
            lock.with_files(&[expected], options, progress, |files| archive::read(io::Cursor::new(&files[0])))?
        }
    };
    progress.describe(&package.manifest, &[&source.to_string()]);
    lock.install(&package)
}

/// Whether no package is installed. Checks folder names only; [`verify`] checks content.
///
/// # Errors
///
/// When the folder cannot be listed.
pub fn is_empty(models_dir: &Path) -> Result<bool, FetchError> {
    Ok(package::folders(models_dir)?.is_empty())
}

/// Checks every installed package: sha256 of its files, and whether its network can be built and run.
///
/// # Errors
///
/// When the folder cannot be listed.
pub fn verify(models_dir: &Path) -> Result<Vec<VerifiedPackage>, FetchError> {
    let prove = |folder: PathBuf| {
        let outcome = package::load_installed(&folder).and_then(|package| package.check_network().map(|()| package));
        VerifiedPackage { folder, outcome }
    };
    Ok(package::folders(models_dir)?.into_iter().map(prove).collect())
}

impl PackageSource {
    /// Parses the operator's argument: a folder, an archive, or an address with its sha256.
    ///
    /// # Errors
    /// [`FetchError::BadUrl`] or [`FetchError::NoHash`].
    pub fn parse(text: &str, sha256: Option<FileHash>) -> Result<Self, FetchError> {
        let path = Path::new(text);
        match sha256 {
            _ if path.is_dir() => Ok(Self::Folder(path.to_owned())),
            _ if path.is_file() || !text.contains("://") => Ok(Self::Archive(path.to_owned())),
            Some(sha256) => Address::parse(text).map(|_| Self::Url { url: text.to_owned(), sha256 }),
            None => Err(FetchError::NoHash { url: text.to_owned() }),
        }
    }
}

impl fmt::Display for PackageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) | Self::Archive(path) => path.display().fmt(f),
            Self::Url { url, .. } => f.write_str(url),
        }
    }
}

/// The lock on a models folder; one process holds it at a time.
struct ModelsFolderLock {
    models_dir: PathBuf,
    _locked: fs::File,
}

impl ModelsFolderLock {
    const LOCK: &str = ".lock";
    const PARTIAL: &str = ".partial";

    fn take(models_dir: &Path) -> Result<Self, FetchError> {
        fs::create_dir_all(models_dir.join(Self::PARTIAL)).map_err(failed("cannot make the folder", models_dir))?;
        let path = models_dir.join(Self::LOCK);
        let mut open = fs::OpenOptions::new();
        let file = open.create(true).truncate(false).write(true).open(&path).map_err(failed("cannot open", &path))?;
        file.lock().map_err(failed("cannot lock", &path))?;
        Ok(Self { models_dir: models_dir.to_owned(), _locked: file })
    }

    fn folder_of(&self, id: &SpaceName) -> PathBuf {
        self.models_dir.join(id.as_str())
    }

    /// Passes the bytes of checked files to `make`. Downloaded files are deleted after success; until then they stay,
    /// so that the next attempt resumes.
    fn with_files(
        &self,
        expected: &[ExpectedFile],
        options: &FetchOptions,
        progress: &dyn InstallProgress,
        make: impl FnOnce(&[Vec<u8>]) -> Result<Package, FetchError>,
    ) -> Result<Package, FetchError> {
        if let Some(mirror) = &options.mirror {
            let files = expected.iter().map(|expected| mirror::find(mirror, expected));
            return make(&files.collect::<Result<Vec<_>, _>>()?);
        }
        let partial = |expected: &ExpectedFile| self.models_dir.join(Self::PARTIAL).join(expected.sha256.to_string());
        for expected in expected {
            download::download(expected, &partial(expected), options.silence_max, progress)?;
        }
        let read = |path: PathBuf| fs::read(&path).map_err(failed("cannot read", &path));
        let files = expected.iter().map(partial).map(read).collect::<Result<Vec<_>, _>>()?;
        let package = make(&files)?;
        // Two names may refer to one file: remove it once.
        for path in expected.iter().map(partial).collect::<BTreeSet<_>>() {
            fs::remove_file(&path).map_err(failed("cannot remove", &path))?;
        }
        Ok(package)
    }

    /// Writes the package to a hidden folder and renames it to its place.
    fn install(&self, package: &Package) -> Result<InstalledPackage, FetchError> {
        package.check_network()?;
        let id = package.manifest.id.clone();
        let folder = self.folder_of(&id);
        let incoming = self.models_dir.join(format!(".incoming-{id}"));
        remove_folder(&incoming)?;
        fs::create_dir(&incoming).map_err(failed("cannot make the folder", &incoming))?;
        package.write(&incoming)?;
        sync_folder(&incoming)?;
        let outcome = self.outcome(package, &incoming, &folder)?;
        match outcome {
            InstallOutcome::AlreadyInstalled => remove_folder(&incoming)?,
            InstallOutcome::New | InstallOutcome::Replaced => self.swap(&incoming, &folder)?,
        }
        Ok(InstalledPackage { id, digest: package.digest, folder, outcome })
    }

    /// Compares a package with the installed one. Another description of the same model may replace it; another model
    /// may not, because enrolled templates are bound to the installed model.
    fn outcome(&self, package: &Package, incoming: &Path, folder: &Path) -> Result<InstallOutcome, FetchError> {
        if !folder.exists() {
            return Ok(InstallOutcome::New);
        }
        match package::load_installed(folder) {
            Ok(there) if there.digest != package.digest => {
                remove_folder(incoming)?;
                Err(FetchError::OtherModel { id: there.manifest.id, folder: self.folder_of(&package.manifest.id) })
            }
            Ok(there) if there.manifest == package::Manifest::load(incoming)? => Ok(InstallOutcome::AlreadyInstalled),
            Ok(_) | Err(_) => Ok(InstallOutcome::Replaced),
        }
    }

    fn swap(&self, incoming: &Path, folder: &Path) -> Result<(), FetchError> {
        let outgoing = self.models_dir.join(".outgoing");
        remove_folder(&outgoing)?;
        if folder.exists() {
            fs::rename(folder, &outgoing).map_err(failed("cannot move away", folder))?;
        }
        fs::rename(incoming, folder).map_err(failed("cannot rename a package to", folder))?;
        sync_folder(&self.models_dir)?;
        remove_folder(&outgoing)
    }
}

fn remove_folder(folder: &Path) -> Result<(), FetchError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("cannot remove", folder)(error)),
        _ => Ok(()),
    }
}

/// Syncs the directory entries of a folder to disk.
fn sync_folder(folder: &Path) -> Result<(), FetchError> {
    fs::File::open(folder).and_then(|open| open.sync_all()).map_err(failed("cannot sync", folder))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FetchError {
    let path = path.to_owned();
    move |source| FetchError::File { action, path, source }
}

#[cfg(test)]
mod tests;

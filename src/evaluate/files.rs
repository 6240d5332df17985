//! The files of a set on disk.

use std::path::{Path, PathBuf};

use super::EvaluateError;
use domain::{PoseOptions, Skeleton};

/// Maximum number of frames of a walk.
const FRAMES_MAX: usize = 100_000;

/// The bytes of a file.
///
/// # Errors
/// [`EvaluateError::Unreadable`].
pub(super) fn read(path: &Path) -> Result<Vec<u8>, EvaluateError> {
    std::fs::read(path).map_err(|source| EvaluateError::Unreadable { path: path.to_owned(), source })
}

/// The files of a folder with one of these endings, sorted by name. Endings are compared without case.
///
/// # Errors
/// [`EvaluateError::Unreadable`].
pub(super) fn in_folder(folder: &Path, endings: &[&str]) -> Result<Vec<PathBuf>, EvaluateError> {
    let unreadable = |source| EvaluateError::Unreadable { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let ending = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
        if ending.is_some_and(|e| endings.contains(&e.as_str())) {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// The files of a folder and of its subfolders (one level), sorted by path.
///
/// # Errors
/// [`EvaluateError::Unreadable`].
pub(super) fn in_subfolders(folder: &Path, endings: &[&str]) -> Result<Vec<PathBuf>, EvaluateError> {
    let mut files = in_folder(folder, endings)?;
    let unreadable = |source| EvaluateError::Unreadable { path: folder.to_owned(), source };
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() {
            files.extend(in_folder(&path, endings)?);
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// The walk of a pose file.
///
/// # Errors
/// [`EvaluateError::Unreadable`], or [`EvaluateError::Layout`] when the file is no pose file.
pub(super) fn skeleton(path: &Path) -> Result<Skeleton, EvaluateError> {
    poses::read(&read(path)?, &PoseOptions::default(), FRAMES_MAX)
        .map_err(|problem| EvaluateError::Layout { path: path.to_owned(), problem: problem.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_subfolders_are_found() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("ann")).expect("made");
        for name in ["b.jpg", "ann/a.PNG", "ann/notes.txt"] {
            std::fs::write(folder.path().join(name), b"").expect("written");
        }
        let found = in_subfolders(folder.path(), &["jpg", "png"]).expect("listed");
        assert_eq!(found, [folder.path().join("ann/a.PNG"), folder.path().join("b.jpg")]);
    }
}

//! Finds files in a mirror folder by sha256.

use std::{fs, path::Path};

use super::{ExpectedFile, FILE_BYTES_MAX, FetchError, FileHash, failed};

/// Maximum number of files visited.
const FILES_MAX: usize = 200_000;
/// Maximum folder depth.
const DEPTH_MAX: usize = 12;

/// The bytes of the expected file in `mirror`. If the length is known, only files of that length are read.
pub(super) fn find(mirror: &Path, expected: &ExpectedFile) -> Result<Vec<u8>, FetchError> {
    let mut search = MirrorSearch { mirror, expected, seen: 0 };
    search
        .folder(mirror, 0)?
        .ok_or_else(|| FetchError::NotInMirror { mirror: mirror.to_owned(), sha256: expected.sha256 })
}

struct MirrorSearch<'a> {
    mirror: &'a Path,
    expected: &'a ExpectedFile,
    seen: usize,
}

impl MirrorSearch<'_> {
    fn folder(&mut self, folder: &Path, depth: usize) -> Result<Option<Vec<u8>>, FetchError> {
        for entry in fs::read_dir(folder).map_err(failed("cannot list the mirror", folder))? {
            let entry = entry.map_err(failed("cannot list the mirror", folder))?;
            self.seen += 1;
            if self.seen > FILES_MAX || depth > DEPTH_MAX {
                return Err(FetchError::MirrorTooLarge { mirror: self.mirror.to_owned(), limit: FILES_MAX });
            }
            let path = entry.path();
            // The type of the entry itself: links to folders are not followed, so there are no cycles.
            let kind = entry.file_type().map_err(failed("cannot read the metadata of", &path))?;
            let found = if kind.is_dir() { self.folder(&path, depth + 1)? } else { self.file(&path)? };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn file(&self, path: &Path) -> Result<Option<Vec<u8>>, FetchError> {
        // A dangling link or a deleted file does not match.
        let Ok(about) = fs::metadata(path) else {
            return Ok(None);
        };
        let length_fits = self.expected.bytes.map_or(about.len() <= FILE_BYTES_MAX, |bytes| bytes == about.len());
        if !about.is_file() || !length_fits {
            return Ok(None);
        }
        let bytes = fs::read(path).map_err(failed("cannot read", path))?;
        Ok((FileHash::of(&bytes) == self.expected.sha256).then_some(bytes))
    }
}

//! Reads a package from a zip archive. Members are read into memory by name; nothing is unpacked to disk.

use std::io::{self, Read, Seek};

use zip::ZipArchive;

use super::{ArchiveError, FILE_BYTES_MAX, FetchError, MANIFEST_BYTES_MAX};
use crate::package::{MANIFEST_FILE, Manifest, Package, WeightsFile};

/// Maximum number of members: a package has few files, plus a readme and a licence.
const MEMBERS_MAX: usize = 64;

/// Reads the package in an archive, at its top or in one folder.
pub(super) fn read(file: impl Read + Seek) -> Result<Package, FetchError> {
    let mut zip = ZipArchive::new(file).map_err(ArchiveError::from)?;
    let folder = folder(&mut zip)?;
    let text =
        member(&mut zip, &format!("{folder}{MANIFEST_FILE}"), MANIFEST_BYTES_MAX)?.ok_or(ArchiveError::NoManifest)?;
    let manifest = Manifest::parse(&text)?;
    let mut bytes_left = FILE_BYTES_MAX;
    let mut files = Vec::new();
    for WeightsFile { file, .. } in &manifest.weights {
        let name = format!("{folder}{file}");
        let bytes = member(&mut zip, &name, bytes_left)?.ok_or(ArchiveError::NoWeights(name))?;
        bytes_left -= bytes.len() as u64;
        files.push(bytes);
    }
    Ok(Package::assemble(manifest, &files)?)
}

/// The path before `model.toml`: empty, or `name/`.
fn folder(zip: &mut ZipArchive<impl Read + Seek>) -> Result<String, ArchiveError> {
    if zip.len() > MEMBERS_MAX {
        return Err(ArchiveError::TooManyMembers(MEMBERS_MAX));
    }
    let mut folders = Vec::new();
    for index in 0..zip.len() {
        let name = zip.by_index(index)?.name()?.into_owned();
        // Nothing is unpacked, so such a member is harmless here, but it shows bad intent.
        if escapes(&name) {
            return Err(ArchiveError::Escapes(name));
        }
        folders.extend(name.strip_suffix(MANIFEST_FILE).map(str::to_owned));
    }
    match &folders[..] {
        [folder] if folder.is_empty() || (folder.ends_with('/') && folder.matches('/').count() == 1) => {
            Ok(folder.clone())
        }
        _ => Err(ArchiveError::NoManifest),
    }
}

/// Whether the unpacked member would be outside of the target folder.
fn escapes(name: &str) -> bool {
    name.starts_with(['/', '\\']) || name.split(['/', '\\']).any(|part| part == "..")
}

fn member(zip: &mut ZipArchive<impl Read + Seek>, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, ArchiveError> {
    let Some(index) = zip.index_for_name(name) else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    // The stated length is not trusted.
    zip.by_index(index)?.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|error: io::Error| error)?;
    if bytes.len() as u64 > bytes_max {
        return Err(ArchiveError::TooLarge { name: name.to_owned(), bytes_max });
    }
    Ok(Some(bytes))
}

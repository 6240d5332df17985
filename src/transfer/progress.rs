//! The progress of an import, saved beside its file, so that the next run continues.
//!
//! It saves work; the correctness of an import does not depend on it: rows have ids derived from the file, and a server
//! returns the earlier answer for a known id. A run may therefore end between an answer and the saved progress.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{TransferError, output::replace};
use domain::CollectionId;

/// The progress of one file into one collection.
#[derive(Debug)]
pub struct ImportProgress {
    path: PathBuf,
    kept: SavedProgress,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SavedProgress {
    collection: CollectionId,
    /// sha256 of the file in hexadecimal.
    file: String,
    /// Number of earlier complete re-imports of the file.
    again: u32,
    /// Rows up to this one were enrolled or refused.
    settled: u64,
}

impl ImportProgress {
    /// Opens saved progress or starts at the first row.
    ///
    /// # Errors
    /// [`TransferError::OtherProgress`] when it belongs to another file or collection, or an error of reading.
    pub fn open(path: &Path, file: &Path, digest: &[u8; 32], collection: &CollectionId) -> Result<Self, TransferError> {
        let begun = SavedProgress { collection: collection.clone(), file: hex::encode(digest), again: 0, settled: 0 };
        let kept = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => begun,
            Err(error) => return Err(TransferError::io(path, error)),
            Ok(bytes) => {
                let kept: SavedProgress = serde_json::from_slice(&bytes)
                    .map_err(|_| TransferError::unreadable(path, "this is not the progress of an import"))?;
                if (&kept.collection, &kept.file) != (&begun.collection, &begun.file) {
                    return Err(TransferError::OtherProgress { kept: path.to_owned(), file: file.to_owned() });
                }
                kept
            }
        };
        Ok(Self { path: path.to_owned(), kept })
    }

    /// Starts at the first row with new ids: everything is enrolled once more.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn again(&mut self) -> Result<(), TransferError> {
        self.kept.again += 1;
        self.kept.settled = 0;
        self.keep()
    }

    #[must_use]
    pub fn settled(&self) -> u64 {
        self.kept.settled
    }

    /// Saves that the rows up to `through` are done.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn settle(&mut self, through: u64) -> Result<(), TransferError> {
        if through <= self.kept.settled {
            return Ok(());
        }
        self.kept.settled = through;
        self.keep()
    }

    /// The request id of a row, the same in every run over the same file: the row takes effect once.
    #[must_use]
    pub fn request_id(&self, row: u64) -> String {
        let SavedProgress { file, again, .. } = &self.kept;
        let digest = Sha256::digest(format!("semblance import 1\0{file}\0{again}\0{row}"));
        format!("import-{}", hex::encode(&digest[..16]))
    }

    fn keep(&self) -> Result<(), TransferError> {
        let json = serde_json::to_vec(&self.kept).expect("texts and numbers are JSON");
        replace(&self.path, &json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_resumes_with_the_same_file_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, file) = (folder.path().join("progress"), Path::new("people.jsonl"));
        let staff = CollectionId::new("staff").expect("an id");
        let open = |digest: u8, collection: &CollectionId| ImportProgress::open(&path, file, &[digest; 32], collection);
        let mut first = open(1, &staff).expect("a beginning");
        assert_eq!(first.settled(), 0);
        first.settle(40).expect("kept");
        first.settle(30).expect("nothing to keep");
        let second = open(1, &staff).expect("the same");
        assert_eq!(second.settled(), 40);
        assert_eq!(second.request_id(41), first.request_id(41));
        assert_ne!(second.request_id(41), second.request_id(42));
        assert!(second.request_id(u64::MAX).len() <= 128);

        let mut again = second;
        let before = again.request_id(1);
        again.again().expect("kept");
        assert_eq!((open(1, &staff).expect("the same").settled(), again.request_id(1) != before), (0, true));

        assert!(matches!(open(2, &staff), Err(TransferError::OtherProgress { .. })));
        let guests = CollectionId::new("guests").expect("an id");
        assert!(matches!(open(1, &guests), Err(TransferError::OtherProgress { .. })));
        fs::write(&path, "{").expect("written");
        assert!(matches!(open(1, &staff), Err(TransferError::Unreadable { .. })));
    }
}

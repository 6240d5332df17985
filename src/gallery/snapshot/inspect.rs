//! Inspection of a snapshot, to compare it with the store.

use std::{collections::HashMap, path::Path, sync::Arc};

use super::{ReadOptions, ReadSnapshot, SnapshotDir, SnapshotError, read};
use crate::rows::kernel::Packing;
use domain::{CollectionUid, IdentityId, Position, StoredTemplate, TemplateId};

/// A complete snapshot, read for comparison with the store.
#[derive(Debug)]
pub struct SnapshotInspection {
    recalled: ReadSnapshot,
    /// Space index and row of each template.
    places: HashMap<TemplateId, (usize, usize)>,
}

impl SnapshotInspection {
    /// Reads the newest snapshot of a collection, if there is one.
    ///
    /// # Errors
    /// [`SnapshotError`] when it cannot be read or is damaged.
    pub fn of(root: &Path, uid: CollectionUid) -> Result<Option<Self>, SnapshotError> {
        let dir = Arc::new(SnapshotDir::new(root.to_owned()));
        let Some(folder) = dir.newest(uid)? else {
            return Ok(None);
        };
        let options = ReadOptions { packing: Packing::Bytes, mapped_bytes_min: 0 };
        let recalled = read(&dir, &folder, uid, options)?;
        let mut places = HashMap::new();
        for (space, (_, rows)) in recalled.content.spaces.iter().enumerate() {
            places.extend((0..rows.len()).map(|row| (rows.template(row), (space, row))));
        }
        Ok(Some(Self { recalled, places }))
    }

    /// Deletes the snapshots of a collection. No process may use them.
    ///
    /// # Errors
    /// [`SnapshotError`] when the file system refuses.
    pub fn remove(root: &Path, uid: CollectionUid) -> Result<(), SnapshotError> {
        SnapshotDir::new(root.to_owned()).clear(uid, |_| false)
    }

    /// Position of the log at which it was taken.
    #[must_use]
    pub fn position(&self) -> Position {
        self.recalled.content.position
    }

    /// Checksum of the log entry at that position; see [`domain::Entry::checksum`].
    #[must_use]
    pub fn entry_checksum(&self) -> u32 {
        self.recalled.content.entry_checksum
    }

    /// Its templates and their identities.
    pub fn templates(&self) -> impl Iterator<Item = (TemplateId, IdentityId)> {
        let content = &self.recalled.content;
        self.places.iter().filter_map(|(template, (space, row))| {
            let owner = content.entries.get(content.spaces[*space].1.owner(*row).0 as usize)?.as_ref()?;
            Some((*template, owner.id.clone()))
        })
    }

    /// Whether it holds the template with the same identity, space and bit-identical values.
    #[must_use]
    pub fn holds(&self, stored: &StoredTemplate) -> bool {
        let content = &self.recalled.content;
        self.places.get(&stored.template.id).is_some_and(|(space, row)| {
            let (key, rows) = &content.spaces[*space];
            let owner = content.entries.get(rows.owner(*row).0 as usize).and_then(Option::as_ref);
            let same = |(one, other): (&f32, &f32)| one.to_bits() == other.to_bits();
            key.space == stored.template.space
                && owner.is_some_and(|owner| owner.id == stored.template.identity)
                && rows.values(*row).iter().zip(stored.embedding.values()).all(same)
        })
    }
}

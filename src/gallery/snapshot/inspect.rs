//! A snapshot beside the store, for whoever doubts one of them.

use std::{collections::HashMap, path::Path};

use super::{Recalled, SnapshotError, clear, newest, read};
use crate::rows::kernel::Packing;
use domain::{CollectionUid, IdentityId, Position, StoredTemplate, TemplateId};

/// A whole snapshot, to be compared with what the store holds.
#[derive(Debug)]
pub struct Inspection {
    recalled: Recalled,
    /// The space and the row of each template.
    places: HashMap<TemplateId, (usize, usize)>,
}

impl Inspection {
    /// Reads the newest snapshot of a collection, if there is one.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    pub fn of(root: &Path, uid: CollectionUid) -> Result<Option<Self>, SnapshotError> {
        let Some(folder) = newest(root, uid)? else {
            return Ok(None);
        };
        let recalled = read(&folder, uid, Packing::Bytes)?;
        let mut places = HashMap::new();
        for (space, (_, rows)) in recalled.moment.spaces.iter().enumerate() {
            places.extend((0..rows.len()).map(|row| (rows.template(row), (space, row))));
        }
        Ok(Some(Self { recalled, places }))
    }

    /// Removes the snapshots of a collection. Nothing may be using them.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove(root: &Path, uid: CollectionUid) -> Result<(), SnapshotError> {
        clear(root, uid)
    }

    /// Where in the log it was taken.
    #[must_use]
    pub fn position(&self) -> Position {
        self.recalled.moment.position
    }

    /// Of the entry at that position; see [`domain::Entry::checksum`].
    #[must_use]
    pub fn mark(&self) -> u32 {
        self.recalled.moment.mark
    }

    /// The templates that it holds, and whose they are.
    pub fn templates(&self) -> impl Iterator<Item = (TemplateId, IdentityId)> {
        let moment = &self.recalled.moment;
        self.places.iter().filter_map(|(template, (space, row))| {
            let owner = moment.occupants.get(moment.spaces[*space].1.owner(*row).0 as usize)?.as_ref()?;
            Some((*template, owner.id.clone()))
        })
    }

    /// Whether it holds the template, of the same identity, with the same numbers to the last bit.
    #[must_use]
    pub fn holds(&self, stored: &StoredTemplate) -> bool {
        let moment = &self.recalled.moment;
        self.places.get(&stored.template.id).is_some_and(|(space, row)| {
            let (key, rows) = &moment.spaces[*space];
            let owner = moment.occupants.get(rows.owner(*row).0 as usize).and_then(Option::as_ref);
            let same = |(one, other): (&f32, &f32)| one.to_bits() == other.to_bits();
            *key == stored.template.space
                && owner.is_some_and(|owner| owner.id == stored.template.identity)
                && rows.values(*row).iter().zip(stored.embedding.values()).all(same)
        })
    }
}

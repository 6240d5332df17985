//! Loading a collection from the store's tables.

use crate::collection::{CollectionIndex, state::IndexState};
use domain::{Identity, Position, StoredTemplate};

/// Loads a collection index in pages: first all identities, then all templates. The index answers from its previous
/// state until [`Restore::finish`].
///
/// Writers may go on while the pages are read. Read the log's head before the first page: a later change appears in the
/// pages, in the entries after the head, or in both, and is applied once.
#[derive(Debug)]
#[must_use = "nothing is loaded until the restore is finished"]
pub struct Restore<'s> {
    index: &'s CollectionIndex,
    state: IndexState,
    head: Position,
    entry_checksum: u32,
}

impl<'s> Restore<'s> {
    pub(crate) fn new(index: &'s CollectionIndex, head: Position, entry_checksum: u32) -> Self {
        Self { index, state: IndexState::new(index.packing()), head, entry_checksum }
    }

    pub fn identities(&mut self, page: &[Identity]) {
        for identity in page {
            self.state.put(identity);
        }
    }

    /// Takes the page by value, so that it is freed before the next is read: a million templates are in memory once.
    pub fn templates(&mut self, page: Vec<StoredTemplate>) {
        for stored in page {
            if stored.template.position <= self.head {
                self.state.admit(&stored);
            }
        }
    }

    /// Replaces the index's state. Entries after the head are applied as usual.
    pub fn finish(mut self) {
        self.state.head = self.head;
        self.state.entry_checksum = self.entry_checksum;
        self.index.replace(self.state);
    }
}

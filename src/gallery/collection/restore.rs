//! Loading a collection from what the store holds of it.

use crate::collection::{Shelf, state::Fold};
use domain::{Identity, Position, StoredTemplate};

/// A shelf that is being loaded, in pages: first all identities, then all templates. It takes its place when it is
/// finished, and until then the shelf answers as before.
///
/// The pages may be read while writers go on. The head must be read before them; what they hold beyond it is told
/// again by the entries that follow the head, and is skipped or replaced here.
#[derive(Debug)]
#[must_use = "nothing is loaded until the restore is finished"]
pub struct Restore<'s> {
    shelf: &'s Shelf,
    fold: Fold,
    head: Position,
    mark: u32,
}

impl<'s> Restore<'s> {
    pub(crate) fn new(shelf: &'s Shelf, head: Position, mark: u32) -> Self {
        Self { shelf, fold: Fold::new(shelf.packing()), head, mark }
    }

    pub fn identities(&mut self, page: &[Identity]) {
        for identity in page {
            self.fold.put(identity);
        }
    }

    /// Each page is freed before the next is read, so that a million templates are in memory once.
    pub fn templates(&mut self, page: Vec<StoredTemplate>) {
        for stored in page {
            if stored.template.position <= self.head {
                self.fold.admit(&stored);
            }
        }
    }

    /// Puts what was loaded in place, at the head. Entries after it are applied as usual.
    pub fn finish(mut self) {
        self.fold.head = self.head;
        self.fold.mark = self.mark;
        self.shelf.replace(self.fold);
    }
}

//! Loading: the gallery of a collection from its snapshot and log, or from the rows of the store.

use std::{collections::HashMap, sync::Arc};

use super::Replica;
use crate::matcher::{collection::collection_handle::CollectionHandle, request::fault::Fault};
use domain::{Collection, CollectionUid, Position};
use gallery::CollectionIndex;

/// Rows that are read at once.
const ROWS_PAGE: u32 = 2000;

/// The counts that loading has reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadProgress {
    pub collections: u64,
    pub identities: u64,
    pub templates: u64,
}

/// Counts, and the callback that receives each change of them.
struct Reporter<'r, F> {
    done: LoadProgress,
    report: &'r mut F,
}

impl<F: FnMut(LoadProgress) + Send> Reporter<'_, F> {
    fn add(&mut self, identities: u64, templates: u64) {
        self.done.identities += identities;
        self.done.templates += templates;
        (self.report)(self.done);
    }
}

impl Replica {
    /// Loads every collection from the store. No request may be served before it returns.
    ///
    /// # Errors
    /// When the store fails or holds unreadable rows.
    pub async fn load_all(&self, mut report: impl FnMut(LoadProgress) + Send) -> Result<LoadProgress, Fault> {
        let mut reporter = Reporter { done: LoadProgress::default(), report: &mut report };
        let mut after = None;
        loop {
            // The heads are read before the rows: an entry appended meanwhile has a higher position and is followed.
            let heads = self.positions().await?;
            let page = self.store.collections(after.as_ref(), ROWS_PAGE).await?;
            let is_last = page.len() < ROWS_PAGE as usize;
            after = page.last().map(|c| c.id.clone());
            for collection in page {
                let head = heads.get(&collection.uid).copied().unwrap_or_default();
                let handle = self.load_with(collection, head, &mut reporter).await?;
                self.directory.put_first(handle);
                reporter.done.collections += 1;
                reporter.add(0, 0);
            }
            if is_last {
                self.prune_snapshots().await;
                return Ok(reporter.done);
            }
        }
    }

    /// Loads a collection that is not open.
    pub(crate) async fn load(&self, collection: Collection) -> Result<CollectionHandle, Fault> {
        let head = self.positions().await?.get(&collection.uid).copied().unwrap_or_default();
        self.load_at(collection, head).await
    }

    /// Loads a collection up to the given head of its log.
    pub(crate) async fn load_at(&self, collection: Collection, head: Position) -> Result<CollectionHandle, Fault> {
        let mut reporter = Reporter { done: LoadProgress::default(), report: &mut |_| () };
        let handle = self.load_with(collection, head, &mut reporter).await?;
        // Two requests may load it at once: the first stays, so that there is one lock for writers.
        let handle = self.directory.put_first(handle);
        // It may have been deleted meanwhile.
        let id = &handle.collection.id;
        if self.store.collection(id).await?.is_none_or(|c| c.uid != handle.collection.uid) {
            self.close(&handle);
            return Err(Fault::NoCollection(id.clone()));
        }
        Ok(handle)
    }

    async fn positions(&self) -> Result<HashMap<CollectionUid, Position>, Fault> {
        Ok(self.store.heads().await?.into_iter().map(|h| (h.uid, h.position)).collect())
    }

    async fn load_with<F: FnMut(LoadProgress) + Send>(
        &self,
        collection: Collection,
        head: Position,
        reporter: &mut Reporter<'_, F>,
    ) -> Result<CollectionHandle, Fault> {
        let uid = collection.uid;
        let index = self.gallery.open(uid);
        if self.load_snapshot(uid, &index, head).await? {
            let stats = index.stats();
            reporter.add(stats.identities, stats.templates);
        } else {
            self.load_rows(uid, &index, head, reporter).await?;
        }
        let handle = CollectionHandle::new(collection, index);
        self.read_active_calibrations(&handle).await?;
        Ok(handle)
    }

    async fn load_rows<F: FnMut(LoadProgress) + Send>(
        &self,
        uid: CollectionUid,
        index: &Arc<CollectionIndex>,
        head: Position,
        reporter: &mut Reporter<'_, F>,
    ) -> Result<(), Fault> {
        let mut restore = index.restore(head, self.checksum_at(uid, head).await?);
        let mut after = None;
        loop {
            let page = self.store.in_collection(uid).identities(after.as_ref(), ROWS_PAGE).await?;
            let is_last = page.len() < ROWS_PAGE as usize;
            after = page.last().map(|i| i.id.clone());
            restore.identities(&page);
            reporter.add(page.len() as u64, 0);
            if is_last {
                break;
            }
        }
        let mut after = Position::START;
        loop {
            let page = self.store.in_collection(uid).stored_templates(after, ROWS_PAGE).await?;
            let (count, is_last) = (page.len() as u64, page.len() < ROWS_PAGE as usize);
            after = page.last().map_or(after, |t| t.template.position);
            restore.templates(page);
            reporter.add(0, count);
            if is_last {
                break;
            }
        }
        restore.finish();
        Ok(())
    }
}

//! The open collections by id, in memory, so that a search does not ask the database.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::RwLock;

use crate::matcher::collection::collection_handle::CollectionHandle;
use domain::{Collection, CollectionId, CollectionUid};

#[derive(Debug, Default)]
pub(crate) struct CollectionDirectory(RwLock<BTreeMap<CollectionId, CollectionHandle>>);

impl CollectionDirectory {
    pub(crate) fn get(&self, id: &CollectionId) -> Option<CollectionHandle> {
        self.0.read().get(id).cloned()
    }

    pub(crate) fn by_uid(&self, uid: CollectionUid) -> Option<CollectionHandle> {
        self.0.read().values().find(|handle| handle.collection.uid == uid).cloned()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.read().len()
    }

    pub(crate) fn all(&self) -> Vec<CollectionHandle> {
        self.0.read().values().cloned().collect()
    }

    /// Adds a collection unless it is open already. Returns the open one.
    pub(crate) fn put_first(&self, handle: CollectionHandle) -> CollectionHandle {
        let mut all = self.0.write();
        match all.get(&handle.collection.id) {
            Some(first) if first.collection.uid == handle.collection.uid => first.clone(),
            Some(_) | None => {
                all.insert(handle.collection.id.clone(), handle.clone());
                handle
            }
        }
    }

    /// Replaces the record of an open collection if the given one is newer.
    pub(crate) fn refresh(&self, collection: &Arc<Collection>) {
        if let Some(handle) = self.0.write().get_mut(&collection.id)
            && handle.collection.uid == collection.uid
            && handle.collection.revision < collection.revision
        {
            handle.collection = Arc::clone(collection);
        }
    }

    /// Removes the collection, unless its id now belongs to another one.
    pub(crate) fn remove(&self, id: &CollectionId, uid: CollectionUid) {
        let mut all = self.0.write();
        if all.get(id).is_some_and(|handle| handle.collection.uid == uid) {
            all.remove(id);
        }
    }
}

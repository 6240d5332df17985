//! The collections by id, in memory, so that a search asks no database.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::RwLock;
use tokio::sync::Mutex;

use super::{Fault, Matcher};
use crate::{
    domain::{Collection, CollectionId, CollectionUid},
    gallery::Shelf,
};

/// A collection that is open: its record, its part of the gallery, and who may write to it.
#[derive(Debug, Clone)]
pub(super) struct Open {
    pub(super) collection: Arc<Collection>,
    pub(super) shelf: Arc<Shelf>,
    /// Held from before a turn until its entries are in the gallery: entries reach it in order.
    pub(super) writers: Arc<Mutex<()>>,
}

#[derive(Debug, Default)]
pub(super) struct Directory(RwLock<BTreeMap<CollectionId, Open>>);

impl Directory {
    pub(super) fn get(&self, id: &CollectionId) -> Option<Open> {
        self.0.read().get(id).cloned()
    }

    pub(super) fn len(&self) -> usize {
        self.0.read().len()
    }

    pub(super) fn all(&self) -> Vec<Open> {
        self.0.read().values().cloned().collect()
    }

    /// Adds a collection, unless it is open already: answers the one that is open from now on.
    pub(super) fn put_first(&self, open: Open) -> Open {
        let mut all = self.0.write();
        match all.get(&open.collection.id) {
            Some(first) if first.collection.uid == open.collection.uid => first.clone(),
            Some(_) | None => {
                all.insert(open.collection.id.clone(), open.clone());
                open
            }
        }
    }

    /// Takes in a newer record of a collection that is open.
    pub(super) fn refresh(&self, collection: &Arc<Collection>) {
        if let Some(open) = self.0.write().get_mut(&collection.id)
            && open.collection.uid == collection.uid
            && open.collection.revision < collection.revision
        {
            open.collection = Arc::clone(collection);
        }
    }

    /// Forgets the collection, unless another one has its id by now.
    pub(super) fn remove(&self, id: &CollectionId, uid: CollectionUid) {
        let mut open = self.0.write();
        if open.get(id).is_some_and(|o| o.collection.uid == uid) {
            open.remove(id);
        }
    }
}

impl Matcher {
    /// The collection of that id. One that another replica made just now is opened on the way.
    pub(super) async fn open(&self, id: &CollectionId) -> Result<Open, Fault> {
        if let Some(open) = self.directory.get(id) {
            return Ok(open);
        }
        let Some(collection) = self.store.collection(id).await? else {
            return Err(Fault::NoCollection(id.clone()));
        };
        self.load(collection).await
    }
}

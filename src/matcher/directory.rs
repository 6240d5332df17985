//! The collections by id, in memory, so that a search asks no database.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::RwLock;
use tokio::sync::{Mutex, watch};

use super::{Fault, Matcher, passes::Passes, pins::Pins, together::Company};
use decision::Pace;
use domain::{Collection, CollectionId, CollectionUid, Entry, Position};
use gallery::Shelf;

/// A collection that is open: its record, its part of the gallery, and who may write to it.
#[derive(Debug, Clone)]
pub(super) struct Open {
    pub(super) collection: Arc<Collection>,
    pub(super) shelf: Arc<Shelf>,
    /// Held from before a turn until its entries are in the gallery.
    pub(super) writers: Arc<Mutex<()>>,
    /// Those who wait for it, and may be written for by another.
    pub(super) company: Arc<Company>,
    pub(super) progress: Arc<Progress>,
    pub(super) passes: Arc<Passes>,
    pub(super) pins: Arc<Pins>,
    /// How many questions to humans its resolves have come to of late.
    pub(super) pace: Arc<parking_lot::Mutex<Pace>>,
}

/// How far the shelf has followed the log, for those who wait for it.
#[derive(Debug)]
pub(super) struct Progress {
    reached: watch::Sender<Position>,
    /// The furthest head of the log that anybody told of.
    head: AtomicU64,
    /// Held by whoever reads the log, so that many who wait read it once.
    pub(super) reader: Mutex<()>,
}

impl Open {
    pub(super) fn new(collection: Collection, shelf: Arc<Shelf>) -> Self {
        let at = shelf.position();
        let progress =
            Progress { reached: watch::Sender::new(at), head: AtomicU64::new(at.0), reader: Mutex::default() };
        Self {
            collection: Arc::new(collection),
            shelf,
            writers: Arc::default(),
            company: Arc::default(),
            progress: Arc::new(progress),
            passes: Arc::default(),
            pins: Arc::default(),
            pace: Arc::default(),
        }
    }

    /// Follows the log, in whatever order pages of it come in: what is there already is skipped. Wakes those who wait.
    ///
    /// On a thread of its own: the shelf takes them in when no search holds it any more, and in a large gallery a search
    /// takes tens of milliseconds.
    pub(super) async fn apply(&self, entries: Vec<Entry>) -> Result<(), Fault> {
        if entries.is_empty() {
            return Ok(());
        }
        let shelf = Arc::clone(&self.shelf);
        let applied = tokio::task::spawn_blocking(move || shelf.apply(&entries)).await.map_err(Fault::internal)?;
        let at = self.shelf.position();
        self.head_seen(at);
        self.progress.reached.send_if_modified(|reached| {
            let further = at > *reached;
            *reached = at.max(*reached);
            further
        });
        Ok(applied?)
    }

    /// Ends when the shelf has followed the log to that position.
    pub(super) async fn reached(&self, position: Position) {
        let mut reached = self.progress.reached.subscribe();
        // Only a sender that is gone fails, and it is not: this collection holds it.
        let _ = reached.wait_for(|at| *at >= position).await;
    }

    pub(super) fn head_seen(&self, head: Position) {
        self.progress.head.fetch_max(head.0, Ordering::Relaxed);
    }

    /// How many entries are known to be in the log and not in the gallery.
    pub(super) fn lag(&self) -> u64 {
        self.progress.head.load(Ordering::Relaxed).saturating_sub(self.shelf.position().0)
    }
}

#[derive(Debug, Default)]
pub(super) struct Directory(RwLock<BTreeMap<CollectionId, Open>>);

impl Directory {
    pub(super) fn get(&self, id: &CollectionId) -> Option<Open> {
        self.0.read().get(id).cloned()
    }

    pub(super) fn by_uid(&self, uid: CollectionUid) -> Option<Open> {
        self.0.read().values().find(|open| open.collection.uid == uid).cloned()
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

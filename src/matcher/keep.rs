//! Snapshots of the gallery: taken now and then and at the stop, read at the start, and only as far as the log agrees.
//!
//! A snapshot is never the truth. What cannot be read, is damaged or is of another log than the store holds now is
//! warned of and removed, and the collection is read from the store.

use std::{sync::Arc, time::Instant};

use tracing::{debug, warn};

use super::{Fault, Matcher, directory::Open, replay::Chain, turn::CATCH_UP_PAGE};
use domain::{CollectionUid, Entry, Position};
use gallery::{Recall, Shelf, SnapshotError};

impl Matcher {
    /// Loads the collection from its snapshot and follows the log from there to `head`. Answers whether there was one
    /// that the log agrees with.
    pub(super) async fn recall(&self, uid: CollectionUid, shelf: &Arc<Shelf>, head: Position) -> Result<bool, Fault> {
        let recalled = tokio::task::spawn_blocking({
            let shelf = Arc::clone(shelf);
            move || shelf.recall()
        });
        let recall = match recalled.await.map_err(Fault::internal)? {
            Ok(None) => return Ok(false),
            Ok(Some(recall)) if self.is_of_the_log(uid, &recall, head).await? => recall,
            Ok(Some(recall)) => {
                let position = recall.position().0;
                warn!(collection = %uid, position, "a snapshot is of another log; the collection is read from the store");
                count("foreign");
                drop(recall);
                clear(shelf).await;
                return Ok(false);
            }
            Err(error) => {
                warn_of_use(uid, &error);
                count("damaged");
                clear(shelf).await;
                return Ok(false);
            }
        };
        recall.take_up();
        while shelf.position() < head {
            let entries = self.store.entries_after(uid, shelf.position(), CATCH_UP_PAGE).await?;
            if entries.is_empty() {
                break;
            }
            shelf.apply(&entries)?;
        }
        count("recalled");
        Ok(true)
    }

    /// Whether the log holds, at the snapshot's position, the entry that the snapshot was taken at. A database that was
    /// put back to an earlier state does not, or does no more.
    async fn is_of_the_log(&self, uid: CollectionUid, recall: &Recall, head: Position) -> Result<bool, Fault> {
        Ok(recall.position() <= head && self.mark_at(uid, recall.position()).await? == recall.mark())
    }

    /// The mark of the log's entry at a position; 0 where there is none.
    pub(super) async fn mark_at(&self, uid: CollectionUid, position: Position) -> Result<u32, Fault> {
        let Some(before) = position.0.checked_sub(1) else {
            return Ok(0);
        };
        let entries = self.store.entries_after(uid, Position(before), 1).await?;
        Ok(entries.first().filter(|entry| entry.position == position).map_or(0, Entry::mark))
    }

    /// Takes snapshots where the log has moved on. One that fails leaves the others in peace, and is tried again.
    pub(super) async fn keep(&self) -> Result<(), Fault> {
        let gallery = Arc::clone(&self.gallery);
        let take = move || {
            let mut failed = None;
            for (uid, shelf) in gallery.shelves() {
                let began = Instant::now();
                match shelf.keep() {
                    Ok(false) => {}
                    Ok(true) => {
                        count("taken");
                        let took = began.elapsed();
                        metrics::histogram!(domain::metric::GALLERY_SNAPSHOT_DURATION).record(took.as_secs_f64());
                        debug!(collection = %uid, ?took, "took a snapshot");
                    }
                    Err(error) => {
                        count("failed");
                        failed = Some(error);
                    }
                }
            }
            failed
        };
        let failed = tokio::task::spawn_blocking(take).await.map_err(Fault::internal)?;
        failed.map_or(Ok(()), |error| Err(Fault::internal(error)))
    }

    /// Takes the last snapshots before the stop, so that the next start reads little of the log.
    pub async fn keep_last(&self) {
        if let Err(fault) = self.keep().await {
            warn!(error = %Chain(&fault), "the last snapshot could not be taken; the next start reads the store");
        }
    }

    /// Makes what was erased from snapshots stay so.
    pub(super) async fn scrub_snapshots(&self) {
        let gallery = Arc::clone(&self.gallery);
        let scrub =
            move || -> Result<(), SnapshotError> { gallery.shelves().iter().try_for_each(|(_, shelf)| shelf.scrub()) };
        match tokio::task::spawn_blocking(scrub).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                warn!(error = %Chain(&error), "what was erased from a snapshot may come back if power fails");
            }
            Err(error) => warn!(%error, "snapshots were not synced"),
        }
    }

    /// Removes the snapshots of collections that were deleted while nobody here could hear of it.
    pub(super) async fn prune_snapshots(&self) {
        let gallery = Arc::clone(&self.gallery);
        match tokio::task::spawn_blocking(move || gallery.prune()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                warn!(error = %Chain(&error), "snapshots of collections that are gone may still be on disk");
            }
            Err(error) => warn!(%error, "snapshots were not looked through"),
        }
    }
}

fn warn_of_use(uid: CollectionUid, error: &SnapshotError) {
    warn!(collection = %uid, error = %Chain(error), "a snapshot is of no use; the collection is read from the store");
}

/// Removes the snapshots of a collection that is gone.
pub(super) async fn end(open: &Open) {
    let shelf = Arc::clone(&open.shelf);
    let ended = tokio::task::spawn_blocking(move || shelf.end()).await;
    if let Ok(Err(error)) = ended {
        let uid = open.collection.uid;
        warn!(collection = %uid, error = %Chain(&error), "snapshots of a deleted collection are still on disk");
    }
}

async fn clear(shelf: &Arc<Shelf>) {
    let shelf = Arc::clone(shelf);
    if let Ok(Err(error)) = tokio::task::spawn_blocking(move || shelf.clear()).await {
        warn!(error = %Chain(&error), "a snapshot that is of no use could not be removed");
    }
}

fn count(outcome: &'static str) {
    metrics::counter!(domain::metric::GALLERY_SNAPSHOTS, "outcome" => outcome).increment(1);
}

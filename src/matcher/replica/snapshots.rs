//! Snapshots of the gallery: taken at intervals and at the stop, read at the start as far as the log confirms them.
//!
//! The store is the truth, a snapshot is a copy. A snapshot that is unreadable, damaged or of another log is removed with
//! a warning, and the collection is loaded from the store.

use std::{sync::Arc, time::Instant};

use tracing::{debug, warn};

use super::{LOG_PAGE, Replica};
use crate::matcher::{collection::collection_handle::CollectionHandle, request::fault::Fault};
use domain::{CollectionUid, Entry, ErrorChain, Position};
use gallery::{CollectionIndex, LoadedSnapshot, MaintenanceReport};

impl Replica {
    /// Loads a collection from its snapshot and applies the log from there to `head`. Returns whether there was a
    /// snapshot that the log confirms.
    pub(crate) async fn load_snapshot(
        &self,
        uid: CollectionUid,
        index: &Arc<CollectionIndex>,
        head: Position,
    ) -> Result<bool, Fault> {
        let read = tokio::task::spawn_blocking({
            let index = Arc::clone(index);
            move || index.load_snapshot()
        });
        let snapshot = match read.await.map_err(Fault::internal)? {
            Ok(None) => return Ok(false),
            Ok(Some(snapshot)) if self.is_of_the_log(uid, &snapshot, head).await? => snapshot,
            Ok(Some(snapshot)) => {
                let position = snapshot.position().0;
                warn!(collection = %uid, position, "a snapshot is of another log; the collection is loaded from the store");
                count("foreign");
                drop(snapshot);
                remove(index).await;
                return Ok(false);
            }
            Err(error) => {
                let why = ErrorChain(&error).to_string();
                warn!(collection = %uid, error = why, "a snapshot is unreadable; the collection is loaded from the store");
                count("damaged");
                remove(index).await;
                return Ok(false);
            }
        };
        snapshot.install();
        while index.position() < head {
            let entries = self.store.in_collection(uid).entries_after(index.position(), LOG_PAGE).await?;
            if entries.is_empty() {
                break;
            }
            index.apply(&entries)?;
        }
        count("recalled");
        Ok(true)
    }

    /// Whether the log still holds the entry at the position of the snapshot. After a restore of an older backup it does
    /// not.
    async fn is_of_the_log(
        &self,
        uid: CollectionUid,
        snapshot: &LoadedSnapshot,
        head: Position,
    ) -> Result<bool, Fault> {
        let position = snapshot.position();
        Ok(position <= head && self.checksum_at(uid, position).await? == snapshot.entry_checksum())
    }

    /// The checksum of the log entry at a position; 0 where there is none.
    pub(crate) async fn checksum_at(&self, uid: CollectionUid, position: Position) -> Result<u32, Fault> {
        let Some(before) = position.0.checked_sub(1) else {
            return Ok(0);
        };
        let entries = self.store.in_collection(uid).entries_after(Position(before), 1).await?;
        Ok(entries.first().filter(|entry| entry.position == position).map_or(0, Entry::checksum))
    }

    /// Takes snapshots of the collections that changed. The failure of one does not stop the others; the next interval
    /// tries again.
    pub(crate) async fn take_snapshots(&self) -> Result<(), Fault> {
        let gallery = Arc::clone(&self.gallery);
        let take = move || {
            let mut failed = None;
            for (uid, index) in gallery.indexes() {
                let began = Instant::now();
                match index.write_snapshot() {
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
    pub async fn take_last_snapshots(&self) {
        if let Err(fault) = self.take_snapshots().await {
            warn!(error = %ErrorChain(&fault), "the last snapshot failed; the next start reads the store");
        }
    }

    /// Makes erasures from snapshots durable, and repeats erasures and removals that failed. Returns whether deleted data
    /// may still be in a snapshot on disk.
    pub(crate) async fn scrub_snapshots(&self) -> bool {
        let gallery = Arc::clone(&self.gallery);
        tokio::task::spawn_blocking(move || gallery.scrub_snapshots()).await.unwrap_or_else(|error| {
            warn!(%error, "deleted data may still be in a snapshot");
            true
        })
    }

    /// Removes the snapshots of collections that were deleted while this process was stopped.
    pub(crate) async fn prune_snapshots(&self) {
        let gallery = Arc::clone(&self.gallery);
        if let Err(error) = tokio::task::spawn_blocking(move || gallery.prune()).await {
            warn!(%error, "snapshots of deleted collections may still be on disk");
        }
    }

    /// Gives the galleries time to build graphs and to compact.
    pub(crate) async fn maintain(&self) -> Result<(), Fault> {
        let gallery = Arc::clone(&self.gallery);
        let maintain = move || {
            for (uid, index) in gallery.indexes() {
                let done = index.maintain();
                if done != MaintenanceReport::default() {
                    tracing::info!(collection = %uid, ?done, "maintained the gallery");
                }
            }
        };
        tokio::task::spawn_blocking(maintain).await.map_err(Fault::internal)
    }
}

/// Removes the snapshots of a deleted collection for good. The gallery logs a failure and tries again.
pub(crate) async fn remove_all(handle: &CollectionHandle) {
    let index = Arc::clone(&handle.index);
    if let Err(error) = tokio::task::spawn_blocking(move || index.discard()).await {
        let uid = handle.collection.uid;
        warn!(collection = %uid, %error, "snapshots of a deleted collection may still be on disk");
    }
}

/// Removes an unusable snapshot. The gallery logs a failure and tries again.
async fn remove(index: &Arc<CollectionIndex>) {
    let index = Arc::clone(index);
    if let Err(error) = tokio::task::spawn_blocking(move || index.clear_snapshots()).await {
        warn!(%error, "an unusable snapshot may still be on disk");
    }
}

fn count(outcome: &'static str) {
    metrics::counter!(domain::metric::GALLERY_SNAPSHOTS, "outcome" => outcome).increment(1);
}

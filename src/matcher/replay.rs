//! The gallery is a fold over the logs: read at the start, followed from then on.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use tokio::{task::JoinHandle, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Fault, Matcher, directory::Open, keep::end};
use domain::{Change, Collection, CollectionUid, ErrorChain, IdentityId, Position, Timestamp};
use gallery::Upkeep;
use store::ExpiredIdentity;

/// Rows read at once while a collection is loaded.
const PAGE: u32 = 2000;
/// How often the gallery is asked whether it wants upkeep.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How often graphs are compared with the scan, at most.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// How far a replay is, for whoever shows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplayProgress {
    pub collections: u64,
    pub identities: u64,
    pub templates: u64,
}

impl Matcher {
    /// Loads every collection from the store. Until this has ended, nothing may be served.
    ///
    /// # Errors
    /// When the store fails, or holds what cannot be read.
    pub async fn replay(&self, mut progress: impl FnMut(ReplayProgress) + Send) -> Result<ReplayProgress, Fault> {
        let mut done = ReplayProgress::default();
        let mut after = None;
        loop {
            // The heads are read before the rows: whatever is appended meanwhile has a higher position and is followed.
            let heads = self.positions().await?;
            let page = self.store.collections(after.as_ref(), PAGE).await?;
            let last = page.len() < PAGE as usize;
            after = page.last().map(|c| c.id.clone());
            for collection in page {
                let head = heads.get(&collection.uid).copied().unwrap_or_default();
                let open = self.load_with(collection, head, &mut done, &mut progress).await?;
                self.directory.put_first(open);
                done.collections += 1;
                progress(done);
            }
            if last {
                self.prune_snapshots().await;
                return Ok(done);
            }
        }
    }

    /// Opens a collection that was not there before.
    pub(super) async fn load(&self, collection: Collection) -> Result<Open, Fault> {
        let head = self.positions().await?.get(&collection.uid).copied().unwrap_or_default();
        self.load_at(collection, head).await
    }

    pub(super) async fn load_at(&self, collection: Collection, head: Position) -> Result<Open, Fault> {
        let open = self.load_with(collection, head, &mut ReplayProgress::default(), &mut |_| ()).await?;
        // Two requests may have loaded it at once: the first to come stays, so that there is one lock for writers.
        let open = self.directory.put_first(open);
        // It may have been deleted while it was read.
        let id = &open.collection.id;
        if self.store.collection(id).await?.is_none_or(|c| c.uid != open.collection.uid) {
            self.close(&open);
            return Err(Fault::NoCollection(id.clone()));
        }
        Ok(open)
    }

    async fn positions(&self) -> Result<HashMap<CollectionUid, Position>, Fault> {
        Ok(self.store.heads().await?.into_iter().map(|h| (h.uid, h.position)).collect())
    }

    async fn load_with(
        &self,
        collection: Collection,
        head: Position,
        done: &mut ReplayProgress,
        progress: &mut (impl FnMut(ReplayProgress) + Send),
    ) -> Result<Open, Fault> {
        let uid = collection.uid;
        let shelf = self.gallery.open(uid);
        if self.recall(uid, &shelf, head).await? {
            let stats = shelf.stats();
            done.identities += stats.identities;
            done.templates += stats.templates;
            progress(*done);
            return self.opened(collection, shelf).await;
        }
        let mut restore = shelf.restore(head, self.mark_at(uid, head).await?);
        let mut after = None;
        loop {
            let page = self.store.in_collection(uid).identities(after.as_ref(), PAGE).await?;
            let last = page.len() < PAGE as usize;
            after = page.last().map(|i| i.id.clone());
            done.identities += page.len() as u64;
            restore.identities(&page);
            progress(*done);
            if last {
                break;
            }
        }
        let mut after = Position::START;
        loop {
            let page = self.store.in_collection(uid).stored_templates(after, PAGE).await?;
            let last = page.len() < PAGE as usize;
            after = page.last().map_or(after, |t| t.template.position);
            done.templates += page.len() as u64;
            restore.templates(page);
            progress(*done);
            if last {
                break;
            }
        }
        restore.finish();
        self.opened(collection, shelf).await
    }

    /// Lets go of a collection that was deleted. What this answers ends when its snapshots are removed; nobody has to wait.
    pub(super) fn close(&self, open: &Open) -> JoinHandle<()> {
        self.directory.remove(&open.collection.id, open.collection.uid);
        self.calibrations.remove(open.collection.uid);
        self.gallery.remove(open.collection.uid);
        let open = open.clone();
        self.tasks.spawn(async move { end(&open).await })
    }

    /// Follows the logs and keeps house until told to stop: takes in what other replicas appended, removes what has
    /// expired, gives the gallery its time for upkeep, for snapshots and for a look at what its graphs miss.
    pub async fn keep_house(&self, stop: CancellationToken) {
        let listen = async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.listen() => {}
            }
        };
        let follow = every(self.options.follow_interval, &stop, "follow", || self.follow().boxed());
        let sweep = every(self.options.sweep_interval, &stop, "sweep", || self.sweep().boxed());
        let upkeep = every(UPKEEP_INTERVAL, &stop, "upkeep", || self.upkeep().boxed());
        let keep = every(self.options.snapshot_interval, &stop, "snapshot", || self.keep().boxed());
        let watch = every(WATCH_INTERVAL, &stop, "watch", || self.watch().boxed());
        tokio::join!(listen, follow, sweep, upkeep, keep, watch);
    }

    async fn upkeep(&self) -> Result<(), Fault> {
        let gallery = Arc::clone(&self.gallery);
        let maintain = move || {
            for (uid, shelf) in gallery.shelves() {
                let done = shelf.maintain();
                if done != Upkeep::default() {
                    info!(collection = %uid, ?done, "kept up the gallery");
                }
            }
        };
        tokio::task::spawn_blocking(maintain).await.map_err(Fault::internal)
    }

    /// Removes identities whose time has come, and answers and decisions that are no longer kept.
    async fn sweep(&self) -> Result<(), Fault> {
        const SWEPT_AT_ONCE: u32 = 500;
        let now = self.clock.now();
        let mut failed = None;
        loop {
            let expired = self.store.expired_identities(now, SWEPT_AT_ONCE).await?;
            let mut swept = false;
            for ExpiredIdentity { collection, identity } in &expired {
                match self.expire(*collection, identity.clone(), now).await {
                    Ok(()) => swept = true,
                    Err(Fault::NoCollection(_)) => {}
                    Err(fault) => failed = Some(fault),
                }
            }
            if !swept || expired.len() < SWEPT_AT_ONCE as usize {
                break;
            }
        }
        self.store.sweep_idempotency_records(now).await?;
        if let Ok(before) = now.checked_sub(self.options.decisions_kept) {
            self.store.sweep_decisions(before).await?;
        }
        self.store.sweep_review_cases(now).await?;
        self.store.sweep_operations(now).await?;
        self.scrub().await;
        failed.map_or(Ok(()), Err)
    }

    async fn expire(&self, uid: CollectionUid, identity: IdentityId, now: Timestamp) -> Result<(), Fault> {
        let Some(open) = self.directory.all().into_iter().find(|o| o.collection.uid == uid) else {
            return Ok(());
        };
        let mut turn = self.take_turn(&open).await?;
        self.detached(async move {
            // Its time may have been put off since.
            if turn.store().identity(&identity).await?.is_some_and(|i| i.is_expired(now)) {
                turn.append(&[Change::ExpireIdentity(identity)]).await?;
                turn.commit().await?;
            }
            Ok(())
        })
        .await
    }
}

/// Does `work` at every interval until told to stop; never when the interval is zero.
async fn every<'w>(
    interval: Duration,
    stop: &CancellationToken,
    what: &'static str,
    work: impl Fn() -> BoxFuture<'w, Result<(), Fault>>,
) {
    if interval.is_zero() {
        return;
    }
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let worked = tokio::select! {
            () = stop.cancelled() => return,
            worked = work() => worked,
        };
        // Said once when it begins and once when it ends, not every second in between.
        match &worked {
            Ok(()) if failing => info!(what, "works again"),
            Err(fault) if !failing => warn!(what, error = %ErrorChain(fault), "fails, and is tried again"),
            Ok(()) | Err(_) => {}
        }
        failing = worked.is_err();
    }
}

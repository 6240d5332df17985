//! Housekeeping: the background work of a server, from the load at its start to its stop.

use std::time::Duration;

use futures::{FutureExt, future::BoxFuture};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::matcher::{Matcher, request::fault::Fault};
use domain::{Change, CollectionUid, ErrorChain, IdentityId, Timestamp};
use store::ExpiredIdentity;

/// Interval between two maintenance runs of the galleries.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(1);
/// Minimum interval between two recall samples.
const RECALL_INTERVAL: Duration = Duration::from_secs(2);

impl Matcher {
    /// Does all background work until `stop`: follows the logs, removes what has expired, maintains the galleries, takes
    /// snapshots and samples the recall of the graphs.
    pub async fn run_housekeeping(&self, stop: CancellationToken) {
        let replica = &self.replica;
        let listen = async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = replica.listen() => {}
            }
        };
        let options = replica.options();
        let follow = every(options.follow_interval, &stop, "follow", || replica.follow().boxed());
        let sweep = every(self.sweep_interval, &stop, "sweep", || self.sweep().boxed());
        let maintain = every(MAINTENANCE_INTERVAL, &stop, "upkeep", || replica.maintain().boxed());
        let snapshot = every(options.snapshot_interval, &stop, "snapshot", || replica.take_snapshots().boxed());
        let recall = every(RECALL_INTERVAL, &stop, "recall", || self.sample_recall().boxed());
        tokio::join!(listen, follow, sweep, maintain, snapshot, recall);
    }

    async fn sample_recall(&self) -> Result<(), Fault> {
        // The lower half of an id is random.
        let draw = self.ids.fresh().as_u64_pair().1;
        self.replica.sample_recall(self.clock.now(), draw).await
    }

    /// Removes what has expired, and the bytes of what was deleted. The bytes also while the database fails.
    async fn sweep(&self) -> Result<(), Fault> {
        let swept = self.sweep_expired().await;
        self.replica.scrub().await;
        swept
    }

    /// Removes expired identities, and answers and decisions past their retention.
    async fn sweep_expired(&self) -> Result<(), Fault> {
        const SWEPT_AT_ONCE: u32 = 500;
        let now = self.clock.now();
        let mut failed = None;
        loop {
            let expired = self.store.expired_identities(now, SWEPT_AT_ONCE).await?;
            let mut has_swept = false;
            for ExpiredIdentity { collection, identity } in &expired {
                match self.expire(*collection, identity.clone(), now).await {
                    Ok(()) => has_swept = true,
                    Err(Fault::NoCollection(_)) => {}
                    Err(fault) => failed = Some(fault),
                }
            }
            if !has_swept || expired.len() < SWEPT_AT_ONCE as usize {
                break;
            }
        }
        self.store.sweep_idempotency_records(now).await?;
        if let Ok(before) = now.checked_sub(self.decisions_kept) {
            self.store.sweep_decisions(before).await?;
        }
        self.store.sweep_review_cases(now).await?;
        self.store.sweep_operations(now).await?;
        failed.map_or(Ok(()), Err)
    }

    async fn expire(&self, uid: CollectionUid, identity: IdentityId, now: Timestamp) -> Result<(), Fault> {
        let Some(handle) = self.replica.directory().by_uid(uid) else {
            return Ok(());
        };
        let mut turn = self.writes.take_turn(&handle).await?;
        self.writes
            .detached(async move {
                // Its expire time may have changed since.
                if turn.store().identity(&identity).await?.is_some_and(|i| i.is_expired(now)) {
                    turn.append(&[Change::ExpireIdentity(identity)]).await?;
                    turn.commit().await?;
                }
                Ok(())
            })
            .await
    }
}

/// Does `work` at every interval until `stop`; never when the interval is zero.
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
    let mut is_failing = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let worked = tokio::select! {
            () = stop.cancelled() => return,
            worked = work() => worked,
        };
        // Logged when failures begin and when they end, not at every interval.
        match &worked {
            Ok(()) if is_failing => info!(what, "works again"),
            Err(fault) if !is_failing => warn!(what, error = %ErrorChain(fault), "failed; it is tried again"),
            Ok(()) | Err(_) => {}
        }
        is_failing = worked.is_err();
    }
}

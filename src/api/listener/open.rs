//! The open connections of both wires, and which of them is closed for a new one.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::activity::Activity;
use crate::api::layers::Wire;

/// The limits of connections; filled from the configuration.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Both wires together. For a further connection, the one that is idle for longest is closed.
    pub connections_max: usize,
    /// From the start of the connection, or the first byte of a further head, to the end of the head (HTTP/1) or of the
    /// preface (HTTP/2).
    pub header_max: Duration,
    /// A connection without a request in progress is closed after so long. So is one whose client does not read its
    /// answer for so long.
    pub idle_max: Duration,
    /// The most requests that one HTTP/2 connection has in progress.
    pub streams_max: u32,
}

/// The open connections of both wires.
#[derive(Debug)]
pub struct OpenConnections {
    limits: ConnectionLimits,
    open: Mutex<Numbered>,
    /// A connection ended or became idle.
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Numbered {
    next: u64,
    connections: BTreeMap<u64, Arc<Activity>>,
    /// When it was last logged that the limit is reached.
    logged: Option<Instant>,
}

impl OpenConnections {
    pub(in crate::api) fn new(limits: ConnectionLimits) -> Self {
        Self { limits, open: Mutex::default(), changed: Arc::default() }
    }

    pub(super) fn limits(&self) -> ConnectionLimits {
        self.limits
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.open.lock().connections.len()
    }

    /// The requests that a stop waits for. A connection that still sends its last answer counts as one.
    #[must_use]
    pub fn requests_in_progress(&self) -> usize {
        self.open.lock().connections.values().map(|activity| activity.unfinished()).sum()
    }

    /// A place for a new connection. At the limit, the connection that is idle for longest is closed for it; while every
    /// one has requests in progress, the new one waits.
    pub(super) async fn place(self: &Arc<Self>, wire: Wire) -> Place {
        loop {
            let changed = self.changed.notified();
            if let Some(place) = self.try_place(wire) {
                return place;
            }
            changed.await;
        }
    }

    fn try_place(self: &Arc<Self>, wire: Wire) -> Option<Place> {
        let mut open = self.open.lock();
        if open.connections.len() >= self.limits.connections_max {
            open.log_the_limit(self.limits.connections_max);
            open.close_idlest();
            return None;
        }
        let (number, activity) = (open.next, Arc::new(Activity::new(wire, Arc::clone(&self.changed))));
        open.next += 1;
        open.connections.insert(number, Arc::clone(&activity));
        metrics::gauge!(domain::metric::CONNECTIONS, "transport" => wire.as_str()).increment(1);
        Some(Place { number, activity, open: Arc::clone(self) })
    }

    /// Closes the connection that is idle for longest and waits until one has ended, at most for `wait_max`.
    pub(super) async fn make_room(&self, wait_max: Duration) {
        let changed = self.changed.notified();
        self.open.lock().close_idlest();
        // Nothing may end: the descriptors may be those of files.
        let _ = tokio::time::timeout(wait_max, changed).await;
    }
}

impl Numbered {
    fn close_idlest(&self) {
        let idle = self.connections.values().filter_map(|activity| Some((activity.idle_since()?, activity)));
        if let Some((_, idlest)) = idle.min_by_key(|(since, _)| *since) {
            idlest.ask_to_close();
        }
    }

    fn log_the_limit(&mut self, connections_max: usize) {
        if self.logged.is_some_and(|logged| logged.elapsed() < super::LOGGED_EVERY) {
            return;
        }
        self.logged = Some(Instant::now());
        tracing::warn!(connections_max, "the limit of connections is reached: the idlest are closed for new ones");
    }
}

/// The place of an open connection; dropped when the connection is closed.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    activity: Arc<Activity>,
    open: Arc<OpenConnections>,
}

impl Place {
    pub(super) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.open.lock().connections.remove(&self.number);
        metrics::gauge!(domain::metric::CONNECTIONS, "transport" => self.activity.wire().as_str()).decrement(1);
        self.open.changed.notify_waiters();
    }
}

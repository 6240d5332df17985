//! The position in the log that the gallery has reached.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Mutex, watch};

use domain::Position;

/// The position that the gallery has reached, and the last known head of the log.
#[derive(Debug)]
pub(crate) struct LogProgress {
    reached: watch::Sender<Position>,
    /// The highest head of the log that was seen.
    head: AtomicU64,
    /// Held while reading the log, so that several waiting reads read it once.
    pub(crate) reader: Mutex<()>,
}

impl LogProgress {
    pub(crate) fn at(position: Position) -> Self {
        Self { reached: watch::Sender::new(position), head: AtomicU64::new(position.0), reader: Mutex::default() }
    }

    /// Records that the gallery reached a position, and wakes the reads that wait for it.
    pub(crate) fn advance(&self, position: Position) {
        self.head_seen(position);
        self.reached.send_if_modified(|reached| {
            let is_further = position > *reached;
            *reached = position.max(*reached);
            is_further
        });
    }

    /// Returns once the gallery has reached the position.
    pub(crate) async fn reached(&self, position: Position) {
        let mut reached = self.reached.subscribe();
        // It fails only without a sender, and `self` holds the sender.
        let _ = reached.wait_for(|at| *at >= position).await;
    }

    pub(crate) fn head_seen(&self, head: Position) {
        self.head.fetch_max(head.0, Ordering::Relaxed);
    }

    pub(crate) fn head(&self) -> Position {
        Position(self.head.load(Ordering::Relaxed))
    }
}

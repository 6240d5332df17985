//! Whether writes work.
//!
//! A server whose database is full or read-only still searches, so only its writes show the fault. The store remembers
//! what its last write ended with. A write that ended without a commit is a reason to check, not a fault.

use parking_lot::Mutex;

use super::StoreError;
use domain::ErrorChain;

/// The outcome of the last write of a store.
#[derive(Debug, Default)]
pub(crate) struct WriteHealth(Mutex<LastWrite>);

#[derive(Debug, Default)]
enum LastWrite {
    #[default]
    Committed,
    /// A statement failed or its caller gave up.
    Unfinished,
    Failed(String),
}

impl WriteHealth {
    pub(crate) fn committed(&self) {
        *self.0.lock() = LastWrite::Committed;
    }

    pub(crate) fn unfinished(&self) {
        let mut last = self.0.lock();
        if matches!(*last, LastWrite::Committed) {
            *last = LastWrite::Unfinished;
        }
    }

    pub(crate) fn failed(&self, error: &StoreError) {
        *self.0.lock() = LastWrite::Failed(ErrorChain(error).to_string());
    }

    /// Whether the last write calls for a check.
    pub(crate) fn is_in_doubt(&self) -> bool {
        !matches!(*self.0.lock(), LastWrite::Committed)
    }

    /// The reason of the outage.
    pub(crate) fn outage(&self) -> Option<String> {
        match &*self.0.lock() {
            LastWrite::Failed(reason) => Some(reason.clone()),
            LastWrite::Committed | LastWrite::Unfinished => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_write_is_in_doubt_and_does_not_hide_a_failure() {
        let health = WriteHealth::default();
        assert!(!health.is_in_doubt());
        health.unfinished();
        assert!(health.is_in_doubt());
        assert_eq!(health.outage(), None);
        health.failed(&StoreError::Unavailable("disk full".into()));
        health.unfinished();
        assert_eq!(health.outage().as_deref(), Some("the database is not available: disk full"));
        health.committed();
        assert!(!health.is_in_doubt());
        assert_eq!(health.outage(), None);
    }
}

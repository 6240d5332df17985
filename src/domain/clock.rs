//! Time and fresh ids are given, never taken from the air, so that a test can hold both still.

use std::fmt::Debug;

use uuid::Uuid;

/// An instant, UTC, kept and compared to the microsecond because that is what the databases keep.
pub type Timestamp = jiff::Timestamp;

/// Tells the time.
pub trait Clock: Send + Sync + Debug {
    /// Now, rounded down to the microsecond.
    fn now(&self) -> Timestamp;
}

/// Makes ids that nobody has used: version 7 UUIDs, so that they sort by the time they were made.
pub trait IdSource: Send + Sync + Debug {
    fn fresh(&self) -> Uuid;
}

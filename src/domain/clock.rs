//! Sources of time and of new ids. They are parameters, so that tests control both.

use std::fmt::Debug;

use uuid::Uuid;

/// An instant in UTC with the resolution of the databases, one microsecond.
pub type Timestamp = jiff::Timestamp;

/// A source of the current time.
pub trait Clock: Send + Sync + Debug {
    /// Now, rounded down to the microsecond.
    fn now(&self) -> Timestamp;
}

/// A source of unique ids.
pub trait IdSource: Send + Sync + Debug {
    /// A new version 7 UUID. Ids sort by their time of creation.
    fn fresh(&self) -> Uuid;
}

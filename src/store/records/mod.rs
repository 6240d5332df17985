//! One trait for each kind of record. The store implements it through its connections, the turn through its
//! transaction.
//!
//! A new method takes three steps: declare it here, write its statement in `sql/`, test it in `contract/`.

mod calibrations;
mod collections;
mod decisions;
mod housekeeping;
mod idempotency;
mod identities;
mod log;
mod operations;
mod regroupings;
mod review_cases;
mod review_trials;
mod templates;

pub use calibrations::Calibrations;
pub use collections::{CollectionHead, Collections, KeyedAnswer};
pub use decisions::{DecisionRecord, Decisions};
pub use housekeeping::{ExpiredIdentity, Housekeeping};
pub use idempotency::{IdempotencyKey, IdempotencyKeys, IdempotencyRecord};
pub use identities::{EnrolledIdentity, Identities};
pub use log::Log;
pub use operations::{HeartbeatReply, Operations};
pub use regroupings::Regroupings;
pub use review_cases::{ReviewCasePage, ReviewCases};
pub use review_trials::ReviewTrials;
pub use templates::{AcceptedTemplate, Templates};

/// One page of rows, in id or position order. A page shorter than its limit is the last one.
pub type Page<T> = Vec<T>;

/// The records of one collection.
///
/// Outside a turn each method is atomic by itself. A method that depends on other rows of the collection takes the
/// collection's lock for its own duration; its documentation says so.
pub trait CollectionRecords:
    Identities + Templates + Log + Decisions + Calibrations + ReviewCases + ReviewTrials + Operations + Regroupings + Send
{
}

impl<T> CollectionRecords for T where
    T: Identities
        + Templates
        + Log
        + Decisions
        + Calibrations
        + ReviewCases
        + ReviewTrials
        + Operations
        + Regroupings
        + Send
{
}

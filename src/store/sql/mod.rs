//! The store in SQL that both databases understand.
//!
//! This folder is compiled twice, once inside `sqlite/` and once inside `postgres/`, against the types that stand there
//! under the same names: `Database`, `DbConnection`, `CommitWitness`, `ConnectionPools`, and the few statements in
//! which the two differ. So each statement is written once and still runs against a concrete driver. Rejected: sqlx's
//! `Any`, which has no UUIDs; functions generic over the database, whose bounds are longer than the statements; two
//! copies, which drift apart.
//!
//! A file holds the records of one trait: an `impl` whose methods are one statement or a few, with named columns. A
//! statement that several methods need is a plain function over a connection; its caller decides about the transaction.

mod append;
mod audit;
mod calibrations;
mod collections;
mod decisions;
mod housekeeping;
mod idempotency;
mod identities;
mod log;
mod many;
mod operations;
mod regroupings;
mod review_cases;
mod review_trials;
mod session;
mod store;
mod templates;
mod transaction;
mod turn;

pub(crate) use store::SqlStore;

use super::{
    CommitWitness, ConnectionPools, Database, DbConnection, announce, check_file, hold_collection, lock_collection,
};
use transaction::WriteTransaction;

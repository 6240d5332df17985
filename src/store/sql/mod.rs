//! The store in SQL that both databases speak.
//!
//! This folder is compiled twice, once inside `sqlite/` and once inside `postgres/`, against the types that stand there
//! under the same names: `Database`, `Connection`, `Transaction`, `Pools`, and the few statements in which the two
//! differ. So a statement is written once and still runs against a concrete driver. Refused: sqlx's `Any`, which has no
//! UUIDs; functions generic over the database, whose bounds outgrow the statements; two copies, which drift.
//!
//! Plain functions, one statement each, named columns. Each takes a connection; whoever calls it decides in which
//! transaction it runs.

mod append;
mod audit;
mod calibrations;
mod collections;
mod decisions;
mod door;
mod idempotency;
mod identities;
mod log;
mod many;
mod operations;
mod review;
mod review_trials;
mod templates;
mod turn;

pub(crate) use door::SqlStore;

use super::{Connection, Database, Pools, Transaction, announce, check_file, hold_collection, lock_collection};

//! Semblance, the open identity-matching server: the modules of the program itself.
//!
//! The other code is in packages below `src/`; their `Cargo.toml` lists the allowed imports. `tests/it/house.rs` checks
//! the imports between the modules of this package.

pub mod config;
pub mod telemetry;

pub mod cli;

pub mod app;

pub mod api;

pub mod matcher;

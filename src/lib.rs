//! Semblance, the open identity-matching server: the program's own rooms.
//!
//! The other rooms are packages of their own below `src/`; their `Cargo.toml` says who may import whom.
//! `tests/it/house.rs` holds the imports between the rooms that stand here.

pub mod config;
pub mod telemetry;

pub mod cli;

pub mod app;

pub mod api;

pub mod matcher;

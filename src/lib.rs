//! Semblance, the open identity-matching server.
//!
//! The rooms, in the order in which a request walks through them. Imports go one way, downward in this list; the
//! test `tests/it/house.rs` reads the sources and holds that true.

pub mod config;
pub mod telemetry;

pub mod cli;

pub mod app;

pub mod api;

pub mod matcher;

pub mod decision;
pub mod encoder;
pub mod gallery;
pub mod store;

pub mod evaluate;
pub mod train;
pub mod transfer;

pub mod ranking;
pub mod torch;

pub mod domain;

#[cfg(test)]
mod testdata;

//! The one integration binary: the house from outside.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests have no configuration and no log: they read the environment, say what they skip, and wait"
)]

mod bad_input;
mod batch;
mod calibrations;
mod cluster;
mod docs;
mod doctor;
mod evaluate;
mod faults;
mod fusion;
mod grpc;
mod house;
mod life;
mod made_up;
mod observability;
mod operations;
mod people;
mod photos;
mod posterior;
mod regroup;
mod replicas;
mod rest;
mod review;
mod snapshots;
mod support;
mod templates;
mod train;
mod transfer;

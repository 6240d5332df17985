//! The one integration binary: tests of the whole program from outside.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests have no configuration and no log: they read the environment, say what they skip, and wait"
)]

mod bad_input;
mod batch;
mod calibrations;
mod connections;
mod database_server;
mod docs;
mod doctor;
mod evaluate;
mod faults;
mod fusion;
mod fuzz;
mod grpc;
mod house;
mod made_up;
mod observability;
mod operations;
mod photos;
mod picture_kinds;
mod poses;
mod posterior;
mod provisional;
mod recognition;
mod regroup;
mod replicas;
mod rest;
mod review;
mod snapshots;
mod start_and_stop;
mod support;
mod templates;
mod train;
mod transfer;
mod uploads;

//! Trains our own models: simulated data and training loops.
//!
//! Only the command line uses this package. All results are reproducible from a seed. It never trains on real people,
//! never reads a gallery or a store, and never writes a number that is not finite.

pub mod decider;
pub mod gait;
pub mod package;
mod random;
pub mod trial;
mod walker;

use std::path::PathBuf;

use thiserror::Error;

use self::random::Random;
use decision::DeciderError;
use encoder::PackageError;
use torch::{learn::LearnError, network::NetworkError};
use weights::WeightsError;

/// Why training fails.
#[derive(Debug, Error)]
pub enum TrainError {
    #[error("{0}")]
    BadOptions(&'static str),
    #[error("the checkpoint {path} is of another training: its {what} is {found}, and {expected} is requested")]
    OtherTraining { path: PathBuf, what: &'static str, found: u64, expected: u64 },
    #[error("training cannot resume from the checkpoint {path}: {source}")]
    BadCheckpoint { path: PathBuf, source: LearnError },
    #[error("cannot write {path}: {source}")]
    Unwritable { path: PathBuf, source: std::io::Error },
    #[error("cannot read {path}: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("the written package does not load: {0}")]
    Package(#[from] PackageError),
    #[error("the written decider does not load: {0}")]
    Decider(#[from] DeciderError),
    #[error("the decider's manifest cannot be written: {0}")]
    Manifest(#[from] toml::ser::Error),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Learn(#[from] LearnError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

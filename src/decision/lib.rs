//! Decisions from similarities at the error rates that the operator asks for.
//!
//! A [`Calibration`] holds distributions of mated and non-mated similarities. [`Thresholds`] follow from it for a
//! policy and a gallery size. An [`Llr`] converts one similarity to evidence. [`decide()`] compares candidates with
//! thresholds. This package sees numbers only, no embeddings or images (except [`relations`], which measures simulated
//! or replayed galleries and keeps no embedding in its results). It searches nothing, stores nothing and enrolls
//! nobody.
//!
//! For probes with several modalities, [`Calibration::log_likelihood_ratio`] gives the evidence of each similarity and
//! [`Fusion`] adds it up.
//!
//! The [`Decider`] is a learned alternative to thresholds. It reads the relations of a probe to the gallery
//! ([`relations`]) and needs no threshold tuned per site.

mod bounds;
mod calibration;
mod decide;
pub mod decider;
mod fusion;
mod levels;
mod llr;
mod outcome;
mod pairs;
mod posterior;
mod provisional;
pub mod relations;
mod self_paced;
mod table;
mod tail;
#[cfg(test)]
mod tests;

pub use calibration::{Calibration, TRIALS_MIN, Thresholds, genuine_similarities};
pub use decide::{decide, verify};
pub use decider::{Decider, DeciderError, OpenSetModel, Prior};
pub use fusion::{Fusion, JointTrials, decayed, in_conflict, posteriors};
pub use llr::{Llr, cllr, cost_bits};
pub use outcome::Decision;
pub use pairs::PairLevel;
pub use posterior::{ExpectedShares, PosteriorCalibration, PosteriorThresholds};
pub use provisional::{SightingAnswer, decide_sightings, joins};
pub use self_paced::{AcceptanceLevels, PRECISION_MIN, ReviewAction, ReviewBudget, UncertainAnswer, uniform_from_id};

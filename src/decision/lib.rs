//! From similarities to answers: which similarity is enough, at the error rate that an operator asked for.
//!
//! A [`Calibration`] knows how similar strangers and acquaintances are. [`Terms`] are the thresholds that follow from it
//! for a policy and a gallery size, an [`Llr`] is what a single similarity is worth as evidence, and [`decide()`] holds
//! candidates against them. The room sees numbers and never embeddings or images (a simulated or replayed gallery is
//! measured in [`relations`], and forgotten); it searches nothing, keeps nothing, and enrolls nobody.
//!
//! Where a probe has several modalities, [`Calibration::weigh`] says what each similarity is worth and [`Fusion`] adds it up.
//!
//! Beside thresholds there is the [`Decider`], which learnt to read how a probe stands to a gallery ([`relations`]) and
//! needs no threshold of its own at any site.

mod bounds;
mod calibration;
mod decide;
pub mod decider;
mod fusion;
mod levels;
mod llr;
mod outcome;
mod pairs;
pub mod relations;
mod self_paced;
mod table;
mod tail;
#[cfg(test)]
mod tests;

pub use calibration::{Calibration, TRIALS_MIN, Terms};
pub use decide::{decide, verify};
pub use decider::{Decider, DeciderError, Judge, Prior};
pub use fusion::{Fusion, faded, in_conflict, posteriors};
pub use llr::{Llr, cllr, cost_bits};
pub use outcome::Decision;
pub use pairs::PairLevel;
pub use self_paced::{Doubtful, Levels, PRECISION_MIN, Pace, Step, lot};

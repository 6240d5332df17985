//! From similarities to answers: which similarity is enough, at the error rate that an operator asked for.
//!
//! A [`Calibration`] knows how similar strangers and acquaintances are. [`Terms`] are the thresholds that follow from it
//! for a policy and a gallery size, an [`Llr`] is what a single similarity is worth as evidence, and [`decide()`] holds candidates against them. The room sees numbers and never
//! embeddings or images; it searches nothing, keeps nothing, and enrolls nobody.

mod bounds;
mod calibration;
mod decide;
mod levels;
mod llr;
mod table;
mod tail;
#[cfg(test)]
mod tests;

pub use calibration::{Calibration, TRIALS_MIN, Terms};
pub use decide::{Decision, decide, verify};
pub use llr::{Llr, cllr};

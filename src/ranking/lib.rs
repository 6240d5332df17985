//! The order of an answer's list, from numbers alone: how the templates of one identity speak together, and which
//! neighbours the templates of a list have among each other.
//!
//! The gallery answers by it and `evaluate` measures it, so that what is measured is what is served. It holds nothing,
//! knows nobody, and never decides whether somebody is known: re-ranking moves places, and similarities stay as they are.

mod accumulators;
mod reciprocal;
mod shortlist;
#[cfg(test)]
mod tests;
mod weights;

pub use accumulators::{Pools, Said};
pub use shortlist::{COMPANIONS_MIN, SHORTLIST, Shortlist};
pub use weights::{counts_by_share, shares, towards};

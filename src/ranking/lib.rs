//! Order of result lists, from numbers alone: pooling of an identity's templates, and re-ranking by the similarities
//! among the templates of a list.
//!
//! The gallery uses it to answer and `evaluate` to measure, so that measured and served results agree. It keeps no
//! state and makes no decision: re-ranking changes positions and leaves similarities as they are.

mod accumulators;
mod reciprocal;
mod shortlist;
#[cfg(test)]
mod tests;
mod weights;

pub use accumulators::{Accumulators, TemplateSimilarity};
pub use shortlist::{SHORTLIST, Shortlist};
pub use weights::{normalised_weights, template_weights, uses_template_weights};

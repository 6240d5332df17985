//! A query to one space, and the list that collects its answer.

use super::{filter::CandidateFilter, top::TopIdentities};
use domain::Pooling;

/// Maximum number of searches that share one scan. With more, computation takes longer than reading memory, so that
/// waiting for a shared scan gains nothing.
pub const SCAN_BATCH_MAX: usize = 8;

/// A query to one space.
#[derive(Debug)]
pub(crate) struct SpaceQuery<'a> {
    /// Unit length, of the space's dimension.
    pub(crate) probe: &'a [f32],
    pub(crate) candidate_filter: &'a CandidateFilter<'a>,
    /// Candidates of the first graph search (ef); at least one.
    pub(crate) width: usize,
    /// How to combine the similarities of one identity's templates.
    pub(crate) pooling: Pooling,
}

/// A query and the list that collects its answer.
#[derive(Debug)]
pub(crate) struct PendingQuery<'q, 'a> {
    pub(crate) query: &'q SpaceQuery<'a>,
    pub(crate) top: &'q mut TopIdentities,
}

//! What a scan is asked, and where its answer is collected.

use super::{filter::Sieve, top::Best};
use domain::Pooling;

/// So many searches share a sweep at most: beyond that computing takes longer than reading, and waiting helps nobody.
pub const PASS_MAX: usize = 8;

/// What a search asks of a space.
#[derive(Debug)]
pub(crate) struct Ask<'a> {
    /// Unit length.
    pub(crate) probe: &'a [f32],
    pub(crate) sieve: &'a Sieve<'a>,
    /// How many candidates a walk through the graph weighs at first; at least one.
    pub(crate) width: usize,
    /// How the templates of one identity speak together.
    pub(crate) pooling: Pooling,
}

/// An ask, and where its answer is collected.
pub(crate) type Question<'q, 'a> = (&'q Ask<'a>, &'q mut Best);

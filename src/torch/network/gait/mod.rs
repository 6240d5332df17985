//! Gait networks: the input is a sequence of skeletons or silhouettes.
//!
//! One file per family. The number of frames is fixed; preparation crops or repeats walks, networks never do.

pub(super) mod gaitbase;
pub(super) mod gaitgraph;
pub(super) mod pyramid;
mod transformer;

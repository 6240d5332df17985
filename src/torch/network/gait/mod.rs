//! Networks that tell persons apart by their walk: skeletons or silhouettes over time go in.
//!
//! One file a family. A walk has a fixed number of frames here; cutting and filling up is preparation's part and never
//! done by a network.

pub(super) mod gaitbase;
pub(super) mod gaitgraph;
pub(super) mod pyramid;
mod transformer;

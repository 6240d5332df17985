//! Options of a gallery.

use std::path::PathBuf;

use crate::rows::kernel::Packing;

/// Options of a gallery: search methods and limits. They apply to every collection of the process.
#[derive(Debug, Clone, PartialEq)]
pub struct GalleryOptions {
    /// Templates per space from which searches use the graph instead of the exact scan.
    pub graph_templates_min: usize,
    /// Graph implementation.
    pub graph: GraphKind,
    /// Links per point in the upper layers of the graph (M in Malkov and Yashunin 2016). The base layer has twice as
    /// many.
    pub graph_links: usize,
    /// Candidates per insertion into the graph (efConstruction in Malkov and Yashunin 2016).
    pub graph_build_width: usize,
    /// Candidates per graph search (ef in Malkov and Yashunin 2016). The search doubles it when the answer may be
    /// incomplete.
    pub graph_search_width: usize,
    /// Threads that build a graph.
    pub graph_build_threads: usize,
    /// Share of deleted points, 0 to 1, from which a graph is rebuilt.
    pub rebuild_share: f64,
    /// Maximum number of templates in all collections together.
    pub templates_max: u64,
    /// Bits per dimension of the scanned codes.
    pub code_bits: CodeBits,
    /// Threads that share one scan of a large space.
    pub scan_threads: usize,
    /// Directory of the snapshots. `None` disables snapshots.
    pub snapshots_dir: Option<PathBuf>,
    /// Size of the values of a space, in bytes, from which they are mapped from the snapshot. Smaller ones stay in
    /// memory: a process has a limited number of memory maps (65,530 on Linux).
    pub mapped_bytes_min: usize,
    /// A directory that this process does not use, and whose snapshots could not be deleted. The gallery deletes them as
    /// soon as it can.
    pub abandoned_snapshots_dir: Option<PathBuf>,
}

/// Bits per dimension of the scanned codes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CodeBits {
    /// Searches are exact.
    #[default]
    Eight,
    /// Half the memory and nearly twice the speed of eight bits. The answer is exact only with high probability: a
    /// search may miss a neighbour (error bound: `rows/codes.rs`). Spaces with these codes never use a graph.
    Four,
}

impl CodeBits {
    pub(crate) fn packing(self) -> Packing {
        match self {
            Self::Eight => Packing::Bytes,
            Self::Four => Packing::Nibbles,
        }
    }
}

/// Without a graph and without a limit of templates: the settings of the program own these numbers.
impl Default for GalleryOptions {
    fn default() -> Self {
        Self {
            graph_templates_min: usize::MAX,
            graph: GraphKind::Compact,
            graph_links: 16,
            graph_build_width: 200,
            graph_search_width: 128,
            graph_build_threads: 1,
            rebuild_share: 0.15,
            templates_max: u64::MAX,
            code_bits: CodeBits::Eight,
            scan_threads: 1,
            snapshots_dir: None,
            mapped_bytes_min: 64 << 10,
            abandoned_snapshots_dir: None,
        }
    }
}

/// Graph implementations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GraphKind {
    /// Own implementation: about 150 bytes per template beside the codes, which it shares with the scan.
    Compact,
    /// The `hnsw_rs` crate: about 3 kB per template.
    HnswRs,
}

//! Memory use of galleries.

/// Memory use of galleries in bytes, by part. The allocator's overhead is not included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryBytes {
    /// Codes, their scales and error bounds.
    pub codes: u64,
    /// Original values in memory: templates that are in no snapshot yet.
    pub originals: u64,
    /// Original values in memory-mapped snapshot files. The operating system caches pages and may evict them.
    pub mapped: u64,
    /// Owner, template id and quality per row, and template weights.
    pub rows: u64,
    /// Lookup tables from templates and identities to rows.
    pub lookups: u64,
    /// Identities: ids, labels, expiry times.
    pub roster: u64,
    /// Graphs, without the codes that they share with the scan.
    pub graph: u64,
}

impl MemoryBytes {
    /// Name and size in bytes of each part.
    #[must_use]
    pub fn by_part(&self) -> [(&'static str, u64); 7] {
        [
            ("codes", self.codes),
            ("originals", self.originals),
            ("mapped", self.mapped),
            ("rows", self.rows),
            ("places", self.lookups),
            ("roster", self.roster),
            ("graph", self.graph),
        ]
    }
}

impl std::ops::Add for MemoryBytes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            codes: self.codes + other.codes,
            originals: self.originals + other.originals,
            mapped: self.mapped + other.mapped,
            rows: self.rows + other.rows,
            lookups: self.lookups + other.lookups,
            roster: self.roster + other.roster,
            graph: self.graph + other.graph,
        }
    }
}

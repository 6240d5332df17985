//! Greedy best-first search in one layer of the graph (algorithm 2 of Malkov and Yashunin 2016).

use super::{links::Layer, prefetch::prefetch};
use crate::rows::codes::{Code, Codes};

/// A visited node in one integer, which sorts by similarity and then by lower node. Bits 32 to 63 hold the similarity
/// in an order-preserving form, bits 1 to 31 the inverted node, and bit 0 tells whether the node's links were expanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct VisitedNode(u64);

impl VisitedNode {
    pub(super) fn new(similarity: f32, node: u32) -> Self {
        let bits = similarity.to_bits();
        let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
        Self(u64::from(ascending) << 32 | u64::from(!node << 1))
    }

    pub(super) fn similarity(self) -> f32 {
        let ascending = (self.0 >> 32) as u32;
        f32::from_bits(if ascending >> 31 == 1 { ascending & !(1 << 31) } else { !ascending })
    }

    #[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
    pub(super) fn node(self) -> u32 {
        !(self.0 as u32) >> 1
    }

    fn is_expanded(self) -> bool {
        self.0 & 1 == 1
    }

    fn expanded(self) -> Self {
        Self(self.0 | 1)
    }
}

/// One layer of the graph with the codes of its nodes.
#[derive(Debug, Clone, Copy)]
pub(super) struct LayerView<'g> {
    pub(super) layer: Layer<'g>,
    pub(super) codes: &'g Codes,
}

impl<'g> LayerView<'g> {
    #[inline]
    pub(super) fn code(self, node: u32) -> Code<'g> {
        self.codes.code(self.layer.point(node) as usize)
    }
}

/// Memory of a search: visited marks and the list of best nodes. Reused by later searches, because clearing one mark
/// per point costs more than a search.
#[derive(Debug, Default)]
pub(super) struct BestFirstSearch {
    /// A node is visited when its mark equals `mark`.
    marks: Vec<u8>,
    mark: u8,
    /// The most similar nodes so far, best first.
    best: Vec<VisitedNode>,
    unvisited: Vec<u32>,
}

impl BestFirstSearch {
    /// Searches from `start` and returns the at most `width` most similar nodes that it meets, best first. Ends when
    /// all of them are expanded (algorithm 2 of Malkov and Yashunin 2016, with ef = `width`).
    pub(super) fn run(
        &mut self,
        layer_view: LayerView<'_>,
        start: u32,
        width: usize,
        similarity: impl Fn(Code<'_>) -> f32,
    ) -> &[VisitedNode] {
        self.begin(layer_view.layer.nodes());
        self.marks[start as usize] = self.mark;
        self.best.push(VisitedNode::new(similarity(layer_view.code(start)), start));
        let mut next = 0;
        while let Some(visited) = self.best.get_mut(next) {
            if visited.is_expanded() {
                next += 1;
                continue;
            }
            *visited = visited.expanded();
            let node = visited.node();
            self.collect_unvisited(layer_view.layer, node);
            next += 1;
            // Prefetches the next code while the present one is compared.
            let code = |node: &u32| layer_view.code(*node);
            let mut ahead = self.unvisited.first().map(code);
            for index in 0..self.unvisited.len() {
                let Some(code) = std::mem::replace(&mut ahead, self.unvisited.get(index + 1).map(code)) else { break };
                if let Some(ahead) = ahead {
                    prefetch(ahead);
                }
                let found = VisitedNode::new(similarity(code), self.unvisited[index]);
                next = next.min(self.insert(found, width));
            }
        }
        &self.best
    }

    pub(super) fn bytes(&self) -> usize {
        self.marks.capacity()
    }

    /// Collects the neighbours that are not visited yet and marks them.
    #[inline]
    fn collect_unvisited(&mut self, layer: Layer<'_>, node: u32) {
        self.unvisited.clear();
        for neighbour in layer.neighbours(node) {
            let mark = &mut self.marks[neighbour as usize];
            if *mark != self.mark {
                *mark = self.mark;
                self.unvisited.push(neighbour);
            }
        }
    }

    /// Inserts a node in order and returns its index; `usize::MAX` when it is not among the `width` best.
    #[inline]
    fn insert(&mut self, found: VisitedNode, width: usize) -> usize {
        if self.best.len() >= width {
            if self.best.last().is_none_or(|last| *last > found) {
                return usize::MAX;
            }
            self.best.pop();
        }
        let index = self.best.partition_point(|visited| *visited > found);
        self.best.insert(index, found);
        index
    }

    fn begin(&mut self, nodes: usize) {
        self.best.clear();
        self.marks.resize(self.marks.len().max(nodes), 0);
        if self.mark == u8::MAX {
            self.marks.fill(0);
            self.mark = 0;
        }
        self.mark += 1;
    }
}

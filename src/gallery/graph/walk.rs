//! The walk through one layer, from node to more similar node.

use super::{links::Layer, prefetch::prefetch};
use crate::rows::codes::{Code, Codes};

/// A node that a walk has seen, in one number: the greater, the more similar, and of equals the one that came in first.
/// The similarity's bits stand above 31 of the node, and the lowest bit says whether its links were followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seen(u64);

impl Seen {
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

    fn is_followed(self) -> bool {
        self.0 & 1 == 1
    }

    fn followed(self) -> Self {
        Self(self.0 | 1)
    }
}

/// What is walked on: a layer, and the codes of its nodes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terrain<'g> {
    pub(super) layer: Layer<'g>,
    pub(super) codes: &'g Codes,
}

impl<'g> Terrain<'g> {
    #[inline]
    pub(super) fn code(self, node: u32) -> Code<'g> {
        self.codes.code(self.layer.point(node) as usize)
    }
}

/// What a walk needs to remember. Kept from walk to walk, because clearing a mark for every point would cost more than
/// the walk.
#[derive(Debug, Default)]
pub(super) struct Walker {
    /// Nodes that bear the current mark were looked at.
    marks: Vec<u8>,
    mark: u8,
    /// The most similar nodes so far, best first.
    seen: Vec<Seen>,
    fresh: Vec<u32>,
}

impl Walker {
    /// The most similar nodes of the layer that a walk from `start` comes by, at most `width` of them, best first. It
    /// ends when the links of all of them were followed (algorithm 2 of Malkov and Yashunin 2016).
    pub(super) fn walk(
        &mut self,
        terrain: Terrain<'_>,
        start: u32,
        width: usize,
        similarity: impl Fn(Code<'_>) -> f32,
    ) -> &[Seen] {
        self.begin(terrain.layer.nodes());
        self.marks[start as usize] = self.mark;
        self.seen.push(Seen::new(similarity(terrain.code(start)), start));
        let mut next = 0;
        while let Some(seen) = self.seen.get_mut(next) {
            if seen.is_followed() {
                next += 1;
                continue;
            }
            *seen = seen.followed();
            let node = seen.node();
            self.look_around(terrain.layer, node);
            next += 1;
            // While one code is computed with, the next is on its way.
            let code = |node: &u32| terrain.code(*node);
            let mut ahead = self.fresh.first().map(code);
            for index in 0..self.fresh.len() {
                let Some(code) = std::mem::replace(&mut ahead, self.fresh.get(index + 1).map(code)) else { break };
                if let Some(ahead) = ahead {
                    prefetch(ahead);
                }
                let found = Seen::new(similarity(code), self.fresh[index]);
                next = next.min(self.take_in(found, width));
            }
        }
        &self.seen
    }

    pub(super) fn bytes(&self) -> usize {
        self.marks.capacity()
    }

    /// Notes the neighbours that were not looked at yet.
    #[inline]
    fn look_around(&mut self, layer: Layer<'_>, node: u32) {
        self.fresh.clear();
        for neighbour in layer.neighbours(node) {
            let mark = &mut self.marks[neighbour as usize];
            if *mark != self.mark {
                *mark = self.mark;
                self.fresh.push(neighbour);
            }
        }
    }

    /// Puts a node in its place and answers it; `usize::MAX` for one that is too far away.
    #[inline]
    fn take_in(&mut self, found: Seen, width: usize) -> usize {
        if self.seen.len() >= width {
            if self.seen.last().is_none_or(|last| *last > found) {
                return usize::MAX;
            }
            self.seen.pop();
        }
        let place = self.seen.partition_point(|seen| *seen > found);
        self.seen.insert(place, found);
        place
    }

    fn begin(&mut self, nodes: usize) {
        self.seen.clear();
        self.marks.resize(self.marks.len().max(nodes), 0);
        if self.mark == u8::MAX {
            self.marks.fill(0);
            self.mark = 0;
        }
        self.mark += 1;
    }
}

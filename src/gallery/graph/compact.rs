//! Own implementation of hierarchical navigable small world graphs (HNSW; Malkov and Yashunin 2016, *Efficient and
//! robust approximate nearest neighbor search using hierarchical navigable small world graphs*) over codes, in flat
//! lists.
//!
//! A point needs about 140 bytes beside its code, which it shares with the space. With one build thread, the same rows
//! give the same graph.
//!
//! Near-duplicates stay out of the graph: a crowd of them fills every candidate list, and nearby points become
//! unreachable. A point that equals a point of the graph up to rounding is stored as that point's *near-duplicate*: it
//! has no links and is returned together with it.

use std::collections::HashMap;

use parking_lot::{Mutex, RwLock};
use rand_xoshiro::{
    SplitMix64,
    rand_core::{RngCore, SeedableRng},
};

use super::{
    GraphShape, PointGraph, PointHit, PointHits,
    best_first::{BestFirstSearch, LayerView, VisitedNode},
    in_parallel,
    links::{Layer, Links},
    number,
};
use crate::rows::{
    codes::{Code, Codes, ProbeCode, Quantization, similarity_of_codes},
    kernel::Kernel,
};

/// Maximum number of upper layers: 16^8 is more than the possible number of points.
const LAYERS_MAX: usize = 8;
/// Minimum cosine of two codes for near-duplicates. Quantization alone moves points this far; two different images are
/// much less similar.
const NEAR_DUPLICATE_COSINE: f32 = 0.9998;

/// Links that a repair adds to an unreachable point.
const REPAIR_LINKS: usize = 4;

/// The graph. Points are numbered in insertion order.
#[derive(Debug)]
pub(super) struct Compact {
    shape: GraphShape,
    codes: Codes,
    kernel: Kernel,
    links: Links,
    /// Highest layer with a node, and the point where searches start there. `None` in an empty graph.
    entry_point: RwLock<Option<(usize, u32)>>,
    near_duplicates: RwLock<NearDuplicates>,
    /// Search memories that are not in use; as many as there were concurrent searches.
    idle_searches: Mutex<Vec<BestFirstSearch>>,
}

#[derive(Debug, Default)]
struct NearDuplicates {
    /// Near-duplicates by their point in the graph.
    of: HashMap<u32, Vec<u32>>,
    /// Maximum difference between the similarities of a near-duplicate and its point to any probe.
    radius: f32,
}

impl Compact {
    pub(super) fn build(codes: Codes, shape: GraphShape, threads: usize) -> Self {
        let mut graph = Self {
            shape,
            links: Links::new(shape.links),
            codes,
            kernel: Kernel::fastest(),
            entry_point: RwLock::new(None),
            near_duplicates: RwLock::default(),
            idle_searches: Mutex::default(),
        };
        for _ in 0..graph.codes.len() {
            graph.add();
        }
        // The first point alone: the others link to it.
        in_parallel(1, 0..graph.codes.len().min(1), |point| graph.link(number(point)));
        in_parallel(threads, 1..graph.codes.len(), |point| graph.link(number(point)));
        graph
    }

    /// Adds the point of the last pushed code, without links.
    fn add(&mut self) -> u32 {
        let point = self.links.points();
        self.links.add(upper_layers(point, self.shape.links));
        number(point)
    }

    /// Searches all layers from the entry point down to the base layer (algorithm 5).
    fn search_from_top<M: SearchTarget>(&self, target: &M, width: usize) -> PointHits {
        let Some((top, entry_point)) = *self.entry_point.read() else {
            return PointHits::new(Vec::new());
        };
        let similarity = |code: Code<'_>| target.similarity(self.kernel, code);
        let hit = |point: u32, similarity: f32| {
            let point = point as usize;
            PointHit { point, similarity, error: target.error(self.codes.code(point).quantization) }
        };
        self.with_search(|search| {
            let mut start = entry_point;
            for level in (1..=top).rev() {
                let layer = self.links.layer(level);
                let nearest = search.run(self.layer_view(layer), layer.node(start), 1, similarity)[0];
                start = layer.point(nearest.node());
            }
            let visited = search.run(self.layer_view(self.links.layer(0)), start, width, similarity);
            let mut found =
                PointHits::new(visited.iter().map(|visited| hit(visited.node(), visited.similarity())).collect());
            let near_duplicates = self.near_duplicates.read();
            if !near_duplicates.of.is_empty() {
                // A near-duplicate's point may be less similar to the probe than the near-duplicate itself.
                found.edge += near_duplicates.radius;
                let duplicates =
                    found.hits.iter().filter_map(|hit| near_duplicates.of.get(&number(hit.point))).flatten();
                let duplicate_hits = duplicates
                    .map(|near_duplicate| hit(*near_duplicate, similarity(self.codes.code(*near_duplicate as usize))));
                let duplicate_hits: Vec<PointHit> = duplicate_hits.collect();
                found.hits.extend(duplicate_hits);
                found.hits.sort_unstable_by(|one, other| other.similarity.total_cmp(&one.similarity));
            }
            found
        })
    }

    fn similarity(&self, one: Code<'_>, other: Code<'_>) -> f32 {
        similarity_of_codes(self.kernel, one, other)
    }

    fn layer_view<'g>(&'g self, layer: Layer<'g>) -> LayerView<'g> {
        LayerView { layer, codes: &self.codes }
    }

    fn with_search<T>(&self, work: impl FnOnce(&mut BestFirstSearch) -> T) -> T {
        let mut search = self.idle_searches.lock().pop().unwrap_or_default();
        let done = work(&mut search);
        self.idle_searches.lock().push(search);
        done
    }
}

impl PointGraph for Compact {
    fn nearest(&self, probe: &[f32], width: usize) -> PointHits {
        self.search_from_top(&ProbeCode::new(probe), width)
    }

    fn finds(&self, point: usize, width: usize) -> bool {
        self.search_from_top(&self.codes.code(point), width).hits.iter().any(|hit| hit.point == point)
    }

    fn insert(&mut self, values: &[f32]) {
        self.codes.push(values);
        let point = self.add();
        self.link(point);
    }

    /// Adds links to the point from nodes at which a search for it ends, where their lists have space. Later searches
    /// for it, or for similar probes, end there and find it.
    fn repair(&self, point: usize, width: usize) {
        let base = self.links.layer(0);
        let own = number(point);
        let ends = self.search_from_top(&self.codes.code(point), width).hits;
        let others = ends.iter().map(|hit| number(hit.point)).filter(|node| *node != own);
        let linked = others.filter(|node| {
            let _alone = base.lock(*node);
            base.neighbours(*node).any(|other| other == own) || base.append(*node, own)
        });
        // `take` stops after enough nodes with free space; each `filter` call adds a link.
        linked.take(REPAIR_LINKS).for_each(drop);
    }

    fn codes(&self) -> &Codes {
        &self.codes
    }

    fn bytes(&self) -> usize {
        let marks: usize = self.idle_searches.lock().iter().map(BestFirstSearch::bytes).sum();
        self.links.bytes() + marks
    }
}

/// What nodes are compared with: a probe, or a point of the graph.
trait SearchTarget {
    fn similarity(&self, kernel: Kernel, code: Code<'_>) -> f32;

    /// Bound of |similarity by codes - exact similarity|.
    fn error(&self, quantization: Quantization) -> f32;
}

impl SearchTarget for ProbeCode {
    #[inline]
    fn similarity(&self, kernel: Kernel, code: Code<'_>) -> f32 {
        self.similarity(kernel.sum(self.numbers(), code.numbers), code.quantization)
    }

    fn error(&self, quantization: Quantization) -> f32 {
        self.error(quantization)
    }
}

/// A point of the graph. Only its code is known.
impl SearchTarget for Code<'_> {
    fn similarity(&self, kernel: Kernel, code: Code<'_>) -> f32 {
        similarity_of_codes(kernel, *self, code)
    }

    fn error(&self, _: Quantization) -> f32 {
        0.0
    }
}

/// Insertion (algorithm 1). First finds neighbours on all layers. Then writes the point's own links, then the links to
/// it, base layer first: no search reaches the point before it has links that lead on.
impl Compact {
    fn link(&self, point: u32) {
        let Some((top, entry_point)) = *self.entry_point.read() else {
            *self.entry_point.write() = Some((self.links.upper_layers(point), point));
            return;
        };
        let code = self.codes.code(point as usize);
        let layers = self.links.upper_layers(point);
        let mut start = entry_point;
        let mut chosen: Vec<Vec<VisitedNode>> = Vec::new();
        for level in (0..=top).rev() {
            let layer = self.links.layer(level);
            let width = if level <= layers { self.shape.build_width } else { 1 };
            let visited = self.with_search(|search| {
                search
                    .run(self.layer_view(layer), layer.node(start), width, |other| self.similarity(code, other))
                    .to_vec()
            });
            start = layer.point(visited[0].node());
            if level == 0 && self.merge_near_duplicate(point, visited[0]) {
                return;
            }
            if level <= layers {
                chosen.push(self.choose(layer, visited, self.shape.links));
            }
        }
        for (level, chosen) in chosen.iter().rev().enumerate() {
            let layer = self.links.layer(level);
            layer.replace(layer.node(point), &nodes_of(chosen));
        }
        for (level, chosen) in chosen.iter().rev().enumerate() {
            let layer = self.links.layer(level);
            let node = layer.node(point);
            for neighbour in chosen {
                self.link_back(layer, neighbour.node(), VisitedNode::new(neighbour.similarity(), node));
            }
        }
        if layers > top {
            let mut entry_point = self.entry_point.write();
            *entry_point = entry_point.filter(|(highest, _)| *highest >= layers).or(Some((layers, point)));
        }
    }

    /// Adds a link from a node to a new one. When its list is full, selects its links anew.
    fn link_back(&self, layer: Layer<'_>, node: u32, link: VisitedNode) {
        let _alone = layer.lock(node);
        if layer.append(node, link.node()) {
            return;
        }
        let code = self.layer_view(layer).code(node);
        let known = layer
            .neighbours(node)
            .map(|other| VisitedNode::new(self.similarity(code, self.layer_view(layer).code(other)), other));
        let mut candidates: Vec<VisitedNode> = known.chain([link]).collect();
        candidates.sort_unstable_by(|one, other| other.cmp(one));
        layer.replace(node, &nodes_of(&self.choose(layer, candidates, layer.links_max())));
    }

    /// Neighbour selection heuristic (algorithm 4): of the candidates, best first, keeps those that are closer to the
    /// node than to any selected one. Rejected candidates are dropped, because filling up with them makes points
    /// unreachable.
    fn choose(&self, layer: Layer<'_>, candidates: Vec<VisitedNode>, most: usize) -> Vec<VisitedNode> {
        let code = |visited: &VisitedNode| self.layer_view(layer).code(visited.node());
        let mut chosen: Vec<VisitedNode> = Vec::with_capacity(most);
        for candidate in candidates {
            let own = code(&candidate);
            if chosen.iter().all(|other| self.similarity(own, code(other)) < candidate.similarity()) {
                chosen.push(candidate);
                if chosen.len() == most {
                    break;
                }
            }
        }
        chosen
    }

    /// Stores the point as a near-duplicate of its nearest point, if it is one. Returns whether it is.
    fn merge_near_duplicate(&self, point: u32, nearest: VisitedNode) -> bool {
        let (own, other) = (self.codes.code(point as usize), self.codes.code(nearest.node() as usize));
        // Codes are not of unit length.
        let norms = self.similarity(own, own) * self.similarity(other, other);
        let cosine = nearest.similarity() / norms.sqrt();
        if cosine < NEAR_DUPLICATE_COSINE {
            return false;
        }
        let mut near_duplicates = self.near_duplicates.write();
        near_duplicates.of.entry(nearest.node()).or_default().push(point);
        near_duplicates.radius = near_duplicates
            .radius
            .max((2.0 - 2.0 * cosine.min(1.0)).sqrt() + own.quantization.error + other.quantization.error);
        true
    }
}

fn nodes_of(visited: &[VisitedNode]) -> Vec<u32> {
    visited.iter().map(|visited| visited.node()).collect()
}

/// Number of upper layers of a point: geometrically distributed, from a hash of its number.
fn upper_layers(point: usize, links: usize) -> usize {
    // Output number `point` of SplitMix64 with seed 0.
    let seed = (point as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let share = links as u64;
    let mut left = SplitMix64::seed_from_u64(seed).next_u64();
    let mut layers = 0;
    while layers < LAYERS_MAX && left.is_multiple_of(share) {
        left /= share;
        layers += 1;
    }
    layers
}

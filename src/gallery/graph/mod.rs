//! Graph index of a large space: approximate search, and what makes its answers trustworthy.
//!
//! [`GraphKind`] selects one of two graphs: an own compact one, and `hnsw_rs`. Both search over codes; the caller
//! compares the original values of the returned templates.
//!
//! - Points cannot be removed. A point leads to a template id, and the space knows whether that template still exists.
//!   Codes of deleted templates appear in no answer and leave memory with the next rebuild.
//! - Insertion takes `&mut`, so it cannot happen during a search.
//! - A graph can make points unreachable. Every point must find itself after its insertion. A point that does not gets
//!   links from the nodes at which searches for it end. A point that is still unreachable is listed and compared in
//!   every search.
//! - There is no filtered graph search: it visits nearly all nodes. The space searches wider, or scans.

mod best_first;
mod compact;
mod hnsw;
mod links;
mod prefetch;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use self::{compact::Compact, hnsw::HnswRs};
use crate::{
    GalleryOptions, GraphKind,
    rows::{
        codes::{Codes, ProbeCode},
        kernel::Kernel,
    },
};
use domain::TemplateId;

/// Width of the search by which a point looks for itself. Narrower than a normal search, so that a point that passes is
/// easily found by those.
const SELF_QUERY_WIDTH: usize = 48;

/// A graph whose points are templates.
pub(super) struct Graph {
    points: Box<dyn PointGraph>,
    /// Template of each point.
    templates: Vec<TemplateId>,
    /// Points that did not find themselves.
    unreachable: Vec<u32>,
    /// Templates that are not inserted yet.
    waiting: Vec<TemplateId>,
}

/// Result of a graph search.
pub(super) struct GraphCandidates {
    /// Templates, including deleted ones, each with the upper bound of its similarity.
    pub(super) templates: Vec<(TemplateId, f32)>,
    /// Upper bound of the similarity of any template that only a wider search would find.
    pub(super) edge: f32,
}

impl Graph {
    /// Builds a graph. Takes nearly a millisecond per row and thread. `templates` are in the order of the codes.
    pub(super) fn build(codes: Codes, templates: Vec<TemplateId>, options: &GalleryOptions) -> Self {
        let (count, threads) = (templates.len(), options.graph_build_threads);
        let shape = GraphShape { links: options.graph_links, build_width: options.graph_build_width };
        let points: Box<dyn PointGraph> = match options.graph {
            GraphKind::Compact => Box::new(Compact::build(codes, shape, threads)),
            GraphKind::HnswRs => Box::new(HnswRs::build(&codes, shape, threads)),
        };
        let mut unreachable = unreachable_points(&*points, count, threads);
        if !unreachable.is_empty() {
            in_parallel(threads, 0..unreachable.len(), |at| points.repair(unreachable[at], SELF_QUERY_WIDTH));
            // Checks all points again, because a link added for one may divert searches for others.
            unreachable = unreachable_points(&*points, count, threads);
        }
        let unreachable = unreachable.into_iter().map(number).collect();
        Self { points, templates, unreachable, waiting: Vec::new() }
    }

    /// Searches the graph with ef = `width`.
    pub(super) fn nearest(&self, probe: &[f32], width: usize) -> GraphCandidates {
        let found = self.points.nearest(probe, width);
        let templates = found.hits.iter().map(|hit| (self.templates[hit.point], hit.upper()));
        GraphCandidates { templates: templates.collect(), edge: found.edge }
    }

    /// Templates that graph searches cannot find, each with the upper bound of its similarity.
    pub(super) fn unindexed(&self, probe: &[f32]) -> impl Iterator<Item = (TemplateId, f32)> {
        let (probe, kernel) = (ProbeCode::new(probe), Kernel::fastest());
        let unreachable = self.unreachable.iter().map(move |point| {
            let code = self.points.codes().code(*point as usize);
            let similarity = probe.similarity(kernel.sum(probe.numbers(), code.numbers), code.quantization);
            (self.templates[*point as usize], similarity + probe.error(code.quantization))
        });
        unreachable.chain(self.waiting.iter().map(|template| (*template, f32::INFINITY)))
    }

    /// Share of points whose template is deleted, 0 to 1; `live` is the number of templates that exist.
    pub(super) fn forgotten_share(&self, live: usize) -> f64 {
        let known = self.templates.len() + self.waiting.len();
        known.saturating_sub(live) as f64 / known.max(1) as f64
    }

    /// Memory in bytes, without the codes that it shares with the space.
    pub(super) fn bytes(&self) -> usize {
        let lists = self.templates.capacity() + self.waiting.capacity();
        self.points.bytes() + lists * size_of::<TemplateId>() + self.unreachable.capacity() * size_of::<u32>()
    }

    pub(super) fn await_insertion(&mut self, template: TemplateId) {
        self.waiting.push(template);
    }

    pub(super) fn awaits_insertion(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn next_to_insert(&mut self) -> Option<TemplateId> {
        self.waiting.pop()
    }

    pub(super) fn insert(&mut self, template: TemplateId, values: &[f32]) {
        let point = self.templates.len();
        self.templates.push(template);
        self.points.insert(values);
        if !self.points.finds(point, SELF_QUERY_WIDTH) {
            self.points.repair(point, SELF_QUERY_WIDTH);
            if !self.points.finds(point, SELF_QUERY_WIDTH) {
                self.unreachable.push(number(point));
            }
        }
    }
}

/// Points below `count` that do not find themselves, in order.
fn unreachable_points(points: &dyn PointGraph, count: usize, threads: usize) -> Vec<usize> {
    let unreachable = parking_lot::Mutex::new(Vec::new());
    in_parallel(threads, 0..count, |point| {
        if !points.finds(point, SELF_QUERY_WIDTH) {
            unreachable.lock().push(point);
        }
    });
    let mut unreachable = unreachable.into_inner();
    unreachable.sort_unstable();
    unreachable
}

fn number(point: usize) -> u32 {
    u32::try_from(point).expect("a graph has fewer points than 2^31")
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph")
            .field("points", &self.templates.len())
            .field("unreachable", &self.unreachable.len())
            .field("waiting", &self.waiting.len())
            .finish()
    }
}

/// A graph over numbered points. Points are numbered in insertion order.
trait PointGraph: Send + Sync {
    fn nearest(&self, probe: &[f32], width: usize) -> PointHits;

    /// Whether a search of this width for the point's own code finds the point.
    fn finds(&self, point: usize, width: usize) -> bool;

    fn insert(&mut self, values: &[f32]);

    /// Makes it likelier that a search of this width finds the point. Does nothing by default.
    fn repair(&self, _point: usize, _width: usize) {}

    /// The codes of all points, in order.
    fn codes(&self) -> &Codes;

    fn bytes(&self) -> usize;
}

/// Build parameters.
#[derive(Debug, Clone, Copy)]
struct GraphShape {
    /// Links per point in the upper layers (M in Malkov and Yashunin 2016); twice as many in the base layer.
    links: usize,
    /// Candidates per insertion (efConstruction).
    build_width: usize,
}

/// A point found by a search.
#[derive(Debug, Clone, Copy)]
struct PointHit {
    point: usize,
    /// Estimated from codes.
    similarity: f32,
    /// Bound of |estimated - exact similarity|.
    error: f32,
}

impl PointHit {
    fn upper(&self) -> f32 {
        self.similarity + self.error
    }
}

/// Result of a search over points.
#[derive(Debug)]
struct PointHits {
    hits: Vec<PointHit>,
    /// Upper bound of the similarity of points that were not returned, if they are no better than the returned ones.
    edge: f32,
}

impl PointHits {
    /// `hits` are sorted by falling similarity.
    fn new(hits: Vec<PointHit>) -> Self {
        let error = hits.iter().map(|hit| hit.error).fold(0.0, f32::max);
        let edge = hits.last().map_or(f32::INFINITY, |last| last.similarity + error);
        Self { hits, edge }
    }
}

/// Calls `work` for each number of the range, on this thread and up to `threads - 1` others.
fn in_parallel(threads: usize, range: std::ops::Range<usize>, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(range.start);
    let take = || {
        while let Some(number) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < range.end) {
            work(number);
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            // When the system refuses a thread, the others do its share.
            let _ = thread::Builder::new().name("graph-build".to_owned()).spawn_scoped(scope, take);
        }
        take();
    });
}

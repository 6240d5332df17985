//! The graph over a large space: which point leads to which template, and what it takes to trust a graph.
//!
//! Two graphs stand behind this door, and [`GraphKind`](super::GraphKind) chooses: a compact one of our own, and
//! hnsw_rs. Both walk over codes. Whoever searches looks at the originals of what they show; they never decide.
//!
//! - Neither can remove. A point leads to a template id, and the space knows whether that template is still there. The
//!   codes of a forgotten template can be reached by no answer and leave memory with the next rebuild.
//! - Insertion needs `&mut`, so it cannot happen during a search.
//! - A graph loses points. Each must find itself once it is in. Those that do not are linked to from where walks that look for
//!   them end; those that are lost all the same are listed, and always looked at.
//! - A filtered walk visits nearly everything. There is none: the space asks wider, or scans.

mod compact;
mod hnsw;
mod links;
mod prefetch;
#[cfg(test)]
mod tests;
mod walk;

use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use self::{compact::Compact, hnsw::HnswRs};
use crate::{
    GalleryOptions, GraphKind,
    rows::{
        codes::{Codes, Probe},
        kernel::Kernel,
    },
};
use domain::TemplateId;

/// How wide a point looks for itself. Narrower than a search, so that what passes here is found there with ease.
const SELF_QUERY_WIDTH: usize = 48;

/// A graph whose points are templates.
pub(super) struct Graph {
    points: Box<dyn Points>,
    /// The template of each point.
    templates: Vec<TemplateId>,
    /// Points that did not find themselves.
    unreachable: Vec<u32>,
    /// Templates that are not in the graph yet.
    waiting: Vec<TemplateId>,
}

/// What a walk has shown.
pub(super) struct Found {
    /// Templates, forgotten ones among them, and the most that the similarity of each can be.
    pub(super) near: Vec<(TemplateId, f32)>,
    /// The most that the similarity of a template can be that a wider walk would show.
    pub(super) edge: f32,
}

impl Graph {
    /// Takes the better part of a millisecond a row. The templates are those of the codes, in order.
    pub(super) fn build(codes: Codes, templates: Vec<TemplateId>, options: &GalleryOptions) -> Self {
        let (count, threads) = (templates.len(), options.graph_build_threads);
        let shape = Shape { links: options.graph_links, build_width: options.graph_build_width };
        let points: Box<dyn Points> = match options.graph {
            GraphKind::Compact => Box::new(Compact::build(codes, shape, threads)),
            GraphKind::HnswRs => Box::new(HnswRs::build(&codes, shape, threads)),
        };
        let mut lost = lost_of(&*points, count, threads);
        if !lost.is_empty() {
            in_parallel(threads, 0..lost.len(), |at| points.mend(lost[at], SELF_QUERY_WIDTH));
            // Of all, because a link more for one may lead the walks that look for others astray.
            lost = lost_of(&*points, count, threads);
        }
        let unreachable = lost.into_iter().map(number).collect();
        Self { points, templates, unreachable, waiting: Vec::new() }
    }

    /// What a walk shows that weighs `width` points.
    pub(super) fn nearest(&self, probe: &[f32], width: usize) -> Found {
        let walked = self.points.nearest(probe, width);
        let near = walked.near.iter().map(|near| (self.templates[near.point], near.most()));
        Found { near: near.collect(), edge: walked.edge }
    }

    /// Templates that a walk does not come by, and the most that the similarity of each can be.
    pub(super) fn outside(&self, probe: &[f32]) -> impl Iterator<Item = (TemplateId, f32)> {
        let (probe, kernel) = (Probe::new(probe), Kernel::fastest());
        let unreachable = self.unreachable.iter().map(move |point| {
            let code = self.points.codes().code(*point as usize);
            let similarity = probe.similarity(kernel.sum(probe.numbers(), code.numbers), code.term);
            (self.templates[*point as usize], similarity + probe.error(code.term))
        });
        unreachable.chain(self.waiting.iter().map(|template| (*template, f32::INFINITY)))
    }

    /// The share of points whose template is none of the `live` ones any more.
    pub(super) fn forgotten_share(&self, live: usize) -> f64 {
        let known = self.templates.len() + self.waiting.len();
        known.saturating_sub(live) as f64 / known.max(1) as f64
    }

    /// What it takes beside the codes that it shares with the space.
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
            self.points.mend(point, SELF_QUERY_WIDTH);
            if !self.points.finds(point, SELF_QUERY_WIDTH) {
                self.unreachable.push(number(point));
            }
        }
    }
}

/// Those of so many points that do not find themselves, in order.
fn lost_of(points: &dyn Points, count: usize, threads: usize) -> Vec<usize> {
    let lost = parking_lot::Mutex::new(Vec::new());
    in_parallel(threads, 0..count, |point| {
        if !points.finds(point, SELF_QUERY_WIDTH) {
            lost.lock().push(point);
        }
    });
    let mut lost = lost.into_inner();
    lost.sort_unstable();
    lost
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

/// What the graphs have in common. Points are numbered in the order in which they came.
trait Points: Send + Sync {
    fn nearest(&self, probe: &[f32], width: usize) -> Walked;

    /// Whether a walk of this width finds the point by its own code.
    fn finds(&self, point: usize, width: usize) -> bool;

    fn insert(&mut self, values: &[f32]);

    /// Makes it likelier that a walk of this width finds the point, where the graph knows how.
    fn mend(&self, _point: usize, _width: usize) {}

    /// Of all points, in order.
    fn codes(&self) -> &Codes;

    fn bytes(&self) -> usize;
}

/// How a graph is made.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Links of a point above the ground (M of Malkov and Yashunin 2016); on the ground twice as many.
    links: usize,
    /// How many candidates an insertion weighs (efConstruction).
    build_width: usize,
}

/// A point that a walk has shown.
#[derive(Debug, Clone, Copy)]
struct Near {
    point: usize,
    /// By codes.
    similarity: f32,
    /// How far that may lie from what the originals give.
    error: f32,
}

impl Near {
    fn most(&self) -> f32 {
        self.similarity + self.error
    }
}

/// Where a walk came by.
#[derive(Debug)]
struct Walked {
    near: Vec<Near>,
    /// The most that the similarity of a point can be that was not shown, where points are no worse than those that
    /// were.
    edge: f32,
}

impl Walked {
    /// `near` is in order, best first.
    fn new(near: Vec<Near>) -> Self {
        let error = near.iter().map(|near| near.error).fold(0.0, f32::max);
        let edge = near.last().map_or(f32::INFINITY, |last| last.similarity + error);
        Self { near, edge }
    }
}

/// Does `work` for each number of the range, on this thread and `threads - 1` others.
fn in_parallel(threads: usize, range: std::ops::Range<usize>, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(range.start);
    let take = || {
        while let Some(number) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < range.end) {
            work(number);
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            // A thread that the system refuses is work left for the others.
            let _ = thread::Builder::new().name("graph-build".to_owned()).spawn_scoped(scope, take);
        }
        take();
    });
}

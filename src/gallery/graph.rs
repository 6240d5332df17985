//! The graph over a large space: the only file that names hnsw_rs, and what it takes to use it safely.
//!
//! - Its own distances panic on rounding or call a zero vector a perfect match; [`Angle`] does neither, and an
//!   embedding is never a zero vector.
//! - It cannot remove. A point leads to a template id, and the space knows whether that template is still there.
//! - Its documentation rules out insertion during a search. Here insertion needs `&mut`, so it cannot happen.
//! - It loses points in crowds of near-duplicates. Each point must find itself once it is in; those that do not
//!   are listed and always looked at.
//! - Its filtered search visits nearly everything. It is not used: the space asks wider, or scans.
//! - It copies the numbers. Those of a forgotten template can be reached by no search and leave memory with the next
//!   rebuild.

use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use hnsw_rs::{anndists::dist::Distance, hnsw::Hnsw};

use super::{GalleryOptions, rows::Rows, scan::similarity_of};
use crate::domain::TemplateId;

/// hnsw_rs ends the process above 256 links, and keeps the number in a byte.
const LINKS_MAX: usize = 255;
/// As many layers as hnsw_rs knows.
const LAYERS: usize = 16;
/// How wide a point looks for itself. Narrower than a search, so that what passes here is found there with ease.
const SELF_QUERY_WIDTH: usize = 48;

/// A graph whose points are templates.
pub(super) struct Graph {
    points: Hnsw<'static, f32, Angle>,
    /// The template of each point.
    templates: Vec<TemplateId>,
    /// Points that did not find themselves.
    unreachable: Vec<TemplateId>,
    /// Templates that are not in the graph yet.
    waiting: Vec<TemplateId>,
}

impl Graph {
    /// Takes milliseconds a row.
    pub(super) fn build(rows: &Rows, options: &GalleryOptions) -> Self {
        let links = options.graph_links.clamp(2, LINKS_MAX);
        let points = Hnsw::new(links, rows.len(), LAYERS, options.graph_build_width, Angle);
        let threads = options.graph_build_threads;
        // The first point alone: others insert themselves relative to it.
        if rows.len() > 0 {
            points.insert_slice((rows.values(0), 0));
        }
        in_parallel(threads, 1..rows.len(), |row| points.insert_slice((rows.values(row), row)));

        let mut graph = Self {
            points,
            templates: (0..rows.len()).map(|row| rows.template(row)).collect(),
            unreachable: Vec::new(),
            waiting: Vec::new(),
        };
        let lost = parking_lot::Mutex::new(Vec::new());
        in_parallel(threads, 0..rows.len(), |row| {
            if !graph.finds(row, rows.values(row), SELF_QUERY_WIDTH) {
                lost.lock().push(rows.template(row));
            }
        });
        graph.unreachable = lost.into_inner();
        graph
    }

    /// The nearest points, nearest first, forgotten ones among them: at most `width` of them.
    pub(super) fn nearest(&self, probe: &[f32], width: usize) -> Vec<(TemplateId, f32)> {
        let found = self.points.search(probe, width, width);
        found.iter().map(|near| (self.templates[near.d_id], 1.0 - near.distance)).collect()
    }

    /// Templates that a walk does not come by.
    pub(super) fn outside(&self) -> impl Iterator<Item = TemplateId> {
        self.unreachable.iter().chain(&self.waiting).copied()
    }

    /// The share of points whose template is none of the `live` ones any more.
    pub(super) fn forgotten_share(&self, live: usize) -> f64 {
        let known = self.templates.len() + self.waiting.len();
        known.saturating_sub(live) as f64 / known.max(1) as f64
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
        self.points.insert_slice((values, point));
        if !self.finds(point, values, SELF_QUERY_WIDTH) {
            self.unreachable.push(template);
        }
    }

    fn finds(&self, point: usize, values: &[f32], width: usize) -> bool {
        self.points.search(values, width, width).iter().any(|near| near.d_id == point)
    }
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

/// One minus the cosine of unit vectors, 0 to 2. The clamp of the similarity keeps it from going below zero, which
/// hnsw_rs answers with a panic.
struct Angle;

impl Distance<f32> for Angle {
    fn eval(&self, one: &[f32], other: &[f32]) -> f32 {
        1.0 - similarity_of(one, other)
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

//! One embedding space of one collection: rows, whose they are, and the graph over them once there are many.

use std::collections::HashMap;

use super::{
    GalleryOptions,
    best::{Best, Hit},
    graph::Graph,
    rows::Rows,
    scan::{Measure, scan},
    slots::{Sieve, Slot},
};
use crate::domain::{EmbeddingSpace, TemplateId};

/// A graph that must look at more than so many times its usual width is slower than the scan.
const WIDTHS_MAX: usize = 8;

/// What a space's graph lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Nothing,
    /// The space has become large, or the graph is full of the forgotten.
    Build,
    /// Templates were admitted since the graph was built.
    Insert,
    /// The space has become small again.
    Drop,
}

/// What a search asks of a space.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    /// Unit length.
    pub(super) probe: &'a [f32],
    pub(super) sieve: &'a Sieve<'a>,
    /// How many candidates a walk through the graph weighs at first; at least one.
    pub(super) width: usize,
}

#[derive(Debug)]
pub(super) struct Space {
    rows: Rows,
    places: HashMap<TemplateId, usize>,
    owned: HashMap<Slot, Vec<TemplateId>>,
    graph: Option<Graph>,
    /// While a graph is being built from a snapshot of the rows: what was admitted since.
    since_snapshot: Option<Vec<TemplateId>>,
}

impl Space {
    pub(super) fn new(of: EmbeddingSpace) -> Self {
        Self {
            rows: Rows::new(of.dimension, Measure::of_parts(of.parts)),
            places: HashMap::new(),
            owned: HashMap::new(),
            graph: None,
            since_snapshot: None,
        }
    }

    /// A snapshot of the rows is their clone.
    pub(super) fn rows(&self) -> &Rows {
        &self.rows
    }

    pub(super) fn identities(&self) -> usize {
        self.owned.len()
    }

    /// Offers the nearest templates that the sieve admits: from the graph where it can be trusted to have seen
    /// them all, else from the scan.
    pub(super) fn search(&self, ask: &Ask<'_>, best: &mut Best) {
        let answered = self.graph.as_ref().is_some_and(|graph| self.walk(graph, ask, best));
        if !answered {
            scan(&self.rows, ask.probe, ask.sieve, best);
        }
    }

    pub(super) fn nearest_of(&self, probe: &[f32], owner: Slot) -> Option<Hit> {
        let hits = self.owned.get(&owner)?.iter().filter_map(|template| self.hit(probe, *template));
        hits.min_by(Hit::rank)
    }

    /// Adds a template; one that is there already stays as it is.
    pub(super) fn admit(&mut self, owner: Slot, template: TemplateId, values: &[f32]) {
        if self.places.contains_key(&template) {
            return;
        }
        let row = self.rows.push(owner, template, values);
        self.places.insert(template, row);
        self.owned.entry(owner).or_default().push(template);
        if let Some(graph) = &mut self.graph {
            graph.await_insertion(template);
        }
        if let Some(since) = &mut self.since_snapshot {
            since.push(template);
        }
    }

    pub(super) fn forget_template(&mut self, template: TemplateId) {
        let Some(row) = self.places.get(&template) else {
            return;
        };
        let owner = self.rows.owner(*row);
        if let Some(left) = self.owned.get_mut(&owner) {
            left.retain(|t| *t != template);
            if left.is_empty() {
                self.owned.remove(&owner);
            }
        }
        self.remove_row(template);
    }

    pub(super) fn forget_owner(&mut self, owner: Slot) {
        for template in self.owned.remove(&owner).unwrap_or_default() {
            self.remove_row(template);
        }
    }

    fn remove_row(&mut self, template: TemplateId) {
        let row = self.places.remove(&template).expect("every template that is owned has a row");
        if let Some(moved) = self.rows.remove(row) {
            self.places.insert(moved, row);
        }
    }

    /// Asks the graph, wider and wider, until nothing that it has not shown can matter. Templates of one identity
    /// crowd each other, forgotten points still stand in the graph, and filters turn points away: all three only
    /// make the walk wider. Answers whether it came to an end; a tie at the edge is for the scan to settle.
    fn walk(&self, graph: &Graph, ask: &Ask<'_>, best: &mut Best) -> bool {
        let width_max = ask.width * WIDTHS_MAX;
        if best.limit() as f64 > width_max as f64 * ask.sieve.share() {
            return false;
        }
        for template in graph.outside() {
            self.offer(ask, template, best);
        }
        let widths = std::iter::successors(Some(ask.width), |w| Some(w * 2)).take_while(|w| *w <= width_max);
        for width in widths {
            let near = graph.nearest(ask.probe, width);
            for (template, _) in &near {
                self.offer(ask, *template, best);
            }
            match near.last() {
                Some((_, farthest)) if best.floor() > *farthest => return true,
                Some(_) if near.len() == width => {}
                _ => return false,
            }
        }
        false
    }

    fn offer(&self, ask: &Ask<'_>, template: TemplateId, best: &mut Best) {
        if let Some(hit) = self.hit(ask.probe, template).filter(|hit| ask.sieve.admits(hit.owner)) {
            best.offer(hit);
        }
    }

    /// `None` for a forgotten template.
    fn hit(&self, probe: &[f32], template: TemplateId) -> Option<Hit> {
        let row = *self.places.get(&template)?;
        Some(Hit {
            similarity: self.rows.measure().of(probe, self.rows.values(row)),
            template,
            owner: self.rows.owner(row),
        })
    }
}

/// The graph's life. Building takes minutes and happens outside any lock, on a snapshot; the rest is short.
impl Space {
    pub(super) fn need(&self, options: &GalleryOptions) -> Need {
        let rows = self.rows.len();
        match &self.graph {
            None if rows >= options.graph_from.max(2) && self.rows.measure() == Measure::Whole => Need::Build,
            // Half, so that a space at the limit does not build and drop in turns.
            Some(_) if rows < options.graph_from / 2 => Need::Drop,
            Some(graph) if graph.forgotten_share(rows) >= options.rebuild_share => Need::Build,
            Some(graph) if graph.awaits_insertion() => Need::Insert,
            None | Some(_) => Need::Nothing,
        }
    }

    /// The rows to build a graph over.
    pub(super) fn begin_build(&mut self) -> Rows {
        self.since_snapshot = Some(Vec::new());
        self.rows.clone()
    }

    /// Puts the graph in place; what was admitted while it was built waits for insertion, and what was forgotten has
    /// no row any more. Answers the graph that is of no use now, to be dropped outside the lock.
    pub(super) fn finish_build(&mut self, mut graph: Graph) -> Option<Graph> {
        // Nothing to catch up from means that the space was loaded anew meanwhile.
        let Some(since) = self.since_snapshot.take() else {
            return Some(graph);
        };
        for template in since {
            graph.await_insertion(template);
        }
        self.graph.replace(graph)
    }

    pub(super) fn drop_graph(&mut self) -> Option<Graph> {
        self.graph.take()
    }

    /// Inserts one waiting template. Answers whether there was one.
    pub(super) fn insert_next(&mut self) -> bool {
        let Some(graph) = &mut self.graph else {
            return false;
        };
        let Some(template) = graph.next_to_insert() else {
            return false;
        };
        if let Some(row) = self.places.get(&template) {
            graph.insert(template, self.rows.values(*row));
        }
        true
    }
}

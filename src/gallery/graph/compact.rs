//! A graph of our own over codes: the hierarchy of navigable small worlds of Malkov and Yashunin 2016 (*Efficient and
//! robust approximate nearest neighbor search using hierarchical navigable small world graphs*), in flat lists.
//!
//! A point takes its codes, which it shares with the space, and some 140 bytes. With one thread the same rows make the
//! same graph.
//!
//! Near-duplicates are kept out of it. A crowd of them fills every list of candidates with itself, and whoever stands
//! near it is lost. A point that is the same as one in the graph, but for rounding, becomes that one's *twin*: it has
//! no links, and is shown with it.

use std::collections::HashMap;

use parking_lot::{Mutex, RwLock};

use super::{
    Near, Points, Shape, Walked, in_parallel,
    links::{Layer, Links},
    number,
    walk::{Seen, Terrain, Walker},
};
use crate::rows::{
    codes::{Code, Codes, Probe, Term, similarity_of_codes},
    kernel::Kernel,
};

/// No gallery needs more: 16 to this power is more points than there are.
const LAYERS_MAX: usize = 8;
/// From this cosine of their codes on, two points are twins: no farther from each other than rounding to codes moves
/// them, and far closer than any two pictures.
const TWINS_FROM: f32 = 0.9998;

/// A lost point gets so many links more.
const MENDING_LINKS: usize = 4;

/// Points by number, in the order in which they came.
#[derive(Debug)]
pub(super) struct Compact {
    shape: Shape,
    codes: Codes,
    kernel: Kernel,
    links: Links,
    /// The highest layer that has a node, above the point where walks start. Empty at first.
    summit: RwLock<Option<(usize, u32)>>,
    twins: RwLock<Twins>,
    /// Those that rest, as many as there were searches at once.
    walkers: Mutex<Vec<Walker>>,
}

#[derive(Debug, Default)]
struct Twins {
    /// By the point in the graph.
    of: HashMap<u32, Vec<u32>>,
    /// The most by which the similarity of twins to any probe differs.
    radius: f32,
}

impl Compact {
    pub(super) fn build(codes: Codes, shape: Shape, threads: usize) -> Self {
        let mut graph = Self {
            shape,
            links: Links::new(shape.links),
            codes,
            kernel: Kernel::fastest(),
            summit: RwLock::new(None),
            twins: RwLock::default(),
            walkers: Mutex::default(),
        };
        for _ in 0..graph.codes.len() {
            graph.add();
        }
        // The first point alone: others link themselves to it.
        in_parallel(1, 0..graph.codes.len().min(1), |point| graph.link(number(point)));
        in_parallel(threads, 1..graph.codes.len(), |point| graph.link(number(point)));
        graph
    }

    /// Makes room for the point whose code came last, without links.
    fn add(&mut self) -> u32 {
        let point = self.links.points();
        self.links.add(layers_above(point, self.shape.links));
        number(point)
    }

    /// Walks from the summit to the ground.
    fn walked<M: Measured>(&self, measured: &M, width: usize) -> Walked {
        let Some((top, summit)) = *self.summit.read() else {
            return Walked::new(Vec::new());
        };
        let similarity = |code: Code<'_>| measured.similarity(self.kernel, code);
        let near = |point: u32, similarity: f32| {
            let point = point as usize;
            Near { point, similarity, error: measured.error(self.codes.code(point).term) }
        };
        self.with_walker(|walker| {
            let mut start = summit;
            for level in (1..=top).rev() {
                let layer = self.links.layer(level);
                let nearest = walker.walk(self.terrain(layer), layer.node(start), 1, similarity)[0];
                start = layer.point(nearest.node());
            }
            let seen = walker.walk(self.terrain(self.links.layer(0)), start, width, similarity);
            let mut walked = Walked::new(seen.iter().map(|seen| near(seen.node(), seen.similarity())).collect());
            let twins = self.twins.read();
            if !twins.of.is_empty() {
                // A twin goes with a point that may be a little less like the probe than it is.
                walked.edge += twins.radius;
                let of_shown = walked.near.iter().filter_map(|near| twins.of.get(&number(near.point))).flatten();
                let shown = of_shown.map(|twin| near(*twin, similarity(self.codes.code(*twin as usize))));
                let shown: Vec<Near> = shown.collect();
                walked.near.extend(shown);
                walked.near.sort_unstable_by(|one, other| other.similarity.total_cmp(&one.similarity));
            }
            walked
        })
    }

    fn similarity(&self, one: Code<'_>, other: Code<'_>) -> f32 {
        similarity_of_codes(self.kernel, one, other)
    }

    fn terrain<'g>(&'g self, layer: Layer<'g>) -> Terrain<'g> {
        Terrain { layer, codes: &self.codes }
    }

    fn with_walker<T>(&self, work: impl FnOnce(&mut Walker) -> T) -> T {
        let mut walker = self.walkers.lock().pop().unwrap_or_default();
        let done = work(&mut walker);
        self.walkers.lock().push(walker);
        done
    }
}

impl Points for Compact {
    fn nearest(&self, probe: &[f32], width: usize) -> Walked {
        self.walked(&Probe::new(probe), width)
    }

    fn finds(&self, point: usize, width: usize) -> bool {
        self.walked(&self.codes.code(point), width).near.iter().any(|near| near.point == point)
    }

    fn insert(&mut self, values: &[f32]) {
        self.codes.push(values);
        let point = self.add();
        self.link(point);
    }

    /// Links the point from the ends of a walk that looks for it, where these have room: whoever looks for it, or for what is like
    /// it, ends there and sees it.
    fn mend(&self, point: usize, width: usize) {
        let ground = self.links.layer(0);
        let own = number(point);
        let ends = self.walked(&self.codes.code(point), width).near;
        let others = ends.iter().map(|near| number(near.point)).filter(|node| *node != own);
        let linked = others.filter(|node| {
            let _alone = ground.lock(*node);
            ground.neighbours(*node).any(|other| other == own) || ground.append(*node, own)
        });
        // Looked at one by one: the first that have room are enough.
        linked.take(MENDING_LINKS).for_each(drop);
    }

    fn codes(&self) -> &Codes {
        &self.codes
    }

    fn bytes(&self) -> usize {
        let marks: usize = self.walkers.lock().iter().map(Walker::bytes).sum();
        self.links.bytes() + marks
    }
}

/// What points are compared with.
trait Measured {
    fn similarity(&self, kernel: Kernel, code: Code<'_>) -> f32;

    /// How far that may lie from what the originals give.
    fn error(&self, term: Term) -> f32;
}

impl Measured for Probe {
    #[inline]
    fn similarity(&self, kernel: Kernel, code: Code<'_>) -> f32 {
        self.similarity(kernel.sum(self.numbers(), code.numbers), code.term)
    }

    fn error(&self, term: Term) -> f32 {
        self.error(term)
    }
}

/// A point of the graph, for which the codes are all there is.
impl Measured for Code<'_> {
    fn similarity(&self, kernel: Kernel, code: Code<'_>) -> f32 {
        similarity_of_codes(kernel, *self, code)
    }

    fn error(&self, _: Term) -> f32 {
        0.0
    }
}

/// How points come in (algorithm 1). Neighbours are looked for on every layer first; then the links away from the
/// point are written, then the links to it, the ground's before the others': nobody comes by it before it leads on.
impl Compact {
    fn link(&self, point: u32) {
        let Some((top, summit)) = *self.summit.read() else {
            *self.summit.write() = Some((self.links.layers_above(point), point));
            return;
        };
        let code = self.codes.code(point as usize);
        let layers = self.links.layers_above(point);
        let mut start = summit;
        let mut chosen: Vec<Vec<Seen>> = Vec::new();
        for level in (0..=top).rev() {
            let layer = self.links.layer(level);
            let width = if level <= layers { self.shape.build_width } else { 1 };
            let seen = self.with_walker(|walker| {
                walker
                    .walk(self.terrain(layer), layer.node(start), width, |other| self.similarity(code, other))
                    .to_vec()
            });
            start = layer.point(seen[0].node());
            if level == 0 && self.take_twin(point, seen[0]) {
                return;
            }
            if level <= layers {
                chosen.push(self.choose(layer, seen, self.shape.links));
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
                self.link_back(layer, neighbour.node(), Seen::new(neighbour.similarity(), node));
            }
        }
        if layers > top {
            let mut summit = self.summit.write();
            *summit = summit.filter(|(highest, _)| *highest >= layers).or(Some((layers, point)));
        }
    }

    /// Links a node to one that came in. A full list is chosen anew.
    fn link_back(&self, layer: Layer<'_>, node: u32, link: Seen) {
        let _alone = layer.lock(node);
        if layer.append(node, link.node()) {
            return;
        }
        let code = self.terrain(layer).code(node);
        let known = layer
            .neighbours(node)
            .map(|other| Seen::new(self.similarity(code, self.terrain(layer).code(other)), other));
        let mut candidates: Vec<Seen> = known.chain([link]).collect();
        candidates.sort_unstable_by(|one, other| other.cmp(one));
        layer.replace(node, &nodes_of(&self.choose(layer, candidates, layer.links_max())));
    }

    /// Of the candidates, best first, those that lie in different directions: each is closer to the node than to
    /// any that was chosen before it (algorithm 4; the others are not kept, because that makes points unreachable).
    fn choose(&self, layer: Layer<'_>, candidates: Vec<Seen>, most: usize) -> Vec<Seen> {
        let code = |seen: &Seen| self.terrain(layer).code(seen.node());
        let mut chosen: Vec<Seen> = Vec::with_capacity(most);
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

    /// Whether the point is the same as the nearest in the graph, and goes with it from now on.
    fn take_twin(&self, point: u32, nearest: Seen) -> bool {
        let (own, other) = (self.codes.code(point as usize), self.codes.code(nearest.node() as usize));
        // Codes are not of unit length.
        let norms = self.similarity(own, own) * self.similarity(other, other);
        let cosine = nearest.similarity() / norms.sqrt();
        if cosine < TWINS_FROM {
            return false;
        }
        let mut twins = self.twins.write();
        twins.of.entry(nearest.node()).or_default().push(point);
        twins.radius = twins.radius.max((2.0 - 2.0 * cosine.min(1.0)).sqrt() + own.term.error + other.term.error);
        true
    }
}

fn nodes_of(seen: &[Seen]) -> Vec<u32> {
    seen.iter().map(|seen| seen.node()).collect()
}

/// How high a point reaches: geometrically distributed, drawn by its number.
fn layers_above(point: usize, links: usize) -> usize {
    // SplitMix64 (Steele, Lea and Flood 2014).
    let mut mixed = (point as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^= mixed >> 31;
    let share = links as u64;
    let mut left = mixed;
    let mut layers = 0;
    while layers < LAYERS_MAX && left.is_multiple_of(share) {
        left /= share;
        layers += 1;
    }
    layers
}

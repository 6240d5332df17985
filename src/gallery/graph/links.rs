//! Who is linked to whom: flat lists of numbers that many threads may read while others write.
//!
//! A list is cut short by [`EMPTY`]. Its numbers are atomic because it may be rewritten under a reader's eyes, who then
//! sees some of the old links and some of the new: all of them are nodes, so he walks on. Writers of one list take
//! turns.

use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::{Mutex, MutexGuard};

/// The end of a list.
const EMPTY: u32 = u32::MAX;
/// Ground lists come in blocks, so that one point more never moves all of them.
const BLOCK_POINTS: usize = 1 << 12;
/// Locks for all lists together: many more than threads, so that these rarely meet.
const LOCKS: usize = 1 << 10;

/// The lists of every layer. On the ground each point has one; the few points that reach higher have a *slot*, and one
/// list more for each layer above the ground.
#[derive(Debug)]
pub(super) struct Links {
    /// The longest list above the ground; on the ground twice as long.
    length: usize,
    points: usize,
    ground: Vec<Box<[AtomicU32]>>,
    /// The point of each slot, ascending.
    slots: Vec<u32>,
    /// Where the lists of each slot start.
    starts: Vec<u32>,
    upper: Vec<AtomicU32>,
    locks: Box<[Mutex<()>]>,
}

impl Links {
    pub(super) fn new(length: usize) -> Self {
        Self {
            length,
            points: 0,
            ground: Vec::new(),
            slots: Vec::new(),
            starts: Vec::new(),
            upper: Vec::new(),
            locks: (0..LOCKS).map(|_| Mutex::new(())).collect(),
        }
    }

    pub(super) fn points(&self) -> usize {
        self.points
    }

    /// Makes room for one point more, with empty lists on the ground and so many layers above it.
    pub(super) fn add(&mut self, layers_above: usize) {
        let empty = |count: usize| (0..count).map(|_| AtomicU32::new(EMPTY));
        if self.points.is_multiple_of(BLOCK_POINTS) {
            self.ground.push(empty(BLOCK_POINTS * 2 * self.length).collect());
        }
        if layers_above > 0 {
            self.slots.push(u32::try_from(self.points).expect("a graph has fewer points than 2^31"));
            self.starts.push(u32::try_from(self.upper.len()).expect("one point of many has a slot"));
            self.upper.extend(empty(layers_above * self.length));
        }
        self.points += 1;
    }

    /// How many layers above the ground the point reaches.
    pub(super) fn layers_above(&self, point: u32) -> usize {
        let Ok(slot) = self.slots.binary_search(&point) else {
            return 0;
        };
        let end = self.starts.get(slot + 1).map_or(self.upper.len(), |start| *start as usize);
        (end - self.starts[slot] as usize) / self.length
    }

    pub(super) fn layer(&self, level: usize) -> Layer<'_> {
        Layer { links: self, level }
    }

    pub(super) fn bytes(&self) -> usize {
        let ground = self.ground.len() * BLOCK_POINTS * 2 * self.length;
        (ground + self.upper.capacity() + self.slots.capacity() + self.starts.capacity()) * size_of::<u32>()
    }
}

/// One layer; level 0 is the ground. Its *nodes* are points on the ground and slots above it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layer<'l> {
    links: &'l Links,
    pub(super) level: usize,
}

impl<'l> Layer<'l> {
    pub(super) fn point(self, node: u32) -> u32 {
        if self.level == 0 { node } else { self.links.slots[node as usize] }
    }

    /// The node of a point that reaches this layer.
    pub(super) fn node(self, point: u32) -> u32 {
        if self.level == 0 {
            return point;
        }
        let slot = self.links.slots.binary_search(&point).expect("the point reaches this layer");
        u32::try_from(slot).expect("there are no more slots than points")
    }

    /// How many nodes are numbered here, in use or not.
    pub(super) fn nodes(self) -> usize {
        if self.level == 0 { self.links.points } else { self.links.slots.len() }
    }

    /// The most links of one node.
    pub(super) fn links_max(self) -> usize {
        if self.level == 0 { 2 * self.links.length } else { self.links.length }
    }

    #[inline]
    pub(super) fn neighbours(self, node: u32) -> impl Iterator<Item = u32> + use<'l> {
        self.list(node).iter().map(|link| link.load(Ordering::Relaxed)).take_while(|link| *link != EMPTY)
    }

    /// Whoever changes a node's list holds this.
    pub(super) fn lock(self, node: u32) -> MutexGuard<'l, ()> {
        self.links.locks[(node as usize + self.level) % LOCKS].lock()
    }

    /// Adds a link where there is room. Answers whether there was.
    pub(super) fn append(self, node: u32, link: u32) -> bool {
        let free = self.list(node).iter().find(|place| place.load(Ordering::Relaxed) == EMPTY);
        free.is_some_and(|place| {
            place.store(link, Ordering::Relaxed);
            true
        })
    }

    pub(super) fn replace(self, node: u32, links: &[u32]) {
        let links = links.iter().copied().chain(std::iter::repeat(EMPTY));
        for (place, link) in self.list(node).iter().zip(links) {
            place.store(link, Ordering::Relaxed);
        }
    }

    #[inline]
    fn list(self, node: u32) -> &'l [AtomicU32] {
        let (links, node) = (self.links, node as usize);
        if self.level == 0 {
            let length = 2 * links.length;
            return &links.ground[node / BLOCK_POINTS][node % BLOCK_POINTS * length..][..length];
        }
        let start = links.starts[node] as usize + (self.level - 1) * links.length;
        &links.upper[start..][..links.length]
    }
}

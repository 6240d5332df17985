//! Adjacency lists: flat arrays of node numbers that threads may read while others write.
//!
//! [`EMPTY`] ends a list early. Entries are atomic, because a reader may see a list while it is rewritten: a mix of old
//! and new links, all of them valid nodes. Writers of one list exclude each other by a lock.

use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::{Mutex, MutexGuard};

/// End of a list.
const EMPTY: u32 = u32::MAX;
/// Base-layer lists are allocated in blocks, so that one more point never moves all of them.
const BLOCK_POINTS: usize = 1 << 12;
/// Locks for all lists: many more than threads, so that threads rarely wait for each other.
const LOCKS: usize = 1 << 10;

/// The lists of all layers. In the base layer each point has one list. The few points that reach higher have a *slot*,
/// and one more list for each upper layer.
#[derive(Debug)]
pub(super) struct Links {
    /// Maximum list length in the upper layers; the base layer has twice as much.
    length: usize,
    points: usize,
    base: Vec<Box<[AtomicU32]>>,
    /// The point of each slot, ascending.
    slots: Vec<u32>,
    /// Start of each slot's lists in `upper`.
    starts: Vec<u32>,
    upper: Vec<AtomicU32>,
    locks: Box<[Mutex<()>]>,
}

impl Links {
    pub(super) fn new(length: usize) -> Self {
        Self {
            length,
            points: 0,
            base: Vec::new(),
            slots: Vec::new(),
            starts: Vec::new(),
            upper: Vec::new(),
            locks: (0..LOCKS).map(|_| Mutex::new(())).collect(),
        }
    }

    pub(super) fn points(&self) -> usize {
        self.points
    }

    /// Adds a point with empty lists in the base layer and in `upper_layers` layers above it.
    pub(super) fn add(&mut self, upper_layers: usize) {
        let empty = |count: usize| (0..count).map(|_| AtomicU32::new(EMPTY));
        if self.points.is_multiple_of(BLOCK_POINTS) {
            self.base.push(empty(BLOCK_POINTS * 2 * self.length).collect());
        }
        if upper_layers > 0 {
            self.slots.push(u32::try_from(self.points).expect("a graph has fewer points than 2^31"));
            self.starts.push(u32::try_from(self.upper.len()).expect("one point of many has a slot"));
            self.upper.extend(empty(upper_layers * self.length));
        }
        self.points += 1;
    }

    /// Number of layers above the base layer that the point reaches.
    pub(super) fn upper_layers(&self, point: u32) -> usize {
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
        let base = self.base.len() * BLOCK_POINTS * 2 * self.length;
        (base + self.upper.capacity() + self.slots.capacity() + self.starts.capacity()) * size_of::<u32>()
    }
}

/// One layer; level 0 is the base layer. Its *nodes* are points in the base layer and slots above it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layer<'l> {
    links: &'l Links,
    pub(super) level: usize,
}

impl<'l> Layer<'l> {
    pub(super) fn point(self, node: u32) -> u32 {
        if self.level == 0 { node } else { self.links.slots[node as usize] }
    }

    /// Node of a point that reaches this layer.
    pub(super) fn node(self, point: u32) -> u32 {
        if self.level == 0 {
            return point;
        }
        let slot = self.links.slots.binary_search(&point).expect("the point reaches this layer");
        u32::try_from(slot).expect("there are no more slots than points")
    }

    /// Number of node numbers in this layer; some may be unused.
    pub(super) fn nodes(self) -> usize {
        if self.level == 0 { self.links.points } else { self.links.slots.len() }
    }

    /// Maximum number of links of one node.
    pub(super) fn links_max(self) -> usize {
        if self.level == 0 { 2 * self.links.length } else { self.links.length }
    }

    #[inline]
    pub(super) fn neighbours(self, node: u32) -> impl Iterator<Item = u32> + use<'l> {
        self.list(node).iter().map(|link| link.load(Ordering::Relaxed)).take_while(|link| *link != EMPTY)
    }

    /// Hold this lock while changing the node's list.
    pub(super) fn lock(self, node: u32) -> MutexGuard<'l, ()> {
        self.links.locks[(node as usize + self.level) % LOCKS].lock()
    }

    /// Appends a link when the list has space. Returns whether it had.
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
            return &links.base[node / BLOCK_POINTS][node % BLOCK_POINTS * length..][..length];
        }
        let start = links.starts[node] as usize + (self.level - 1) * links.length;
        &links.upper[start..][..links.length]
    }
}

//! Re-ranking with k-reciprocal neighbours (Zhong, Zheng, Cao and Li 2017), with the published parameters.

use std::collections::BTreeSet;

/// Neighbours per item (k1).
const NEAREST: usize = 20;
/// Neighbourhoods per average, local query expansion (k2).
const AVERAGED: usize = 6;
/// Weight of the original distance against the Jaccard distance (lambda).
const DISTANCE_SHARE: f64 = 0.3;

/// Re-ranked distances of item 0 to each of `count` items; lower is nearer. `squared` has the squared distances of all
/// pairs, row-major, `count` x `count`.
pub(super) fn distances(count: usize, squared: Vec<f64>) -> Vec<f64> {
    let items = Items::new(count, squared);
    let neighbourhoods: Vec<Vec<f64>> = (0..count).map(|item| items.neighbourhood(item)).collect();
    let averaged: Vec<Vec<f64>> = (0..count).map(|item| items.averaged(item, &neighbourhoods)).collect();
    let own = &averaged[0];
    let one = |(other, theirs): (usize, &Vec<f64>)| {
        let shared: f64 = own.iter().zip(theirs).map(|(own, theirs)| own.min(*theirs)).sum();
        let jaccard = 1.0 - shared / (2.0 - shared);
        (1.0 - DISTANCE_SHARE) * jaccard + DISTANCE_SHARE * items.distance(0, other)
    };
    averaged.iter().enumerate().map(one).collect()
}

struct Items {
    count: usize,
    /// Row-major; each row is divided by its maximum.
    distances: Vec<f64>,
    /// For each item all items including itself, nearest first.
    orders: Vec<Vec<usize>>,
}

impl Items {
    fn new(count: usize, mut distances: Vec<f64>) -> Self {
        for row in distances.chunks_mut(count) {
            let largest = row.iter().copied().fold(0.0, f64::max);
            if largest > 0.0 {
                for distance in row {
                    *distance /= largest;
                }
            }
        }
        let order = |row: &[f64]| {
            let mut order: Vec<usize> = (0..count).collect();
            order.sort_by(|one, other| row[*one].total_cmp(&row[*other]));
            order
        };
        Self { count, orders: distances.chunks(count).map(order).collect(), distances }
    }

    fn distance(&self, one: usize, other: usize) -> f64 {
        self.distances[one * self.count + other]
    }

    /// The `most` nearest items, the item itself among them.
    fn nearest(&self, item: usize, most: usize) -> &[usize] {
        &self.orders[item][..most.min(self.count)]
    }

    /// The nearest items that also have this item among their nearest.
    fn reciprocal(&self, item: usize, most: usize) -> Vec<usize> {
        let others = self.nearest(item, most).iter().copied();
        others.filter(|other| self.nearest(*other, most).contains(&item)).collect()
    }

    /// Membership weights of all items in one item's neighbourhood: exp(-distance), with sum 1. Reciprocal neighbours
    /// of a member join when more than two thirds of them are members.
    fn neighbourhood(&self, item: usize) -> Vec<f64> {
        let own = self.reciprocal(item, NEAREST + 1);
        let mut members: BTreeSet<usize> = own.iter().copied().collect();
        for neighbour in &own {
            let theirs = self.reciprocal(*neighbour, NEAREST / 2 + 1);
            let shared = theirs.iter().filter(|one| own.contains(one)).count();
            if 3 * shared > 2 * theirs.len() {
                members.extend(theirs);
            }
        }
        let weights = members.iter().map(|member| (-self.distance(item, *member)).exp());
        let all: f64 = weights.clone().sum();
        let mut belongs = vec![0.0; self.count];
        for (member, weight) in members.iter().zip(weights) {
            belongs[*member] = weight / all;
        }
        belongs
    }

    /// Mean over the neighbourhoods of the nearest items, its own included (local query expansion).
    fn averaged(&self, item: usize, neighbourhoods: &[Vec<f64>]) -> Vec<f64> {
        let nearest = self.nearest(item, AVERAGED);
        let mut mean = vec![0.0; self.count];
        for one in nearest {
            for (mean, belongs) in mean.iter_mut().zip(&neighbourhoods[*one]) {
                *mean += belongs / nearest.len() as f64;
            }
        }
        mean
    }
}

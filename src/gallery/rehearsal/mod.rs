//! A gallery that tries itself: what its own templates say about strangers and acquaintances.
//!
//! Each trial takes a template of the gallery for a probe. Its own identity taken out of the gallery, it is a stranger;
//! itself taken out, it is an acquaintance.

mod joint;

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    roster::Slot,
    rows::{
        Rows,
        weights::{self, Voice},
    },
};
use domain::{Pooling, Rehearsal, ReviewedSimilarities, SAME_IMAGE, Similarity};
use ranking::{Pools, Said};

pub use joint::Together;

/// So many trials pass over a block together where several templates speak: each keeps numbers for every identity.
const TRIALS_AT_ONCE: usize = 16;

/// At most `trials_max` trials. The same rows, count and seed give the same trials.
pub(crate) fn rehearse(rows: &Rows, pooling: Pooling, trials_max: usize, seed: u64) -> Rehearsal {
    let people = people_of(rows);
    let pooling = weights::in_space(rows.measure(), pooling);
    let mut random = SplitMix(seed);
    let probes = draw(&people, trials_max, &mut random);
    let impostor =
        probes.iter().filter_map(|probe| impostor_of(rows, &people, pooling, (*probe, &mut random))).collect();
    let (nonmated_best, mated_best) = match pooling {
        Pooling::Best => best_of(rows, &probes),
        Pooling::MeanOfBest(_) | Pooling::ByQuality | Pooling::Prototype | Pooling::Centralised => {
            pooled_of(&Crowd::new(rows, pooling), &probes)
        }
    };
    Rehearsal {
        identities: people.len() as u64,
        templates: rows.len() as u64,
        nonmated_best,
        impostor,
        mated_best,
        reviewed: ReviewedSimilarities::default(),
    }
}

/// The rows of each identity, in the order of their templates and not of the rows, which depends on what was
/// forgotten before.
fn people_of(rows: &Rows) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_unstable_by_key(|row| rows.template(*row));
    let mut places: BTreeMap<Slot, usize> = BTreeMap::new();
    let mut people: Vec<Vec<usize>> = Vec::new();
    for row in order {
        let place = *places.entry(rows.owner(row)).or_insert(people.len());
        if place == people.len() {
            people.push(Vec::new());
        }
        people[place].push(row);
    }
    people
}

/// One row of every identity, in random order, then another one of every identity that has one, and so on: trials of
/// one person are not independent, so as many persons as possible take part.
fn draw(people: &[Vec<usize>], trials_max: usize, random: &mut SplitMix) -> Vec<usize> {
    let mut people: Vec<Vec<usize>> = people.to_vec();
    random.shuffle(&mut people);
    for rows in &mut people {
        random.shuffle(rows);
    }
    let rounds = people.iter().map(Vec::len).max().unwrap_or(0);
    let turns = (0..rounds).flat_map(|round| people.iter().filter_map(move |rows| rows.get(round)));
    turns.take(trials_max).copied().collect()
}

/// The probe against one other identity, as a verification compares them: all its templates speak together.
fn impostor_of(
    rows: &Rows,
    people: &[Vec<usize>],
    pooling: Pooling,
    (probe, random): (usize, &mut SplitMix),
) -> Option<Similarity> {
    if people.len() < 2 {
        return None;
    }
    let drawn = random.below(people.len());
    let stranger = if rows.owner(people[drawn][0]) == rows.owner(probe) { (drawn + 1) % people.len() } else { drawn };
    apart(rows, pooling, probe, &people[stranger]).map(Similarity)
}

/// The pooled similarity of a probe and one identity, without the probe itself and its copies. `None` where nothing is left.
fn apart(rows: &Rows, pooling: Pooling, probe: usize, its_rows: &[usize]) -> Option<f32> {
    let similarity = |row: usize| rows.measure().of(rows.values(probe), rows.values(row));
    let left = its_rows.iter().map(|row| (*row, similarity(*row))).filter(|(row, s)| *s < SAME_IMAGE && *row != probe);
    let (left, similarities): (Vec<usize>, Vec<f32>) = left.unzip();
    // What is left weighs itself anew.
    let shares: BTreeMap<usize, f32> = weights::shares_of(rows, pooling, &left).into_iter().collect();
    let said = |(row, similarity): (&usize, &f32)| Said {
        similarity: *similarity,
        quality: rows.quality(*row),
        share: shares[row],
    };
    Pools::one(pooling, left.iter().zip(&similarities).map(said))
}

/// The highest similarity of each probe to other identities, and to the rest of its own, where there is any.
fn best_of(rows: &Rows, probes: &[usize]) -> (Vec<Similarity>, Vec<Similarity>) {
    let mut nonmated = vec![Similarity::LOWEST; probes.len()];
    let mut mated = vec![Similarity::LOWEST; probes.len()];
    each_similarity(rows, probes, |trial, row, similarity| {
        let probe = probes[trial];
        if similarity < SAME_IMAGE && row != probe {
            let best = if rows.owner(row) == rows.owner(probe) { &mut mated[trial] } else { &mut nonmated[trial] };
            best.0 = best.0.max(similarity);
        }
    });
    let found = |best: Vec<Similarity>| best.into_iter().filter(|s| *s > Similarity::LOWEST).collect();
    (found(nonmated), found(mated))
}

/// The same where several templates of an identity speak together.
fn pooled_of(crowd: &Crowd<'_>, probes: &[usize]) -> (Vec<Similarity>, Vec<Similarity>) {
    let (mut nonmated, mut mated) = (Vec::new(), Vec::new());
    for probes in probes.chunks(TRIALS_AT_ONCE) {
        let meeting = crowd.meet(probes);
        for (trial, probe) in probes.iter().enumerate() {
            let own = crowd.rows.owner(*probe);
            let others = crowd.slots().filter(|slot| *slot != own);
            let similarities = others.filter_map(|slot| meeting.similarity(trial, slot));
            nonmated.extend(similarities.max_by(f32::total_cmp).map(Similarity));
            mated.extend(crowd.apart(*probe, own).map(Similarity));
        }
    }
    (nonmated, mated)
}

/// Everybody in a space, by what the templates of each say together.
struct Crowd<'r> {
    rows: &'r Rows,
    pooling: Pooling,
    people: BTreeMap<Slot, Vec<usize>>,
    shares: Vec<f32>,
}

/// What some probes are to everybody in a space.
struct Meeting<'c> {
    crowd: &'c Crowd<'c>,
    probes: Vec<usize>,
    /// Of each probe.
    pools: Vec<Pools>,
    /// Identities of which something is left out: the probe itself or a copy of it.
    touched: Vec<BTreeSet<Slot>>,
}

impl<'r> Crowd<'r> {
    fn new(rows: &'r Rows, pooling: Pooling) -> Self {
        let pooling = weights::in_space(rows.measure(), pooling);
        let people: BTreeMap<Slot, Vec<usize>> =
            people_of(rows).into_iter().map(|its_rows| (rows.owner(its_rows[0]), its_rows)).collect();
        let shares = weights::shares_of_all(rows, pooling, people.values().cloned());
        Self { rows, pooling, people, shares }
    }

    fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.people.keys().copied()
    }

    /// See [`apart`].
    fn apart(&self, probe: usize, slot: Slot) -> Option<f32> {
        apart(self.rows, self.pooling, probe, self.people.get(&slot)?)
    }

    /// Takes as long as a scan for each probe.
    fn meet(&self, probes: &[usize]) -> Meeting<'_> {
        let slots = self.people.last_key_value().map_or(0, |(last, _)| last.0 as usize + 1);
        let voice = Voice::new(self.pooling, &self.shares);
        let mut pools: Vec<Pools> = probes.iter().map(|_| Pools::new(self.pooling, slots)).collect();
        let mut touched: Vec<BTreeSet<Slot>> = vec![BTreeSet::new(); probes.len()];
        each_similarity(self.rows, probes, |trial, row, similarity| {
            let owner = self.rows.owner(row);
            if similarity < SAME_IMAGE && row != probes[trial] {
                pools[trial].add(owner.0 as usize, voice.said(self.rows, row, similarity));
            } else {
                touched[trial].insert(owner);
            }
        });
        if Pools::has_two_rounds(self.pooling) {
            each_similarity(self.rows, probes, |trial, row, similarity| {
                pools[trial].compare(self.rows.owner(row).0 as usize, voice.said(self.rows, row, similarity));
            });
        }
        Meeting { crowd: self, probes: probes.to_vec(), pools, touched }
    }
}

impl Meeting<'_> {
    /// How similar an identity is to one of the probes, without the probe itself and its copies. `None` where nothing is left.
    fn similarity(&self, trial: usize, slot: Slot) -> Option<f32> {
        if self.touched[trial].contains(&slot) {
            return self.crowd.apart(self.probes[trial], slot);
        }
        self.crowd.people.contains_key(&slot).then(|| self.pools[trial].of(slot.0 as usize)).flatten()
    }
}

/// Of each probe to each row: the probe's place, the row, the similarity. Block by block, all probes against one block before the
/// next is read: the numbers come from memory once.
fn each_similarity(rows: &Rows, probes: &[usize], mut take: impl FnMut(usize, usize, f32)) {
    let mut similarities = Vec::new();
    for (first, values) in rows.blocks() {
        for (trial, probe) in probes.iter().enumerate() {
            rows.measure().of_all(rows.values(*probe), values, &mut similarities);
            for (row, similarity) in (first..).zip(&similarities) {
                take(trial, row, *similarity);
            }
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014): small, seeded, and the same on every machine.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// The high half of a product instead of a remainder (Lemire 2019); biased by less than 2^-32 at these sizes.
    fn below(&mut self, bound: usize) -> usize {
        let product = u128::from(self.next()) * bound as u128;
        usize::try_from(product >> 64).expect("below the bound, which is one")
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        rows::{
            kernel::Packing,
            measure::{Measure, similarity_of},
        },
        testbed::{member, unit_rows},
    };

    /// `people` identities with two templates each, in 32 dimensions.
    fn gallery(people: u32) -> Rows {
        let mut rows = Rows::new(32, Measure::Whole, Packing::Bytes);
        for (number, values) in (0..).zip(unit_rows(people as usize * 2, 32, 5)) {
            rows.push(member(number / 2, number), &values);
        }
        rows
    }

    #[test]
    fn trials_are_what_a_look_at_every_pair_gives() {
        let rows = gallery(20);
        let rehearsal = rehearse(&rows, Pooling::Best, 1000, 3);
        assert_eq!((rehearsal.identities, rehearsal.templates), (20, 40));
        assert_eq!(rehearsal.impostor.len(), 40);
        let best = |row: usize, own: bool| {
            let others = (0..40).filter(|other| *other != row && (rows.owner(*other) == rows.owner(row)) == own);
            others.map(|other| similarity_of(rows.values(row), rows.values(other))).fold(-2.0, f32::max)
        };
        let sorted = |mut values: Vec<f32>| {
            values.sort_by(f32::total_cmp);
            values
        };
        let found = |trials: &[Similarity]| sorted(trials.iter().map(|s| s.0).collect());
        assert_eq!(found(&rehearsal.nonmated_best), sorted((0..40).map(|row| best(row, false)).collect()));
        assert_eq!(found(&rehearsal.mated_best), sorted((0..40).map(|row| best(row, true)).collect()));
    }

    /// A copy of one image under two names, and every way of pooling: trials are what a look at each pair of people gives,
    /// the probe and its copies left out.
    #[test]
    fn templates_that_speak_together_weigh_themselves_anew_without_the_probe() {
        let mut rows = Rows::new(32, Measure::Whole, Packing::Bytes);
        let mut values = unit_rows(60, 32, 6);
        values[17] = values[40].clone();
        for (number, values) in (0..).zip(&values) {
            rows.push(member(number / 4, number), values);
        }
        for pooling in [Pooling::Prototype, Pooling::Centralised, Pooling::ByQuality] {
            let rehearsal = rehearse(&rows, pooling, 1000, 3);
            let trial = |probe: usize, is_own: bool| {
                let people = (0..15).filter(|person| (*person == probe / 4) == is_own);
                let of = |person: usize| {
                    let left = (person * 4..person * 4 + 4).filter(|row| {
                        *row != probe && similarity_of(rows.values(*row), rows.values(probe)) < SAME_IMAGE
                    });
                    let mut alone = Rows::new(32, Measure::Whole, Packing::Bytes);
                    for row in left {
                        alone.push(rows.member(row), rows.values(row));
                    }
                    let copy = alone.push(member(99, 999), rows.values(probe));
                    apart(&alone, pooling, copy, &(0..copy).collect::<Vec<usize>>()).expect("something is left")
                };
                people.map(of).fold(-2.0, f32::max)
            };
            let sorted = |values: &mut dyn Iterator<Item = f32>| {
                let mut values: Vec<f32> = values.collect();
                values.sort_by(f32::total_cmp);
                values
            };
            let all = |is_own| sorted(&mut (0..60).map(|probe| trial(probe, is_own)));
            let found = |trials: &[Similarity]| sorted(&mut trials.iter().map(|s| s.0));
            for (found, expected) in
                [(found(&rehearsal.nonmated_best), all(false)), (found(&rehearsal.mated_best), all(true))]
            {
                assert_eq!(found.len(), expected.len());
                let apart = found.iter().zip(&expected).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max);
                assert!(apart < 1e-6, "{pooling:?}: {apart}");
            }
        }
    }

    #[test]
    fn every_identity_has_its_turn_before_one_has_two() {
        let rows = gallery(50);
        let probes = draw(&people_of(&rows), 50, &mut SplitMix(9));
        let mut owners: Vec<u32> = probes.iter().map(|row| rows.owner(*row).0).collect();
        owners.sort_unstable();
        assert_eq!(owners, (0..50).collect::<Vec<u32>>());
        assert_eq!(draw(&people_of(&rows), 70, &mut SplitMix(9)).len(), 70);
    }

    #[test]
    fn a_seed_gives_the_same_trials_whatever_was_forgotten_before() {
        let rows = gallery(30);
        let mut detour = gallery(31);
        detour.remove(61);
        detour.remove(60);
        let extra = member(77, 1000);
        detour.push(extra, &[0.0; 32]);
        let moved = detour.remove(3);
        assert_eq!(moved, Some(extra.template));
        let values = rows.values(3).to_vec();
        detour.push(member(1, 3), &values);
        detour.remove(3);
        assert_eq!(rehearse(&detour, Pooling::Best, 40, 8), rehearse(&rows, Pooling::Best, 40, 8));
        assert_ne!(rehearse(&rows, Pooling::Best, 40, 8), rehearse(&rows, Pooling::Best, 40, 9));
    }

    #[test]
    fn one_image_under_two_names_makes_no_stranger() {
        let mut rows = gallery(10);
        let copy = rows.values(0).to_vec();
        rows.push(member(99, 99), &copy);
        let rehearsal = rehearse(&rows, Pooling::Best, 1000, 1);
        assert!(rehearsal.nonmated_best.iter().chain(&rehearsal.impostor).all(|s| s.0 < SAME_IMAGE));
    }

    #[test]
    fn one_person_alone_meets_no_stranger() {
        let rehearsal = rehearse(&gallery(1), Pooling::Best, 10, 1);
        assert!(rehearsal.nonmated_best.is_empty() && rehearsal.impostor.is_empty());
        assert_eq!(rehearsal.mated_best.len(), 2);
    }
}

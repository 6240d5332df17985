//! Rehearsal of the open-set decision: the surroundings of an enrolled template, as if it were not enrolled.
//!
//! The measurements of every trial equal those that a search would make in a gallery without the template (mated trials) or
//! without its identity (non-mated trials). Templates of the probe's image take no part.

use std::collections::{BTreeSet, HashMap};

use super::{SeededRandom, each_similarity, rows_by_identity};
use crate::{
    roster::Slot,
    rows::Rows,
    space::{
        centroid_cosine,
        cohort::{Cohort, CohortStatistics, CosineSums, quantiles_of_nearest},
        distinct_images, own_cosines,
    },
};
use domain::{GalleryStatistics, Neighbour, SAME_IMAGE, Spread};

/// Minimum number of made-up mated trials.
const MADE_UP_MIN: usize = 300;
/// Trials that share one pass over the rows.
const TRIALS_AT_ONCE: usize = 16;

/// Surroundings of a probe, and whose templates are near.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) neighbours: Vec<Neighbour>,
    pub(crate) gallery: GalleryStatistics,
}

/// The surroundings of one template, left out in two ways.
#[derive(Debug)]
pub(crate) struct OpenSetTrial {
    /// Without the template; `None` if its identity has no other image.
    pub(crate) mated: Option<Mated>,
    /// Without its identity; `None` if no other identity is enrolled.
    pub(crate) nonmated: Option<Surroundings>,
    /// The non-mated surroundings with a made-up mate, see [`OpenSetRehearsal::each_trial`].
    pub(crate) made_up: Vec<Mated>,
}

/// The surroundings of a probe, and its identity.
#[derive(Debug)]
pub(crate) struct Mated {
    pub(crate) identity: u64,
    pub(crate) surroundings: Surroundings,
}

/// The rows near a probe.
struct NearProbe {
    /// Those of its identity, one per image.
    own: Vec<NearRow>,
    /// The most similar ones of other identities.
    others: Nearest,
    /// The probe itself, and all rows with its image.
    same: Vec<usize>,
}

/// A made-up mate: an identity and its similarity to the probe.
#[derive(Debug, Clone, Copy)]
struct MadeUpMate {
    identity: Slot,
    cosine: f32,
}

/// A row near a probe.
#[derive(Debug, Clone, Copy)]
struct NearRow {
    cosine: f32,
    row: usize,
}

/// Leaves templates out of a snapshot of a space.
pub(crate) struct OpenSetRehearsal<'r> {
    rows: &'r Rows,
    /// All rows of each identity.
    owned: HashMap<Slot, Vec<usize>>,
    /// The rows of each identity, one per image.
    identities: HashMap<Slot, Vec<usize>>,
    /// The identities in the order of their first templates.
    slots: Vec<Slot>,
    /// Rows with the image of an earlier row of the same identity.
    copies: BTreeSet<usize>,
    members: Vec<usize>,
    /// Cosines between all members, row-major.
    cosines: Vec<f32>,
    statistics: Vec<CohortStatistics>,
    others: CosineSums,
    own: CosineSums,
    /// Number of neighbours in a trial.
    most: usize,
}

impl<'r> OpenSetRehearsal<'r> {
    pub(crate) fn new(rows: &'r Rows, most: usize) -> Self {
        let (mut owned, mut identities) = (HashMap::new(), HashMap::new());
        let (mut slots, mut copies) = (Vec::new(), BTreeSet::new());
        for its_rows in rows_by_identity(rows) {
            let owner = rows.owner(its_rows[0]);
            let images = distinct_images(rows, &its_rows);
            copies.extend(its_rows.iter().filter(|row| !images.contains(row)));
            slots.push(owner);
            identities.insert(owner, images);
            owned.insert(owner, its_rows);
        }
        let members = Cohort::of(rows).rows();
        let mut cosines = Vec::with_capacity(members.len() * members.len());
        for one in &members {
            cosines.extend(members.iter().map(|other| rows.measure().of(rows.values(*one), rows.values(*other))));
        }
        let mut rehearsal = Self {
            rows,
            owned,
            identities,
            slots,
            copies,
            members,
            cosines,
            statistics: Vec::new(),
            others: CosineSums::default(),
            own: CosineSums::default(),
            most,
        };
        rehearsal.statistics = (0..rehearsal.members.len()).map(|place| rehearsal.of_member(place, &[])).collect();
        for statistics in &rehearsal.statistics {
            rehearsal.others = rehearsal.others.and(statistics.others);
            rehearsal.own = rehearsal.own.and(statistics.own);
        }
        rehearsal
    }

    /// The trials of some probes, in their order. Takes as long as one scan per probe.
    ///
    /// A mated trial leaves as many templates of the probe's identity as a randomly drawn identity has, if it has so many:
    /// otherwise the trials would contain no identity with a single template.
    ///
    /// With `genuine`, genuine similarities of the encoder, each non-mated trial also gives made-up mated ones, at least
    /// [`MADE_UP_MIN`] in all: a random other identity is as similar to the probe as a random genuine pair.
    pub(crate) fn each_trial(
        &self,
        probes: &[usize],
        genuine: &[f32],
        random: &mut SeededRandom,
        mut take: impl FnMut(OpenSetTrial),
    ) {
        let mut known: HashMap<usize, CohortStatistics> = HashMap::new();
        let repetitions = if genuine.is_empty() { 0 } else { MADE_UP_MIN.div_ceil(probes.len().max(1)) };
        for chunk in probes.chunks(TRIALS_AT_ONCE) {
            for (probe, NearProbe { mut own, others, same }) in chunk.iter().zip(self.near(chunk)) {
                let drawn = self.identities[&self.slots[random.below(self.slots.len())]].len();
                random.shuffle(&mut own);
                let owner = self.rows.owner(*probe);
                let surplus = own.split_off(drawn.min(own.len()));
                let mated = (!own.is_empty()).then(|| {
                    let surplus: Vec<usize> = surplus.iter().map(|near| near.row).collect();
                    let without = same.iter().copied().chain(self.with_copies(owner, &surplus)).collect();
                    let without = LeftOut::new(self, without);
                    let mut nearest = others.clone();
                    for near in &own {
                        nearest.offer(*near);
                    }
                    let surroundings = self.surroundings(*probe, &nearest, &without, &mut known);
                    Mated { identity: owner.0.into(), surroundings }
                });
                let elsewhere = same.iter().copied().filter(|row| self.rows.owner(*row) != owner);
                let without = LeftOut::new(self, self.owned[&owner].iter().copied().chain(elsewhere).collect());
                let nonmated =
                    (!others.rows.is_empty()).then(|| self.surroundings(*probe, &others, &without, &mut known));
                let mut made_up = Vec::new();
                for nonmated in nonmated.iter().flat_map(|one| std::iter::repeat_n(one, repetitions)) {
                    let cosine = genuine[random.below(genuine.len())];
                    let mate = MadeUpMate { identity: self.slots[random.below(self.slots.len())], cosine };
                    made_up.extend(self.made_up(nonmated, mate, &without, &mut known));
                }
                take(OpenSetTrial { mated, nonmated, made_up });
            }
        }
    }

    /// Some rows of an identity, and the copies of their images in it.
    fn with_copies(&self, owner: Slot, some: &[usize]) -> Vec<usize> {
        let is_same = |one: usize, other: usize| {
            one == other || self.rows.measure().of(self.rows.values(one), self.rows.values(other)) >= SAME_IMAGE
        };
        let of_some = |row: &usize| some.iter().any(|other| is_same(*row, *other));
        self.owned[&owner].iter().copied().filter(of_some).collect()
    }

    fn near(&self, probes: &[usize]) -> Vec<NearProbe> {
        let empty = || NearProbe { own: Vec::new(), others: Nearest::new(self.most), same: Vec::new() };
        let mut near: Vec<NearProbe> = probes.iter().map(|_| empty()).collect();
        each_similarity(self.rows, probes, |trial, row, cosine| {
            let NearProbe { own, others, same } = &mut near[trial];
            if row == probes[trial] || cosine >= SAME_IMAGE {
                same.push(row);
            } else if self.copies.contains(&row) {
                // Its image takes part once.
            } else if self.rows.owner(row) == self.rows.owner(probes[trial]) {
                own.push(NearRow { cosine, row });
            } else {
                others.offer(NearRow { cosine, row });
            }
        });
        near
    }

    /// `None` if the drawn identity is left out.
    fn made_up(
        &self,
        nonmated: &Surroundings,
        MadeUpMate { identity, cosine }: MadeUpMate,
        without: &LeftOut,
        known: &mut HashMap<usize, CohortStatistics>,
    ) -> Option<Mated> {
        let row = *without.rows_left(&self.identities[&identity]).first()?;
        let statistics = self.statistics_of(row, without, known);
        let identity = u64::from(identity.0);
        let mut neighbours: Vec<Neighbour> =
            nonmated.neighbours.iter().filter(|one| one.identity != identity).copied().collect();
        let place = neighbours.partition_point(|one| one.cosine >= cosine);
        let neighbour = Neighbour {
            identity,
            identity_templates: 1,
            cosine,
            centroid: cosine,
            nearest_impostor: statistics.nearest,
            own: None,
            others: statistics.others.spread(),
        };
        neighbours.insert(place, neighbour);
        neighbours.truncate(self.most);
        Some(Mated { identity, surroundings: Surroundings { neighbours, gallery: nonmated.gallery } })
    }

    fn surroundings(
        &self,
        probe: usize,
        nearest: &Nearest,
        without: &LeftOut,
        known: &mut HashMap<usize, CohortStatistics>,
    ) -> Surroundings {
        let values = self.rows.values(probe);
        let mut left: HashMap<Slot, Vec<usize>> = HashMap::new();
        let neighbours = nearest
            .rows
            .iter()
            .map(|NearRow { cosine, row }| {
                let (cosine, row) = (*cosine, *row);
                let owner = self.rows.owner(row);
                let its_rows = left.entry(owner).or_insert_with(|| without.rows_left(&self.identities[&owner]));
                let statistics = self.statistics_of(row, without, known);
                Neighbour {
                    identity: owner.0.into(),
                    identity_templates: u32::try_from(its_rows.len()).unwrap_or(u32::MAX),
                    cosine,
                    centroid: centroid_cosine(self.rows, values, its_rows),
                    nearest_impostor: statistics.nearest,
                    own: own_cosines(self.rows, its_rows, row),
                    others: statistics.others.spread(),
                }
            })
            .collect();
        let touched: BTreeSet<Slot> = without.rows.iter().map(|row| self.rows.owner(*row)).collect();
        let gone = touched.iter().filter(|owner| without.rows_left(&self.identities[owner]).is_empty()).count();
        let identities = self.identities.len() - gone;
        Surroundings { neighbours, gallery: self.gallery(probe, without, identities) }
    }

    fn gallery(&self, probe: usize, without: &LeftOut, identities: usize) -> GalleryStatistics {
        let (mut others, mut own) = (self.others, self.own);
        for place in &without.members {
            // Each pair was counted from both sides.
            let CohortStatistics { others: its_others, own: its_own, .. } = self.statistics[*place];
            others = others.minus(its_others).minus(its_others);
            own = own.minus(its_own).minus(its_own);
            for other in &without.members {
                // A pair of two left-out members was subtracted from both sides already.
                let cosine = self.cosine(*place, *other);
                if other != place && cosine < SAME_IMAGE {
                    let is_own = self.owner_of(*other) == self.owner_of(*place);
                    if is_own { own.add(cosine) } else { others.add(cosine) }
                }
            }
        }
        let images = without.rows.iter().filter(|row| !self.copies.contains(row)).count();
        let mut nearest: Vec<f32> = (0..self.members.len())
            .filter(|place| !without.members.contains(place))
            .filter_map(|place| self.member_without(place, without).nearest)
            .collect();
        let mut probe_cosines = CosineSums::default();
        let values = self.rows.values(probe);
        for (place, member) in self.members.iter().enumerate() {
            if !without.members.contains(&place) {
                probe_cosines.add(self.rows.measure().of(values, self.rows.values(*member)));
            }
        }
        GalleryStatistics {
            templates: (self.rows.len() - self.copies.len() - images) as u64,
            identities: identities as u64,
            impostor: others.spread(),
            genuine: own.spread(),
            nearest_impostors: quantiles_of_nearest(&mut nearest),
            probe: probe_cosines.spread().unwrap_or(Spread { mean: 0.0, deviation: 0.0 }),
        }
    }

    /// Statistics of a row against the members that are left.
    fn statistics_of(
        &self,
        row: usize,
        without: &LeftOut,
        known: &mut HashMap<usize, CohortStatistics>,
    ) -> CohortStatistics {
        if let Ok(place) = self.members.binary_search(&row) {
            return self.member_without(place, without);
        }
        let all = *known.entry(row).or_insert_with(|| self.of_row(row, &[]));
        let lost =
            |place: &usize| self.rows.measure().of(self.rows.values(row), self.rows.values(self.members[*place]));
        self.without(all, self.rows.owner(row), without, lost).unwrap_or_else(|| self.of_row(row, &without.members))
    }

    fn member_without(&self, place: usize, without: &LeftOut) -> CohortStatistics {
        let lost = |other: &usize| self.cosine(place, *other);
        self.without(self.statistics[place], self.owner_of(place), without, lost)
            .unwrap_or_else(|| self.of_member(place, &without.members))
    }

    /// Subtracts the left-out members. `None` if the nearest impostor may be among them.
    fn without(
        &self,
        mut statistics: CohortStatistics,
        owner: Slot,
        without: &LeftOut,
        lost: impl Fn(&usize) -> f32,
    ) -> Option<CohortStatistics> {
        for place in &without.members {
            let cosine = lost(place);
            if self.owner_of(*place) == owner || cosine >= SAME_IMAGE {
                continue;
            }
            statistics.others.subtract(cosine);
            if statistics.nearest.is_some_and(|nearest| nearest <= cosine) {
                return None;
            }
        }
        Some(statistics)
    }

    fn of_member(&self, place: usize, without: &[usize]) -> CohortStatistics {
        self.gathered(self.members[place], without, |other| self.cosine(place, other))
    }

    fn of_row(&self, row: usize, without: &[usize]) -> CohortStatistics {
        let values = self.rows.values(row);
        self.gathered(row, without, |other| self.rows.measure().of(values, self.rows.values(self.members[other])))
    }

    fn gathered(&self, row: usize, without: &[usize], cosine: impl Fn(usize) -> f32) -> CohortStatistics {
        let mut statistics = CohortStatistics::default();
        let owner = self.rows.owner(row);
        for (other, member) in self.members.iter().enumerate() {
            if *member != row && !without.contains(&other) {
                statistics.add(cosine(other), self.rows.owner(*member) == owner);
            }
        }
        statistics
    }

    fn cosine(&self, one: usize, other: usize) -> f32 {
        self.cosines[one * self.members.len() + other]
    }

    fn owner_of(&self, place: usize) -> Slot {
        self.rows.owner(self.members[place])
    }
}

/// Rows that a trial leaves out, and their places among the members.
struct LeftOut {
    rows: Vec<usize>,
    members: Vec<usize>,
}

impl LeftOut {
    fn new(rehearsal: &OpenSetRehearsal<'_>, rows: Vec<usize>) -> Self {
        let members = rows.iter().filter_map(|row| rehearsal.members.binary_search(row).ok()).collect();
        Self { rows, members }
    }

    fn rows_left(&self, rows: &[usize]) -> Vec<usize> {
        rows.iter().copied().filter(|row| !self.rows.contains(row)).collect()
    }
}

/// The most similar rows so far, by falling cosine.
#[derive(Debug, Clone)]
struct Nearest {
    rows: Vec<NearRow>,
    most: usize,
}

impl Nearest {
    fn new(most: usize) -> Self {
        Self { rows: Vec::with_capacity(most + 1), most }
    }

    fn offer(&mut self, near: NearRow) {
        if self.rows.len() == self.most && self.rows.last().is_some_and(|last| last.cosine >= near.cosine) {
            return;
        }
        let place = self.rows.partition_point(|one| one.cosine >= near.cosine);
        self.rows.insert(place, near);
        self.rows.truncate(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        rows::{kernel::Packing, measure::Measure},
        space::SpaceIndex,
        testbed::{row_record, unit_rows},
    };
    use domain::{Embedding, EmbeddingSpace, Modality, ModelDigest};

    const DIMENSION: u32 = 8;
    const NEIGHBOURS: usize = 6;

    /// Identities with 1, 2, 3 and 1 templates and so on; the image of row 5 is enrolled twice in its identity, that of row
    /// 9 in two identities.
    fn gallery() -> Rows {
        let mut rows = Rows::new(DIMENSION, Measure::Whole, Packing::Bytes);
        let mut values = unit_rows(40, DIMENSION as usize, 11);
        values[4] = values[5].clone();
        values[30] = values[9].clone();
        let owners = (0_u32..).flat_map(|owner| std::iter::repeat_n(owner, owner as usize % 3 + 1));
        for ((number, values), owner) in (0..).zip(&values).zip(owners) {
            rows.push(row_record(owner, number), values);
        }
        rows
    }

    /// Measurements of a gallery that never had the rows.
    fn measured(rows: &Rows, probe: usize, without: &[usize]) -> Surroundings {
        let mut left = Rows::new(DIMENSION, Measure::Whole, Packing::Bytes);
        for row in (0..rows.len()).filter(|row| !without.contains(row)) {
            left.push(rows.record(row), rows.values(row));
        }
        let owners: BTreeSet<Slot> = (0..left.len()).map(|row| left.owner(row)).collect();
        let space = EmbeddingSpace::whole(Modality::Face, ModelDigest([1; 32]), DIMENSION);
        let probe = Embedding::new(space, rows.values(probe)).expect("a unit vector");
        let owners: Vec<Slot> = owners.into_iter().collect();
        let (neighbours, gallery) = SpaceIndex::of(left).neighbourhood(&probe, &owners, NEIGHBOURS);
        Surroundings { neighbours, gallery }
    }

    fn assert_equal(found: &Surroundings, expected: &Surroundings) {
        let near = |one: Option<f32>, other: Option<f32>| match (one, other) {
            (Some(one), Some(other)) => (one - other).abs() < 1e-4,
            (one, other) => one == other,
        };
        let spread = |one: Option<Spread>, other: Option<Spread>| {
            near(one.map(|s| s.mean), other.map(|s| s.mean))
                && near(one.map(|s| s.deviation), other.map(|s| s.deviation))
        };
        assert_eq!(found.neighbours.len(), expected.neighbours.len());
        for (one, other) in found.neighbours.iter().zip(&expected.neighbours) {
            assert_eq!((one.identity, one.identity_templates), (other.identity, other.identity_templates));
            assert!(near(Some(one.cosine), Some(other.cosine)) && near(Some(one.centroid), Some(other.centroid)));
            assert!(near(one.nearest_impostor, other.nearest_impostor), "{one:?} and {other:?}");
            assert!(near(one.own.map(|own| own.nearest), other.own.map(|own| own.nearest)), "{one:?} and {other:?}");
            assert!(spread(one.others, other.others), "{one:?} and {other:?}");
        }
        let (one, other) = (&found.gallery, &expected.gallery);
        assert_eq!((one.templates, one.identities), (other.templates, other.identities));
        assert!(spread(one.impostor, other.impostor) && spread(one.genuine, other.genuine), "{one:?} and {other:?}");
        assert!(spread(Some(one.probe), Some(other.probe)), "{one:?} and {other:?}");
        for quantile in 0..3 {
            let of = |statistics: &GalleryStatistics| statistics.nearest_impostors.map(|quantiles| quantiles[quantile]);
            assert!(near(of(one), of(other)), "{one:?} and {other:?}");
        }
    }

    #[test]
    fn trials_equal_measurements_of_a_gallery_that_never_had_the_templates() {
        let rows = gallery();
        let rehearsal = OpenSetRehearsal::new(&rows, NEIGHBOURS);
        let (mut mated, mut nonmated) = (0, 0);
        for probe in 0..rows.len() {
            let same = |row: &usize| rows.measure().of(rows.values(probe), rows.values(*row)) >= SAME_IMAGE;
            let copies: Vec<usize> = (0..rows.len()).filter(same).collect();
            let own: Vec<usize> = (0..rows.len()).filter(|row| rows.owner(*row) == rows.owner(probe)).collect();
            rehearsal.each_trial(&[probe], &[], &mut SeededRandom::new(3), |trial| {
                let without: Vec<usize> = own.iter().chain(&copies).copied().collect();
                assert_equal(&trial.nonmated.expect("others are enrolled"), &measured(&rows, probe, &without));
                nonmated += 1;
                if let Some(Mated { identity, surroundings }) = trial.mated {
                    assert_eq!(identity, u64::from(rows.owner(probe).0));
                    let left = surroundings.neighbours.iter().find(|one| one.identity == identity);
                    let distinct = own.iter().filter(|row| !copies.contains(row)).count();
                    // The trial may leave out more templates of the identity; then another test covers it.
                    if left.is_none_or(|one| one.identity_templates as usize == distinct) {
                        let expected = measured(&rows, probe, &copies);
                        if expected.gallery.templates == surroundings.gallery.templates {
                            assert_equal(&surroundings, &expected);
                            mated += 1;
                        }
                    }
                }
            });
        }
        assert!(nonmated == 40 && mated >= 8, "{mated} mated trials were compared");
    }

    #[test]
    fn mated_trials_leave_as_many_templates_as_identities_have() {
        let mut rows = Rows::new(DIMENSION, Measure::Whole, Packing::Bytes);
        // Ten identities with four templates among ninety with one.
        let owners = (0_u32..10).flat_map(|owner| [owner; 4]).chain(10..100);
        for ((number, values), owner) in (0..).zip(&unit_rows(130, DIMENSION as usize, 4)).zip(owners) {
            rows.push(row_record(owner, number), values);
        }
        let probes: Vec<usize> = (0..40).collect();
        let (mut single, mut all) = (0, 0);
        OpenSetRehearsal::new(&rows, 200).each_trial(&probes, &[], &mut SeededRandom::new(5), |trial| {
            let Mated { identity, surroundings } = trial.mated.expect("three others");
            let own = surroundings.neighbours.iter().filter(|one| one.identity == identity).count();
            single += usize::from(own == 1);
            all += 1;
        });
        assert!(all == 40 && (30..40).contains(&single), "{single} of {all}");
    }

    #[test]
    fn a_made_up_mate_is_as_similar_as_a_genuine_pair() {
        let rows = gallery();
        let mut made_up = Vec::new();
        let probes: Vec<usize> = (0..rows.len()).collect();
        OpenSetRehearsal::new(&rows, NEIGHBOURS).each_trial(&probes, &[0.97], &mut SeededRandom::new(5), |trial| {
            made_up.extend(trial.made_up);
        });
        assert!(made_up.len() >= 250, "{}", made_up.len());
        for Mated { identity, surroundings } in made_up {
            let mates: Vec<&Neighbour> =
                surroundings.neighbours.iter().filter(|one| one.identity == identity).collect();
            assert!(mates.len() == 1 && mates[0].cosine.to_bits() == 0.97_f32.to_bits(), "{mates:?}");
            assert!(surroundings.neighbours.is_sorted_by(|one, other| one.cosine >= other.cosine));
        }
    }
}

//! Several spaces that try themselves together: what they say of one person at once, and of strangers.

use std::collections::{BTreeMap, BTreeSet};

use super::{Crowd, Meeting, SplitMix, TRIALS_AT_ONCE, people_of};
use crate::{roster::Slot, rows::Rows};
use domain::{Pooling, Similarity};

/// Trials with probes that have a template of every space, on a snapshot of the gallery.
///
/// An identity that has templates in all spaces stands for a probe with one of each: its first in all, then its second in all,
/// for those were likely taken together. Everybody has a turn before anybody has two.
#[derive(Debug)]
pub struct Together {
    spaces: Vec<Rows>,
    pooling: Pooling,
    trials: Vec<Trial>,
    identities: u64,
}

#[derive(Debug)]
struct Trial {
    owner: Slot,
    /// A row of each space.
    probe: Vec<usize>,
    /// Another identity that was drawn; `None` where there is no other.
    other: Option<Slot>,
}

impl Together {
    /// At most `trials_max` trials. The same templates, count and seed give the same trials.
    pub(crate) fn new(spaces: Vec<Rows>, pooling: Pooling, trials_max: usize, seed: u64) -> Self {
        let mut people: BTreeMap<Slot, Vec<Vec<usize>>> = BTreeMap::new();
        for rows in &spaces {
            for owned in people_of(rows) {
                people.entry(rows.owner(owned[0])).or_default().push(owned);
            }
        }
        let identities = people.len() as u64;
        let mut people: Vec<(Slot, Vec<Vec<usize>>)> =
            people.into_iter().filter(|(_, owned)| owned.len() == spaces.len()).collect();
        // In the order of their first templates: slots are numbered anew where somebody was forgotten.
        people.sort_unstable_by_key(|(_, owned)| spaces.first().map(|rows| rows.template(owned[0][0])));
        let mut random = SplitMix(seed);
        let mut order: Vec<usize> = (0..people.len()).collect();
        random.shuffle(&mut order);
        let turns = |one: usize| people[one].1.iter().map(Vec::len).min().unwrap_or(0);
        let rounds = order.iter().map(|one| turns(*one)).max().unwrap_or(0);
        let in_turn = (0..rounds).flat_map(|turn| order.iter().map(move |one| (*one, turn)));
        let mut trial = |(one, turn): (usize, usize)| {
            let (owner, own) = &people[one];
            let drawn = random.below(people.len());
            let other = if drawn == one { (drawn + 1) % people.len() } else { drawn };
            Trial {
                owner: *owner,
                probe: own.iter().map(|owned| owned[turn]).collect(),
                other: (other != one).then(|| people[other].0),
            }
        };
        let trials = in_turn.filter(|(one, turn)| turns(*one) > *turn).take(trials_max).map(&mut trial).collect();
        Self { spaces, pooling, trials, identities }
    }

    /// How many identities have a template in any of the spaces.
    #[must_use]
    pub fn identities(&self) -> u64 {
        self.identities
    }

    /// Of each probe against its own identity, where that has another template in every space, and against another one: a
    /// similarity for each space.
    #[must_use]
    pub fn pairs(&self) -> (Vec<Vec<Similarity>>, Vec<Vec<Similarity>>) {
        let crowds = self.crowds();
        let against = |trial: &Trial, whom: Slot| -> Option<Vec<Similarity>> {
            let each = crowds.iter().zip(&trial.probe);
            each.map(|(crowd, probe)| crowd.apart(*probe, whom).map(Similarity)).collect()
        };
        let genuine = self.trials.iter().filter_map(|trial| against(trial, trial.owner));
        let impostor = self.trials.iter().filter_map(|trial| against(trial, trial.other?));
        (genuine.collect(), impostor.collect())
    }

    fn crowds(&self) -> Vec<Crowd<'_>> {
        self.spaces.iter().map(|rows| Crowd::new(rows, self.pooling)).collect()
    }

    /// The highest score that each probe has with any other identity, as a stranger would. `score` is given the similarity in each
    /// space, where there is one. Takes as long as so many scans of every space.
    #[must_use]
    pub fn strangers(&self, score: impl Fn(&[Option<Similarity>]) -> f64) -> Vec<f64> {
        let crowds = self.crowds();
        let everybody: BTreeSet<Slot> = crowds.iter().flat_map(Crowd::slots).collect();
        let mut best = Vec::with_capacity(self.trials.len());
        for trials in self.trials.chunks(TRIALS_AT_ONCE) {
            let probes_in = |of: usize| trials.iter().map(|trial| trial.probe[of]).collect::<Vec<usize>>();
            let meetings: Vec<Meeting<'_>> =
                crowds.iter().enumerate().map(|(of, crowd)| crowd.meet(&probes_in(of))).collect();
            for (at, trial) in trials.iter().enumerate() {
                let scored = everybody.iter().filter(|slot| **slot != trial.owner).filter_map(|slot| {
                    let each: Vec<Option<Similarity>> =
                        meetings.iter().map(|meeting| meeting.similarity(at, *slot).map(Similarity)).collect();
                    each.iter().any(Option::is_some).then(|| score(&each))
                });
                best.extend(scored.max_by(f64::total_cmp));
            }
        }
        best
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

    /// Twenty people with two faces each, one more with one, and the first ten of them with three bodies each.
    fn spaces() -> Vec<Rows> {
        let new = || Rows::new(32, Measure::Whole, Packing::Bytes);
        let (mut faces, mut bodies) = (new(), new());
        for (number, values) in (0..).zip(unit_rows(41, 32, 5)) {
            faces.push(member(number / 2, number), &values);
        }
        for (number, values) in (0..).zip(unit_rows(30, 32, 6)) {
            bodies.push(member(number / 3, 100 + number), &values);
        }
        vec![faces, bodies]
    }

    #[test]
    fn spaces_are_tried_together_on_who_is_in_all_of_them() {
        let together = Together::new(spaces(), Pooling::Best, 1000, 3);
        let (genuine, impostor) = together.pairs();
        assert_eq!(
            (genuine.len(), impostor.len(), together.identities()),
            (20, 20, 21),
            "ten people are in both, twice"
        );
        let spaces = spaces();
        for trial in &genuine {
            let face = |person: usize| similarity_of(spaces[0].values(person * 2), spaces[0].values(person * 2 + 1));
            let person =
                (0..10).find(|person| (face(*person) - trial[0].0).abs() < 1e-6).expect("a person's two faces");
            let body = |turn: usize| {
                let own = |row: usize| spaces[1].values(person * 3 + row);
                let others = (0..3).filter(|row| *row != turn);
                others.map(|row| similarity_of(own(turn), own(row))).fold(-2.0, f32::max)
            };
            assert!([body(0), body(1)].iter().any(|body| (body - trial[1].0).abs() < 1e-6), "of the same person");
        }
        assert_eq!(Together::new(spaces, Pooling::Best, 4, 3).pairs().1.len(), 4);
    }

    #[test]
    fn strangers_score_what_a_look_at_everybody_else_gives() {
        let together = Together::new(spaces(), Pooling::Best, 1000, 3);
        let score = |each: &[Option<Similarity>]| each.iter().flatten().map(|s| f64::from(s.0)).sum::<f64>();
        let found = together.strangers(score);
        assert_eq!(found.len(), 20);
        for (trial, found) in together.trials.iter().zip(found) {
            let similarity = |of: usize, person: u32| {
                let rows = &together.spaces[of];
                let its = (0..rows.len()).filter(|row| rows.owner(*row) == Slot(person));
                its.map(|row| similarity_of(rows.values(trial.probe[of]), rows.values(row))).max_by(f32::total_cmp)
            };
            let others = (0..21).filter(|person| Slot(*person) != trial.owner);
            let best = others.map(|person| score(&[0, 1].map(|of| similarity(of, person).map(Similarity))));
            let best = best.fold(f64::MIN, f64::max);
            assert!((found - best).abs() < 1e-5, "{found} instead of {best}");
        }
    }
}

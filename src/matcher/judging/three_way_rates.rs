//! Shares of all answers of resolve for strangers and mates, on real people: the decision that a collection makes by default.
//!
//! Some people are enrolled with their first pictures, and their last picture is the mated probe; people who are not
//! enrolled give one non-mated probe each. Genuine similarities come from people of the other half, as from a package
//! that was measured elsewhere; or there are none, as for embeddings of the user's own encoder. Shares are means over random galleries; intervals are bootstrapped by person.

use std::collections::BTreeMap;

use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
use uuid::Uuid;

use super::realised_error_rates::{People, PersonOn, below, log, people, shuffled};
use crate::matcher::judging::calibrations_in_force::{SEED, log_odds};
use decision::{
    Calibration, PosteriorCalibration, Thresholds, decide, genuine_similarities, relations::NEIGHBOURS_MAX,
};
use domain::{
    CollectionUid, DecisionKind, Embedding, IdentityId, Modality, OpenSetRule, OperatingPoint, PackageCalibration,
    Policy, Pooling, Timestamp,
};
use gallery::{CollectionIndex, Gallery, GalleryOptions, Query, RehearsalLimits, Searched};

/// Random galleries in each half, without `SEMBLANCE_TEST_DRAWS`; `make promises` asks for six.
const DRAWS: usize = 1;
const STRANGERS_MAX: usize = 600;
const RESAMPLES: usize = 1000;
/// Genuine pairs of more pictures than this would be those of a few people.
const PAIRED_PICTURES_MAX: usize = 10;

/// The answers to the probes of one person.
#[derive(Debug, Clone, Copy, Default)]
struct Answers {
    count: f64,
    right: f64,
    wrong: f64,
    new: f64,
}

impl Answers {
    fn add(&mut self, kind: DecisionKind, is_right: bool) {
        self.count += 1.0;
        match kind {
            DecisionKind::Known if is_right => self.right += 1.0,
            DecisionKind::Known => self.wrong += 1.0,
            DecisionKind::New => self.new += 1.0,
            DecisionKind::Uncertain | DecisionKind::Rejected => {}
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            right: self.right + other.right,
            wrong: self.wrong + other.wrong,
            new: self.new + other.new,
        }
    }
}

/// Answers by kind of probe and person.
#[derive(Debug, Default)]
struct Table {
    strangers: BTreeMap<usize, Answers>,
    mates: BTreeMap<usize, Answers>,
}

fn shares(answers: &Answers) -> [f64; 4] {
    let Answers { count, right, wrong, new } = *answers;
    [right / count, wrong / count, new / count, (count - right - wrong - new) / count]
}

/// Shares of KNOWN right, KNOWN wrong, NEW and UNCERTAIN, with 95 % intervals.
fn resampled(by_person: &BTreeMap<usize, Answers>, random: &mut Xoshiro256PlusPlus) -> [(f64, f64, f64); 4] {
    let all: Vec<Answers> = by_person.values().copied().collect();
    let found = shares(&all.iter().copied().fold(Answers::default(), Answers::and));
    let draw = |random: &mut Xoshiro256PlusPlus| {
        let drawn = (0..all.len()).map(|_| all[below(all.len(), random)]).fold(Answers::default(), Answers::and);
        shares(&drawn)
    };
    let draws: Vec<[f64; 4]> = (0..RESAMPLES).map(|_| draw(random)).collect();
    [0, 1, 2, 3].map(|of| {
        let mut values: Vec<f64> = draws.iter().map(|draw| draw[of]).collect();
        values.sort_by(f64::total_cmp);
        (found[of], values[RESAMPLES / 40], values[RESAMPLES - 1 - RESAMPLES / 40])
    })
}

/// A gallery of at most so many identities, with at most so many templates each.
#[derive(Debug, Clone, Copy)]
struct Size {
    identities: usize,
    templates: usize,
    /// Whether a package tells genuine similarities.
    has_package: bool,
}

/// The people of one half, and the calibration of a package that was measured on the other.
struct HalfOfPeople<'p> {
    people: Vec<(usize, &'p Vec<Embedding>)>,
    package: PackageCalibration,
}

fn half(people: &People, half: usize) -> HalfOfPeople<'_> {
    let cosine = |one: &Embedding, other: &Embedding| -> f32 {
        one.values().iter().zip(other.values()).map(|(one, other)| one * other).sum()
    };
    let (mut genuine, mut impostor) = (Vec::new(), Vec::new());
    let mut firsts: Vec<&Embedding> = Vec::new();
    for pictures in people.iter().skip(1 - half).step_by(2) {
        impostor.extend(firsts.iter().map(|other| cosine(&pictures[0], other)));
        firsts.push(&pictures[0]);
        let pictures = &pictures[..pictures.len().min(PAIRED_PICTURES_MAX)];
        for (place, one) in pictures.iter().enumerate() {
            genuine.extend(pictures[..place].iter().map(|other| cosine(one, other)));
        }
    }
    let package = PackageCalibration::measured("the other half", genuine, impostor).expect("thousands of pairs");
    HalfOfPeople { people: people.iter().enumerate().skip(half).step_by(2).collect(), package }
}

fn answer(index: &CollectionIndex, thresholds: &Thresholds, probe: &Embedding) -> (DecisionKind, IdentityId) {
    let query = Query {
        limit: NEIGHBOURS_MAX,
        filter: None,
        now: Timestamp::UNIX_EPOCH,
        pooling: Pooling::Best,
        similarity_min: None,
        searched: Searched::Enrolled,
    };
    let candidates = index.search(probe, &query);
    let identities: Vec<IdentityId> = candidates.iter().map(|candidate| candidate.identity.clone()).collect();
    let (neighbours, surroundings) =
        index.neighbourhood(probe, &identities, NEIGHBOURS_MAX).expect("somebody is enrolled");
    let posterior = 1.0 / (1.0 + (-log_odds(&neighbours, &surroundings)).exp());
    let decision = decide(thresholds, OpenSetRule::Posterior, &candidates, Some(posterior));
    (decision.kind, identities[0].clone())
}

/// Enrolls a gallery, and asks about all other people and the last pictures of those enrolled.
fn try_out(half: &HalfOfPeople<'_>, size: Size, table: &mut Table, random: &mut Xoshiro256PlusPlus) {
    let Size { identities, templates, has_package } = size;
    let several: Vec<usize> = (0..half.people.len()).filter(|at| half.people[*at].1.len() >= 2).collect();
    let order = shuffled(several.len(), random);
    // A third of the people with several pictures stays out, in sets that are too small.
    let enrolled: Vec<usize> = order[..identities.min(several.len() * 2 / 3)].iter().map(|at| several[*at]).collect();
    let pictures: Vec<Vec<Embedding>> = enrolled
        .iter()
        .map(|at| half.people[*at].1)
        .map(|pictures| pictures[..(pictures.len() - 1).min(templates)].to_vec())
        .collect();
    let index = Gallery::new(GalleryOptions::default()).open(CollectionUid(Uuid::nil()));
    index.apply(&log(&pictures)).expect("a log without gaps");
    let space = pictures[0][0].space();
    let limits = RehearsalLimits { trials_max: 2000, neighbours_max: NEIGHBOURS_MAX, seed: SEED };
    let package = has_package.then_some(&half.package);
    let (policy, identities) = (Policy::default(), index.identities_in(space));
    let chances = index.templates_in(space);
    let of_package = package.and_then(Calibration::from_package).map(|package| {
        let thresholds = package.thresholds(policy, chances);
        Thresholds { point: OperatingPoint { gallery_identities: identities, ..thresholds.point }, ..thresholds }
    });
    let thresholds = of_package.filter(Thresholds::are_of_package).unwrap_or_else(|| {
        let genuine = package.map_or_else(Vec::new, genuine_similarities);
        let trials = index.rehearse_open_set(space, limits, &genuine, &log_odds);
        let posterior = PosteriorCalibration::from_trials(&trials).thresholds(&policy, false);
        Thresholds::uncalibrated(policy, identities).by_posterior(posterior)
    });
    for (number, at) in enrolled.iter().enumerate() {
        let (person, pictures) = half.people[*at];
        let (kind, found) = answer(&index, &thresholds, pictures.last().expect("two pictures"));
        let is_right = found.as_str() == format!("p{number}");
        table.mates.entry(person).or_default().add(kind, is_right);
    }
    let order = shuffled(half.people.len(), random);
    for at in order.iter().filter(|at| !enrolled.contains(at)).take(STRANGERS_MAX) {
        let (person, pictures) = half.people[*at];
        let (kind, _) = answer(&index, &thresholds, &pictures[below(pictures.len(), random)]);
        table.strangers.entry(person).or_default().add(kind, false);
    }
}

#[test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
#[expect(clippy::print_stderr, reason = "the shares are what the test is for")]
fn most_strangers_are_new_and_most_mates_known_on_real_data() {
    let sets: [(&str, PersonOn); 2] =
        [("lfw_mobilefacenet", testing::lfw_person), ("market_osnet", testing::market_person)];
    let draws = testing::number("SEMBLANCE_TEST_DRAWS", DRAWS);
    for (set, person) in sets {
        let people = people(set, person, Modality::Face, usize::MAX);
        let sizes = [(2, 1), (10, 1), (50, 1), (100, 1), (300, 1), (2, 4), (10, 4), (50, 4), (100, 4), (300, 4)];
        let packaged = sizes.map(|(identities, templates)| Size { identities, templates, has_package: true });
        let own = [2, 10, 50, 100, 300].map(|identities| Size { identities, templates: 1, has_package: false });
        // Shares of new strangers and of mates that are known, of galleries with one template per identity.
        let mut single: BTreeMap<usize, [(f64, f64, f64); 2]> = BTreeMap::new();
        for size in packaged.into_iter().chain(own) {
            let Size { identities, templates, has_package } = size;
            let mut table = Table::default();
            let mut random = Xoshiro256PlusPlus::seed_from_u64(17);
            for of in [0, 1] {
                let half = half(&people, of);
                for _ in 0..draws {
                    try_out(&half, size, &mut table, &mut random);
                }
            }
            let strangers = resampled(&table.strangers, &mut random);
            let mates = resampled(&table.mates, &mut random);
            let percent = |(value, low, high): (f64, f64, f64)| {
                format!("{:.1} ({:.1}-{:.1})", value * 100.0, low * 100.0, high * 100.0)
            };
            let [(_, known, new, unsure), mate] = [&strangers, &mates].map(|of| (of[0], of[1], of[2], of[3]));
            eprintln!(
                "| {set} | {identities} x {templates}{} | {} | {} | {} | {} | {} | {} | {} |",
                if has_package { "" } else { ", no package" },
                percent(known),
                percent(new),
                percent(unsure),
                percent(mate.0),
                percent(mate.1),
                percent(mate.2),
                percent(mate.3),
            );
            if identities < 50 {
                // The rates of so few galleries of so few people are chance.
                continue;
            }
            assert!(known.1 <= 0.013, "{size:?}: FPIR of {known:?} at a promise of .01");
            assert!(mate.2.1 <= 0.08, "{size:?}: duplicates of {:?} at a promise of .05", mate.2);
            let new_min = if has_package { 0.45 } else { 0.35 };
            assert!(new.2 >= new_min, "{size:?}: {new:?} of strangers are new");
            let shares = [new, mate.0];
            if templates == 1 && has_package {
                single.insert(identities, shares);
            } else if has_package {
                for (several, one) in shares.iter().zip(&single[&identities]) {
                    assert!(
                        several.2 >= one.1,
                        "{size:?}: more templates make the answer vaguer, {several:?} after {one:?}"
                    );
                }
            }
            if set == "lfw_mobilefacenet" && (identities, templates) == (300, 4) {
                // The goals, beyond chance.
                assert!(known.1 <= 0.015 && new.2 >= 0.7, "{known:?} {new:?}");
                assert!(mate.0.2 >= 0.8 && mate.1.1 <= 0.005 && mate.2.1 <= 0.07, "{mate:?}");
            }
        }
    }
}

//! Whether promises hold: real people enrolled, other real people for strangers, through the gallery's own rehearsal.
//!
//! Half of the people with several pictures are enrolled, the other half and all with a single picture are strangers: nobody is
//! both. What a promise comes to is averaged over several halvings, and its interval resampled by person, because
//! pictures of one person and thresholds of one gallery are not independent.

use std::collections::BTreeMap;

use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{RngCore, SeedableRng},
};
use uuid::Uuid;

use crate::{
    decision::Calibration,
    domain::{
        CollectionUid, Embedding, EmbeddingSpace, Entry, EntryKind, Identity, IdentityId, Labels, Modality,
        ModelDigest, Policy, Pooling, Position, Reason, Revision, SpaceName, StoredTemplate, Template, TemplateId,
        TemplateOrigin, Timestamp,
    },
    gallery::{Gallery, GalleryOptions, Query, Shelf},
    testdata,
};

const HALVINGS: usize = 8;
const RESAMPLES: usize = 1000;
/// A few people have hundreds of pictures and would be the gallery.
const PICTURES_MAX: usize = 5;
const TARGETS: [f64; 3] = [0.05, 0.01, 0.001];
/// What a promise may be exceeded by, unless chance can explain it.
const EXCESS_MAX: f64 = 1.3;

/// Who is on an image of that name.
type PersonOn = fn(&str) -> &str;

/// The pictures of each person.
type People = Vec<Vec<Embedding>>;

fn people(set: &str, person: PersonOn) -> Option<People> {
    let mut people: BTreeMap<String, Vec<Embedding>> = BTreeMap::new();
    for (image, values) in testdata::embeddings(set)? {
        let pictures = people.entry(person(&image).to_owned()).or_default();
        if pictures.len() < PICTURES_MAX {
            pictures.push(Embedding::new(space(values.len()), &values).expect("the set holds embeddings"));
        }
    }
    Some(people.into_values().collect())
}

fn space(dimension: usize) -> EmbeddingSpace {
    EmbeddingSpace::whole(Modality::Face, ModelDigest([7; 32]), u32::try_from(dimension).expect("short"))
}

/// The log of a collection in which these were enrolled one after the other.
fn log(people: &[&Vec<Embedding>]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for (number, pictures) in people.iter().enumerate() {
        let id = IdentityId::new(&format!("p{number}")).expect("valid");
        let next = |entries: &[Entry]| Position(entries.len() as u64 + 1);
        let entry = |position, kind, template| Entry {
            position,
            kind,
            identity: id.clone(),
            template,
            time: Timestamp::UNIX_EPOCH,
            admitted: None,
            labelled: None,
        };
        let identity = Identity {
            id: id.clone(),
            labels: Labels::default(),
            expire_time: None,
            revision: Revision::FIRST,
            create_time: Timestamp::UNIX_EPOCH,
            update_time: Timestamp::UNIX_EPOCH,
        };
        entries.push(Entry { labelled: Some(identity), ..entry(next(&entries), EntryKind::Label, None) });
        for embedding in *pictures {
            let position = next(&entries);
            let template = Template {
                id: TemplateId(Uuid::from_u128(position.0.into())),
                identity: id.clone(),
                space: embedding.space(),
                model: SpaceName::new("real").expect("valid"),
                origin: TemplateOrigin::Embedding,
                quality: None,
                track: None,
                position,
                create_time: Timestamp::UNIX_EPOCH,
            };
            let admitted = Some(StoredTemplate { template, embedding: embedding.clone() });
            entries.push(Entry { admitted, ..entry(position, EntryKind::Admit, Some(TemplateId(Uuid::nil()))) });
        }
    }
    entries
}

fn shuffled(count: usize, random: &mut Xoshiro256PlusPlus) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        order.swap(last, below(last + 1, random));
    }
    order
}

fn below(bound: usize, random: &mut Xoshiro256PlusPlus) -> usize {
    usize::try_from(random.next_u64() % bound as u64).expect("below the bound, which is one")
}

/// For each person how often he was a stranger, and how often he came back as somebody at each target.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    strange: f64,
    taken: [f64; TARGETS.len()],
}

fn halve(people: &People, seen: &mut [Seen], random: &mut Xoshiro256PlusPlus) -> [bool; TARGETS.len()] {
    let several: Vec<usize> = (0..people.len()).filter(|person| people[*person].len() >= 2).collect();
    let order = shuffled(several.len(), random);
    let enrolled: Vec<usize> = order[..order.len() / 2].iter().map(|at| several[*at]).collect();
    let pictures: Vec<&Vec<Embedding>> = enrolled.iter().map(|person| &people[*person]).collect();
    let shelf = Gallery::new(GalleryOptions::default()).open(CollectionUid(Uuid::nil()));
    shelf.apply(&log(&pictures)).expect("a log without gaps");
    let space = people[0][0].space();
    let rehearsal = shelf.rehearse(space, Pooling::Best, 2000, super::calibrate::SEED);
    let calibration = Calibration::from_rehearsal(&rehearsal, None).expect("hundreds of trials");
    let terms = TARGETS
        .map(|target_fpir| calibration.terms(Policy { target_fpir, ..Policy::default() }, shelf.identities_in(space)));
    for (person, pictures) in people.iter().enumerate().filter(|(person, _)| !enrolled.contains(person)) {
        let nearest = nearest(&shelf, &pictures[below(pictures.len(), random)]);
        seen[person].strange += 1.0;
        for (taken, terms) in seen[person].taken.iter_mut().zip(&terms) {
            *taken += f64::from(u8::from(Some(nearest) >= terms.point.threshold_known.map(|t| t.0)));
        }
    }
    terms.map(|terms| terms.resolve_reasons.contains(&Reason::Extrapolated))
}

fn nearest(shelf: &Shelf, probe: &Embedding) -> f32 {
    let now = Timestamp::UNIX_EPOCH;
    let query = Query { limit: 1, filter: None, now, pooling: Pooling::Best, similarity_min: None };
    shelf.search(probe, &query)[0].similarity.0
}

fn realised(seen: impl Iterator<Item = Seen>, target: usize) -> f64 {
    let (strange, taken) =
        seen.fold((0.0, 0.0), |(strange, taken), one| (strange + one.strange, taken + one.taken[target]));
    taken / strange
}

#[test]
#[expect(clippy::print_stderr, reason = "the realised rates are what the test is for")]
fn promises_hold_for_people_whom_nobody_enrolled() {
    let sets: [(&str, PersonOn); 2] =
        [("lfw_mobilefacenet", testdata::lfw_person), ("market_osnet", testdata::market_person)];
    for (set, person) in sets {
        let Some(people) = people(set, person) else {
            return;
        };
        let mut random = Xoshiro256PlusPlus::seed_from_u64(11);
        let mut seen = vec![Seen::default(); people.len()];
        let mut extrapolated = [false; TARGETS.len()];
        for _ in 0..HALVINGS {
            extrapolated = halve(&people, &mut seen, &mut random);
        }
        for (target, promised) in TARGETS.into_iter().enumerate() {
            let rate = realised(seen.iter().copied(), target);
            let mut resampled: Vec<f64> = (0..RESAMPLES)
                .map(|_| realised((0..seen.len()).map(|_| seen[below(seen.len(), &mut random)]), target))
                .collect();
            resampled.sort_by(f64::total_cmp);
            let (low, high) = (resampled[RESAMPLES / 40], resampled[RESAMPLES - 1 - RESAMPLES / 40]);
            eprintln!(
                "{set}: FPIR promised {:.1} %, realised {:.2} % ({:.2} to {:.2} %), {:.2} of the promise{}",
                promised * 100.0,
                rate * 100.0,
                low * 100.0,
                high * 100.0,
                rate / promised,
                if extrapolated[target] { ", extrapolated" } else { "" }
            );
            if promised >= 0.01 {
                assert!(!extrapolated[target], "{set}: the trials show {promised}");
                assert!(low <= EXCESS_MAX * promised, "{set}: {low} is far beyond {promised}");
                assert!(
                    high >= promised / 2.0,
                    "{set}: {high} is so strict that it is another promise than {promised}"
                );
            } else {
                assert!(extrapolated[target], "{set}: so few trials cannot show {promised}");
            }
        }
    }
}

//! The learnt decision over the wire, in a gallery far too small for thresholds: two templates of each of a dozen people
//! who are as far apart as an encoder of 64 numbers leaves them.

use decision::relations::{MeasuredGallery, NEIGHBOURS_MAX, Relations};
use domain::{
    CollectionUid, Embedding, EmbeddingSpace, IdentityId, Modality, ModelDigest, Pooling, Position, Timestamp,
};
use gallery::{Gallery, GalleryOptions, Query, Searched};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Database, Home, Server, Start};

const DIMENSION: usize = 64;
const PEOPLE: usize = 12;

/// Numbers that look normally distributed: sums of twelve uniform ones, from Knuth's 64-bit congruence.
struct Normal(u64);

impl Normal {
    fn next(&mut self) -> f32 {
        let mut uniform = || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 40) as f32 / 16_777_216.0
        };
        (0..12).map(|_| uniform()).sum::<f32>() - 6.0
    }
}

fn person(random: &mut Normal) -> Vec<f32> {
    (0..DIMENSION).map(|_| random.next()).collect()
}

/// A sample of somebody: as far from another of the same as an angle with a cosine of about .8.
fn sample(centre: &[f32], random: &mut Normal) -> Value {
    let values: Vec<f32> = centre.iter().map(|value| value + 0.5 * random.next()).collect();
    json!([{"modality": "face", "embedding": {"model": "mine", "values": values}}])
}

#[tokio::test]
async fn a_dozen_people_are_told_from_strangers_without_any_calibration() {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start::default());
    let staff = json!({
        "spaces": [{"model": "mine", "modality": "face", "dimension": DIMENSION, "external": true}],
        "policy": {"openSet": "posterior", "targetFpir": 0.05},
    });
    server.expect(Method::POST, "/v1/collections?collectionId=staff", Some(staff)).await;
    let mut random = Normal(7);
    let centres: Vec<Vec<f32>> = (0..PEOPLE).map(|_| person(&mut random)).collect();
    for (number, centre) in centres.iter().enumerate() {
        for _ in 0..2 {
            let path = format!("/v1/collections/staff/identities/p{number}:enroll");
            server.expect(Method::POST, &path, Some(json!({"samples": sample(centre, &mut random)}))).await;
        }
    }
    let ask = async |samples: Value| {
        let body = json!({"samples": samples, "mode": "dry_run"});
        server.expect(Method::POST, "/v1/collections/staff/identities:resolve", Some(body)).await
    };
    let (mut known, mut lowest, mut highest) = (0, 1.0_f64, 0.0_f64);
    for (number, centre) in centres.iter().enumerate() {
        let answer = ask(sample(centre, &mut random)).await;
        if answer["decision"] == "known" {
            assert_eq!(answer["identity"], format!("collections/staff/identities/p{number}"));
            known += 1;
        }
        assert_eq!(answer["reasons"][0], "learnt_decision");
        lowest = lowest.min(answer["posterior"].as_f64().expect("somebody is enrolled"));
    }
    for _ in 0..PEOPLE {
        let stranger = person(&mut random);
        let answer = ask(sample(&stranger, &mut random)).await;
        assert_ne!(answer["decision"], "known", "{answer}");
        highest = highest.max(answer["posterior"].as_f64().expect("somebody is enrolled"));
        let path = format!("/v1/collections/staff/decisions/{}:replay", answer["decisionId"].as_str().expect("an id"));
        assert_eq!(server.expect(Method::POST, &path, Some(json!({}))).await["same"], true);
    }
    assert!(lowest > highest, "acquaintances from {lowest} on, strangers up to {highest}");
    assert!(known >= PEOPLE - 2, "{known} of {PEOPLE} were known");
}

/// What was learnt from worlds that [`MeasuredGallery`] measured must be asked with what the gallery measures.
#[test]
fn the_gallery_tells_what_the_learnt_decision_was_taught_with() {
    let mut random = Normal(11);
    let (mut values, mut owners, mut stored) = (Vec::new(), Vec::new(), Vec::new());
    let space = EmbeddingSpace::whole(Modality::Face, ModelDigest([1; 32]), 64);
    let unit = |numbers: Vec<f32>| Embedding::new(space, &numbers).expect("a direction");
    for owner in 0..90_u32 {
        let centre = person(&mut random);
        for _ in 0..=owner % 4 {
            let embedding = unit(centre.iter().map(|value| value + 0.6 * random.next()).collect());
            values.extend_from_slice(embedding.values());
            owners.push(owner);
            let position = Position(owners.len() as u64);
            stored.push(testing::stored_template(position.0.into(), name(owner).as_str(), embedding, position));
        }
    }
    let gallery = Gallery::new(GalleryOptions::default());
    let index = gallery.open(CollectionUid(Uuid::nil()));
    let mut restore = index.restore(Position(owners.len() as u64), 0);
    let identity = |owner| testing::identity(name(owner).as_str());
    restore.identities(&(0..90).map(identity).collect::<Vec<_>>());
    restore.templates(stored);
    restore.finish();
    let measured = MeasuredGallery::new(values.clone(), &owners);
    for number in 0..20 {
        // Near somebody, and near nobody.
        let near = &values[number * 5 * 64..][..64];
        let weight = if number % 2 == 0 { 1.0 } else { 0.0 };
        let probe = unit(near.iter().map(|value| weight * value + 0.1 * random.next()).collect());
        let query = Query {
            limit: NEIGHBOURS_MAX,
            filter: None,
            now: Timestamp::UNIX_EPOCH,
            pooling: Pooling::Best,
            similarity_min: None,
            searched: Searched::Enrolled,
        };
        let nearest: Vec<IdentityId> = index.search(&probe, &query).into_iter().map(|c| c.identity).collect();
        let (neighbours, surroundings) =
            index.neighbourhood(&probe, &nearest, NEIGHBOURS_MAX).expect("somebody is there");
        let served = Relations::new(&neighbours, &surroundings);
        let taught = measured.measure(probe.values()).expect("somebody is there").relations;
        let close = |one: &[f32], other: &[f32]| one.iter().zip(other).all(|(a, b)| (a - b).abs() < 0.01);
        assert!(close(served.globals(), taught.globals()), "{:?}\n{:?}", served.globals(), taught.globals());
        assert_eq!(served.items().len(), taught.items().len());
        for (served, taught) in served.items().iter().zip(taught.items()) {
            assert!(close(served, taught), "{served:?}\n{taught:?}");
        }
    }
}

fn name(owner: u32) -> IdentityId {
    IdentityId::new(&format!("p{owner}")).expect("valid")
}

use super::*;
use crate::relations::{GalleryStatistics, MeasuredGallery, Neighbour, ProbeMeasurement, Spread};
use weights::StateDict;

const WEIGHTS: &[u8] = include_bytes!("../../../models/open-set-decider/weights.safetensors");
const MANIFEST: &str = include_str!("../../../models/open-set-decider/model.toml");
const MODELS: [OpenSetModel; 3] = [OpenSetModel::SetTransformer, OpenSetModel::Perceptron, OpenSetModel::Logistic];

/// A fixed sequence of numbers between -1 and 1.
fn numbers(seed: u32) -> impl FnMut() -> f32 {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    }
}

fn unit(mut of: impl FnMut() -> f32) -> Vec<f32> {
    let numbers: Vec<f32> = (0..16).map(|_| of()).collect();
    let length = numbers.iter().map(|n| n * n).sum::<f32>().sqrt();
    numbers.iter().map(|n| n / length).collect()
}

/// Relations in galleries of `people` identities with one to three templates each.
fn relations_in_galleries(people: u32) -> Vec<Relations> {
    let (mut templates, mut owners, mut draw) = (Vec::new(), Vec::new(), numbers(people));
    for person in 0..people {
        let direction = unit(&mut draw);
        for _ in 0..=person % 3 {
            let mut at = 0;
            templates.extend(unit(|| {
                at += 1;
                direction[at - 1] + 0.2 * draw()
            }));
            owners.push(person);
        }
    }
    let gallery = MeasuredGallery::new(templates, &owners);
    (0..8)
        .filter_map(|_| gallery.measure(&unit(&mut draw)))
        .map(|ProbeMeasurement { relations, .. }| relations)
        .collect()
}

fn empty_relations() -> Relations {
    let surroundings = GalleryStatistics {
        templates: 0,
        identities: 0,
        impostor: None,
        genuine: None,
        nearest_impostors: None,
        probe: Spread { mean: 0.0, deviation: 0.0 },
    };
    Relations::new(&[], &surroundings)
}

#[test]
fn the_probability_in_an_empty_gallery_is_zero() {
    for model in MODELS {
        assert_eq!(Decider::shipped().probability_by(model, &empty_relations(), Prior::EVEN).to_bits(), 0);
    }
}

#[test]
fn one_template_and_duplicates_are_enough_for_an_answer() {
    let row = [0.6, 0.8];
    for (copies, owners) in [(1, vec![1]), (4, vec![1; 4]), (4, vec![1, 2, 3, 4]), (40, vec![1; 40])] {
        let gallery = MeasuredGallery::new(row.repeat(copies), &owners);
        for probe in [[0.6, 0.8], [1.0, 0.0], [-0.6, -0.8]] {
            let relations = gallery.measure(&probe).expect("the gallery is not empty").relations;
            for model in MODELS {
                let probability = Decider::shipped().probability_by(model, &relations, Prior::EVEN);
                assert!(probability > 0.0 && probability < 1.0, "{model:?} {owners:?}: {probability}");
            }
        }
    }
}

#[test]
fn the_order_of_neighbours_does_not_matter() {
    let spread = Spread { mean: 0.1, deviation: 0.1 };
    let neighbour = |number: u64| Neighbour {
        identity: number % 3,
        identity_templates: 2,
        // Three neighbours share each cosine.
        cosine: 0.5 - 0.1 * (number / 3) as f32,
        centroid: 0.4 + 0.01 * (number % 3) as f32,
        nearest_impostor: Some(0.3 - 0.02 * number as f32),
        own: None,
        others: Some(spread),
    };
    let surroundings = GalleryStatistics {
        templates: 9,
        identities: 3,
        impostor: Some(spread),
        genuine: None,
        nearest_impostors: Some([0.2, 0.3, 0.4]),
        probe: spread,
    };
    let mut neighbours: Vec<Neighbour> = (0..9).map(neighbour).collect();
    let probability = Decider::shipped().probability(&Relations::new(&neighbours, &surroundings));
    for _ in 0..9 {
        neighbours.rotate_left(1);
        neighbours.swap(0, 5);
        let repeated = Decider::shipped().probability(&Relations::new(&neighbours, &surroundings));
        assert_eq!(repeated.to_bits(), probability.to_bits());
    }
    // Attention itself does not depend on the order of items, except for rounding.
    let mut turned = Relations::new(&neighbours, &surroundings);
    turned.items.reverse();
    assert!((Decider::shipped().probability(&turned) - probability).abs() < 1e-5);
}

#[test]
fn a_prior_adds_its_log_odds() {
    let relations = &relations_in_galleries(12)[0];
    let odds = |prior: f64| {
        let probability = Decider::shipped().probability_by(
            OpenSetModel::SetTransformer,
            relations,
            Prior::new(prior).expect("a share"),
        );
        (probability / (1.0 - probability)).ln()
    };
    assert!((odds(0.1) - odds(0.5) - (0.1_f64 / 0.9).ln()).abs() < 1e-6);
    assert!([0.0, 1.0, -0.5, f64::NAN].into_iter().all(|share| Prior::new(share).is_none()));
}

#[test]
fn invalid_packages_are_refused_by_name() {
    let refused = |manifest: &str, weights: &[u8]| match Decider::from_package(manifest, weights) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("is no package"),
    };
    let changed = |change: &dyn Fn(&mut StateDict)| {
        let mut weights = StateDict::read_bytes(WEIGHTS, None).expect("the shipped weights");
        change(&mut weights);
        let file = tempfile::NamedTempFile::new().expect("a file");
        weights.write_safetensors(file.path()).expect("writable");
        refused(MANIFEST, &std::fs::read(file.path()).expect("written"))
    };
    assert!(changed(&|weights| drop(weights.remove("pool.seed"))).contains("pool.seed"));
    assert!(
        changed(&|weights| {
            let seed = weights.remove("pool.seed").expect("there");
            weights.insert("more".to_owned(), seed.clone()).expect("free");
            weights.insert("pool.seed".to_owned(), seed).expect("free");
        })
        .contains("more")
    );
    assert!(refused(&MANIFEST.replace("best_cosine", "worst_cosine"), WEIGHTS).contains("best_cosine"));
    assert!(refused("id = 1", WEIGHTS).contains("manifest"));
    assert!(refused(MANIFEST, &WEIGHTS[..100]).contains("weights"));
}

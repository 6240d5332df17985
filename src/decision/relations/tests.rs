use proptest::prelude::*;

use super::*;
use domain::COHORT_MAX;

/// Three identities in three dimensions, the first with two templates; probes lie between them.
fn small() -> MeasuredGallery {
    let templates = vec![1.0, 0.0, 0.0, 0.8, 0.6, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
    MeasuredGallery::new(templates, &[7, 7, 3, 5])
}

fn close(one: f32, other: f32) {
    assert!((one - other).abs() < 1e-5, "{one} is not {other}");
}

#[test]
fn relations_equal_those_computed_by_hand() {
    let ProbeMeasurement { relations, scores } = small().measure(&[0.6, 0.8, 0.0]).expect("the gallery is not empty");
    // Cosines 0.6, 0.96 (both of the first identity), 0.8 and 0.
    let [best, second, third, last] = relations.items() else { panic!("four templates") };
    close(best[0], 0.96);
    close(best[2], 0.96 - 0.6);
    close(best[3], 0.96 - 0.8);
    close(best[4], 0.96 - 0.8);
    close(best[5], 1.0);
    // The direction between (1, 0, 0) and (0.8, 0.6, 0).
    close(best[6], (0.6 * 1.8 + 0.8 * 0.6) / (1.8_f32.powi(2) + 0.36).sqrt());
    close(best[8], 1.0);
    close(best[9], 2.0_f32.ln() / 3.0);
    close(second[0], 0.8);
    assert!([5, 3, 8].iter().all(|at: &usize| second[*at].abs() < 1e-9), "the only template of another person");
    close(third[8], 1.0);
    close(last[10], -0.96);
    close(relations.globals()[0], 4.0_f32.ln() / 4.0);
    close(relations.globals()[1], 3.0_f32.ln() / 4.0);
    // Mean non-mated cosine per template: 0, 0.3, 0.2 and 0.
    close(relations.globals()[2], 0.125);
    close(relations.globals()[4], 0.8);
    close(relations.globals()[9], 0.6);
    close(relations.globals()[10], (0.6 + 0.96 + 0.8) / 4.0);
    close(scores.cosine, 0.96);
    close(scores.margin, 0.16);
}

#[test]
fn an_empty_gallery_has_no_relations() {
    assert_eq!(MeasuredGallery::new(Vec::new(), &[]).measure(&[1.0]), None);
    let probe = Spread { mean: 0.0, deviation: 0.0 };
    let surroundings = GalleryStatistics {
        templates: 0,
        identities: 0,
        impostor: None,
        genuine: None,
        nearest_impostors: None,
        probe,
    };
    let relations = Relations::new(&[], &surroundings);
    assert!(relations.is_empty() && finite(&relations));
}

#[test]
fn small_galleries_give_finite_values() {
    let same = [1.0, 0.0];
    for (templates, owners) in [
        (same.to_vec(), vec![1]),
        (same.repeat(3), vec![1, 1, 1]),
        (same.repeat(3), vec![1, 2, 3]),
        (same.repeat(40), (0..40).map(|n| n / 20).collect()),
    ] {
        for probe in [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]] {
            let measurement =
                MeasuredGallery::new(templates.clone(), &owners).measure(&probe).expect("the gallery is not empty");
            assert!(finite(&measurement.relations), "{owners:?} {measurement:?}");
            assert!(measurement.relations.items().len() <= NEIGHBOURS_MAX);
        }
    }
}

#[test]
fn a_large_gallery_is_measured_against_a_cohort() {
    let people = 3 * u32::try_from(COHORT_MAX).expect("small") / 2;
    let angles: Vec<f32> = (0..people).map(|n| n as f32 * 0.61).collect();
    let templates = angles.iter().flat_map(|a| [a.cos(), a.sin()]).collect();
    let owners: Vec<u32> = (0..people).collect();
    let measurement = MeasuredGallery::new(templates, &owners).measure(&[1.0, 0.0]).expect("the gallery is not empty");
    assert!(finite(&measurement.relations));
    close(measurement.relations.globals()[0], (people as f32).ln() / 4.0);
}

fn finite(relations: &Relations) -> bool {
    let numbers = relations.items().as_flattened().iter().chain(relations.globals()).chain(relations.summary());
    numbers.copied().all(|number| number.abs() <= LARGEST)
}

fn some_number() -> impl Strategy<Value = f32> {
    prop_oneof![8 => -1.0_f32..1.0, 1 => Just(f32::NAN), 1 => Just(f32::INFINITY), 1 => Just(-1e30_f32), 1 => Just(1.0)]
}

fn some_spread() -> impl Strategy<Value = Option<Spread>> {
    proptest::option::of((some_number(), some_number()).prop_map(|(mean, deviation)| Spread { mean, deviation }))
}

prop_compose! {
    fn some_neighbour()(
        identity in 0_u64..4,
        identity_templates in 0_u32..5,
        numbers in [some_number(), some_number()],
        nearest_impostor in proptest::option::of(some_number()),
        own in proptest::option::of((some_number(), some_number())),
        others in some_spread(),
    ) -> Neighbour {
        let [cosine, centroid] = numbers;
        let own = own.map(|(nearest, mean)| OwnCosines { nearest, mean });
        Neighbour { identity, identity_templates, cosine, centroid, nearest_impostor, own, others }
    }
}

proptest! {
    #[test]
    fn relations_are_finite_and_independent_of_the_order(
        mut neighbours in proptest::collection::vec(some_neighbour(), 0..24),
        impostor in some_spread(),
        genuine in some_spread(),
        nearest in proptest::option::of([some_number(), some_number(), some_number()]),
        counts in (0_u64..u64::MAX, 0_u64..u64::MAX),
        by in 0_usize..24,
    ) {
        let probe = Spread { mean: 0.1, deviation: 0.0 };
        let (templates, identities) = counts;
        let around = GalleryStatistics { templates, identities, impostor, genuine, nearest_impostors: nearest, probe };
        let relations = Relations::new(&neighbours, &around);
        prop_assert!(finite(&relations), "{relations:?}");
        let turn = by % neighbours.len().max(1);
        neighbours.rotate_left(turn);
        neighbours.reverse();
        prop_assert_eq!(relations, Relations::new(&neighbours, &around));
    }
}

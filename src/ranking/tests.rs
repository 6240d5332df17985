use proptest::prelude::*;

use super::*;
use domain::{Pooling, Ranking, Reranking};

/// Different directions, from a formula that is easy to repeat in other languages.
fn directions(count: u32) -> Vec<[f64; 3]> {
    let one = |number: u32| {
        let at = f64::from(number);
        let [x, y, z] = [(at * 1.7).sin(), (at * 2.3).cos(), (at * 0.9 + 1.0).sin()];
        let length = (x * x + y * y + z * z).sqrt();
        [x / length, y / length, z / length]
    };
    (0..count).map(one).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "similarities are single precision")]
fn cosine(one: [f64; 3], other: [f64; 3]) -> f32 {
    one.iter().zip(other).map(|(a, b)| a * b).sum::<f64>() as f32
}

/// A shortlist: the first direction is the probe, the others are templates, `each` per identity.
fn list(directions: &[[f64; 3]], each: usize) -> Shortlist {
    let (probe, templates) = directions.split_first().expect("some");
    let all: Vec<usize> = (0..templates.len()).collect();
    let identities: Vec<Vec<usize>> = all.chunks(each).map(<[usize]>::to_vec).collect();
    let between = |one: usize, other: usize| cosine(templates[one], templates[other]);
    Shortlist::of(&identities, |one| cosine(*probe, templates[one]), between)
}

/// Scores by template number.
fn scores(list: &Shortlist, by: Reranking) -> Vec<f64> {
    let (scores, _) = list.scores(by).expect("enough templates per identity");
    let mut each: Vec<(usize, f64)> = list.templates().iter().copied().zip(scores).collect();
    each.sort_unstable_by_key(|(template, _)| *template);
    each.into_iter().map(|(_, score)| score).collect()
}

/// Results of the code published with the paper, run with NumPy on `directions(61)`; the first direction is the query.
const K_RECIPROCAL: [f64; 60] = [
    0.71575, 0.56979, 0.67758, 0.92337, 0.64545, 0.53010, 0.65816, 0.19427, 0.72715, 0.85105, 0.66444, 0.89063,
    0.44387, 0.45951, 0.72209, 0.32628, 0.76814, 0.91577, 0.60263, 0.80431, 0.59077, 0.30327, 0.80798, 0.72765,
    0.72926, 0.93553, 0.33252, 0.50298, 0.62340, 0.30190, 0.89955, 0.85832, 0.66181, 0.82131, 0.01869, 0.48745,
    0.82251, 0.56668, 0.86332, 0.88907, 0.30041, 0.70713, 0.52439, 0.44121, 0.90010, 0.69693, 0.75014, 0.79728,
    0.26323, 0.56497, 0.68970, 0.59478, 0.90568, 0.79706, 0.49145, 0.72851, 0.10966, 0.57975, 0.94657, 0.62555,
];

#[test]
fn k_reciprocal_distances_are_those_of_the_published_code() {
    let found = scores(&list(&directions(61), 5), Reranking::KReciprocal);
    for (template, (found, published)) in found.iter().zip(K_RECIPROCAL).enumerate() {
        assert!((found + published).abs() < 1e-4, "{template}: {found} {published}");
    }
}

/// The published algorithm on vectors: two nearest, mutual neighbours added without weights, then unit length.
fn neighbours_of_vectors(probe: [f64; 3], templates: &[[f64; 3]]) -> Vec<f64> {
    let distance = |a: [f64; 3], b: [f64; 3]| (0..3).map(|n| (a[n] - b[n]).powi(2)).sum::<f64>();
    let nearest = |one: usize| {
        let mut order: Vec<usize> = (0..templates.len()).filter(|other| *other != one).collect();
        order.sort_by(|a, b| {
            distance(templates[one], templates[*a]).total_cmp(&distance(templates[one], templates[*b]))
        });
        [order[0], order[1]]
    };
    let moved = |one: usize| {
        let mut sum = templates[one];
        for other in nearest(one) {
            if nearest(other).contains(&one) {
                (0..3).for_each(|n| sum[n] += templates[other][n]);
            }
        }
        let length = sum.iter().map(|n| n * n).sum::<f64>().sqrt();
        (0..3).map(|n| sum[n] / length * probe[n]).sum::<f64>()
    };
    (0..templates.len()).map(moved).collect()
}

proptest! {
    #[test]
    fn neighbours_are_those_of_the_released_algorithm(count in 20_u32..150, skipped in 0_usize..50) {
        let directions = &directions(count + 50)[skipped..skipped + count as usize];
        let expected = neighbours_of_vectors(directions[0], &directions[1..]);
        let found = scores(&list(directions, 5), Reranking::Neighbours);
        for (template, (found, expected)) in found.iter().zip(&expected).enumerate() {
            prop_assert!((found - expected).abs() < 1e-5, "{template}: {found} {expected}");
        }
    }
}

/// Points at 0, 10 and 24 degrees are mutual nearest neighbours, and those at 90 and 100. The probe is at 50.
#[test]
fn neighbours_of_five_templates_by_hand() {
    let at = |degrees: f64| {
        let (y, x) = degrees.to_radians().sin_cos();
        [x, y, 0.0]
    };
    let found = scores(&list(&[50.0, 0.0, 10.0, 24.0, 90.0, 100.0].map(at), 5), Reranking::Neighbours);
    // The sum of the first three points lies at 11.323 degrees, that of the others at 95.
    let cosine = |degrees: f64| degrees.to_radians().cos();
    let expected = [38.677, 38.677, 38.677, 45.0, 45.0].map(cosine);
    assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-4), "{found:?}");
}

#[test]
fn identities_with_few_templates_keep_their_order() {
    for each in 1..=3 {
        let list = list(&directions(41), each);
        for by in [Reranking::Neighbours, Reranking::KReciprocal] {
            let identities = 40_usize.div_ceil(each);
            assert_eq!(list.order(by, identities), ((0..identities).collect(), Ranking::Similarity));
        }
    }
    let four = list(&directions(41), 4);
    assert_eq!(four.order(Reranking::Neighbours, 10).1, Ranking::Neighbours);
    assert_eq!(four.order(Reranking::KReciprocal, 10).1, Ranking::KReciprocal);
    assert_eq!(four.order(Reranking::Off, 10), ((0..10).collect(), Ranking::Similarity));
}

#[test]
fn a_shortlist_is_limited_and_identities_without_one_follow() {
    let list = list(&directions(301), 5);
    assert_eq!(list.templates().len(), SHORTLIST);
    let (order, ranking) = list.order(Reranking::KReciprocal, 60);
    assert_eq!(ranking, Ranking::KReciprocal);
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..60).collect::<Vec<usize>>(), "every identity is listed");
    assert_eq!(order[40..], (40..60).collect::<Vec<usize>>()[..]);
    assert_ne!(order[..40], (0..40).collect::<Vec<usize>>()[..], "the order changes");
    assert_eq!(Shortlist::of(&[], |_| 0.0, |_, _| 0.0).order(Reranking::Neighbours, 0), (vec![], Ranking::Similarity));
}

/// Three similar templates, and one orthogonal to them.
#[test]
fn a_template_that_disagrees_gets_a_small_weight() {
    let rows: [&[f32]; 4] = [&[1.0, 0.0, 0.0], &[0.96, 0.28, 0.0], &[0.96, -0.28, 0.0], &[0.0, 0.0, 1.0]];
    let computed = template_weights(Pooling::Prototype, &rows, &[f32::NAN; 4]);
    // Mean cosines to the other templates: 0.64, 0.6011, 0.6011 and 0.
    let weights = [
        1.0,
        (8.0 * (1.8032_f64 / 3.0 - 0.64)).exp(),
        (8.0 * (1.8032_f64 / 3.0 - 0.64)).exp(),
        (8.0 * -0.64_f64).exp(),
    ];
    for (computed_weight, weight) in computed.iter().zip(weights) {
        assert!((f64::from(computed_weight / computed[0]) - weight).abs() < 1e-5, "{computed:?} {weights:?}");
    }
    assert!(computed[3] < 0.01 * computed[0], "{computed:?}");
    // The quality weight is the square of the quality.
    let doubted = super::template_weights(Pooling::Prototype, &rows, &[0.5, 1.0, 1.0, 1.0]);
    assert!((doubted[0] / doubted[1] - 0.25 * computed[0] / computed[1]).abs() < 1e-5, "{doubted:?}");
    // With two templates both agree equally.
    let two = super::template_weights(Pooling::Prototype, &rows[2..], &[f32::NAN; 2]);
    assert!((two[0] - two[1]).abs() < 1e-6 && (two[0] - 0.5_f32.sqrt()).abs() < 1e-6, "{two:?}");
}

#[test]
fn templates_that_cancel_each_other_out_count_one_by_one() {
    let rows: [&[f32]; 2] = [&[1.0, 0.0], &[-1.0, 0.0]];
    assert_eq!(template_weights(Pooling::Prototype, &rows, &[1.0, 1.0]), [0.5, 0.5]);
    assert_eq!(template_weights(Pooling::Centralised, &rows, &[1.0, 1.0]), [0.0, 0.0]);
    let template = [0.3, -0.3].map(|similarity| TemplateSimilarity { similarity, quality: f32::NAN, weight: 0.0 });
    assert_eq!(Accumulators::single(Pooling::Centralised, template.into_iter()), Some(0.3));
    assert_eq!(Accumulators::new(Pooling::Prototype, 3).similarity(2), None, "no template");
}

use super::*;
use crate::decision::relations::Measured;

#[test]
fn the_shipped_package_loads() {
    assert!(Decider::shipped().facts().id == "open-set-decider");
}

#[test]
fn nobody_is_enrolled_in_an_empty_gallery_and_one_template_is_enough_for_an_answer() {
    let around = crate::decision::relations::Surroundings {
        templates: 0,
        identities: 0,
        impostor: None,
        genuine: None,
        nearest_impostors: None,
        probe: crate::decision::relations::Spread { mean: 0.0, deviation: 0.0 },
    };
    let nothing = Relations::new(&[], &around);
    let alone = Measured::new(vec![1.0, 0.0], &[0]).look(&[0.6, 0.8]).expect("one is enrolled").relations;
    for judge in [Judge::SetTransformer, Judge::Perceptron, Judge::Logistic] {
        assert_eq!(Decider::shipped().probability_by(judge, &nothing, Prior::EVEN).to_bits(), 0);
        let probability = Decider::shipped().probability_by(judge, &alone, Prior::EVEN);
        assert!(probability > 0.0 && probability < 1.0, "{judge:?}: {probability}");
    }
}

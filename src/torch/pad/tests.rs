use std::path::Path;

use super::*;
use crate::{network::synthetic, runtime};
use weights::RawTensor;

/// The published weights of both networks as one state dict.
fn published(data: &Path) -> StateDict {
    let mut all = StateDict::default();
    for (prefix, file) in [("scale2_7.", "2.7_80x80_MiniFASNetV2.pth"), ("scale4_0.", "4_0_0_80x80_MiniFASNetV1SE.pth")]
    {
        let weights = StateDict::read(&data.join("face/weights").join(file), None).expect("a checkpoint");
        for (key, tensor) in weights.strip_prefix("module.").expect("names stay apart").iter() {
            all.insert(format!("{prefix}{key}"), tensor.clone()).expect("prefixes differ");
        }
    }
    all
}

/// Crops with a different pattern each.
fn crop(seed: f32) -> Vec<f32> {
    (0..CROP_NUMBERS).map(|at| 127.0 + 120.0 * (at as f32 * seed).sin()).collect()
}

#[test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
fn published_weights_have_the_layout_that_is_asked_for_on_real_data() {
    let data = testing::data();
    let shapes = |weights: StateDict| -> Vec<_> {
        let served = weights.iter().filter(|(key, _)| !key.ends_with("num_batches_tracked"));
        served.map(|(key, tensor)| (key.to_owned(), tensor.shape().to_vec())).collect()
    };
    assert_eq!(shapes(published(&data)), shapes(synthetic::minifasnet()));
}

#[test]
fn folding_changes_no_answer() {
    folding_keeps_the_answers(&synthetic::minifasnet());
}

#[test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
fn folding_changes_no_answer_of_the_published_nets_on_real_data() {
    folding_keeps_the_answers(&published(&testing::data()));
}

fn folding_keeps_the_answers(weights: &StateDict) {
    let _inference = runtime::prepare_thread();
    let built = |folding| minifasnet::build(weights.clone(), minifasnet::PUBLISHED, folding).expect("its own layout");
    let crops = [crop(0.37), crop(0.05)];
    let answers = |nets: &[MiniFasNet; 2]| -> Vec<f32> {
        nets.iter().flat_map(|net| bona_fide(net, crops.iter().map(Vec::as_slice)).expect("runs")).collect()
    };
    let (folded, unfolded) = (answers(&built(Folding::Folded)), answers(&built(Folding::Unfolded)));
    assert!(folded.iter().zip(&unfolded).all(|(a, b)| (a - b).abs() < 1e-4), "{folded:?} {unfolded:?}");
}

#[test]
fn faces_answer_together_as_they_do_alone() {
    let _inference = runtime::prepare_thread();
    let liveness = Liveness::build(synthetic::minifasnet()).expect("its own layout");
    let crops: Vec<[Vec<f32>; 2]> =
        (1..40_u8).map(|at| [crop(0.01 * f32::from(at)), crop(0.7 / f32::from(at))]).collect();
    let faces: Vec<[&[f32]; 2]> = crops.iter().map(|[near, wide]| [&**near, &**wide]).collect();
    let together = liveness.forward(&faces).expect("runs");
    assert_eq!(together.len(), faces.len());
    assert!(together.iter().all(|score| (0.0..=1.0).contains(score)));
    for (face, together) in faces.iter().zip(&together) {
        let alone = liveness.forward(&[*face]).expect("runs")[0];
        assert!((alone - together).abs() < 1e-4, "{alone} {together}");
    }
    assert!(liveness.forward(&[]).expect("runs").is_empty());
}

#[test]
fn what_does_not_fit_is_refused() {
    let liveness = Liveness::build(synthetic::minifasnet()).expect("its own layout");
    let (whole, short) = (crop(0.1), vec![0.0; CROP_NUMBERS - 1]);
    let refused = liveness.forward(&[[&whole, &whole], [&whole, &short]]);
    assert!(matches!(refused, Err(NetworkError::WrongInput { expected: CROP_NUMBERS, .. })));

    let mut missing = synthetic::minifasnet();
    missing.remove("scale4_0.conv_3.model.3.se_module.fc1.weight");
    let refused = Liveness::build(missing).expect_err("something is missing");
    assert!(matches!(refused, NetworkError::MissingTensor(key) if key.ends_with("se_module.fc1.weight")));
    let mut surplus = synthetic::minifasnet();
    let gate = RawTensor::from_f32(vec![1], &[0.0]).expect("one number");
    surplus.insert("scale2_7.conv_3.model.3.se_module.fc1.weight".to_owned(), gate).expect("a new name");
    let refused = Liveness::build(surplus).expect_err("something is left over");
    assert!(matches!(refused, NetworkError::SurplusTensors { count: 1, .. }));
}

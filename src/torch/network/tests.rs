mod golden;
mod layouts;

use super::{
    synthetic::{Random, SyntheticWeights, weights as synthetic_weights},
    *,
};
use crate::runtime;
use weights::RawTensor;

/// A published checkpoint of each network that has one, with its entry.
const PUBLISHED: [(&str, &str, Option<&str>); 3] = [
    ("mobilefacenet-112x96", "face/weights/mobilefacenet_xiaoccer_068.ckpt", Some("net_state_dict")),
    ("osnet-x0.25", "person/weights/osnet_x0_25_market1501.pth", None),
    ("gaitgraph-resgcn-n39-r8", "gait/weights/gaitgraph_resgcn_n39_r8_ep100.pth", Some("model_state_dict")),
];

/// Each input is a sine of its own frequency around its own mean, plus noise: networks that average the input and
/// networks that remove mean and scale can both distinguish them.
fn inputs(architecture: Architecture, batch: usize) -> Vec<f32> {
    let mut random = Random::of("inputs");
    // Skeleton coordinates are in pixels.
    let size = if architecture == Architecture::SkeletonPyramid { 320.0 } else { 1.0 };
    let count: usize = architecture.input_shape().iter().product();
    let mut input = || -> Vec<f32> {
        let (level, frequency) = (random.unit() - 0.5, random.unit());
        let number = |at: usize| level + (at as f32 * frequency).sin() * 0.5 + random.unit() - 0.5;
        (0..count).map(number).map(|number| number * size).collect()
    };
    (0..batch).flat_map(|_| input()).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

/// Runs two inputs: outputs are large enough, differ, are repeatable and independent of the batch, and do not change
/// when normalisations are unfolded.
fn assert_sound(architecture: Architecture, weights: StateDict) {
    let unfolded = Network::build(architecture, weights.clone(), Folding::Unfolded).expect("its own layout");
    let network = Network::build(architecture, weights, Folding::Folded).expect("its own layout");
    let input = inputs(architecture, 2);
    let together = network.forward(&input, 2).expect("runs");
    let (first, second) = together.split_at(architecture.dimension());
    assert_eq!(first.len(), second.len(), "{architecture}: as many numbers as declared");
    assert_eq!(first.len() % architecture.parts(), 0, "{architecture}: parts of equal length");
    let largest = together.iter().fold(0.0_f32, |largest, number| largest.max(number.abs()));
    assert!(largest > 1e-2, "{architecture}: outputs of some size, not {largest}");
    let cosine_similarity = cosine(first, second);
    assert!(cosine_similarity < 0.99999, "{architecture}: two inputs give two outputs, {cosine_similarity}");

    assert_eq!(
        bits(&together),
        bits(&network.forward(&input, 2).expect("runs")),
        "{architecture}: the same bits again"
    );
    let alone = input.chunks(input.len() / 2).flat_map(|one| network.forward(one, 1).expect("runs"));
    for (together, alone) in together.iter().zip(alone) {
        assert!((together - alone).abs() <= 1e-4 * largest, "{architecture}: {together}, but alone {alone}");
    }
    let unfolded = unfolded.forward(&input, 2).expect("runs");
    for (folded, unfolded) in together.chunks(first.len()).zip(unfolded.chunks(first.len())) {
        let cosine = cosine(folded, unfolded);
        assert!(cosine >= 1.0 - 1e-6, "{architecture}: folding changes the answer, {cosine}");
    }
}

fn assert_all_sound(which: impl Fn(Architecture) -> bool) {
    let _inference = runtime::prepare_thread();
    let chosen: Vec<_> = Architecture::all().filter(|architecture| which(*architecture)).collect();
    assert!(!chosen.is_empty());
    for architecture in chosen {
        assert_sound(architecture, synthetic_weights(architecture));
    }
}

#[test]
fn the_networks_of_arcface_are_sound() {
    assert_all_sound(|architecture| matches!(architecture, Architecture::IResNet(_, IResNetLayout::ArcFace)));
}

#[test]
fn the_networks_of_adaface_are_sound() {
    assert_all_sound(|architecture| matches!(architecture, Architecture::IResNet(_, IResNetLayout::AdaFace)));
}

#[test]
fn mobilefacenets_are_sound() {
    let mobile = [Architecture::MobileFaceNet112x96, Architecture::MobileFaceNetInsightFace];
    assert_all_sound(|architecture| mobile.contains(&architecture));
}

#[test]
fn osnets_are_sound() {
    assert_all_sound(|architecture| matches!(architecture, Architecture::OsNet(..)));
}

#[test]
fn resnets_are_sound() {
    assert_all_sound(|architecture| matches!(architecture, Architecture::ResNet50(..)));
}

#[test]
fn gait_networks_are_sound() {
    let gait = [Architecture::GaitGraphResGcnN39R8, Architecture::SkeletonPyramid, Architecture::GaitBase];
    assert_all_sound(|architecture| gait.contains(&architecture));
}

#[test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
fn published_networks_are_sound_on_real_data() {
    let data = testing::data();
    let _inference = runtime::prepare_thread();
    for (name, file, entry) in PUBLISHED {
        let weights = StateDict::read(&data.join(file), entry).expect("a checkpoint");
        assert_sound(name.parse().expect("built in"), weights);
    }
}

/// A constant channel has no deviation to divide by.
#[test]
fn constant_pictures_give_finite_outputs_with_instance_norm() {
    let _inference = runtime::prepare_thread();
    for name in ["osnet-ibn-x0.25", "osnet-ain-x0.25", "resnet50-ibn-a-last"] {
        let architecture: Architecture = name.parse().expect("built in");
        let network =
            Network::build(architecture, synthetic_weights(architecture), Folding::Folded).expect("its own layout");
        for brightness in [0.0, 1.0, -1000.0] {
            let blank = vec![brightness; architecture.input_shape().iter().product()];
            let answer = network.forward(&blank, 1).expect("runs");
            assert!(answer.iter().all(|number| number.is_finite()), "{name}: {brightness}");
            assert!(answer.iter().any(|number| number.abs() > 1e-3), "{name}: {brightness}");
        }
    }
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let architecture = Architecture::GaitGraphResGcnN39R8;
    let network =
        Network::build(architecture, synthetic_weights(architecture), Folding::Folded).expect("its own layout");
    assert!(matches!(network.forward(&[], 0), Err(NetworkError::EmptyBatch)));
    let wrong = network.forward(&[0.0; 3059], 1);
    assert!(matches!(wrong, Err(NetworkError::WrongInput { expected: 3060, found: 3059 })));
    assert!(matches!(network.forward(&[0.0; 3060], usize::MAX), Err(NetworkError::WrongInput { .. })));
}

/// Networks may be built in one thread and run in another.
#[test]
fn a_network_moves_between_threads() {
    let architecture = Architecture::GaitGraphResGcnN39R8;
    let network =
        Network::build(architecture, synthetic_weights(architecture), Folding::Folded).expect("its own layout");
    let elsewhere = std::thread::spawn(move || {
        let _inference = runtime::prepare_thread();
        network.forward(&inputs(architecture, 1), 1).expect("runs").len()
    });
    assert_eq!(elsewhere.join().expect("no panic"), 128);
}

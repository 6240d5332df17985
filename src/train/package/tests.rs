//! Tests of the shipped package: its content and the figures of its card.

use super::*;
use crate::{
    gait,
    trial::{self, TrialRow, TrialSize},
};
use domain::{Frame, Joint, SampleContent, Skeleton};
use encoder::{
    EncoderArchitecture, EncoderManifest,
    prepare::{self, SampleLimits},
};
use torch::{
    network::{Folding, Network},
    runtime,
};

fn encoder_of(package: &Package) -> &EncoderManifest {
    package.manifest.encoder().expect("it makes embeddings")
}

fn tensors_of(package: &Package) -> &StateDict {
    package.tensors().expect("it is built in")
}

fn shipped() -> Package {
    Package::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models").join(NAME)).expect("a sound package")
}

/// A synthetic walk of integers, the same on every machine.
fn synthetic_walk() -> Skeleton {
    let wave = |time: usize, period: usize| (time % period).abs_diff(period / 2) as f32;
    let joint = |joint: usize, frame: usize| Joint {
        x: 400.0 + 3.0 * frame as f32 + 4.0 * wave(joint * 5 + frame, 14),
        y: 100.0 + 20.0 * joint as f32 + 2.0 * wave(joint * 3 + frame, 7),
        score: 0.9,
    };
    let frames = (0..70).map(|frame| Frame { joints: std::array::from_fn(|number| joint(number, frame)) });
    frames.collect::<Vec<_>>().into()
}

#[test]
fn the_shipped_weights_are_the_published_ones() {
    let package = shipped();
    package.check_network().expect("the weights fit");
    assert_eq!(package.digest.to_string(), "a7e13f7c1535808cc405f3c1b8955d406e856470e7be55d336b2e525d8ae0ebc");
    assert_eq!(encoder_of(&package).preprocessing, gait::preprocessing());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models").join(NAME);
    assert!(fs::metadata(folder.join("weights.safetensors")).expect("shipped").len() < 4_000_000);
}

/// The command with its defaults writes the shipped manifest and so reproduces the weights.
#[test]
fn the_shipped_manifest_is_the_one_that_the_command_writes() {
    let folder = tempfile::tempdir().expect("a folder");
    let package = shipped();
    let written = write(folder.path(), tensors_of(&package), &GaitTrainingOptions::default()).expect("sound weights");
    assert_eq!(written.digest, package.digest);
    assert_eq!(written.manifest, package.manifest);
}

#[test]
fn the_shipped_weights_give_recorded_outputs() {
    const GOLDEN: [f32; 8] =
        [0.179_719, -0.035_739, 0.064_704, 0.111_553, 0.009_349, 0.028_894, -0.009_891, -0.019_705];
    let _inference = runtime::prepare_thread();
    let package = shipped();
    let EncoderArchitecture::BuiltIn(architecture) = encoder_of(&package).architecture else {
        panic!("it is built in")
    };
    let network = Network::build(architecture, tensors_of(&package).clone(), Folding::Folded);
    let content = SampleContent::Skeleton(synthetic_walk());
    let prepared =
        prepare::prepare(&encoder_of(&package).preprocessing, &content, &SampleLimits::default()).expect("a walk");
    let answer = network.expect("its own layout").forward(&prepared.prepared.views[0], 1).expect("runs");
    let length = answer.iter().map(|number| number * number).sum::<f32>().sqrt();
    let unit: Vec<f32> = answer.iter().map(|number| number / length).collect();
    let close = unit.iter().zip(GOLDEN).all(|(found, golden)| (found - golden).abs() < 1e-3);
    assert!(close, "{:?}", &unit[..GOLDEN.len()]);
}

#[test]
fn the_shipped_weights_recognise_simulated_walkers_by_motion_across_views() {
    let trial = trial::run(tensors_of(&shipped()), 4711, TrialSize { people: 20, cameras: 4 }).expect("sound weights");
    let normal = |method: &str| {
        let row: Option<&TrialRow> = trial.rows.iter().find(|row| row.method == method);
        row.expect("the method was tried").normal
    };
    let (trained, still) = (normal("trained network"), normal("static proportions"));
    assert!(trained > 2.0 * still && trained > 8.0 * trial.chance, "{trial}");
    assert!(normal("its frames shuffled") < 0.8 * trained && normal("its motion removed") < 0.8 * trained, "{trial}");
}

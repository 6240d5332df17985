use std::{fs, path::Path};

use serde::Deserialize;

use super::*;
use crate::{
    Package, PackageError, ScriptManifest,
    package::ModelKind,
    tests::{script_package, synthetic_package},
};
use fixtures::{DIMENSION, INPUT, PARTS, ProgramBehaviour};
use torch::{runtime, trial_run::TrialRunError};
use weights::{RawTensor, StateDict};

const LENGTH: usize = INPUT[0] * INPUT[1] * INPUT[2];

fn encoder(package: &Package) -> &EncoderManifest {
    package.manifest.encoder().expect("an encoder's package")
}

fn build(package: &Package) -> EncoderModel {
    let _inference = runtime::prepare_thread();
    EncoderModel::build(encoder(package), package.weights.clone()).expect("sound")
}

/// A view with these means of its three channels.
fn view(means: [f32; 3]) -> Vec<f32> {
    means.into_iter().flat_map(|mean| vec![mean; LENGTH / 3]).collect()
}

fn prepared(views: &[[f32; 3]]) -> NetworkInput {
    NetworkInput { views: views.iter().map(|means| view(*means)).collect() }
}

fn length(numbers: &[f32]) -> f32 {
    numbers.iter().map(|number| number * number).sum::<f32>().sqrt()
}

#[test]
fn a_program_is_an_encoder() {
    let mut program = build(&script_package("model", ProgramBehaviour::Sound));
    let samples = [prepared(&[[1.0, 0.0, -1.0]]), prepared(&[[0.5, 0.5, 0.5], [1.0, -1.0, 0.0]])];
    let together = program.infer(&[&samples[0], &samples[1]]).expect("it runs");
    let alone = samples.each_ref().map(|sample| program.infer(&[sample]).expect("it runs").remove(0));
    for (one, other) in together.iter().zip(&alone) {
        assert_eq!(one.len(), DIMENSION);
        assert!(one.iter().zip(other).all(|(one, other)| (one - other).abs() < 1e-6));
    }
    // The program is linear, so the sum over views is visible.
    let summed = program.infer(&[&prepared(&[[1.5, -0.5, 0.5]])]).expect("it runs").remove(0);
    assert!(summed.iter().zip(&alone[1]).all(|(one, other)| (one - other).abs() < 1e-5));
}

#[test]
fn invisible_parts_are_zero_and_the_rest_has_length_one() {
    let mut program = build(&script_package("model", ProgramBehaviour::Parts));
    let part = DIMENSION / PARTS;
    let mut encode = |views: &[[f32; 3]]| program.infer(&[&prepared(views)]).expect("it runs").remove(0);
    let lengths = |vector: &[f32]| -> Vec<f32> { vector.chunks_exact(part).map(length).collect() };
    let near = |found: Vec<f32>, expected: [f32; 3]| {
        assert!(found.iter().zip(expected).all(|(one, other)| (one - other).abs() < 1e-6), "{found:?} {expected:?}");
    };
    let third = (1.0_f32 / 3.0).sqrt();
    near(lengths(&encode(&[[1.0, 2.0, 3.0]])), [third; 3]);
    near(lengths(&encode(&[[1.0, -2.0, 3.0]])), [0.5_f32.sqrt(), 0.0, 0.5_f32.sqrt()]);
    near(lengths(&encode(&[[-1.0, -2.0, 3.0]])), [0.0, 0.0, 1.0]);
    assert_eq!(encode(&[[-1.0, -2.0, -3.0]]), [0.0; DIMENSION], "nothing is visible");
    // A part that one view shows is visible in the sample.
    near(lengths(&encode(&[[1.0, -2.0, -3.0], [-1.0, 2.0, -3.0]])), [0.5_f32.sqrt(), 0.5_f32.sqrt(), 0.0]);
    // An invisible part of a view is ignored.
    let one = encode(&[[1.0, -2.0, -3.0]]);
    let both = encode(&[[1.0, -2.0, -3.0], [-9.0, -2.0, -3.0]]);
    near(lengths(&both), [1.0, 0.0, 0.0]);
    assert!(one.iter().zip(&both).all(|(one, other)| (one - other).abs() < 1e-6));
}

#[test]
fn a_sample_without_keypoints_has_blank_heat_maps() {
    let plain = build(&script_package("model", ProgramBehaviour::Prompted(17)));
    let bare = prepared(&[[1.0, 0.0, -1.0], [0.0, 1.0, 0.0]]);
    let plane = LENGTH / 3;
    let full =
        NetworkInput { views: bare.views.iter().map(|view| [view.clone(), vec![0.0; 17 * plane]].concat()).collect() };
    let mut program = plain;
    assert_eq!(program.infer(&[&bare]).expect("it runs"), program.infer(&[&full]).expect("it runs"));
    let short = NetworkInput { views: vec![vec![0.0; LENGTH - 1]] };
    assert!(matches!(program.infer(&[&short]), Err(NetworkError::WrongInput { .. })));
}

/// The recorded outputs of the converter.
#[derive(Deserialize)]
struct PythonAnswers {
    inputs: Vec<f32>,
    embeddings: Vec<f32>,
    visibility: Option<Vec<f32>>,
}

#[test]
fn packages_of_the_converter_give_the_outputs_of_python() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data");
    for name in ["torchscript-tiny", "torchscript-tiny-parts"] {
        let package = Package::load(&data.join(name)).expect("a package of the converter");
        package.check_network().expect("a sound program");
        let trial = fs::read(data.join(format!("{name}.json"))).expect("beside the package");
        let trial: PythonAnswers = serde_json::from_slice(&trial).expect("JSON");
        let program = build(&package);
        let answers = program.forward(&trial.inputs, 2).expect("it runs");
        assert_eq!(answers.visibility, trial.visibility);
        assert_eq!(answers.embeddings.len(), trial.embeddings.len());
        let mut pairs = answers.embeddings.iter().zip(&trial.embeddings);
        assert!(pairs.all(|(here, there)| (here - there).abs() < 1e-5), "{:?}", answers.embeddings);
    }
}

#[test]
fn a_built_in_network_with_infinite_outputs_is_refused() {
    let mut package = synthetic_package("model");
    // Finite weights with a product that is not finite.
    let mut large = StateDict::default();
    for (name, tensor) in package.tensors().expect("tensors").iter() {
        let numbers = vec![3e38; tensor.elements()];
        let tensor = match name {
            "fc.0.weight" | "conv5.conv.weight" => {
                RawTensor::from_f32(tensor.shape().to_vec(), &numbers).expect("as many")
            }
            _ => tensor.clone(),
        };
        large.insert(name.to_owned(), tensor).expect("a new name");
    }
    package.weights = Weights::Tensors(large);
    let error = package.check_network().expect_err("it is not finite");
    assert!(matches!(error, PackageError::Network(NetworkError::TrialRun(TrialRunError::NotFinite))), "{error}");
}

#[test]
fn weights_of_the_wrong_kind_are_refused() {
    let script = script_package("model", ProgramBehaviour::Sound);
    let built_in = synthetic_package("model");
    for (manifest, weights) in [(&script, &built_in), (&built_in, &script)] {
        let error = EncoderModel::build(encoder(manifest), weights.weights.clone()).expect_err("they do not fit");
        assert!(matches!(error, NetworkError::Script(ScriptError::Misplaced)), "{error}");
    }
    let ModelKind::Encoder(EncoderManifest { architecture: EncoderArchitecture::TorchScript(declared), .. }) =
        script.manifest.kind
    else {
        panic!("it is a program")
    };
    assert_eq!(declared, ScriptManifest { input_shape: INPUT, parts: None, keypoint_channels: 0 });
}

use super::*;
use decision::{Decider, OpenSetModel, Prior};

const TINY: DeciderTrainingOptions = DeciderTrainingOptions { seed: 7, worlds: 24, epochs: 6 };

fn trained(options: &DeciderTrainingOptions) -> TrainedDecider {
    train(options, &|_| {}).expect("a sound plan")
}

#[test]
fn the_loss_falls() {
    let losses = std::sync::Mutex::new(Vec::new());
    let options = DeciderTrainingOptions { epochs: 30, ..TINY };
    train(&options, &|stage| {
        if let DeciderProgress::Learnt { network: OpenSetNetwork::SetTransformer, loss, .. } = stage {
            losses.lock().expect("no thread panics").push(loss);
        }
    })
    .expect("a sound plan");
    let losses = losses.into_inner().expect("no thread panicked");
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    assert!(mean(&losses[losses.len() - 5..]) < mean(&losses[..5]) - 0.1, "{losses:?}");
}

/// `decision` serves in plain Rust what libtorch trains here.
#[test]
fn the_served_networks_equal_the_trained_networks() {
    let shipped = include_bytes!("../../../models/open-set-decider/weights.safetensors");
    let shipped = StateDict::read_bytes(shipped, None).expect("the shipped weights");
    let decider = Decider::shipped();
    let worlds = [WorldSplit::Training, WorldSplit::Shifted].into_iter().flat_map(|split| trials(split, 7, 3, &|_| {}));
    let trials: Vec<OpenSetTrial> = worlds.flat_map(|world| world.trials).collect();
    let trials: Vec<&OpenSetTrial> = trials.iter().filter(|trial| !trial.measurement.relations.is_empty()).collect();
    assert!(trials.len() > 100, "{} probes", trials.len());
    let mut batch = OpenSetBatch::default();
    for trial in &trials {
        add(&mut batch, trial);
    }
    let manifest = decider.manifest();
    for (network, model, platt) in [
        (OpenSetNetwork::SetTransformer, OpenSetModel::SetTransformer, manifest.set_transformer),
        (OpenSetNetwork::Perceptron, OpenSetModel::Perceptron, manifest.perceptron),
    ] {
        let learner = OpenSetLearner::with_weights(network, shipped.clone()).expect("its own layout");
        let logits = learner.logits(&batch).expect("a batch");
        for (trial, logit) in trials.iter().zip(logits) {
            let trained = platt.apply(logit.into());
            let probability = decider.probability_by(model, &trial.measurement.relations, Prior::EVEN);
            let served = (probability / (1.0 - probability)).ln();
            assert!((served - trained).abs() < 1e-4 * trained.abs().max(1.0), "{model:?}: {served} {trained}");
        }
    }
}

#[test]
fn the_seed_determines_everything() {
    assert_eq!(trained(&TINY), trained(&TINY));
    assert_ne!(trained(&TINY).weights, trained(&DeciderTrainingOptions { seed: 8, ..TINY }).weights);
}

#[test]
fn a_written_package_loads_and_has_its_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let decider = package::write(folder.path(), &trained(&TINY), &TINY).expect("writable");
    assert!(decider.manifest().provenance.contains("semblance train decider --seed 7 --worlds 24 --epochs 6"));
    package::write_card(folder.path(), &TINY, "the tables").expect("writable");
    let card = std::fs::read_to_string(folder.path().join("README.md")).expect("written");
    assert!(card.contains("the tables") && card.contains("--worlds 24") && !card.contains('{'), "{card}");
}

#[test]
fn realms_share_no_world() {
    let one = |split| trials(split, 1, 1, &|_| ()).remove(0);
    let realms = [WorldSplit::Training, WorldSplit::HeldOut, WorldSplit::Test, WorldSplit::Shifted].map(one);
    for (place, split) in realms.iter().enumerate() {
        assert!(realms[place + 1..].iter().all(|other| other.trials[0].measurement != split.trials[0].measurement));
    }
}

/// `semblance evaluate --protocol open-set` measures the targets; these few worlds only show that the shipped weights
/// work.
#[test]
fn the_shipped_decider_beats_one_threshold_and_nac_on_worlds_it_never_saw() {
    for split in [WorldSplit::Test, WorldSplit::Shifted] {
        let worlds = trials(split, 99, 60, &|_| ());
        let trials: Vec<&OpenSetTrial> = worlds.iter().flat_map(|world| &world.trials).collect();
        let accuracy = |says: &dyn Fn(&OpenSetTrial) -> bool| {
            let share = |kind: bool| {
                let of_kind = || trials.iter().filter(|trial| trial.is_enrolled == kind);
                of_kind().filter(|trial| says(trial) == kind).count() as f64 / of_kind().count() as f64
            };
            f64::midpoint(share(true), share(false))
        };
        let (decider, thresholds) = (Decider::shipped(), Decider::shipped().manifest().thresholds);
        let learnt =
            |judge| accuracy(&|trial| decider.probability_by(judge, &trial.measurement.relations, Prior::EVEN) >= 0.5);
        let (network, regression) = (learnt(OpenSetModel::SetTransformer), learnt(OpenSetModel::Logistic));
        let cosine = accuracy(&|trial| trial.measurement.scores.cosine >= thresholds.cosine);
        let nac = accuracy(&|trial| trial.measurement.scores.nac >= thresholds.nac);
        assert!(network > cosine + 0.08 && network > nac + 0.05, "{split:?}: {network} {cosine} {nac}");
        assert!(network > regression - 0.01 && regression > cosine, "{split:?}: {network} {regression} {cosine}");
    }
}

#[test]
fn invalid_options_are_refused() {
    for options in [
        DeciderTrainingOptions { worlds: 15, ..TINY },
        DeciderTrainingOptions { worlds: WORLDS_MAX + 1, ..TINY },
        DeciderTrainingOptions { epochs: 0, ..TINY },
        DeciderTrainingOptions { epochs: EPOCHS_MAX + 1, ..TINY },
    ] {
        assert!(matches!(train(&options, &|_| {}), Err(TrainError::BadOptions(_))), "{options:?}");
    }
}

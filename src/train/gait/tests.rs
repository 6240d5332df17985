use super::*;

const TINY: GaitTrainingOptions = GaitTrainingOptions { seed: 7, steps: 10, people: 6, walks: 2, rate: 1e-3 };

fn trained(options: &GaitTrainingOptions) -> StateDict {
    train(options, None, &mut |_| {}).expect("a sound plan")
}

fn checkpoints(file: &Path, found: ExistingCheckpoint) -> Checkpoints {
    Checkpoints { file: file.to_owned(), every: 4, found }
}

#[test]
fn the_loss_falls() {
    let mut losses = Vec::new();
    let options = GaitTrainingOptions { steps: 80, people: 16, walks: 3, ..TINY };
    train(&options, None, &mut |progress| losses.push(progress.loss)).expect("a sound plan");
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    assert!(mean(&losses[60..]) < mean(&losses[..20]) - 0.15, "{losses:?}");
}

/// [`prepared`] panics on a walk that the server would refuse.
#[test]
fn every_simulated_walk_is_valid_with_joints_left_out() {
    let options = GaitTrainingOptions { people: 16, walks: 4, ..TINY };
    let prepared = (0..30).map(|step| batch(&options, step).0.len()).sum::<usize>();
    assert_eq!(prepared, 30 * 64 * 60 * 17 * 3);
}

#[test]
fn the_seed_determines_the_weights() {
    let options = GaitTrainingOptions { steps: 2, ..TINY };
    assert_eq!(trained(&options), trained(&options));
    assert_ne!(trained(&options), trained(&GaitTrainingOptions { seed: 8, ..options }));
}

#[test]
fn a_resumed_training_gives_the_same_weights() {
    let folder = tempfile::tempdir().expect("a folder");
    let (whole, cut_off) = (folder.path().join("whole"), folder.path().join("cut-off"));
    // An interruption within the seventh step leaves the checkpoint of the fourth.
    let expected = train(&TINY, Some(&checkpoints(&whole, ExistingCheckpoint::Overwrite)), &mut |progress| {
        if progress.step == 7 {
            fs::copy(&whole, &cut_off).expect("written at the fourth step");
        }
    });
    let mut first = None;
    let resumed = train(&TINY, Some(&checkpoints(&cut_off, ExistingCheckpoint::Resume)), &mut |progress| {
        first.get_or_insert(progress.step);
    });
    assert_eq!(first, Some(5));
    assert_eq!(resumed.expect("goes on"), expected.expect("a sound plan"));
    assert_eq!(fs::read(&whole).expect("the last"), fs::read(&cut_off).expect("the last"));
}

#[test]
fn checkpoints_of_other_trainings_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("checkpoint");
    let options = GaitTrainingOptions { steps: 1, ..TINY };
    train(&options, Some(&checkpoints(&file, ExistingCheckpoint::Resume)), &mut |_| {})
        .expect("nothing there to go on from");
    let other = GaitTrainingOptions { seed: 8, ..options };
    let refused = train(&other, Some(&checkpoints(&file, ExistingCheckpoint::Resume)), &mut |_| {})
        .expect_err("another training");
    assert!(refused.to_string().contains("seed is 7, and 8 is requested"), "{refused}");
    fs::write(&file, b"nonsense").expect("writable");
    train(&options, Some(&checkpoints(&file, ExistingCheckpoint::Resume)), &mut |_| {}).expect_err("no checkpoint");
    train(&options, Some(&checkpoints(&file, ExistingCheckpoint::Overwrite)), &mut |_| {}).expect("starts again");
    let mut state = StateDict::read(&file, None).expect("a checkpoint");
    state.remove("stem.conv.weight");
    state.write_safetensors(&file).expect("writable");
    let damaged =
        train(&options, Some(&checkpoints(&file, ExistingCheckpoint::Resume)), &mut |_| {}).expect_err("damaged");
    assert!(matches!(damaged, TrainError::BadCheckpoint { .. }), "{damaged}");
}

#[test]
fn invalid_options_are_refused() {
    let refused = [
        GaitTrainingOptions { steps: 0, ..TINY },
        GaitTrainingOptions { steps: STEPS_MAX + 1, ..TINY },
        GaitTrainingOptions { people: 1, ..TINY },
        GaitTrainingOptions { people: PEOPLE_MAX + 1, ..TINY },
        GaitTrainingOptions { walks: 1, ..TINY },
        GaitTrainingOptions { walks: WALKS_MAX + 1, ..TINY },
        GaitTrainingOptions { rate: 0.0, ..TINY },
        GaitTrainingOptions { rate: f64::NAN, ..TINY },
        GaitTrainingOptions { rate: f64::INFINITY, ..TINY },
    ];
    for options in refused {
        let error = train(&options, None, &mut |_| {}).expect_err("leads nowhere");
        assert!(matches!(error, TrainError::BadOptions(_)), "{options:?}: {error}");
    }
}

#[test]
fn the_rate_rises_and_falls_to_zero() {
    let options = GaitTrainingOptions { steps: 2000, ..TINY };
    assert!(options.rate_at(0) < 0.01 * options.rate && options.rate_at(WARM_UP) > 0.95 * options.rate);
    assert!(options.rate_at(1999) < 1e-5 * options.rate);
}

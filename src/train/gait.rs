//! Trains the gait network on simulated walkers.
//!
//! Every batch has its own site and new persons that never occur again, so nothing can be memorised. Seed and batch
//! number determine a batch: an interrupted training resumes with the same results.

use std::{
    f64::consts::PI,
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    Random, TrainError,
    walker::{Condition, Direction, WalkSetup, WalkSite, Walker, omit},
};
use domain::{SampleContent, Skeleton};
use encoder::prepare::{self, Centre, Preprocessing, SampleLimits, SkeletonPreprocessing};
use torch::learn::{ContrastiveStep, GaitLearner};
use weights::{Dtype, RawTensor, StateDict};

/// Options of a training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct GaitTrainingOptions {
    pub seed: u64,
    pub steps: u64,
    /// Persons per batch.
    pub people: u32,
    /// Walks per person.
    pub walks: u32,
    /// Peak learning rate; it rises in the first steps and decays to zero along half a cosine.
    pub rate: f64,
}

impl Default for GaitTrainingOptions {
    /// The options of the package in the repository.
    fn default() -> Self {
        Self { seed: 1, steps: 5000, people: 32, walks: 4, rate: 2e-3 }
    }
}

/// Where and how often checkpoints are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoints {
    pub file: PathBuf,
    /// Steps between checkpoints.
    pub every: u64,
    pub found: ExistingCheckpoint,
}

/// What to do with an existing checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExistingCheckpoint {
    Resume,
    Overwrite,
}

/// Progress of a training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GaitProgress {
    pub step: u64,
    pub steps: u64,
    pub loss: f64,
}

/// The preprocessing of walks; the package declares the same.
#[must_use]
pub fn preprocessing() -> Preprocessing {
    Preprocessing::Skeleton(SkeletonPreprocessing { frames: 60, body_height_px: 110.0, centre: Centre::Hips })
}

/// Warm-up steps; at most a tenth of the training.
const WARM_UP: u64 = 200;
const DECAY: f64 = 0.05;
const TEMPERATURE: f64 = 0.1;
/// Cameras per site.
const CAMERAS: u32 = 3;
/// Random streams for initial weights, distinct from those of batches.
const FIRST_WEIGHTS: u64 = u64::MAX;
const PEOPLE_MAX: u32 = 1024;
const WALKS_MAX: u32 = 16;
const STEPS_MAX: u64 = 10_000_000;

/// Trains the network and returns the weights for a package.
///
/// # Errors
///
/// [`TrainError::BadOptions`], or an error of a checkpoint or of training.
pub fn train(
    options: &GaitTrainingOptions,
    checkpoints: Option<&Checkpoints>,
    progress: &mut dyn FnMut(GaitProgress),
) -> Result<StateDict, TrainError> {
    options.check()?;
    let mut learner = match checkpoints {
        Some(Checkpoints { file, found: ExistingCheckpoint::Resume, .. }) if file.exists() => load(options, file)?,
        _ => {
            let mut random = Random::new(options.seed, FIRST_WEIGHTS);
            GaitLearner::new(&mut || random.normal())?
        }
    };
    while learner.steps() < options.steps {
        let step = learner.steps();
        let (walks, people) = batch(options, step);
        let how = ContrastiveStep { rate: options.rate_at(step), decay: DECAY, temperature: TEMPERATURE };
        let loss = learner.step(&walks, &people, how)?;
        progress(GaitProgress { step: step + 1, steps: options.steps, loss });
        if let Some(Checkpoints { file, every, .. }) = checkpoints
            && ((step + 1) % every.max(&1) == 0 || step + 1 == options.steps)
        {
            save(options, &learner, file)?;
        }
    }
    Ok(learner.weights()?)
}

impl GaitTrainingOptions {
    /// # Errors
    /// [`TrainError::BadOptions`].
    pub fn check(&self) -> Result<(), TrainError> {
        let refuse = |why| Err(TrainError::BadOptions(why));
        if !(1..=STEPS_MAX).contains(&self.steps) {
            return refuse("a training has 1 to 10000000 steps");
        }
        if !(2..=PEOPLE_MAX).contains(&self.people) || !(2..=WALKS_MAX).contains(&self.walks) {
            return refuse("a batch has 2 to 1024 people, and 2 to 16 walks of each");
        }
        if !(self.rate > 0.0 && self.rate <= 1.0) {
            return refuse("the rate must be above 0 and at most 1");
        }
        Ok(())
    }

    fn rate_at(&self, step: u64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52 steps")]
        let share = |part: u64, whole: u64| part as f64 / whole as f64;
        let warm = share(step + 1, (self.steps / 10).clamp(1, WARM_UP)).min(1.0);
        self.rate * warm * f64::midpoint(1.0, (PI * share(step, self.steps)).cos())
    }
}

/// The prepared walks of a step and the person of each.
fn batch(options: &GaitTrainingOptions, step: u64) -> (Vec<f32>, Vec<u32>) {
    let mut random = Random::new(options.seed, step);
    let site = WalkSite::drawn(&mut random, CAMERAS as usize);
    let (mut walks, mut people) = (Vec::new(), Vec::new());
    for number in 0..options.people {
        let person = Walker::drawn(&mut random);
        for _ in 0..options.walks {
            let walk = some_walk(&mut random);
            let mut recorded = site.record(&person, walk, &mut random);
            omit(&mut recorded, &mut random);
            walks.extend(prepared(&recorded));
            people.push(number);
        }
    }
    (walks, people)
}

fn some_walk(random: &mut Random) -> WalkSetup {
    let condition = match random.below(10) {
        0..5 => Condition::Normal,
        5 | 6 => Condition::Bag,
        7 | 8 => Condition::Coat,
        _ => Condition::Phone,
    };
    let direction = if random.chance(0.5) { Direction::Forth } else { Direction::Back };
    WalkSetup { camera: random.below(CAMERAS) as usize, condition, direction, frames: 40 + random.below(45) as usize }
}

/// Prepares a walk for the network.
pub(super) fn prepared(skeleton: &Skeleton) -> Vec<f32> {
    let content = SampleContent::Skeleton(skeleton.clone());
    let mut ready =
        prepare::prepare(&preprocessing(), &content, &SampleLimits::default()).expect("a simulated walk is valid");
    ready.prepared.views.remove(0)
}

/// The options in a checkpoint, beside the learner's state.
fn facts(options: &GaitTrainingOptions) -> [(&'static str, &'static str, u64); 5] {
    [
        ("training.seed", "seed", options.seed),
        ("training.steps", "number of steps", options.steps),
        ("training.people", "number of people", u64::from(options.people)),
        ("training.walks", "number of walks", u64::from(options.walks)),
        ("training.rate", "rate", options.rate.to_bits()),
    ]
}

fn save(options: &GaitTrainingOptions, learner: &GaitLearner, file: &Path) -> Result<(), TrainError> {
    let mut state = learner.state()?;
    for (key, _, number) in facts(options) {
        let number = RawTensor::new(Dtype::I64, vec![], number.to_le_bytes().to_vec()).expect("one number");
        state.insert(key.to_owned(), number)?;
    }
    // Renamed when complete: an interruption leaves the previous checkpoint.
    let unfinished = file.with_extension("unfinished");
    state.write_safetensors(&unfinished)?;
    fs::rename(&unfinished, file).map_err(|source| TrainError::Unwritable { path: file.to_owned(), source })
}

fn load(options: &GaitTrainingOptions, file: &Path) -> Result<GaitLearner, TrainError> {
    let mut state = StateDict::read(file, None)?;
    for (key, what, expected) in facts(options) {
        let bytes = state.remove(key).and_then(|tensor| <[u8; 8]>::try_from(tensor.bytes()).ok());
        let found = u64::from_le_bytes(bytes.unwrap_or_default());
        if found != expected {
            return Err(TrainError::OtherTraining { path: file.to_owned(), what, found, expected });
        }
    }
    GaitLearner::resume(state).map_err(|source| TrainError::BadCheckpoint { path: file.to_owned(), source })
}

#[cfg(test)]
mod tests;

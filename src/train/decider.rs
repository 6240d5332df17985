//! Trains the open-set decider, on simulated galleries only.
//!
//! Each simulated world has its own encoder, site and gallery; the relations of its probes are the training data. The
//! seed determines everything: worlds are drawn in parallel, each from its own random stream, and libtorch trains on
//! one thread.

mod logistic;
pub mod package;
#[cfg(test)]
mod tests;
mod world;

use std::f64::consts::PI;

use rayon::prelude::*;
use serde::Serialize;

use super::{Random, TrainError};
use decision::{
    decider::{BaselineThresholds, Platt},
    relations::{
        GLOBALS, GalleryTrials, ITEM, NEIGHBOURS_MAX, OpenSetTrial, Relations, SUMMARY, SUMMARY_NAMES, Scores,
    },
};
use torch::learn::{AdamWSettings, OpenSetBatch, OpenSetLearner, OpenSetNetwork};
use weights::StateDict;

pub use self::world::WorldSplit;

/// Options of a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DeciderTrainingOptions {
    pub seed: u64,
    /// Number of training worlds, with 48 probes each.
    pub worlds: u32,
    /// Passes over all probes.
    pub epochs: u32,
}

impl Default for DeciderTrainingOptions {
    /// The options of the package in the repository.
    fn default() -> Self {
        Self { seed: 1, worlds: 4000, epochs: 8 }
    }
}

/// Progress of a training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DeciderProgress {
    /// Worlds are drawn.
    Drawn { worlds: u32, of: u32 },
    /// A network is trained.
    Learnt { network: OpenSetNetwork, step: u64, of: u64, loss: f64 },
}

/// The result of a training; [`package::write`] writes a package of it.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainedDecider {
    pub weights: StateDict,
    pub set_transformer: Platt,
    pub perceptron: Platt,
    /// The constant, then one coefficient per summary feature.
    pub logistic: Vec<f64>,
    pub thresholds: BaselineThresholds,
}

const BATCH: usize = 512;
/// Peak learning rate after a short warm-up; it then decays to zero along half a cosine.
const RATE: f64 = 2e-3;
const WARM_UP: u64 = 50;
const DECAY: f64 = 0.01;
/// Calibration worlds: one per eight training worlds.
const HELD_OUT: u32 = 8;
const WORLDS_MAX: u32 = 100_000;
const EPOCHS_MAX: u32 = 1000;
/// Random streams for initial weights and shuffling, distinct from those of worlds.
const FIRST_WEIGHTS: u64 = u64::MAX;
const ORDERS: u64 = u64::MAX - 1000;

impl DeciderTrainingOptions {
    /// # Errors
    /// [`TrainError::BadOptions`].
    pub fn check(&self) -> Result<(), TrainError> {
        if !(16..=WORLDS_MAX).contains(&self.worlds) {
            return Err(TrainError::BadOptions("a training has 16 to 100000 worlds"));
        }
        if !(1..=EPOCHS_MAX).contains(&self.epochs) {
            return Err(TrainError::BadOptions("a training has 1 to 1000 epochs"));
        }
        Ok(())
    }
}

/// The trials of `count` worlds of a split, drawn in parallel.
#[must_use]
pub fn trials(split: WorldSplit, seed: u64, worlds: u32, progress: &(dyn Fn(u32) + Sync)) -> Vec<GalleryTrials> {
    let one = |number: u32| {
        let trials = world::World::drawn(split, seed, number).trials(number);
        progress(1);
        trials
    };
    (0..worlds).into_par_iter().map(one).collect()
}

/// Trains the networks.
///
/// # Errors
///
/// [`TrainError::BadOptions`], or an error of training.
pub fn train(
    options: &DeciderTrainingOptions,
    progress: &(dyn Fn(DeciderProgress) + Sync),
) -> Result<TrainedDecider, TrainError> {
    options.check()?;
    let held_out = options.worlds.div_ceil(HELD_OUT);
    let done = std::sync::atomic::AtomicU32::new(0);
    let count = |one: u32| {
        let worlds = one + done.fetch_add(one, std::sync::atomic::Ordering::Relaxed);
        progress(DeciderProgress::Drawn { worlds, of: options.worlds + held_out });
    };
    let worlds = trials(WorldSplit::Training, options.seed, options.worlds, &count);
    let held_out = trials(WorldSplit::HeldOut, options.seed, held_out, &count);
    let learnt: Vec<&OpenSetTrial> = worlds.iter().flat_map(|world| &world.trials).collect();
    let unseen: Vec<&OpenSetTrial> = held_out.iter().flat_map(|world| &world.trials).collect();
    let mut weights = StateDict::default();
    let mut calibrated = |network| -> Result<Platt, TrainError> {
        let learner = learn(options, network, &learnt, progress)?;
        let platt = calibrate(&learner, &unseen)?;
        weights.join(learner.weights()?)?;
        Ok(platt)
    };
    let (set_transformer, perceptron) =
        (calibrated(OpenSetNetwork::SetTransformer)?, calibrated(OpenSetNetwork::Perceptron)?);
    Ok(TrainedDecider {
        weights,
        set_transformer,
        perceptron,
        logistic: regression(&learnt),
        thresholds: thresholds(&learnt),
    })
}

fn learn(
    options: &DeciderTrainingOptions,
    network: OpenSetNetwork,
    trials: &[&OpenSetTrial],
    progress: &(dyn Fn(DeciderProgress) + Sync),
) -> Result<OpenSetLearner, TrainError> {
    let which = network as u64;
    let mut random = Random::new(options.seed, FIRST_WEIGHTS - which);
    let mut learner = OpenSetLearner::new(network, &mut || random.normal())?;
    let batches = (trials.len() / BATCH).max(1);
    let of = batches as u64 * u64::from(options.epochs);
    let mut order: Vec<usize> = (0..trials.len()).collect();
    let mut random = Random::new(options.seed, ORDERS - which);
    for epoch in 0..u64::from(options.epochs) {
        shuffle(&mut order, &mut random);
        for (number, places) in order.chunks(BATCH).take(batches).enumerate() {
            let step = epoch * batches as u64 + number as u64;
            let mut batch = OpenSetBatch::default();
            for place in places {
                add(&mut batch, trials[*place]);
            }
            let loss = learner.step(&batch, AdamWSettings { rate: rate_at(step, of), decay: DECAY })?;
            progress(DeciderProgress::Learnt { network, step: step + 1, of, loss });
        }
    }
    Ok(learner)
}

fn rate_at(step: u64, of: u64) -> f64 {
    let share = |part: u64, whole: u64| part as f64 / whole as f64;
    let warm = share(step + 1, (of / 10).clamp(1, WARM_UP)).min(1.0);
    RATE * warm * f64::midpoint(1.0, (PI * share(step, of)).cos())
}

fn shuffle(order: &mut [usize], random: &mut Random) {
    for last in (1..order.len()).rev() {
        let below = u32::try_from(last + 1).expect("fewer probes than 2^32");
        order.swap(last, random.below(below) as usize);
    }
}

/// Appends the relations of a probe to a batch.
pub(crate) fn add(batch: &mut OpenSetBatch, trial: &OpenSetTrial) {
    let relations: &Relations = &trial.measurement.relations;
    batch.items.extend(relations.items().as_flattened());
    let absent = NEIGHBOURS_MAX - relations.items().len();
    batch.items.extend(std::iter::repeat_n(0.0, absent * ITEM));
    batch.present.extend(std::iter::repeat_n(1.0, NEIGHBOURS_MAX - absent).chain(std::iter::repeat_n(0.0, absent)));
    batch.globals.extend::<[f32; GLOBALS]>(*relations.globals());
    batch.summaries.extend::<[f32; SUMMARY]>(*relations.summary());
    batch.enrolled.push(f32::from(u8::from(trial.is_enrolled)));
}

fn calibrate(learner: &OpenSetLearner, unseen: &[&OpenSetTrial]) -> Result<Platt, TrainError> {
    let mut logits = Vec::with_capacity(unseen.len());
    for part in unseen.chunks(BATCH) {
        let mut batch = OpenSetBatch::default();
        for trial in part {
            add(&mut batch, trial);
        }
        logits.extend(learner.logits(&batch)?);
    }
    let rows: Vec<[f32; 1]> = logits.into_iter().map(|logit| [logit]).collect();
    let fitted = logistic::fit(&rows, &answers(unseen));
    Ok(Platt { shift: fitted[0], scale: fitted[1] })
}

fn regression(learnt: &[&OpenSetTrial]) -> Vec<f64> {
    let rows: Vec<[f32; SUMMARY]> = learnt.iter().map(|trial| *trial.measurement.relations.summary()).collect();
    let fitted = logistic::fit(&rows, &answers(learnt));
    debug_assert_eq!(fitted.len(), 1 + SUMMARY_NAMES.len());
    fitted
}

fn answers(trials: &[&OpenSetTrial]) -> Vec<bool> {
    trials.iter().map(|trial| trial.is_enrolled).collect()
}

/// The best single threshold of each baseline score over all worlds.
fn thresholds(trials: &[&OpenSetTrial]) -> BaselineThresholds {
    let best = |score: fn(&Scores) -> f32| {
        let mut scored: Vec<(f32, bool)> =
            trials.iter().map(|trial| (score(&trial.measurement.scores), trial.is_enrolled)).collect();
        decision::relations::best_threshold(&mut scored)
    };
    BaselineThresholds {
        cosine: best(|scores| scores.cosine),
        as_norm: best(|scores| scores.as_norm),
        nac: best(|scores| scores.nac),
        margin: best(|scores| scores.margin),
    }
}

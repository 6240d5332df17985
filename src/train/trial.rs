//! Rank-1 accuracy on simulated walkers outside of training, by CASIA-B's protocol.
//!
//! Each person walks ten times past eleven cameras: six normal walks, two with a bag, two in a coat. The gallery is the
//! first four normal walks of one camera, the probes are other walks of another camera; for every pair of different
//! cameras the nearest gallery walk is the answer, and rank-1 is averaged over the pairs.

use std::fmt;

use serde::Serialize;

use super::{
    Random, TrainError, gait,
    walker::{Camera, Condition, Direction, Estimator, WalkSetup, WalkSite, Walker},
};
use domain::{JOINTS, Skeleton};
use encoder::proportions;
use torch::{
    learn::GaitLearner,
    network::{Folding, Network},
};
use weights::StateDict;

/// Size of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrialSize {
    pub people: u32,
    /// Cameras at even angles from the front (0 degrees) to the back (180 degrees).
    pub cameras: usize,
}

impl Default for TrialSize {
    /// The size of CASIA-B.
    fn default() -> Self {
        Self { people: 50, cameras: 11 }
    }
}

/// Rank-1 across views, 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrialRow {
    pub method: &'static str,
    pub normal: f64,
    pub bag: f64,
    pub coat: f64,
}

/// The results of a trial.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GaitTrial {
    pub people: u32,
    pub cameras: usize,
    /// Rank-1 of random guessing.
    pub chance: f64,
    pub rows: Vec<TrialRow>,
}

impl fmt::Display for GaitTrial {
    /// The table for console and model card.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { people, cameras, chance, rows } = self;
        let guess = 100.0 * chance;
        writeln!(
            f,
            "{people} simulated people outside of training, {cameras} cameras, rank-1 across views in % (guessing {guess:.1})"
        )?;
        writeln!(f, "{:22}{:>8}{:>8}{:>8}", "", "normal", "bag", "coat")?;
        for TrialRow { method, normal, bag, coat } in rows {
            let [normal, bag, coat] = [normal, bag, coat].map(|share| 100.0 * share);
            writeln!(f, "{method:22}{normal:>8.1}{bag:>8.1}{coat:>8.1}")?;
        }
        Ok(())
    }
}

/// Random stream of trials, distinct from those of training.
const TRIAL_STREAM: u64 = 1 << 63;
const FRAMES_PER_SECOND: f32 = 25.0;
const GALLERY_WALKS: usize = 4;
const WALKS: [Condition; 10] = [
    Condition::Normal,
    Condition::Normal,
    Condition::Normal,
    Condition::Normal,
    Condition::Normal,
    Condition::Normal,
    Condition::Bag,
    Condition::Bag,
    Condition::Coat,
    Condition::Coat,
];
/// Walks per forward pass.
const BATCH: usize = 64;

/// A walk of the trial.
struct TrialWalk {
    person: u32,
    camera: usize,
    /// Index in [`WALKS`].
    number: usize,
    skeleton: Skeleton,
}

/// Measures a network, its ablations and static proportions on the same persons.
///
/// # Errors
///
/// When the weights do not fit.
pub fn run(weights: &StateDict, seed: u64, size: TrialSize) -> Result<GaitTrial, TrainError> {
    let shown = show(seed, size);
    let network = Network::build(GaitLearner::ARCHITECTURE, weights.clone(), Folding::Folded)?;
    let prepared: Vec<Vec<f32>> = shown.iter().map(|walk| gait::prepared(&walk.skeleton)).collect();
    let mut random = Random::new(seed, TRIAL_STREAM + 1);
    let shuffled = prepared.iter().map(|walk| shuffled(walk, &mut random)).collect::<Vec<_>>();
    let stilled = prepared.iter().map(|walk| stilled(walk)).collect::<Vec<_>>();
    let mut rows = Vec::new();
    for (method, walks) in
        [("trained network", &prepared), ("its frames shuffled", &shuffled), ("its motion removed", &stilled)]
    {
        let embeddings = embed(&network, walks)?;
        rows.push(row(method, &shown, size, &|one, other| dot(&embeddings[one], &embeddings[other])));
    }
    let proportions: Vec<_> = shown.iter().map(|walk| proportions(&walk.skeleton)).collect();
    let near = |one: usize, other: usize| -squared_distance(&proportions[one], &proportions[other]);
    rows.push(row("static proportions", &shown, size, &near));
    Ok(GaitTrial { people: size.people, cameras: size.cameras, chance: 1.0 / f64::from(size.people), rows })
}

fn show(seed: u64, size: TrialSize) -> Vec<TrialWalk> {
    let mut random = Random::new(seed, TRIAL_STREAM);
    let step = 180.0 / (size.cameras.max(2) - 1) as f32;
    let cameras = (0..size.cameras).map(|camera| Camera::level(step * camera as f32)).collect();
    let site = WalkSite { frames_per_second: FRAMES_PER_SECOND, cameras, estimator: Estimator::usual() };
    let mut shown = Vec::new();
    for person in 0..size.people {
        let body = Walker::drawn(&mut random);
        for (number, condition) in WALKS.into_iter().enumerate() {
            for camera in 0..size.cameras {
                let frames = 50 + random.below(40) as usize;
                let walk = WalkSetup { camera, condition, direction: Direction::Forth, frames };
                let skeleton = site.record(&body, walk, &mut random);
                shown.push(TrialWalk { person, camera, number, skeleton });
            }
        }
    }
    shown
}

fn embed(network: &Network, walks: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, TrainError> {
    let mut embeddings = Vec::with_capacity(walks.len());
    for batch in walks.chunks(BATCH) {
        let numbers = network.forward(&batch.concat(), batch.len())?;
        embeddings.extend(numbers.chunks_exact(network.architecture().dimension()).map(unit));
    }
    Ok(embeddings)
}

fn row(
    method: &'static str,
    shown: &[TrialWalk],
    size: TrialSize,
    similarity: &dyn Fn(usize, usize) -> f32,
) -> TrialRow {
    let of = |condition: Condition| {
        let mut shares = Vec::new();
        for probes in 0..size.cameras {
            for gallery in (0..size.cameras).filter(|camera| *camera != probes) {
                shares.push(right_answers(shown, probes, condition, gallery, similarity));
            }
        }
        shares.iter().sum::<f64>() / shares.len() as f64
    };
    TrialRow { method, normal: of(Condition::Normal), bag: of(Condition::Bag), coat: of(Condition::Coat) }
}

/// Rank-1: the share of probes whose nearest gallery walk is of the same person.
fn right_answers(
    shown: &[TrialWalk],
    camera: usize,
    condition: Condition,
    gallery_camera: usize,
    similarity: &dyn Fn(usize, usize) -> f32,
) -> f64 {
    let numbered = |wanted: &dyn Fn(&TrialWalk) -> bool| -> Vec<usize> {
        shown.iter().enumerate().filter(|(_, walk)| wanted(walk)).map(|(at, _)| at).collect()
    };
    let gallery = numbered(&|walk| walk.camera == gallery_camera && walk.number < GALLERY_WALKS);
    let is_probe = |walk: &TrialWalk| walk.number >= GALLERY_WALKS && WALKS[walk.number] == condition;
    let probes = numbered(&|walk| walk.camera == camera && is_probe(walk));
    let right = probes.iter().filter(|probe| {
        let nearest =
            gallery.iter().max_by(|one, other| similarity(**probe, **one).total_cmp(&similarity(**probe, **other)));
        nearest.is_some_and(|nearest| shown[*nearest].person == shown[**probe].person)
    });
    right.count() as f64 / probes.len().max(1) as f64
}

/// The frames in random order: keeps body shape and range of motion.
fn shuffled(walk: &[f32], random: &mut Random) -> Vec<f32> {
    let mut frames: Vec<&[f32]> = walk.chunks_exact(JOINTS * 3).collect();
    for last in (1..frames.len()).rev() {
        let other = random.below(u32::try_from(last + 1).expect("few frames")) as usize;
        frames.swap(last, other);
    }
    frames.concat()
}

/// The mean pose in every frame: keeps body shape only.
fn stilled(walk: &[f32]) -> Vec<f32> {
    let frames: Vec<&[f32]> = walk.chunks_exact(JOINTS * 3).collect();
    let mean: Vec<f32> = (0..JOINTS * 3)
        .map(|number| frames.iter().map(|frame| frame[number]).sum::<f32>() / frames.len() as f32)
        .collect();
    mean.repeat(frames.len())
}

fn unit(numbers: &[f32]) -> Vec<f32> {
    let length = dot(numbers, numbers).sqrt().max(f32::MIN_POSITIVE);
    numbers.iter().map(|number| number / length).collect()
}

fn dot(one: &[f32], other: &[f32]) -> f32 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}

fn squared_distance(one: &[f32], other: &[f32]) -> f32 {
    one.iter().zip(other).map(|(one, other)| (one - other).powi(2)).sum()
}

//! `semblance train`

use std::{fs, path::PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{
    evaluate::{OnDevice, measure},
    open_set::{self, DeciderFlags},
    print,
};
use crate::config::PlaceFlags;
use domain::Device;
use encoder::Package;
use evaluate::{EvaluationSet, Protocol};
use train::{
    gait::{self, Checkpoints, ExistingCheckpoint, GaitProgress, GaitTrainingOptions},
    package,
    trial::{self, TrialSize},
};

#[derive(Debug, Subcommand)]
pub(super) enum TrainCommand {
    /// Train a gait encoder on simulated walkers, test it, and write it as a package.
    Gait(GaitFlags),
    /// Train the open-set decider on simulated galleries, test it, and write it with its model card.
    Decider(DeciderFlags),
}

#[derive(Debug, Args)]
pub(super) struct GaitFlags {
    /// Output folder of the package, for `semblance models install`.
    #[arg(long)]
    out: PathBuf,
    /// Seed of all random draws.
    #[arg(long, default_value_t = GaitTrainingOptions::default().seed)]
    seed: u64,
    /// Training steps: batches.
    #[arg(long, default_value_t = GaitTrainingOptions::default().steps)]
    steps: u64,
    /// Persons per batch.
    #[arg(long, default_value_t = GaitTrainingOptions::default().people)]
    people: u32,
    /// Sequences per person.
    #[arg(long, default_value_t = GaitTrainingOptions::default().walks)]
    walks: u32,
    /// Peak learning rate.
    #[arg(long, default_value_t = GaitTrainingOptions::default().rate)]
    rate: f64,
    /// Checkpoint file.
    #[arg(long)]
    checkpoint: Option<PathBuf>,
    /// Steps between checkpoints.
    #[arg(long, default_value_t = 100, requires = "checkpoint")]
    checkpoint_every: u64,
    /// Continue from the checkpoint, if there is one. The result equals that of an uninterrupted training.
    #[arg(long, requires = "checkpoint")]
    resume: bool,
    /// Simulated persons of the final test.
    #[arg(long, default_value_t = TrialSize::default().people)]
    trial_people: u32,
    /// Folder of PsyMo's skeletons, for a test on real persons. Training never uses them.
    #[arg(long)]
    psymo: Option<PathBuf>,
    /// Folder of PsyMo's gait-energy images, as a baseline.
    #[arg(long, requires = "psymo")]
    silhouettes: Option<PathBuf>,
}

/// The package of the baseline encoder, measured where it is installed.
const BASELINE: &str = "gait-graph";

/// The contents of `report.json`.
#[derive(Debug, Serialize)]
struct TrainingReport {
    command: String,
    #[serde(rename = "plan")]
    options: GaitTrainingOptions,
    model_digest: String,
    simulated: trial::GaitTrial,
    /// On PsyMo: this model, then the baseline where it is installed.
    people: Vec<evaluate::Report>,
}

pub(super) fn run(places: &PlaceFlags, command: TrainCommand) -> anyhow::Result<()> {
    match command {
        TrainCommand::Gait(flags) => train_gait(places, &flags),
        TrainCommand::Decider(flags) => open_set::train(&flags),
    }
}

fn train_gait(places: &PlaceFlags, flags: &GaitFlags) -> anyhow::Result<()> {
    let GaitFlags { seed, steps, people, walks, rate, .. } = *flags;
    let options = GaitTrainingOptions { seed, steps, people, walks, rate };
    options.check()?;
    if !(2..=1000).contains(&flags.trial_people) {
        bail!("--trial-people must be 2 to 1000");
    }
    if flags.out.join("model.toml").exists() {
        bail!("{} already holds a package; choose another folder", flags.out.display());
    }
    fs::create_dir_all(&flags.out).with_context(|| format!("cannot create {}", flags.out.display()))?;
    let weights = gait::train(&options, checkpoints(flags).as_ref(), &mut watch(&options)?)?;
    let simulated = trial::run(&weights, seed, TrialSize { people: flags.trial_people, ..TrialSize::default() })?;
    let package = package::write(&flags.out, &weights, &options)?;
    print(format_args!("{} written to {}\n  digest {}\n", package::NAME, flags.out.display(), package.digest));
    print(&simulated);
    let (command, model_digest) = (package::command(&options), package.digest.to_string());
    let people = on_people(places, flags, package)?;
    people.iter().for_each(print);
    let report = serde_json::to_vec_pretty(&TrainingReport { command, options, model_digest, simulated, people })?;
    let path = flags.out.join("report.json");
    fs::write(&path, report).with_context(|| format!("cannot write {}", path.display()))
}

fn checkpoints(flags: &GaitFlags) -> Option<Checkpoints> {
    let found = if flags.resume { ExistingCheckpoint::Resume } else { ExistingCheckpoint::Overwrite };
    flags.checkpoint.clone().map(|file| Checkpoints { file, every: flags.checkpoint_every, found })
}

/// Shows the progress of the training: a bar, and a log line every 500 steps.
fn watch(options: &GaitTrainingOptions) -> anyhow::Result<impl FnMut(GaitProgress)> {
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {eta} loss {msg}")?;
    let bar = ProgressBar::new(options.steps).with_style(style);
    let mut smooth = None;
    Ok(move |progress: GaitProgress| {
        let loss = smooth.map_or(progress.loss, |before: f64| before + 0.02 * (progress.loss - before));
        smooth = Some(loss);
        bar.set_position(progress.step);
        bar.set_message(format!("{loss:.3}"));
        if progress.step.is_multiple_of(500) {
            tracing::info!(step = progress.step, loss, "training");
        }
        if progress.step == progress.steps {
            bar.finish_and_clear();
        }
    })
}

fn on_people(places: &PlaceFlags, flags: &GaitFlags, package: Package) -> anyhow::Result<Vec<evaluate::Report>> {
    let Some(data) = flags.psymo.clone() else {
        return Ok(Vec::new());
    };
    let set = EvaluationSet { data, silhouettes: flags.silhouettes.clone(), ..EvaluationSet::default() };
    let mut reports = vec![measure(places, OnDevice { package, device: Device::Cpu }, Protocol::Psymo, &set)?];
    let folder = places.models_dir().join(BASELINE);
    if folder.is_dir() {
        let baseline = OnDevice { package: Package::load(&folder)?, device: Device::Cpu };
        reports.push(measure(places, baseline, Protocol::Psymo, &set)?);
    } else {
        tracing::warn!("the baseline {BASELINE} is not installed and not measured");
    }
    Ok(reports)
}

//! `semblance train`

use std::{fs, path::PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{
    evaluate::measure,
    open_set::{self, DeciderFlags},
    say,
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
    /// Teach a gait encoder on simulated walkers, try it, and write it as a package.
    Gait(GaitFlags),
    /// Teach the open-set decider on simulated galleries, try it, and write it with its card.
    Decider(DeciderFlags),
}

#[derive(Debug, Args)]
pub(super) struct GaitFlags {
    /// The folder that becomes the package; `semblance models install` takes it.
    #[arg(long)]
    out: PathBuf,
    /// Everything that is drawn follows from it.
    #[arg(long, default_value_t = GaitTrainingOptions::default().seed)]
    seed: u64,
    /// Batches to learn from.
    #[arg(long, default_value_t = GaitTrainingOptions::default().steps)]
    steps: u64,
    /// People in a batch.
    #[arg(long, default_value_t = GaitTrainingOptions::default().people)]
    people: u32,
    /// Walks of each of them.
    #[arg(long, default_value_t = GaitTrainingOptions::default().walks)]
    walks: u32,
    /// The learning rate at its highest.
    #[arg(long, default_value_t = GaitTrainingOptions::default().rate)]
    rate: f64,
    /// Keep the training in this file while it is under way.
    #[arg(long)]
    checkpoint: Option<PathBuf>,
    /// Steps from one checkpoint to the next.
    #[arg(long, default_value_t = 100, requires = "checkpoint")]
    checkpoint_every: u64,
    /// Go on from the checkpoint where there is one; the result is that of a training without a break.
    #[arg(long, requires = "checkpoint")]
    resume: bool,
    /// Simulated people of the trial at the end.
    #[arg(long, default_value_t = TrialSize::default().people)]
    trial_people: u32,
    /// Measure it on people too, and never learn from them: the folder of PsyMo's skeletons.
    #[arg(long)]
    psymo: Option<PathBuf>,
    /// The folder of PsyMo's gait-energy images, to be measured beside it.
    #[arg(long, requires = "psymo")]
    silhouettes: Option<PathBuf>,
}

/// The package that another gait encoder has where it is installed.
const MEASURED_BESIDE: &str = "gait-graph";

/// What the command writes as `report.json`.
#[derive(Debug, Serialize)]
struct Report {
    command: String,
    #[serde(rename = "plan")]
    options: GaitTrainingOptions,
    model_digest: String,
    simulated: trial::GaitTrial,
    /// On PsyMo: this model, then GaitGraph where it is installed.
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
        bail!("a trial has 2 to 1000 people");
    }
    if flags.out.join("model.toml").exists() {
        bail!("{} holds a package already; name another folder", flags.out.display());
    }
    fs::create_dir_all(&flags.out).with_context(|| format!("cannot make {}", flags.out.display()))?;
    let weights = gait::train(&options, checkpoints(flags).as_ref(), &mut watch(&options)?)?;
    let simulated = trial::run(&weights, seed, TrialSize { people: flags.trial_people, ..TrialSize::default() })?;
    let package = package::write(&flags.out, &weights, &options)?;
    say(format_args!("{} is written to {}\n  digest {}\n", package::NAME, flags.out.display(), package.digest));
    say(&simulated);
    let (command, model_digest) = (package::command(&options), package.digest.to_string());
    let people = on_people(places, flags, package)?;
    people.iter().for_each(say);
    let report = serde_json::to_vec_pretty(&Report { command, options, model_digest, simulated, people })?;
    let path = flags.out.join("report.json");
    fs::write(&path, report).with_context(|| format!("cannot write {}", path.display()))
}

fn checkpoints(flags: &GaitFlags) -> Option<Checkpoints> {
    let found = if flags.resume { ExistingCheckpoint::Resume } else { ExistingCheckpoint::Overwrite };
    flags.checkpoint.clone().map(|file| Checkpoints { file, every: flags.checkpoint_every, found })
}

/// Shows how far the training is: a bar, and a line in the log now and then.
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
            tracing::info!(step = progress.step, loss, "learning");
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
    let mut reports = vec![measure(places, (package, Device::Cpu), Protocol::Psymo, &set)?];
    let folder = places.models_dir().join(MEASURED_BESIDE);
    if folder.is_dir() {
        reports.push(measure(places, (Package::load(&folder)?, Device::Cpu), Protocol::Psymo, &set)?);
    } else {
        tracing::warn!("{MEASURED_BESIDE} is not installed and not measured beside it");
    }
    Ok(reports)
}

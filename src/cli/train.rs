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
use evaluate::{Protocol, Set};
use train::{
    gait::{self, Checkpoints, Found, Plan, Stage},
    package,
    trial::{self, Size},
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
    #[arg(long, default_value_t = Plan::default().seed)]
    seed: u64,
    /// Batches to learn from.
    #[arg(long, default_value_t = Plan::default().steps)]
    steps: u64,
    /// People in a batch.
    #[arg(long, default_value_t = Plan::default().people)]
    people: u32,
    /// Walks of each of them.
    #[arg(long, default_value_t = Plan::default().walks)]
    walks: u32,
    /// The learning rate at its highest.
    #[arg(long, default_value_t = Plan::default().rate)]
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
    #[arg(long, default_value_t = Size::default().people)]
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
    plan: Plan,
    model_digest: String,
    simulated: trial::Trial,
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
    let plan = Plan { seed, steps, people, walks, rate };
    plan.check()?;
    if !(2..=1000).contains(&flags.trial_people) {
        bail!("a trial has 2 to 1000 people");
    }
    if flags.out.join("model.toml").exists() {
        bail!("{} holds a package already; name another folder", flags.out.display());
    }
    fs::create_dir_all(&flags.out).with_context(|| format!("cannot make {}", flags.out.display()))?;
    let weights = gait::train(&plan, checkpoints(flags).as_ref(), &mut watch(&plan)?)?;
    let simulated = trial::run(&weights, seed, Size { people: flags.trial_people, ..Size::default() })?;
    let package = package::write(&flags.out, &weights, &plan)?;
    say(format_args!("{} is written to {}\n  digest {}\n", package::NAME, flags.out.display(), package.digest));
    say(&simulated);
    let (command, model_digest) = (package::command(&plan), package.digest.to_string());
    let people = on_people(places, flags, package)?;
    people.iter().for_each(say);
    let report = serde_json::to_vec_pretty(&Report { command, plan, model_digest, simulated, people })?;
    let path = flags.out.join("report.json");
    fs::write(&path, report).with_context(|| format!("cannot write {}", path.display()))
}

fn checkpoints(flags: &GaitFlags) -> Option<Checkpoints> {
    let found = if flags.resume { Found::Resume } else { Found::Overwrite };
    flags.checkpoint.clone().map(|file| Checkpoints { file, every: flags.checkpoint_every, found })
}

/// Shows how far the training is: a bar, and a line in the log now and then.
fn watch(plan: &Plan) -> anyhow::Result<impl FnMut(Stage)> {
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {eta} loss {msg}")?;
    let bar = ProgressBar::new(plan.steps).with_style(style);
    let mut smooth = None;
    Ok(move |stage: Stage| {
        let loss = smooth.map_or(stage.loss, |before: f64| before + 0.02 * (stage.loss - before));
        smooth = Some(loss);
        bar.set_position(stage.step);
        bar.set_message(format!("{loss:.3}"));
        if stage.step.is_multiple_of(500) {
            tracing::info!(step = stage.step, loss, "learning");
        }
        if stage.step == stage.steps {
            bar.finish_and_clear();
        }
    })
}

fn on_people(places: &PlaceFlags, flags: &GaitFlags, package: Package) -> anyhow::Result<Vec<evaluate::Report>> {
    let Some(data) = flags.psymo.clone() else {
        return Ok(Vec::new());
    };
    let set = Set { data, silhouettes: flags.silhouettes.clone(), ..Set::default() };
    let mut reports = vec![measure(places, (package, Device::Cpu), Protocol::Psymo, &set)?];
    let folder = places.models_dir().join(MEASURED_BESIDE);
    if folder.is_dir() {
        reports.push(measure(places, (Package::load(&folder)?, Device::Cpu), Protocol::Psymo, &set)?);
    } else {
        tracing::warn!("{MEASURED_BESIDE} is not installed and not measured beside it");
    }
    Ok(reports)
}

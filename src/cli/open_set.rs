//! `semblance train decider` and `semblance evaluate --protocol open-set`

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{people_file::PeopleFile, print};
use decision::Decider;
use evaluate::{
    PersonRule,
    open_set::{self, EmbeddingSet, GallerySet, OpenSetReport},
};
use train::decider::{self, DeciderProgress, DeciderTrainingOptions, WorldSplit, package};
use transfer::Format;

#[derive(Debug, Args)]
pub(super) struct DeciderFlags {
    /// Output folder of the package.
    #[arg(long)]
    out: PathBuf,
    /// Seed of all random draws.
    #[arg(long, default_value_t = DeciderTrainingOptions::default().seed)]
    seed: u64,
    /// Simulated galleries for training, of 48 probes each.
    #[arg(long, default_value_t = DeciderTrainingOptions::default().worlds)]
    worlds: u32,
    /// Training epochs: passes over all probes.
    #[arg(long, default_value_t = DeciderTrainingOptions::default().epochs)]
    epochs: u32,
    /// Simulated galleries of each kind for the test.
    #[arg(long, default_value_t = 500)]
    trial_worlds: u32,
}

/// The settings of the open-set protocol.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenSetFlags<'f> {
    /// Files of embeddings.
    pub(super) embeddings: &'f [PathBuf],
    /// One file of names per .npy.
    pub(super) names: &'f [PathBuf],
    /// The rule from a name to its person.
    pub(super) person: Option<&'f PersonRule>,
    /// Simulated galleries of each kind. From each file, 60 galleries are drawn.
    pub(super) trial_worlds: u32,
    /// Seed of all random draws. Test galleries differ from the training galleries of the same seed.
    pub(super) seed: u64,
}

/// Galleries drawn from each file.
const REAL_GALLERIES: u32 = 60;

/// The contents of `report.json`.
#[derive(Debug, Serialize)]
struct DeciderTrainingReport {
    command: String,
    #[serde(rename = "plan")]
    options: DeciderTrainingOptions,
    simulated: OpenSetReport,
}

pub(super) fn train(flags: &DeciderFlags) -> anyhow::Result<()> {
    let DeciderFlags { seed, worlds, epochs, trial_worlds, .. } = *flags;
    let options = DeciderTrainingOptions { seed, worlds, epochs };
    options.check()?;
    check_trial_worlds(trial_worlds)?;
    if flags.out.join("model.toml").exists() {
        bail!("{} already holds a package; choose another folder", flags.out.display());
    }
    fs::create_dir_all(&flags.out).with_context(|| format!("cannot create {}", flags.out.display()))?;
    let made = decider::train(&options, &watch()?)?;
    let trained = package::write(&flags.out, &made, &options)?;
    let simulated = open_set::measure(&trained, &simulated(seed, trial_worlds));
    package::write_card(&flags.out, &options, &simulated.tables())?;
    print(format_args!("{} written to {}\n\n{simulated}", package::NAME, flags.out.display()));
    write_json(
        &flags.out.join("report.json"),
        &DeciderTrainingReport { command: package::command(&options), options, simulated },
    )
}

pub(super) fn evaluate(flags: &OpenSetFlags<'_>, json: Option<&Path>) -> anyhow::Result<()> {
    check_trial_worlds(flags.trial_worlds)?;
    let mut sets = simulated(flags.seed, flags.trial_worlds);
    let mut names = flags.names.iter();
    for file in flags.embeddings {
        let is_npy = Format::of(file)? == Format::Npy;
        let people = PeopleFile::read(file, is_npy.then(|| names.next()).flatten(), None)?;
        let known = flags.person.unwrap_or(&PersonRule::Same).known(&people.names)?;
        let set = EmbeddingSet {
            name: file.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned()),
            embeddings: people.embeddings.iter().map(|embedding| embedding.values().to_vec()).collect(),
            people: known.into_iter().map(|known| known.person).collect(),
        };
        let drawn = open_set::galleries(&set, REAL_GALLERIES, flags.seed);
        sets.push(drawn.with_context(|| {
            format!("{} holds too few persons: it needs about 50, 40 of them with two samples or more", file.display())
        })?);
    }
    let report = open_set::measure(Decider::shipped(), &sets);
    if let Some(path) = json {
        write_json(path, &report)?;
    }
    print(report);
    Ok(())
}

fn check_trial_worlds(count: u32) -> anyhow::Result<()> {
    if (1..=100_000).contains(&count) { Ok(()) } else { bail!("--trial-worlds must be 1 to 100000") }
}

/// Galleries from the training distribution, and from a shifted one.
fn simulated(seed: u64, worlds: u32) -> Vec<GallerySet> {
    [(WorldSplit::Test, "simulated test worlds"), (WorldSplit::Shifted, "simulated shifted worlds")]
        .into_iter()
        .map(|(split, name)| GallerySet {
            name: name.to_owned(),
            resampled_by: "world",
            galleries: decider::trials(split, seed, worlds, &|_| ()),
        })
        .collect()
}

fn write_json(path: &Path, report: &impl Serialize) -> anyhow::Result<()> {
    fs::write(path, serde_json::to_vec_pretty(report)?).with_context(|| format!("cannot write {}", path.display()))
}

/// Shows the progress of the training.
fn watch() -> anyhow::Result<impl Fn(DeciderProgress) + Sync> {
    let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} {eta} {msg}")?);
    bar.enable_steady_tick(Duration::from_secs(1));
    let smooth = Mutex::new(None);
    Ok(move |stage: DeciderProgress| match stage {
        DeciderProgress::Drawn { worlds, of } => {
            bar.set_length(of.into());
            bar.set_message("worlds drawn");
            bar.set_position(worlds.into());
        }
        DeciderProgress::Learnt { network, step, of, loss } => {
            let mut smooth = smooth.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let loss = smooth.map_or(loss, |before: f64| before + 0.02 * (loss - before));
            *smooth = Some(loss);
            bar.set_length(of);
            bar.set_message(format!("{network:?} loss {loss:.3}"));
            bar.set_position(step);
            if step.is_multiple_of(500) {
                tracing::info!(?network, step, loss, "training");
            }
        }
    })
}

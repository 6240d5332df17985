//! `semblance models`

use std::path::Path;

use anyhow::{Context, bail};
use clap::Subcommand;
use tracing::warn;

use super::say;
use crate::config::PlaceFlags;
use encoder::{
    Catalogue, FileHash, Manifest,
    fetch::{self, FetchOptions, InstallOutcome, InstalledPackage, PackageSource, ProgressBars},
};

#[derive(Debug, Subcommand)]
pub(super) enum ModelsCommand {
    /// What is installed, and what the catalogue offers.
    List,
    /// Fetch a package of the catalogue, check it and install it.
    Pull {
        /// Its name in the catalogue.
        name: String,
    },
    /// Install a package of your own: a folder, a zip archive, or an https address of one. One of TorchScript holds a
    /// program that runs within the server: install it only if you trust whoever made it.
    Install {
        source: String,
        /// What the file at the address must hash to.
        #[arg(long)]
        sha256: Option<FileHash>,
    },
    /// Check every installed package: its sha256, its shapes, that its network can be built.
    Verify,
}

pub(super) fn run(places: &PlaceFlags, command: ModelsCommand) -> anyhow::Result<()> {
    let options = options(places);
    match command {
        ModelsCommand::List => list(&options.models_dir),
        ModelsCommand::Pull { name } => {
            report(&fetch::pull(&Catalogue::built_in(), &name, &options, &ProgressBars::default())?);
            Ok(())
        }
        ModelsCommand::Install { source, sha256 } => {
            let source = PackageSource::parse(&source, sha256)?;
            report(&fetch::install(&source, &options, &ProgressBars::default())?);
            Ok(())
        }
        ModelsCommand::Verify => verify(&options.models_dir),
    }
}

/// Gets the starter packages when the models folder has none. What cannot be got is said, and no reason not to serve:
/// embeddings need no model.
pub(super) fn pull_starters_if_none(places: &PlaceFlags) {
    let options = options(places);
    // A folder that cannot be read is told by the start itself, which reads it next.
    if !fetch::is_empty(&options.models_dir).unwrap_or(false) {
        return;
    }
    let catalogue = Catalogue::built_in();
    for entry in catalogue.starters() {
        let name = entry.manifest.id.as_str();
        if let Err(error) = fetch::pull(&catalogue, name, &options, &ProgressBars::default()) {
            warn!(
                model = name,
                "not installed: {:#}; get it later with: semblance models pull {name}",
                anyhow::Error::new(error)
            );
        }
    }
}

fn options(places: &PlaceFlags) -> FetchOptions {
    FetchOptions::new(places.models_dir(), places.model_mirror.clone())
}

fn report(installed: &InstalledPackage) {
    let outcome = match installed.outcome {
        InstallOutcome::New => "is installed",
        InstallOutcome::Replaced => "is installed anew",
        InstallOutcome::AlreadyInstalled => "was installed already",
    };
    say(format_args!("{} {outcome} in {}\n  digest {}", installed.id, installed.folder.display(), installed.digest));
}

fn list(models_dir: &Path) -> anyhow::Result<()> {
    let installed = fetch::verify(models_dir)?;
    say(format_args!("installed in {}:", models_dir.display()));
    for verified in &installed {
        match &verified.outcome {
            Ok(package) => {
                let manifest = &package.manifest;
                say(format_args!(
                    "  {}   licence: {}\n    digest      {}\n    provenance  {}\n    meant for   {}\n    not for     {}",
                    headline(manifest),
                    manifest.licence,
                    package.digest,
                    manifest.provenance,
                    manifest.intended_use,
                    manifest.not_for
                ));
            }
            Err(error) => say(format_args!("  {} is broken: {error}", verified.folder.display())),
        }
    }
    if installed.is_empty() {
        say("  none");
    }
    say("in the catalogue (semblance models pull NAME):");
    for entry in Catalogue::built_in().entries() {
        let manifest = &entry.manifest;
        let starter = if entry.starter { "starter" } else { "" };
        say(format_args!(
            "  {} {:>5.1} MB {starter:<8} licence: {}",
            headline(manifest),
            entry.origin.bytes() as f64 / 1e6,
            manifest.licence
        ));
    }
    Ok(())
}

/// Name, modality, task and architecture in columns.
fn headline(manifest: &Manifest) -> String {
    let Manifest { id, modality, kind, .. } = manifest;
    format!("{:<28} {modality:<7} {:<9} {:<24}", id.as_str(), kind.task().as_str(), kind.architecture())
}

fn verify(models_dir: &Path) -> anyhow::Result<()> {
    let verified = fetch::verify(models_dir).context("the models folder cannot be read")?;
    let mut broken = 0;
    for one in &verified {
        match &one.outcome {
            Ok(package) => say(format_args!("{} is whole: {}", package.manifest.id, package.digest)),
            Err(error) => {
                broken += 1;
                say(format_args!("{} is broken: {error}", one.folder.display()));
            }
        }
    }
    if broken > 0 {
        bail!("{broken} of {} packages are broken; install them again", verified.len());
    }
    Ok(())
}

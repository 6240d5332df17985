//! `semblance models`

use std::path::Path;

use anyhow::{Context, bail};
use clap::Subcommand;
use tracing::warn;

use super::print;
use crate::config::PlaceFlags;
use encoder::{
    Catalogue, FileHash, Manifest,
    fetch::{self, FetchOptions, InstallOutcome, InstalledPackage, PackageSource, ProgressBars},
};

#[derive(Debug, Subcommand)]
pub(super) enum ModelsCommand {
    /// List the installed packages and the catalogue.
    List,
    /// Download a package of the catalogue, verify it and install it.
    Pull {
        /// Name in the catalogue.
        name: String,
    },
    /// Install a package of your own. A TorchScript package holds a program that runs inside the server: install it only
    /// from a trusted source.
    Install {
        /// Folder, zip archive, or https URL of a zip archive.
        source: String,
        /// Expected sha256 of the file at the URL.
        #[arg(long)]
        sha256: Option<FileHash>,
    },
    /// Verify every installed package: sha256, tensor shapes, and that its network can be built.
    Verify,
}

pub(super) fn run(places: &PlaceFlags, command: ModelsCommand) -> anyhow::Result<()> {
    let options = options(places);
    match command {
        ModelsCommand::List => list(&options.models_dir),
        ModelsCommand::Pull { name } => {
            print_installed(&fetch::pull(&Catalogue::built_in(), &name, &options, &ProgressBars::default())?);
            Ok(())
        }
        ModelsCommand::Install { source, sha256 } => {
            let source = PackageSource::parse(&source, sha256)?;
            print_installed(&fetch::install(&source, &options, &ProgressBars::default())?);
            Ok(())
        }
        ModelsCommand::Verify => verify(&options.models_dir),
    }
}

/// Downloads the starter packages when the models folder is empty. A failure is a warning: embeddings need no model.
pub(super) fn pull_starters_if_none(places: &PlaceFlags) {
    let options = options(places);
    // The start of the server reads the folder next and reports a folder that cannot be read.
    if !fetch::is_empty(&options.models_dir).unwrap_or(false) {
        return;
    }
    let catalogue = Catalogue::built_in();
    for entry in catalogue.starters() {
        let name = entry.manifest.id.as_str();
        if let Err(error) = fetch::pull(&catalogue, name, &options, &ProgressBars::default()) {
            warn!(
                model = name,
                "not installed: {:#}; install it later with: semblance models pull {name}",
                anyhow::Error::new(error)
            );
        }
    }
}

fn options(places: &PlaceFlags) -> FetchOptions {
    FetchOptions::new(places.models_dir(), places.model_mirror.clone())
}

fn print_installed(installed: &InstalledPackage) {
    let outcome = match installed.outcome {
        InstallOutcome::New => "is installed",
        InstallOutcome::Replaced => "is replaced",
        InstallOutcome::AlreadyInstalled => "was installed already",
    };
    print(format_args!("{} {outcome} in {}\n  digest {}", installed.id, installed.folder.display(), installed.digest));
}

fn list(models_dir: &Path) -> anyhow::Result<()> {
    let installed = fetch::verify(models_dir)?;
    print(format_args!("installed in {}:", models_dir.display()));
    for verified in &installed {
        match &verified.outcome {
            Ok(package) => {
                let manifest = &package.manifest;
                print(format_args!(
                    "  {}   licence: {}\n    digest        {}\n    provenance    {}\n    intended for  {}\n    not for       {}",
                    headline(manifest),
                    manifest.licence,
                    package.digest,
                    manifest.provenance,
                    manifest.intended_use,
                    manifest.not_for
                ));
            }
            Err(error) => print(format_args!("  {} is broken: {error}", verified.folder.display())),
        }
    }
    if installed.is_empty() {
        print("  none");
    }
    print("in the catalogue (semblance models pull NAME):");
    for entry in Catalogue::built_in().entries() {
        let manifest = &entry.manifest;
        let starter = if entry.starter { "starter" } else { "" };
        print(format_args!(
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
            Ok(package) => print(format_args!("{} is intact: {}", package.manifest.id, package.digest)),
            Err(error) => {
                broken += 1;
                print(format_args!("{} is broken: {error}", one.folder.display()));
            }
        }
    }
    if broken > 0 {
        bail!("{broken} of {} packages are broken; install them again", verified.len());
    }
    Ok(())
}

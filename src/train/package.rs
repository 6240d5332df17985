//! Writes the result of a gait training as a model package.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use super::{TrainError, gait::GaitTrainingOptions};
use encoder::{FileHash, Package};
use weights::StateDict;

/// Name of the package, its folder and its embedding space.
pub const NAME: &str = "gait-walker";

/// Writes the package into `folder`, loads it as the server does, and checks its network.
///
/// # Errors
///
/// When a file cannot be written or the package does not load.
pub fn write(folder: &Path, weights: &StateDict, options: &GaitTrainingOptions) -> Result<Package, TrainError> {
    let file = folder.join("weights.safetensors");
    weights.write_safetensors(&file)?;
    let sha256 = FileHash::of(&read(&file)?);
    let path = folder.join("model.toml");
    fs::write(&path, manifest(options, sha256)).map_err(|source| TrainError::Unwritable { path, source })?;
    let package = Package::load(folder)?;
    package.check_network()?;
    Ok(package)
}

fn read(path: &Path) -> Result<Vec<u8>, TrainError> {
    fs::read(path).map_err(|source| TrainError::Unreadable { path: PathBuf::from(path), source })
}

fn manifest(options: &GaitTrainingOptions, sha256: FileHash) -> String {
    let command = command(options);
    let mut text = String::new();
    let written = write!(
        text,
        r#"id = "{NAME}"
version = "2"
modality = "gait"
task = "encoder"
architecture = "gait-tcn-60"
dimension = 128
metric = "cosine"
licence = "Apache-2.0"
provenance = "Trained by `{command}` on simulated walkers; never on people."
source = "models/{NAME} of this repository"
intended_use = "Trying out the path of walks through the server; at most one piece of evidence beside others."
not_for = "Any decision about anybody by itself: it never saw a living person while it learnt, and among ten people on real video it errs often. Its card says how often."

[weights]
file = "weights.safetensors"
sha256 = "{sha256}"

[preprocessing]
kind = "skeleton"
frames = 60
body_height_px = 110.0
centre = "hips"
"#
    );
    written.expect("a string takes everything");
    text
}

/// The command that reproduces these weights.
#[must_use]
pub fn command(options: &GaitTrainingOptions) -> String {
    let GaitTrainingOptions { seed, steps, people, walks, rate } = options;
    format!("semblance train gait --seed {seed} --steps {steps} --people {people} --walks {walks} --rate {rate}")
}

#[cfg(test)]
mod tests;

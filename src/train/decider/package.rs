//! Writes the result of a decider training: weights, a readable manifest, and a model card.

use std::{fs, path::Path};

use super::{DeciderTrainingOptions, TrainedDecider};
use crate::TrainError;
use decision::{
    Decider,
    decider::{Coefficients, DeciderManifest},
    relations::SUMMARY_NAMES,
};

/// Name of the package and its folder.
pub const NAME: &str = "open-set-decider";

const HEAD: &str = "# Is a probe enrolled? Networks and coefficients of our own, made by simulation alone and never from people; README.md
# beside this file says what they are fit for. Licence: Apache-2.0. The logistic terms are log-odds for each unit of what is
# named; the networks' weights are in weights.safetensors.

";

/// Writes weights and manifest into `folder`, and loads them as the server does.
///
/// # Errors
///
/// When a file cannot be written or the result does not load.
pub fn write(folder: &Path, made: &TrainedDecider, options: &DeciderTrainingOptions) -> Result<Decider, TrainError> {
    let facts = DeciderManifest {
        id: NAME.to_owned(),
        version: "1".to_owned(),
        provenance: format!("Trained by `{}` on simulated galleries; never on people.", command(options)),
        set_transformer: made.set_transformer,
        perceptron: made.perceptron,
        thresholds: made.thresholds,
        logistic: Coefficients {
            constant: made.logistic[0],
            terms: SUMMARY_NAMES.into_iter().map(str::to_owned).zip(made.logistic[1..].iter().copied()).collect(),
        },
    };
    let manifest = format!("{HEAD}{}", toml::to_string(&facts)?);
    let file = folder.join("weights.safetensors");
    made.weights.write_safetensors(&file)?;
    put(&folder.join("model.toml"), &manifest)?;
    let weights = fs::read(&file).map_err(|source| TrainError::Unreadable { path: file, source })?;
    Ok(Decider::from_package(&manifest, &weights)?)
}

/// Writes the model card with the measured tables.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write_card(folder: &Path, options: &DeciderTrainingOptions, tables: &str) -> Result<(), TrainError> {
    let command = command(options);
    let card = CARD.replace("{command}", &command).replace("{tables}", tables.trim_end());
    put(&folder.join("README.md"), &card)
}

fn put(path: &Path, text: &str) -> Result<(), TrainError> {
    fs::write(path, text).map_err(|source| TrainError::Unwritable { path: path.to_owned(), source })
}

/// The command that reproduces these weights.
#[must_use]
pub fn command(options: &DeciderTrainingOptions) -> String {
    let DeciderTrainingOptions { seed, worlds, epochs } = options;
    format!("semblance train decider --seed {seed} --worlds {worlds} --epochs {epochs}")
}

const CARD: &str = include_str!("card.md");

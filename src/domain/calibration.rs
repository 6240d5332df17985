//! Trials that calibrations are made from.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Similarity;

/// Cosine from which two embeddings count as made from one image. Trials leave such pairs out: between two identities
/// they would raise the non-mated similarities, within one identity the mated ones. An outsider whose picture is
/// enrolled is left out too.
pub const SAME_IMAGE: f32 = 0.999;

/// The trials of a gallery against itself. Thresholds follow from them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rehearsal {
    /// Number of identities in the gallery.
    pub identities: u64,
    /// Number of templates in the gallery.
    pub templates: u64,
    /// Non-mated 1:N trials: the highest similarity of a template to any *other* identity.
    pub nonmated_best: Vec<Similarity>,
    /// Impostor 1:1 trials: the similarity of a template, or of an outsider, to a random identity of another person, as in
    /// a verification. The first ones are one per probe.
    pub impostor: Vec<Similarity>,
    /// Number of independent impostor trials that tell as much: trials with a person in common are not independent.
    pub impostor_independent: f64,
    /// Mated trials: the highest similarity of a template to the other templates of its identity.
    pub mated_best: Vec<Similarity>,
    /// Trials from the verdicts of reviewers, not from the gallery.
    pub reviewed: ReviewedSimilarities,
}

/// Trials of a gallery against itself with the open-set decider: natural log-odds that the probe is enrolled, at equal
/// priors.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PosteriorTrials {
    /// Number of identities in the gallery.
    pub identities: u64,
    /// Non-mated trials: a template against the gallery without its identity.
    pub nonmated: Vec<f32>,
    /// Mated trials: a template against the gallery without it.
    pub mated: Vec<MatedLogit>,
    /// Made-up mated trials: a template against the gallery without its identity, in which another identity is as similar
    /// to it as a genuine pair of the encoder. Empty without genuine similarities.
    pub made_up: Vec<MatedLogit>,
    /// People who are not enrolled against the gallery, in a stored calibration with outsiders.
    pub outsiders: Vec<f32>,
}

impl PosteriorTrials {
    /// Whether there is no trial of any kind, as in calibrations from before these trials.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nonmated.is_empty() && self.mated.is_empty() && self.made_up.is_empty() && self.outsiders.is_empty()
    }
}

/// A mated trial of the open-set decider.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MatedLogit {
    /// Natural log-odds that the probe is enrolled.
    pub logit: f32,
    /// Similarity of the probe's identity minus the highest of another identity: negative if the best candidate is wrong.
    pub margin: f32,
}

/// Similarities of the best candidates of review cases, by verdict.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReviewedSimilarities {
    /// The candidate was the person.
    pub right: Vec<Similarity>,
    /// The candidate was another person, or the person was not enrolled.
    pub wrong: Vec<Similarity>,
}

/// Error rates of a model by similarity, measured by the author of the model package. Used while a gallery is too small
/// for trials of its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageCalibration {
    /// The data set of the measurement, in a sentence.
    pub measured_on: String,
    /// Number of genuine pairs.
    pub genuine_pairs: u64,
    /// Number of impostor pairs.
    pub impostor_pairs: u64,
    /// Rows of (FMR, similarity): the share of impostor pairs with at least this similarity. FMR falls, similarity
    /// rises.
    pub impostor: Vec<(f64, f32)>,
    /// Rows of (FNMR, similarity): the share of genuine pairs below this similarity. FNMR falls, similarity falls.
    pub genuine: Vec<(f64, f32)>,
    /// Samples unlike those of the measurement, which the model cannot tell apart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub atypical: Vec<AtypicalDirection>,
}

/// A direction of the embedding space that samples of one fault share, such as faces squeezed in width: whoever they
/// show, they resemble each other. It is the mean embedding of such samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AtypicalDirection {
    /// The samples, in a few words.
    pub what: String,
    /// The cosine to the direction that hardly any sample of the measurement exceeds.
    pub similarity_max: f32,
    /// One number per dimension, of any length.
    pub direction: Vec<f32>,
}

/// Why the calibration of a package is invalid.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum PackageCalibrationError {
    #[error("the {0} quantiles of the calibration need at least two rows")]
    TooFewRows(&'static str),
    #[error("row {row} of the {table} quantiles is not (rate between 0 and 1, similarity between -1 and 1)")]
    BadRow { table: &'static str, row: usize },
    #[error("the {table} quantiles must be ordered: row {row} is not")]
    Unordered { table: &'static str, row: usize },
    #[error(
        "an atypical direction of the calibration needs a similarity_max above 0 and below 1, and finite numbers that are not all zero"
    )]
    BadDirection,
}

/// Rates of the quantiles of a measured calibration.
const IMPOSTOR_RATES: [f64; 10] = [0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6];
const GENUINE_RATES: [f64; 8] = [0.5, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 5e-3];

impl PackageCalibration {
    /// From the similarities of genuine and impostor pairs: the quantiles that at least one pair shows.
    ///
    /// # Errors
    /// As [`PackageCalibration::checked`]; there are too few rows with fewer than 30 impostor or 5 genuine pairs.
    pub fn measured(
        measured_on: &str,
        mut genuine: Vec<f32>,
        mut impostor: Vec<f32>,
    ) -> Result<Self, PackageCalibrationError> {
        genuine.sort_by(f32::total_cmp);
        impostor.sort_by(|one, other| other.total_cmp(one));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
        let quantiles = |values: &[f32], rates: &[f64]| -> Vec<(f64, f32)> {
            let place = |rate: &f64| (rate * values.len() as f64) as usize;
            rates.iter().filter(|rate| place(rate) > 0).map(|rate| (*rate, values[place(rate)])).collect()
        };
        Self {
            measured_on: measured_on.to_owned(),
            genuine_pairs: genuine.len() as u64,
            impostor_pairs: impostor.len() as u64,
            impostor: quantiles(&impostor, &IMPOSTOR_RATES),
            genuine: quantiles(&genuine, &GENUINE_RATES),
            atypical: Vec::new(),
        }
        .checked()
    }

    /// # Errors
    /// When a table has fewer than two rows, or a row is out of range or out of order.
    pub fn checked(self) -> Result<Self, PackageCalibrationError> {
        for (table, rows, rising) in [("impostor", &self.impostor, true), ("genuine", &self.genuine, false)] {
            if rows.len() < 2 {
                return Err(PackageCalibrationError::TooFewRows(table));
            }
            for (row, (rate, similarity)) in rows.iter().enumerate() {
                if !(*rate > 0.0 && *rate < 1.0 && similarity.abs() <= 1.0) {
                    return Err(PackageCalibrationError::BadRow { table, row });
                }
                let Some((before_rate, before_similarity)) = row.checked_sub(1).map(|before| rows[before]) else {
                    continue;
                };
                let ordered = *rate < before_rate
                    && if rising { *similarity >= before_similarity } else { *similarity <= before_similarity };
                if !ordered {
                    return Err(PackageCalibrationError::Unordered { table, row });
                }
            }
        }
        if self.atypical.iter().all(AtypicalDirection::is_sound) {
            Ok(self)
        } else {
            Err(PackageCalibrationError::BadDirection)
        }
    }

    /// The highest cosine of an embedding of unit length to a direction of atypical samples, divided by the limit of that
    /// direction; `None` where the package knows no such direction. Above 1, the sample is unlike those of the measurement.
    #[must_use]
    pub fn atypicality(&self, embedding: &[f32]) -> Option<f32> {
        self.atypical.iter().map(|of| of.cosine(embedding).max(0.0) / of.similarity_max).reduce(f32::max)
    }
}

impl AtypicalDirection {
    fn is_sound(&self) -> bool {
        let is_limit = self.similarity_max > 0.0 && self.similarity_max < 1.0;
        is_limit && self.direction.iter().all(|number| number.is_finite()) && self.length() > 0.0
    }

    fn length(&self) -> f32 {
        self.direction.iter().map(|number| number * number).sum::<f32>().sqrt()
    }

    fn cosine(&self, embedding: &[f32]) -> f32 {
        let product: f32 = self.direction.iter().zip(embedding).map(|(one, other)| one * other).sum();
        product / self.length()
    }
}

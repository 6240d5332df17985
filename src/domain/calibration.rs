//! What calibrations are made from.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Similarity;

/// From here on two samples were made from one image. Enrolled under two names they would make strangers look like one
/// person, under one name they would make a person look more like himself than he does: such pairs are left out of trials,
/// and so is an outsider whose picture is enrolled.
pub const SAME_IMAGE: f32 = 0.999;

/// What a gallery learns by trying its own templates against itself: the trials, not yet the thresholds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rehearsal {
    /// How many identities the gallery held.
    pub identities: u64,
    /// How many templates it held.
    pub templates: u64,
    /// Non-mated 1:N trials: a template's highest similarity to any *other* identity.
    pub nonmated_best: Vec<Similarity>,
    /// Impostor 1:1 trials: a template against another identity that was drawn at random, as a verification compares them.
    pub impostor: Vec<Similarity>,
    /// Mated trials: a template's highest similarity to the other templates of its own identity.
    pub mated_best: Vec<Similarity>,
    /// What reviewers said meanwhile; no trial of the gallery's own.
    pub reviewed: Reviewed,
}

/// How similar the best candidates of review cases were, by what their verdicts said of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reviewed {
    /// It was the person.
    pub right: Vec<Similarity>,
    /// It was another, or the person was not enrolled.
    pub wrong: Vec<Similarity>,
}

/// What a model package knows of its similarities, measured once by whoever made the package. It serves while a
/// gallery is too small to rehearse.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageCalibration {
    /// On what the quantiles were measured, in a sentence.
    pub measured_on: String,
    /// How many genuine pairs there were.
    pub genuine_pairs: u64,
    /// How many impostor pairs there were.
    pub impostor_pairs: u64,
    /// (FMR, similarity): this share of impostor pairs is at least this similar. FMR falls, similarity rises.
    pub impostor: Vec<(f64, f32)>,
    /// (FNMR, similarity): this share of genuine pairs is less similar. FNMR falls, similarity falls.
    pub genuine: Vec<(f64, f32)>,
}

/// Why a package's calibration cannot be used.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum PackageCalibrationError {
    #[error("the {0} quantiles of the calibration need at least two rows")]
    TooFewRows(&'static str),
    #[error("row {row} of the {table} quantiles is not (rate between 0 and 1, similarity between -1 and 1)")]
    BadRow { table: &'static str, row: usize },
    #[error("the {table} quantiles must be ordered: row {row} is not")]
    Unordered { table: &'static str, row: usize },
}

impl PackageCalibration {
    /// # Errors
    /// When a table is short, out of range or out of order.
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
        Ok(self)
    }
}

//! Protocols that any labelled set can be measured by. Samples that could not be encoded stay in: they are like nobody.

mod closed_set;
mod open_set_identification;
mod verification;

use serde::Serialize;

use super::{
    EvaluateError,
    labelled::Labelled,
    report::{Results, Slice},
};

/// How a labelled set is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trials {
    /// Every pair.
    Verification,
    /// Every sample against all others, where its person has others.
    ClosedSet,
    /// Some people are enrolled with one sample; their other samples and all other people search.
    OpenSetIdentification,
}

/// What may be chosen with any of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Samples of one person that share the value of this label are not compared: another camera, another day.
    pub across: Option<String>,
    /// Results are told by the values of these labels, too.
    pub slices: Vec<String>,
    /// Draws who is enrolled, pairs where there are too many, and people for intervals.
    pub seed: u64,
    /// Of those people who have two samples or more, this share is enrolled.
    pub enrolled_share: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self { across: None, slices: Vec::new(), seed: 1, enrolled_share: 0.5 }
    }
}

/// Results with those of their slices, and what is to be said of them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told {
    pub(super) results: Results,
    pub(super) slices: Vec<Slice>,
    pub(super) notes: Vec<String>,
}

/// # Errors
/// [`EvaluateError::Unusable`] when the set has no trial of some kind, or nobody has a label that is asked for.
pub(super) fn measure(set: &Labelled, trials: Trials, options: &Options) -> Result<Told, EvaluateError> {
    if let Some(label) = &options.across {
        set.values_of(label)?;
    }
    match trials {
        Trials::Verification => verification::measure(set, options),
        Trials::ClosedSet => closed_set::measure(set, options),
        Trials::OpenSetIdentification => open_set_identification::measure(set, options),
    }
}

/// Whether two samples are compared, as far as [`Options::across`] says it.
fn compares(set: &Labelled, across: Option<&str>, one: usize, other: usize) -> bool {
    let Some(label) = across else { return true };
    let shares = |value: Option<&str>| value.is_some() && value == set.label(other, label);
    set.person(one) != set.person(other) || !shares(set.label(one, label))
}

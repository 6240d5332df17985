//! Protocols for any labelled set. Samples that could not be encoded stay in the set and have the lowest similarity to
//! all others.

mod closed_set;
mod open_set_identification;
mod pairwise;
mod stream;
mod verification;

pub use stream::{Baseline, Moment, Stream, StreamOptions};

use std::str::FromStr;

use serde::Serialize;
use thiserror::Error;

use super::{
    EvaluateError,
    labelled::Labelled,
    report::{Results, Slice},
};

/// A protocol for labelled sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LabelledProtocol {
    /// All pairs.
    Verification,
    /// Every sample against all others if its person has others, or probes against a gallery.
    ClosedSet,
    /// Each value of a label against each other value, such as viewpoints.
    Pairwise,
    /// Some persons are enrolled with one sample; their other samples and all other persons are probes.
    OpenSetIdentification,
    /// Sightings in random order into an empty collection that enrolls new persons.
    Stream,
}

/// Options of the protocols.
#[derive(Debug, Clone, PartialEq)]
pub struct ProtocolOptions {
    /// Samples of one person with the same value of one of these labels are not compared: another camera, other
    /// clothes.
    pub across: Vec<String>,
    /// Samples of one person are compared only if they have the same value of this label: the same clothes.
    pub within: Option<String>,
    /// The probes, closed-set and pairwise; all samples when absent.
    pub probes: Option<SampleFilter>,
    /// The gallery of the same protocols; all samples when absent.
    pub gallery: Option<SampleFilter>,
    /// The label of the pairwise protocol.
    pub pair_label: Option<String>,
    /// Results are also reported by the values of these labels.
    pub slices: Vec<String>,
    /// Seed for enrollment, pair sampling and bootstrap.
    pub seed: u64,
    /// Enrolled share of the persons with two or more samples.
    pub enrolled_share: f64,
    pub stream: StreamOptions,
}

impl Default for ProtocolOptions {
    fn default() -> Self {
        Self {
            across: Vec::new(),
            within: None,
            probes: None,
            gallery: None,
            pair_label: None,
            slices: Vec::new(),
            seed: 1,
            enrolled_share: 0.5,
            stream: StreamOptions::default(),
        }
    }
}

impl ProtocolOptions {
    fn probes_of(&self, set: &Labelled) -> Result<Vec<usize>, EvaluateError> {
        part_of(set, self.probes.as_ref())
    }

    fn gallery_of(&self, set: &Labelled) -> Result<Vec<usize>, EvaluateError> {
        part_of(set, self.gallery.as_ref())
    }
}

/// A filter `LABEL=VALUE` on samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleFilter {
    pub label: String,
    pub value: String,
}

/// The text is not `LABEL=VALUE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a filter has the form LABEL=VALUE")]
pub struct NotASampleFilter;

impl FromStr for SampleFilter {
    type Err = NotASampleFilter;

    fn from_str(text: &str) -> Result<Self, NotASampleFilter> {
        let (label, value) = text.split_once('=').filter(|(label, _)| !label.is_empty()).ok_or(NotASampleFilter)?;
        Ok(Self { label: label.to_owned(), value: value.to_owned() })
    }
}

fn part_of(set: &Labelled, part: Option<&SampleFilter>) -> Result<Vec<usize>, EvaluateError> {
    let Some(SampleFilter { label, value }) = part else { return Ok((0..set.len()).collect()) };
    let values = set.values_of(label)?;
    if !values.contains(value) {
        let problem = format!("no sample's {label} is {value:?}; there are {values:?}");
        return Err(EvaluateError::Unusable(problem));
    }
    Ok((0..set.len()).filter(|sample| set.label(*sample, label) == Some(value)).collect())
}

/// Results, results by label value, and notes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ProtocolResults {
    pub(super) results: Results,
    pub(super) slices: Vec<Slice>,
    pub(super) notes: Vec<String>,
}

/// # Errors
/// [`EvaluateError::Unusable`] when a kind of trial is missing, or a requested label does not exist.
pub(super) fn measure(
    set: &Labelled,
    trials: LabelledProtocol,
    options: &ProtocolOptions,
) -> Result<ProtocolResults, EvaluateError> {
    for label in options.across.iter().chain(&options.within) {
        set.values_of(label)?;
    }
    let has_parts = options.probes.is_some() || options.gallery.is_some();
    if has_parts && !matches!(trials, LabelledProtocol::ClosedSet | LabelledProtocol::Pairwise) {
        let problem = "only the closed-set and pairwise protocols have separate probes and gallery";
        return Err(EvaluateError::Unusable(problem.to_owned()));
    }
    match trials {
        LabelledProtocol::Verification => verification::measure(set, options),
        LabelledProtocol::ClosedSet => closed_set::measure(set, options),
        LabelledProtocol::Pairwise => pairwise::measure(set, options),
        LabelledProtocol::OpenSetIdentification => open_set_identification::measure(set, options),
        LabelledProtocol::Stream => stream::measure(set, options),
    }
}

/// Whether [`ProtocolOptions::across`] and [`ProtocolOptions::within`] allow the comparison of two samples.
fn compares(set: &Labelled, options: &ProtocolOptions, one: usize, other: usize) -> bool {
    let shares = |label: &String| {
        let value = set.label(one, label);
        value.is_some() && value == set.label(other, label)
    };
    set.person(one) != set.person(other)
        || (!options.across.iter().any(shares) && options.within.as_ref().is_none_or(shares))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labelled::fixtures::plane;

    #[test]
    fn filters_are_parsed_and_must_match() {
        let part: SampleFilter = "role=query".parse().expect("a part");
        assert_eq!((&*part.label, &*part.value), ("role", "query"));
        assert!("query".parse::<SampleFilter>().is_err() && "=x".parse::<SampleFilter>().is_err());
        let set = plane(&[("a", "1", 0.0), ("a", "2", 0.0)]);
        let probes = |text: &str| ProtocolOptions { probes: text.parse().ok(), ..ProtocolOptions::default() };
        assert_eq!(probes("camera=2").probes_of(&set).expect("there"), [1]);
        let problem = probes("camera=3").probes_of(&set).expect_err("none").to_string();
        assert!(problem.contains("[\"1\", \"2\"]"), "{problem}");
        assert!(measure(&set, LabelledProtocol::Verification, &probes("camera=2")).is_err());
    }

    #[test]
    fn same_and_other_clothes_mask_one_person_alone() {
        let set = plane(&[("a", "red", 0.0), ("a", "red", 1.0), ("a", "blue", 2.0), ("b", "red", 3.0)]);
        let other = ProtocolOptions { across: vec!["camera".to_owned()], ..ProtocolOptions::default() };
        let same = ProtocolOptions { within: Some("camera".to_owned()), ..ProtocolOptions::default() };
        let compared =
            |options: &ProtocolOptions| (1..4).map(|item| compares(&set, options, 0, item)).collect::<Vec<bool>>();
        assert_eq!(compared(&other), [false, true, true]);
        assert_eq!(compared(&same), [true, false, true]);
    }
}

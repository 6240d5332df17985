//! Score files of any system, one trial per row.

use std::{collections::BTreeMap, path::Path};

use serde::Serialize;

use super::{
    EvaluateError,
    metrics::{self, CalibrationResults},
    names::TextTable,
    report::{Results, Slice},
};

/// The meaning of scores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Meaning {
    /// Similarities.
    #[default]
    Similarity,
    /// Probabilities of a mated trial.
    Probability,
    /// Natural logarithms of likelihood ratios.
    Llr,
}

/// A file of trials: columns `score` and `mated` (1 for one person, 0 for two); all other columns are labels.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreFile {
    scores: Vec<f32>,
    mated: Vec<bool>,
    labels: Vec<BTreeMap<String, String>>,
}

impl ScoreFile {
    /// # Errors
    /// When the file cannot be read, a row is malformed, a score is not finite, or all trials are of one kind.
    pub fn read(path: &Path) -> Result<Self, EvaluateError> {
        let table = TextTable::read(path)?;
        let [score, mated] = [table.column("score")?, table.column("mated")?];
        let mut file = Self { scores: Vec::new(), mated: Vec::new(), labels: Vec::new() };
        for (row, line) in &table.rows {
            file.scores.push(table.number(&row[score], *line)?);
            file.mated.push(match &*row[mated] {
                "1" => true,
                "0" => false,
                other => return Err(table.wrong(format!("line {line}: mated is 1 or 0, not {other:?}"))),
            });
            file.labels.push(table.labels_of(row, &[score, mated]));
        }
        let mated = file.mated.iter().filter(|mated| **mated).count();
        if mated == 0 || mated == file.mated.len() {
            let kind = if mated == 0 { "0" } else { "1" };
            let problem = format!("mated is {kind} in every row, and both kinds are needed");
            return Err(table.wrong(problem));
        }
        Ok(file)
    }

    pub(super) fn len(&self) -> usize {
        self.scores.len()
    }

    /// Verification over all trials.
    pub(super) fn verification(&self) -> Results {
        let [genuine, impostor] = self.kinds(|_| true);
        Results::Verification(Box::new(metrics::verification(&genuine, &impostor)))
    }

    /// # Errors
    /// [`EvaluateError::Unusable`] when a probability is outside of 0 to 1.
    pub(super) fn calibration(&self, meaning: Meaning) -> Result<Option<CalibrationResults>, EvaluateError> {
        let exact = self.scores.iter().map(|score| f64::from(*score));
        let probabilities: Vec<f64> = match meaning {
            Meaning::Similarity => return Ok(None),
            Meaning::Probability => exact.collect(),
            Meaning::Llr => exact.map(|ratio| 1.0 / (1.0 + (-ratio).exp())).collect(),
        };
        if let Some(wrong) = probabilities.iter().find(|p| !(0.0..=1.0).contains(*p)) {
            let problem = format!("{wrong} is not a probability between 0 and 1");
            return Err(EvaluateError::Unusable(problem));
        }
        let ratio = |score: f32| {
            let score = f64::from(score);
            // A certain and wrong answer would have infinite cost.
            let certain = score.clamp(1e-15, 1.0 - 1e-15);
            if meaning == Meaning::Llr { score } else { (certain / (1.0 - certain)).ln() }
        };
        let [genuine, impostor] = self.kinds(|_| true);
        let ratios = |scores: &[f32]| scores.iter().map(|score| ratio(*score)).collect::<Vec<f64>>();
        Ok(Some(CalibrationResults {
            cllr: metrics::cllr(&ratios(&genuine), &ratios(&impostor)),
            min_cllr: metrics::min_cllr(&genuine, &impostor),
            decisions: metrics::decisions(&probabilities, &self.mated, 0.5),
        }))
    }

    /// Results by the values of a label; values with one kind of trial are skipped.
    ///
    /// # Errors
    /// [`EvaluateError::Unusable`] when no trial has the label.
    pub(super) fn slices(&self, label: &str) -> Result<Vec<Slice>, EvaluateError> {
        let mut values: Vec<&String> = self.labels.iter().filter_map(|labels| labels.get(label)).collect();
        values.sort_unstable();
        values.dedup();
        if values.is_empty() {
            return Err(EvaluateError::Unusable(format!("no trial has the label {label:?}")));
        }
        let slice = |value: &String| {
            let [genuine, impostor] = self.kinds(|trial| self.labels[trial].get(label) == Some(value));
            (!genuine.is_empty() && !impostor.is_empty()).then(|| Slice {
                label: label.to_owned(),
                value: value.clone(),
                results: Results::Verification(Box::new(metrics::verification(&genuine, &impostor))),
            })
        };
        Ok(values.into_iter().filter_map(slice).collect())
    }

    /// Mated and nonmated scores of the admitted trials.
    fn kinds(&self, admits: impl Fn(usize) -> bool) -> [Vec<f32>; 2] {
        [true, false].map(|kind| {
            let trials = (0..self.scores.len()).filter(|trial| self.mated[*trial] == kind && admits(*trial));
            trials.map(|trial| self.scores[trial]).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<ScoreFile, EvaluateError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("scores.tsv");
        std::fs::write(&path, text).expect("written");
        ScoreFile::read(&path)
    }

    #[test]
    fn files_are_measured_whole_and_by_label() {
        let text = "score\tmated\tsite\n.9\t1\tnorth\n.4\t0\tnorth\n.3\t1\tsouth\n.5\t0\tsouth\n.7\t1\teast\n";
        let file = file(text).expect("a file");
        let Results::Verification(whole) = file.verification() else { panic!("a verification") };
        assert_eq!((whole.genuine_pairs, whole.impostor_pairs), (3, 2));
        let slices = file.slices("site").expect("the label is there");
        let values: Vec<&str> = slices.iter().map(|slice| &*slice.value).collect();
        assert_eq!(values, ["north", "south"], "the east has no pairs of two people");
        let Results::Verification(south) = &slices[1].results else { panic!("a verification") };
        assert!(south.auc.abs() < 1e-12, "{south:?}");
        assert!(file.slices("camera").is_err());
    }

    #[test]
    fn the_calibration_of_probabilities_and_ratios_is_measured() {
        let file = file("score\tmated\n0.8\t1\n0.2\t0\n").expect("a file");
        assert_eq!(file.calibration(Meaning::Similarity).expect("nothing to hold"), None);
        let as_probabilities = file.calibration(Meaning::Probability).expect("they are").expect("held");
        // Both are correct with odds of four to one: log2(1 + 1/4); both bins differ by .2.
        assert!((as_probabilities.cllr - 1.25_f64.log2()).abs() < 1e-6, "{as_probabilities:?}");
        assert!((as_probabilities.decisions.reliability.ece - 0.2).abs() < 1e-6, "{as_probabilities:?}");
        let as_ratios = file.calibration(Meaning::Llr).expect("any number").expect("held");
        assert!(as_ratios.cllr > as_probabilities.cllr && as_ratios.min_cllr == 0.0, "{as_ratios:?}");
    }

    #[test]
    fn bad_files_are_refused_with_the_line_and_the_reason() {
        for (text, expected) in [
            ("score\tmated\n0.5\t1\nNaN\t0\n", "line 3: \"NaN\" is not a finite number"),
            ("score\tmated\n0.5\t1\ninf\t0\n", "is not a finite number"),
            ("score\tmated\n0.5\t1\n0.5\tyes\n", "line 3: mated is 1 or 0"),
            ("score\tmated\n0.5\t1\n0.6\t1\n", "mated is 1 in every row"),
            ("score\tmated\n0.5\t0\n", "mated is 0 in every row"),
            ("score\tmated\n", "no rows"),
            ("score\tmated\n0.5\t1\t7\n", "line: 2"),
            ("score\tsame\n0.5\t1\n", "no column \"mated\""),
            ("", "no rows"),
        ] {
            let problem = file(text).expect_err(text).to_string();
            assert!(problem.contains(expected), "{text:?}: {problem}");
        }
        let beyond = file("score\tmated\n1.5\t1\n0.1\t0\n").expect("scores may be").calibration(Meaning::Probability);
        assert!(beyond.expect_err("none").to_string().contains("1.5 is not a probability"));
    }
}

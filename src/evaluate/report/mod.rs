//! Reports: numbers, tables, figures, and one page.

mod html;
mod plots;
mod table;

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    EvaluateError, Protocol, Stream,
    figure::png,
    metrics::{CalibrationResults, Detection, Identification, Pairwise, Retrieval, Verification},
};
pub(super) use table::ReportTable;

/// The results of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub protocol: Protocol,
    pub data: PathBuf,
    #[serde(flatten)]
    pub origin: ScoreOrigin,
    /// Samples of the set, or trials of a score file.
    pub samples: usize,
    /// Samples that could not be encoded. They match nobody: their genuine pairs are missed, and their person is ranked
    /// last.
    pub refused: usize,
    pub results: Results,
    /// For probabilities and likelihood ratios.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibrationResults>,
    /// Results by label value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<Slice>,
    /// Comparisons: the same model with another protocol, and methods without training.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<Comparison>,
    /// Remarks on the numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The command of this report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// The model behind the embeddings or scores, if known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ScoreOrigin {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_digest: Option<String>,
    /// As stated by the publisher of the weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provenance: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Results {
    Verification(Box<Verification>),
    Retrieval(Retrieval),
    Identification(Box<Identification>),
    Pairwise(Pairwise),
    Detection(Detection),
    Stream(Box<Stream>),
}

/// Results of a part of the trials.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Slice {
    pub label: String,
    pub value: String,
    pub results: Results,
}

/// The retrieval results of a comparison method.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    pub method: &'static str,
    /// The gallery of the probes.
    pub gallery: &'static str,
    pub retrieval: Retrieval,
}

impl Report {
    /// One self-contained HTML page.
    #[must_use]
    pub fn html(&self) -> String {
        html::page(self)
    }

    /// Writes every plot into a folder, as SVG and PNG, and returns the files.
    ///
    /// # Errors
    /// When a file cannot be written or a plot cannot be drawn.
    pub fn write_plots(&self, folder: &Path) -> Result<Vec<PathBuf>, EvaluateError> {
        let unwritable = |path: &Path, source| EvaluateError::Unwritable { path: path.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(|source| unwritable(folder, source))?;
        let mut written = Vec::new();
        for figure in plots::of(self) {
            let svg = figure.svg();
            let pixels = png(&svg)?;
            for (ending, bytes) in [("svg", svg.as_bytes()), ("png", &pixels)] {
                let path = folder.join(format!("{}.{ending}", figure.name));
                std::fs::write(&path, bytes).map_err(|source| unwritable(&path, source))?;
                written.push(path);
            }
        }
        Ok(written)
    }
}

impl fmt::Display for Report {
    /// The tables for the console.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, table) in table::of(self).iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            write!(f, "{table}")?;
        }
        for note in &self.notes {
            writeln!(f, "\nnote: {note}")?;
        }
        Ok(())
    }
}

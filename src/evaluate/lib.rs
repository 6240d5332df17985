//! How good is it: labelled sets through the real encoder, embeddings and scores that others made, and the measures of the
//! field; told as numbers, tables, plots and a page.
//!
//! Reached from the command line alone. It encodes through the same queue and the same preparation that serve requests,
//! never writes to a store, and writes no file but the plots that it is asked for.

mod boxes;
mod draw;
mod energy;
mod figure;
mod files;
mod general;
mod labelled;
mod lfw;
mod market;
pub mod metrics;
mod names;
pub mod open_set;
mod pictures;
mod psymo;
mod report;
mod scores;
pub mod templates;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::Serialize;
use thiserror::Error;

pub use self::{
    boxes::BoxFiles,
    figure::FigureError,
    general::{LabelledProtocol, NotASampleFilter, ProtocolOptions, SampleFilter},
    labelled::{Labelled, SampleIdentity},
    metrics::{CalibrationResults, Retrieval},
    names::PersonRule,
    report::{Comparison, Report, Results, ScoreOrigin, Slice},
    scores::{Meaning, ScoreFile},
};
use domain::{Alignment, Embedding, Sample};
use encoder::{EncodeParameters, Encoder, EncoderError, Urgency};
use lfw::LfwView;

/// Which set, and how it is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// LFW View 1 pairs (`pairsDevTest.txt`, `images/`): verification. The deep-funneled pictures, by their fixed landmarks.
    LfwPairs,
    /// The same, each face found by the detector: the one nearest to the middle, for others stand beside it.
    LfwPairsDetected,
    /// LFW View 2 (`pairs.txt`, `images/`), as results on it are reported: ten folds, each at the threshold of the others.
    LfwView2,
    /// Market-1501: where the folder holds `query/` and `bounding_box_test/`, the one against the other; otherwise crops named `PPPP_cC...`: every crop against all others, those of the same person and camera left out.
    Market,
    /// PsyMo skeleton sequences: every walk against the normal walks of the same viewpoint and direction, itself left out;
    /// beside that, against the normal walks of all other viewpoints.
    Psymo,
    /// Scores of any system. They need no model.
    Scores,
    /// Boxes of people that any system found and named. They need no model.
    Detections,
    /// Any labelled set: a folder of samples, or embeddings.
    #[serde(untagged)]
    Labelled(LabelledProtocol),
}

/// What a protocol found.
struct Measurement {
    results: Results,
    beside: Vec<Comparison>,
    slices: Vec<Slice>,
    notes: Vec<String>,
    samples: usize,
    refused: usize,
}

impl Measurement {
    fn new(results: Results, samples: usize, refused: usize) -> Self {
        Self { results, beside: Vec::new(), slices: Vec::new(), notes: Vec::new(), samples, refused }
    }

    fn labelled(set: &Labelled, trials: LabelledProtocol, options: &ProtocolOptions) -> Result<Self, EvaluateError> {
        let general::ProtocolResults { results, slices, notes } = general::measure(set, trials, options)?;
        Ok(Self { results, beside: Vec::new(), slices, notes, samples: set.len(), refused: set.refused() })
    }

    fn report(self, protocol: Protocol, data: &Path, origin: ScoreOrigin) -> Report {
        let Self { results, beside, slices, notes, samples, refused } = self;
        let data = data.to_owned();
        let (calibration, command) = (None, None);
        Report { protocol, data, origin, samples, refused, results, calibration, slices, beside, notes, command }
    }
}

/// Why a set cannot be measured.
#[derive(Debug, Error)]
pub enum EvaluateError {
    #[error("cannot read {path}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{path} is not laid out as this protocol needs: {problem}")]
    Layout { path: PathBuf, problem: String },
    #[error("{path} cannot be encoded")]
    Sample { path: PathBuf, source: Box<EncoderError> },
    /// The samples are there and cannot be measured in this way.
    #[error("{0}")]
    Unusable(String),
    #[error("cannot write {path}")]
    Unwritable { path: PathBuf, source: std::io::Error },
    #[error("a plot cannot be drawn")]
    Figure(#[from] FigureError),
}

/// A set on disk.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EvaluationSet {
    pub data: PathBuf,
    /// For walks: the folder of their gait-energy images.
    pub silhouettes: Option<PathBuf>,
    /// For sets of no known layout: how a file's name tells the person.
    pub person: Option<PersonRule>,
    /// For the same.
    pub options: ProtocolOptions,
}

/// Runs a protocol on a set.
///
/// # Errors
/// When the set is not laid out as the protocol says, or the encoder fails for another reason than a bad sample.
pub async fn run(
    protocol: Protocol,
    set: &EvaluationSet,
    encoder: &Encoder,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Report, EvaluateError> {
    let data = &*set.data;
    let measured = match protocol {
        Protocol::LfwPairs => lfw::pairs(data, LfwView::One, encoder, Alignment::LfwFunneled, progress).await?,
        Protocol::LfwPairsDetected => lfw::pairs(data, LfwView::One, encoder, Alignment::Detect, progress).await?,
        Protocol::LfwView2 => lfw::pairs(data, LfwView::Two, encoder, Alignment::LfwFunneled, progress).await?,
        Protocol::Market if market::is_whole(data) => market::query_against_gallery(set, encoder, progress).await?,
        Protocol::Market => market::all_against_all(data, encoder, progress).await?,
        Protocol::Psymo => psymo::walks(data, set.silhouettes.as_deref(), encoder, progress).await?,
        Protocol::Labelled(trials) => {
            let labelled = pictures::labelled(set, encoder, progress).await?;
            Measurement::labelled(&labelled, trials, &set.options)?
        }
        Protocol::Scores | Protocol::Detections => {
            return Err(EvaluateError::Unusable(
                "scores and boxes need no model: they are measured as they are".to_owned(),
            ));
        }
    };
    let card = encoder.card();
    let origin = ScoreOrigin {
        model: Some(encoder.name().to_string()),
        model_digest: Some(encoder.space().digest.to_string()),
        licence: Some(card.licence.clone()),
        provenance: Some(card.provenance.clone()),
    };
    Ok(measured.report(protocol, data, origin))
}

/// Measures embeddings that were made elsewhere; `data` is where they come from.
///
/// # Errors
/// [`EvaluateError::Unusable`] when there is no trial of some kind, or nobody has a label that is asked for.
pub fn embeddings(
    set: &Labelled,
    data: &Path,
    origin: ScoreOrigin,
    trials: LabelledProtocol,
    options: &ProtocolOptions,
) -> Result<Report, EvaluateError> {
    Ok(Measurement::labelled(set, trials, options)?.report(Protocol::Labelled(trials), data, origin))
}

/// Measures scores that were made elsewhere, whole and by the values of labels; `data` is where they come from.
///
/// # Errors
/// [`EvaluateError::Unusable`] when no trial has a label that is asked for, or a probability is none.
pub fn scores(
    file: &ScoreFile,
    data: &Path,
    origin: ScoreOrigin,
    meaning: Meaning,
    slices: &[String],
) -> Result<Report, EvaluateError> {
    let calibration = file.calibration(meaning)?;
    let mut measured = Measurement::new(file.verification(), file.len(), 0);
    for label in slices {
        measured.slices.extend(file.slices(label)?);
    }
    Ok(Report { calibration, ..measured.report(Protocol::Scores, data, origin) })
}

/// Measures boxes of people who were found and named; `data` is where they come from.
#[must_use]
pub fn detections(files: &BoxFiles, data: &Path, origin: ScoreOrigin) -> Report {
    Measurement::new(files.measure(), files.len(), 0).report(Protocol::Detections, data, origin)
}

/// The longest that one sample of a set may take to encode, waiting included.
const SAMPLE_WAIT_MAX: Duration = Duration::from_mins(10);
/// Samples that are under way at once: enough to fill batches.
const UNDER_WAY: usize = 32;

/// Encodes files in order; `None` for those that cannot be used.
async fn encode_all(
    encoder: &Encoder,
    files: &[PathBuf],
    sample: impl Fn(&Path) -> Result<Sample, EvaluateError>,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<Option<Embedding>>, EvaluateError> {
    let mut embeddings = Vec::with_capacity(files.len());
    for batch in files.chunks(UNDER_WAY) {
        let one = async |path: &PathBuf| {
            let deadline = Instant::now() + SAMPLE_WAIT_MAX;
            let parameters = EncodeParameters { urgency: Urgency::Bulk, deadline, pad_score_min: None };
            match encoder.encode(sample(path)?, parameters).await {
                Ok(encoding) => Ok(Some(encoding.embedding)),
                Err(EncoderError::BadSample(_)) => Ok(None),
                Err(source) => Err(EvaluateError::Sample { path: path.clone(), source: Box::new(source) }),
            }
        };
        embeddings.extend(futures::future::try_join_all(batch.iter().map(one)).await?);
        progress(embeddings.len(), files.len());
    }
    Ok(embeddings)
}

fn similarity(a: Option<&Embedding>, b: Option<&Embedding>) -> f32 {
    a.zip(b).and_then(|(a, b)| a.similarity(b)).map_or(-1.0, |s| s.0)
}

/// Ranks gallery items, the most similar first, as right or wrong.
fn rank(
    items: impl Iterator<Item = usize>,
    similarity: impl Fn(usize) -> f32,
    is_right: impl Fn(usize) -> bool,
) -> metrics::RankedRelevance {
    let mut found: Vec<(f32, bool)> = items.map(|item| (similarity(item), is_right(item))).collect();
    // Without an embedding all are equally unlike: the right ones come last, so that order by name earns nothing.
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    found.into_iter().map(|(_, right)| right).collect()
}

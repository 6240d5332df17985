//! Measures recognition performance: labelled sets through the real encoder, or embeddings and scores from elsewhere;
//! results as numbers, tables, plots and a page.
//!
//! Only the command line uses this package. It encodes through the same queue and preparation that serve requests,
//! never writes to a store, and writes no files but requested plots.

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
mod trial_collection;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::Serialize;
use thiserror::Error;

pub use self::{
    boxes::BoxFiles,
    figure::FigureError,
    general::{
        Baseline, LabelledProtocol, Moment, NotASampleFilter, ProtocolOptions, SampleFilter, Stream, StreamOptions,
    },
    labelled::{Labelled, SampleIdentity},
    metrics::{CalibrationResults, Retrieval},
    names::PersonRule,
    report::{Comparison, Report, Results, ScoreOrigin, Slice},
    scores::{Meaning, ScoreFile},
};
use domain::{Alignment, Embedding, Sample};
use encoder::{EncodeParameters, Encoder, EncoderError, Urgency};
use lfw::LfwView;

/// The evaluation protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// LFW View 1 pairs (`pairsDevTest.txt`, `images/`): verification on deep-funneled pictures, aligned by fixed
    /// landmarks.
    LfwPairs,
    /// The same with detected faces: the most central one, because others may be in the picture.
    LfwPairsDetected,
    /// LFW View 2 (`pairs.txt`, `images/`), the reporting protocol: ten folds, each at the threshold of the others.
    LfwView2,
    /// Market-1501: if the folder has `query/` and `bounding_box_test/`, queries against the gallery; otherwise crops
    /// named `PPPP_cC...`, each against all others except those of the same person and camera.
    Market,
    /// PsyMo skeleton sequences: every walk against the normal walks of the same viewpoint and direction, without
    /// itself; also against the normal walks of all other viewpoints.
    Psymo,
    /// Scores of any system, without a model.
    Scores,
    /// Boxes of persons, detected and identified by any system, without a model.
    Detections,
    /// Any labelled set: a folder of samples, or embeddings.
    #[serde(untagged)]
    Labelled(LabelledProtocol),
}

/// The results of a protocol.
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

/// Why an evaluation fails.
#[derive(Debug, Error)]
pub enum EvaluateError {
    #[error("cannot read {path}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("the layout of {path} does not match this protocol: {problem}")]
    Layout { path: PathBuf, problem: String },
    #[error("{path} cannot be encoded")]
    Sample { path: PathBuf, source: Box<EncoderError> },
    /// The samples do not allow this measurement.
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
    /// For walks: the folder of gait energy images.
    pub silhouettes: Option<PathBuf>,
    /// For sets without a known layout: how a file name gives the person.
    pub person: Option<PersonRule>,
    /// For the same sets: options of the protocol.
    pub options: ProtocolOptions,
}

/// Runs a protocol on a set. `progress` receives the number of encoded samples and the total.
///
/// # Errors
/// When the set's layout does not match the protocol, or the encoder fails for another reason than a bad sample.
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
            return Err(EvaluateError::Unusable("scores and boxes need no model".to_owned()));
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

/// Measures given embeddings; `data` is their source in the report.
///
/// # Errors
/// [`EvaluateError::Unusable`] when a kind of trial is missing, or a requested label does not exist.
pub fn embeddings(
    set: &Labelled,
    data: &Path,
    origin: ScoreOrigin,
    trials: LabelledProtocol,
    options: &ProtocolOptions,
) -> Result<Report, EvaluateError> {
    Ok(Measurement::labelled(set, trials, options)?.report(Protocol::Labelled(trials), data, origin))
}

/// Measures given scores, in total and by label values; `data` is their source in the report.
///
/// # Errors
/// [`EvaluateError::Unusable`] when a requested label does not exist, or a probability is outside of 0 to 1.
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

/// Measures detected and identified boxes; `data` is their source in the report.
#[must_use]
pub fn detections(files: &BoxFiles, data: &Path, origin: ScoreOrigin) -> Report {
    Measurement::new(files.measure(), files.len(), 0).report(Protocol::Detections, data, origin)
}

/// Maximum time per sample, queueing included.
const SAMPLE_WAIT_MAX: Duration = Duration::from_mins(10);
/// Samples in progress at once: enough to fill batches.
const UNDER_WAY: usize = 32;

/// Encodes files in order; `None` for unusable samples.
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
            let parameters = EncodeParameters { urgency: Urgency::Bulk, deadline, pad_score_min: None, share: None };
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

/// Ranks gallery items by falling similarity and returns whether each is correct.
fn rank(
    items: impl Iterator<Item = usize>,
    similarity: impl Fn(usize) -> f32,
    is_right: impl Fn(usize) -> bool,
) -> metrics::RankedRelevance {
    let mut found: Vec<(f32, bool)> = items.map(|item| (similarity(item), is_right(item))).collect();
    // Ties place correct items last, so that the order of names gives no advantage.
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    found.into_iter().map(|(_, right)| right).collect()
}

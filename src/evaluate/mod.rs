//! How good is it: labelled sets through the real encoder, and the measures of the field.
//!
//! Reached from the command line alone. It encodes through the same queue and the same preparation that serve requests
//! and never writes to a store.

mod energy;
mod lfw;
mod market;
pub mod metrics;
pub mod open_set;
mod psymo;

use std::{
    fmt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::Serialize;
use thiserror::Error;

use crate::{
    domain::{Alignment, Embedding, Sample},
    encoder::{Ask, Encoder, EncoderError, Urgency},
};
use metrics::{Retrieval, Verification};

/// Which set, and how it is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// LFW View 1 pairs (`pairsDevTest.txt`, `images/`): verification. The deep-funneled pictures, by their fixed landmarks.
    LfwPairs,
    /// The same, each face found by the detector: the one nearest to the middle, for others stand beside it.
    LfwPairsDetected,
    /// Market-1501 crops named `PPPP_cC...`: every crop against all others, those of the same person and camera left out.
    Market,
    /// PsyMo skeleton sequences: every walk against the normal walks of the same viewpoint and direction, itself left out;
    /// beside that, against the normal walks of all other viewpoints.
    Psymo,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub protocol: Protocol,
    pub data: PathBuf,
    pub model: String,
    pub model_digest: String,
    /// Samples of the set.
    pub samples: usize,
    /// Those of them that could not be encoded. They match nobody: a genuine pair with one is missed, and a probe that
    /// is one finds its person last.
    pub refused: usize,
    pub results: Results,
    /// What else the set tells: the same model by another protocol, and methods that take no learning.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<Beside>,
}

/// A row beside the results.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Beside {
    pub method: &'static str,
    /// Whom probes were compared with.
    pub gallery: &'static str,
    pub retrieval: Retrieval,
}

/// What a protocol found.
struct Measured {
    results: Results,
    beside: Vec<Beside>,
    samples: usize,
    refused: usize,
}

impl From<(Results, usize, usize)> for Measured {
    fn from((results, samples, refused): (Results, usize, usize)) -> Self {
        Self { results, beside: Vec::new(), samples, refused }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Results {
    Verification(Verification),
    Retrieval(Retrieval),
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
}

/// A set on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    pub data: PathBuf,
    /// For walks: the folder of their gait-energy images.
    pub silhouettes: Option<PathBuf>,
}

/// Runs a protocol on a set.
///
/// # Errors
/// When the set is not laid out as the protocol says, or the encoder fails for another reason than a bad sample.
pub async fn run(
    protocol: Protocol,
    set: &Set,
    encoder: &Encoder,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Report, EvaluateError> {
    let data = &*set.data;
    let Measured { results, beside, samples, refused } = match protocol {
        Protocol::LfwPairs => lfw::pairs(data, encoder, Alignment::LfwFunneled, progress).await?.into(),
        Protocol::LfwPairsDetected => lfw::pairs(data, encoder, Alignment::Detect, progress).await?.into(),
        Protocol::Market => market::all_against_all(data, encoder, progress).await?.into(),
        Protocol::Psymo => psymo::walks(data, set.silhouettes.as_deref(), encoder, progress).await?,
    };
    Ok(Report {
        protocol,
        data: data.to_owned(),
        model: encoder.name().to_string(),
        model_digest: encoder.space().digest.to_string(),
        samples,
        refused,
        results,
        beside,
    })
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
            let ask = Ask { urgency: Urgency::Bulk, deadline, pad_score_min: None };
            match encoder.encode(sample(path)?, ask).await {
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

fn read(path: &Path) -> Result<Vec<u8>, EvaluateError> {
    std::fs::read(path).map_err(|source| EvaluateError::Unreadable { path: path.to_owned(), source })
}

/// The files of a folder with one of these endings, sorted by name.
fn files_in(folder: &Path, endings: &[&str]) -> Result<Vec<PathBuf>, EvaluateError> {
    let unreadable = |source| EvaluateError::Unreadable { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let ending = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
        if ending.is_some_and(|e| endings.contains(&e.as_str())) {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn similarity(a: Option<&Embedding>, b: Option<&Embedding>) -> f32 {
    a.zip(b).and_then(|(a, b)| a.similarity(b)).map_or(-1.0, |s| s.0)
}

/// Ranks gallery items, the most similar first, as right or wrong.
fn rank(
    items: impl Iterator<Item = usize>,
    similarity: impl Fn(usize) -> f32,
    is_right: impl Fn(usize) -> bool,
) -> metrics::Ranking {
    let mut found: Vec<(f32, bool)> = items.map(|item| (similarity(item), is_right(item))).collect();
    // Without an embedding all are equally unlike: the right ones come last, so that order by name earns nothing.
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    found.into_iter().map(|(_, right)| right).collect()
}

impl fmt::Display for Report {
    /// The table that the console shows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| format!("{:.2} %", 100.0 * share);
        writeln!(f, "model      {} ({})", self.model, &self.model_digest[..12])?;
        writeln!(f, "data       {}", self.data.display())?;
        writeln!(f, "samples    {}, {} of them refused", self.samples, self.refused)?;
        let rows = match &self.results {
            Results::Verification(v) => vec![
                ("pairs", format!("{} genuine, {} impostor", v.genuine_pairs, v.impostor_pairs)),
                (
                    "accuracy",
                    format!("{} at {:.4}, the best threshold on these pairs", percent(v.accuracy), v.threshold),
                ),
                ("AUC", format!("{:.4}", v.auc)),
                ("TAR @ FMR 1 %", percent(v.tar_at_fmr_1_percent)),
                ("EER", percent(v.equal_error_rate)),
                ("mean similarity", format!("{:.3} genuine, {:.3} impostor", v.genuine_mean, v.impostor_mean)),
            ],
            Results::Retrieval(r) => vec![
                ("probes", format!("{} against {}", r.probes, r.gallery)),
                ("rank-1", percent(r.rank_1)),
                ("rank-5", percent(r.rank_5)),
                ("rank-10", percent(r.rank_10)),
                ("mAP", percent(r.map)),
            ],
        };
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, value) in rows {
            writeln!(f, "{name:width$}  {value}")?;
        }
        if !self.beside.is_empty() {
            writeln!(f, "\nbeside it                          rank-1   rank-5      mAP")?;
        }
        for Beside { method, gallery, retrieval } in &self.beside {
            let [one, five, map] = [retrieval.rank_1, retrieval.rank_5, retrieval.map].map(percent);
            writeln!(f, "{method:20}{gallery:11}{one:>10}{five:>9}{map:>9}")?;
        }
        Ok(())
    }
}

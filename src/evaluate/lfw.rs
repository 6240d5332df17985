//! Labeled Faces in the Wild (LFW): verification pairs.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    EvaluateError, Measurement, Results, encode_all, files,
    metrics::{self, Fold},
    similarity,
};
use domain::{Alignment, FaceSelection, Geometry, ImageBytes, Modality, Picture, Sample, SampleContent};
use encoder::Encoder;

/// The pairs file of View 1, for development.
const PAIRS: &str = "pairsDevTest.txt";
/// The pairs file of View 2, for reported results.
const PAIRS_IN_FOLDS: &str = "pairs.txt";

/// The view of LFW.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LfwView {
    /// A thousand development pairs.
    One,
    /// Ten folds of 600 pairs.
    Two,
}

impl LfwView {
    fn file(self) -> &'static str {
        match self {
            Self::One => PAIRS,
            Self::Two => PAIRS_IN_FOLDS,
        }
    }
}

struct LfwPair {
    first: PathBuf,
    second: PathBuf,
    is_genuine: bool,
}

/// The number of folds in the first line of a pairs file.
fn folds_of(data: &Path, view: LfwView, pairs: usize) -> Result<usize, EvaluateError> {
    let path = data.join(view.file());
    let text = String::from_utf8_lossy(&files::read(&path)?).into_owned();
    let words: Vec<usize> =
        text.lines().next().unwrap_or_default().split_whitespace().map_while(|word| word.parse().ok()).collect();
    match words[..] {
        [folds, each] if folds > 1 && folds.saturating_mul(2 * each) == pairs => Ok(folds),
        _ => {
            let problem = format!(
                "its first line must have the number of folds and of pairs of each kind per fold; it has {pairs} pairs"
            );
            Err(EvaluateError::Layout { path, problem })
        }
    }
}

/// Reads lines `name n m` (a genuine pair) and `name n other m` (an impostor pair).
fn pairs_of(data: &Path, view: LfwView) -> Result<Vec<LfwPair>, EvaluateError> {
    let path = data.join(view.file());
    let text = String::from_utf8_lossy(&files::read(&path)?).into_owned();
    let picture = |name: &str, number: &str| {
        let number: u32 = number.parse().ok()?;
        Some(data.join("images").join(name).join(format!("{name}_{number:04}.jpg")))
    };
    let mut pairs = Vec::new();
    for line in text.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let pair = match words[..] {
            [name, first, second] => picture(name, first).zip(picture(name, second)).map(|p| (p, true)),
            [name, first, other, second] => picture(name, first).zip(picture(other, second)).map(|p| (p, false)),
            _ => None,
        };
        let Some(((first, second), is_genuine)) = pair else {
            let problem = format!("the line {line:?} is not a pair");
            return Err(EvaluateError::Layout { path, problem });
        };
        pairs.push(LfwPair { first, second, is_genuine });
    }
    Ok(pairs)
}

pub(super) async fn pairs(
    data: &Path,
    view: LfwView,
    encoder: &Encoder,
    alignment: Alignment,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Measurement, EvaluateError> {
    let pairs = pairs_of(data, view)?;
    let folds = if view == LfwView::Two { Some(folds_of(data, view, pairs.len())?) } else { None };
    let mut paths: Vec<PathBuf> = pairs.iter().flat_map(|p| [p.first.clone(), p.second.clone()]).collect();
    paths.sort_unstable();
    paths.dedup();
    let sample = |path: &Path| {
        let selection = (alignment == Alignment::Detect).then_some(FaceSelection::MostCentral);
        let geometry = Geometry { alignment: Some(alignment), selection, ..Geometry::default() };
        let bytes = ImageBytes(files::read(path)?.into());
        Ok(Sample { modality: Modality::Face, content: SampleContent::Image(Picture { bytes, geometry }) })
    };
    let embeddings = encode_all(encoder, &paths, sample, progress).await?;
    let refused = embeddings.iter().filter(|e| e.is_none()).count();
    let by_file: BTreeMap<&PathBuf, _> = paths.iter().zip(&embeddings).collect();
    let scores: Vec<f32> =
        pairs.iter().map(|pair| similarity(by_file[&pair.first].as_ref(), by_file[&pair.second].as_ref())).collect();
    let all = scored(&pairs, &scores);
    if all.genuine.is_empty() || all.impostor.is_empty() {
        let problem = "it needs genuine and impostor pairs".to_owned();
        return Err(EvaluateError::Layout { path: data.join(view.file()), problem });
    }
    let mut results = metrics::verification(&all.genuine, &all.impostor);
    results.folds = folds.map(|folds| {
        let each = pairs.len() / folds;
        let folds = pairs.chunks(each).zip(scores.chunks(each));
        metrics::folds(&folds.map(|(pairs, scores)| scored(pairs, scores)).collect::<Vec<Fold>>())
    });
    Ok(Measurement::new(Results::Verification(Box::new(results)), paths.len(), refused))
}

fn scored(pairs: &[LfwPair], scores: &[f32]) -> Fold {
    let of = |kind: bool| {
        let own = pairs.iter().zip(scores).filter(|(pair, _)| pair.is_genuine == kind);
        own.map(|(_, score)| *score).collect()
    };
    Fold { genuine: of(true), impostor: of(false) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_gives_the_number_of_folds() {
        let folder = tempfile::tempdir().expect("a folder");
        let written = |text: &str| {
            std::fs::write(folder.path().join(PAIRS_IN_FOLDS), text).expect("written");
            let pairs = pairs_of(folder.path(), LfwView::Two)?;
            folds_of(folder.path(), LfwView::Two, pairs.len()).map(|folds| (folds, pairs))
        };
        let (folds, pairs) = written("2\t1\nAnn_A\t1\t2\nAnn_A\t1\tBob_B\t4\nBob_B\t1\t4\nAnn_A\t2\tBob_B\t1\n")
            .expect("two folds of a pair of each kind");
        assert_eq!((folds, pairs.len()), (2, 4));
        assert!(pairs[1].second.ends_with("images/Bob_B/Bob_B_0004.jpg") && !pairs[1].is_genuine);
        for (text, expected) in [
            ("10\t300\nAnn_A\t1\t2\n", "its first line must have the number of folds"),
            ("500\nAnn_A\t1\t2\n", "its first line must have the number of folds"),
            ("2\t1\nAnn_A\n", "is not a pair"),
        ] {
            let problem = written(text).map(|(folds, _)| folds).expect_err(text).to_string();
            assert!(problem.contains(expected), "{problem}");
        }
    }
}

//! LFW pairs.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{EvaluateError, Results, encode_all, metrics, read, similarity};
use crate::{
    domain::{Alignment, FaceSelection, Geometry, ImageBytes, Modality, Picture, Sample, SampleContent},
    encoder::Encoder,
};

/// The pairs file of the set.
const PAIRS: &str = "pairsDevTest.txt";

struct Pair {
    first: PathBuf,
    second: PathBuf,
    is_genuine: bool,
}

/// Reads `name n m` (two pictures of one person) and `name n other m` (of two).
fn pairs_of(data: &Path) -> Result<Vec<Pair>, EvaluateError> {
    let path = data.join(PAIRS);
    let text = String::from_utf8_lossy(&read(&path)?).into_owned();
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
            let problem = format!("the line {line:?} is no pair");
            return Err(EvaluateError::Layout { path, problem });
        };
        pairs.push(Pair { first, second, is_genuine });
    }
    Ok(pairs)
}

pub(super) async fn pairs(
    data: &Path,
    encoder: &Encoder,
    alignment: Alignment,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<(Results, usize, usize), EvaluateError> {
    let pairs = pairs_of(data)?;
    let mut files: Vec<PathBuf> = pairs.iter().flat_map(|p| [p.first.clone(), p.second.clone()]).collect();
    files.sort_unstable();
    files.dedup();
    let sample = |path: &Path| {
        let selection = (alignment == Alignment::Detect).then_some(FaceSelection::MostCentral);
        let geometry = Geometry { alignment: Some(alignment), selection, ..Geometry::default() };
        let bytes = ImageBytes(read(path)?.into());
        Ok(Sample { modality: Modality::Face, content: SampleContent::Image(Picture { bytes, geometry }) })
    };
    let embeddings = encode_all(encoder, &files, sample, progress).await?;
    let refused = embeddings.iter().filter(|e| e.is_none()).count();
    let by_file: BTreeMap<&PathBuf, _> = files.iter().zip(&embeddings).collect();
    let (mut genuine, mut impostor) = (Vec::new(), Vec::new());
    for pair in &pairs {
        let score = similarity(by_file[&pair.first].as_ref(), by_file[&pair.second].as_ref());
        if pair.is_genuine { genuine.push(score) } else { impostor.push(score) }
    }
    if genuine.is_empty() || impostor.is_empty() {
        let problem = "it needs pairs of one person and pairs of two".to_owned();
        return Err(EvaluateError::Layout { path: data.join(PAIRS), problem });
    }
    Ok((Results::Verification(Box::new(metrics::verification(&genuine, &impostor))), files.len(), refused))
}

//! Market-1501 crops.

use std::path::Path;

use super::{EvaluateError, Results, encode_all, files_in, metrics, rank, read, similarity};
use crate::{
    domain::{Geometry, ImageBytes, Modality, Picture, Sample, SampleContent},
    encoder::Encoder,
};

/// Person and camera of `PPPP_cCsS_FFFFFF_00.jpg`.
fn label(path: &Path) -> Result<(String, String), EvaluateError> {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let parts = name.split_once("_c").and_then(|(person, rest)| Some((person, rest.split_once('s')?.0)));
    match parts {
        Some((person, camera)) => Ok((person.to_owned(), camera.to_owned())),
        None => Err(EvaluateError::Layout {
            path: path.to_owned(),
            problem: "a crop is named PPPP_cCsS_FFFFFF_00.jpg".to_owned(),
        }),
    }
}

pub(super) async fn all_against_all(
    data: &Path,
    encoder: &Encoder,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<(Results, usize, usize), EvaluateError> {
    let files = files_in(data, &["jpg", "jpeg", "png"])?;
    let labels: Vec<(String, String)> = files.iter().map(|f| label(f)).collect::<Result<_, _>>()?;
    let sample = |path: &Path| {
        let bytes = ImageBytes(read(path)?.into());
        Ok(Sample {
            modality: Modality::Person,
            content: SampleContent::Image(Picture { bytes, geometry: Geometry::default() }),
        })
    };
    let embeddings = encode_all(encoder, &files, sample, progress).await?;
    let refused = embeddings.iter().filter(|e| e.is_none()).count();
    let rankings: Vec<metrics::Ranking> = (0..files.len())
        .map(|probe| {
            let other_views = (0..files.len()).filter(|item| labels[*item] != labels[probe]);
            let alike = |item: usize| similarity(embeddings[probe].as_ref(), embeddings[item].as_ref());
            rank(other_views, alike, |item| labels[item].0 == labels[probe].0)
        })
        .collect();
    if !rankings.iter().any(|r| r.contains(&true)) {
        let problem = "no probe has its person in the gallery".to_owned();
        return Err(EvaluateError::Layout { path: data.to_owned(), problem });
    }
    Ok((Results::Retrieval(metrics::retrieval(&rankings, files.len())), files.len(), refused))
}

//! Market-1501: person re-identification.

use std::path::Path;

use super::{
    EvaluateError, EvaluationSet, Labelled, LabelledProtocol, Measurement, ProtocolOptions, Results, SampleFilter,
    encode_all, files, metrics, names, rank, similarity,
};
use domain::{Geometry, ImageBytes, Modality, Picture, Sample, SampleContent};
use encoder::Encoder;

/// The folders of the whole set.
const QUERY: &str = "query";
const GALLERY: &str = "bounding_box_test";
/// Person id of junk crops, which are ignored: boxes with a part of a person.
const JUNK: &str = "-1";
/// Label of the folder.
const ROLE: &str = "role";

/// Whether the folder has the layout of the whole set.
pub(super) fn is_whole(data: &Path) -> bool {
    data.join(QUERY).is_dir() && data.join(GALLERY).is_dir()
}

/// Queries against the gallery with distractors; without junk and without crops of the query's person and camera.
pub(super) async fn query_against_gallery(
    set: &EvaluationSet,
    encoder: &Encoder,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Measurement, EvaluateError> {
    let (mut paths, mut known) = (Vec::new(), Vec::new());
    for folder in [QUERY, GALLERY] {
        for file in files::in_folder(&set.data.join(folder), &["jpg", "jpeg", "png"])? {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let mut crop = names::market(&name)?;
            if crop.person != JUNK {
                crop.labels.insert(ROLE.to_owned(), folder.to_owned());
                known.push(crop);
                paths.push(file);
            }
        }
    }
    let labelled = Labelled::new(known, encode_all(encoder, &paths, sample, progress).await?)?;
    let part = |value: &str| Some(SampleFilter { label: ROLE.to_owned(), value: value.to_owned() });
    let across = vec!["camera".to_owned()];
    let options = ProtocolOptions { across, probes: part(QUERY), gallery: part(GALLERY), ..set.options.clone() };
    Measurement::labelled(&labelled, LabelledProtocol::ClosedSet, &options)
}

fn sample(path: &Path) -> Result<Sample, EvaluateError> {
    let bytes = ImageBytes(files::read(path)?.into());
    let content = SampleContent::Image(Picture { bytes, geometry: Geometry::default() });
    Ok(Sample { modality: Modality::Person, content })
}

/// Person and camera of `PPPP_cCsS_FFFFFF_00.jpg`.
fn label(path: &Path) -> Result<(String, String), EvaluateError> {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let parts = name.split_once("_c").and_then(|(person, rest)| Some((person, rest.split_once('s')?.0)));
    match parts {
        Some((person, camera)) => Ok((person.to_owned(), camera.to_owned())),
        None => Err(EvaluateError::Layout {
            path: path.to_owned(),
            problem: "a crop's name must be PPPP_cCsS_FFFFFF_00.jpg".to_owned(),
        }),
    }
}

pub(super) async fn all_against_all(
    data: &Path,
    encoder: &Encoder,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Measurement, EvaluateError> {
    let paths = files::in_folder(data, &["jpg", "jpeg", "png"])?;
    let labels: Vec<(String, String)> = paths.iter().map(|f| label(f)).collect::<Result<_, _>>()?;
    let embeddings = encode_all(encoder, &paths, sample, progress).await?;
    let refused = embeddings.iter().filter(|e| e.is_none()).count();
    let rankings: Vec<metrics::RankedRelevance> = (0..paths.len())
        .map(|probe| {
            let other_views = (0..paths.len()).filter(|item| labels[*item] != labels[probe]);
            let similarity_to = |item: usize| similarity(embeddings[probe].as_ref(), embeddings[item].as_ref());
            rank(other_views, similarity_to, |item| labels[item].0 == labels[probe].0)
        })
        .collect();
    if !rankings.iter().any(|r| r.contains(&true)) {
        let problem = "no probe has its person in the gallery".to_owned();
        return Err(EvaluateError::Layout { path: data.to_owned(), problem });
    }
    let results = Results::Retrieval(metrics::retrieval(&rankings, paths.len()));
    Ok(Measurement::new(results, paths.len(), refused))
}

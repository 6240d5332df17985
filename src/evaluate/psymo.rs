//! PsyMo walks.

use std::path::{Path, PathBuf};

use super::{EvaluateError, Results, encode_all, files_in, metrics, rank, read};
use crate::{
    domain::{Modality, Sample, SampleContent},
    encoder::{Encoder, read_walk},
};

/// What a file name says: `<person>_<viewpoint>_<direction>_<run>_<variation>.json`.
#[derive(Debug, PartialEq, Eq)]
struct Walk {
    person: String,
    viewpoint: String,
    direction: String,
    is_normal: bool,
}

fn walk(path: &Path) -> Result<Walk, EvaluateError> {
    let name = path.file_stem().and_then(|n| n.to_str()).unwrap_or_default();
    let parts: Vec<&str> = name.split('_').collect();
    match parts[..] {
        [person, viewpoint, direction, _run, variation] => Ok(Walk {
            person: person.to_owned(),
            viewpoint: viewpoint.to_owned(),
            direction: direction.to_owned(),
            is_normal: variation == "nm",
        }),
        _ => Err(EvaluateError::Layout {
            path: path.to_owned(),
            problem: "a walk is named <person>_<viewpoint>_<direction>_<run>_<variation>.json".to_owned(),
        }),
    }
}

/// The walks of every person's folder, or of the folder itself.
fn walks_in(data: &Path) -> Result<Vec<PathBuf>, EvaluateError> {
    let mut files = files_in(data, &["json"])?;
    let unreadable = |source| EvaluateError::Unreadable { path: data.to_owned(), source };
    for entry in std::fs::read_dir(data).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() {
            files.extend(files_in(&path, &["json"])?);
        }
    }
    files.sort_unstable();
    Ok(files)
}

pub(super) async fn same_view(
    data: &Path,
    encoder: &Encoder,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<(Results, usize, usize), EvaluateError> {
    let files = walks_in(data)?;
    let labels: Vec<Walk> = files.iter().map(|f| walk(f)).collect::<Result<_, _>>()?;
    let sample = |path: &Path| {
        let skeleton = read_walk(&read(path)?)
            .map_err(|problem| EvaluateError::Layout { path: path.to_owned(), problem: problem.to_string() })?;
        Ok(Sample { modality: Modality::Gait, content: SampleContent::Skeleton(skeleton) })
    };
    let embeddings = encode_all(encoder, &files, sample, progress).await?;
    let refused = embeddings.iter().filter(|e| e.is_none()).count();
    let rankings: Vec<metrics::Ranking> = (0..files.len())
        .map(|probe| {
            let of = &labels[probe];
            let same_view = |item: usize| {
                let item = &labels[item];
                item.is_normal && (&item.viewpoint, &item.direction) == (&of.viewpoint, &of.direction)
            };
            rank(probe, &embeddings, same_view, |item| labels[item].person == of.person)
        })
        .collect();
    let gallery = labels.iter().filter(|w| w.is_normal).count();
    if !rankings.iter().any(|r| r.contains(&true)) {
        let problem = "no probe has its person in the gallery".to_owned();
        return Err(EvaluateError::Layout { path: data.to_owned(), problem });
    }
    Ok((Results::Retrieval(metrics::retrieval(&rankings, gallery)), files.len(), refused))
}

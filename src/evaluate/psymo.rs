//! PsyMo: gait identification.

use std::path::Path;

use super::{
    Comparison, EvaluateError, Measurement, Results, encode_all, energy, files,
    metrics::{self, Retrieval},
    rank, similarity,
};
use domain::{Modality, Sample, SampleContent};
use encoder::{Encoder, proportions};

/// The parts of a file name: `<person>_<viewpoint>_<direction>_<run>_<variation>.json`.
#[derive(Debug, PartialEq, Eq)]
struct WalkName {
    person: String,
    viewpoint: String,
    direction: String,
    is_normal: bool,
}

fn walk(path: &Path) -> Result<WalkName, EvaluateError> {
    let name = path.file_stem().and_then(|n| n.to_str()).unwrap_or_default();
    let parts: Vec<&str> = name.split('_').collect();
    match parts[..] {
        [person, viewpoint, direction, _run, variation] => Ok(WalkName {
            person: person.to_owned(),
            viewpoint: viewpoint.to_owned(),
            direction: direction.to_owned(),
            is_normal: variation == "nm",
        }),
        _ => Err(EvaluateError::Layout {
            path: path.to_owned(),
            problem: "a walk's name must be <person>_<viewpoint>_<direction>_<run>_<variation>.json".to_owned(),
        }),
    }
}

/// The similarity of two walks by index.
type WalkSimilarity<'a> = Box<dyn Fn(usize, usize) -> f32 + 'a>;

/// The gallery of a probe; it never contains the probe itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WalkGallery {
    /// Normal walks of the probe's viewpoint and direction.
    SameView,
    /// Normal walks of all other viewpoints, in both directions.
    OtherViews,
}

impl WalkGallery {
    fn holds(self, item: &WalkName, probe: &WalkName) -> bool {
        item.is_normal
            && match self {
                Self::SameView => (&item.viewpoint, &item.direction) == (&probe.viewpoint, &probe.direction),
                Self::OtherViews => item.viewpoint != probe.viewpoint,
            }
    }
}

/// Every walk against the normal walks of its view; for comparison the same across views, and both for methods without
/// training: body proportions, and gait energy images if `silhouettes` is their folder.
pub(super) async fn walks(
    data: &Path,
    silhouettes: Option<&Path>,
    encoder: &Encoder,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Measurement, EvaluateError> {
    let paths = files::in_subfolders(data, &["json"])?;
    let labels: Vec<WalkName> = paths.iter().map(|f| walk(f)).collect::<Result<_, _>>()?;
    let sample =
        |path: &Path| Ok(Sample { modality: Modality::Gait, content: SampleContent::Skeleton(files::skeleton(path)?) });
    let embeddings = encode_all(encoder, &paths, sample, progress).await?;
    let refused = embeddings.iter().filter(|e| e.is_none()).count();
    let by_model = |one: usize, other: usize| similarity(embeddings[one].as_ref(), embeddings[other].as_ref());
    let results = Results::Retrieval(retrieval(data, &labels, WalkGallery::SameView, &by_model)?);
    let mut beside = vec![row(data, &labels, "this model", WalkGallery::OtherViews, &by_model)?];
    let proportions = paths
        .iter()
        .map(|file| Ok(proportions(&files::skeleton(file)?).to_vec()))
        .collect::<Result<Vec<_>, EvaluateError>>()?;
    let nearness = |one: usize, other: usize| {
        -proportions[one].iter().zip(&proportions[other]).map(|(one, other)| (one - other).powi(2)).sum::<f32>()
    };
    let mut methods: Vec<(&str, WalkSimilarity<'_>)> = vec![("static proportions", Box::new(nearness))];
    if let Some(folder) = silhouettes {
        let images = paths.iter().map(|file| energy::image_of(folder, file)).collect::<Result<Vec<_>, _>>()?;
        let correlation = move |one: usize, other: usize| energy::correlation(&images[one], &images[other]);
        methods.push(("gait-energy images", Box::new(correlation)));
    }
    for (method, similarity_of) in &methods {
        for gallery in [WalkGallery::SameView, WalkGallery::OtherViews] {
            beside.push(row(data, &labels, method, gallery, similarity_of)?);
        }
    }
    Ok(Measurement { beside, ..Measurement::new(results, paths.len(), refused) })
}

fn row(
    data: &Path,
    labels: &[WalkName],
    method: &'static str,
    gallery: WalkGallery,
    similarity_of: &dyn Fn(usize, usize) -> f32,
) -> Result<Comparison, EvaluateError> {
    let views = match gallery {
        WalkGallery::SameView => "same view",
        WalkGallery::OtherViews => "other views",
    };
    Ok(Comparison { method, gallery: views, retrieval: retrieval(data, labels, gallery, similarity_of)? })
}

fn retrieval(
    data: &Path,
    labels: &[WalkName],
    gallery: WalkGallery,
    similarity_of: &dyn Fn(usize, usize) -> f32,
) -> Result<Retrieval, EvaluateError> {
    let ranking = |probe: usize| {
        let items = (0..labels.len()).filter(|item| *item != probe && gallery.holds(&labels[*item], &labels[probe]));
        rank(items, |item| similarity_of(probe, item), |item| labels[item].person == labels[probe].person)
    };
    let rankings: Vec<metrics::RankedRelevance> = (0..labels.len()).map(ranking).collect();
    if !rankings.iter().any(|r| r.contains(&true)) {
        let problem = "no probe has its person in the gallery".to_owned();
        return Err(EvaluateError::Layout { path: data.to_owned(), problem });
    }
    Ok(metrics::retrieval(&rankings, labels.iter().filter(|walk| walk.is_normal).count()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> WalkName {
        walk(Path::new(&format!("skeletons/1/{name}.json"))).expect("a walk's name")
    }

    #[test]
    fn names_give_person_and_view() {
        let found = named("001_45_1_0_nm");
        assert_eq!((&*found.person, &*found.viewpoint, &*found.direction), ("001", "45", "1"));
        assert!(found.is_normal && !named("001_45_1_0_wsf").is_normal);
        assert!(matches!(walk(Path::new("001_45_1_nm.json")), Err(EvaluateError::Layout { .. })));
    }

    #[test]
    fn galleries_have_normal_walks_of_their_views() {
        let probe = named("001_45_1_0_bg");
        for (item, same_view, other_views) in [
            ("002_45_1_0_nm", true, false),
            ("002_45_0_0_nm", false, false),
            ("002_90_1_0_nm", false, true),
            ("002_90_0_1_nm", false, true),
            ("002_45_1_0_cl", false, false),
            ("002_90_1_0_cl", false, false),
        ] {
            let item = named(item);
            assert_eq!(WalkGallery::SameView.holds(&item, &probe), same_view, "{item:?}");
            assert_eq!(WalkGallery::OtherViews.holds(&item, &probe), other_views, "{item:?}");
        }
    }

    #[test]
    fn a_probe_never_finds_itself() {
        let labels = ["001_00_0_0_nm", "001_00_0_1_nm", "002_00_0_0_nm", "002_00_0_1_nm"].map(named);
        let similarity_of =
            |one: usize, other: usize| if one == other { 9.0 } else { -(one as f32 - other as f32).abs() };
        let found =
            retrieval(Path::new("x"), &labels, WalkGallery::SameView, &similarity_of).expect("people are there twice");
        // The second walk of the first person and the first walk of the second person are neighbours, too.
        assert!((0.5..1.0).contains(&found.rank_1), "{found:?}");
        let alone = retrieval(Path::new("x"), &labels[1..3], WalkGallery::SameView, &similarity_of);
        assert!(matches!(alone, Err(EvaluateError::Layout { .. })));
    }
}

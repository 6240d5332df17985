//! A folder of samples with persons in their names.

use std::path::Path;

use super::{EvaluateError, EvaluationSet, Labelled, encode_all, files};
use domain::{Alignment, FaceSelection, Geometry, ImageBytes, Modality, Picture, Sample, SampleContent};
use encoder::Encoder;

const PICTURES: [&str; 5] = ["jpg", "jpeg", "png", "webp", "ppm"];
const WALKS: [&str; 1] = ["json"];

/// Encodes the samples of a folder and its subfolders: pictures, or walks for gait models. Of several faces in a
/// picture the most central one is used.
pub(super) async fn labelled(
    set: &EvaluationSet,
    encoder: &Encoder,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Labelled, EvaluateError> {
    let modality = encoder.space().modality;
    let rule = set
        .person
        .as_ref()
        .ok_or_else(|| EvaluateError::Unusable("--person must define how a file's name gives the person".to_owned()))?;
    let paths = files::in_subfolders(&set.data, if modality == Modality::Gait { &WALKS } else { &PICTURES })?;
    let names: Vec<String> =
        paths.iter().map(|file| file.file_name().unwrap_or_default().to_string_lossy().into_owned()).collect();
    // Checked before hours of encoding.
    let known = rule.known(&names)?;
    let sample = |path: &Path| {
        let geometry = match modality {
            Modality::Face => Geometry {
                alignment: Some(Alignment::Detect),
                selection: Some(FaceSelection::MostCentral),
                ..Geometry::default()
            },
            Modality::Person => Geometry::default(),
            Modality::Gait => {
                return Ok(Sample { modality, content: SampleContent::Skeleton(files::skeleton(path)?) });
            }
        };
        let bytes = ImageBytes(files::read(path)?.into());
        Ok(Sample { modality, content: SampleContent::Image(Picture { bytes, geometry }) })
    };
    Labelled::new(known, encode_all(encoder, &paths, sample, progress).await?)
}

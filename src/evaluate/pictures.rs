//! A folder of samples whose names tell the people.

use std::path::{Path, PathBuf};

use super::{EvaluateError, Labelled, Set, encode_all, files_in, psymo::skeleton, read};
use domain::{Alignment, FaceSelection, Geometry, ImageBytes, Modality, Picture, Sample, SampleContent};
use encoder::Encoder;

const PICTURES: [&str; 5] = ["jpg", "jpeg", "png", "webp", "ppm"];
const WALKS: [&str; 1] = ["json"];

/// Encodes what the folder and the folders within it hold: pictures, or walks where the model is for these. In a picture
/// of faces the most central one is meant.
pub(super) async fn labelled(
    set: &Set,
    encoder: &Encoder,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Labelled, EvaluateError> {
    let modality = encoder.space().modality;
    let rule = set.person.as_ref().ok_or_else(|| {
        EvaluateError::Unusable("it takes to know how a file's name tells the person: --person says it".to_owned())
    })?;
    let files = within(&set.data, if modality == Modality::Gait { &WALKS } else { &PICTURES })?;
    let names: Vec<String> =
        files.iter().map(|file| file.file_name().unwrap_or_default().to_string_lossy().into_owned()).collect();
    // Before hours of encoding.
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
                return Ok(Sample { modality, content: SampleContent::Skeleton(skeleton(path)?) });
            }
        };
        let bytes = ImageBytes(read(path)?.into());
        Ok(Sample { modality, content: SampleContent::Image(Picture { bytes, geometry }) })
    };
    Labelled::new(known, encode_all(encoder, &files, sample, progress).await?)
}

/// The files of a folder and of the folders in it, sorted by path.
pub(super) fn within(folder: &Path, endings: &[&str]) -> Result<Vec<PathBuf>, EvaluateError> {
    let mut files = files_in(folder, endings)?;
    let unreadable = |source| EvaluateError::Unreadable { path: folder.to_owned(), source };
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() {
            files.extend(files_in(&path, endings)?);
        }
    }
    files.sort_unstable();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_people_are_looked_into() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("ann")).expect("made");
        for name in ["b.jpg", "ann/a.PNG", "ann/notes.txt"] {
            std::fs::write(folder.path().join(name), b"").expect("written");
        }
        let found = within(folder.path(), &PICTURES).expect("listed");
        assert_eq!(found, [folder.path().join("ann/a.PNG"), folder.path().join("b.jpg")]);
    }
}

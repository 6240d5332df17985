//! What tests share: where the real weights and the real labelled inputs are, and records to start from.

mod records;

use std::path::{Path, PathBuf};

pub use records::{collection, identity, identity_id, labels, stored_template, template};

/// The data folder: `SEMBLANCE_TEST_DATA`, or `../shared/data` beside the project. A test that needs it and gets `None`
/// says so and passes: the project builds and tests without it.
#[expect(clippy::disallowed_methods, clippy::print_stderr, reason = "tests have no configuration and no log")]
pub fn folder() -> Option<PathBuf> {
    let given = std::env::var_os("SEMBLANCE_TEST_DATA").map(PathBuf::from);
    let folder = given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"));
    if folder.join("MANIFEST.md").is_file() {
        return Some(folder);
    }
    eprintln!("skipped: no test data at {}", folder.display());
    None
}

/// Real embeddings with the name of the image that each was made from.
pub type NamedEmbeddings = Vec<(String, Vec<f32>)>;

/// The rows of `embeddings/<set>.npy`, which holds a float16 matrix, and their names.
pub fn embeddings(set: &str) -> Option<NamedEmbeddings> {
    let folder = folder()?.join("embeddings");
    let file = std::fs::read(folder.join(format!("{set}.npy"))).expect("the folder holds the set");
    let names = std::fs::read_to_string(folder.join(format!("{set}.names.txt"))).expect("each set has names");
    // NumPy's format, version 1: a magic of 6 bytes, a version of 2, the header's length in 2, the header, the numbers.
    let header_len = usize::from(u16::from_le_bytes([file[8], file[9]]));
    let header = String::from_utf8_lossy(&file[10..10 + header_len]).into_owned();
    assert!(header.contains("'<f2'") && header.contains("'fortran_order': False"), "{header}");
    let numbers: Vec<f32> =
        file[10 + header_len..].chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect();
    let names: Vec<&str> = names.lines().collect();
    assert_eq!(numbers.len() % names.len(), 0, "one row a name");
    let rows = numbers.chunks_exact(numbers.len() / names.len());
    Some(names.iter().zip(rows).map(|(name, row)| ((*name).to_owned(), row.to_vec())).collect())
}

/// The person on an image of Labeled Faces in the Wild: the name without its number.
pub fn lfw_person(image: &str) -> &str {
    image.rsplit_once('_').expect("Name_Surname_0001.jpg").0
}

/// The person on an image of Market-1501: the first four characters.
pub fn market_person(image: &str) -> &str {
    &image[..4]
}

//! What tests share: where the real data and the PostgreSQL server are, and records to start from.
//!
//! A test that needs data or a server is ignored by default. Its `#[ignore]` names the variable, and its name (or a
//! module of its path) ends in `on_real_data` or `on_postgres`, so that `tools/test.sh` includes it where the variable is set.

mod records;

use std::{env, fs, path::PathBuf};

pub use records::{collection, identity, identity_id, labels, stored_template, template};

/// The folder with the real weights and the real labelled inputs, which `SEMBLANCE_TEST_DATA` names.
///
/// # Panics
/// When the variable is not set or names a folder without the set's `MANIFEST.md`.
#[expect(clippy::disallowed_methods, reason = "tests have no configuration")]
pub fn data() -> PathBuf {
    let folder = env::var_os("SEMBLANCE_TEST_DATA").map(PathBuf::from);
    let folder = folder.expect("SEMBLANCE_TEST_DATA is not set; set it to the folder of the real test data");
    let is_complete = folder.join("MANIFEST.md").is_file();
    assert!(is_complete, "SEMBLANCE_TEST_DATA is {}, a folder without MANIFEST.md", folder.display());
    folder
}

/// The address of a PostgreSQL server on which tests may create and drop databases, from `SEMBLANCE_TEST_POSTGRES_URL`.
///
/// # Panics
/// When the variable is not set.
#[expect(clippy::disallowed_methods, reason = "tests have no configuration")]
pub fn postgres_url() -> String {
    let url = env::var("SEMBLANCE_TEST_POSTGRES_URL");
    url.expect("SEMBLANCE_TEST_POSTGRES_URL is not set; tools/postgres.sh run COMMAND sets it for COMMAND")
}

/// How often a test repeats itself: as the variable says, and otherwise so often that it takes seconds.
///
/// # Panics
/// When the variable holds no number.
#[expect(clippy::disallowed_methods, reason = "tests have no configuration")]
pub fn number(variable: &str, otherwise: usize) -> usize {
    env::var(variable).map_or(otherwise, |text| text.parse().expect("the variable holds a number"))
}

/// Real embeddings with the name of the image that each was made from.
pub type NamedEmbeddings = Vec<(String, Vec<f32>)>;

/// The rows of `embeddings/<set>.npy`, which holds a float16 matrix, and their names.
///
/// # Panics
/// When the real data is missing or the set is not in it.
pub fn embeddings(set: &str) -> NamedEmbeddings {
    let folder = data().join("embeddings");
    let file = fs::read(folder.join(format!("{set}.npy"))).expect("the folder holds the set");
    let names = fs::read_to_string(folder.join(format!("{set}.names.txt"))).expect("each set has names");
    // NumPy's format, version 1: a magic of 6 bytes, a version of 2, the header's length in 2, the header, the numbers.
    let header_len = usize::from(u16::from_le_bytes([file[8], file[9]]));
    let header = String::from_utf8_lossy(&file[10..10 + header_len]).into_owned();
    assert!(header.contains("'<f2'") && header.contains("'fortran_order': False"), "{header}");
    let numbers: Vec<f32> =
        file[10 + header_len..].chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect();
    let names: Vec<&str> = names.lines().collect();
    assert_eq!(numbers.len() % names.len(), 0, "one row a name");
    let rows = numbers.chunks_exact(numbers.len() / names.len());
    names.iter().zip(rows).map(|(name, row)| ((*name).to_owned(), row.to_vec())).collect()
}

/// The person on an image of Labeled Faces in the Wild: the name without its number.
pub fn lfw_person(image: &str) -> &str {
    image.rsplit_once('_').expect("Name_Surname_0001.jpg").0
}

/// The person on an image of Market-1501: the first four characters.
pub fn market_person(image: &str) -> &str {
    &image[..4]
}

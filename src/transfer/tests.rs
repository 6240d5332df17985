//! Written files are read back unchanged, and damaged files give errors.

use std::{fs, path::Path};

use proptest::{prelude::*, strategy::ValueTree};

use super::*;
use domain::{
    Alignment, Embedding, EmbeddingSpace, IdentityId, Labels, Modality, ModelDigest, SampleContent, SpaceName,
};

fn exported(number: u32, dimension: u32) -> Exported {
    let values: Vec<f32> = (0..dimension).map(|n| ((n + number * 7) as f32 * 0.37).sin() + 1e-3).collect();
    let space = EmbeddingSpace::whole(Modality::Face, ModelDigest([7; 32]), dimension);
    let labels = [("site".to_owned(), format!("north \"{number}\" é")), ("a".to_owned(), String::new())];
    Exported {
        identity: IdentityId::new(&format!("person-{number}")).expect("an id"),
        labels: if number.is_multiple_of(3) {
            Labels::default()
        } else {
            Labels::try_from(labels.into_iter().collect::<std::collections::BTreeMap<_, _>>()).expect("labels")
        },
        modality: Modality::Face,
        model: SpaceName::new("mine").expect("a name"),
        digest: space.digest,
        embedding: Embedding::new(space, &values).expect("an embedding"),
    }
}

fn source(file: &Path) -> ImportSource {
    let is_npy = file.extension().is_some_and(|e| e == "npy");
    let model = SpaceName::new("mine").ok().filter(|_| is_npy);
    ImportSource {
        file: file.to_owned(),
        names: is_npy.then(|| npy::names_beside(file)),
        defaults: RowDefaults { model, modality: is_npy.then_some(Modality::Face) },
        after: 0,
    }
}

fn rows(source: &ImportSource) -> Vec<Result<RowRead, TransferError>> {
    read(source).expect("it opens").collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn values(row: &ImportRow) -> &[f32] {
    let SampleContent::Embedding { values, .. } = &row.sample.content else { panic!("{row:?}") };
    values
}

#[test]
fn written_rows_are_read_back_bit_for_bit() {
    let folder = tempfile::tempdir().expect("a folder");
    let people: Vec<Exported> = (0..2500).map(|number| exported(number, 33)).collect();
    for name in ["people.jsonl", "people.arrow", "people.npy"] {
        let path = folder.path().join(name);
        let mut output = Output::begin(&path, Contents::Embeddings).expect("begun");
        people.chunks(1000).for_each(|chunk| output.write(chunk).expect("written"));
        assert!(!path.exists(), "{name} takes its place when it is whole");
        let made = output.finish().expect("finished");
        assert_eq!(made[0], path);
        for file in made {
            let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).expect("there").permissions());
            assert_eq!(mode & 0o777, 0o600, "{} is for its owner alone", file.display());
        }
        let opened = read(&source(&path)).expect("it opens");
        assert_eq!(opened.total, 2500);
        for ((read, given), number) in opened.zip(&people).zip(1..) {
            let read = read.expect("the file is whole").expect("the row is good");
            assert_eq!((read.number, &read.identity), (number, &given.identity));
            assert_eq!(read.sample.modality, given.modality);
            if name == "people.jsonl" {
                let near = |(a, b): (&f32, &f32)| (a - b).abs() <= f32::EPSILON;
                assert!(values(&read).iter().zip(given.embedding.values()).all(near));
            } else {
                assert_eq!(bits(values(&read)), bits(given.embedding.values()), "{name}");
            }
            if name != "people.npy" {
                assert_eq!((&read.labels, read.digest), (&given.labels, Some(given.digest)));
            }
        }
        let rest = rows(&ImportSource { after: 2490, ..source(&path) });
        let numbers: Vec<u64> =
            rest.iter().map(|row| row.as_ref().expect("whole").as_ref().expect("good").number).collect();
        assert_eq!(numbers, (2491..=2500).collect::<Vec<u64>>(), "{name}");
        assert!(rows(&ImportSource { after: 9999, ..source(&path) }).is_empty());
    }
}

#[test]
fn files_without_embeddings_and_empty_files_are_valid() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["people.jsonl", "people.arrow"] {
        let path = folder.path().join(name);
        let mut output = Output::begin(&path, Contents::Names).expect("begun");
        output.write(&[exported(1, 4), exported(2, 8)]).expect("lengths do not matter here");
        output.finish().expect("finished");
        let bytes = fs::read(&path).expect("there");
        assert!(!bytes.windows(9).any(|window| window == b"embedding"), "{name}");
        let empty = folder.path().join(format!("empty-{name}"));
        Output::begin(&empty, Contents::Names).expect("begun").finish().expect("finished");
        assert!(empty.exists());
    }
    assert!(matches!(Output::begin(&folder.path().join("a.npy"), Contents::Names), Err(TransferError::Unwritable(_))));
    assert!(matches!(
        Output::begin(&folder.path().join("a.csv"), Contents::Names),
        Err(TransferError::UnknownFormat(_))
    ));
    let mut mixed = Output::begin(&folder.path().join("mixed.arrow"), Contents::Embeddings).expect("begun");
    assert!(matches!(mixed.write(&[exported(1, 4), exported(2, 8)]), Err(TransferError::Unwritable(_))));
    drop(mixed);
    let left: Vec<_> =
        fs::read_dir(folder.path()).expect("readable").map(|f| f.expect("readable").file_name()).collect();
    assert_eq!(left.len(), 4, "what was given up leaves nothing: {left:?}");
}

#[test]
fn an_invalid_line_has_an_error_and_the_next_one_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("face.jpg"), [1, 2, 3]).expect("written");
    let path = folder.path().join("people.jsonl");
    let long = format!("{{\"identity\": \"{}\"}}", "x".repeat(3 << 20));
    let lines = [
        r#"{"identity":"a","modality":"face","model":"mine","embedding":[1,0.5]}"#,
        r#"{"identity":"a b","modality":"face","model":"mine","embedding":[1]}"#,
        r#"{"identity":"a","modality":"voice","model":"mine","embedding":[1]}"#,
        r#"{"identity":"a","modality":"face","model":"mine","embedding":[]}"#,
        r#"{"identity":"a","modality":"face","model":"mine","embedding":[1e99]}"#,
        r#"{"identity":"a","modality":"face","model":"mine","embeding":[1]}"#,
        r#"{"identity":"a","modality":"face","embedding":[1]}"#,
        r#"{"identity":"a","modality":"face"}"#,
        r#"{"identity":"a","modality":"face","model":"mine","image":"face.jpg"}"#,
        r#"{"identity":"a","modality":"face","image":"none.jpg"}"#,
        r#"{"identity":"a","modality":"face","labels":{"1":"x"},"model":"mine","embedding":[1]}"#,
        "nonsense",
        "\u{0}\u{1}",
        "",
        long.as_str(),
        r#"{"identity":"b","modality":"face","image":"face.jpg","alignment":"lfw_funneled","box":[0,0,5,5]}"#,
        r#"{"identity":"c","modality":"face","model":"mine","embedding":[1"#,
    ];
    // Windows programs write a byte order mark first.
    fs::write(&path, format!("\u{feff}{}", lines.join("\n"))).expect("written");
    let opened = read(&source(&path)).expect("it opens");
    assert_eq!(opened.total, 17);
    let fields: Vec<(u64, Result<ImportRow, String>)> = opened
        .map(|row| match row.expect("the file is readable") {
            Ok(row) => (row.number, Ok(row)),
            Err(bad) => (bad.number, Err(bad.problem)),
        })
        .collect();
    let problems: Vec<(u64, &str)> =
        fields.iter().filter_map(|(number, row)| Some((*number, row.as_ref().err()?.as_str()))).collect();
    let expected = [
        (2, "identity: an id is made of"),
        (3, "modality: a modality is face, person or gait"),
        (4, "1 to 8192 numbers, this one has 0"),
        (5, ""),
        (6, "unknown field `embeding`"),
        (7, "--model sets it for all"),
        (8, "an embedding or an image"),
        (9, "omit model"),
        (10, "the picture none.jpg: "),
        (11, "labels: a label key is"),
        (12, "this is not a row"),
        (13, "this is not a row"),
        (15, "longer than 1048576 bytes"),
        (17, "this is not a row"),
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:?}");
    for ((number, problem), (at, says)) in problems.iter().zip(expected) {
        assert_eq!(*number, at);
        assert!(problem.contains(says), "{number}: {problem}");
    }
    let good: Vec<&ImportRow> = fields.iter().filter_map(|(_, row)| row.as_ref().ok()).collect();
    assert_eq!(good.iter().map(|row| row.number).collect::<Vec<_>>(), [1, 16]);
    let SampleContent::Image(picture) = &good[1].sample.content else { panic!("{:?}", good[1]) };
    assert_eq!((&picture.bytes.0[..], picture.geometry.alignment), (&[1, 2, 3][..], Some(Alignment::LfwFunneled)));
}

/// An array of 3 rows of 2 numbers as bytes, with this header.
fn npy(header: &str) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len()).expect("short").to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend([0_u8; 24]);
    bytes
}

#[test]
fn unsupported_arrays_are_refused_with_advice() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.npy");
    fs::write(npy::names_beside(&path), "a\nb\nc").expect("written");
    let whole = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }\n";
    let fields = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("written");
        read(&source(&path)).map(|rows| rows.total).map_err(|error| error.to_string())
    };
    assert_eq!(fields(&npy(whole)), Ok(3));
    // Read as float16, the 24 bytes are six rows: three too many.
    assert!(
        fields(&npy(&whole.replace("<f4", "<f2").replace("(3,", "(6,")))
            .is_err_and(|e| e.contains("3 names for 6 rows"))
    );
    let cases = [
        (npy(&whole.replace("<f4", "<f8")), "save array.astype('<f4')"),
        (npy(&whole.replace("<f4", "|O")), "save array.astype('<f4')"),
        (npy(&whole.replace("False", "True")), "numpy.ascontiguousarray"),
        (npy(&whole.replace("(3, 2)", "(6,)")), "its shape is [6]"),
        (npy(&whole.replace("(3, 2)", "(3, 0)")), "rows of 1 to 8192 numbers"),
        (npy(&whole.replace("(3, 2)", "(3, 9000)")), "rows of 1 to 8192 numbers"),
        (npy(&whole.replace("(3, 2)", "(-3, 2)")), "its shape cannot be read"),
        (npy(&whole.replace("(3, 2)", "(18446744073709551615, 8192)")), "too many numbers"),
        (npy(&whole.replace("(3, 2)", "(4, 2)")), "incomplete or damaged"),
        (npy(whole)[..npy(whole).len() - 1].to_vec(), "incomplete or damaged"),
        (npy(whole)[..20].to_vec(), "ends within its header"),
        (npy(&whole.replace("'shape'", "'form'")), "its header has no shape"),
        (b"\x93NUMPY\x09\x00aa".to_vec(), "version 9 of .npy is not supported"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xffaa".to_vec(), "is too long"),
        (b"PK\x03\x04 a zip of arrays".to_vec(), "another magic number"),
        (Vec::new(), "too short"),
    ];
    for (bytes, says) in cases {
        let problem = fields(&bytes).expect_err(says);
        assert!(problem.contains(says), "{problem:?} does not say {says:?}");
    }
    fs::write(npy::names_beside(&path), "a\nb\n").expect("written");
    assert!(fields(&npy(whole)).expect_err("two names").contains("2 names for 3 rows"));
    assert!(read(&ImportSource { names: None, ..source(&path) }).is_err());
    assert!(matches!(digest(&[Path::new("/dev/zero")]), Err(TransferError::NotAFile(_))));
}

#[test]
fn a_damaged_arrow_file_is_an_error_and_never_ends_the_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("people.arrow");
    let mut output = Output::begin(&path, Contents::Embeddings).expect("begun");
    output.write(&(0..40).map(|number| exported(number, 8)).collect::<Vec<_>>()).expect("written");
    output.finish().expect("finished");
    let whole = fs::read(&path).expect("there");
    // Reads all rows: every row is valid, invalid, or the end. Returns whether all were valid.
    let look = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("written");
        read(&source(&path)).is_ok_and(|rows| rows.filter(|row| matches!(row, Ok(Ok(_)))).count() == 40)
    };
    assert!(look(&whole));
    for cut in [0, 1, 6, 8, whole.len() / 2, whole.len() - 1] {
        assert!(!look(&whole[..cut]), "cut at {cut}");
    }
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let flips = prop::collection::vec((0..whole.len(), 0..8_u8), 1..4);
    for _ in 0..300 {
        let mut bytes = whole.clone();
        let flips = flips.new_tree(&mut runner).expect("a strategy").current();
        for (at, bit) in flips {
            bytes[at] ^= 1 << bit;
        }
        look(&bytes);
    }
}

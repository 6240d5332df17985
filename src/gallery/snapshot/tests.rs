//! Snapshots of a collection index: write, read, damage, erase.

mod many;
mod pending;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::{
    Gallery, GalleryOptions, Query, Searched,
    collection::CollectionIndex,
    rows::kernel::Packing,
    testbed::{LogWriter, embedding, id, names, now, unit_rows},
};
use domain::{Embedding, Entry, StoredTemplate};

const DIMENSION: usize = 48;

fn uid() -> CollectionUid {
    CollectionUid(Uuid::from_u128(4))
}

/// An index with a snapshot directory of its own.
struct SnapshotFixture {
    root: TempDir,
    index: Arc<CollectionIndex>,
    writer: LogWriter,
    log: Vec<Entry>,
    rows: Vec<Vec<f32>>,
}

impl SnapshotFixture {
    /// `people` identities with one label and two templates each.
    fn new(people: usize) -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let index = open(root.path());
        let rows = unit_rows(people * 2, DIMENSION, 21);
        let mut fixture = Self { root, index, writer: LogWriter::new(DIMENSION), log: Vec::new(), rows };
        for person in 0..people {
            let name = format!("p{person}");
            let labelled = fixture.writer.label(&name, &[("site", "north")], None);
            fixture.append(labelled);
            for row in [person * 2, person * 2 + 1] {
                let enrolled = fixture.writer.enroll(&name, &fixture.rows[row].clone());
                fixture.append(enrolled);
            }
        }
        fixture
    }

    fn append(&mut self, entries: Vec<Entry>) {
        self.index.apply(&entries).expect("in order");
        self.log.extend(entries);
    }

    fn folder(&self) -> PathBuf {
        dir(self.root.path()).newest(uid()).expect("readable").expect("a snapshot was taken")
    }

    /// Whether any file below the root contains the bytes.
    fn holds(&self, bytes: &[u8]) -> bool {
        files_below(self.root.path()).iter().any(|file| {
            let held = fs::read(file).expect("readable");
            held.windows(bytes.len()).any(|window| window == bytes)
        })
    }
}

fn files_below(root: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(root).expect("readable").map(|entry| entry.expect("readable").path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

fn files_below_folders(root: &Path) -> usize {
    fs::read_dir(root).expect("readable").filter(|entry| entry.as_ref().expect("readable").path().is_dir()).count()
}

fn open(root: &Path) -> Arc<CollectionIndex> {
    gallery(root, 0).open(uid())
}

/// A gallery that maps values of at least so many bytes.
fn gallery(root: &Path, mapped_bytes_min: usize) -> Gallery {
    let snapshots_dir = Some(root.to_owned());
    Gallery::new(GalleryOptions { snapshots_dir, mapped_bytes_min, ..GalleryOptions::default() })
}

fn dir(root: &Path) -> Arc<SnapshotDir> {
    Arc::new(SnapshotDir::new(root.to_owned()))
}

fn read_mapped(folder: &Path, uid: CollectionUid) -> Result<ReadSnapshot, SnapshotError> {
    let options = ReadOptions { packing: Packing::Bytes, mapped_bytes_min: 0 };
    read(&dir(folder.parent().expect("in a root")), folder, uid, options)
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn assert_same_answers(one: &CollectionIndex, other: &CollectionIndex, probes: &[Vec<f32>]) {
    assert_eq!((one.position(), one.stats()), (other.position(), other.stats()));
    for probe in probes.iter().map(|values| embedding(values)) {
        assert_eq!(one.search(&probe, &Query::top(7)), other.search(&probe, &Query::top(7)));
    }
}

#[test]
fn a_restart_reads_the_snapshot_and_applies_the_log_from_there() {
    let mut fixture = SnapshotFixture::new(40);
    assert!(fixture.index.write_snapshot().expect("written"));
    assert!(!fixture.index.write_snapshot().expect("nothing to do"), "nothing has moved");
    let at = fixture.index.position();
    assert!(
        fixture.index.bytes().mapped > 0 && fixture.index.bytes().originals == 0,
        "the file holds the originals now"
    );

    let late = unit_rows(1, DIMENSION, 5).remove(0);
    let tail = [fixture.writer.enroll("late", &late), fixture.writer.forget_identity("p3")].concat();
    fixture.append(tail.clone());

    let again = open(fixture.root.path());
    let recall = again.load_snapshot().expect("whole").expect("there");
    assert_eq!(
        (recall.position(), recall.entry_checksum()),
        (at, fixture.log[usize::try_from(at.0).expect("short") - 1].checksum())
    );
    recall.install();
    again.apply(&tail).expect("in order");
    assert_same_answers(&fixture.index, &again, &fixture.rows);
    let labels = again.identity(&id("p5")).expect("enrolled").labels;
    assert_eq!(labels.get("site"), Some("north"));
    assert_eq!(names(&again.search(&embedding(&late), &Query::top(1))), ["late"]);
    assert!(!names(&again.search(&embedding(&fixture.rows[6]), &Query::top(80))).contains(&"p3"));
}

/// Deletions before and during the write of a snapshot.
#[test]
fn deleted_data_is_overwritten_on_disk() {
    let mut fixture = SnapshotFixture::new(30);
    assert!(fixture.index.write_snapshot().expect("written"));
    let numbers: Vec<Vec<u8>> = fixture.rows.iter().map(|row| little_endian(embedding(row).values())).collect();
    assert!(fixture.holds(&numbers[20]) && fixture.holds(b"p10"));

    let gone = fixture.writer.forget_identity("p10");
    fixture.append(gone);
    fixture.index.sync_erasures().expect("synced");
    assert!(!fixture.holds(&numbers[20]) && !fixture.holds(&numbers[21]) && !fixture.holds(b"\"p10\""));
    let template = fixture.index.search(&embedding(&fixture.rows[8]), &Query::top(1))[0].template;
    let gone = fixture.writer.forget_template("p4", template);
    fixture.append(gone);
    assert!(!fixture.holds(&numbers[8]) && fixture.holds(&numbers[9]));
    assert!(fixture.holds(b"\"p4\""));

    let again = open(fixture.root.path());
    again.load_snapshot().expect("still whole").expect("there").install();
    again.apply(&fixture.log).expect("in order");
    assert_same_answers(&fixture.index, &again, &fixture.rows);
}

/// The snapshot has the template under an identity that is erased from it; the log since brings it back.
#[test]
fn a_template_that_moved_after_the_snapshot_is_there_after_a_restart() {
    let mut fixture = SnapshotFixture::new(30);
    assert!(fixture.index.write_snapshot().expect("written"));
    let numbers = little_endian(embedding(&fixture.rows[8]).values());
    let enrolled = |name: &str, log: &[Entry]| -> StoredTemplate {
        let admitted = log.iter().filter_map(|entry| entry.admitted.clone());
        admitted.into_iter().find(|stored| stored.template.identity == id(name)).expect("enrolled")
    };
    let stored = enrolled("p4", &fixture.log);
    let tail = [fixture.writer.move_template(&stored, "p5"), fixture.writer.forget_identity("p4")].concat();
    fixture.append(tail);
    assert!(!fixture.holds(b"\"p4\""));
    let answers = |index: &CollectionIndex, rows: &[Vec<f32>]| -> Vec<_> {
        rows.iter().map(|row| index.search(&embedding(row), &Query::top(7))).collect()
    };
    let expected = answers(&fixture.index, &fixture.rows);
    assert_eq!(names(&expected[8][..1]), ["p5"]);
    for _ in 0..2 {
        // One process at a time has the folder: the first start erases the row from the file.
        fixture.index = open(fixture.root.path());
        fixture.index.load_snapshot().expect("whole").expect("there").install();
        fixture.index.apply(&fixture.log).expect("in order");
        assert_eq!(answers(&fixture.index, &fixture.rows), expected);
    }
    let gone = fixture.writer.forget_identity("p5");
    fixture.append(gone);
    assert!(!fixture.holds(&numbers), "erased with its new identity");
}

#[test]
fn a_restart_knows_who_is_provisional_and_who_was_enrolled_since() {
    let mut fixture = SnapshotFixture::new(10);
    for (name, row) in [("seen", 3), ("promoted", 5)] {
        let labelled = fixture.writer.label_provisional(name, true);
        let enrolled = fixture.writer.enroll(name, &fixture.rows[row].clone());
        fixture.append([labelled, enrolled].concat());
    }
    assert!(fixture.index.write_snapshot().expect("written"));
    let promoted = fixture.writer.label_provisional("promoted", false);
    fixture.append(promoted);
    let again = open(fixture.root.path());
    again.load_snapshot().expect("whole").expect("there").install();
    again.apply(&fixture.log).expect("in order");
    assert_eq!(again.counts(), fixture.index.counts());
    assert_eq!((again.counts().enrolled.identities, again.counts().provisional.identities), (11, 1));
    assert_same_answers(&fixture.index, &again, &fixture.rows);
    let provisional = Query { searched: Searched::Provisional, ..Query::top(3) };
    assert_eq!(names(&again.search(&embedding(&fixture.rows[3]), &provisional)), ["seen"]);
}

#[test]
fn replaced_and_incomplete_snapshots_are_deleted() {
    let mut fixture = SnapshotFixture::new(10);
    assert!(fixture.index.write_snapshot().expect("written"));
    let before = fixture.folder();
    let partial = fixture.root.path().join(format!(".{}-00000000000000000099", uid()));
    fs::create_dir(&partial).expect("made");
    fs::write(partial.join("0.rows"), b"personal data").expect("written");
    let more = fixture.writer.enroll("p1", &fixture.rows[3].clone());
    fixture.append(more);
    assert!(fixture.index.write_snapshot().expect("written"));
    assert!(!before.exists() && fixture.folder().exists());
    assert!(!partial.exists(), "incomplete snapshots are deleted");

    let before = fixture.index.search(&embedding(&fixture.rows[5]), &Query::top(5));
    fixture.index.clear_snapshots().expect("nothing to do");
    assert!(fixture.folder().exists(), "one that is in use stays");
    assert_eq!(fixture.index.search(&embedding(&fixture.rows[5]), &Query::top(5)), before);
}

/// A reader of a replaced file keeps its values; the file is deleted when the last reader drops it.
#[test]
fn a_reader_keeps_a_replaced_file() {
    let fixture = SnapshotFixture::new(10);
    assert!(fixture.index.write_snapshot().expect("written"));
    let folder = fixture.folder();
    let ReadSnapshot { content, files } = read_mapped(&folder, uid()).expect("whole");
    files.retire();
    drop(files);
    let rows = content.spaces[0].1.clone();
    drop(content);
    for values in &fixture.rows {
        assert!((0..rows.len()).any(|row| rows.values(row) == embedding(values).values()));
    }
    assert!(folder.exists());
    drop(rows);
    assert!(!folder.exists());
}

#[test]
fn every_flipped_bit_and_every_truncation_is_detected() {
    let fixture = SnapshotFixture::new(12);
    assert!(fixture.index.write_snapshot().expect("written"));
    let files = files_below(fixture.root.path());
    let sizes: Vec<u64> = files.iter().map(|file| fs::metadata(file).expect("there").len()).collect();
    let all: u64 = sizes.iter().sum();
    let folder = fixture.folder();
    let is_found = |what: &str| {
        let error = read_mapped(&folder, uid()).expect_err(what);
        assert!(matches!(error, SnapshotError::Damaged { .. }), "{what}: {error}");
    };
    let mut state = 77_u64;
    for round in 0..200 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Half of the flips anywhere, half in the small files, which a uniform draw would rarely hit.
        let (mut at, bit) = ((state >> 33) % all, (state >> 29) & 7);
        let mut file = 0;
        if round % 2 == 0 {
            file = usize::try_from(at).expect("small") % files.len();
            at %= sizes[file];
        } else {
            while at >= sizes[file] {
                at -= sizes[file];
                file += 1;
            }
        }
        let whole = fs::read(&files[file]).expect("readable");
        let mut flipped = whole.clone();
        flipped[usize::try_from(at).expect("small")] ^= 1 << bit;
        fs::write(&files[file], &flipped).expect("written");
        is_found(&format!("bit {bit} of byte {at} of {}", files[file].display()));
        if round % 20 == 0 {
            fs::write(&files[file], &whole[..usize::try_from(at).expect("small")]).expect("written");
            is_found(&format!("{} cut to {at} bytes", files[file].display()));
        }
        fs::write(&files[file], &whole).expect("written");
    }
    read_mapped(&folder, uid()).expect("whole again");
    fs::remove_file(&files[0]).expect("removed");
    assert!(matches!(read_mapped(&folder, uid()), Err(SnapshotError::Disk { .. })));
}

#[test]
fn a_snapshot_of_another_collection_or_format_is_refused() {
    let fixture = SnapshotFixture::new(2);
    assert!(fixture.index.write_snapshot().expect("written"));
    let folder = fixture.folder();
    let other = CollectionUid(Uuid::from_u128(5));
    assert!(matches!(read_mapped(&folder, other), Err(SnapshotError::Damaged { .. })));
    let later = serde_json::json!({"version": VERSION + 1, "other": "fields"});
    fs::write(folder.join(MANIFEST), line::encode_line(&later).expect("JSON")).expect("written");
    assert!(
        matches!(read_mapped(&folder, uid()), Err(SnapshotError::OtherFormat { found, .. }) if found == VERSION + 1)
    );
}

#[test]
fn a_manifest_that_names_a_file_outside_its_folder_is_refused() {
    let fixture = SnapshotFixture::new(2);
    assert!(fixture.index.write_snapshot().expect("written"));
    let folder = fixture.folder();
    let outside = fixture.root.path().join("elsewhere.rows");
    fs::copy(folder.join("0.rows"), &outside).expect("copied");
    let manifest = fs::read(folder.join(MANIFEST)).expect("readable");
    let mut manifest: serde_json::Value = line::decode_line(manifest.trim_ascii_end()).expect("sound");
    manifest["spaces"][0]["file"] = "../elsewhere.rows".into();
    fs::write(folder.join(MANIFEST), line::encode_line(&manifest).expect("JSON")).expect("written");
    assert!(matches!(read_mapped(&folder, uid()), Err(SnapshotError::Damaged { .. })));
}

#[test]
fn a_row_order_that_names_a_missing_row_is_an_error_and_no_panic() {
    let fixture = SnapshotFixture::new(2);
    assert!(fixture.index.write_snapshot().expect("written"));
    let path = fixture.folder().join("0.rows");
    let mut file = fs::read(&path).expect("readable");
    let order_at = file.len() - 4 * fixture.rows.len();
    file[order_at..order_at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    let sum = crc32fast::hash(&file[order_at..]);
    file[28..32].copy_from_slice(&sum.to_le_bytes());
    let sum = crc32fast::hash(&file[..32]);
    file[32..36].copy_from_slice(&sum.to_le_bytes());
    fs::write(&path, file).expect("written");
    assert!(matches!(read_mapped(&fixture.folder(), uid()), Err(SnapshotError::Damaged { .. })));
}

#[test]
fn a_discarded_collection_has_no_snapshot() {
    let fixture = SnapshotFixture::new(3);
    assert!(fixture.index.write_snapshot().expect("written"));
    fixture.index.discard().expect("removed");
    assert_eq!(fixture.index.stats().templates, 0);
    assert!(fixture.index.search(&embedding(&fixture.rows[0]), &Query::top(5)).is_empty());
    assert!(!fixture.index.write_snapshot().expect("nothing to do"));
    assert_eq!(files_below(fixture.root.path()), Vec::<PathBuf>::new());
}

#[test]
fn snapshots_of_collections_that_are_not_open_are_pruned() {
    let fixture = SnapshotFixture::new(3);
    assert!(fixture.index.write_snapshot().expect("written"));
    let gallery = gallery(fixture.root.path(), 0);
    let open = gallery.open(uid());
    gallery.prune().expect("pruned");
    assert!(fixture.folder().exists());
    drop(gallery.remove(uid()));
    fs::write(fixture.root.path().join("another file"), b"x").expect("written");
    gallery.prune().expect("pruned");
    assert!(dir(fixture.root.path()).newest(uid()).expect("readable").is_none());
    assert!(fixture.root.path().join("another file").exists());
    drop(open);
}

#[test]
fn an_inspection_lists_the_content_of_a_snapshot() {
    let fixture = SnapshotFixture::new(4);
    assert!(SnapshotInspection::of(fixture.root.path(), uid()).expect("readable").is_none());
    assert!(fixture.index.write_snapshot().expect("written"));
    let found = SnapshotInspection::of(fixture.root.path(), uid()).expect("whole").expect("there");
    let last = fixture.log.last().expect("entries");
    assert_eq!((found.position(), found.entry_checksum()), (last.position, last.checksum()));
    let admitted: Vec<StoredTemplate> = fixture.log.iter().filter_map(|entry| entry.admitted.clone()).collect();
    let owners: std::collections::BTreeSet<String> = found.templates().map(|(_, owner)| owner.to_string()).collect();
    assert_eq!((found.templates().count(), owners.len()), (admitted.len(), 4));
    assert!(admitted.iter().all(|stored| found.holds(stored)));
    let mut other = admitted[0].clone();
    other.embedding = admitted[1].embedding.clone();
    assert!(!found.holds(&other), "other numbers");
    let mut other = admitted[0].clone();
    other.template.identity = id("p3");
    assert!(!found.holds(&other), "another identity");
}

#[test]
fn one_process_locks_a_directory() {
    let root = tempfile::tempdir().expect("a folder");
    let lock = SnapshotDirLock::acquire(&root.path().join("gallery")).expect("made");
    assert!(lock.is_some());
    assert!(SnapshotDirLock::acquire(&root.path().join("gallery")).expect("there").is_none());
    drop(lock);
    assert!(SnapshotDirLock::acquire(&root.path().join("gallery")).expect("there").is_some());
}

/// A process without snapshots must not leave old ones, because nothing would be erased from them.
#[test]
fn the_lock_holder_can_delete_all_snapshots() {
    let fixture = SnapshotFixture::new(3);
    assert!(fixture.index.write_snapshot().expect("written"));
    let lock = SnapshotDirLock::acquire(fixture.root.path()).expect("there").expect("not locked");
    lock.delete_snapshots().expect("deleted");
    assert_eq!(files_below_folders(fixture.root.path()), 0);
}

#[test]
fn a_failing_file_system_is_an_error_and_the_index_still_answers() {
    let mut fixture = SnapshotFixture::new(5);
    let index = {
        let file = fixture.root.path().join("a file, not a folder");
        fs::write(&file, b"").expect("written");
        open(&file.join("below"))
    };
    index.apply(&fixture.log).expect("in order");
    assert!(matches!(index.write_snapshot(), Err(SnapshotError::Disk { .. })));
    let gone = fixture.writer.forget_identity("p1");
    index.apply(&gone).expect("in order");
    assert!(!names(&index.search(&embedding(&fixture.rows[2]), &Query::top(9))).contains(&"p1"));
    assert!(matches!(index.write_snapshot(), Err(SnapshotError::Disk { .. })), "and is tried again");
}

/// Small values stay in memory, because a process has a limited number of memory maps.
#[test]
fn values_below_the_size_for_a_map_stay_in_memory() {
    let mut fixture = SnapshotFixture::new(30);
    let values_bytes = 30 * 2 * DIMENSION * size_of::<f32>();
    let small = gallery(fixture.root.path(), values_bytes + 1).open(uid());
    small.apply(&fixture.log).expect("in order");
    assert!(small.write_snapshot().expect("written"));
    assert!(small.bytes().mapped == 0 && small.bytes().originals > 0);
    let loaded = |mapped_bytes_min| {
        let index = gallery(fixture.root.path(), mapped_bytes_min).open(uid());
        index.load_snapshot().expect("whole").expect("there").install();
        assert_same_answers(&fixture.index, &index, &fixture.rows);
        index
    };
    let (mapped, resident) = (loaded(values_bytes), loaded(values_bytes + 1));
    assert!(mapped.bytes().mapped > 0 && mapped.bytes().originals == 0);
    assert!(resident.bytes().mapped == 0 && resident.bytes().originals > 0);
    let gone = fixture.writer.forget_identity("p10");
    resident.apply(&gone).expect("in order");
    fixture.append(gone);
    resident.sync_erasures().expect("synced");
    assert!(!fixture.holds(&little_endian(embedding(&fixture.rows[20]).values())) && !fixture.holds(b"\"p10\""));
    assert_same_answers(&fixture.index, &resident, &fixture.rows);
    let again = gallery(fixture.root.path(), values_bytes + 1).open(uid());
    again.load_snapshot().expect("still whole").expect("there").install();
    again.apply(&fixture.log).expect("in order");
    assert_same_answers(&fixture.index, &again, &fixture.rows);
}

/// With graphs and snapshots, an index gives the same answers as without.
#[test]
fn snapshots_change_no_answer() {
    let mut fixture = SnapshotFixture::new(120);
    let plain = {
        let gallery = Gallery::new(GalleryOptions::default());
        gallery.open(uid())
    };
    plain.apply(&fixture.log).expect("in order");
    let extra: Vec<Vec<f32>> = unit_rows(60, DIMENSION, 8);
    for (number, row) in extra.iter().enumerate() {
        let mut entries = fixture.writer.enroll(&format!("x{number}"), row);
        if number % 3 == 0 {
            entries.extend(fixture.writer.forget_identity(&format!("p{number}")));
        }
        plain.apply(&entries).expect("in order");
        fixture.append(entries);
        if number % 5 == 0 {
            assert!(fixture.index.write_snapshot().expect("written"));
        }
        let probe: Embedding = embedding(&fixture.rows[number]);
        assert_eq!(
            fixture.index.search(&probe, &Query::top(9)),
            plain.search(&probe, &Query { now: now(), ..Query::top(9) })
        );
    }
    assert_eq!(fixture.index.stats(), plain.stats());
}

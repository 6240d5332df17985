//! Snapshots as the shelf uses them: taken, read back, damaged, erased from.

use std::{fs, path::PathBuf};

use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::{
    Gallery, GalleryOptions, Query,
    collection::Shelf,
    rows::kernel::Packing,
    testbed::{Writer, embedding, id, names, now, unit_rows},
};
use domain::{Embedding, Entry, StoredTemplate};

const DIMENSION: usize = 48;

fn uid() -> CollectionUid {
    CollectionUid(Uuid::from_u128(4))
}

/// A shelf whose snapshots lie in a folder of its own.
struct Bench {
    root: TempDir,
    shelf: std::sync::Arc<Shelf>,
    writer: Writer,
    log: Vec<Entry>,
    rows: Vec<Vec<f32>>,
}

impl Bench {
    /// `people` with two templates and a label each.
    fn new(people: usize) -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let shelf = open(root.path());
        let rows = unit_rows(people * 2, DIMENSION, 21);
        let mut bench = Self { root, shelf, writer: Writer::new(DIMENSION), log: Vec::new(), rows };
        for person in 0..people {
            let name = format!("p{person}");
            let labelled = bench.writer.label(&name, &[("site", "north")], None);
            bench.append(labelled);
            for row in [person * 2, person * 2 + 1] {
                let enrolled = bench.writer.enroll(&name, &bench.rows[row].clone());
                bench.append(enrolled);
            }
        }
        bench
    }

    fn append(&mut self, entries: Vec<Entry>) {
        self.shelf.apply(&entries).expect("in order");
        self.log.extend(entries);
    }

    fn folder(&self) -> PathBuf {
        newest(self.root.path(), uid()).expect("readable").expect("a snapshot was taken")
    }

    /// Whether any file below the root holds the bytes.
    fn holds(&self, bytes: &[u8]) -> bool {
        files_below(self.root.path()).iter().any(|file| {
            let held = fs::read(file).expect("readable");
            held.windows(bytes.len()).any(|window| window == bytes)
        })
    }
}

fn files_below(root: &std::path::Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(root).expect("readable").map(|entry| entry.expect("readable").path());
    folders.flat_map(|folder| fs::read_dir(folder).expect("a folder")).map(|e| e.expect("readable").path()).collect()
}

fn files_below_folders(root: &std::path::Path) -> usize {
    fs::read_dir(root).expect("readable").filter(|entry| entry.as_ref().expect("readable").path().is_dir()).count()
}

fn open(root: &std::path::Path) -> std::sync::Arc<Shelf> {
    let options = GalleryOptions { snapshots_dir: Some(root.to_owned()), ..GalleryOptions::default() };
    Gallery::new(options).open(uid())
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn assert_same_answers(one: &Shelf, other: &Shelf, probes: &[Vec<f32>]) {
    assert_eq!((one.position(), one.stats()), (other.position(), other.stats()));
    for probe in probes.iter().map(|values| embedding(values)) {
        assert_eq!(one.search(&probe, &Query::top(7)), other.search(&probe, &Query::top(7)));
    }
}

#[test]
fn a_restart_reads_the_snapshot_and_follows_the_log_from_there() {
    let mut bench = Bench::new(40);
    assert!(bench.shelf.keep().expect("written"));
    assert!(!bench.shelf.keep().expect("nothing to do"), "nothing has moved");
    let at = bench.shelf.position();
    assert!(bench.shelf.bytes().mapped > 0 && bench.shelf.bytes().originals == 0, "the file holds the originals now");

    let late = unit_rows(1, DIMENSION, 5).remove(0);
    let tail = [bench.writer.enroll("late", &late), bench.writer.forget_identity("p3")].concat();
    bench.append(tail.clone());

    let again = open(bench.root.path());
    let recall = again.recall().expect("whole").expect("there");
    assert_eq!((recall.position(), recall.mark()), (at, bench.log[usize::try_from(at.0).expect("short") - 1].mark()));
    recall.take_up();
    again.apply(&tail).expect("in order");
    assert_same_answers(&bench.shelf, &again, &bench.rows);
    let labels = again.identity(&id("p5")).expect("enrolled").labels;
    assert_eq!(labels.get("site"), Some("north"));
    assert_eq!(names(&again.search(&embedding(&late), &Query::top(1))), ["late"]);
    assert!(!names(&again.search(&embedding(&bench.rows[6]), &Query::top(80))).contains(&"p3"));
}

/// Both before anything is asked of it and while a snapshot of it is being written.
#[test]
fn what_is_forgotten_is_overwritten_on_disk() {
    let mut bench = Bench::new(30);
    assert!(bench.shelf.keep().expect("written"));
    let numbers: Vec<Vec<u8>> = bench.rows.iter().map(|row| little_endian(embedding(row).values())).collect();
    assert!(bench.holds(&numbers[20]) && bench.holds(b"p10"));

    let gone = bench.writer.forget_identity("p10");
    bench.append(gone);
    bench.shelf.scrub().expect("synced");
    assert!(!bench.holds(&numbers[20]) && !bench.holds(&numbers[21]) && !bench.holds(b"\"p10\""));
    let template = bench.shelf.search(&embedding(&bench.rows[8]), &Query::top(1))[0].template;
    let gone = bench.writer.forget_template("p4", template);
    bench.append(gone);
    assert!(!bench.holds(&numbers[8]) && bench.holds(&numbers[9]));
    assert!(bench.holds(b"\"p4\""));

    let again = open(bench.root.path());
    again.recall().expect("still whole").expect("there").take_up();
    again.apply(&bench.log).expect("in order");
    assert_same_answers(&bench.shelf, &again, &bench.rows);
}

#[test]
fn a_snapshot_that_was_replaced_is_gone_and_one_that_was_cut_off_too() {
    let mut bench = Bench::new(10);
    assert!(bench.shelf.keep().expect("written"));
    let before = bench.folder();
    let begun = bench.root.path().join(format!(".{}-00000000000000000099", uid()));
    fs::create_dir(&begun).expect("made");
    fs::write(begun.join("0.rows"), b"somebody's numbers").expect("written");
    let more = bench.writer.enroll("p1", &bench.rows[3].clone());
    bench.append(more);
    assert!(bench.shelf.keep().expect("written"));
    assert!(!before.exists() && bench.folder().exists());
    assert!(!begun.exists(), "looking for the newest removes what was cut off");

    let before = bench.shelf.search(&embedding(&bench.rows[5]), &Query::top(5));
    bench.shelf.clear().expect("nothing to do");
    assert!(bench.folder().exists(), "one that is in use stays");
    assert_eq!(bench.shelf.search(&embedding(&bench.rows[5]), &Query::top(5)), before);
}

/// Whoever still reads rows of a file that was replaced keeps their numbers; the last one to let go removes it.
#[test]
fn a_reader_keeps_the_file_that_it_reads() {
    let bench = Bench::new(10);
    assert!(bench.shelf.keep().expect("written"));
    let folder = bench.folder();
    let Recalled { moment, roll } = read(&folder, uid(), Packing::Bytes).expect("whole");
    roll.retire();
    drop(roll);
    let rows = moment.spaces[0].1.clone();
    drop(moment);
    for values in &bench.rows {
        assert!((0..rows.len()).any(|row| rows.values(row) == embedding(values).values()));
    }
    assert!(folder.exists());
    drop(rows);
    assert!(!folder.exists());
}

#[test]
fn every_flip_and_every_cut_is_found() {
    let bench = Bench::new(12);
    assert!(bench.shelf.keep().expect("written"));
    let files = files_below(bench.root.path());
    let sizes: Vec<u64> = files.iter().map(|file| fs::metadata(file).expect("there").len()).collect();
    let all: u64 = sizes.iter().sum();
    let folder = bench.folder();
    let is_found = |what: &str| {
        let error = read(&folder, uid(), Packing::Bytes).expect_err(what);
        assert!(matches!(error, SnapshotError::Damaged { .. }), "{what}: {error}");
    };
    let mut state = 77_u64;
    for round in 0..200 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Half of the flips anywhere, half in the small files, which a draw over all bytes would hardly meet.
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
    read(&folder, uid(), Packing::Bytes).expect("whole again");
    fs::remove_file(&files[0]).expect("removed");
    assert!(matches!(read(&folder, uid(), Packing::Bytes), Err(SnapshotError::Disk { .. })));
}

#[test]
fn a_snapshot_of_another_collection_or_format_is_refused() {
    let bench = Bench::new(2);
    assert!(bench.shelf.keep().expect("written"));
    let folder = bench.folder();
    let other = CollectionUid(Uuid::from_u128(5));
    assert!(matches!(read(&folder, other, Packing::Bytes), Err(SnapshotError::Damaged { .. })));
    let later = serde_json::json!({"version": VERSION + 1, "whatever": "it says"});
    fs::write(folder.join(MANIFEST), line::sealed(&later).expect("JSON")).expect("written");
    assert!(
        matches!(read(&folder, uid(), Packing::Bytes), Err(SnapshotError::OtherFormat { found, .. }) if found == VERSION + 1)
    );
}

#[test]
fn a_collection_that_is_gone_leaves_nothing_and_gets_nothing() {
    let bench = Bench::new(3);
    assert!(bench.shelf.keep().expect("written"));
    bench.shelf.end().expect("removed");
    assert_eq!(bench.shelf.stats().templates, 0);
    assert!(bench.shelf.search(&embedding(&bench.rows[0]), &Query::top(5)).is_empty());
    assert!(!bench.shelf.keep().expect("nothing to do"));
    assert_eq!(files_below(bench.root.path()), Vec::<PathBuf>::new());
}

#[test]
fn snapshots_of_collections_that_are_not_open_are_pruned() {
    let bench = Bench::new(3);
    assert!(bench.shelf.keep().expect("written"));
    let options = GalleryOptions { snapshots_dir: Some(bench.root.path().to_owned()), ..GalleryOptions::default() };
    let gallery = Gallery::new(options);
    let open = gallery.open(uid());
    gallery.prune().expect("pruned");
    assert!(bench.folder().exists());
    drop(gallery.remove(uid()));
    fs::write(bench.root.path().join("a file of somebody's"), b"x").expect("written");
    gallery.prune().expect("pruned");
    assert!(newest(bench.root.path(), uid()).expect("readable").is_none());
    assert!(bench.root.path().join("a file of somebody's").exists());
    drop(open);
}

#[test]
fn an_inspection_tells_what_a_snapshot_holds() {
    let bench = Bench::new(4);
    assert!(Inspection::of(bench.root.path(), uid()).expect("readable").is_none());
    assert!(bench.shelf.keep().expect("written"));
    let found = Inspection::of(bench.root.path(), uid()).expect("whole").expect("there");
    let last = bench.log.last().expect("entries");
    assert_eq!((found.position(), found.mark()), (last.position, last.checksum()));
    let admitted: Vec<StoredTemplate> = bench.log.iter().filter_map(|entry| entry.admitted.clone()).collect();
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
fn one_process_claims_a_folder() {
    let root = tempfile::tempdir().expect("a folder");
    let claim = Claim::of(&root.path().join("gallery")).expect("made");
    assert!(claim.is_some());
    assert!(Claim::of(&root.path().join("gallery")).expect("there").is_none());
    drop(claim);
    assert!(Claim::of(&root.path().join("gallery")).expect("there").is_some());
}

/// Who is told to keep none must not leave old ones behind, in which nobody would erase anything.
#[test]
fn a_claim_can_empty_its_folder() {
    let bench = Bench::new(3);
    assert!(bench.shelf.keep().expect("written"));
    let claim = Claim::of(bench.root.path()).expect("there").expect("nobody else's");
    claim.empty().expect("emptied");
    assert_eq!(files_below_folders(bench.root.path()), 0);
}

#[test]
fn a_disk_that_refuses_is_an_error_and_the_shelf_goes_on() {
    let mut bench = Bench::new(5);
    let shelf = {
        let file = bench.root.path().join("a file, not a folder");
        fs::write(&file, b"").expect("written");
        open(&file.join("below"))
    };
    shelf.apply(&bench.log).expect("in order");
    assert!(matches!(shelf.keep(), Err(SnapshotError::Disk { .. })));
    let gone = bench.writer.forget_identity("p1");
    shelf.apply(&gone).expect("in order");
    assert!(!names(&shelf.search(&embedding(&bench.rows[2]), &Query::top(9))).contains(&"p1"));
    assert!(matches!(shelf.keep(), Err(SnapshotError::Disk { .. })), "and is tried again");
}

/// While graphs are built over its rows and snapshots are taken of them, a gallery answers as one that has neither.
#[test]
fn snapshots_change_no_answer() {
    let mut bench = Bench::new(120);
    let plain = {
        let gallery = Gallery::new(GalleryOptions::default());
        gallery.open(uid())
    };
    plain.apply(&bench.log).expect("in order");
    let extra: Vec<Vec<f32>> = unit_rows(60, DIMENSION, 8);
    for (number, row) in extra.iter().enumerate() {
        let mut entries = bench.writer.enroll(&format!("x{number}"), row);
        if number % 3 == 0 {
            entries.extend(bench.writer.forget_identity(&format!("p{number}")));
        }
        plain.apply(&entries).expect("in order");
        bench.append(entries);
        if number % 5 == 0 {
            assert!(bench.shelf.keep().expect("written"));
        }
        let probe: Embedding = embedding(&bench.rows[number]);
        assert_eq!(
            bench.shelf.search(&probe, &Query::top(9)),
            plain.search(&probe, &Query { now: now(), ..Query::top(9) })
        );
    }
    assert_eq!(bench.shelf.stats(), plain.stats());
}

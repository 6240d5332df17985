//! Erasures and removals that the file system refuses: they stay pending until they are done.

use super::*;

/// Puts the file into a folder of its name: nobody can write or delete the name as a file, not even root.
fn block(file: &Path) {
    let away = file.with_extension("away");
    fs::rename(file, &away).expect("the file is there");
    fs::create_dir(file).expect("made");
    fs::rename(&away, file.join("held")).expect("moved");
}

fn unblock(file: &Path) {
    let away = file.with_extension("away");
    fs::rename(file.join("held"), &away).expect("still there");
    fs::remove_dir(file).expect("empty");
    fs::rename(&away, file).expect("put back");
}

fn numbers(fixture: &SnapshotFixture, row: usize) -> Vec<u8> {
    little_endian(embedding(&fixture.rows[row]).values())
}

#[test]
fn an_erasure_whose_file_cannot_be_opened_is_repeated_until_it_is_done() {
    for (mapped_bytes_min, name) in [(0, "0.rows"), (usize::MAX, "0.rows"), (0, ROSTER)] {
        let mut fixture = SnapshotFixture::new(8);
        assert!(fixture.index.write_snapshot().expect("written"));
        let gallery = gallery(fixture.root.path(), mapped_bytes_min);
        let index = gallery.open(uid());
        index.load_snapshot().expect("whole").expect("there").install();
        let file = fixture.folder().join(name);
        block(&file);
        index.apply(&fixture.writer.forget_identity("p2")).expect("in order");
        assert!(gallery.scrub_snapshots() && gallery.scrub_snapshots(), "{name}");
        assert_eq!(gallery.pending_removals(), 1, "{name}");
        assert!(!names(&index.search(&embedding(&fixture.rows[4]), &Query::top(9))).contains(&"p2"));
        assert!(fixture.holds(&numbers(&fixture, 4)) || fixture.holds(b"\"p2\""), "{name}");
        unblock(&file);
        assert!(!gallery.scrub_snapshots(), "{name}");
        assert_eq!(gallery.pending_removals(), 0, "{name}");
        assert!(!fixture.holds(&numbers(&fixture, 4)) && !fixture.holds(b"\"p2\""), "{name}");
        open(fixture.root.path()).load_snapshot().expect("still whole").expect("there").install();
    }
}

/// A file that stays unwritable keeps the data no longer than until the next snapshot, however little has changed.
#[test]
fn a_snapshot_from_which_erasing_fails_is_replaced() {
    let mut fixture = SnapshotFixture::new(200);
    let gallery = gallery(fixture.root.path(), 0);
    let index = gallery.open(uid());
    index.apply(&fixture.log).expect("in order");
    assert!(index.write_snapshot().expect("written"));
    let former = fixture.folder();
    index.apply(&fixture.writer.forget_identity("p3")).expect("in order");
    assert!(!index.write_snapshot().expect("nothing to do"), "one entry of 400 templates needs none");
    block(&former.join("0.rows"));
    index.apply(&fixture.writer.forget_identity("p2")).expect("in order");
    assert!(index.write_snapshot().expect("written"));
    assert!(!index.is_erasure_pending());
    assert_eq!(gallery.pending_removals(), 1, "the former one cannot be removed yet");
    unblock(&former.join("0.rows"));
    assert!(!gallery.scrub_snapshots());
    assert!(!former.exists() && !fixture.holds(&numbers(&fixture, 4)) && fixture.holds(&numbers(&fixture, 8)));
}

/// The start finds a snapshot that it can neither read nor remove. The person's deletion was answered, and the files kept
/// the embedding until somebody looked.
#[test]
fn an_unusable_snapshot_that_cannot_be_removed_at_the_start_is_removed_later() {
    let mut fixture = SnapshotFixture::new(5);
    assert!(fixture.index.write_snapshot().expect("written"));
    let folder = fixture.folder();
    block(&folder.join("0.rows"));
    let gallery = gallery(fixture.root.path(), 0);
    let index = gallery.open(uid());
    index.load_snapshot().expect_err("unreadable");
    index.clear_snapshots().expect_err("a folder is in the way");
    index.apply(&fixture.log).expect("in order");
    index.apply(&fixture.writer.forget_identity("p2")).expect("in order");
    assert!(gallery.scrub_snapshots(), "pending for this person too");
    assert!(fixture.holds(&numbers(&fixture, 4)));
    assert_eq!(gallery.pending_removals(), 1);
    unblock(&folder.join("0.rows"));
    assert!(!gallery.scrub_snapshots());
    assert!(!folder.exists() && gallery.pending_removals() == 0);
    assert!(index.write_snapshot().expect("written"));
    assert!(!gallery.scrub_snapshots());
    assert!(fixture.folder().exists() && !fixture.holds(&numbers(&fixture, 4)));
}

/// A removal that is repeated must not hit a new snapshot in the same place.
#[test]
fn a_new_snapshot_waits_for_the_removal_of_an_unusable_one_in_its_place() {
    let fixture = SnapshotFixture::new(5);
    assert!(fixture.index.write_snapshot().expect("written"));
    let folder = fixture.folder();
    block(&folder.join("0.rows"));
    let gallery = gallery(fixture.root.path(), 0);
    let index = gallery.open(uid());
    index.clear_snapshots().expect_err("a folder is in the way");
    index.apply(&fixture.log).expect("in order");
    index.write_snapshot().expect_err("the place is taken");
    unblock(&folder.join("0.rows"));
    assert!(index.write_snapshot().expect("written"));
    assert_eq!(fixture.folder(), folder);
    assert!(!gallery.scrub_snapshots());
    open(fixture.root.path()).load_snapshot().expect("whole").expect("there").install();
}

#[test]
fn a_directory_that_cannot_be_listed_is_cleared_later() {
    let fixture = SnapshotFixture::new(3);
    assert!(fixture.index.write_snapshot().expect("written"));
    let (root, away) = (fixture.root.path().to_owned(), fixture.root.path().with_extension("away"));
    for is_open in [true, false] {
        fs::rename(&root, &away).expect("moved");
        fs::write(&root, b"").expect("a file, not a folder");
        let gallery = gallery(&root, 0);
        if is_open {
            gallery.open(uid()).clear_snapshots().expect_err("not a folder");
        } else {
            gallery.prune().expect_err("not a folder");
        }
        assert!(gallery.scrub_snapshots() && gallery.pending_removals() == 1);
        fs::remove_file(&root).expect("still a file");
        fs::rename(&away, &root).expect("moved back");
        assert!(!gallery.scrub_snapshots());
        assert_eq!(files_below(&root), Vec::<PathBuf>::new());
        let again = super::gallery(&root, 0).open(uid());
        again.apply(&fixture.log).expect("in order");
        assert!(again.write_snapshot().expect("written"));
    }
}

#[test]
fn snapshots_of_a_deleted_collection_that_cannot_be_removed_are_removed_later() {
    let fixture = SnapshotFixture::new(3);
    assert!(fixture.index.write_snapshot().expect("written"));
    let gallery = gallery(fixture.root.path(), 0);
    let index = gallery.open(uid());
    index.load_snapshot().expect("whole").expect("there").install();
    let file = fixture.folder().join("0.rows");
    block(&file);
    drop(gallery.remove(uid()));
    index.discard().expect_err("a folder is in the way");
    assert!(gallery.scrub_snapshots());
    unblock(&file);
    assert!(!gallery.scrub_snapshots());
    assert_eq!(files_below_folders(fixture.root.path()), 0);
}

/// Its files hold everybody until the reader ends, also who is deleted meanwhile.
#[test]
fn a_replaced_snapshot_is_pending_while_a_reader_uses_it() {
    let mut fixture = SnapshotFixture::new(10);
    let gallery = gallery(fixture.root.path(), 0);
    let index = gallery.open(uid());
    index.apply(&fixture.log).expect("in order");
    assert!(index.write_snapshot().expect("written"));
    let former = fixture.folder();
    let reader = index.survey(embedding(&fixture.rows[0]).space(), None, now()).expect("templates");
    index.apply(&fixture.writer.enroll("p3", &fixture.rows[0].clone())).expect("in order");
    assert!(index.write_snapshot().expect("written"));
    index.apply(&fixture.writer.forget_identity("p2")).expect("in order");
    assert!(gallery.scrub_snapshots() && former.exists());
    drop(reader);
    assert!(!gallery.scrub_snapshots() && !former.exists());
    assert!(!fixture.holds(&numbers(&fixture, 4)));
}

#[test]
fn an_erasure_during_the_write_of_a_snapshot_is_pending_until_the_write_ends() {
    let mut fixture = SnapshotFixture::new(4);
    let index = Arc::clone(&fixture.index);
    assert!(index.state.write().begin_snapshot());
    let content = index.state.read().content();
    let gone = fixture.writer.forget_identity("p2");
    fixture.append(gone);
    assert!(index.is_erasure_pending());
    let files = write(&dir(fixture.root.path()), uid(), &content, 0).expect("written");
    assert!(fixture.holds(&numbers(&fixture, 4)));
    assert!(index.state.write().finish_snapshot(&content, files).is_none());
    index.sync_erasures().expect("synced");
    assert!(!index.is_erasure_pending() && !fixture.holds(&numbers(&fixture, 4)));
}

#[cfg(unix)]
#[test]
fn a_removal_follows_no_link_and_takes_a_file_in_place_of_the_folder() {
    let fixture = SnapshotFixture::new(3);
    assert!(fixture.index.write_snapshot().expect("written"));
    let outside = tempfile::NamedTempFile::new().expect("made");
    fs::write(outside.path(), b"not of a snapshot").expect("written");
    std::os::unix::fs::symlink(outside.path(), fixture.folder().join("1.rows")).expect("linked");
    fs::write(fixture.root.path().join(folder::name(uid(), Position(99))), b"a file").expect("written");
    dir(fixture.root.path()).clear(uid(), |_| false).expect("cleared");
    assert_eq!(files_below(fixture.root.path()), Vec::<PathBuf>::new());
    assert_eq!(fs::read(outside.path()).expect("still there"), b"not of a snapshot");
}

/// The start could not lock the folder, so nothing erases from the snapshots in it.
#[test]
fn snapshots_of_an_abandoned_directory_are_deleted_as_soon_as_possible() {
    let fixture = SnapshotFixture::new(3);
    assert!(fixture.index.write_snapshot().expect("written"));
    let abandoned_snapshots_dir = Some(fixture.root.path().to_owned());
    let gallery = Gallery::new(GalleryOptions { abandoned_snapshots_dir, ..GalleryOptions::default() });
    let file = fixture.folder().join("0.rows");
    block(&file);
    assert!(gallery.scrub_snapshots() && gallery.pending_removals() == 1);
    unblock(&file);
    assert!(!gallery.scrub_snapshots());
    assert_eq!(files_below_folders(fixture.root.path()), 0);
}

#[cfg(unix)]
#[test]
fn only_the_user_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = SnapshotFixture::new(3);
    let _lock = SnapshotDirLock::acquire(fixture.root.path()).expect("made");
    assert!(fixture.index.write_snapshot().expect("written"));
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    let files = files_below(fixture.root.path());
    assert_eq!(files.len(), 4, "manifest, roster, rows and lock");
    assert!(files.iter().all(|file| mode(file) == 0o600), "{:?}", files.iter().map(|f| mode(f)).collect::<Vec<_>>());
    assert_eq!(mode(&fixture.folder()), 0o700);
}

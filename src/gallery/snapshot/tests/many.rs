//! Many collections, each with a snapshot: what they take of the process.

use rayon::{
    ThreadPoolBuilder,
    iter::{IntoParallelRefIterator, ParallelIterator},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;

const COLLECTIONS: u128 = 10_000;
/// The usual limit of a process.
const OPEN_FILES_MAX: u64 = 1024;
/// Files that the other tests of this process may have open.
const OPEN_OF_OTHERS: usize = 200;

/// Threads of the test, most of which wait for the disk.
const WRITERS: usize = 32;

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").expect("Linux tells").count()
}

fn maps_below(root: &Path) -> usize {
    let maps = fs::read_to_string("/proc/self/maps").expect("Linux tells");
    maps.lines().filter(|line| line.contains(&*root.to_string_lossy())).count()
}

/// Two descriptors per collection ended a server with 500 collections: no connection could be accepted any more.
#[test]
fn ten_thousand_collections_keep_no_file_open() {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum.map_or(OPEN_FILES_MAX, |maximum| maximum.min(OPEN_FILES_MAX));
    setrlimit(Resource::Nofile, Rlimit { current: Some(current), ..limit }).expect("a lower limit");
    let uids: Vec<CollectionUid> = (0..COLLECTIONS).map(|number| CollectionUid(Uuid::from_u128(number))).collect();
    let rows = unit_rows(2, DIMENSION, 3);
    let mut writer = LogWriter::new(DIMENSION);
    let log = [writer.enroll("p0", &rows[0]), writer.enroll("p1", &rows[1])].concat();
    let gone = writer.forget_identity("p0");
    let root = tempfile::tempdir().expect("a folder");
    let before = open_files();

    let all = gallery(root.path(), GalleryOptions::default().mapped_bytes_min);
    let writers = ThreadPoolBuilder::new().num_threads(WRITERS).build().expect("threads");
    writers.install(|| {
        uids.par_iter().for_each(|uid| {
            let index = all.open(*uid);
            index.apply(&log).expect("in order");
            assert!(index.write_snapshot().expect("written"));
        });
    });
    assert!(open_files() < before + OPEN_OF_OTHERS, "{before} before, {} after the snapshots", open_files());
    drop(all);

    let again = gallery(root.path(), GalleryOptions::default().mapped_bytes_min);
    for uid in &uids {
        again.open(*uid).load_snapshot().expect("whole").expect("there").install();
    }
    assert_eq!(again.totals().templates, 2 * u64::try_from(COLLECTIONS).expect("small"));
    assert!(open_files() < before + OPEN_OF_OTHERS, "{before} before, {} after the start", open_files());
    assert_eq!(maps_below(root.path()), 0, "small files are not mapped");

    for uid in uids.iter().step_by(100) {
        again.open(*uid).apply(&gone).expect("in order");
    }
    assert!(!again.scrub_snapshots(), "all erasures are done");
    assert!(open_files() < before + OPEN_OF_OTHERS, "{before} before, {} after the erasures", open_files());
    let numbers = little_endian(embedding(&rows[0]).values());
    let held = uids.par_iter().filter(|uid| {
        let folder = dir(root.path()).root().join(folder::name(**uid, log.last().expect("entries").position));
        let rows = fs::read(folder.join("0.rows")).expect("readable");
        rows.windows(numbers.len()).any(|window| window == numbers)
    });
    assert_eq!(held.count(), uids.len() - uids.len() / 100);
    // One after the other, the deletions take minutes on some file systems.
    let folders: Vec<PathBuf> =
        fs::read_dir(root.path()).expect("readable").map(|entry| entry.expect("readable").path()).collect();
    writers.install(|| folders.par_iter().for_each(|folder| fs::remove_dir_all(folder).expect("removed")));
}

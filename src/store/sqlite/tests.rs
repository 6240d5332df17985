use std::{path::Path, sync::Arc, time::Duration};

use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

use super::SqlStore;
use crate::{Collections as _, Scrubbed, Store, StoreError, StoreOptions, connect};
use domain::{Change, Collection, Embedding, EmbeddingSpace, Modality, ModelDigest, Position, Timestamp};

fn options(url: &str) -> StoreOptions {
    StoreOptions { connections_max: 3, acquire_timeout: Duration::from_secs(30), ..StoreOptions::new(url) }
}

fn collection() -> Collection {
    testing::collection(1, "staff")
}

fn enrolment() -> [Change; 2] {
    let space = EmbeddingSpace::whole(Modality::Face, ModelDigest([3; 32]), 2);
    let embedding = Embedding::new(space, &[3.0, 4.0]).expect("an embedding");
    let stored = testing::stored_template(2, "alice", embedding, Position(2));
    [Change::PutIdentity(testing::identity("alice")), Change::Admit(stored)]
}

async fn enrolled(store: &Arc<dyn Store>) {
    store.create_collection(&collection(), None).await.expect("created");
    let mut turn = store.take_turn(collection().uid).await.expect("the turn");
    turn.append(&enrolment(), Timestamp::UNIX_EPOCH).await.expect("appended");
    turn.commit().await.expect("committed");
}

/// Whether a file has the bytes of the enrolled embedding.
fn holds_the_embedding(path: &Path) -> bool {
    let numbers: Vec<u8> = [0.6_f32, 0.8].iter().flat_map(|value| value.to_le_bytes()).collect();
    let bytes = std::fs::read(path).expect("the file");
    bytes.windows(numbers.len()).any(|window| window == numbers)
}

async fn is_enrolled(store: &Arc<dyn Store>) {
    let [Change::PutIdentity(identity), Change::Admit(stored)] = enrolment() else { unreachable!("two changes") };
    let uid = collection().uid;
    assert_eq!(store.collection(&collection().id).await.expect("read"), Some(collection()));
    assert_eq!(store.in_collection(uid).identities(None, 10).await.expect("a page"), [identity]);
    assert_eq!(store.in_collection(uid).stored_templates(Position::START, 10).await.expect("a page"), [stored]);
    assert_eq!(store.in_collection(uid).entries_after(Position::START, 10).await.expect("entries").len(), 2);
    assert_eq!(store.heads().await.expect("heads")[0].position, Position(2));
}

#[tokio::test]
async fn a_file_that_is_opened_again_has_everything() {
    let folder = tempfile::tempdir().expect("a folder");
    // In a folder that is not there yet, and with characters that a URL must escape.
    let url = format!("sqlite:{}/new/deep%20er/semblance.db", folder.path().display());
    let store = connect(&options(&url)).await.expect("connected");
    store.migrate().await.expect("migrated");
    enrolled(&store).await;
    drop(store); // not closed: as if the program had died

    let store = connect(&options(&url)).await.expect("connected");
    store.check_schema().await.expect("migrated before");
    is_enrolled(&store).await;
    store.close().await;
    let file = folder.path().join("new/deep er/semblance.db");
    #[cfg(unix)]
    for (path, mode) in [(file.as_path(), 0o600), (file.parent().expect("a folder"), 0o700)] {
        let permissions = std::fs::metadata(path).expect("made").permissions();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&permissions) & 0o777, mode, "for the owner alone");
    }

    let store = connect(&options(&url)).await.expect("connected");
    is_enrolled(&store).await;
}

#[tokio::test]
async fn a_database_in_memory_is_shared_by_its_connections_and_by_nobody_else() {
    let (one, two) = (options("sqlite::memory:"), options("sqlite::memory:"));
    let (one, two) = (connect(&one).await.expect("connected"), connect(&two).await.expect("connected"));
    for store in [&one, &two] {
        store.migrate().await.expect("migrated");
    }
    enrolled(&one).await;
    let turn = one.take_turn(collection().uid).await.expect("the turn");
    futures::future::join_all((0..6).map(|_| is_enrolled(&one))).await; // readers go on beside an open turn
    drop(turn);
    assert_eq!(two.heads().await.expect("heads"), []);
}

#[tokio::test]
async fn erased_bytes_are_gone_from_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("semblance.db");
    let store = connect(&options(&format!("sqlite:{}", path.display()))).await.expect("connected");
    store.migrate().await.expect("migrated");
    enrolled(&store).await;
    let contains_numbers = || holds_the_embedding(&path);

    store.close().await; // brings the write-ahead log into the file
    assert!(contains_numbers());

    let store = connect(&options(&format!("sqlite:{}", path.display()))).await.expect("connected");
    let mut turn = store.take_turn(collection().uid).await.expect("the turn");
    turn.append(&[Change::ForgetIdentity(testing::identity_id("alice"))], Timestamp::UNIX_EPOCH)
        .await
        .expect("appended");
    turn.commit().await.expect("committed");
    store.close().await;
    assert!(!contains_numbers());
}

#[tokio::test]
async fn urls_that_name_no_database_are_refused_with_advice() {
    for url in [
        "",
        "semblance.db",
        "sqlite:",
        "sqlite:/dev/null/semblance.db",
        "mysql://host/database",
        "sqlite:x.db?mode=sideways",
        "postgres://:port",
    ] {
        let refused = connect(&options(url)).await.map(|_| ());
        let Err(StoreError::BadUrl(what)) = refused else { panic!("{url}: {refused:?}") };
        assert!(what.contains("DATABASE_URL"), "{what}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_not_touched() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notes.txt");
    let notes = "these are notes, and no database at all\n".repeat(200);
    std::fs::write(&path, &notes).expect("written");
    let refused = connect(&options(&format!("sqlite:{}", path.display()))).await.map(|_| ());
    assert!(matches!(refused, Err(StoreError::Corrupt(_))), "{refused:?}");
    assert_eq!(std::fs::read_to_string(&path).expect("read"), notes);
}

#[tokio::test]
async fn a_disk_that_was_full_for_a_moment_does_not_end_all_writes() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite:{}", folder.path().join("semblance.db").display());
    let store = SqlStore::connect(&options(&url)).await.expect("connected");
    store.migrate().await.expect("migrated");
    store.create_collection(&collection(), None).await.expect("created");
    // SQLite answers as on a full disk, and ends the transaction by itself. The limit goes with the connection.
    let mut writer = store.pools.writer.acquire().await.expect("the writer");
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(&mut *writer).await.expect("a number");
    let limit = AssertSqlSafe(format!("PRAGMA max_page_count = {}", pages + 2));
    sqlx::query(limit).execute(&mut *writer).await.expect("limited");
    drop(writer);

    let mut turn = store.take_turn(collection().uid).await.expect("the turn");
    let many: Vec<Change> =
        (0..500).map(|number| Change::PutIdentity(testing::identity(&format!("person-{number}")))).collect();
    let full = turn.append(&many, Timestamp::UNIX_EPOCH).await;
    assert!(matches!(full, Err(StoreError::Unavailable(_))), "{full:?}");
    drop(turn);

    let mut turn = store.take_turn(collection().uid).await.expect("the next turn");
    turn.append(&enrolment(), Timestamp::UNIX_EPOCH).await.expect("appended");
    turn.commit().await.expect("committed");
    assert_eq!(store.head(collection().uid).await.expect("read").expect("there").position, Position(2));
    assert_eq!(store.write_outage(), None);
}

#[tokio::test]
async fn writes_that_do_not_work_are_told_until_they_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("semblance.db");
    let options =
        StoreOptions { acquire_timeout: Duration::from_millis(50), ..options(&format!("sqlite:{}", path.display())) };
    let store = SqlStore::connect(&options).await.expect("connected");
    store.migrate().await.expect("migrated");
    store.check_writes().await.expect("no reason to doubt");
    let mut other = SqliteConnection::connect(&options.url).await.expect("connected");
    let lock = other.begin_with("BEGIN IMMEDIATE").await.expect("the lock of the file");
    store.create_collection(&collection(), None).await.expect_err("another process writes");
    store.check_writes().await.expect_err("it still does");
    assert!(store.write_outage().expect("told").contains("locked"), "{:?}", store.write_outage());
    store.ping().await.expect("reads work");
    lock.rollback().await.expect("released");
    store.check_writes().await.expect("writes work again");
    assert_eq!(store.write_outage(), None);
}

#[tokio::test]
async fn an_erasure_does_not_wait_for_a_reader_and_says_what_it_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("semblance.db");
    let store = connect(&options(&format!("sqlite:{}", path.display()))).await.expect("connected");
    store.migrate().await.expect("migrated");
    enrolled(&store).await;
    let log = folder.path().join("semblance.db-wal");
    let log_contains_numbers = || holds_the_embedding(&log);
    let mut other = SqliteConnection::connect(&format!("sqlite:{}", path.display())).await.expect("connected");
    let mut reader = other.begin().await.expect("begun");
    let _: i64 = sqlx::query_scalar("SELECT count(*) FROM templates").fetch_one(&mut *reader).await.expect("read");

    let mut turn = store.take_turn(collection().uid).await.expect("the turn");
    turn.append(&[Change::ForgetIdentity(testing::identity_id("alice"))], Timestamp::UNIX_EPOCH)
        .await
        .expect("appended");
    turn.commit().await.expect("committed");
    assert_eq!(store.scrub().await.expect("no error"), Scrubbed::Pending);
    assert!(log_contains_numbers());
    store.create_collection(&testing::collection(2, "visitors"), None).await.expect("writes go on");

    reader.rollback().await.expect("ended");
    assert_eq!(store.scrub().await.expect("no error"), Scrubbed::Done);
    assert!(!log_contains_numbers());
}

#[cfg(unix)]
#[tokio::test]
async fn nothing_is_written_to_a_database_file_that_was_moved_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, elsewhere) = (folder.path().join("semblance.db"), folder.path().join("moved.db"));
    let store = connect(&options(&format!("sqlite:{}", path.display()))).await.expect("connected");
    store.migrate().await.expect("migrated");
    enrolled(&store).await;
    std::fs::rename(&path, &elsewhere).expect("moved");
    for replaced in [false, true] {
        if replaced {
            std::fs::write(&path, "").expect("another file");
        }
        let refused = store.take_turn(collection().uid).await.map(|_| ());
        let Err(StoreError::FileMoved(what)) = refused else { panic!("not noticed: {refused:?}") };
        assert!(what.contains("semblance.db"), "{what}");
        assert!(store.write_outage().is_some());
    }
    std::fs::rename(&elsewhere, &path).expect("put back");
    store.check_writes().await.expect("it is there again");
    is_enrolled(&store).await;
}

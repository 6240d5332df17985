use std::{sync::Arc, time::Duration};

use crate::{Store, StoreError, StoreOptions, connect};
use domain::{Change, Collection, Embedding, EmbeddingSpace, Modality, ModelDigest, Position, Timestamp};

fn options(url: &str) -> StoreOptions {
    StoreOptions { url: url.to_owned(), connections_max: 3, acquire_timeout: Duration::from_secs(30) }
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
    let numbers: Vec<u8> = [0.6_f32, 0.8].iter().flat_map(|value| value.to_le_bytes()).collect();
    let contains_numbers = || {
        let bytes = std::fs::read(&path).expect("the file");
        bytes.windows(numbers.len()).any(|window| window == numbers)
    };

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

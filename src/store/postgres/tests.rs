use std::time::Duration;

use uuid::Uuid;

use crate::{DecisionRecord, LogNotice, LogWatch, StoreError, contract::Subject};
use domain::{Change, Collection, DecisionId, Position, Revision, Timestamp};

fn collection() -> Collection {
    testing::collection(1, "staff")
}

#[tokio::test]
#[ignore = "needs SEMBLANCE_TEST_POSTGRES_URL"]
async fn decisions_do_not_wait_for_a_turn_on_postgres() {
    Subject::on_postgres(async |subject: &Subject| {
        let uid = collection().uid;
        subject.store.create_collection(&collection(), None).await.expect("created");
        let turn = subject.store.take_turn(uid).await.expect("the turn");
        let record = DecisionRecord {
            id: DecisionId(Uuid::from_u128(2)),
            time: Timestamp::UNIX_EPOCH,
            body: serde_json::json!({}),
        };
        // If it waited for the turn, which is still open, it would fail when the lock times out.
        subject.store.put_decisions(&[(uid, record)]).await.expect("stored beside the turn");
        turn.commit().await.expect("committed");
    })
    .await;
}

#[tokio::test]
#[ignore = "needs SEMBLANCE_TEST_POSTGRES_URL"]
async fn a_turn_whose_connection_is_lost_is_unavailable_and_leaves_no_trace_on_postgres() {
    Subject::on_postgres(async |subject: &Subject| {
        let uid = collection().uid;
        subject.store.create_collection(&collection(), None).await.expect("created");
        let mut turn = subject.store.take_turn(uid).await.expect("the turn");
        let next = Collection { revision: Revision(2), ..collection() };
        turn.put_collection(&next).await.expect("put");
        subject
            .execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE application_name = 'semblance' AND datname = current_database() AND pid <> pg_backend_pid()",
            )
            .await;
        let lost = turn.entries_after(Position::START, 1).await;
        assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
        assert!(turn.commit().await.is_err());

        let turn = subject.store.take_turn(uid).await.expect("the store recovers by itself");
        assert_eq!(turn.collection(), &collection());
    })
    .await;
}

/// The next notice. A watch that sends none fails the test instead of blocking it.
async fn next(watch: &mut Box<dyn LogWatch>) -> LogNotice {
    tokio::time::timeout(Duration::from_mins(1), watch.next()).await.expect("a notice within a minute")
}

#[tokio::test]
#[ignore = "needs SEMBLANCE_TEST_POSTGRES_URL"]
async fn a_watch_notices_what_another_replica_commits_and_nothing_else_on_postgres() {
    Subject::on_postgres(async |subject: &Subject| {
        let replica = subject.replica().await;
        let mut watch = replica.watch();
        assert_eq!(next(&mut watch).await, LogNotice::Anything, "it connects");

        let uid = collection().uid;
        subject.store.create_collection(&collection(), None).await.expect("created");
        assert_eq!(next(&mut watch).await, LogNotice::Changed(uid));
        let put = Change::PutIdentity(testing::identity("alice"));
        let mut dropped = subject.store.take_turn(uid).await.expect("the turn");
        dropped.append(std::slice::from_ref(&put), Timestamp::UNIX_EPOCH).await.expect("appended");
        drop(dropped);
        let mut turn = subject.store.take_turn(uid).await.expect("the turn");
        turn.append(&[put.clone(), put.clone()], Timestamp::UNIX_EPOCH).await.expect("appended");
        turn.append(&[put], Timestamp::UNIX_EPOCH).await.expect("appended");
        turn.commit().await.expect("committed");
        assert_eq!(next(&mut watch).await, LogNotice::Appended { uid, position: Position(2) });
        assert_eq!(next(&mut watch).await, LogNotice::Appended { uid, position: Position(3) });
        assert_eq!(replica.head(uid).await.expect("read").expect("there").position, Position(3));

        let renamed = Collection { revision: Revision(2), ..collection() };
        subject.store.update_collection(&renamed, Revision::FIRST).await.expect("updated");
        assert_eq!(next(&mut watch).await, LogNotice::Changed(uid));
        assert!(subject.store.delete_collection(uid).await.expect("deleted"));
        assert_eq!(next(&mut watch).await, LogNotice::Changed(uid));
        assert_eq!(replica.head(uid).await.expect("read"), None);
    })
    .await;
}

#[tokio::test]
#[ignore = "needs SEMBLANCE_TEST_POSTGRES_URL"]
async fn a_watch_that_reconnects_reports_that_notices_may_be_lost_on_postgres() {
    Subject::on_postgres(async |subject: &Subject| {
        let mut watch = subject.store.watch();
        assert_eq!(next(&mut watch).await, LogNotice::Anything);
        for _ in 0..3 {
            let ended = subject
                .execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                     WHERE datname = current_database() AND query LIKE 'LISTEN%'",
                )
                .await;
            assert_eq!(ended, 1, "one connection listens");
            assert_eq!(next(&mut watch).await, LogNotice::Anything, "it reconnects by itself");
        }
        subject.store.create_collection(&collection(), None).await.expect("created");
        assert_eq!(next(&mut watch).await, LogNotice::Changed(collection().uid));
    })
    .await;
}

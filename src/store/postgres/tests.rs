use std::time::Duration;

use uuid::Uuid;

use crate::{DecisionRecord, News, StoreError, Watch, contract::Subject};
use domain::{
    Change, Collection, CollectionId, CollectionUid, DecisionId, Identity, IdentityId, Labels, Policy, Position,
    Revision, Timestamp,
};

fn collection() -> Collection {
    Collection {
        uid: CollectionUid(Uuid::from_u128(1)),
        id: CollectionId::new("staff").expect("an id"),
        display_name: String::new(),
        policy: Policy::default(),
        spaces: Vec::new(),
        revision: Revision::FIRST,
        create_time: Timestamp::UNIX_EPOCH,
        update_time: Timestamp::UNIX_EPOCH,
    }
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
        // If it waited it would wait for the turn below, in vain, until the lock's time is up.
        subject.store.keep_decisions(&[(uid, record)]).await.expect("kept meanwhile");
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

/// The next thing that a watch tells. One that tells nothing fails the test instead of holding it up.
async fn told(watch: &mut Box<dyn Watch>) -> News {
    tokio::time::timeout(Duration::from_mins(1), watch.next()).await.expect("told within a minute")
}

#[tokio::test]
#[ignore = "needs SEMBLANCE_TEST_POSTGRES_URL"]
async fn a_watch_hears_what_another_replica_commits_and_nothing_else_on_postgres() {
    Subject::on_postgres(async |subject: &Subject| {
        let replica = subject.replica().await;
        let mut watch = replica.watch();
        assert_eq!(told(&mut watch).await, News::Anything, "it begins to hear");

        let uid = collection().uid;
        subject.store.create_collection(&collection(), None).await.expect("created");
        assert_eq!(told(&mut watch).await, News::Changed(uid));
        let put = Change::PutIdentity(Identity {
            id: IdentityId::new("alice").expect("an id"),
            labels: Labels::default(),
            expire_time: None,
            revision: Revision::FIRST,
            create_time: Timestamp::UNIX_EPOCH,
            update_time: Timestamp::UNIX_EPOCH,
        });
        let mut dropped = subject.store.take_turn(uid).await.expect("the turn");
        dropped.append(std::slice::from_ref(&put), Timestamp::UNIX_EPOCH).await.expect("appended");
        drop(dropped);
        let mut turn = subject.store.take_turn(uid).await.expect("the turn");
        turn.append(&[put.clone(), put.clone()], Timestamp::UNIX_EPOCH).await.expect("appended");
        turn.append(&[put], Timestamp::UNIX_EPOCH).await.expect("appended");
        turn.commit().await.expect("committed");
        assert_eq!(told(&mut watch).await, News::Appended { uid, position: Position(2) });
        assert_eq!(told(&mut watch).await, News::Appended { uid, position: Position(3) });
        assert_eq!(replica.head(uid).await.expect("read").expect("there").position, Position(3));

        let renamed = Collection { revision: Revision(2), ..collection() };
        subject.store.update_collection(&renamed, Revision::FIRST).await.expect("updated");
        assert_eq!(told(&mut watch).await, News::Changed(uid));
        assert!(subject.store.delete_collection(uid).await.expect("deleted"));
        assert_eq!(told(&mut watch).await, News::Changed(uid));
        assert_eq!(replica.head(uid).await.expect("read"), None);
    })
    .await;
}

#[tokio::test]
#[ignore = "needs SEMBLANCE_TEST_POSTGRES_URL"]
async fn a_watch_whose_connection_is_lost_says_that_anything_may_have_happened_on_postgres() {
    Subject::on_postgres(async |subject: &Subject| {
        let mut watch = subject.store.watch();
        assert_eq!(told(&mut watch).await, News::Anything);
        for _ in 0..3 {
            let ended = subject
                .execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                     WHERE datname = current_database() AND query LIKE 'LISTEN%'",
                )
                .await;
            assert_eq!(ended, 1, "one connection listens");
            assert_eq!(told(&mut watch).await, News::Anything, "it mends its line by itself");
        }
        subject.store.create_collection(&collection(), None).await.expect("created");
        assert_eq!(told(&mut watch).await, News::Changed(collection().uid));
    })
    .await;
}

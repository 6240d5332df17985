use uuid::Uuid;

use crate::{
    domain::{Collection, CollectionId, CollectionUid, DecisionId, Policy, Position, Revision, Timestamp},
    store::{DecisionRecord, StoreError, contract::Subject},
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
async fn decisions_do_not_wait_for_a_turn() {
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
async fn a_turn_whose_connection_is_lost_is_unavailable_and_leaves_no_trace() {
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

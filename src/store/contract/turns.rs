use std::collections::BTreeSet;

use super::*;
use crate::StoreError;

on_both_databases!(
    a_turn_sees_the_collection_and_its_own_changes,
    others_see_a_turn_when_it_is_committed,
    a_dropped_turn_leaves_no_trace,
    a_turn_whose_caller_hung_up_is_rolled_back,
    turns_come_one_after_the_other,
    a_turn_of_a_deleted_collection_is_refused,
    a_turn_that_does_not_come_in_time_is_unavailable,
    turns_of_two_collections_do_not_lose_each_other,
    a_turn_puts_the_next_revision_of_its_collection,
    a_limited_write_outside_a_turn_waits_for_the_turn,
);

async fn a_turn_sees_the_collection_and_its_own_changes(subject: &Subject) {
    let mut staff = collection(1, "staff");
    staff.spaces = vec![binding("one", Modality::Face, SpaceRole::Active)];
    subject.store.create_collection(&staff, None).await.expect("created");
    append(&subject.store, staff.uid, &[put("alice")]).await;

    let mut turn = subject.store.take_turn(staff.uid).await.expect("the turn");
    assert_eq!(turn.collection(), &staff);
    assert_eq!(turn.head(), Position(1));
    turn.append(&[admit(1, "alice"), put("bob")], at(5)).await.expect("appended");
    assert_eq!(turn.head(), Position(3));
    assert_eq!(turn.identity(&identity_id("bob")).await.expect("read"), Some(identity("bob")));
    assert_eq!(turn.identity(&identity_id("eve")).await.expect("read"), None);
    assert_eq!(turn.template(template_id(1)).await.expect("read").expect("there").position, Position(2));
    assert_eq!(turn.entries_after(Position(1), 1).await.expect("entries")[0].position, Position(2));
    assert_eq!(turn.append(&[], at(6)).await.expect("nothing to do"), []);
    turn.commit().await.expect("committed");
}

async fn others_see_a_turn_when_it_is_committed(subject: &Subject) {
    let uid = created(&subject.store).await;
    let replica = subject.replica().await;
    let mut turn = subject.store.take_turn(uid).await.expect("the turn");
    turn.append(&[put("alice"), admit(1, "alice")], at(5)).await.expect("appended");
    for store in [&subject.store, &replica] {
        assert_eq!(store.in_collection(uid).entries_after(Position::START, 10).await.expect("entries"), []);
        assert_eq!(store.heads().await.expect("heads")[0].position, Position::START);
    }
    turn.commit().await.expect("committed");
    for store in [&subject.store, &replica] {
        assert_eq!(store.in_collection(uid).entries_after(Position::START, 10).await.expect("entries").len(), 2);
        assert_eq!(store.heads().await.expect("heads")[0].position, Position(2));
    }
}

async fn a_dropped_turn_leaves_no_trace(subject: &Subject) {
    let uid = created(&subject.store).await;
    let before = subject.row_counts().await;
    let mut turn = subject.store.take_turn(uid).await.expect("the turn");
    turn.append(&[put("alice"), admit(1, "alice")], at(5)).await.expect("appended");
    let renamed = Collection { revision: Revision(2), display_name: "Renamed".to_owned(), ..collection(7, "staff") };
    turn.put_collection(&renamed).await.expect("put");
    drop(turn);

    let turn = subject.store.take_turn(uid).await.expect("the turn is free again");
    assert_eq!(turn.head(), Position::START);
    assert_eq!(turn.collection(), &collection(7, "staff"));
    assert_eq!(subject.row_counts().await, before);
}

async fn a_turn_whose_caller_hung_up_is_rolled_back(subject: &Subject) {
    let uid = created(&subject.store).await;
    let mut turn = subject.store.take_turn(uid).await.expect("the turn");
    turn.append(&[put("alice")], at(5)).await.expect("appended");
    let many: Vec<Change> = (0..500).map(|n| admit(n, "alice")).collect();
    {
        let appending = turn.append(&many, at(6));
        assert!(futures::poll!(appending).is_pending(), "five hundred templates are not admitted at a glance");
    }
    let refused = turn.identity(&identity_id("alice")).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    let refused = turn.commit().await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");

    let turn = subject.store.take_turn(uid).await.expect("the turn is free again");
    assert_eq!(turn.head(), Position::START);
    assert_eq!(subject.store.in_collection(uid).identities(None, 10).await.expect("a page"), []);
}

async fn turns_come_one_after_the_other(subject: &Subject) {
    const WRITERS: u16 = 8;
    const TURNS: u16 = 12;
    let uid = created(&subject.store).await;
    append(&subject.store, uid, &[put("alice")]).await;
    let replica = subject.replica().await;
    let writers = (0..WRITERS).map(|writer| {
        let store = Arc::clone(if writer % 2 == 0 { &subject.store } else { &replica });
        tokio::spawn(async move {
            for round in 0..TURNS {
                let mut turn = store.take_turn(uid).await.expect("the turn");
                let head = turn.head();
                let entries = turn.append(&[admit(writer * TURNS + round, "alice")], at(5)).await.expect("appended");
                assert_eq!(entries[0].position, head.next());
                turn.commit().await.expect("committed");
            }
        })
    });
    for writer in futures::future::join_all(writers).await {
        writer.expect("no writer failed");
    }

    let entries = replica.in_collection(uid).entries_after(Position::START, 1000).await.expect("entries");
    let positions: Vec<u64> = entries.iter().map(|entry| entry.position.0).collect();
    assert_eq!(positions, (1..=u64::from(WRITERS * TURNS) + 1).collect::<Vec<_>>());
    let templates: BTreeSet<_> = entries.iter().filter_map(|entry| entry.template).collect();
    assert_eq!(templates.len(), usize::from(WRITERS * TURNS));
}

async fn a_turn_of_a_deleted_collection_is_refused(subject: &Subject) {
    let uid = created(&subject.store).await;
    let replica = subject.replica().await;
    let mut turn = subject.store.take_turn(uid).await.expect("the turn");
    // Both of these wait for the turn; whichever comes first, the deletion wins in the end.
    let deletion = tokio::spawn(async move { replica.delete_collection(uid).await });
    turn.append(&[put("alice")], at(5)).await.expect("appended");
    turn.commit().await.expect("committed");
    assert!(deletion.await.expect("joined").expect("deleted"));

    let refused = subject.store.take_turn(uid).await.map(|_| ());
    assert!(matches!(refused, Err(StoreError::CollectionGone)), "{refused:?}");
    assert!(subject.row_counts().await.iter().all(|(_, rows)| *rows == 0));
}

async fn a_turn_that_does_not_come_in_time_is_unavailable(subject: &Subject) {
    let uid = created(&subject.store).await;
    let replica = subject.impatient_replica().await;
    let turn = subject.store.take_turn(uid).await.expect("the turn");
    let refused = replica.take_turn(uid).await.map(|_| ());
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert!(replica.collection(&collection_id("staff")).await.expect("readers do not wait").is_some());
    drop(turn);
    append(&replica, uid, &[put("alice")]).await;
}

async fn turns_of_two_collections_do_not_lose_each_other(subject: &Subject) {
    let collections = [collection(1, "one"), collection(2, "two")];
    let writers = collections.clone().map(|created| {
        let store = Arc::clone(&subject.store);
        async move {
            store.create_collection(&created, None).await.expect("created");
            for n in 0..10 {
                append(&store, created.uid, &[put(&format!("person-{n}"))]).await;
            }
        }
    });
    futures::future::join_all(writers).await;
    for head in subject.store.heads().await.expect("heads") {
        assert_eq!(head.position, Position(10));
    }
}

async fn a_turn_puts_the_next_revision_of_its_collection(subject: &Subject) {
    let uid = created(&subject.store).await;
    let mut second = collection(7, "staff");
    second.spaces = vec![binding("one", Modality::Face, SpaceRole::Active)];
    second.revision = Revision(2);
    let mut turn = subject.store.take_turn(uid).await.expect("the turn");
    turn.put_collection(&second).await.expect("put");
    assert_eq!(turn.collection(), &second);
    turn.append(&[put("alice")], at(5)).await.expect("appended");
    turn.commit().await.expect("committed");
    assert_eq!(subject.store.collection(&second.id).await.expect("read"), Some(second.clone()));

    let mut turn = subject.store.take_turn(uid).await.expect("the turn");
    let refused = turn.put_collection(&second).await;
    assert!(matches!(refused, Err(StoreError::RevisionMoved)), "{refused:?}");
}

/// A method that counts rows before it writes holds the collection's lock, so that no other writer exceeds the limit.
async fn a_limited_write_outside_a_turn_waits_for_the_turn(subject: &Subject) {
    let uid = created(&subject.store).await;
    let replica = subject.impatient_replica().await;
    let turn = subject.store.take_turn(uid).await.expect("the turn");
    let refused = replica.in_collection(uid).put_review_trial(&super::review_trials::trial(1), 5).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    drop(turn);
    replica.in_collection(uid).put_review_trial(&super::review_trials::trial(1), 5).await.expect("the turn is free");
    assert_eq!(subject.store.in_collection(uid).review_trials().await.expect("read"), [super::review_trials::trial(1)]);
    let gone =
        replica.in_collection(collection(8, "gone").uid).put_review_trial(&super::review_trials::trial(2), 5).await;
    assert!(matches!(gone, Err(StoreError::CollectionGone)), "{gone:?}");
}

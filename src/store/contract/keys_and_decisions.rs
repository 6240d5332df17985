use serde_json::json;

use super::*;
use crate::{DecisionRecord, IdempotencyKey, IdempotencyRecord};
use domain::DecisionId;

on_both_databases!(
    the_first_answer_under_a_key_stays,
    a_key_belongs_to_one_caller_method_and_collection,
    an_expired_answer_is_replaced,
    the_sweep_removes_what_has_expired,
    an_answer_is_stored_when_its_turn_commits,
    decisions_are_stored_unchanged,
    decisions_of_deleted_collections_are_dropped,
    a_decision_is_stored_when_its_turn_commits,
    decisions_are_swept_by_their_age,
);

fn key(key: &str) -> IdempotencyKey {
    let (principal, collection, key) = ("key:'ops'".to_owned(), "staff".to_owned(), key.to_owned());
    IdempotencyKey { principal, method: "IdentityService.Enroll", collection, key }
}

fn record(byte: u8, expire_second: i64) -> IdempotencyRecord {
    IdempotencyRecord { body_hash: [byte; 32], answer: vec![byte, 0, 0xff], expire_time: at(expire_second) }
}

async fn the_first_answer_under_a_key_stays(subject: &Subject) {
    let store = &subject.store;
    assert_eq!(store.idempotency_keys().idempotency_record(&key("a"), at(1)).await.expect("read"), None);
    store.idempotency_keys().put_idempotency_record(&key("a"), &record(1, 100), at(1)).await.expect("kept");
    store.idempotency_keys().put_idempotency_record(&key("a"), &record(2, 200), at(2)).await.expect("no change");
    assert_eq!(
        store.idempotency_keys().idempotency_record(&key("a"), at(2)).await.expect("read"),
        Some(record(1, 100))
    );
}

async fn a_key_belongs_to_one_caller_method_and_collection(subject: &Subject) {
    let store = &subject.store;
    store.idempotency_keys().put_idempotency_record(&key("a"), &record(1, 100), at(1)).await.expect("kept");
    for other in [
        IdempotencyKey { principal: "other".to_owned(), ..key("a") },
        IdempotencyKey { method: "IdentityService.Create", ..key("a") },
        IdempotencyKey { collection: String::new(), ..key("a") },
        key("b"),
    ] {
        assert_eq!(store.idempotency_keys().idempotency_record(&other, at(1)).await.expect("read"), None, "{other:?}");
    }
}

async fn an_expired_answer_is_replaced(subject: &Subject) {
    let store = &subject.store;
    store.idempotency_keys().put_idempotency_record(&key("a"), &record(1, 100), at(1)).await.expect("kept");
    assert_eq!(
        store.idempotency_keys().idempotency_record(&key("a"), at(99)).await.expect("read"),
        Some(record(1, 100))
    );
    assert_eq!(store.idempotency_keys().idempotency_record(&key("a"), at(100)).await.expect("read"), None);
    store.idempotency_keys().put_idempotency_record(&key("a"), &record(2, 200), at(100)).await.expect("kept");
    assert_eq!(
        store.idempotency_keys().idempotency_record(&key("a"), at(100)).await.expect("read"),
        Some(record(2, 200))
    );
}

async fn the_sweep_removes_what_has_expired(subject: &Subject) {
    let store = &subject.store;
    for (name, expire_second) in [("a", 100), ("b", 101), ("c", 102)] {
        store
            .idempotency_keys()
            .put_idempotency_record(&key(name), &record(1, expire_second), at(1))
            .await
            .expect("kept");
    }
    assert_eq!(store.sweep_idempotency_records(at(101)).await.expect("swept"), 2);
    assert_eq!(store.sweep_idempotency_records(at(101)).await.expect("swept"), 0);
    assert_eq!(
        store.idempotency_keys().idempotency_record(&key("c"), at(101)).await.expect("read"),
        Some(record(1, 102))
    );
}

async fn an_answer_is_stored_when_its_turn_commits(subject: &Subject) {
    let uid = created(&subject.store).await;
    let mut turn = subject.store.take_turn(uid).await.expect("the turn");
    turn.put_idempotency_record(&key("a"), &record(1, 100), at(1)).await.expect("kept");
    assert_eq!(turn.idempotency_record(&key("a"), at(1)).await.expect("read"), Some(record(1, 100)));
    drop(turn);
    assert_eq!(subject.store.idempotency_keys().idempotency_record(&key("a"), at(1)).await.expect("read"), None);

    let mut turn = subject.store.take_turn(uid).await.expect("the turn");
    assert_eq!(turn.idempotency_record(&key("a"), at(1)).await.expect("read"), None);
    turn.put_idempotency_record(&key("a"), &record(2, 100), at(1)).await.expect("kept");
    turn.commit().await.expect("committed");
    assert_eq!(
        subject.store.idempotency_keys().idempotency_record(&key("a"), at(1)).await.expect("read"),
        Some(record(2, 100))
    );
}

fn decision(number: u128) -> DecisionRecord {
    let body = json!({
        "decision": "uncertain",
        "similarity": 0.625,
        "candidates": [{"identity": "o'neill", "rank": 1}],
        "reasons": ["Größe \"9\""],
        "runnerUp": null,
    });
    DecisionRecord { id: DecisionId(Uuid::from_u128(number)), time: at(77), body }
}

async fn decisions_are_stored_unchanged(subject: &Subject) {
    let uid = created(&subject.store).await;
    subject.store.put_decisions(&[(uid, decision(1)), (uid, decision(2))]).await.expect("kept");
    subject.store.put_decisions(&[(uid, decision(2)), (uid, decision(3))]).await.expect("repeating does no harm");
    for number in 1..=3 {
        let found = subject.store.in_collection(uid).decision(decision(number).id).await.expect("read");
        assert_eq!(found, Some(decision(number)));
    }
    assert_eq!(subject.store.in_collection(uid).decision(decision(4).id).await.expect("read"), None);
    let elsewhere = collection(8, "elsewhere").uid;
    assert_eq!(subject.store.in_collection(elsewhere).decision(decision(1).id).await.expect("read"), None);
}

async fn decisions_of_deleted_collections_are_dropped(subject: &Subject) {
    let uid = created(&subject.store).await;
    let gone = collection(8, "gone").uid;
    subject.store.put_decisions(&[(gone, decision(1)), (uid, decision(2))]).await.expect("kept");
    assert_eq!(subject.store.in_collection(gone).decision(decision(1).id).await.expect("read"), None);
    assert_eq!(subject.store.in_collection(uid).decision(decision(2).id).await.expect("read"), Some(decision(2)));
}

async fn decisions_are_swept_by_their_age(subject: &Subject) {
    let uid = created(&subject.store).await;
    let late = DecisionRecord { time: at(78), ..decision(2) };
    subject.store.put_decisions(&[(uid, decision(1)), (uid, late.clone())]).await.expect("kept");
    assert_eq!(subject.store.sweep_decisions(at(77)).await.expect("swept"), 0);
    assert_eq!(subject.store.sweep_decisions(at(78)).await.expect("swept"), 1);
    assert_eq!(subject.store.in_collection(uid).decision(decision(1).id).await.expect("read"), None);
    assert_eq!(subject.store.in_collection(uid).decision(late.id).await.expect("read"), Some(late));
}

async fn a_decision_is_stored_when_its_turn_commits(subject: &Subject) {
    let uid = created(&subject.store).await;
    let mut turn = subject.store.take_turn(uid).await.expect("the turn");
    turn.put_decision(&decision(1)).await.expect("kept");
    drop(turn);
    let mut turn = subject.store.take_turn(uid).await.expect("the turn");
    turn.put_decision(&decision(2)).await.expect("kept");
    turn.commit().await.expect("committed");
    assert_eq!(subject.store.in_collection(uid).decision(decision(1).id).await.expect("read"), None);
    assert_eq!(subject.store.in_collection(uid).decision(decision(2).id).await.expect("read"), Some(decision(2)));
}

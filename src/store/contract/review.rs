use serde_json::json;

use super::*;
use crate::{ReviewCasePage, StoreError};
use domain::{
    Encoded, IdentityId, ReviewCase, ReviewCaseId, ReviewOutcome, ReviewStage, ReviewState, SampleReport, Verdict,
};

on_both_databases!(
    cases_and_their_samples_are_stored_unchanged,
    a_case_is_stored_when_its_turn_commits,
    a_case_of_an_old_revision_is_not_written,
    cases_are_listed_by_stage,
    deleting_an_identity_deletes_the_cases_that_name_it,
    expired_cases_are_swept,
);

/// Written in the form that is kept, and read back, so that the test names what matters alone.
pub(super) fn case(number: u128, state: &ReviewState) -> ReviewCase {
    let nothing = json!({
        "id": Uuid::from_u128(number), "decision": Uuid::from_u128(number + 1000), "reasons": ["small_margin"],
        "candidates": [{"identity": "ann", "template": Uuid::nil(), "similarity": 0.5}],
        "operating_point": {
            "target_fpir": 0.01, "target_fmr": 0.001, "threshold_known": 0.5, "threshold_new": null,
            "threshold_verify": null, "expected_fnir": null, "source": "rehearsal", "trials": 300, "gallery_identities": 7
        },
        "modality": "face", "model": "face-test", "labels": {"gate": "Größe \"9\""}, "samples": [], "state": state,
        "revision": 1, "create_time": at(5), "update_time": at(5), "expire_time": at(100),
    });
    serde_json::from_value(nothing).expect("a case")
}

fn claimed(until: i64) -> ReviewState {
    ReviewState::Claimed { reviewer: "ann".to_owned(), until: at(until) }
}

pub(super) fn decided(identity: Option<IdentityId>) -> ReviewState {
    let verdict = Verdict::New(None);
    let reviewer = "ann".to_owned();
    ReviewState::Decided(ReviewOutcome { verdict, identity, made: true, templates: Vec::new(), reviewer, time: at(9) })
}

pub(super) fn sample(number: u16) -> Encoded {
    let StoredTemplate { template, embedding } = template(number, "nobody");
    let report = SampleReport::default();
    Encoded { embedding, model: template.model, origin: template.origin, external: number.is_multiple_of(2), report }
}

pub(super) async fn opened(store: &Arc<dyn Store>, uid: CollectionUid, case: &ReviewCase, samples: &[Encoded]) {
    let mut turn = store.take_turn(uid).await.expect("the turn");
    turn.open_review_case(case, samples).await.expect("opened");
    turn.commit().await.expect("committed");
}

async fn cases_and_their_samples_are_stored_unchanged(subject: &Subject) {
    let (store, uid) = (&subject.store, created(&subject.store).await);
    let (mut case, samples) = (case(1, &ReviewState::Open), [sample(3), sample(4)]);
    assert_eq!(case.doubt, None, "a case from before doubts were kept is read");
    case.doubt = Some(super::review_trials::trial(1).doubt);
    opened(store, uid, &case, &samples).await;
    assert_eq!(store.in_collection(uid).review_case(case.id).await.expect("read"), Some(case.clone()));
    let elsewhere = collection(8, "elsewhere").uid;
    assert_eq!(store.in_collection(elsewhere).review_case(case.id).await.expect("read"), None);
    let mut turn = store.take_turn(uid).await.expect("the turn");
    assert_eq!(turn.review_samples(case.id).await.expect("read"), samples);
    assert_eq!(turn.count_undecided_review_cases().await.expect("counted"), 1);
    drop(turn);
    assert!(store.in_collection(uid).delete_review_case(case.id).await.expect("deleted"));
    assert!(!store.in_collection(uid).delete_review_case(case.id).await.expect("gone already"));
    let mut turn = store.take_turn(uid).await.expect("the turn");
    assert_eq!(turn.review_samples(case.id).await.expect("read"), []);
}

async fn a_case_is_stored_when_its_turn_commits(subject: &Subject) {
    let (store, uid) = (&subject.store, created(&subject.store).await);
    let mut turn = store.take_turn(uid).await.expect("the turn");
    turn.open_review_case(&case(1, &ReviewState::Open), &[sample(1)]).await.expect("opened");
    drop(turn);
    assert_eq!(store.in_collection(uid).review_case(ReviewCaseId(Uuid::from_u128(1))).await.expect("read"), None);
}

async fn a_case_of_an_old_revision_is_not_written(subject: &Subject) {
    let (store, uid) = (&subject.store, created(&subject.store).await);
    let first = case(1, &ReviewState::Open);
    opened(store, uid, &first, &[]).await;
    let second = first.clone().with_state(claimed(50), at(6));
    store.in_collection(uid).put_review_case(&second).await.expect("written");
    let late = first.with_state(decided(None), at(7));
    assert!(matches!(store.in_collection(uid).put_review_case(&late).await, Err(StoreError::RevisionMoved)));
    let mut turn = store.take_turn(uid).await.expect("the turn");
    assert!(matches!(turn.put_review_case(&late).await, Err(StoreError::RevisionMoved)));
    drop(turn);
    assert_eq!(store.in_collection(uid).review_case(second.id).await.expect("read"), Some(second));
}

async fn cases_are_listed_by_stage(subject: &Subject) {
    let (store, uid) = (&subject.store, created(&subject.store).await);
    let states = [ReviewState::Open, claimed(20), claimed(60), decided(None)];
    for (number, state) in (1..).zip(&states) {
        opened(store, uid, &case(number, state), &[]).await;
    }
    let listed = async |stage, second, after: Option<u128>, limit| -> Vec<u128> {
        let after = after.map(|number| ReviewCaseId(Uuid::from_u128(number)));
        let page = store
            .in_collection(uid)
            .review_cases(ReviewCasePage { stage, now: at(second), after, limit })
            .await
            .expect("read");
        page.iter().map(|case| case.id.0.as_u128()).collect()
    };
    assert_eq!(listed(None, 30, None, 10).await, [1, 2, 3, 4]);
    assert_eq!(listed(None, 30, Some(1), 2).await, [2, 3]);
    // A lease that has run out holds nothing.
    assert_eq!(listed(Some(ReviewStage::Open), 30, None, 10).await, [1, 2]);
    assert_eq!(listed(Some(ReviewStage::Claimed), 30, None, 10).await, [3]);
    assert_eq!(listed(Some(ReviewStage::Claimed), 19, None, 10).await, [2, 3]);
    assert_eq!(listed(Some(ReviewStage::Decided), 30, None, 10).await, [4]);
    let mut turn = store.take_turn(uid).await.expect("the turn");
    assert_eq!(turn.count_undecided_review_cases().await.expect("counted"), 3);
}

async fn deleting_an_identity_deletes_the_cases_that_name_it(subject: &Subject) {
    let (store, uid) = (&subject.store, created(&subject.store).await);
    append(store, uid, &[put("ann"), put("bob")]).await;
    opened(store, uid, &case(1, &decided(Some(identity_id("ann")))), &[sample(1)]).await;
    opened(store, uid, &case(2, &decided(Some(identity_id("bob")))), &[]).await;
    append(store, uid, &[Change::ForgetIdentity(identity_id("ann"))]).await;
    let left = store
        .in_collection(uid)
        .review_cases(ReviewCasePage { stage: None, now: at(1), after: None, limit: 10 })
        .await
        .expect("read");
    assert_eq!(left.iter().map(|case| case.id.0.as_u128()).collect::<Vec<_>>(), [2]);
    let mut turn = store.take_turn(uid).await.expect("the turn");
    assert_eq!(turn.review_samples(ReviewCaseId(Uuid::from_u128(1))).await.expect("read"), []);
    drop(turn);
    assert!(store.delete_collection(uid).await.expect("deleted"), "and with its collection");
}

async fn expired_cases_are_swept(subject: &Subject) {
    let (store, uid) = (&subject.store, created(&subject.store).await);
    let late = ReviewCase { expire_time: at(101), ..case(2, &ReviewState::Open) };
    opened(store, uid, &case(1, &ReviewState::Open), &[sample(1)]).await;
    opened(store, uid, &late, &[]).await;
    assert_eq!(store.sweep_review_cases(at(99)).await.expect("swept"), 0);
    assert_eq!(store.sweep_review_cases(at(100)).await.expect("swept"), 1);
    assert_eq!(store.in_collection(uid).review_case(ReviewCaseId(Uuid::from_u128(1))).await.expect("read"), None);
    assert_eq!(store.in_collection(uid).review_case(late.id).await.expect("read"), Some(late));
}

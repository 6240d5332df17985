use super::*;
use crate::{AcceptedTemplate, StoreError};
use domain::{CandidateEvidence, CaseSelection, Pooling, ReviewTrial, Similarity};

on_both_databases!(
    the_latest_trials_are_stored_in_order,
    a_trial_is_stored_when_its_turn_commits,
    deleting_a_trial_keeps_the_others,
    a_case_has_one_trial,
    trials_outlive_their_case_and_identity,
    accepted_templates_are_found_by_posterior,
    a_template_is_not_certified_and_accepted,
);

pub(super) fn trial(number: u128) -> ReviewTrial {
    ReviewTrial {
        case: ReviewCaseId(Uuid::from_u128(number)),
        doubt: CandidateEvidence {
            space: space(Modality::Face, 4),
            pooling: Pooling::MeanOfBest(std::num::NonZeroU32::MIN),
            similarity: Similarity(0.1),
            margin: number.is_multiple_of(2).then_some(0.3),
            posterior: (!number.is_multiple_of(3)).then_some(0.375),
            selection: if number.is_multiple_of(2) { CaseSelection::Blind } else { CaseSelection::ByPosterior },
        },
        was_right: number.is_multiple_of(2),
        time: at(1_700_000_005),
    }
}

async fn put(store: &Arc<dyn Store>, uid: CollectionUid, number: u128, most: u64) {
    let mut turn = store.take_turn(uid).await.expect("the turn");
    turn.put_review_trial(&trial(number), most).await.expect("kept");
    turn.commit().await.expect("committed");
}

async fn numbers(store: &Arc<dyn Store>, uid: CollectionUid) -> Vec<u128> {
    store.in_collection(uid).review_trials().await.expect("read").iter().map(|trial| trial.case.0.as_u128()).collect()
}

async fn the_latest_trials_are_stored_in_order(subject: &Subject) {
    let (store, uid) = (&subject.store, created(&subject.store).await);
    for number in [6, 2, 5, 3] {
        put(store, uid, number, 10).await;
    }
    assert_eq!(store.in_collection(uid).review_trials().await.expect("read"), [6, 2, 5, 3].map(trial));
    put(store, uid, 4, 3).await;
    assert_eq!(numbers(store, uid).await, [5, 3, 4], "the oldest go");
    assert_eq!(store.in_collection(collection(8, "elsewhere").uid).review_trials().await.expect("read"), []);
}

async fn a_trial_is_stored_when_its_turn_commits(subject: &Subject) {
    let (store, uid) = (&subject.store, created(&subject.store).await);
    let mut turn = store.take_turn(uid).await.expect("the turn");
    turn.put_review_trial(&trial(1), 10).await.expect("kept");
    assert_eq!(turn.review_trials().await.expect("read"), [trial(1)]);
    drop(turn);
    assert_eq!(numbers(store, uid).await, []);
}

async fn deleting_a_trial_keeps_the_others(subject: &Subject) {
    let (store, uid) = (&subject.store, created(&subject.store).await);
    for number in 1..=3 {
        put(store, uid, number, 10).await;
    }
    let mut turn = store.take_turn(uid).await.expect("the turn");
    turn.delete_review_trial(trial(2).case).await.expect("deleted");
    turn.delete_review_trial(trial(9).case).await.expect("there was none");
    turn.commit().await.expect("committed");
    assert_eq!(numbers(store, uid).await, [1, 3]);
    put(store, uid, 2, 10).await;
    assert_eq!(numbers(store, uid).await, [1, 3, 2], "and may be shown again");
}

async fn a_case_has_one_trial(subject: &Subject) {
    let (store, uid) = (&subject.store, created(&subject.store).await);
    put(store, uid, 1, 10).await;
    let mut turn = store.take_turn(uid).await.expect("the turn");
    let again = turn.put_review_trial(&trial(1), 10).await;
    assert!(matches!(again, Err(StoreError::Refused(_))), "{again:?}");
}

async fn trials_outlive_their_case_and_identity(subject: &Subject) {
    let (store, uid) = (&subject.store, created(&subject.store).await);
    append(store, uid, &[super::put("ann")]).await;
    let case = review::case(1, &review::decided(Some(identity_id("ann"))));
    review::opened(store, uid, &case, &[]).await;
    put(store, uid, 1, 10).await;
    append(store, uid, &[Change::ForgetIdentity(identity_id("ann"))]).await;
    assert_eq!(store.in_collection(uid).review_case(case.id).await.expect("read"), None);
    let left = store.in_collection(uid).review_trials().await.expect("read");
    assert_eq!(left, [trial(1)]);
    let words = serde_json::to_string(&left).expect("words");
    assert!(!words.contains("ann"), "a trial contains no identity: {words}");
}

async fn accepted_templates_are_found_by_posterior(subject: &Subject) {
    let (store, uid) = (&subject.store, created(&subject.store).await);
    let at_posterior = |number: u16, posterior: f64, space: EmbeddingSpace| {
        let mut stored = template(number, "ann");
        stored.template.assignment = Assignment::Accepted { posterior };
        stored.template.space = space;
        stored.embedding = Embedding::new(space, &[1.0, 2.0, 3.0, 4.0]).expect("an embedding");
        Change::Admit(stored)
    };
    let (face, gait) = (space(Modality::Face, 4), space(Modality::Gait, 4));
    // One that a client enrolled, one that is certified, and three that were accepted.
    let changes = [
        super::put("ann"),
        admit(3, "ann"),
        admit(5, "ann"),
        at_posterior(7, 0.95, face),
        at_posterior(8, 0.75, gait),
        at_posterior(9, 0.5, face),
    ];
    append(store, uid, &changes).await;
    let mut turn = store.take_turn(uid).await.expect("the turn");
    let found = turn.accepted_below(0.95).await.expect("read");
    let accepted =
        |space, number| AcceptedTemplate { space, identity: identity_id("ann"), template: template_id(number) };
    assert_eq!(found, [accepted(gait, 8), accepted(face, 9)]);
    let all = turn.accepted_below(f64::INFINITY).await.expect("read");
    assert_eq!(all.iter().map(|accepted| accepted.template).collect::<Vec<_>>(), [7, 8, 9].map(template_id));
    assert_eq!(turn.accepted_below(0.0).await.expect("read"), []);
}

async fn a_template_is_not_certified_and_accepted(subject: &Subject) {
    let (store, uid) = (&subject.store, created(&subject.store).await);
    append(store, uid, &[super::put("ann"), admit(5, "ann")]).await;
    subject.refuses("UPDATE templates SET accepted_posterior = 0.5").await;
    let kept = store.in_collection(uid).template(template_id(5)).await.expect("read").expect("there");
    assert_eq!(kept.assignment, assignment(5));
}

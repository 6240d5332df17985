use super::*;
use crate::HeartbeatReply;
use domain::{
    Operation, OperationFailure, OperationId, OperationKind, OperationOutcome, OperationProgress, OperationState,
    OperationSummary, Reason, Similarity, SurveyFinding, TemplateOwner, ThresholdSource,
};

on_both_databases!(
    an_operation_is_stored_unchanged_and_ends_once,
    operations_above_the_limit_are_not_stored,
    a_heartbeat_replies_whether_to_continue,
    an_operation_without_heartbeats_is_ended,
    findings_are_erased_with_the_templates_they_name,
    a_pair_shows_the_present_owners_and_whether_they_are_dismissed,
    findings_of_removed_templates_are_not_stored,
    operations_are_listed_deleted_and_swept,
);

fn operation(number: u128) -> Operation {
    Operation {
        id: OperationId(Uuid::from_u128(number)),
        kind: OperationKind::FindDuplicates,
        state: OperationState::Running { cancelled: false },
        progress: OperationProgress::default(),
        create_time: at(5),
        update_time: at(5),
        expire_time: at(100),
    }
}

pub(super) fn succeeded() -> OperationOutcome {
    OperationOutcome::Succeeded(OperationSummary {
        model: SpaceName::new("face-test").expect("a name"),
        identities: 3,
        templates: 4,
        level: Similarity(0.625),
        false_pairs: Some(0.25),
        reasons: vec![Reason::Extrapolated],
        source: ThresholdSource::Rehearsal,
        calibration: None,
        alone: 0,
    })
}

/// One that has found itself.
pub(super) fn ended(number: u128, template: TemplateId) -> (Operation, [SurveyFinding<TemplateId>; 1]) {
    (operation(number), [SurveyFinding::Member { group: 0, template }])
}

fn pair(one: u16, other: u16, llr: Option<f64>) -> SurveyFinding<TemplateId> {
    let templates = [template_id(one), template_id(other)];
    SurveyFinding::Pair { templates, similarity: Similarity(0.7), llr, same_image: llr.is_none(), dismissed: false }
}

fn owned(number: u16, identity: &str) -> TemplateOwner {
    TemplateOwner { template: template_id(number), identity: identity_id(identity) }
}

async fn begun(store: &Arc<dyn Store>, uid: CollectionUid, operation: &Operation) -> bool {
    let mut turn = store.take_turn(uid).await.expect("the turn");
    let is_begun = turn.begin_operation(operation, 2).await.expect("asked");
    turn.commit().await.expect("committed");
    is_begun
}

async fn finished(store: &Arc<dyn Store>, uid: CollectionUid, id: OperationId, findings: &[SurveyFinding<TemplateId>]) {
    let mut turn = store.take_turn(uid).await.expect("the turn");
    turn.finish_operation(id, &succeeded(), at(9), findings).await.expect("ended");
    turn.commit().await.expect("committed");
}

async fn an_operation_is_stored_unchanged_and_ends_once(subject: &Subject) {
    let (store, uid) = (&subject.store, created(&subject.store).await);
    let first = operation(1);
    assert!(begun(store, uid, &first).await);
    assert_eq!(store.in_collection(uid).operation(first.id).await.expect("read"), Some(first.clone()));
    assert_eq!(store.in_collection(collection(8, "elsewhere").uid).operation(first.id).await.expect("read"), None);
    finished(store, uid, first.id, &[]).await;
    let ended = Operation { state: OperationState::Ended(succeeded()), update_time: at(9), ..first.clone() };
    assert_eq!(store.in_collection(uid).operation(first.id).await.expect("read"), Some(ended.clone()));
    let late = OperationOutcome::Failed { failure: OperationFailure::Internal, message: "too late".to_owned() };
    store.in_collection(uid).end_operation(first.id, &late, at(10)).await.expect("passed over");
    assert_eq!(store.in_collection(uid).operation(first.id).await.expect("read"), Some(ended));

    let second = operation(2);
    assert!(begun(store, uid, &second).await);
    store.in_collection(uid).end_operation(second.id, &late, at(10)).await.expect("ended");
    append(store, uid, &[put("ann"), admit(1, "ann")]).await;
    finished(store, uid, second.id, &[SurveyFinding::Member { group: 0, template: template_id(1) }]).await;
    let kept = store.in_collection(uid).operation(second.id).await.expect("read").expect("there");
    assert_eq!(kept.state, OperationState::Ended(late));
    assert_eq!(store.in_collection(uid).findings(second.id, at(10)).await.expect("read"), []);
}

async fn operations_above_the_limit_are_not_stored(subject: &Subject) {
    let (store, uid) = (&subject.store, created(&subject.store).await);
    assert!(begun(store, uid, &operation(1)).await && begun(store, uid, &operation(2)).await);
    assert!(!begun(store, uid, &operation(3)).await);
    assert_eq!(store.in_collection(uid).operation(operation(3).id).await.expect("read"), None);
    finished(store, uid, operation(1).id, &[]).await;
    assert!(begun(store, uid, &operation(3)).await);
}

async fn a_heartbeat_replies_whether_to_continue(subject: &Subject) {
    let (store, uid) = (&subject.store, created(&subject.store).await);
    let id = operation(1).id;
    assert!(begun(store, uid, &operation(1)).await);
    let progress = OperationProgress { done: 7, total: 1 << 50 };
    assert_eq!(
        store.in_collection(uid).heartbeat(id, progress, at(6)).await.expect("recorded"),
        HeartbeatReply::Continue
    );
    let seen = store.in_collection(uid).operation(id).await.expect("read").expect("there");
    assert_eq!((seen.progress, seen.update_time), (progress, at(6)));
    store.in_collection(uid).cancel_operation(id).await.expect("cancelled");
    let seen = store.in_collection(uid).operation(id).await.expect("read").expect("there");
    assert_eq!(seen.state, OperationState::Running { cancelled: true });
    assert_eq!(
        store.in_collection(uid).heartbeat(id, progress, at(7)).await.expect("recorded"),
        HeartbeatReply::Cancelled
    );
    finished(store, uid, id, &[]).await;
    store.in_collection(uid).cancel_operation(id).await.expect("passed over");
    assert_eq!(store.in_collection(uid).heartbeat(id, progress, at(8)).await.expect("recorded"), HeartbeatReply::Gone);
    assert!(store.in_collection(uid).delete_operation(id).await.expect("deleted"));
    assert_eq!(store.in_collection(uid).heartbeat(id, progress, at(9)).await.expect("recorded"), HeartbeatReply::Gone);
}

async fn an_operation_without_heartbeats_is_ended(subject: &Subject) {
    let (store, uid) = (&subject.store, created(&subject.store).await);
    assert!(begun(store, uid, &operation(1)).await && begun(store, uid, &operation(2)).await);
    store.in_collection(uid).heartbeat(operation(2).id, OperationProgress::default(), at(30)).await.expect("recorded");
    let gone = OperationOutcome::Failed { failure: OperationFailure::ServerStopped, message: "gone".to_owned() };
    store.in_collection(uid).end_stale_operations(at(5), &gone).await.expect("ended");
    store.in_collection(uid).end_stale_operations(at(30), &gone).await.expect("ended");
    let states: Vec<OperationState> = store
        .in_collection(uid)
        .operations(None, 10)
        .await
        .expect("read")
        .into_iter()
        .map(|operation| operation.state)
        .collect();
    assert_eq!(states, [OperationState::Ended(gone), OperationState::Running { cancelled: false }]);
}

async fn findings_are_erased_with_the_templates_they_name(subject: &Subject) {
    let (store, uid) = (&subject.store, created(&subject.store).await);
    let changes = ["ann", "bob", "cy"].map(put).into_iter().chain([admit(1, "ann"), admit(2, "bob"), admit(3, "cy")]);
    append(store, uid, &changes.collect::<Vec<_>>()).await;
    append(store, uid, &[admit(4, "cy")]).await;
    let id = operation(1).id;
    assert!(begun(store, uid, &operation(1)).await);
    let member = |number| SurveyFinding::Member { group: 7, template: template_id(number) };
    let found = [pair(1, 2, Some(2.5)), pair(2, 3, None), member(1), member(3), member(4)];
    finished(store, uid, id, &found).await;
    let similarity = Similarity(0.7);
    let group = |number, name| SurveyFinding::Member { group: 7, template: owned(number, name) };
    let second = SurveyFinding::Pair {
        templates: [owned(2, "bob"), owned(3, "cy")],
        similarity,
        llr: None,
        same_image: true,
        dismissed: false,
    };
    let first = SurveyFinding::Pair {
        templates: [owned(1, "ann"), owned(2, "bob")],
        similarity,
        llr: Some(2.5),
        same_image: false,
        dismissed: false,
    };
    let all = [first, second.clone(), group(1, "ann"), group(3, "cy"), group(4, "cy")];
    assert_eq!(store.in_collection(uid).findings(id, at(10)).await.expect("read"), all);

    append(store, uid, &[Change::ForgetIdentity(identity_id("ann"))]).await;
    assert_eq!(
        store.in_collection(uid).findings(id, at(10)).await.expect("read"),
        [second, group(3, "cy"), group(4, "cy")],
        "erased from what was found"
    );
    append(store, uid, &[forget_template(3, "cy")]).await;
    assert_eq!(store.in_collection(uid).findings(id, at(10)).await.expect("read"), [group(4, "cy")]);
    let expires = Identity { expire_time: Some(at(50)), ..identity("cy") };
    append(store, uid, &[Change::PutIdentity(expires)]).await;
    assert_eq!(store.in_collection(uid).findings(id, at(49)).await.expect("read"), [group(4, "cy")]);
    assert_eq!(
        store.in_collection(uid).findings(id, at(50)).await.expect("read"),
        [],
        "an expired identity is not shown"
    );
}

async fn a_pair_shows_the_present_owners_and_whether_they_are_dismissed(subject: &Subject) {
    let (store, uid) = (&subject.store, created(&subject.store).await);
    let changes = ["ann", "bob", "cy"].map(put).into_iter().chain([admit(1, "ann"), admit(2, "bob"), admit(3, "cy")]);
    append(store, uid, &changes.collect::<Vec<_>>()).await;
    let id = operation(1).id;
    assert!(begun(store, uid, &operation(1)).await);
    finished(store, uid, id, &[pair(1, 2, None), pair(3, 1, None)]).await;
    let [ann, bob, cy] = ["ann", "bob", "cy"].map(identity_id);
    let shown = async || -> Vec<(String, bool)> {
        let findings = store.in_collection(uid).findings(id, at(10)).await.expect("read");
        let named = |finding: &SurveyFinding<TemplateOwner>| match finding {
            SurveyFinding::Pair { templates: [one, other], dismissed, .. } => {
                (format!("{} {}", one.identity, other.identity), *dismissed)
            }
            SurveyFinding::Member { .. } => panic!("pairs were found"),
        };
        findings.iter().map(named).collect()
    };
    store.in_collection(uid).dismiss_pair([&ann, &cy]).await.expect("dismissed");
    assert_eq!(shown().await, [("ann bob".to_owned(), false), ("cy ann".to_owned(), true)]);
    let found = async |pair| store.in_collection(uid).finds_pair(id, pair).await.expect("read");
    assert!(found([&ann, &bob]).await && found([&ann, &cy]).await && !found([&bob, &cy]).await);
    append(store, uid, &[move_template(1, "ann", "bob")]).await;
    assert_eq!(shown().await, [("bob bob".to_owned(), false), ("cy bob".to_owned(), false)]);
    assert!(!found([&ann, &bob]).await && found([&bob, &cy]).await);
}

async fn findings_of_removed_templates_are_not_stored(subject: &Subject) {
    let (store, uid) = (&subject.store, created(&subject.store).await);
    append(store, uid, &[put("ann"), admit(1, "ann"), admit(2, "ann"), put("bob"), admit(3, "bob")]).await;
    assert!(begun(store, uid, &operation(1)).await);
    append(store, uid, &[Change::ForgetIdentity(identity_id("bob"))]).await;
    let member = |number| SurveyFinding::Member { group: 0, template: template_id(number) };
    finished(store, uid, operation(1).id, &[pair(1, 3, None), member(1), member(3), member(2)]).await;
    let left = store.in_collection(uid).findings(operation(1).id, at(10)).await.expect("read");
    let group = |number| SurveyFinding::Member { group: 0, template: owned(number, "ann") };
    assert_eq!(left, [group(1), group(2)]);
}

async fn operations_are_listed_deleted_and_swept(subject: &Subject) {
    let (store, uid) = (&subject.store, created(&subject.store).await);
    for number in 1..=3 {
        let operation = Operation { expire_time: at(90 + i64::try_from(number).expect("small")), ..operation(number) };
        assert!(begun(store, uid, &operation).await);
        finished(store, uid, operation.id, &[]).await;
    }
    let listed = async |after: Option<u128>, limit| -> Vec<u128> {
        let after = after.map(|number| OperationId(Uuid::from_u128(number)));
        let page = store.in_collection(uid).operations(after, limit).await.expect("read");
        page.iter().map(|operation| operation.id.0.as_u128()).collect()
    };
    assert_eq!((listed(None, 2).await, listed(Some(2), 2).await), (vec![1, 2], vec![3]));
    assert!(store.in_collection(uid).delete_operation(operation(2).id).await.expect("deleted"));
    assert!(!store.in_collection(uid).delete_operation(operation(2).id).await.expect("gone already"));
    assert_eq!(store.sweep_operations(at(91)).await.expect("swept"), 1);
    assert_eq!(listed(None, 10).await, [3]);
}

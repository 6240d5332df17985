use super::*;
use crate::Heard;
use domain::{
    Operation, OperationFailure, OperationId, OperationKind, OperationOutcome, OperationState, OperationSummary, Owned,
    Progress, Reason, Similarity, SurveyFinding, ThresholdSource,
};

on_both_databases!(
    an_operation_is_kept_as_it_was_and_ends_once,
    so_many_may_run_and_no_more,
    who_works_hears_whether_it_is_wanted,
    an_operation_that_nobody_works_at_is_ended,
    what_was_found_goes_with_whom_it_names,
    what_is_gone_before_it_is_written_is_left_out,
    operations_are_listed_deleted_and_swept,
);

fn operation(number: u128) -> Operation {
    Operation {
        id: OperationId(Uuid::from_u128(number)),
        kind: OperationKind::FindDuplicates,
        state: OperationState::Running { cancelled: false },
        progress: Progress::default(),
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
    SurveyFinding::Pair { templates, similarity: Similarity(0.7), llr, same_image: llr.is_none() }
}

fn owned(number: u16, identity: &str) -> Owned {
    Owned { template: template_id(number), identity: identity_id(identity) }
}

async fn begun(store: &Arc<dyn Store>, uid: CollectionUid, operation: &Operation) -> bool {
    let mut turn = store.take_turn(uid).await.expect("the turn");
    let is_begun = turn.begin_operation(operation, 2).await.expect("asked");
    turn.commit().await.expect("committed");
    is_begun
}

async fn finished(store: &Arc<dyn Store>, uid: CollectionUid, id: OperationId, findings: &[SurveyFinding<TemplateId>]) {
    let mut turn = store.take_turn(uid).await.expect("the turn");
    turn.finish_operation(id, (&succeeded(), at(9)), findings).await.expect("ended");
    turn.commit().await.expect("committed");
}

async fn an_operation_is_kept_as_it_was_and_ends_once(subject: &Subject) {
    let (store, uid) = (&subject.store, created(&subject.store).await);
    let first = operation(1);
    assert!(begun(store, uid, &first).await);
    assert_eq!(store.operation(uid, first.id).await.expect("read"), Some(first.clone()));
    assert_eq!(store.operation(collection(8, "elsewhere").uid, first.id).await.expect("read"), None);
    finished(store, uid, first.id, &[]).await;
    let ended = Operation { state: OperationState::Ended(succeeded()), update_time: at(9), ..first.clone() };
    assert_eq!(store.operation(uid, first.id).await.expect("read"), Some(ended.clone()));
    let late = OperationOutcome::Failed { failure: OperationFailure::Internal, message: "too late".to_owned() };
    store.end_operation(uid, first.id, (&late, at(10))).await.expect("passed over");
    assert_eq!(store.operation(uid, first.id).await.expect("read"), Some(ended));

    let second = operation(2);
    assert!(begun(store, uid, &second).await);
    store.end_operation(uid, second.id, (&late, at(10))).await.expect("ended");
    append(store, uid, &[put("ann"), admit(1, "ann")]).await;
    finished(store, uid, second.id, &[SurveyFinding::Member { group: 0, template: template_id(1) }]).await;
    let kept = store.operation(uid, second.id).await.expect("read").expect("there");
    assert_eq!(kept.state, OperationState::Ended(late));
    assert_eq!(store.findings(second.id, at(10)).await.expect("read"), []);
}

async fn so_many_may_run_and_no_more(subject: &Subject) {
    let (store, uid) = (&subject.store, created(&subject.store).await);
    assert!(begun(store, uid, &operation(1)).await && begun(store, uid, &operation(2)).await);
    assert!(!begun(store, uid, &operation(3)).await);
    assert_eq!(store.operation(uid, operation(3).id).await.expect("read"), None);
    finished(store, uid, operation(1).id, &[]).await;
    assert!(begun(store, uid, &operation(3)).await);
}

async fn who_works_hears_whether_it_is_wanted(subject: &Subject) {
    let (store, uid) = (&subject.store, created(&subject.store).await);
    let id = operation(1).id;
    assert!(begun(store, uid, &operation(1)).await);
    let progress = Progress { done: 7, total: 1 << 50 };
    assert_eq!(store.hear_of_operation(uid, id, (progress, at(6))).await.expect("heard"), Heard::Wanted);
    let seen = store.operation(uid, id).await.expect("read").expect("there");
    assert_eq!((seen.progress, seen.update_time), (progress, at(6)));
    store.cancel_operation(uid, id).await.expect("cancelled");
    let seen = store.operation(uid, id).await.expect("read").expect("there");
    assert_eq!(seen.state, OperationState::Running { cancelled: true });
    assert_eq!(store.hear_of_operation(uid, id, (progress, at(7))).await.expect("heard"), Heard::Cancelled);
    finished(store, uid, id, &[]).await;
    store.cancel_operation(uid, id).await.expect("passed over");
    assert_eq!(store.hear_of_operation(uid, id, (progress, at(8))).await.expect("heard"), Heard::Gone);
    assert!(store.delete_operation(uid, id).await.expect("deleted"));
    assert_eq!(store.hear_of_operation(uid, id, (progress, at(9))).await.expect("heard"), Heard::Gone);
}

async fn an_operation_that_nobody_works_at_is_ended(subject: &Subject) {
    let (store, uid) = (&subject.store, created(&subject.store).await);
    assert!(begun(store, uid, &operation(1)).await && begun(store, uid, &operation(2)).await);
    store.hear_of_operation(uid, operation(2).id, (Progress::default(), at(30))).await.expect("heard");
    let gone = OperationOutcome::Failed { failure: OperationFailure::ServerStopped, message: "gone".to_owned() };
    store.end_silent_operations(uid, at(5), &gone).await.expect("ended");
    store.end_silent_operations(uid, at(30), &gone).await.expect("ended");
    let states: Vec<OperationState> =
        store.operations(uid, None, 10).await.expect("read").into_iter().map(|operation| operation.state).collect();
    assert_eq!(states, [OperationState::Ended(gone), OperationState::Running { cancelled: false }]);
}

async fn what_was_found_goes_with_whom_it_names(subject: &Subject) {
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
    let second =
        SurveyFinding::Pair { templates: [owned(2, "bob"), owned(3, "cy")], similarity, llr: None, same_image: true };
    let first = SurveyFinding::Pair {
        templates: [owned(1, "ann"), owned(2, "bob")],
        similarity,
        llr: Some(2.5),
        same_image: false,
    };
    let all = [first, second.clone(), group(1, "ann"), group(3, "cy"), group(4, "cy")];
    assert_eq!(store.findings(id, at(10)).await.expect("read"), all);

    append(store, uid, &[Change::ForgetIdentity(identity_id("ann"))]).await;
    assert_eq!(
        store.findings(id, at(10)).await.expect("read"),
        [second, group(3, "cy"), group(4, "cy")],
        "erased from what was found"
    );
    append(store, uid, &[forget_template(3, "cy")]).await;
    assert_eq!(store.findings(id, at(10)).await.expect("read"), [group(4, "cy")]);
    let expires = Identity { expire_time: Some(at(50)), ..identity("cy") };
    append(store, uid, &[Change::PutIdentity(expires)]).await;
    assert_eq!(store.findings(id, at(49)).await.expect("read"), [group(4, "cy")]);
    assert_eq!(store.findings(id, at(50)).await.expect("read"), [], "whose time has come is not shown");
}

async fn what_is_gone_before_it_is_written_is_left_out(subject: &Subject) {
    let (store, uid) = (&subject.store, created(&subject.store).await);
    append(store, uid, &[put("ann"), admit(1, "ann"), admit(2, "ann"), put("bob"), admit(3, "bob")]).await;
    assert!(begun(store, uid, &operation(1)).await);
    append(store, uid, &[Change::ForgetIdentity(identity_id("bob"))]).await;
    let member = |number| SurveyFinding::Member { group: 0, template: template_id(number) };
    finished(store, uid, operation(1).id, &[pair(1, 3, None), member(1), member(3), member(2)]).await;
    let left = store.findings(operation(1).id, at(10)).await.expect("read");
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
        let page = store.operations(uid, after, limit).await.expect("read");
        page.iter().map(|operation| operation.id.0.as_u128()).collect()
    };
    assert_eq!((listed(None, 2).await, listed(Some(2), 2).await), (vec![1, 2], vec![3]));
    assert!(store.delete_operation(uid, operation(2).id).await.expect("deleted"));
    assert!(!store.delete_operation(uid, operation(2).id).await.expect("gone already"));
    assert_eq!(store.sweep_operations(at(91)).await.expect("swept"), 1);
    assert_eq!(listed(None, 10).await, [3]);
}

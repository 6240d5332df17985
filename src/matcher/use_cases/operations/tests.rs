use super::*;
use crate::matcher::{
    testbed::{Testbed, context, enroll_write},
    use_cases::survey::{Listing, SurveyDraft},
};
use domain::{IdentityId, Modality, Similarity};

fn draft(similarity_min: Option<f32>) -> SurveyDraft {
    SurveyDraft {
        collection: CollectionId::new("staff").expect("an id"),
        kind: OperationKind::FindDuplicates,
        modality: Modality::Face,
        similarity_min: similarity_min.map(Similarity),
        filter: None,
        listing: Listing::All,
    }
}

/// Alice and Bob, with equal embeddings.
async fn twins() -> Testbed {
    let testbed = Testbed::new(10).await;
    for name in ["alice", "bob"] {
        let enrolled =
            testbed.matcher.writes.enroll(&context(None), &testbed.handle.collection.id, enroll_write(name, 1)).await;
        enrolled.expect("enrolled");
    }
    testbed
}

async fn begun(testbed: &Testbed, request: Option<&str>) -> Result<Operation, Fault> {
    testbed.matcher.begin_survey(&context(request), draft(Some(0.9))).await
}

/// Polls until the operation has ended.
async fn outcome(testbed: &Testbed, id: OperationId) -> OperationOutcome {
    let polling = async {
        loop {
            let shown = testbed.matcher.operations.operation(&testbed.handle.collection.id, id).await.expect("there");
            if let OperationState::Ended(outcome) = shown.operation.state {
                return outcome;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), polling).await.expect("it ends")
}

fn failure(outcome: &OperationOutcome) -> Option<OperationFailure> {
    match outcome {
        OperationOutcome::Failed { failure, .. } => Some(*failure),
        OperationOutcome::Succeeded(_) => None,
    }
}

#[tokio::test]
async fn duplicates_are_found_and_a_deleted_identity_leaves_the_findings() {
    let testbed = twins().await;
    let operation = begun(&testbed, Some("once")).await.expect("begun");
    assert_eq!(begun(&testbed, Some("once")).await.expect("the same").id, operation.id, "asked again, begun once");
    let OperationOutcome::Succeeded(summary) = outcome(&testbed, operation.id).await else { panic!("it failed") };
    assert_eq!((summary.identities, summary.templates, summary.false_pairs), (2, 2, None));
    let staff = &testbed.handle.collection.id;
    let shown = testbed.matcher.operations.operation(staff, operation.id).await.expect("there");
    let [SurveyFinding::Pair { templates, similarity, same_image, .. }] = &shown.findings[..] else {
        panic!("{shown:?}")
    };
    assert_eq!(templates.each_ref().map(|owned| owned.identity.as_str()), ["alice", "bob"]);
    assert!(*same_image && similarity.0 > 0.999);
    assert_eq!(shown.operation.progress, OperationProgress { done: 1, total: 1 });

    let bob = IdentityId::new("bob").expect("an id");
    testbed.matcher.delete_identity(&context(None), staff, &bob, None).await.expect("erased");
    assert_eq!(testbed.matcher.operations.operation(staff, operation.id).await.expect("there").findings, []);
    testbed.matcher.operations.delete_operation(staff, operation.id).await.expect("deleted");
    let gone = testbed.matcher.operations.operation(staff, operation.id).await;
    assert!(matches!(gone, Err(Fault::NoOperation(_))), "{gone:?}");
}

#[tokio::test]
async fn a_cancelled_operation_ends_while_it_waits_for_another() {
    let testbed = twins().await;
    let staff = &testbed.handle.collection.id;
    let survey_lock = testbed.matcher.operations.survey_lock.lock().await;
    let (first, second) = (begun(&testbed, None).await.expect("begun"), begun(&testbed, None).await.expect("begun"));
    let refused = begun(&testbed, None).await;
    assert!(matches!(refused, Err(Fault::TooManyOperations(2))), "{refused:?}");
    testbed.matcher.operations.cancel_operation(staff, first.id).await.expect("cancelled");
    assert_eq!(failure(&outcome(&testbed, first.id).await), Some(OperationFailure::Cancelled));
    let third = begun(&testbed, None).await.expect("there is room again");
    // Deleted while it runs.
    testbed.matcher.operations.delete_operation(staff, third.id).await.expect("deleted");
    drop(survey_lock);
    assert_eq!(failure(&outcome(&testbed, second.id).await), None);
    let left: Vec<OperationId> = testbed
        .matcher
        .operations
        .operations(staff, None, 10)
        .await
        .expect("listed")
        .into_iter()
        .map(|left| left.id)
        .collect();
    assert_eq!(left, [first.id, second.id]);
}

#[tokio::test]
async fn a_stopped_server_ends_its_operations_as_server_stopped() {
    let testbed = twins().await;
    let survey_lock = testbed.matcher.operations.survey_lock.lock().await;
    let operation = begun(&testbed, None).await.expect("begun");
    testbed.matcher.finish().await;
    drop(survey_lock);
    assert_eq!(failure(&outcome(&testbed, operation.id).await), Some(OperationFailure::ServerStopped));
}

#[tokio::test]
async fn the_next_reader_ends_an_operation_without_a_heartbeat() {
    let testbed = twins().await;
    let staff = &testbed.handle.collection.id;
    let now = testbed.matcher.clock.now();
    let silent = Operation {
        id: OperationId(testbed.matcher.ids.fresh()),
        kind: OperationKind::ClusterTemplates,
        state: OperationState::Running { cancelled: false },
        progress: OperationProgress { done: 3, total: 9 },
        create_time: now,
        update_time: now.checked_sub(SILENCE_MAX + HEARTBEAT_INTERVAL).expect("within the calendar"),
        expire_time: now.checked_add(SILENCE_MAX).expect("within the calendar"),
    };
    let heard = Operation { id: OperationId(testbed.matcher.ids.fresh()), update_time: now, ..silent.clone() };
    for operation in [&silent, &heard] {
        let operation = operation.clone();
        let context = context(None);
        let begin = testbed.matcher.writes.change(&context, staff, |turn| begin_in_turn(turn, operation, 2).boxed());
        begin.await.expect("begun");
    }
    // Two may run, and one of them has stopped.
    begun(&testbed, None).await.expect("there is room");
    let shown = testbed.matcher.operations.operation(staff, silent.id).await.expect("there").operation;
    let OperationState::Ended(ended) = &shown.state else { panic!("{shown:?}") };
    assert_eq!((failure(ended), shown.progress), (Some(OperationFailure::ServerStopped), silent.progress));
    let shown = testbed.matcher.operations.operation(staff, heard.id).await.expect("there").operation;
    assert_eq!(shown.state, OperationState::Running { cancelled: false });
}

#[tokio::test]
async fn an_empty_gallery_or_a_missing_level_refuses_a_survey() {
    let empty = Testbed::new(10).await;
    let refused = empty.matcher.begin_survey(&context(None), draft(Some(0.9))).await;
    assert!(matches!(refused, Err(Fault::NothingToCompare(Modality::Face))), "{refused:?}");
    let testbed = twins().await;
    let refused = testbed.matcher.begin_survey(&context(None), draft(None)).await;
    assert!(matches!(refused, Err(Fault::NoLevel(Modality::Face))), "{refused:?}");
}

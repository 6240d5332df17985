use futures::FutureExt;

use super::*;
use crate::matcher::{
    Listing,
    testbed::{Bench, context, wish},
};
use domain::{IdentityId, Modality, OperationKind, Similarity};

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

/// Alice and Bob, who look the same.
async fn twins() -> Bench {
    let bench = Bench::new(10).await;
    for name in ["alice", "bob"] {
        let enrolled = bench.matcher.enroll_together(&context(None), &bench.open.collection.id, wish(name, 1)).await;
        enrolled.expect("enrolled");
    }
    bench
}

async fn begun(bench: &Bench, request: Option<&str>) -> Result<Operation, Fault> {
    bench.matcher.begin_survey(&context(request), draft(Some(0.9))).await
}

/// Looks until the operation has ended.
async fn outcome(bench: &Bench, id: OperationId) -> OperationOutcome {
    let looking = async {
        loop {
            let shown = bench.matcher.operation(&bench.open.collection.id, id).await.expect("there");
            if let OperationState::Ended(outcome) = shown.operation.state {
                return outcome;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), looking).await.expect("it ends")
}

fn failure(outcome: &OperationOutcome) -> Option<OperationFailure> {
    match outcome {
        OperationOutcome::Failed { failure, .. } => Some(*failure),
        OperationOutcome::Succeeded(_) => None,
    }
}

#[tokio::test]
async fn twins_are_found_and_who_is_erased_is_not_in_the_result_any_more() {
    let bench = twins().await;
    let operation = begun(&bench, Some("once")).await.expect("begun");
    assert_eq!(begun(&bench, Some("once")).await.expect("the same").id, operation.id, "asked again, begun once");
    let OperationOutcome::Succeeded(summary) = outcome(&bench, operation.id).await else { panic!("it failed") };
    assert_eq!((summary.identities, summary.templates, summary.false_pairs), (2, 2, None));
    let staff = &bench.open.collection.id;
    let shown = bench.matcher.operation(staff, operation.id).await.expect("there");
    let [SurveyFinding::Pair { templates, similarity, same_image, .. }] = &shown.findings[..] else {
        panic!("{shown:?}")
    };
    assert_eq!(templates.each_ref().map(|owned| owned.identity.as_str()), ["alice", "bob"]);
    assert!(*same_image && similarity.0 > 0.999);
    assert_eq!(shown.operation.progress, Progress { done: 1, total: 1 });

    let bob = IdentityId::new("bob").expect("an id");
    bench.matcher.delete_identity(&context(None), staff, &bob, None).await.expect("erased");
    assert_eq!(bench.matcher.operation(staff, operation.id).await.expect("there").findings, []);
    bench.matcher.delete_operation(staff, operation.id).await.expect("deleted");
    let gone = bench.matcher.operation(staff, operation.id).await;
    assert!(matches!(gone, Err(Fault::NoOperation(_))), "{gone:?}");
}

#[tokio::test]
async fn a_cancelled_operation_ends_while_it_waits_for_another() {
    let bench = twins().await;
    let staff = &bench.open.collection.id;
    let alone = bench.matcher.operations.alone.lock().await;
    let (first, second) = (begun(&bench, None).await.expect("begun"), begun(&bench, None).await.expect("begun"));
    let refused = begun(&bench, None).await;
    assert!(matches!(refused, Err(Fault::TooManyOperations(2))), "{refused:?}");
    bench.matcher.cancel_operation(staff, first.id).await.expect("cancelled");
    assert_eq!(failure(&outcome(&bench, first.id).await), Some(OperationFailure::Cancelled));
    let third = begun(&bench, None).await.expect("there is room again");
    // Deleted while it runs: nothing comes of it.
    bench.matcher.delete_operation(staff, third.id).await.expect("deleted");
    drop(alone);
    assert_eq!(failure(&outcome(&bench, second.id).await), None);
    let left: Vec<OperationId> =
        bench.matcher.operations(staff, None, 10).await.expect("listed").into_iter().map(|left| left.id).collect();
    assert_eq!(left, [first.id, second.id]);
}

#[tokio::test]
async fn a_server_that_stops_says_so() {
    let bench = twins().await;
    let alone = bench.matcher.operations.alone.lock().await;
    let operation = begun(&bench, None).await.expect("begun");
    bench.matcher.finish().await;
    drop(alone);
    assert_eq!(failure(&outcome(&bench, operation.id).await), Some(OperationFailure::ServerStopped));
}

#[tokio::test]
async fn an_operation_whose_server_is_silent_is_ended_by_whoever_looks() {
    let bench = twins().await;
    let staff = &bench.open.collection.id;
    let now = bench.matcher.clock.now();
    let silent = Operation {
        id: OperationId(bench.matcher.ids.fresh()),
        kind: OperationKind::ClusterTemplates,
        state: OperationState::Running { cancelled: false },
        progress: Progress { done: 3, total: 9 },
        create_time: now,
        update_time: now.checked_sub(SILENCE_MAX + HEARD_EVERY).expect("within the calendar"),
        expire_time: now.checked_add(SILENCE_MAX).expect("within the calendar"),
    };
    let heard = Operation { id: OperationId(bench.matcher.ids.fresh()), update_time: now, ..silent.clone() };
    for operation in [&silent, &heard] {
        let operation = operation.clone();
        let context = context(None);
        let begin = bench.matcher.change(&context, staff, |turn| turn.begin_operation(operation).boxed());
        begin.await.expect("begun");
    }
    // Two may run, and one of them does not any more.
    begun(&bench, None).await.expect("there is room");
    let shown = bench.matcher.operation(staff, silent.id).await.expect("there").operation;
    let OperationState::Ended(ended) = &shown.state else { panic!("{shown:?}") };
    assert_eq!((failure(ended), shown.progress), (Some(OperationFailure::ServerStopped), silent.progress));
    let shown = bench.matcher.operation(staff, heard.id).await.expect("there").operation;
    assert_eq!(shown.state, OperationState::Running { cancelled: false });
}

#[tokio::test]
async fn without_anybody_or_any_level_there_is_nothing_to_begin() {
    let empty = Bench::new(10).await;
    let refused = empty.matcher.begin_survey(&context(None), draft(Some(0.9))).await;
    assert!(matches!(refused, Err(Fault::NothingToCompare(Modality::Face))), "{refused:?}");
    let bench = twins().await;
    let refused = bench.matcher.begin_survey(&context(None), draft(None)).await;
    assert!(matches!(refused, Err(Fault::NoLevel(Modality::Face))), "{refused:?}");
}

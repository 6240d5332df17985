use std::num::NonZeroU32;

use super::*;
use crate::{CollectionHead, DecisionRecord, IdempotencyKey, IdempotencyRecord, KeyedAnswer, StoreError};
use domain::{PadMode, PadPolicy, Pooling, QualityPolicy, UncertainRule};

on_both_databases!(
    a_collection_is_read_as_it_was_created,
    a_collection_and_its_answer_are_stored_together,
    an_id_is_taken_once_and_free_again_after_deletion,
    collections_come_bytewise_and_in_pages,
    an_update_replaces_record_and_spaces,
    an_update_of_a_moved_revision_is_refused,
    a_modality_has_one_active_space,
    heads_show_position_and_revision_of_every_collection,
    deletion_leaves_no_row_in_any_table,
    deletion_leaves_other_collections_alone,
);

async fn a_collection_and_its_answer_are_stored_together(subject: &Subject) {
    let key = IdempotencyKey {
        principal: "ops".to_owned(),
        method: "CreateCollection",
        collection: String::new(),
        key: "once".to_owned(),
    };
    let make = |number: u8| {
        let (store, key) = (Arc::clone(&subject.store), key.clone());
        tokio::spawn(async move {
            let made = collection(number.into(), &format!("c{number}"));
            let record = IdempotencyRecord { body_hash: [7; 32], answer: vec![number], expire_time: at(1_800_000_000) };
            store.create_collection(&made, Some(KeyedAnswer { key: &key, record: &record })).await.expect("answered")
        })
    };
    let makers: Vec<_> = (1..=8).map(make).collect();
    let mut before = Vec::new();
    for maker in makers {
        before.extend(maker.await.expect("no panic"));
    }
    assert_eq!(before.len(), 7, "one is created, the others get its answer");
    let there = subject.store.collections(None, 10).await.expect("read");
    assert_eq!(there.len(), 1);
    assert!(before.iter().all(|record| there[0].id.as_str() == format!("c{}", record.answer[0])));
}

async fn a_collection_is_read_as_it_was_created(subject: &Subject) {
    let mut staff = collection(1, "staff");
    staff.display_name = "Größe, \"quoted\", 'single', 名前, \\ and %".to_owned();
    staff.policy = Policy {
        person_half_life: std::time::Duration::from_hours(3),
        identity_ttl: Some(std::time::Duration::from_hours(48)),
        uncertain: UncertainRule::Provisional,
        provisional_ttl: std::time::Duration::from_hours(72),
        target_fpir: 0.003,
        target_fmr: 1e-6,
        target_duplicates: 0.125,
        quality: QualityPolicy { face_px_min: Some(60.5), frames_min: Some(20), ..QualityPolicy::default() },
        pad: PadPolicy { mode: PadMode::Require, score_min: 0.75 },
        pooling: Pooling::MeanOfBest(NonZeroU32::MIN),
        review: domain::ReviewPolicy::SelfPaced,
        review_share: 0.125,
        reranking: domain::Reranking::KReciprocal,
        open_set: domain::OpenSetRule::Posterior,
    };
    staff.spaces = vec![
        binding("z-first", Modality::Face, SpaceRole::Active),
        binding("a-second", Modality::Face, SpaceRole::Beside),
        SpaceBinding {
            space: EmbeddingSpace { parts: 2, ..space(Modality::Gait, 4) },
            ..binding("walks", Modality::Gait, SpaceRole::Active)
        },
    ];
    subject.store.create_collection(&staff, None).await.expect("created");
    assert_eq!(subject.store.collection(&staff.id).await.expect("read"), Some(staff));
    assert_eq!(subject.store.collection(&collection_id("nobody")).await.expect("read"), None);
}

async fn an_id_is_taken_once_and_free_again_after_deletion(subject: &Subject) {
    subject.store.create_collection(&collection(1, "staff"), None).await.expect("created");
    let again = subject.store.create_collection(&collection(2, "staff"), None).await;
    assert!(matches!(again, Err(StoreError::CollectionExists)), "{again:?}");

    assert!(subject.store.delete_collection(collection(1, "staff").uid).await.expect("deleted"));
    subject.store.create_collection(&collection(3, "staff"), None).await.expect("created");
    let found = subject.store.collection(&collection_id("staff")).await.expect("read").expect("there");
    assert_eq!(found.uid, collection(3, "staff").uid);
}

async fn collections_come_bytewise_and_in_pages(subject: &Subject) {
    let mut ids = ["b", "B", "a", "A-1", "A.1", "A_1", "A~1", "a1", "10", "9"];
    for (id, number) in ids.iter().zip(1..) {
        let mut created = collection(number, id);
        // Several rows of a join must not cut a page short.
        created.spaces = vec![
            binding("one", Modality::Face, SpaceRole::Active),
            binding("two", Modality::Person, SpaceRole::Active),
        ];
        subject.store.create_collection(&created, None).await.expect("created");
    }
    ids.sort_unstable();

    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = subject.store.collections(after.as_ref(), 3).await.expect("a page");
        assert!(page.iter().all(|found| found.spaces.len() == 2));
        seen.extend(page.iter().map(|found| found.id.as_str().to_owned()));
        if page.len() < 3 {
            break;
        }
        after = page.last().map(|last| last.id.clone());
    }
    assert_eq!(seen, ids);
}

async fn an_update_replaces_record_and_spaces(subject: &Subject) {
    let mut staff = collection(1, "staff");
    staff.spaces = vec![binding("old", Modality::Face, SpaceRole::Active)];
    subject.store.create_collection(&staff, None).await.expect("created");

    staff.display_name = "Renamed".to_owned();
    staff.policy.target_fpir = 0.2;
    // The roles change hands: at no moment may the constraint see two active spaces.
    staff.spaces =
        vec![binding("new", Modality::Face, SpaceRole::Active), binding("old", Modality::Face, SpaceRole::Beside)];
    staff.revision = Revision(2);
    staff.update_time = at(1_800_000_000);
    subject.store.update_collection(&staff, Revision(1)).await.expect("updated");
    assert_eq!(subject.store.collection(&staff.id).await.expect("read"), Some(staff));
}

async fn an_update_of_a_moved_revision_is_refused(subject: &Subject) {
    let staff = collection(1, "staff");
    subject.store.create_collection(&staff, None).await.expect("created");
    let renamed = Collection { display_name: "Renamed".to_owned(), revision: Revision(2), ..staff.clone() };
    subject.store.update_collection(&renamed, Revision(1)).await.expect("updated");

    let late = Collection { display_name: "Too late".to_owned(), revision: Revision(2), ..staff };
    let refused = subject.store.update_collection(&late, Revision(1)).await;
    assert!(matches!(refused, Err(StoreError::RevisionMoved)), "{refused:?}");
    assert_eq!(subject.store.collection(&renamed.id).await.expect("read"), Some(renamed));

    let gone = subject.store.update_collection(&collection(9, "gone"), Revision(1)).await;
    assert!(matches!(gone, Err(StoreError::CollectionGone)), "{gone:?}");
}

async fn a_modality_has_one_active_space(subject: &Subject) {
    let mut staff = collection(1, "staff");
    staff.spaces =
        vec![binding("one", Modality::Face, SpaceRole::Active), binding("two", Modality::Face, SpaceRole::Active)];
    let refused = subject.store.create_collection(&staff, None).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    assert_eq!(subject.store.collection(&staff.id).await.expect("read"), None);
}

async fn heads_show_position_and_revision_of_every_collection(subject: &Subject) {
    let (busy, idle) = (collection(1, "busy"), collection(2, "idle"));
    for created in [&idle, &busy] {
        subject.store.create_collection(created, None).await.expect("created");
    }
    append(&subject.store, busy.uid, &[put("alice"), admit(1, "alice"), put("bob")]).await;
    let renamed = Collection { revision: Revision(2), ..idle.clone() };
    subject.store.update_collection(&renamed, Revision(1)).await.expect("updated");

    let expected = [
        CollectionHead { uid: busy.uid, id: busy.id, revision: Revision(1), position: Position(3) },
        CollectionHead { uid: idle.uid, id: idle.id, revision: Revision(2), position: Position(0) },
    ];
    assert_eq!(subject.store.heads().await.expect("heads"), expected);
}

/// Puts at least one row into every table.
async fn filled(subject: &Subject, number: u128, id: &str) -> CollectionUid {
    let mut filled = collection(number, id);
    filled.spaces = vec![binding("one", Modality::Face, SpaceRole::Active)];
    subject.store.create_collection(&filled, None).await.expect("created");
    let template_number = u16::try_from(number).expect("small");
    append(&subject.store, filled.uid, &[put("alice"), admit(template_number, "alice"), put("bob")]).await;

    let id = domain::DecisionId(Uuid::from_u128(number));
    let decision = DecisionRecord { id, time: at(5), body: serde_json::json!({"decision": "new"}) };
    subject.store.put_decisions(&[(filled.uid, decision)]).await.expect("kept");

    let case = super::review::case(number, &domain::ReviewState::Open);
    super::review::opened(&subject.store, filled.uid, &case, &[super::review::sample(1)]).await;
    let mut turn = subject.store.take_turn(filled.uid).await.expect("the turn");
    turn.put_review_trial(&super::review_trials::trial(number), 5).await.expect("kept");
    assert!(turn.put_calibration(&super::calibrations::kept(number), 5).await.expect("kept"));
    let (operation, found) = super::operations::ended(number, template_id(template_number));
    assert!(turn.begin_operation(&operation, 1).await.expect("begun"));
    turn.finish_operation(operation.id, &super::operations::succeeded(), at(6), &found).await.expect("ended");
    turn.dismiss_pair([&identity_id("bob"), &identity_id("alice")]).await.expect("dismissed");
    turn.put_regrouping(&super::regroupings::merged(number, template_number)).await.expect("kept");
    turn.commit().await.expect("committed");

    let key = IdempotencyKey {
        principal: "p".to_owned(),
        method: "Enroll",
        collection: filled.id.as_str().to_owned(),
        key: "k".to_owned(),
    };
    let record = IdempotencyRecord { body_hash: [1; 32], answer: vec![1], expire_time: at(10) };
    subject.store.idempotency_keys().put_idempotency_record(&key, &record, at(5)).await.expect("kept");
    filled.uid
}

async fn deletion_leaves_no_row_in_any_table(subject: &Subject) {
    let uid = filled(subject, 1, "staff").await;
    let before = subject.row_counts().await;
    assert_eq!(before.len(), 18, "a new table belongs into this test: {before:?}");
    assert!(before.iter().all(|(_, rows)| *rows > 0), "{before:?}");

    assert!(subject.store.delete_collection(uid).await.expect("deleted"));
    let after = subject.row_counts().await;
    assert!(after.iter().all(|(_, rows)| *rows == 0), "{after:?}");
    assert!(!subject.store.delete_collection(uid).await.expect("nothing to delete"));
}

async fn deletion_leaves_other_collections_alone(subject: &Subject) {
    let kept = filled(subject, 1, "kept").await;
    let before = subject.row_counts().await;
    let deleted = filled(subject, 2, "deleted").await;
    assert!(subject.store.delete_collection(deleted).await.expect("deleted"));
    assert_eq!(subject.row_counts().await, before);
    assert!(subject.store.take_turn(kept).await.is_ok());
}

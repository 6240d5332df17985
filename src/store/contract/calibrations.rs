use super::*;
use crate::StoreError;
use domain::{
    CalibrationId, MatedLogit, Pooling, PosteriorTrials, Rehearsal, ReviewedSimilarities, Similarity, StoredCalibration,
};

on_both_databases!(
    a_calibration_is_read_as_it_was_stored,
    calibrations_come_in_pages_and_no_more_than_allowed,
    one_calibration_of_a_modality_is_active,
    a_calibration_is_active_when_its_turn_commits,
    damaged_trials_of_a_calibration_are_errors,
);

/// Trials that differ with the number, and are not the same backwards.
pub(super) fn kept(number: u128) -> StoredCalibration {
    let trials = |many: u8| (0..many).map(|n| Similarity(f32::from(n) / 255.0 - 0.5)).collect::<Vec<_>>();
    StoredCalibration {
        id: CalibrationId(Uuid::from_u128(number)),
        model: SpaceName::new("face-test").expect("a name"),
        space: EmbeddingSpace { parts: 2, ..space(Modality::Face, 4) },
        pooling: Pooling::MeanOfBest(std::num::NonZeroU32::MIN),
        quality_mean: Some(0.625),
        is_active: false,
        create_time: at(1_700_000_009),
        rehearsal: Rehearsal {
            identities: 17,
            templates: 34,
            nonmated_best: trials(200),
            impostor: vec![Similarity(-1.0), Similarity(1.0), Similarity(0.1)],
            impostor_independent: 2.5,
            mated_best: Vec::new(),
            reviewed: ReviewedSimilarities { right: trials(4), wrong: trials(2) },
        },
        outsiders: trials(3),
        posterior: PosteriorTrials {
            identities: 17,
            nonmated: vec![-7.5, 2.25, -30.0],
            mated: vec![MatedLogit { logit: 4.5, margin: 0.25 }, MatedLogit { logit: -1.5, margin: -0.125 }],
            made_up: vec![MatedLogit { logit: 30.0, margin: 1.5 }],
            outsiders: vec![0.5],
        },
    }
}

async fn put(subject: &Subject, uid: CollectionUid, calibration: &StoredCalibration, most: u64) -> bool {
    let mut turn = subject.store.take_turn(uid).await.expect("the turn");
    let is_kept = turn.put_calibration(calibration, most).await.expect("answered");
    turn.commit().await.expect("committed");
    is_kept
}

async fn pin(subject: &Subject, uid: CollectionUid, modality: Modality, id: Option<CalibrationId>) {
    let mut turn = subject.store.take_turn(uid).await.expect("the turn");
    turn.activate_calibration(modality, id).await.expect("answered");
    turn.commit().await.expect("committed");
}

async fn active(subject: &Subject, uid: CollectionUid) -> Vec<u128> {
    let active = subject.store.in_collection(uid).active_calibrations().await.expect("read");
    assert!(active.iter().all(|calibration| calibration.is_active));
    active.iter().map(|calibration| calibration.id.0.as_u128()).collect()
}

async fn a_calibration_is_read_as_it_was_stored(subject: &Subject) {
    let uid = created(&subject.store).await;
    let bare = StoredCalibration { quality_mean: None, pooling: Pooling::Best, outsiders: Vec::new(), ..kept(2) };
    for calibration in [kept(1), bare.clone()] {
        assert!(put(subject, uid, &calibration, 9).await);
    }
    for calibration in [kept(1), bare] {
        let found = subject.store.in_collection(uid).calibration(calibration.id).await.expect("read");
        assert_eq!(found, Some(calibration));
    }
    assert_eq!(subject.store.in_collection(uid).calibration(kept(3).id).await.expect("read"), None);
    let elsewhere = collection(8, "elsewhere").uid;
    assert_eq!(subject.store.in_collection(elsewhere).calibration(kept(1).id).await.expect("read"), None);
}

async fn calibrations_come_in_pages_and_no_more_than_allowed(subject: &Subject) {
    let uid = created(&subject.store).await;
    for number in [3, 1, 2] {
        assert!(put(subject, uid, &kept(number), 3).await);
    }
    assert!(!put(subject, uid, &kept(4), 3).await, "there are three already");
    let page = subject.store.in_collection(uid).calibrations(None, 2).await.expect("a page");
    assert_eq!(page, [kept(1), kept(2)]);
    assert_eq!(subject.store.in_collection(uid).calibrations(Some(kept(2).id), 2).await.expect("a page"), [kept(3)]);
    let mut turn = subject.store.take_turn(uid).await.expect("the turn");
    turn.delete_calibration(kept(1).id).await.expect("deleted");
    assert!(turn.put_calibration(&kept(4), 3).await.expect("answered"), "one has gone");
    turn.commit().await.expect("committed");
    assert_eq!(subject.store.in_collection(uid).calibration(kept(1).id).await.expect("read"), None);
}

async fn one_calibration_of_a_modality_is_active(subject: &Subject) {
    let uid = created(&subject.store).await;
    let gait = StoredCalibration { space: space(Modality::Gait, 4), ..kept(3) };
    for calibration in [kept(1), kept(2), gait] {
        assert!(put(subject, uid, &calibration, 9).await);
    }
    assert_eq!(active(subject, uid).await, []);
    pin(subject, uid, Modality::Face, Some(kept(1).id)).await;
    pin(subject, uid, Modality::Gait, Some(kept(3).id)).await;
    assert_eq!(active(subject, uid).await, [1, 3]);
    pin(subject, uid, Modality::Face, Some(kept(2).id)).await;
    assert_eq!(active(subject, uid).await, [2, 3]);
    pin(subject, uid, Modality::Face, None).await;
    assert_eq!(active(subject, uid).await, [3]);
}

async fn a_calibration_is_active_when_its_turn_commits(subject: &Subject) {
    let uid = created(&subject.store).await;
    assert!(put(subject, uid, &kept(1), 9).await);
    let mut turn = subject.store.take_turn(uid).await.expect("the turn");
    turn.activate_calibration(Modality::Face, Some(kept(1).id)).await.expect("answered");
    assert!(turn.calibration(kept(1).id).await.expect("read").is_some_and(|calibration| calibration.is_active));
    drop(turn);
    assert_eq!(active(subject, uid).await, []);
    // A second one in force is refused by the schema itself.
    let second = StoredCalibration { is_active: true, ..kept(2) };
    assert!(put(subject, uid, &second, 9).await);
    let third = StoredCalibration { is_active: true, ..kept(3) };
    let mut turn = subject.store.take_turn(uid).await.expect("the turn");
    let refused = turn.put_calibration(&third, 9).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
}

async fn damaged_trials_of_a_calibration_are_errors(subject: &Subject) {
    let uid = created(&subject.store).await;
    assert!(put(subject, uid, &kept(1), 9).await);
    // A digest is 32 bytes of 255: eight numbers that are none.
    assert_eq!(subject.execute("UPDATE calibrations SET outsiders = digest").await, 1);
    let found = subject.store.in_collection(uid).calibration(kept(1).id).await;
    assert!(matches!(&found, Err(StoreError::Corrupt(what)) if what.contains("outsiders")), "{found:?}");
}

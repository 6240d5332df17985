//! The contract of a store, written once and run on both databases.
//!
//! Each part is a function of a [`Subject`]: a store with an empty schema of its own, further stores on the same
//! database (other replicas), and a raw connection for what the store does not show.

mod audit;
mod calibrations;
mod collections;
mod fold;
mod identities;
mod keys_and_decisions;
mod operations;
mod regroupings;
mod review;
mod review_trials;
mod schema;
mod subject;
mod templates;
mod turns;

use std::sync::Arc;

use uuid::Uuid;

pub(super) use self::subject::Subject;
use super::{Store, Turn};
use domain::{
    Assignment, Certificate, Change, Collection, CollectionId, CollectionUid, Embedding, EmbeddingSpace, Identity,
    IdentityId, Modality, ModelDigest, Policy, Position, ReviewCaseId, Revision, SpaceBinding, SpaceName, SpaceRole,
    StoredTemplate, Template, TemplateId, TemplateOrigin, Timestamp, TrackReport,
};
use testing::{identity_id, labels};

/// Runs each part of the contract on both databases.
macro_rules! on_both_databases {
    ($($part:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test] async fn $part() { crate::contract::Subject::on_sqlite(super::$part).await; })+
        }
        mod on_postgres {
            $(#[tokio::test]
            #[ignore = "needs SEMBLANCE_TEST_POSTGRES_URL"]
            async fn $part() { crate::contract::Subject::on_postgres(super::$part).await; })+
        }
    };
}
use on_both_databases;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("within the calendar")
}

fn collection_id(text: &str) -> CollectionId {
    CollectionId::new(text).expect("an id")
}

fn space(modality: Modality, dimension: u32) -> EmbeddingSpace {
    EmbeddingSpace::whole(modality, ModelDigest([0xff; 32]), dimension)
}

fn binding(name: &str, modality: Modality, role: SpaceRole) -> SpaceBinding {
    let name = SpaceName::new(name).expect("a name");
    SpaceBinding { name, space: space(modality, 4), role, external: role == SpaceRole::Beside }
}

/// A collection without spaces.
fn collection(number: u128, id: &str) -> Collection {
    let (display_name, time) = (format!("The collection \"{id}\""), at(1_700_000_000));
    Collection { display_name, create_time: time, update_time: time, ..testing::collection(number, id) }
}

fn identity(id: &str) -> Identity {
    Identity { create_time: at(1_700_000_001), update_time: at(1_700_000_002), ..testing::identity(id) }
}

/// A template of four numbers that differ with the template's number.
fn template(number: u16, identity: &str) -> StoredTemplate {
    let values = [1.0, f32::from(number), 0.5, -0.25];
    let space = space(Modality::Face, 4);
    StoredTemplate {
        template: Template {
            origin: TemplateOrigin::Sample,
            quality: number.is_multiple_of(2).then_some(0.625),
            track: number.is_multiple_of(3).then_some(TrackReport {
                frames_used: 7,
                frames_dropped: 2,
                spread: 0.0625,
            }),
            assignment: assignment(number),
            create_time: at(1_700_000_003),
            ..testing::template(u128::from(number) + 1, identity, space)
        },
        embedding: Embedding::new(space, &values).expect("an embedding"),
    }
}

/// Each kind, one after the other.
fn assignment(number: u16) -> Assignment {
    match number % 3 {
        0 => Assignment::Enrolled,
        1 => Assignment::Accepted { posterior: 0.992_187_5 },
        _ => Assignment::Certified(Certificate {
            reviewer: "Ännchen \"A.\"".to_owned(),
            principal: "ops".to_owned(),
            case: ReviewCaseId(Uuid::from_u128(number.into())),
            time: at(1_700_000_004),
        }),
    }
}

fn template_id(number: u16) -> TemplateId {
    TemplateId(Uuid::from_u128(u128::from(number) + 1))
}

fn put(id: &str) -> Change {
    Change::PutIdentity(identity(id))
}

fn admit(number: u16, identity: &str) -> Change {
    Change::Admit(template(number, identity))
}

fn forget_template(number: u16, identity: &str) -> Change {
    Change::ForgetTemplate { identity: identity_id(identity), template: template_id(number) }
}

fn move_template(number: u16, from: &str, to: &str) -> Change {
    Change::MoveTemplate { template: template_id(number), from: identity_id(from), to: identity_id(to) }
}

/// Creates an empty collection and answers its uid.
async fn created(store: &Arc<dyn Store>) -> CollectionUid {
    let collection = collection(7, "staff");
    store.create_collection(&collection, None).await.expect("created");
    collection.uid
}

/// Appends changes in a turn of their own.
async fn append(store: &Arc<dyn Store>, uid: CollectionUid, changes: &[Change]) {
    let mut turn: Box<dyn Turn> = store.take_turn(uid).await.expect("the turn");
    turn.append(changes, at(1_700_000_100)).await.expect("appended");
    turn.commit().await.expect("committed");
}

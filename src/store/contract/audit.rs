//! Consistency checks and repairs.

use super::*;
use crate::{Audited, FindingKind, Repairs, StoreError};

on_both_databases!(
    a_sound_store_has_no_findings,
    each_kind_of_damage_is_found,
    rows_without_their_owner_are_found,
    lineage_that_the_log_does_not_know_is_found,
    derived_values_are_repaired,
    a_payload_with_a_wrong_checksum_is_an_error,
    templates_come_with_the_labels_of_their_owner,
);

/// Collection `c1` to `c99`: alice with two templates at 2 and 3, bob labelled at 4.
async fn people(subject: &Subject, number: u16) -> CollectionUid {
    let spaces = vec![binding("face-test", Modality::Face, SpaceRole::Active)];
    let collection = Collection { spaces, ..collection(number.into(), &format!("c{number}")) };
    subject.store.create_collection(&collection, None).await.expect("created");
    let changes = [put("alice"), admit(number * 10, "alice"), admit(number * 10 + 1, "alice"), put("bob")];
    append(&subject.store, collection.uid, &changes).await;
    collection.uid
}

async fn audited(subject: &Subject) -> Audited {
    subject.store.audit(&|_| ()).await.expect("audited")
}

/// The kinds found in a collection, or outside all.
fn kinds(audited: &Audited, collection: Option<&str>) -> Vec<FindingKind> {
    let of = audited.findings.iter().filter(|finding| finding.collection.as_deref() == collection);
    of.map(|finding| finding.kind).collect()
}

async fn a_sound_store_has_no_findings(subject: &Subject) {
    assert_eq!(audited(subject).await, Audited::default());
    let uid = people(subject, 1).await;
    people(subject, 2).await;
    // Each removal has its entry, and an identity that returns has new entries.
    append(&subject.store, uid, &[forget_template(10, "alice"), admit(12, "bob")]).await;
    append(&subject.store, uid, &[Change::ForgetIdentity(identity_id("alice"))]).await;
    append(&subject.store, uid, &[put("alice"), admit(13, "alice")]).await;
    append(&subject.store, uid, &[Change::ExpireIdentity(identity_id("bob"))]).await;
    // A template that moved belongs to its new owner: it stays when the former one goes, and goes with the new one.
    append(
        &subject.store,
        uid,
        &[put("carl"), admit(14, "carl"), admit(15, "carl"), move_template(14, "carl", "alice")],
    )
    .await;
    append(&subject.store, uid, &[Change::ForgetIdentity(identity_id("carl")), put("dora")]).await;
    append(&subject.store, uid, &[move_template(13, "alice", "dora"), Change::ForgetIdentity(identity_id("dora"))])
        .await;
    let found = audited(subject).await;
    assert_eq!((found.collections, found.identities, found.templates), (2, 3, 3));
    assert_eq!((found.checksums_missing, found.findings), (0, vec![]));
}

async fn each_kind_of_damage_is_found(subject: &Subject) {
    use FindingKind as Kind;
    let is_postgres = subject.store.kind() == "postgres";
    let other_numbers = if is_postgres {
        "UPDATE template_payloads SET bytes = '\\x0000803f000000000000000000000000'
         WHERE template_id = (SELECT t.id FROM templates AS t JOIN collections AS c ON c.uid = t.collection_uid
                              WHERE c.id = 'c5' AND t.position = 2)"
    } else {
        "UPDATE template_payloads SET bytes = x'0000803f000000000000000000000000'
         WHERE template_id = (SELECT t.id FROM templates AS t JOIN collections AS c ON c.uid = t.collection_uid
                              WHERE c.id = 'c5' AND t.position = 2)"
    };
    let damages: [(&'static str, &[Kind]); 11] = [
        (
            "DELETE FROM log_entries WHERE position = 1 AND collection_uid = (SELECT uid FROM collections WHERE id = 'c1')",
            &[Kind::LogGap, Kind::IdentityWithoutEntry],
        ),
        ("UPDATE collections SET head_position = 9 WHERE id = 'c2'", &[Kind::HeadPosition]),
        (
            "UPDATE log_entries SET kind = 'label', template_id = NULL
             WHERE position = 3 AND collection_uid = (SELECT uid FROM collections WHERE id = 'c3')",
            &[Kind::TemplateWithoutEntry],
        ),
        (
            "DELETE FROM template_payloads
             WHERE template_id = (SELECT t.id FROM templates AS t JOIN collections AS c ON c.uid = t.collection_uid
                                  WHERE c.id = 'c4' AND t.position = 2)",
            &[Kind::TemplateWithoutPayload],
        ),
        // Numbers that make an embedding, and not this one's.
        (other_numbers, &[Kind::ChecksumMismatch]),
        (
            "UPDATE template_payloads SET crc32 = NULL, format = 'f64'
             WHERE template_id = (SELECT t.id FROM templates AS t JOIN collections AS c ON c.uid = t.collection_uid
                                  WHERE c.id = 'c6' AND t.position = 3)",
            &[Kind::UnreadableTemplate],
        ),
        (
            "DELETE FROM templates WHERE position = 3 AND collection_uid = (SELECT uid FROM collections WHERE id = 'c7')",
            &[Kind::EntryWithoutTemplate],
        ),
        (
            "DELETE FROM collection_spaces WHERE collection_uid = (SELECT uid FROM collections WHERE id = 'c8')",
            &[Kind::TemplateOfUnknownSpace, Kind::TemplateOfUnknownSpace],
        ),
        (
            "UPDATE identities SET labels = '{\"1\": \"secret\"}'
             WHERE id = 'alice' AND collection_uid = (SELECT uid FROM collections WHERE id = 'c9')",
            &[Kind::UnreadableIdentity],
        ),
        ("UPDATE collections SET policy = '{\"target_fpir\": \"x\"}' WHERE id = 'c10'", &[Kind::UnreadableCollection]),
        (
            "UPDATE templates SET identity_id = 'bob'
             WHERE position = 3 AND collection_uid = (SELECT uid FROM collections WHERE id = 'c11')",
            &[Kind::OtherOwner],
        ),
    ];
    for number in 1..=11 {
        people(subject, number).await;
    }
    for (damage, _) in damages {
        assert!(subject.execute(damage).await > 0, "{damage}");
    }
    let found = audited(subject).await;
    assert_eq!((found.collections, found.identities, found.checksums_missing), (11, 22, 1));
    for ((damage, expected), number) in damages.iter().zip(1..) {
        assert_eq!(kinds(&found, Some(&format!("c{number}"))), *expected, "{damage}: {found:?}");
    }
    assert_eq!(kinds(&found, None), []);
    let named = |kind| found.findings.iter().find(|finding| finding.kind == kind).expect("found above");
    let mismatch = named(Kind::ChecksumMismatch);
    assert_eq!(mismatch.template.as_deref(), Some(template_id(50).to_string().as_str()));
    assert_eq!((mismatch.identity.as_deref(), mismatch.position), (Some("alice"), Some(2)));
    assert!(!format!("{found:?}").contains("secret"), "labels stay out of findings");
}

async fn rows_without_their_owner_are_found(subject: &Subject) {
    use FindingKind as Kind;
    people(subject, 1).await;
    people(subject, 2).await;
    let (open, closed) = if subject.store.kind() == "postgres" {
        (
            "SET session_replication_role = replica; DELETE FROM identities WHERE id = 'alice' AND collection_uid =
                 (SELECT uid FROM collections WHERE id = 'c1'); RESET session_replication_role",
            "SET session_replication_role = replica; DELETE FROM templates WHERE position = 2 AND collection_uid =
                 (SELECT uid FROM collections WHERE id = 'c2'); RESET session_replication_role",
        )
    } else {
        (
            "PRAGMA foreign_keys = OFF; DELETE FROM identities WHERE id = 'alice' AND collection_uid =
                 (SELECT uid FROM collections WHERE id = 'c1'); PRAGMA foreign_keys = ON",
            "PRAGMA foreign_keys = OFF; DELETE FROM templates WHERE position = 2 AND collection_uid =
                 (SELECT uid FROM collections WHERE id = 'c2'); PRAGMA foreign_keys = ON",
        )
    };
    subject.execute(open).await;
    subject.execute(closed).await;
    let found = audited(subject).await;
    assert_eq!(kinds(&found, Some("c1")), [Kind::TemplateWithoutIdentity, Kind::TemplateWithoutIdentity]);
    assert_eq!(kinds(&found, Some("c2")), [Kind::EntryWithoutTemplate]);
    let mut outside = kinds(&found, None);
    outside.dedup();
    let own: &[Kind] = if subject.store.kind() == "sqlite" { &[Kind::Database] } else { &[] };
    assert_eq!(outside, [own, &[Kind::PayloadWithoutTemplate]].concat());
}

async fn lineage_that_the_log_does_not_know_is_found(subject: &Subject) {
    let uid = people(subject, 1).await;
    let mut turn = subject.store.take_turn(uid).await.expect("the turn");
    turn.put_regrouping(&super::regroupings::merged(1, 10)).await.expect("kept");
    turn.commit().await.expect("committed");
    assert_eq!(kinds(&audited(subject).await, Some("c1")), [FindingKind::MoveWithoutEntry]);
}

async fn derived_values_are_repaired(subject: &Subject) {
    for number in 1..=3 {
        people(subject, number).await;
    }
    subject.execute("UPDATE collections SET head_position = 2 WHERE id = 'c1'").await;
    subject.execute("UPDATE collections SET head_position = 7 WHERE id = 'c2'").await;
    subject.execute("UPDATE template_payloads SET crc32 = NULL").await;
    // Damaged already: a checksum would say that it is as it should be.
    subject
        .execute(
            "UPDATE template_payloads SET format = 'other'
             WHERE template_id = (SELECT t.id FROM templates AS t JOIN collections AS c ON c.uid = t.collection_uid
                                  WHERE c.id = 'c3' AND t.position = 2)",
        )
        .await;
    assert_eq!(audited(subject).await.checksums_missing, 6);
    let repairs = subject.store.repair().await.expect("repaired");
    assert_eq!(repairs, Repairs { head_positions: 2, checksums: 5 });
    let left = audited(subject).await;
    assert_eq!(left.checksums_missing, 1);
    assert_eq!(left.findings.iter().map(|f| f.kind).collect::<Vec<_>>(), [FindingKind::UnreadableTemplate]);
    assert_eq!(subject.store.repair().await.expect("again"), Repairs::default());
    // And the turn goes on from there.
    let head = subject.store.heads().await.expect("heads").remove(0);
    append(&subject.store, head.uid, &[put("carol")]).await;
    assert_eq!(audited(subject).await.findings.len(), 1);
}

async fn a_payload_with_a_wrong_checksum_is_an_error(subject: &Subject) {
    let uid = people(subject, 1).await;
    assert_eq!(subject.store.in_collection(uid).stored_templates(Position::START, 10).await.expect("read").len(), 2);
    assert_eq!(subject.execute("UPDATE template_payloads SET crc32 = 4294967295 - crc32").await, 2);
    let refused = subject.store.in_collection(uid).stored_templates(Position::START, 10).await;
    let Err(StoreError::Corrupt(what)) = refused else { panic!("{refused:?}") };
    assert!(what.contains(&template_id(10).to_string()), "{what}");
    let refused = subject.store.in_collection(uid).entries_after(Position::START, 10).await;
    assert!(matches!(refused, Err(StoreError::Corrupt(_))), "{refused:?}");
}

async fn templates_come_with_the_labels_of_their_owner(subject: &Subject) {
    let uid = people(subject, 1).await;
    let bob = Identity { labels: labels(&[("site", "north")]), ..identity("bob") };
    append(&subject.store, uid, &[Change::PutIdentity(bob.clone()), admit(12, "bob")]).await;
    let first = subject.store.owned_templates(uid, Position::START, 2).await.expect("a page");
    assert_eq!(
        first.iter().map(|owned| (owned.stored.template.id, owned.identity.id.as_str())).collect::<Vec<_>>(),
        [(template_id(10), "alice"), (template_id(11), "alice")]
    );
    let rest = subject.store.owned_templates(uid, Position(3), 2).await.expect("a page");
    assert_eq!(rest.len(), 1);
    assert_eq!((rest[0].stored.embedding.clone(), &rest[0].identity), (template(12, "bob").embedding, &bob));
}

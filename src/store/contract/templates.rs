use super::*;
use crate::{EnrolledIdentity, StoreError};
use domain::{Entry, EntryKind};

on_both_databases!(
    a_template_is_read_as_it_was_admitted,
    embeddings_are_stored_bit_for_bit,
    templates_of_an_identity_come_in_pages,
    pages_of_many_templates_miss_none,
    forgetting_a_template_twice_appends_nothing_the_second_time,
    another_identitys_template_is_not_forgotten,
    entries_show_their_subjects_as_they_are_now,
    an_append_returns_what_a_follower_reads,
    a_move_changes_the_owner_and_nothing_else,
    a_move_of_what_is_not_there_is_refused,
    a_client_may_ask_for_any_position,
    damaged_payloads_are_errors,
    a_payload_of_an_unknown_format_is_an_error,
    an_entry_of_an_unknown_kind_is_an_error,
);

async fn a_template_is_read_as_it_was_admitted(subject: &Subject) {
    let uid = created(&subject.store).await;
    let mut given = template(1, "alice");
    given.template.origin = TemplateOrigin::Embedding;
    given.template.position = Position(99); // the store assigns it
    append(&subject.store, uid, &[put("alice"), Change::Admit(given.clone())]).await;

    given.template.position = Position(2);
    assert_eq!(
        subject.store.in_collection(uid).template(template_id(1)).await.expect("read").as_ref(),
        Some(&given.template)
    );
    assert_eq!(subject.store.in_collection(uid).stored_templates(Position::START, 10).await.expect("a page"), [given]);
    assert_eq!(subject.store.in_collection(uid).template(template_id(2)).await.expect("read"), None);
}

async fn embeddings_are_stored_bit_for_bit(subject: &Subject) {
    let uid = created(&subject.store).await;
    let space = space(Modality::Gait, 512);
    let mut given = template(1, "alice");
    given.template.space = space;
    let values: Vec<f32> =
        (0..512_u16).map(|n| (f32::from(n) * 0.37).sin() * 1e-3_f32.powi(i32::from(n % 3))).collect();
    given.embedding = Embedding::new(space, &values).expect("an embedding");
    append(&subject.store, uid, &[put("alice"), Change::Admit(given.clone())]).await;

    let page = subject.store.in_collection(uid).stored_templates(Position::START, 10).await.expect("a page");
    let bits = |embedding: &Embedding| embedding.values().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&page[0].embedding), bits(&given.embedding));
    assert_eq!(page[0].embedding.space(), space);
}

async fn templates_of_an_identity_come_in_pages(subject: &Subject) {
    let uid = created(&subject.store).await;
    // Admitted out of id order.
    let changes =
        [put("alice"), put("bob"), admit(3, "alice"), admit(300, "alice"), admit(1, "alice"), admit(2, "bob")];
    append(&subject.store, uid, &changes).await;

    let alice = identity_id("alice");
    let ids = |page: Vec<Template>| page.into_iter().map(|found| found.id).collect::<Vec<_>>();
    let first = ids(subject.store.in_collection(uid).templates_of(&alice, None, 2).await.expect("a page"));
    assert_eq!(first, [template_id(1), template_id(3)]);
    let rest =
        ids(subject.store.in_collection(uid).templates_of(&alice, Some(template_id(3)), 2).await.expect("a page"));
    assert_eq!(rest, [template_id(300)]);

    let mut turn = subject.store.take_turn(uid).await.expect("the turn");
    let ids = [alice.clone(), identity_id("nobody"), identity_id("bob")];
    let mut enrolled = turn.enrolled_identities(&ids).await.expect("counts");
    enrolled.sort_by(|one, other| one.identity.id.cmp(&other.identity.id));
    let expected =
        [("alice", 3), ("bob", 1)].map(|(name, templates)| EnrolledIdentity { identity: identity(name), templates });
    assert_eq!(enrolled, expected);
    assert_eq!(turn.enrolled_identities(&[]).await.expect("nobody"), []);
}

async fn pages_of_many_templates_miss_none(subject: &Subject) {
    const COUNT: u16 = 2_500;
    let uid = created(&subject.store).await;
    let mut changes = vec![put("alice"), put("bob")];
    changes.extend((0..COUNT).map(|n| admit(n, if n % 2 == 0 { "alice" } else { "bob" })));
    append(&subject.store, uid, &changes).await;

    let mut seen = Vec::new();
    let mut after = Position::START;
    loop {
        let page = subject.store.in_collection(uid).stored_templates(after, 400).await.expect("a page");
        let Some(last) = page.last() else { break };
        after = last.template.position;
        seen.extend(page);
    }
    let expected = (0..COUNT).map(|n| {
        let mut stored = template(n, if n % 2 == 0 { "alice" } else { "bob" });
        stored.template.position = Position(u64::from(n) + 3);
        stored
    });
    assert!(seen.into_iter().eq(expected));
}

async fn forgetting_a_template_twice_appends_nothing_the_second_time(subject: &Subject) {
    let uid = created(&subject.store).await;
    append(&subject.store, uid, &[put("alice"), admit(1, "alice"), admit(2, "alice")]).await;
    let mut turn = subject.store.take_turn(uid).await.expect("the turn");
    let first = turn.append(&[forget_template(1, "alice")], at(50)).await.expect("appended");
    assert_eq!(
        first,
        [Entry {
            position: Position(4),
            kind: EntryKind::Forget,
            identity: identity_id("alice"),
            template: Some(template_id(1)),
            time: at(50),
            admitted: None,
            labelled: None,
            moved: None,
        }]
    );
    assert_eq!(turn.append(&[forget_template(1, "alice")], at(51)).await.expect("nothing to do"), []);
    assert_eq!(turn.head(), Position(4));
    assert_eq!(turn.template(template_id(1)).await.expect("read"), None);
    assert!(turn.template(template_id(2)).await.expect("read").is_some());
    turn.commit().await.expect("committed");
    assert_eq!(subject.store.heads().await.expect("heads")[0].position, Position(4));
}

async fn another_identitys_template_is_not_forgotten(subject: &Subject) {
    let uid = created(&subject.store).await;
    append(&subject.store, uid, &[put("alice"), put("bob"), admit(1, "bob")]).await;
    append(&subject.store, uid, &[forget_template(1, "alice")]).await;
    assert!(subject.store.in_collection(uid).template(template_id(1)).await.expect("read").is_some());
    assert_eq!(subject.store.heads().await.expect("heads")[0].position, Position(3));
}

async fn entries_show_their_subjects_as_they_are_now(subject: &Subject) {
    let uid = created(&subject.store).await;
    append(&subject.store, uid, &[put("alice"), admit(1, "alice"), admit(2, "alice"), put("bob")]).await;
    let relabelled = Identity { labels: labels(&[("site", "north")]), ..identity("alice") };
    append(&subject.store, uid, &[Change::PutIdentity(relabelled.clone()), forget_template(1, "alice")]).await;
    append(&subject.store, uid, &[Change::ForgetIdentity(identity_id("bob"))]).await;

    let entries = subject.store.in_collection(uid).entries_after(Position::START, 100).await.expect("entries");
    assert_eq!(entries.iter().map(|entry| entry.position.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(entries[0].labelled.as_ref(), Some(&relabelled), "as it is now, not as it was then");
    assert_eq!(entries[1].admitted, None, "forgotten since");
    let admitted = entries[2].admitted.as_ref().expect("still there");
    assert_eq!((admitted.template.id, admitted.template.position), (template_id(2), Position(3)));
    assert_eq!(entries[3].labelled, None, "forgotten since");
    assert_eq!(entries[4].labelled.as_ref(), Some(&relabelled));
    assert!(entries.iter().all(|entry| entry.time == at(1_700_000_100)));

    let middle = subject.store.in_collection(uid).entries_after(Position(2), 3).await.expect("entries");
    assert_eq!(middle, entries[2..5]);
}

async fn an_append_returns_what_a_follower_reads(subject: &Subject) {
    let uid = created(&subject.store).await;
    append(&subject.store, uid, &[put("zoe")]).await;
    let mut turn = subject.store.take_turn(uid).await.expect("the turn");
    let changes = [
        put("alice"),
        admit(1, "alice"),
        put("bob"),
        admit(2, "bob"),
        // Removes what the first two brought: their entries must not show it.
        Change::ForgetIdentity(identity_id("alice")),
    ];
    let answered = turn.append(&changes, at(9)).await.expect("appended");
    assert_eq!(turn.entries_after(Position(1), 100).await.expect("entries"), answered);
    turn.commit().await.expect("committed");
    assert_eq!(subject.store.in_collection(uid).entries_after(Position(1), 100).await.expect("entries"), answered);
    assert_eq!(answered.len(), 5);
    assert_eq!((&answered[0].labelled, &answered[1].admitted), (&None, &None));
    assert!(answered[3].admitted.is_some());
}

async fn a_move_changes_the_owner_and_nothing_else(subject: &Subject) {
    let (store, uid) = (&subject.store, created(&subject.store).await);
    append(store, uid, &[put("alice"), put("bob"), admit(1, "alice"), admit(2, "alice"), admit(3, "alice")]).await;
    let mut stored = store.in_collection(uid).stored_templates(Position::START, 10).await.expect("a page");
    let mut turn = store.take_turn(uid).await.expect("the turn");
    // Alice goes, and what moved before stays.
    let changes = [1, 2].map(|number| move_template(number, "alice", "bob"));
    let entries = turn.append(&changes, at(60)).await.expect("appended");
    turn.append(&[Change::ForgetIdentity(identity_id("alice"))], at(61)).await.expect("appended");
    turn.commit().await.expect("committed");

    stored.truncate(2);
    for one in &mut stored {
        one.template.identity = identity_id("bob");
    }
    assert_eq!(store.in_collection(uid).stored_templates(Position::START, 10).await.expect("a page"), stored);
    assert_eq!(store.in_collection(uid).templates_of(&identity_id("bob"), None, 9).await.expect("a page").len(), 2);
    assert_eq!(
        entries[0],
        Entry {
            position: Position(6),
            kind: EntryKind::Move,
            identity: identity_id("bob"),
            template: Some(template_id(1)),
            time: at(60),
            admitted: None,
            labelled: None,
            moved: Some(stored[0].clone()),
        }
    );
    let read = store.in_collection(uid).entries_after(Position(5), 2).await.expect("entries");
    assert_eq!(read, entries, "a follower reads the same");
    append(store, uid, &[forget_template(1, "bob")]).await;
    let read = store.in_collection(uid).entries_after(Position(5), 1).await.expect("entries");
    assert_eq!((read[0].kind, &read[0].moved), (EntryKind::Move, &None), "forgotten since");
}

async fn a_move_of_what_is_not_there_is_refused(subject: &Subject) {
    let (store, uid) = (&subject.store, created(&subject.store).await);
    append(store, uid, &[put("alice"), put("bob"), admit(1, "alice")]).await;
    for (wrong, is_identity) in [
        (move_template(1, "alice", "nobody"), true),
        (move_template(1, "bob", "alice"), false),
        (move_template(2, "alice", "bob"), false),
    ] {
        let mut turn = store.take_turn(uid).await.expect("the turn");
        let changes = [move_template(1, "alice", "bob"), move_template(1, "bob", "alice"), wrong];
        match turn.append(&changes, at(7)).await {
            Err(StoreError::IdentityGone) => assert!(is_identity),
            Err(StoreError::TemplateGone) => assert!(!is_identity),
            other => panic!("{other:?}"),
        }
        drop(turn);
        assert_eq!(store.heads().await.expect("heads")[0].position, Position(3));
    }
}

async fn a_client_may_ask_for_any_position(subject: &Subject) {
    let uid = created(&subject.store).await;
    append(&subject.store, uid, &[put("alice"), admit(1, "alice")]).await;
    for far in [Position(3), Position(u64::MAX)] {
        assert_eq!(subject.store.in_collection(uid).entries_after(far, 10).await.expect("entries"), []);
        assert_eq!(subject.store.in_collection(uid).stored_templates(far, 10).await.expect("a page"), []);
    }
}

async fn damaged_payloads_are_errors(subject: &Subject) {
    let uid = created(&subject.store).await;
    let mut eight = template(1, "alice");
    eight.template.space = space(Modality::Person, 8);
    eight.embedding = Embedding::new(eight.template.space, &[0.5; 8]).expect("an embedding");
    append(&subject.store, uid, &[put("alice"), Change::Admit(eight), admit(2, "alice")]).await;

    let noticed = async |template: TemplateId, after| {
        for read in [
            subject.store.in_collection(uid).stored_templates(after, 10).await.map(|_| ()),
            subject.store.in_collection(uid).entries_after(after, 10).await.map(|_| ()),
        ] {
            let Err(StoreError::Corrupt(what)) = read else { panic!("not noticed: {read:?}") };
            assert!(what.contains(&template.to_string()), "{what}");
        }
    };
    // The digest is 32 bytes of ones: eight NaN, which is the wrong count for the template of four numbers.
    assert_eq!(subject.execute("UPDATE template_payloads SET bytes = (SELECT digest FROM templates LIMIT 1)").await, 2);
    noticed(template_id(1), Position::START).await;
    noticed(template_id(2), Position(2)).await;
}

async fn a_payload_of_an_unknown_format_is_an_error(subject: &Subject) {
    let uid = created(&subject.store).await;
    append(&subject.store, uid, &[put("alice"), admit(1, "alice")]).await;
    for damage in
        ["UPDATE template_payloads SET key_id = 'k1'", "UPDATE template_payloads SET key_id = NULL, format = 'sealed'"]
    {
        assert_eq!(subject.execute(damage).await, 1);
        let read = subject.store.in_collection(uid).stored_templates(Position::START, 10).await;
        let Err(StoreError::Corrupt(what)) = read else { panic!("not noticed: {read:?}") };
        assert!(what.contains(&template_id(1).to_string()), "{what}");
    }
}

async fn an_entry_of_an_unknown_kind_is_an_error(subject: &Subject) {
    let uid = created(&subject.store).await;
    append(&subject.store, uid, &[put("alice")]).await;
    let (drop_check, skip_check) = if subject.store.kind() == "postgres" {
        ("ALTER TABLE log_entries DROP CONSTRAINT log_entries_kind_check", "UPDATE log_entries SET kind = 'rename'")
    } else {
        // On one connection of the pool, so that the pragma holds for the update.
        ("SELECT 1", "PRAGMA ignore_check_constraints = ON; UPDATE log_entries SET kind = 'rename'")
    };
    subject.execute(drop_check).await;
    subject.execute(skip_check).await;
    let read = subject.store.in_collection(uid).entries_after(Position::START, 10).await;
    assert!(matches!(&read, Err(StoreError::Corrupt(what)) if what.contains("kind")), "{read:?}");
}

use super::*;
use crate::{ExpiredIdentity, StoreError};

on_both_databases!(
    an_identity_is_read_as_it_was_put,
    putting_again_replaces_the_record,
    identities_come_bytewise_and_in_pages,
    identities_of_one_id_in_two_collections_are_two,
    expired_identities_are_found,
    forgetting_an_identity_removes_its_templates_and_their_bytes,
    expiring_removes_as_forgetting_does,
    a_change_of_a_missing_identity_is_refused,
);

async fn an_identity_is_read_as_it_was_put(subject: &Subject) {
    let uid = created(&subject.store).await;
    let mut alice = identity("a.l_i~c-e.9");
    alice.labels =
        labels(&[("note", "it's \"quoted\" \\ %_; DROP TABLE x; --"), ("name", "Zoë 名前 🙂"), ("empty", "")]);
    alice.expire_time = Some(Timestamp::from_microsecond(1_900_000_000_123_457).expect("within the calendar"));
    alice.provisional = true;
    alice.revision = Revision(12);
    alice.create_time = Timestamp::from_microsecond(-7).expect("within the calendar");
    append(&subject.store, uid, &[Change::PutIdentity(alice.clone())]).await;
    assert_eq!(subject.store.in_collection(uid).identity(&alice.id).await.expect("read"), Some(alice));
    assert_eq!(subject.store.in_collection(uid).identity(&identity_id("bob")).await.expect("read"), None);
}

async fn putting_again_replaces_the_record(subject: &Subject) {
    let uid = created(&subject.store).await;
    let mut alice = identity("alice");
    alice.labels = labels(&[("site", "north")]);
    alice.expire_time = Some(at(5));
    alice.provisional = true;
    append(&subject.store, uid, &[Change::PutIdentity(alice.clone()), admit(1, "alice")]).await;
    alice.labels = labels(&[("floor", "2")]);
    alice.expire_time = None;
    alice.provisional = false;
    alice.revision = Revision(2);
    alice.update_time = at(1_700_000_500);
    append(&subject.store, uid, &[Change::PutIdentity(alice.clone())]).await;

    assert_eq!(subject.store.in_collection(uid).identities(None, 10).await.expect("a page"), [alice]);
    assert!(
        subject.store.in_collection(uid).template(template_id(1)).await.expect("read").is_some(),
        "its templates stay"
    );
}

async fn identities_come_bytewise_and_in_pages(subject: &Subject) {
    let uid = created(&subject.store).await;
    let mut ids = ["b", "B", "a", "A-1", "A.1", "A_1", "A~1", "a1", "10", "9", "Z", "z"];
    append(&subject.store, uid, &ids.map(put)).await;
    ids.sort_unstable();

    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = subject.store.in_collection(uid).identities(after.as_ref(), 4).await.expect("a page");
        let Some(last) = page.last() else { break };
        after = Some(last.id.clone());
        seen.extend(page.iter().map(|found| found.id.as_str().to_owned()));
    }
    assert_eq!(seen, ids);
}

async fn identities_of_one_id_in_two_collections_are_two(subject: &Subject) {
    let (one, two) = (collection(1, "one"), collection(2, "two"));
    for created in [&one, &two] {
        subject.store.create_collection(created, None).await.expect("created");
    }
    append(&subject.store, one.uid, &[put("alice"), admit(1, "alice")]).await;
    append(&subject.store, two.uid, &[put("alice"), admit(2, "alice")]).await;
    append(&subject.store, one.uid, &[Change::ForgetIdentity(identity_id("alice"))]).await;

    assert!(subject.store.in_collection(one.uid).identity(&identity_id("alice")).await.expect("read").is_none());
    assert!(subject.store.in_collection(two.uid).identity(&identity_id("alice")).await.expect("read").is_some());
    assert!(subject.store.in_collection(two.uid).template(template_id(2)).await.expect("read").is_some());
    assert!(
        subject.store.in_collection(one.uid).template(template_id(2)).await.expect("read").is_none(),
        "not in this collection"
    );
}

async fn expired_identities_are_found(subject: &Subject) {
    let uid = created(&subject.store).await;
    let expiring = |id: &str, time| Change::PutIdentity(Identity { expire_time: time, ..identity(id) });
    let changes =
        [expiring("later", Some(at(201))), expiring("due", Some(at(200))), expiring("long-due", Some(at(100)))];
    append(&subject.store, uid, &changes).await;
    append(&subject.store, uid, &[expiring("never", None)]).await;

    let due = |ids: &[&str]| {
        ids.iter().map(|id| ExpiredIdentity { collection: uid, identity: identity_id(id) }).collect::<Vec<_>>()
    };
    assert_eq!(subject.store.expired_identities(at(200), 10).await.expect("read"), due(&["long-due", "due"]));
    assert_eq!(subject.store.expired_identities(at(200), 1).await.expect("read"), due(&["long-due"]));
    assert_eq!(subject.store.expired_identities(at(99), 10).await.expect("read"), due(&[]));
}

async fn forgetting_an_identity_removes_its_templates_and_their_bytes(subject: &Subject) {
    let uid = created(&subject.store).await;
    append(&subject.store, uid, &[put("alice"), admit(1, "alice"), admit(2, "alice"), put("bob"), admit(3, "bob")])
        .await;
    append(&subject.store, uid, &[Change::ForgetIdentity(identity_id("alice"))]).await;

    let left = subject.store.in_collection(uid).stored_templates(Position::START, 10).await.expect("a page");
    assert_eq!(left.iter().map(|stored| stored.template.id).collect::<Vec<_>>(), [template_id(3)]);
    let rows = subject.row_counts().await;
    for (table, expected) in [("identities", 1), ("templates", 1), ("template_payloads", 1), ("log_entries", 6)] {
        assert!(rows.contains(&(table.to_owned(), expected)), "{table} in {rows:?}");
    }
}

async fn expiring_removes_as_forgetting_does(subject: &Subject) {
    let uid = created(&subject.store).await;
    append(&subject.store, uid, &[put("alice"), admit(1, "alice")]).await;
    append(&subject.store, uid, &[Change::ExpireIdentity(identity_id("alice"))]).await;

    assert!(subject.store.in_collection(uid).identities(None, 10).await.expect("a page").is_empty());
    assert!(subject.store.in_collection(uid).stored_templates(Position::START, 10).await.expect("a page").is_empty());
    let entries = subject.store.in_collection(uid).entries_after(Position(2), 10).await.expect("entries");
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].kind, domain::EntryKind::Expire);
    assert_eq!((&entries[0].identity, entries[0].template), (&identity_id("alice"), None));
}

async fn a_change_of_a_missing_identity_is_refused(subject: &Subject) {
    let uid = created(&subject.store).await;
    append(&subject.store, uid, &[put("alice")]).await;
    let nobody = identity_id("nobody");
    for change in [
        admit(1, "nobody"),
        forget_template(1, "nobody"),
        Change::ForgetIdentity(nobody.clone()),
        Change::ExpireIdentity(nobody),
    ] {
        let mut turn = subject.store.take_turn(uid).await.expect("the turn");
        let refused = turn.append(&[put("bob"), change], at(1)).await;
        assert!(matches!(refused, Err(StoreError::IdentityGone)), "{refused:?}");
        let refused = turn.commit().await;
        assert!(matches!(refused, Err(StoreError::Refused(_))), "a failed turn does not commit: {refused:?}");
    }
    assert_eq!(subject.store.in_collection(uid).identities(None, 10).await.expect("a page"), [identity("alice")]);
    assert_eq!(subject.store.heads().await.expect("heads")[0].position, Position(1));
}

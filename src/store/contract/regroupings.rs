use super::*;
use domain::{
    DismissedWith, HandedOver, Lineage, OtherIdentity, Regrouping, RegroupingId, RegroupingKind, RegroupingState,
    TemplateMove,
};

on_both_databases!(
    a_regrouping_is_read_as_it_was_stored,
    the_latest_regrouping_in_force_is_found_by_its_parties,
    a_reverted_regrouping_keeps_no_lineage,
    erasing_a_template_erases_its_move_and_with_the_last_the_record,
    erasing_an_identity_erases_what_it_holds,
    what_is_handed_over_outlives_the_identity_and_is_handed_back,
    cases_that_name_an_identity_are_found,
    dismissed_pairs_follow_a_merge_and_its_revert,
);

fn regrouping_id(number: u128) -> RegroupingId {
    RegroupingId(Uuid::from_u128(number))
}

/// Alice took in Zoe, with one template.
pub(super) fn merged(number: u128, template: u16) -> Regrouping {
    merge(number, &[("zoe", &[template])])
}

/// Alice took in these, each with some templates.
fn merge(number: u128, sources: &[(&str, &[u16])]) -> Regrouping {
    let (alice, time) = (identity_id("alice"), at(1_700_000_300));
    let other = |(name, templates): &(&str, &[u16])| OtherIdentity {
        record: Identity { labels: labels(&[("name", "Größe \"9\"")]), expire_time: Some(at(77)), ..identity(name) },
        templates: templates.len() as u64,
        handed_over: HandedOver {
            regroupings: vec![regrouping_id(900)],
            cases: vec![ReviewCaseId(Uuid::from_u128(901))],
            dismissed: vec![DismissedWith { identity: identity_id("yan"), added: true }],
        },
    };
    let moves = sources.iter().flat_map(|(name, templates)| {
        let alice = &alice;
        templates.iter().map(move |template| TemplateMove {
            template: template_id(*template),
            from: identity_id(name),
            to: alice.clone(),
        })
    });
    let after = Identity { revision: Revision(2), labels: labels(&[("site", "north")]), ..identity("alice") };
    let lineage = Lineage {
        before: identity("alice"),
        after,
        others: sources.iter().map(other).collect(),
        others_then: sources.len() as u64,
        moves: moves.collect(),
    };
    Regrouping {
        id: regrouping_id(number),
        kind: RegroupingKind::Merge,
        identity: alice.clone(),
        holder: alice,
        position: Position(number.try_into().expect("small")),
        time,
        state: RegroupingState::InForce(Box::new(lineage)),
    }
}

async fn stored(store: &Arc<dyn Store>, uid: CollectionUid, regrouping: &Regrouping) {
    let mut turn = store.take_turn(uid).await.expect("the turn");
    turn.put_regrouping(regrouping).await.expect("stored");
    turn.commit().await.expect("committed");
}

async fn read(store: &Arc<dyn Store>, uid: CollectionUid, number: u128) -> Option<Regrouping> {
    store.in_collection(uid).regrouping(regrouping_id(number)).await.expect("read")
}

async fn lineage(store: &Arc<dyn Store>, uid: CollectionUid, number: u128) -> Lineage {
    match read(store, uid, number).await.expect("there").state {
        RegroupingState::InForce(lineage) => *lineage,
        RegroupingState::Reverted(_) => panic!("it is in force"),
    }
}

/// Alice with templates 1 to 4.
async fn alice(subject: &Subject) -> CollectionUid {
    let uid = created(&subject.store).await;
    let admitted = (1..=4).map(|number| admit(number, "alice"));
    append(&subject.store, uid, &std::iter::once(put("alice")).chain(admitted).collect::<Vec<_>>()).await;
    uid
}

async fn a_regrouping_is_read_as_it_was_stored(subject: &Subject) {
    let (store, uid) = (&subject.store, alice(subject).await);
    let mut given = merge(5, &[("zoe", &[3, 1]), ("bob", &[]), ("carl", &[2])]);
    stored(store, uid, &given).await;
    assert_eq!(read(store, uid, 5).await, Some(given.clone()));
    assert_eq!(read(store, uid, 6).await, None);
    assert_eq!(read(store, collection(8, "elsewhere").uid, 5).await, None);
    (given.id, given.kind) = (regrouping_id(6), RegroupingKind::Split);
    let mut turn = store.take_turn(uid).await.expect("the turn");
    turn.put_regrouping(&given).await.expect("stored");
    drop(turn);
    assert_eq!(read(store, uid, 6).await, None, "it is stored with its turn");
}

async fn the_latest_regrouping_in_force_is_found_by_its_parties(subject: &Subject) {
    let (store, uid) = (&subject.store, alice(subject).await);
    append(store, uid, &[put("made")]).await;
    stored(store, uid, &merge(3, &[("zoe", &[1])])).await;
    stored(store, uid, &merge(2, &[("yan", &[2])])).await;
    let mut split = merge(1, &[("made", &[3])]);
    split.kind = RegroupingKind::Split;
    stored(store, uid, &split).await;
    let latest = async |name: &str| {
        let latest = store.in_collection(uid).latest_regrouping(&identity_id(name)).await.expect("read");
        latest.map(|id| id.0.as_u128())
    };
    assert_eq!(latest("alice").await, Some(3), "the highest position, not the last stored");
    assert_eq!(latest("made").await, Some(1));
    assert_eq!((latest("zoe").await, latest("nobody").await), (None, None));
    let into = async |name: &str| store.in_collection(uid).merged_into(&identity_id(name)).await.expect("read");
    assert_eq!((into("zoe").await, into("made").await), (Some(identity_id("alice")), None));
    store.in_collection(uid).mark_reverted(regrouping_id(3), at(9)).await.expect("reverted");
    assert_eq!((latest("alice").await, into("zoe").await), (Some(2), None));
}

async fn a_reverted_regrouping_keeps_no_lineage(subject: &Subject) {
    let (store, uid) = (&subject.store, alice(subject).await);
    let given = merge(3, &[("zoe", &[1])]);
    stored(store, uid, &given).await;
    store.in_collection(uid).mark_reverted(given.id, at(9)).await.expect("reverted");
    assert_eq!(read(store, uid, 3).await, Some(Regrouping { state: RegroupingState::Reverted(at(9)), ..given }));
    let rows = subject.row_counts().await;
    let rows_of = |table: &str| rows.iter().find(|(name, _)| name == table).map(|(_, rows)| *rows);
    assert_eq!((rows_of("regrouped_identities"), rows_of("template_moves")), (Some(0), Some(0)));
}

async fn erasing_a_template_erases_its_move_and_with_the_last_the_record(subject: &Subject) {
    let (store, uid) = (&subject.store, alice(subject).await);
    stored(store, uid, &merge(3, &[("zoe", &[1, 2]), ("bob", &[]), ("carl", &[3])])).await;
    append(store, uid, &[forget_template(1, "alice")]).await;
    let left = lineage(store, uid, 3).await;
    assert_eq!(left.moves.iter().map(|one| one.template).collect::<Vec<_>>(), [2, 3].map(template_id));
    assert_eq!((left.others.len(), left.erased_of(&left.others[0])), (3, 1));
    // Wherever the template is by then.
    append(store, uid, &[put("dora"), move_template(2, "alice", "dora"), forget_template(2, "dora")]).await;
    let left = lineage(store, uid, 3).await;
    let names: Vec<&str> = left.others.iter().map(|other| other.record.id.as_str()).collect();
    assert_eq!((names, left.others_then), (vec!["bob", "carl"], 3), "Bob had none");
    append(store, uid, &[move_template(3, "alice", "dora"), Change::ForgetIdentity(identity_id("dora"))]).await;
    let left = lineage(store, uid, 3).await;
    assert_eq!((left.others.len(), left.moves), (1, Vec::new()));
}

async fn erasing_an_identity_erases_what_it_holds(subject: &Subject) {
    let (store, uid) = (&subject.store, alice(subject).await);
    stored(store, uid, &merge(3, &[("zoe", &[1])])).await;
    append(store, uid, &[Change::ForgetIdentity(identity_id("alice"))]).await;
    assert_eq!(read(store, uid, 3).await, None);
    let rows = subject.row_counts().await;
    let tables = ["regroupings", "regrouped_identities", "template_moves"];
    assert!(rows.iter().filter(|(table, _)| tables.contains(&table.as_str())).all(|(_, rows)| *rows == 0), "{rows:?}");
}

async fn what_is_handed_over_outlives_the_identity_and_is_handed_back(subject: &Subject) {
    let (store, uid) = (&subject.store, alice(subject).await);
    append(store, uid, &[put("bob")]).await;
    stored(store, uid, &merge(3, &[("zoe", &[1])])).await;
    let case = super::review::case(5, &super::review::decided(Some(identity_id("alice"))));
    super::review::opened(store, uid, &case, &[super::review::sample(1)]).await;

    let (alice, bob) = (identity_id("alice"), identity_id("bob"));
    let mut turn = store.take_turn(uid).await.expect("the turn");
    let records = turn.hand_over(&alice, &bob).await.expect("handed over");
    assert_eq!(
        records,
        HandedOver { regroupings: vec![regrouping_id(3)], cases: vec![case.id], dismissed: Vec::new() }
    );
    let moved: Vec<Change> = (1..=4).map(|number| move_template(number, "alice", "bob")).collect();
    turn.append(&moved, at(9)).await.expect("moved");
    turn.append(&[Change::ForgetIdentity(alice.clone())], at(9)).await.expect("forgotten");
    turn.commit().await.expect("committed");
    let held = read(store, uid, 3).await.expect("there");
    assert_eq!((held.identity, held.holder), (alice.clone(), bob.clone()));
    let there = store.in_collection(uid).review_case(case.id).await.expect("read");
    assert_eq!(there.as_ref(), Some(&case), "the verdict stays as it was recorded");

    append(store, uid, &[put("alice"), put("carl")]).await;
    store.in_collection(uid).hand_back(&records, &identity_id("carl"), &alice).await.expect("not Carl's to give");
    assert_eq!(read(store, uid, 3).await.expect("there").holder, bob);
    store.in_collection(uid).hand_back(&records, &bob, &alice).await.expect("handed back");
    assert_eq!(read(store, uid, 3).await.expect("there").holder, alice);
    append(store, uid, &[Change::ForgetIdentity(alice)]).await;
    assert_eq!(store.in_collection(uid).review_case(case.id).await.expect("read"), None);
}

async fn cases_that_name_an_identity_are_found(subject: &Subject) {
    let (store, uid) = (&subject.store, created(&subject.store).await);
    for (number, name, state) in [
        (1, "a_n", domain::ReviewState::Open),
        (2, "axn", domain::ReviewState::Open),
        (3, "a_n", super::review::decided(None)),
        (4, "a_n2", domain::ReviewState::Open),
    ] {
        let mut case = super::review::case(number, &state);
        case.candidates[0].identity = identity_id(name);
        super::review::opened(store, uid, &case, &[]).await;
    }
    let found = store.in_collection(uid).undecided_cases_naming(&identity_id("a_n")).await.expect("read");
    assert_eq!(found.iter().map(|case| case.id.0.as_u128()).collect::<Vec<_>>(), [1]);
}

async fn dismissed_pairs_follow_a_merge_and_its_revert(subject: &Subject) {
    let (store, uid) = (&subject.store, created(&subject.store).await);
    append(store, uid, &["ann", "bob", "carl", "dora"].map(put)).await;
    let [ann, bob, carl, dora] = ["ann", "bob", "carl", "dora"].map(identity_id);
    for pair in [[&bob, &ann], [&bob, &carl], [&bob, &dora], [&ann, &dora]] {
        store.in_collection(uid).dismiss_pair(pair).await.expect("dismissed");
        store.in_collection(uid).dismiss_pair(pair).await.expect("dismissed already");
    }
    let dismissed = async |[one, other]: [&IdentityId; 2]| {
        // Read by taking it back, in a turn that is dropped.
        let mut turn = store.take_turn(uid).await.expect("the turn");
        turn.restore_pair([one, other]).await.expect("read")
    };
    let mut turn = store.take_turn(uid).await.expect("the turn");
    let records = turn.hand_over(&bob, &ann).await.expect("handed over");
    turn.append(&[Change::ForgetIdentity(bob.clone())], at(9)).await.expect("forgotten");
    turn.commit().await.expect("committed");
    let with = |identity: &IdentityId, added| DismissedWith { identity: identity.clone(), added };
    assert_eq!(records.dismissed, [with(&ann, false), with(&carl, true), with(&dora, false)]);
    assert!(dismissed([&carl, &ann]).await && dismissed([&dora, &ann]).await && !dismissed([&ann, &bob]).await);

    append(store, uid, &[put("bob"), Change::ForgetIdentity(dora.clone())]).await;
    store.in_collection(uid).hand_back(&records, &ann, &bob).await.expect("handed back");
    assert!(dismissed([&ann, &bob]).await && dismissed([&bob, &carl]).await && !dismissed([&ann, &carl]).await);
    assert!(!dismissed([&bob, &dora]).await, "erased since");
    assert!(store.in_collection(uid).restore_pair([&bob, &ann]).await.expect("taken back"));
    assert!(!store.in_collection(uid).restore_pair([&bob, &ann]).await.expect("not there"));
    subject.refuses("INSERT INTO dismissed_pairs SELECT uid, 'carl', 'bob' FROM collections").await;
}

//! The gallery is a fold over the log: a follower that applies the log, at once or as it grows, holds what the tables
//! hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;

use super::*;
use crate::{StoreOptions, connect};
use domain::{Entry, EntryKind};

const PEOPLE: [&str; 3] = ["alice", "bob", "carol"];

/// A random change; it is applied only if its subject exists.
#[derive(Debug, Clone)]
enum ProposedChange {
    Put { person: usize, label: u8 },
    Admit { person: usize },
    MoveTemplate { template: u16, to: usize },
    ForgetTemplate { person: usize, template: u16 },
    ForgetIdentity { person: usize },
    ExpireIdentity { person: usize },
}

fn proposal() -> impl Strategy<Value = ProposedChange> {
    let person = 0..PEOPLE.len();
    prop_oneof![
        3 => (person.clone(), 0..4_u8).prop_map(|(person, label)| ProposedChange::Put { person, label }),
        4 => person.clone().prop_map(|person| ProposedChange::Admit { person }),
        4 => (0..12_u16, person.clone()).prop_map(|(template, to)| ProposedChange::MoveTemplate { template, to }),
        2 => (person.clone(), 0..12_u16).prop_map(|(person, template)| ProposedChange::ForgetTemplate { person, template }),
        1 => person.clone().prop_map(|person| ProposedChange::ForgetIdentity { person }),
        1 => person.prop_map(|person| ProposedChange::ExpireIdentity { person }),
    ]
}

/// Turns proposals into changes, and drops those whose identity does not exist.
#[derive(Debug, Default)]
struct ChangeGenerator {
    present: BTreeSet<usize>,
    admitted: u16,
    /// The person of each template.
    owners: BTreeMap<u16, usize>,
}

impl ChangeGenerator {
    fn change(&mut self, proposal: &ProposedChange) -> Option<Change> {
        let (ProposedChange::Put { person, .. }
        | ProposedChange::Admit { person }
        | ProposedChange::MoveTemplate { to: person, .. }
        | ProposedChange::ForgetTemplate { person, .. }
        | ProposedChange::ForgetIdentity { person }
        | ProposedChange::ExpireIdentity { person }) = *proposal;
        let is_present = self.present.contains(&person);
        let name = PEOPLE[person];
        match proposal {
            ProposedChange::Put { label, .. } => {
                self.present.insert(person);
                let labels = labels(&[("floor", &label.to_string())]);
                Some(Change::PutIdentity(Identity { labels, ..identity(name) }))
            }
            ProposedChange::Admit { .. } => is_present.then(|| {
                self.admitted += 1;
                self.owners.insert(self.admitted, person);
                admit(self.admitted, name)
            }),
            ProposedChange::MoveTemplate { template, to } => {
                let from = self.owners.get_mut(template).filter(|_| is_present)?;
                let from = PEOPLE[std::mem::replace(from, *to)];
                Some(move_template(*template, from, name))
            }
            ProposedChange::ForgetTemplate { template, .. } => is_present.then(|| {
                if self.owners.get(template) == Some(&person) {
                    self.owners.remove(template);
                }
                forget_template(*template, name)
            }),
            ProposedChange::ForgetIdentity { .. } => {
                self.owners.retain(|_, owner| *owner != person);
                self.present.remove(&person).then(|| Change::ForgetIdentity(identity_id(name)))
            }
            ProposedChange::ExpireIdentity { .. } => {
                self.owners.retain(|_, owner| *owner != person);
                self.present.remove(&person).then(|| Change::ExpireIdentity(identity_id(name)))
            }
        }
    }
}

/// What a replica holds of a collection.
#[derive(Debug, Default, PartialEq)]
struct Fold {
    identities: BTreeMap<IdentityId, Identity>,
    templates: BTreeMap<Position, StoredTemplate>,
}

impl Fold {
    fn apply(&mut self, entry: Entry) {
        match (entry.kind, entry.template) {
            (EntryKind::Label | EntryKind::Admit, _) => {
                self.identities.extend(entry.labelled.map(|identity| (identity.id.clone(), identity)));
                self.templates.extend(entry.admitted.map(|stored| (stored.template.position, stored)));
            }
            (EntryKind::Move, template) => {
                self.templates.retain(|_, stored| Some(stored.template.id) != template);
                let moved = entry.moved.filter(|stored| self.identities.contains_key(&stored.template.identity));
                self.templates.extend(moved.map(|stored| (stored.template.position, stored)));
            }
            (EntryKind::Forget | EntryKind::Expire, Some(template)) => {
                self.templates.retain(|_, stored| stored.template.id != template);
            }
            (EntryKind::Forget | EntryKind::Expire, None) => {
                self.identities.remove(&entry.identity);
                self.templates.retain(|_, stored| stored.template.identity != entry.identity);
            }
        }
    }

    async fn of_tables(store: &Arc<dyn Store>, uid: CollectionUid) -> Self {
        let identities = store.in_collection(uid).identities(None, 1000).await.expect("a page");
        let templates = store.in_collection(uid).stored_templates(Position::START, 1000).await.expect("a page");
        Self {
            identities: identities.into_iter().map(|identity| (identity.id.clone(), identity)).collect(),
            templates: templates.into_iter().map(|stored| (stored.template.position, stored)).collect(),
        }
    }

    /// Reads the log in small pages, as a follower that comes late.
    async fn of_log(store: &Arc<dyn Store>, uid: CollectionUid) -> Self {
        let mut fold = Self::default();
        let mut position = Position::START;
        loop {
            let page = store.in_collection(uid).entries_after(position, 5).await.expect("entries");
            let Some(last) = page.last() else { return fold };
            position = last.position;
            for entry in page {
                fold.apply(entry);
            }
        }
    }
}

async fn log_leads_to_the_tables(turns: Vec<Vec<ProposedChange>>) {
    let url = "sqlite::memory:".to_owned();
    let options =
        StoreOptions { connections_max: 1, acquire_timeout: Duration::from_secs(30), ..StoreOptions::new(url) };
    let store = connect(&options).await.expect("connected");
    store.migrate().await.expect("migrated");
    let uid = created(&store).await;

    let mut generator = ChangeGenerator::default();
    let mut live = Fold::default();
    for proposals in turns {
        let changes: Vec<Change> = proposals.iter().filter_map(|proposal| generator.change(proposal)).collect();
        let mut turn = store.take_turn(uid).await.expect("the turn");
        let entries = turn.append(&changes, at(5)).await.expect("appended");
        turn.commit().await.expect("committed");
        for entry in entries {
            live.apply(entry);
        }
    }
    let tables = Fold::of_tables(&store, uid).await;
    assert_eq!(live, tables, "a follower that was there all along");
    assert_eq!(Fold::of_log(&store, uid).await, tables, "a follower that comes late");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn applying_the_log_gives_what_the_tables_hold(turns in prop::collection::vec(prop::collection::vec(proposal(), 0..8), 1..8)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(log_leads_to_the_tables(turns));
    }
}

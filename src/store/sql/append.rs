//! Appending to a collection's log: changes become rows, as few statements as their order allows, and entries.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Transaction, identities, log, templates};
use crate::{
    Result, StoreError,
    rows::{LogEntry, kept},
};
use domain::{Change, CollectionUid, Entry, EntryKind, Identity, IdentityId, Position, StoredTemplate, Timestamp};

/// Applies changes in order behind `head` and answers their entries as a follower would read them.
pub(super) async fn append(
    transaction: &mut Transaction,
    uid: CollectionUid,
    changes: &[Change],
    (head, now): (Position, Timestamp),
) -> Result<Vec<Entry>> {
    let mut noted = Noted { entries: Vec::with_capacity(changes.len()), head, now };
    let mut rest = changes;
    while !rest.is_empty() {
        let (together, after) = rest.split_at(additions(rest));
        add(transaction, uid, together, &mut noted).await?;
        rest = after;
        if let Some((removal, after)) = rest.split_first().filter(|(change, _)| !is_addition(change)) {
            remove(transaction, uid, removal, &mut noted).await?;
            rest = after;
        }
    }
    log::append(transaction, uid, &noted.entries).await?;
    if changes.iter().all(is_addition) {
        return Ok(entries(noted.entries, changes));
    }
    // Read back: a later change of these may have removed the subject of an earlier.
    log::entries_after(transaction, uid, head, u32::MAX).await
}

/// What is to stand in the log.
struct Noted {
    entries: Vec<LogEntry>,
    head: Position,
    now: Timestamp,
}

impl Noted {
    fn note(&mut self, kind: EntryKind, identity: &IdentityId, change: &Change) -> Position {
        let template = match change {
            Change::Admit(stored) => Some(stored.template.id),
            Change::ForgetTemplate { template, .. } => Some(*template),
            Change::PutIdentity(_) | Change::ForgetIdentity(_) | Change::ExpireIdentity(_) => None,
        };
        self.head = self.head.next();
        let (position, identity, time) = (self.head, identity.clone(), self.now);
        self.entries.push(LogEntry { position, kind, identity, template, time });
        position
    }
}

fn is_addition(change: &Change) -> bool {
    match change {
        Change::PutIdentity(_) | Change::Admit(_) => true,
        Change::ForgetTemplate { .. } | Change::ForgetIdentity(_) | Change::ExpireIdentity(_) => false,
    }
}

/// How many changes at the start come out the same when all identities are put before any template is admitted.
fn additions(changes: &[Change]) -> usize {
    let mut admitted_to = HashSet::new();
    for (at, change) in changes.iter().enumerate() {
        match change {
            // Whom a template was admitted to must have been there already.
            Change::PutIdentity(identity) if admitted_to.contains(&identity.id) => return at,
            Change::PutIdentity(_) => {}
            Change::Admit(stored) => {
                admitted_to.insert(&stored.template.identity);
            }
            Change::ForgetTemplate { .. } | Change::ForgetIdentity(_) | Change::ExpireIdentity(_) => return at,
        }
    }
    changes.len()
}

async fn add(transaction: &mut Transaction, uid: CollectionUid, changes: &[Change], noted: &mut Noted) -> Result<()> {
    // The last of each: one statement cannot write a row twice.
    let mut put: BTreeMap<&IdentityId, &Identity> = BTreeMap::new();
    let mut admitted: Vec<(&StoredTemplate, Position)> = Vec::new();
    for change in changes {
        match change {
            Change::PutIdentity(identity) => {
                noted.note(EntryKind::Label, &identity.id, change);
                put.insert(&identity.id, identity);
            }
            Change::Admit(stored) => {
                let position = noted.note(EntryKind::Admit, &stored.template.identity, change);
                admitted.push((stored, position));
            }
            Change::ForgetTemplate { .. } | Change::ForgetIdentity(_) | Change::ExpireIdentity(_) => {}
        }
    }
    let put: Vec<&Identity> = put.into_values().collect();
    identities::put(transaction, uid, &put).await?;
    templates::admit(transaction, uid, &admitted).await
}

async fn remove(transaction: &mut Transaction, uid: CollectionUid, change: &Change, noted: &mut Noted) -> Result<()> {
    let (kind, identity) = match change {
        Change::ForgetTemplate { identity, template } => {
            if templates::delete(transaction, uid, identity, *template).await? {
                noted.note(EntryKind::Forget, identity, change);
            } else {
                identities::by_id(transaction, uid, identity).await?.ok_or(StoreError::IdentityGone)?;
            }
            return Ok(());
        }
        Change::ForgetIdentity(identity) => (EntryKind::Forget, identity),
        Change::ExpireIdentity(identity) => (EntryKind::Expire, identity),
        Change::PutIdentity(_) | Change::Admit(_) => return Ok(()),
    };
    if !identities::delete(transaction, uid, identity).await? {
        return Err(StoreError::IdentityGone);
    }
    noted.note(kind, identity, change);
    Ok(())
}

/// The entries of changes that removed nobody, put together here instead of read back: each with its subject as it is
/// after all of them.
fn entries(noted: Vec<LogEntry>, changes: &[Change]) -> Vec<Entry> {
    let mut labelled: HashMap<&IdentityId, Identity> = HashMap::new();
    for change in changes {
        if let Change::PutIdentity(identity) = change {
            let expire_time = identity.expire_time.map(kept);
            let (create_time, update_time) = (kept(identity.create_time), kept(identity.update_time));
            labelled.insert(&identity.id, Identity { expire_time, create_time, update_time, ..identity.clone() });
        }
    }
    let entry = |(noted, change): (LogEntry, &Change)| {
        let LogEntry { position, kind, identity, template, time } = noted;
        let admitted = if let Change::Admit(stored) = change {
            let mut stored = stored.clone();
            stored.template.position = position;
            stored.template.create_time = kept(stored.template.create_time);
            Some(stored)
        } else {
            None
        };
        let labelled = (kind == EntryKind::Label).then(|| labelled.get(&identity).cloned()).flatten();
        Entry { position, kind, identity, template, time: kept(time), admitted, labelled }
    };
    noted.into_iter().zip(changes).map(entry).collect()
}

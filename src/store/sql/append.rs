//! Appends to a collection's log: changes become rows, in as few statements as their order allows, and entries.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{DbConnection, identities, log, regroupings, templates};
use crate::{
    Result, StoreError,
    rows::{LogEntry, to_micros},
};
use domain::{Change, CollectionUid, Entry, EntryKind, Identity, IdentityId, Position, StoredTemplate, Timestamp};

/// Where an append begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogTail {
    /// The position of the last entry.
    pub(super) head: Position,
    /// The time of the new entries.
    pub(super) now: Timestamp,
}

/// Applies changes in order and returns their entries as a follower would read them.
pub(super) async fn append(
    connection: &mut DbConnection,
    uid: CollectionUid,
    changes: &[Change],
    LogTail { head, now }: LogTail,
) -> Result<Vec<Entry>> {
    let mut pending = PendingEntries { entries: Vec::with_capacity(changes.len()), head, now };
    let mut rest = changes;
    while !rest.is_empty() {
        let (batch, after) = rest.split_at(additions(rest));
        add(connection, uid, batch, &mut pending).await?;
        rest = after;
        if let Some((other, after)) = rest.split_first().filter(|(change, _)| !is_addition(change)) {
            move_or_remove(connection, uid, other, &mut pending).await?;
            rest = after;
        }
    }
    log::append(connection, uid, &pending.entries).await?;
    if changes.iter().all(is_addition) {
        return Ok(entries(pending.entries, changes));
    }
    // Read back: a later change may have removed the subject of an earlier one.
    log::entries_after(connection, uid, head, u32::MAX).await
}

/// The log entries to write.
struct PendingEntries {
    entries: Vec<LogEntry>,
    head: Position,
    now: Timestamp,
}

impl PendingEntries {
    fn push(&mut self, kind: EntryKind, identity: &IdentityId, change: &Change) -> Position {
        let template = match change {
            Change::Admit(stored) => Some(stored.template.id),
            Change::MoveTemplate { template, .. } | Change::ForgetTemplate { template, .. } => Some(*template),
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
        Change::MoveTemplate { .. }
        | Change::ForgetTemplate { .. }
        | Change::ForgetIdentity(_)
        | Change::ExpireIdentity(_) => false,
    }
}

/// How many changes at the start have the same result if all identities are put before any template is admitted.
fn additions(changes: &[Change]) -> usize {
    let mut admitted_to = HashSet::new();
    for (at, change) in changes.iter().enumerate() {
        match change {
            // An identity must exist before a template is admitted to it.
            Change::PutIdentity(identity) if admitted_to.contains(&identity.id) => return at,
            Change::PutIdentity(_) => {}
            Change::Admit(stored) => {
                admitted_to.insert(&stored.template.identity);
            }
            Change::MoveTemplate { .. }
            | Change::ForgetTemplate { .. }
            | Change::ForgetIdentity(_)
            | Change::ExpireIdentity(_) => return at,
        }
    }
    changes.len()
}

async fn add(
    connection: &mut DbConnection,
    uid: CollectionUid,
    changes: &[Change],
    pending: &mut PendingEntries,
) -> Result<()> {
    // The last record of each identity: one statement cannot write a row twice.
    let mut put: BTreeMap<&IdentityId, &Identity> = BTreeMap::new();
    let mut admitted: Vec<(&StoredTemplate, Position)> = Vec::new();
    for change in changes {
        match change {
            Change::PutIdentity(identity) => {
                pending.push(EntryKind::Label, &identity.id, change);
                put.insert(&identity.id, identity);
            }
            Change::Admit(stored) => {
                let position = pending.push(EntryKind::Admit, &stored.template.identity, change);
                admitted.push((stored, position));
            }
            Change::MoveTemplate { .. }
            | Change::ForgetTemplate { .. }
            | Change::ForgetIdentity(_)
            | Change::ExpireIdentity(_) => {}
        }
    }
    let put: Vec<&Identity> = put.into_values().collect();
    identities::put(connection, uid, &put).await?;
    templates::admit(connection, uid, &admitted).await
}

async fn move_or_remove(
    connection: &mut DbConnection,
    uid: CollectionUid,
    change: &Change,
    pending: &mut PendingEntries,
) -> Result<()> {
    let (kind, identity) = match change {
        Change::MoveTemplate { template, from, to } => {
            templates::change_owner(connection, uid, *template, [from, to]).await?;
            pending.push(EntryKind::Move, to, change);
            return Ok(());
        }
        Change::ForgetTemplate { identity, template } => {
            let moving = regroupings::moving(connection, uid, identity, Some(*template)).await?;
            if templates::delete(connection, uid, identity, *template).await? {
                regroupings::erase_records_without_templates(connection, &moving).await?;
                pending.push(EntryKind::Forget, identity, change);
            } else {
                identities::by_id(connection, uid, identity).await?.ok_or(StoreError::IdentityGone)?;
            }
            return Ok(());
        }
        Change::ForgetIdentity(identity) => (EntryKind::Forget, identity),
        Change::ExpireIdentity(identity) => (EntryKind::Expire, identity),
        Change::PutIdentity(_) | Change::Admit(_) => return Ok(()),
    };
    let moving = regroupings::moving(connection, uid, identity, None).await?;
    if !identities::delete(connection, uid, identity).await? {
        return Err(StoreError::IdentityGone);
    }
    regroupings::erase_records_without_templates(connection, &moving).await?;
    pending.push(kind, identity, change);
    Ok(())
}

/// The entries of additions alone, composed here instead of read back: each with its subject as it is after
/// all changes.
fn entries(pending: Vec<LogEntry>, changes: &[Change]) -> Vec<Entry> {
    let mut labelled: HashMap<&IdentityId, Identity> = HashMap::new();
    for change in changes {
        if let Change::PutIdentity(identity) = change {
            let expire_time = identity.expire_time.map(to_micros);
            let (create_time, update_time) = (to_micros(identity.create_time), to_micros(identity.update_time));
            labelled.insert(&identity.id, Identity { expire_time, create_time, update_time, ..identity.clone() });
        }
    }
    let entry = |(entry, change): (LogEntry, &Change)| {
        let LogEntry { position, kind, identity, template, time } = entry;
        let admitted = if let Change::Admit(stored) = change {
            let mut stored = stored.clone();
            stored.template.position = position;
            stored.template.create_time = to_micros(stored.template.create_time);
            Some(stored)
        } else {
            None
        };
        let labelled = (kind == EntryKind::Label).then(|| labelled.get(&identity).cloned()).flatten();
        Entry { position, kind, identity, template, time: to_micros(time), admitted, labelled, moved: None }
    };
    pending.into_iter().zip(changes).map(entry).collect()
}

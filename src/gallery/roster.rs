//! The identities of a collection, each with a small number (slot) that rows store instead of the id.

use std::{collections::HashMap, sync::Arc};

use serde::{Deserialize, Serialize};

use domain::{Identity, IdentityId, Labels, Timestamp};

/// Number of an enrolled identity. It is reused after the identity is deleted; no row carries it then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot(pub(crate) u32);

/// The part of an identity that searches need.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RosterEntry {
    pub(crate) id: IdentityId,
    pub(crate) labels: Labels,
    pub(crate) expire_time: Option<Timestamp>,
    pub(crate) provisional: bool,
}

/// The identity of each slot; `None` for a free slot.
pub(crate) type RosterEntries = Vec<Option<Arc<RosterEntry>>>;

/// The enrolled identities of a collection.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    entries: RosterEntries,
    slots: HashMap<IdentityId, Slot>,
    free: Vec<Slot>,
    /// Number of provisional identities.
    provisional: usize,
}

impl Roster {
    /// Each entry keeps its index as its slot.
    pub(crate) fn of(entries: RosterEntries) -> Self {
        let mut roster = Self::default();
        for (slot, entry) in (0..).map(Slot).zip(entries) {
            match &entry {
                Some(entry) => {
                    roster.slots.insert(entry.id.clone(), slot);
                    roster.provisional += usize::from(entry.provisional);
                }
                None => roster.free.push(slot),
            }
            roster.entries.push(entry);
        }
        roster
    }

    /// A copy of the entries in slot order.
    pub(crate) fn shared(&self) -> RosterEntries {
        self.entries.clone()
    }

    /// The entries in slot order, `None` for free slots.
    pub(crate) fn entries(&self) -> impl ExactSizeIterator<Item = Option<&RosterEntry>> {
        self.entries.iter().map(Option::as_deref)
    }

    /// Number of identities, provisional ones included.
    pub(crate) fn all(&self) -> usize {
        self.slots.len()
    }

    /// Number of identities that are not provisional.
    pub(crate) fn enrolled(&self) -> usize {
        self.slots.len() - self.provisional
    }

    /// Number of provisional identities.
    pub(crate) fn provisional(&self) -> usize {
        self.provisional
    }

    pub(crate) fn is_provisional(&self, slot: Slot) -> bool {
        self.entry(slot).is_some_and(|entry| entry.provisional)
    }

    /// Estimated memory in bytes. Each identity counts with the same label size, because reading all labels would take
    /// too long for this figure.
    pub(crate) fn bytes(&self) -> usize {
        const ID_AND_LABELS: usize = 128;
        self.slots.capacity() * (size_of::<(IdentityId, Slot)>() + 1)
            + self.entries.capacity() * size_of::<Option<Arc<RosterEntry>>>()
            + self.slots.len() * (size_of::<RosterEntry>() + ID_AND_LABELS)
    }

    pub(crate) fn slot(&self, id: &IdentityId) -> Option<Slot> {
        self.slots.get(id).copied()
    }

    pub(crate) fn entry(&self, slot: Slot) -> Option<&RosterEntry> {
        self.entries.get(slot.0 as usize)?.as_deref()
    }

    /// Adds an identity or replaces what searches need of it. Returns its slot.
    pub(crate) fn put(&mut self, identity: &Identity) -> Slot {
        let slot = self.slot(&identity.id).unwrap_or_else(|| self.take_slot(&identity.id));
        let entry = Arc::new(RosterEntry {
            id: identity.id.clone(),
            labels: identity.labels.clone(),
            expire_time: identity.expire_time,
            provisional: identity.provisional,
        });
        self.provisional += usize::from(entry.provisional);
        let former = self.entries[slot.0 as usize].replace(entry);
        self.provisional -= usize::from(former.is_some_and(|former| former.provisional));
        slot
    }

    /// Frees the slot of an identity. The caller removes its rows.
    pub(crate) fn forget(&mut self, id: &IdentityId) -> Option<Slot> {
        let slot = self.slots.remove(id)?;
        let former = self.entries[slot.0 as usize].take();
        self.provisional -= usize::from(former.is_some_and(|former| former.provisional));
        self.free.push(slot);
        Some(slot)
    }

    fn take_slot(&mut self, id: &IdentityId) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            Slot(u32::try_from(self.entries.len() - 1).expect("memory ends long before 2^32 identities"))
        });
        self.slots.insert(id.clone(), slot);
        slot
    }
}

//! The identities of a collection, each under a small number that rows can carry.

use std::{collections::HashMap, sync::Arc};

use serde::{Deserialize, Serialize};

use domain::{Identity, IdentityId, Labels, Timestamp};

/// An identity's number while it is enrolled. Given to another identity once it is forgotten, and by then no row
/// carries it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot(pub(crate) u32);

/// What searches need to know of an identity.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Occupant {
    pub(crate) id: IdentityId,
    pub(crate) labels: Labels,
    pub(crate) expire_time: Option<Timestamp>,
}

/// Who has each slot; nobody has a free one.
pub(crate) type Occupants = Vec<Option<Arc<Occupant>>>;

/// Who is enrolled.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    occupants: Occupants,
    slots: HashMap<IdentityId, Slot>,
    free: Vec<Slot>,
}

impl Roster {
    /// Everybody at the slot that they have in the list.
    pub(crate) fn of(occupants: Occupants) -> Self {
        let mut roster = Self::default();
        for (slot, occupant) in (0..).map(Slot).zip(occupants) {
            match &occupant {
                Some(occupant) => drop(roster.slots.insert(occupant.id.clone(), slot)),
                None => roster.free.push(slot),
            }
            roster.occupants.push(occupant);
        }
        roster
    }

    /// Everybody, slot after slot, as it is now.
    pub(crate) fn shared(&self) -> Occupants {
        self.occupants.clone()
    }

    /// Slot after slot, the free ones too.
    pub(crate) fn occupants(&self) -> impl ExactSizeIterator<Item = Option<&Occupant>> {
        self.occupants.iter().map(Option::as_deref)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// About how many bytes it takes. Labels are counted as if each had some: reading all of them would take longer than
    /// the number is worth.
    pub(crate) fn bytes(&self) -> usize {
        const ID_AND_LABELS: usize = 128;
        self.slots.capacity() * (size_of::<(IdentityId, Slot)>() + 1)
            + self.occupants.capacity() * size_of::<Option<Arc<Occupant>>>()
            + self.slots.len() * (size_of::<Occupant>() + ID_AND_LABELS)
    }

    pub(crate) fn slot(&self, id: &IdentityId) -> Option<Slot> {
        self.slots.get(id).copied()
    }

    pub(crate) fn occupant(&self, slot: Slot) -> Option<&Occupant> {
        self.occupants.get(slot.0 as usize)?.as_deref()
    }

    /// Enrolls the identity or replaces what is known of it.
    pub(crate) fn put(&mut self, identity: &Identity) {
        let slot = self.slot(&identity.id).unwrap_or_else(|| self.take_slot(&identity.id));
        self.occupants[slot.0 as usize] = Some(Arc::new(Occupant {
            id: identity.id.clone(),
            labels: identity.labels.clone(),
            expire_time: identity.expire_time,
        }));
    }

    /// Frees the identity's slot; the caller removes its rows.
    pub(crate) fn forget(&mut self, id: &IdentityId) -> Option<Slot> {
        let slot = self.slots.remove(id)?;
        self.occupants[slot.0 as usize] = None;
        self.free.push(slot);
        Some(slot)
    }

    fn take_slot(&mut self, id: &IdentityId) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.occupants.push(None);
            Slot(u32::try_from(self.occupants.len() - 1).expect("memory ends long before 2^32 identities"))
        });
        self.slots.insert(id.clone(), slot);
        slot
    }
}

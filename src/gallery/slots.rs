//! The identities of a collection, each under a small number that rows can carry.

use std::{collections::HashMap, sync::Arc};

use serde::{Deserialize, Serialize};

use domain::{Filter, Identity, IdentityId, Labels, Timestamp};

/// An identity's number while it is enrolled. Given to another identity once it is forgotten, and by then no row
/// carries it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot(pub(super) u32);

/// What searches need to know of an identity.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Occupant {
    pub(super) id: IdentityId,
    pub(super) labels: Labels,
    pub(super) expire_time: Option<Timestamp>,
}

/// Who has each slot; nobody has a free one.
pub(super) type Occupants = Vec<Option<Arc<Occupant>>>;

/// Who is enrolled.
#[derive(Debug, Default)]
pub(super) struct Roster {
    occupants: Occupants,
    slots: HashMap<IdentityId, Slot>,
    free: Vec<Slot>,
}

impl Roster {
    /// Everybody at the slot that they have in the list.
    pub(super) fn of(occupants: Occupants) -> Self {
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
    pub(super) fn shared(&self) -> Occupants {
        self.occupants.clone()
    }

    /// Slot after slot, the free ones too.
    pub(super) fn occupants(&self) -> impl ExactSizeIterator<Item = Option<&Occupant>> {
        self.occupants.iter().map(Option::as_deref)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// About how many bytes it takes. Labels are counted as if each had some: reading all of them would take longer than
    /// the number is worth.
    pub(super) fn bytes(&self) -> usize {
        const ID_AND_LABELS: usize = 128;
        self.slots.capacity() * (size_of::<(IdentityId, Slot)>() + 1)
            + self.occupants.capacity() * size_of::<Option<Arc<Occupant>>>()
            + self.slots.len() * (size_of::<Occupant>() + ID_AND_LABELS)
    }

    pub(super) fn slot(&self, id: &IdentityId) -> Option<Slot> {
        self.slots.get(id).copied()
    }

    pub(super) fn occupant(&self, slot: Slot) -> Option<&Occupant> {
        self.occupants.get(slot.0 as usize)?.as_deref()
    }

    /// Enrolls the identity or replaces what is known of it.
    pub(super) fn put(&mut self, identity: &Identity) {
        let slot = self.slot(&identity.id).unwrap_or_else(|| self.take_slot(&identity.id));
        self.occupants[slot.0 as usize] = Some(Arc::new(Occupant {
            id: identity.id.clone(),
            labels: identity.labels.clone(),
            expire_time: identity.expire_time,
        }));
    }

    /// Frees the identity's slot; the caller removes its rows.
    pub(super) fn forget(&mut self, id: &IdentityId) -> Option<Slot> {
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

/// Below this share of admitted identities a scan asks before it computes.
const SELECTIVE_SHARE: f64 = 0.25;

/// Which identities a query wants: those that its filter accepts and whose time has not come.
#[derive(Debug)]
pub(super) struct Sieve<'r> {
    roster: &'r Roster,
    now: Timestamp,
    /// With a filter: one answer a slot. Labels are read once an identity, not once a template.
    accepted: Option<Vec<bool>>,
    /// The share of identities that pass.
    share: f64,
}

impl<'r> Sieve<'r> {
    pub(super) fn new(roster: &'r Roster, filter: Option<&Filter>, now: Timestamp) -> Self {
        let mut sieve = Self { roster, now, accepted: None, share: 1.0 };
        if let Some(filter) = filter {
            let accepts = |o: Option<&Occupant>| o.is_some_and(|o| is_current(o, now) && filter.accepts(&o.labels));
            let accepted: Vec<bool> = roster.occupants().map(accepts).collect();
            sieve.share = accepted.iter().filter(|a| **a).count() as f64 / roster.len().max(1) as f64;
            sieve.accepted = Some(accepted);
        }
        sieve
    }

    pub(super) fn admits(&self, slot: Slot) -> bool {
        match &self.accepted {
            Some(accepted) => accepted[slot.0 as usize],
            None => self.roster.occupant(slot).is_some_and(|o| is_current(o, self.now)),
        }
    }

    /// One more than the highest slot that anybody has.
    pub(super) fn slots(&self) -> usize {
        self.roster.occupants.len()
    }

    pub(super) fn share(&self) -> f64 {
        self.share
    }

    pub(super) fn is_selective(&self) -> bool {
        self.share < SELECTIVE_SHARE
    }
}

fn is_current(occupant: &Occupant, now: Timestamp) -> bool {
    occupant.expire_time.is_none_or(|at| at > now)
}

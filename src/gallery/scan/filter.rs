//! Which identities a query wants.

use crate::roster::{Occupant, Roster, Slot};
use domain::{Filter, Timestamp};

/// Below this share of admitted identities a scan asks before it computes.
const SELECTIVE_SHARE: f64 = 0.25;

/// Which identities a query wants: those that its filter accepts and whose time has not come.
#[derive(Debug)]
pub(crate) struct Sieve<'r> {
    roster: &'r Roster,
    now: Timestamp,
    /// With a filter: one answer a slot. Labels are read once an identity, not once a template.
    accepted: Option<Vec<bool>>,
    /// The share of identities that pass.
    share: f64,
}

impl<'r> Sieve<'r> {
    pub(crate) fn new(roster: &'r Roster, filter: Option<&Filter>, now: Timestamp) -> Self {
        let mut sieve = Self { roster, now, accepted: None, share: 1.0 };
        if let Some(filter) = filter {
            let accepts = |o: Option<&Occupant>| o.is_some_and(|o| is_current(o, now) && filter.accepts(&o.labels));
            let accepted: Vec<bool> = roster.occupants().map(accepts).collect();
            sieve.share = accepted.iter().filter(|a| **a).count() as f64 / roster.len().max(1) as f64;
            sieve.accepted = Some(accepted);
        }
        sieve
    }

    pub(crate) fn admits(&self, slot: Slot) -> bool {
        match &self.accepted {
            Some(accepted) => accepted[slot.0 as usize],
            None => self.roster.occupant(slot).is_some_and(|o| is_current(o, self.now)),
        }
    }

    /// One more than the highest slot that anybody has.
    pub(crate) fn slots(&self) -> usize {
        self.roster.occupants().len()
    }

    pub(crate) fn share(&self) -> f64 {
        self.share
    }

    pub(crate) fn is_selective(&self) -> bool {
        self.share < SELECTIVE_SHARE
    }
}

fn is_current(occupant: &Occupant, now: Timestamp) -> bool {
    occupant.expire_time.is_none_or(|at| at > now)
}

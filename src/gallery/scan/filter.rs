//! Filter of a query: which identities may appear in the answer.

use crate::roster::{Roster, RosterEntry, Slot};
use domain::{Filter, Timestamp};

/// When fewer identities pass, a scan filters each row before it computes a similarity.
const SELECTIVE_SHARE: f64 = 0.25;

/// Passes identities that match the query's label filter and have not expired.
#[derive(Debug)]
pub(crate) struct CandidateFilter<'r> {
    roster: &'r Roster,
    now: Timestamp,
    /// Result of the label filter per slot, `None` without a filter. Labels are read once per identity, not once per
    /// template.
    accepted: Option<Vec<bool>>,
    /// Share of identities that pass, 0 to 1.
    share: f64,
}

impl<'r> CandidateFilter<'r> {
    pub(crate) fn new(roster: &'r Roster, filter: Option<&Filter>, now: Timestamp) -> Self {
        let mut candidate_filter = Self { roster, now, accepted: None, share: 1.0 };
        if let Some(filter) = filter {
            let accepts = |o: Option<&RosterEntry>| o.is_some_and(|o| is_current(o, now) && filter.accepts(&o.labels));
            let accepted: Vec<bool> = roster.entries().map(accepts).collect();
            candidate_filter.share = accepted.iter().filter(|a| **a).count() as f64 / roster.all().max(1) as f64;
            candidate_filter.accepted = Some(accepted);
        }
        candidate_filter
    }

    pub(crate) fn admits(&self, slot: Slot) -> bool {
        match &self.accepted {
            Some(accepted) => accepted[slot.0 as usize],
            None => self.roster.entry(slot).is_some_and(|o| is_current(o, self.now)),
        }
    }

    /// One more than the highest slot.
    pub(crate) fn slots(&self) -> usize {
        self.roster.entries().len()
    }

    pub(crate) fn share(&self) -> f64 {
        self.share
    }

    pub(crate) fn is_selective(&self) -> bool {
        self.share < SELECTIVE_SHARE
    }
}

fn is_current(entry: &RosterEntry, now: Timestamp) -> bool {
    entry.expire_time.is_none_or(|at| at > now)
}

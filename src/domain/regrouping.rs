//! Regroupings: merges and splits of identities. Each keeps its lineage, so that it can be reverted.

use serde::{Deserialize, Serialize};

use super::{Identity, IdentityId, Labels, Position, RegroupingId, ReviewCaseId, TemplateId, Timestamp};

/// Maximum number of identities that one merge moves into its target.
pub const MERGE_SOURCES_MAX: usize = 100;

/// A merge or a split of identities.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Regrouping {
    pub id: RegroupingId,
    pub kind: RegroupingKind,
    /// The identity that keeps its id: the target of a merge, or the identity that was split.
    pub identity: IdentityId,
    /// The identity whose deletion deletes this record: `identity`, or the one that it was merged into since.
    pub holder: IdentityId,
    /// The head of the log before the regrouping. Later regroupings have higher positions.
    pub position: Position,
    pub time: Timestamp,
    pub state: RegroupingState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegroupingKind {
    /// The templates of other identities moved to one, and the others were removed.
    Merge,
    /// Some templates of an identity moved to a new one.
    Split,
}

impl RegroupingKind {
    pub const ALL: [Self; 2] = [Self::Merge, Self::Split];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Merge => "merge",
            Self::Split => "split",
        }
    }
}

/// Whether a regrouping is in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegroupingState {
    InForce(Box<Lineage>),
    /// Reverted at this time. The lineage is gone.
    Reverted(Timestamp),
}

/// What a revert needs. Erasures remove parts of it: a template removes its move, and the last template of an
/// [`OtherIdentity`] removes the record of that identity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lineage {
    /// The record of [`Regrouping::identity`] before the regrouping.
    pub before: Identity,
    /// The same as the regrouping left it.
    pub after: Identity,
    /// The identities on the other side that are not erased, in the order of the request.
    pub others: Vec<OtherIdentity>,
    /// How many there were.
    pub others_then: u64,
    /// The moves of templates that are not erased.
    pub moves: Vec<TemplateMove>,
}

/// A source of a merge, or the identity that a split made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OtherIdentity {
    /// The record of a source as it was; of a new identity as the split made it.
    pub record: Identity,
    /// How many templates moved from it or to it.
    pub templates: u64,
    /// What a merge handed over to its target.
    pub handed_over: HandedOver,
}

/// Records that belonged to an identity and went to the one that it was merged into.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedOver {
    /// Earlier regroupings that it held.
    pub regroupings: Vec<RegroupingId>,
    /// Review cases whose verdict named it.
    pub cases: Vec<ReviewCaseId>,
    /// Dismissed pairs of duplicates that it was in.
    #[serde(default)]
    pub dismissed: Vec<DismissedWith>,
}

/// A dismissed pair, by the identity beside the one that was merged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DismissedWith {
    pub identity: IdentityId,
    /// The merge dismissed the target beside that identity too, and a revert takes that back.
    pub added: bool,
}

/// The move of a template from one identity to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateMove {
    pub template: TemplateId,
    pub from: IdentityId,
    pub to: IdentityId,
}

impl Lineage {
    /// The record of the identity once the regrouping is undone, from its present record. Without a change since, it is
    /// the record of before. Otherwise later changes stay: only labels that the regrouping added, and that nobody changed
    /// since, go. The revision always rises, so that no etag stands for two records.
    #[must_use]
    pub fn undone(&self, present: &Identity, now: Timestamp) -> Identity {
        let content = |one: &Identity| (one.labels.clone(), one.expire_time, one.update_time);
        let undone = if content(present) == content(&self.after) {
            Identity { revision: present.revision, ..self.before.clone() }
        } else {
            let added = |key: &str, value: &str| {
                self.before.labels.get(key).is_none() && self.after.labels.get(key) == Some(value)
            };
            let labels = present.labels.without(added);
            let update_time = if labels == present.labels { present.update_time } else { now };
            Identity { labels, update_time, ..present.clone() }
        };
        if content(&undone) == content(present) {
            return present.clone();
        }
        Identity { revision: present.revision.next(), ..undone }
    }

    /// How many templates of another identity moved and are erased since.
    #[must_use]
    pub fn erased_of(&self, other: &OtherIdentity) -> u64 {
        let left = self.moves.iter().filter(|one| one.from == other.record.id || one.to == other.record.id).count();
        other.templates.saturating_sub(left as u64)
    }
}

impl Labels {
    /// These labels without those that `drops` names by key and value.
    #[must_use]
    fn without(&self, drops: impl Fn(&str, &str) -> bool) -> Self {
        let kept = std::collections::BTreeMap::from(self.clone()).into_iter().filter(|(key, value)| !drops(key, value));
        Self::try_from(kept.collect::<std::collections::BTreeMap<_, _>>()).expect("a part of valid labels is valid")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::Revision;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let pairs: BTreeMap<String, String> =
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Labels::try_from(pairs).expect("valid")
    }

    fn record(pairs: &[(&str, &str)], revision: u64, second: i64) -> Identity {
        let time = Timestamp::from_second(second).expect("within the calendar");
        Identity {
            id: IdentityId::new("ann").expect("valid"),
            labels: labels(pairs),
            expire_time: None,
            provisional: false,
            revision: Revision(revision),
            create_time: Timestamp::UNIX_EPOCH,
            update_time: time,
        }
    }

    fn lineage() -> Lineage {
        let (before, after) = (record(&[("a", "1")], 3, 10), record(&[("a", "1"), ("b", "2")], 4, 20));
        Lineage { before, after, others: Vec::new(), others_then: 0, moves: Vec::new() }
    }

    #[test]
    fn an_unchanged_record_is_restored_with_a_new_revision() {
        let now = Timestamp::from_second(30).expect("within the calendar");
        let lineage = lineage();
        assert_eq!(lineage.undone(&lineage.after, now), record(&[("a", "1")], 5, 10));
        let untouched = Lineage { after: lineage.before.clone(), ..lineage };
        assert_eq!(untouched.undone(&untouched.before, now), untouched.before, "nothing to write");
    }

    #[test]
    fn later_changes_stay_and_added_labels_go() {
        let now = Timestamp::from_second(30).expect("within the calendar");
        let present = record(&[("a", "9"), ("b", "2"), ("c", "3")], 7, 25);
        assert_eq!(lineage().undone(&present, now), record(&[("a", "9"), ("c", "3")], 8, 30));
        let own = record(&[("a", "1"), ("b", "7")], 7, 25);
        assert_eq!(lineage().undone(&own, now), own, "a label that was changed since stays");
    }
}

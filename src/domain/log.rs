//! The log of a collection: the changes of its identities and templates, in one order for all replicas.
//!
//! An entry names its subject and contains no labels and no embedding: those are in other tables, where an erasure
//! deletes them without changing positions. A late reader therefore sees the present state of the subject, or that it
//! no longer exists.

use serde::{Deserialize, Serialize};

use super::{Embedding, Identity, IdentityId, Template, TemplateId, Timestamp};

/// A position in a collection's log. The first entry has position 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub u64);

impl Position {
    /// The position before the first entry.
    pub const START: Self = Self(0);

    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A template with its embedding. Both have the same space.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredTemplate {
    pub template: Template,
    pub embedding: Embedding,
}

/// A change to append.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Creates the identity or replaces its record.
    PutIdentity(Identity),
    /// Adds a template to an identity that exists; the store fills in its position.
    Admit(StoredTemplate),
    /// Moves a template from one identity to another. Nothing else of the template changes.
    MoveTemplate { template: TemplateId, from: IdentityId, to: IdentityId },
    /// Removes a template and its embedding.
    ForgetTemplate { identity: IdentityId, template: TemplateId },
    /// Removes an identity, its templates and their embeddings.
    ForgetIdentity(IdentityId),
    /// The same, because the identity has expired.
    ExpireIdentity(IdentityId),
}

/// The kind of a log entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A template was added.
    Admit,
    /// A template, or an identity with its templates, was removed.
    Forget,
    /// An identity was created, or its record replaced.
    Label,
    /// An identity was removed because it had expired.
    Expire,
    /// A template moved to the identity of the entry.
    Move,
}

impl EntryKind {
    pub const ALL: [Self; 5] = [Self::Admit, Self::Forget, Self::Label, Self::Expire, Self::Move];

    /// The word in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Forget => "forget",
            Self::Label => "label",
            Self::Expire => "expire",
            Self::Move => "move",
        }
    }
}

/// A log entry with the present state of its subject, as a follower applies it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub position: Position,
    pub kind: EntryKind,
    pub identity: IdentityId,
    /// The template that was added, removed or moved; `None` if the entry concerns the whole identity.
    pub template: Option<TemplateId>,
    pub time: Timestamp,
    /// `Admit`: the template, unless a later entry removed it.
    pub admitted: Option<StoredTemplate>,
    /// `Label`: the present record of the identity, unless a later entry removed it.
    pub labelled: Option<Identity>,
    /// `Move`: the template with its present identity, unless a later entry removed it. With its embedding, because a
    /// follower that comes late may have dropped the template with its former identity.
    pub moved: Option<StoredTemplate>,
}

impl Entry {
    /// CRC-32 over position, kind, identity, template and time. It distinguishes entries of different logs at the same
    /// position.
    #[must_use]
    pub fn checksum(&self) -> u32 {
        let mut sum = crc32fast::Hasher::new();
        sum.update(&self.position.0.to_le_bytes());
        sum.update(self.kind.as_str().as_bytes());
        sum.update(self.identity.as_str().as_bytes());
        sum.update(self.template.map(|t| *t.0.as_bytes()).unwrap_or_default().as_slice());
        sum.update(&self.time.as_microsecond().to_le_bytes());
        sum.finalize()
    }
}

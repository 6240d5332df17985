//! The log of a collection: what happened to its identities and templates, in one order that every replica agrees on.
//!
//! An entry says what happened and to whom, and carries no labels and no numbers: those stand in side tables where an
//! erasure can delete them while positions stay. Who reads an entry late therefore sees the present state of its
//! subject, or that there is none any more.

use serde::{Deserialize, Serialize};

use super::{Embedding, Identity, IdentityId, Template, TemplateId, Timestamp};

/// A place in a collection's log. The first entry stands at 1; 0 is before all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub u64);

impl Position {
    pub const START: Self = Self(0);

    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A template with its numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredTemplate {
    pub template: Template,
    pub embedding: Embedding,
}

/// What a writer wants appended.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Creates the identity or replaces its record.
    PutIdentity(Identity),
    /// Adds a template to an identity that exists; the store fills in its position.
    Admit(StoredTemplate),
    /// Removes a template and its numbers.
    ForgetTemplate { identity: IdentityId, template: TemplateId },
    /// Removes an identity, its templates and their numbers.
    ForgetIdentity(IdentityId),
    /// The same, because its time had come.
    ExpireIdentity(IdentityId),
}

/// The word an entry has in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    Admit,
    Forget,
    Label,
    Expire,
}

impl EntryKind {
    pub const ALL: [Self; 4] = [Self::Admit, Self::Forget, Self::Label, Self::Expire];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Forget => "forget",
            Self::Label => "label",
            Self::Expire => "expire",
        }
    }
}

/// One entry as a follower applies it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub position: Position,
    pub kind: EntryKind,
    pub identity: IdentityId,
    /// The template that was admitted or forgotten; `None` when the entry is about the identity as a whole.
    pub template: Option<TemplateId>,
    pub time: Timestamp,
    /// `Admit`: the template, unless it was removed since.
    pub admitted: Option<StoredTemplate>,
    /// `Label`: the identity as it is now, unless it was removed since.
    pub labelled: Option<Identity>,
}

impl Entry {
    /// Tells entries of different logs apart that stand at the same position: a checksum over what happened, to whom
    /// and when.
    #[must_use]
    pub fn mark(&self) -> u32 {
        let mut sum = crc32fast::Hasher::new();
        sum.update(&self.position.0.to_le_bytes());
        sum.update(self.kind.as_str().as_bytes());
        sum.update(self.identity.as_str().as_bytes());
        sum.update(self.template.map(|t| *t.0.as_bytes()).unwrap_or_default().as_slice());
        sum.update(&self.time.as_microsecond().to_le_bytes());
        sum.finalize()
    }
}

//! Reads of the whole store: consistency checks, and all templates of a collection for export. Both may run beside a
//! server that writes; a check sees one snapshot.

use async_trait::async_trait;
use serde::Serialize;

use super::{Page, Result};
use domain::{CollectionUid, Identity, Position, StoredTemplate};

/// A template with its embedding, and the identity that owns it.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnedTemplate {
    pub stored: StoredTemplate,
    pub identity: Identity,
}

/// Consistency checks and exports.
#[async_trait]
pub trait Audit {
    /// Templates after a position with their embeddings and owners, in position order.
    async fn owned_templates(&self, uid: CollectionUid, after: Position, limit: u32) -> Result<Page<OwnedTemplate>>;

    /// Checks the store for inconsistencies. Calls `on_progress` from time to time with the number of templates
    /// checked.
    async fn audit(&self, on_progress: &(dyn Fn(u64) + Sync)) -> Result<Audited>;

    /// Restores derived values: head positions and missing checksums. Changes no identity or template, and deletes
    /// nothing.
    async fn repair(&self) -> Result<Repairs>;
}

/// The result of a check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Audited {
    pub collections: u64,
    pub identities: u64,
    pub templates: u64,
    /// Payloads written before payloads had checksums. They are not findings; [`Audit::repair`] adds the checksums.
    pub checksums_missing: u64,
    pub findings: Vec<Finding>,
}

/// How many values were restored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Repairs {
    pub head_positions: u64,
    pub checksums: u64,
}

/// An inconsistency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    pub kind: FindingKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collection: Option<String>,
    /// The id of the affected identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<i64>,
    /// What is wrong, in a sentence.
    pub detail: String,
}

/// The kinds of inconsistencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// The database's own check of its file failed.
    Database,
    UnreadableCollection,
    LogGap,
    HeadPosition,
    UnreadableIdentity,
    IdentityWithoutEntry,
    TemplateWithoutEntry,
    OtherOwner,
    MoveWithoutEntry,
    EntryWithoutTemplate,
    TemplateWithoutIdentity,
    TemplateWithoutPayload,
    PayloadWithoutTemplate,
    TemplateOfUnknownSpace,
    UnreadableTemplate,
    ChecksumMismatch,
}

impl FindingKind {
    pub const ALL: [Self; 16] = [
        Self::Database,
        Self::UnreadableCollection,
        Self::LogGap,
        Self::HeadPosition,
        Self::UnreadableIdentity,
        Self::IdentityWithoutEntry,
        Self::TemplateWithoutEntry,
        Self::OtherOwner,
        Self::MoveWithoutEntry,
        Self::EntryWithoutTemplate,
        Self::TemplateWithoutIdentity,
        Self::TemplateWithoutPayload,
        Self::PayloadWithoutTemplate,
        Self::TemplateOfUnknownSpace,
        Self::UnreadableTemplate,
        Self::ChecksumMismatch,
    ];

    /// Whether [`Audit::repair`] repairs it.
    #[must_use]
    pub fn is_derived(self) -> bool {
        self == Self::HeadPosition
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Database => "restore the database from a backup, or dump and load it with the database's own tools",
            Self::UnreadableCollection => {
                "copy the value from the row of another collection, or restore a backup: no server starts with it"
            }
            Self::LogGap => "log entries are lost: restore a backup, or export the collection and import it again",
            Self::HeadPosition => "semblance doctor --repair sets it to the last entry; restart the servers afterwards",
            Self::UnreadableIdentity => "delete the identity and enroll it again, or restore a backup",
            Self::IdentityWithoutEntry => "write its labels again with PATCH, which appends the entry",
            Self::TemplateWithoutEntry => {
                "replicas may not know it: delete the template over the API and enroll it again"
            }
            Self::OtherOwner => {
                "replicas that followed the log answer with another identity than the database: delete the template over \
                 the API and enroll it again"
            }
            Self::MoveWithoutEntry => {
                "its merge or split cannot be reverted for this template; if that is not needed, leave it"
            }
            Self::EntryWithoutTemplate => {
                "the template is lost: delete the identity over the API and enroll the person again, or restore a backup"
            }
            Self::TemplateWithoutIdentity | Self::PayloadWithoutTemplate => {
                "it belongs to no identity and no search finds it; delete the row in the database if you want it gone"
            }
            Self::TemplateWithoutPayload | Self::UnreadableTemplate | Self::ChecksumMismatch => {
                "its embedding is lost: delete the template over the API of a server that still runs, or, where none starts, \
                 DELETE FROM templates WHERE id = '{template}' (SQLite: id = x'{template}' without the hyphens); then \
                 enroll the person again"
            }
            Self::TemplateOfUnknownSpace => {
                "no search covers that space: declare the space again, or delete the template over the API"
            }
        }
    }
}

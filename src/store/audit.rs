//! A look at the store as a whole: its own account of itself checked against what is there, and all that a collection
//! holds in one walk, for export. Both may go on beside a server that writes: they see one moment.

use async_trait::async_trait;
use serde::Serialize;

use super::{Page, Result};
use domain::{CollectionUid, Identity, Position, StoredTemplate};

/// The part of the store's door for those who look at everything.
#[async_trait]
pub trait Audit {
    /// Templates with their numbers and whose they are, in position order, those after `after`.
    async fn owned_templates(
        &self,
        uid: CollectionUid,
        after: Position,
        limit: u32,
    ) -> Result<Page<(StoredTemplate, Identity)>>;

    /// Compares the store with itself. `watch` is told now and then how many templates were looked at.
    async fn audit(&self, watch: &(dyn Fn(u64) + Sync)) -> Result<Audited>;

    /// Makes anew what follows from the rest: head positions, checksums that are missing. Changes nothing that a person
    /// is, and removes nothing.
    async fn repair(&self) -> Result<Repairs>;
}

/// What a look at the store found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Audited {
    pub collections: u64,
    pub identities: u64,
    pub templates: u64,
    /// Payloads from before there were checksums. No fault, and [`Audit::repair`] fills them in.
    pub checksums_missing: u64,
    pub findings: Vec<Finding>,
}

/// What was made anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Repairs {
    pub head_positions: u64,
    pub checksums: u64,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    pub kind: FindingKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collection: Option<String>,
    /// The identity in the collection, where one is at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<i64>,
    /// What is wrong, in words.
    pub detail: String,
}

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// The database's own check of its file.
    Database,
    UnreadableCollection,
    LogGap,
    HeadPosition,
    UnreadableIdentity,
    IdentityWithoutEntry,
    TemplateWithoutEntry,
    EntryWithoutTemplate,
    TemplateWithoutIdentity,
    TemplateWithoutPayload,
    PayloadWithoutTemplate,
    TemplateOfUnknownSpace,
    UnreadableTemplate,
    ChecksumMismatch,
}

impl FindingKind {
    pub const ALL: [Self; 14] = [
        Self::Database,
        Self::UnreadableCollection,
        Self::LogGap,
        Self::HeadPosition,
        Self::UnreadableIdentity,
        Self::IdentityWithoutEntry,
        Self::TemplateWithoutEntry,
        Self::EntryWithoutTemplate,
        Self::TemplateWithoutIdentity,
        Self::TemplateWithoutPayload,
        Self::PayloadWithoutTemplate,
        Self::TemplateOfUnknownSpace,
        Self::UnreadableTemplate,
        Self::ChecksumMismatch,
    ];

    /// Whether [`Audit::repair`] mends it.
    #[must_use]
    pub fn is_derived(self) -> bool {
        self == Self::HeadPosition
    }

    /// What somebody can do about it.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Database => "restore the database from a backup, or dump and load it with the database's own tools",
            Self::UnreadableCollection => {
                "write into the row what another collection has there, or restore a backup: no server starts with it"
            }
            Self::LogGap => {
                "entries of the log are lost: restore a backup, or export the collection and import it anew"
            }
            Self::HeadPosition => "semblance doctor --repair sets it to the last entry; restart the servers afterwards",
            Self::UnreadableIdentity => "delete the identity and enroll it anew, or restore a backup",
            Self::IdentityWithoutEntry => "write its labels anew with PATCH, which appends the entry",
            Self::TemplateWithoutEntry => {
                "replicas may not know it: delete the template over the API and enroll it anew"
            }
            Self::EntryWithoutTemplate => {
                "the template is lost: delete the identity over the API and enroll the person anew, or restore a backup"
            }
            Self::TemplateWithoutIdentity | Self::PayloadWithoutTemplate => {
                "it belongs to nobody and no search finds it; delete the row in the database if it must go"
            }
            Self::TemplateWithoutPayload | Self::UnreadableTemplate | Self::ChecksumMismatch => {
                "its numbers are lost: delete the template over the API of a server that still runs, or, where none starts, \
                 DELETE FROM templates WHERE id = '{template}' (SQLite: id = x'{template}' without the hyphens); then \
                 enroll the person anew"
            }
            Self::TemplateOfUnknownSpace => {
                "no search looks there: declare the space again, or delete the template over the API"
            }
        }
    }
}

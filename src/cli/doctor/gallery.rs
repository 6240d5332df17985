//! Compares the gallery's snapshots with the store.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use serde::{Serialize, Serializer};

use domain::{Collection, CollectionId, EntryKind, IdentityId, Position, TemplateId};
use gallery::{SnapshotDirLock, SnapshotInspection};
use store::Store;

/// Rows per page of the database.
const PAGE: u32 = 1000;
/// The most findings listed per snapshot: a wrong snapshot is often wrong throughout.
const LISTED_MAX: usize = 20;

/// The result for all snapshots.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SnapshotAudit {
    pub(super) snapshots: u64,
    /// A server uses the snapshots and may change them at any time, so they are not compared.
    pub(super) in_use: bool,
    /// Snapshots with findings that were removed. The next start writes new ones.
    pub(super) removed: u64,
    pub(super) findings: Vec<SnapshotFinding>,
}

/// A difference between a snapshot and the store.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SnapshotFinding {
    pub(super) kind: SnapshotFindingKind,
    pub(super) collection: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) template: Option<String>,
    pub(super) detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SnapshotFindingKind {
    /// The file cannot be read to its end.
    Damaged,
    /// The snapshot is of another log than the store's.
    Foreign,
    /// The snapshot lacks a template of the store, or has another embedding for it.
    Differs,
    /// The snapshot has a template that the store lacks.
    Orphan,
}

impl SnapshotFindingKind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Damaged => "snapshot_damaged",
            Self::Foreign => "snapshot_foreign",
            Self::Differs => "snapshot_differs",
            Self::Orphan => "snapshot_orphan",
        }
    }
}

impl Serialize for SnapshotFindingKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Compares the snapshot of each collection. With `repair`, removes those with findings.
pub(super) async fn audit(store: &dyn Store, root: &Path, repair: bool) -> anyhow::Result<SnapshotAudit> {
    let mut gallery = SnapshotAudit::default();
    if !root.exists() {
        return Ok(gallery);
    }
    let Some(_claim) = SnapshotDirLock::acquire(root)? else {
        return Ok(SnapshotAudit { in_use: true, ..gallery });
    };
    let mut after: Option<CollectionId> = None;
    loop {
        let page = store.collections(after.as_ref(), PAGE).await?;
        after = page.last().map(|collection| collection.id.clone());
        for collection in &page {
            let before = gallery.findings.len();
            compare(store, root, collection, &mut gallery).await?;
            if repair && gallery.findings.len() > before {
                SnapshotInspection::remove(root, collection.uid)?;
                gallery.findings.truncate(before);
                gallery.removed += 1;
            }
        }
        if page.len() < PAGE as usize {
            return Ok(gallery);
        }
    }
}

async fn compare(store: &dyn Store, root: &Path, of: &Collection, gallery: &mut SnapshotAudit) -> anyhow::Result<()> {
    let finding = |kind, template: Option<TemplateId>, detail: String| SnapshotFinding {
        kind,
        collection: of.id.to_string(),
        template: template.map(|template| template.to_string()),
        detail,
    };
    let (folder, uid) = (PathBuf::from(root), of.uid);
    let inspection = match tokio::task::spawn_blocking(move || SnapshotInspection::of(&folder, uid)).await? {
        Ok(None) => return Ok(()),
        Ok(Some(inspection)) => inspection,
        Err(error) => {
            gallery.snapshots += 1;
            gallery.findings.push(finding(SnapshotFindingKind::Damaged, None, error.to_string()));
            return Ok(());
        }
    };
    gallery.snapshots += 1;
    if let Some(before) = inspection.position().0.checked_sub(1) {
        let entries = store.in_collection(of.uid).entries_after(Position(before), 1).await?;
        if entries
            .first()
            .is_none_or(|e| e.position != inspection.position() || e.checksum() != inspection.entry_checksum())
        {
            let detail = format!("the log has another entry at position {}", inspection.position().0);
            gallery.findings.push(finding(SnapshotFindingKind::Foreign, None, detail));
            return Ok(());
        }
    }
    let mut unseen: HashMap<TemplateId, IdentityId> = inspection.templates().collect();
    let mut differing = Vec::new();
    let mut after = Position::START;
    while after < inspection.position() {
        let page = store.in_collection(of.uid).stored_templates(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.template.position;
        for stored in page.iter().filter(|stored| stored.template.position <= inspection.position()) {
            unseen.remove(&stored.template.id);
            if !inspection.holds(stored) {
                differing.push(stored.template.id);
            }
        }
    }
    let later = changed_after(store, of, inspection.position()).await?;
    // A template that moved since may have been erased from the snapshot with its former identity, or be gone with its
    // present one.
    let is_explained = |template: &TemplateId| later.moved.contains(template);
    let mut findings = Vec::new();
    for template in differing.into_iter().filter(|template| !is_explained(template)) {
        let detail = "the snapshot lacks the template or has another embedding".to_owned();
        findings.push(finding(SnapshotFindingKind::Differs, Some(template), detail));
    }
    for (template, identity) in unseen {
        let is_removed = later.templates.contains(&template) || later.identities.contains(&identity);
        if !is_removed && !is_explained(&template) {
            let detail = "the database does not have the template".to_owned();
            findings.push(finding(SnapshotFindingKind::Orphan, Some(template), detail));
        }
    }
    findings.truncate(LISTED_MAX);
    gallery.findings.extend(findings);
    Ok(())
}

/// The templates and identities that the log removed or moved after a position; a snapshot of that position may hold
/// them as they were.
#[derive(Default)]
struct ChangedLater {
    templates: HashSet<TemplateId>,
    identities: HashSet<IdentityId>,
    moved: HashSet<TemplateId>,
}

async fn changed_after(store: &dyn Store, of: &Collection, mut after: Position) -> anyhow::Result<ChangedLater> {
    let mut later = ChangedLater::default();
    loop {
        let page = store.in_collection(of.uid).entries_after(after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(later) };
        after = last.position;
        for entry in page {
            match (entry.kind, entry.template) {
                (EntryKind::Forget | EntryKind::Expire, Some(template)) => drop(later.templates.insert(template)),
                (EntryKind::Forget | EntryKind::Expire, None) => drop(later.identities.insert(entry.identity)),
                (EntryKind::Move, Some(template)) => drop(later.moved.insert(template)),
                (EntryKind::Admit | EntryKind::Label | EntryKind::Move, _) => {}
            }
        }
    }
}

//! What is derived from the store: the gallery's snapshots, beside the store that they were made from.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use serde::{Serialize, Serializer};

use domain::{Collection, CollectionId, EntryKind, IdentityId, Position, TemplateId};
use gallery::{Claim, Inspection};
use store::Store;

/// Rows read at once.
const PAGE: u32 = 1000;
/// So many differences of one snapshot are listed: one that is wrong is often wrong throughout.
const LISTED_MAX: usize = 20;

/// How the snapshots are.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Gallery {
    pub(super) snapshots: u64,
    /// A server keeps its snapshots there and may change them any moment, so they were not looked at.
    pub(super) in_use: bool,
    /// Snapshots that were removed, because they were not as they should be. The next start makes new ones.
    pub(super) removed: u64,
    pub(super) findings: Vec<Flaw>,
}

/// Something that is not as it should be.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Flaw {
    pub(super) kind: FlawKind,
    pub(super) collection: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) template: Option<String>,
    pub(super) detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FlawKind {
    /// It cannot be read to its end.
    Damaged,
    /// It was made from another log than the store holds now.
    Foreign,
    /// It lacks a template of the store, or has other numbers for it.
    Differs,
    /// It holds a template that the store does not.
    Orphan,
}

impl FlawKind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Damaged => "snapshot_damaged",
            Self::Foreign => "snapshot_foreign",
            Self::Differs => "snapshot_differs",
            Self::Orphan => "snapshot_orphan",
        }
    }
}

impl Serialize for FlawKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Looks at every collection's snapshot, and removes those that are not as they should be if it is to `repair`.
pub(super) async fn look(store: &dyn Store, root: &Path, repair: bool) -> anyhow::Result<Gallery> {
    let mut gallery = Gallery::default();
    if !root.exists() {
        return Ok(gallery);
    }
    let Some(_claim) = Claim::of(root)? else {
        return Ok(Gallery { in_use: true, ..gallery });
    };
    let mut after: Option<CollectionId> = None;
    loop {
        let page = store.collections(after.as_ref(), PAGE).await?;
        after = page.last().map(|collection| collection.id.clone());
        for collection in &page {
            let before = gallery.findings.len();
            compare(store, root, collection, &mut gallery).await?;
            if repair && gallery.findings.len() > before {
                Inspection::remove(root, collection.uid)?;
                gallery.findings.truncate(before);
                gallery.removed += 1;
            }
        }
        if page.len() < PAGE as usize {
            return Ok(gallery);
        }
    }
}

async fn compare(store: &dyn Store, root: &Path, of: &Collection, gallery: &mut Gallery) -> anyhow::Result<()> {
    let flaw = |kind, template: Option<TemplateId>, detail: String| Flaw {
        kind,
        collection: of.id.to_string(),
        template: template.map(|template| template.to_string()),
        detail,
    };
    let (folder, uid) = (PathBuf::from(root), of.uid);
    let inspection = match tokio::task::spawn_blocking(move || Inspection::of(&folder, uid)).await? {
        Ok(None) => return Ok(()),
        Ok(Some(inspection)) => inspection,
        Err(error) => {
            gallery.snapshots += 1;
            gallery.findings.push(flaw(FlawKind::Damaged, None, error.to_string()));
            return Ok(());
        }
    };
    gallery.snapshots += 1;
    if let Some(before) = inspection.position().0.checked_sub(1) {
        let entries = store.in_collection(of.uid).entries_after(Position(before), 1).await?;
        if entries.first().is_none_or(|e| e.position != inspection.position() || e.checksum() != inspection.mark()) {
            let detail = format!("the log has another entry at position {}", inspection.position().0);
            gallery.findings.push(flaw(FlawKind::Foreign, None, detail));
            return Ok(());
        }
    }
    let mut unseen: HashMap<TemplateId, IdentityId> = inspection.templates().collect();
    let mut flaws = Vec::new();
    let mut after = Position::START;
    while after < inspection.position() {
        let page = store.in_collection(of.uid).stored_templates(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.template.position;
        for stored in page.iter().filter(|stored| stored.template.position <= inspection.position()) {
            unseen.remove(&stored.template.id);
            if !inspection.holds(stored) {
                let detail = "the snapshot lacks it or has other numbers".to_owned();
                flaws.push(flaw(FlawKind::Differs, Some(stored.template.id), detail));
            }
        }
    }
    let forgotten = forgotten_after(store, of, inspection.position()).await?;
    for (template, identity) in unseen {
        if !forgotten.templates.contains(&template) && !forgotten.identities.contains(&identity) {
            let detail = "the database does not have it".to_owned();
            flaws.push(flaw(FlawKind::Orphan, Some(template), detail));
        }
    }
    flaws.truncate(LISTED_MAX);
    gallery.findings.extend(flaws);
    Ok(())
}

/// Who and what the log forgot after a position: a snapshot from before may still hold them.
#[derive(Default)]
struct Forgotten {
    templates: HashSet<TemplateId>,
    identities: HashSet<IdentityId>,
}

async fn forgotten_after(store: &dyn Store, of: &Collection, mut after: Position) -> anyhow::Result<Forgotten> {
    let mut forgotten = Forgotten::default();
    loop {
        let page = store.in_collection(of.uid).entries_after(after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(forgotten) };
        after = last.position;
        for entry in page {
            match (entry.kind, entry.template) {
                (EntryKind::Forget | EntryKind::Expire, Some(template)) => drop(forgotten.templates.insert(template)),
                (EntryKind::Forget | EntryKind::Expire, None) => drop(forgotten.identities.insert(entry.identity)),
                (EntryKind::Admit | EntryKind::Label, _) => {}
            }
        }
    }
}

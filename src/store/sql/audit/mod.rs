//! Checks the store for inconsistencies.

mod inconsistencies;

use super::{ConnectionPools, DbConnection, SqlStore, check_file, collections, lock_collection, templates};
use crate::{
    Audit, Audited, Finding, FindingKind, OwnedTemplate, Page, Repairs, Result, StoreError,
    rows::{ChecksumState, OwnedTemplateRow, StoredTemplateRow, bigint},
};
use async_trait::async_trait;
use domain::{CollectionUid, IdentityId, Labels, Position};
use inconsistencies::{InconsistentRow, MissingCounterpart};

/// Rows per statement.
const PAGE: i64 = 1000;

#[async_trait]
impl Audit for SqlStore {
    async fn owned_templates(&self, uid: CollectionUid, after: Position, limit: u32) -> Result<Page<OwnedTemplate>> {
        let mut step = self.pools.read_step().await?;
        let rows: Vec<OwnedTemplateRow> = sqlx::query_as(
            "SELECT t.id, t.identity_id, t.modality, t.digest, t.dimension, t.parts, t.model, t.origin, t.quality,
                    t.frames_used, t.frames_dropped, t.spread, t.accepted_posterior, t.certificate, t.position,
                    t.create_time, p.format, p.key_id, p.bytes, p.crc32,
                    i.labels, i.expire_time, i.provisional, i.revision, i.create_time AS identity_create_time, i.update_time
             FROM templates AS t
             JOIN template_payloads AS p ON p.template_id = t.id
             JOIN identities AS i ON i.collection_uid = t.collection_uid AND i.id = t.identity_id
             WHERE t.collection_uid = $1 AND t.position > $2
             ORDER BY t.position
             LIMIT $3",
        )
        .bind(uid.0)
        .bind(bigint(after.0))
        .bind(i64::from(limit))
        .fetch_all(&mut *step)
        .await?;
        step.finish(rows.into_iter().map(OwnedTemplateRow::read).collect::<Result<_>>()?).await
    }

    async fn audit(&self, on_progress: &(dyn Fn(u64) + Sync)) -> Result<Audited> {
        let mut snapshot = self.pools.snapshot().await?;
        let mut auditor = Auditor { audited: Audited::default(), on_progress };
        for problem in check_file(&mut snapshot).await? {
            auditor.report(FindingKind::Database, None, InconsistentRow::default(), problem);
        }
        let payloads = inconsistencies::payloads_without_template(&mut snapshot).await?;
        auditor.report_all(FindingKind::PayloadWithoutTemplate, None, payloads, "its template does not exist");
        for (uid, id) in inconsistencies::collections(&mut snapshot).await? {
            auditor.collection(&mut snapshot, CollectionUid(uid), &id).await?;
        }
        snapshot.rollback().await?;
        Ok(auditor.audited)
    }

    async fn repair(&self) -> Result<Repairs> {
        let mut repairs = Repairs::default();
        let mut step = self.pools.read_step().await?;
        let listed = inconsistencies::collections(&mut step).await?;
        for (uid, _) in step.finish(listed).await? {
            let uid = CollectionUid(uid);
            let mut step = self.pools.write_step().await?;
            if lock_collection(&mut step, uid).await?.is_some() {
                repairs.head_positions += inconsistencies::restore_head(&mut step, uid).await?;
            }
            step.finish(()).await?;
            repairs.checksums += fill_checksums(&self.pools, uid).await?;
        }
        Ok(repairs)
    }
}

/// Writes the missing checksums of readable payloads, in short transactions, because a server may be writing.
async fn fill_checksums(pools: &ConnectionPools, uid: CollectionUid) -> Result<u64> {
    let (mut after, mut filled) = (0, 0);
    loop {
        let mut step = pools.write_step().await?;
        let page = templates::row_page(&mut step, uid, after, PAGE).await?;
        let Some(last) = page.last().map(StoredTemplateRow::position) else {
            return Ok(filled);
        };
        after = last;
        for row in page.into_iter().filter(|row| row.checksum_state() == ChecksumState::Missing) {
            let (id, checksum) = (row.id(), row.checksum());
            if row.read().is_ok() {
                filled += inconsistencies::put_checksum(&mut step, id, checksum).await?;
            }
        }
        step.finish(()).await?;
    }
}

struct Auditor<'a> {
    audited: Audited,
    on_progress: &'a (dyn Fn(u64) + Sync),
}

impl Auditor<'_> {
    fn report(&mut self, kind: FindingKind, collection: Option<&str>, row: InconsistentRow, detail: impl Into<String>) {
        let InconsistentRow { template, identity, position } = row;
        self.audited.findings.push(Finding {
            kind,
            collection: collection.map(str::to_owned),
            identity,
            template: template.map(|id| id.hyphenated().to_string()),
            position,
            detail: detail.into(),
        });
    }

    fn report_all(&mut self, kind: FindingKind, collection: Option<&str>, rows: Vec<InconsistentRow>, detail: &str) {
        for row in rows {
            self.report(kind, collection, row, detail);
        }
    }

    async fn collection(&mut self, snapshot: &mut DbConnection, uid: CollectionUid, id: &str) -> Result<()> {
        self.audited.collections += 1;
        let of = Some(id);
        match collections::by_uid(&mut *snapshot, uid).await {
            Err(StoreError::Corrupt(what)) => {
                self.report(FindingKind::UnreadableCollection, of, InconsistentRow::default(), what);
            }
            read => drop(read?),
        }
        let (head, last) = inconsistencies::head_and_last(&mut *snapshot, uid).await?;
        if head != last {
            let detail = format!("the collection's head position is {head}, and the last log entry is at {last}");
            self.report(FindingKind::HeadPosition, of, InconsistentRow::default(), detail);
        }
        for (position, before) in inconsistencies::gaps(&mut *snapshot, uid).await? {
            let detail = format!("the entries from {} to {} are missing", before + 1, position - 1);
            let row = InconsistentRow { position: Some(position), ..InconsistentRow::default() };
            self.report(FindingKind::LogGap, of, row, detail);
        }
        self.relations(&mut *snapshot, uid, id).await?;
        self.identities(&mut *snapshot, uid, id).await?;
        self.payloads(&mut *snapshot, uid, id).await
    }

    /// Reports rows whose counterpart in another table is missing.
    async fn relations(&mut self, snapshot: &mut DbConnection, uid: CollectionUid, id: &str) -> Result<()> {
        let relations = [
            (FindingKind::IdentityWithoutEntry, MissingCounterpart::IdentityWithoutEntry, "it has no log entry"),
            (
                FindingKind::TemplateWithoutEntry,
                MissingCounterpart::TemplateWithoutEntry,
                "it has no log entry at its position",
            ),
            (
                FindingKind::OtherOwner,
                MissingCounterpart::OtherOwner,
                "the log says that it belongs to another identity",
            ),
            (
                FindingKind::MoveWithoutEntry,
                MissingCounterpart::MoveWithoutEntry,
                "the lineage of a merge or split has its move, and the log does not",
            ),
            (
                FindingKind::EntryWithoutTemplate,
                MissingCounterpart::EntryWithoutTemplate,
                "the log has it and no entry removes it, but it does not exist",
            ),
            (
                FindingKind::TemplateWithoutIdentity,
                MissingCounterpart::TemplateWithoutIdentity,
                "its identity does not exist",
            ),
            (
                FindingKind::TemplateWithoutPayload,
                MissingCounterpart::TemplateWithoutPayload,
                "its embedding does not exist",
            ),
            (
                FindingKind::TemplateOfUnknownSpace,
                MissingCounterpart::TemplateOfUnknownSpace,
                "the collection does not have its embedding space",
            ),
        ];
        for (kind, missing, detail) in relations {
            let rows = inconsistencies::without_counterpart(&mut *snapshot, uid, missing).await?;
            self.report_all(kind, Some(id), rows, detail);
        }
        Ok(())
    }

    async fn identities(&mut self, snapshot: &mut DbConnection, uid: CollectionUid, of: &str) -> Result<()> {
        let mut after = String::new();
        loop {
            let page = inconsistencies::identities(&mut *snapshot, uid, &after, PAGE).await?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            after.clone_from(last);
            for (id, labels) in page {
                self.audited.identities += 1;
                let problem = match (IdentityId::new(&id), serde_json::from_str::<Labels>(&labels)) {
                    (Err(_), _) => "its id is not valid",
                    // The parser's own message would quote a label.
                    (_, Err(_)) => "its labels cannot be read",
                    (Ok(_), Ok(_)) => continue,
                };
                let row = InconsistentRow { identity: Some(id), ..InconsistentRow::default() };
                self.report(FindingKind::UnreadableIdentity, Some(of), row, problem);
            }
        }
    }

    async fn payloads(&mut self, snapshot: &mut DbConnection, uid: CollectionUid, of: &str) -> Result<()> {
        let mut after = 0;
        loop {
            let page = templates::row_page(&mut *snapshot, uid, after, PAGE).await?;
            let Some(last) = page.last().map(StoredTemplateRow::position) else {
                return Ok(());
            };
            after = last;
            for row in page {
                self.audited.templates += 1;
                self.payload(row, of);
            }
            (self.on_progress)(self.audited.templates);
        }
    }

    fn payload(&mut self, row: StoredTemplateRow, of: &str) {
        let (checksum, inconsistent) = (row.checksum_state(), InconsistentRow::of(&row));
        self.audited.checksums_missing += u64::from(checksum == ChecksumState::Missing);
        let (kind, detail) = match (checksum, row.read()) {
            (ChecksumState::Wrong, _) => {
                (FindingKind::ChecksumMismatch, "its embedding does not match its checksum".to_owned())
            }
            (_, Err(StoreError::Corrupt(what))) => (FindingKind::UnreadableTemplate, what),
            (_, Err(other)) => (FindingKind::UnreadableTemplate, other.to_string()),
            (_, Ok(_)) => return,
        };
        self.report(kind, Some(of), inconsistent, detail);
    }
}

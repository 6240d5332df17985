//! The store compared with itself.

mod odd;

use super::{Connection, Pools, SqlStore, check_file, collections, lock_collection, templates};
use crate::{
    Audit, Audited, Finding, FindingKind, Page, Repairs, Result, StoreError,
    payload::{Checked, StoredTemplateRow},
};
use async_trait::async_trait;
use domain::{CollectionUid, Identity, IdentityId, Labels, Position, StoredTemplate};
use odd::{Odd, Where};

/// Rows read at once.
const PAGE: i64 = 1000;

#[async_trait]
impl Audit for SqlStore {
    async fn owned_templates(
        &self,
        uid: CollectionUid,
        after: Position,
        limit: u32,
    ) -> Result<Page<(StoredTemplate, Identity)>> {
        let mut reader = self.pools.reader().await?;
        let rows = odd::owned_page(&mut reader, uid, after, limit).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    async fn audit(&self, watch: &(dyn Fn(u64) + Sync)) -> Result<Audited> {
        let mut snapshot = self.pools.snapshot().await?;
        let mut audit = Auditor { audited: Audited::default(), watch };
        for said in check_file(&mut snapshot).await? {
            audit.found(FindingKind::Database, None, Odd::default(), said);
        }
        let payloads = odd::payloads_without_template(&mut snapshot).await?;
        audit.all(FindingKind::PayloadWithoutTemplate, None, payloads, "its template is not there");
        for (uid, id) in odd::collections(&mut snapshot).await? {
            audit.collection(&mut snapshot, CollectionUid(uid), &id).await?;
        }
        snapshot.rollback().await?;
        Ok(audit.audited)
    }

    async fn repair(&self) -> Result<Repairs> {
        let mut repairs = Repairs::default();
        let listed = odd::collections(&mut *self.pools.reader().await?).await?;
        for (uid, _) in listed {
            let uid = CollectionUid(uid);
            let mut transaction = self.pools.begin().await?;
            if lock_collection(&mut transaction, uid).await?.is_some() {
                repairs.head_positions += odd::restore_head(&mut transaction, uid).await?;
            }
            transaction.commit().await?;
            repairs.checksums += fill_checksums(&self.pools, uid).await?;
        }
        Ok(repairs)
    }
}

/// Gives those payloads a checksum that can be read and have none; in short transactions, for a server may be writing.
async fn fill_checksums(pools: &Pools, uid: CollectionUid) -> Result<u64> {
    let (mut after, mut filled) = (0, 0);
    loop {
        let mut transaction = pools.begin().await?;
        let page = templates::unread_page(&mut transaction, uid, after, PAGE).await?;
        let Some(last) = page.last().map(StoredTemplateRow::place) else {
            return Ok(filled);
        };
        after = last;
        for row in page.into_iter().filter(|row| row.check() == Checked::Missing) {
            let (id, checksum) = (row.id(), row.checksum());
            if StoredTemplate::try_from(row).is_ok() {
                filled += odd::put_checksum(&mut transaction, id, checksum).await?;
            }
        }
        transaction.commit().await?;
    }
}

struct Auditor<'w> {
    audited: Audited,
    watch: &'w (dyn Fn(u64) + Sync),
}

impl Auditor<'_> {
    fn found(&mut self, kind: FindingKind, collection: Option<&str>, odd: Odd, detail: impl Into<String>) {
        let Odd { template, identity, position } = odd;
        self.audited.findings.push(Finding {
            kind,
            collection: collection.map(str::to_owned),
            identity,
            template: template.map(|id| id.hyphenated().to_string()),
            position,
            detail: detail.into(),
        });
    }

    fn all(&mut self, kind: FindingKind, collection: Option<&str>, odd: Vec<Odd>, detail: &str) {
        for odd in odd {
            self.found(kind, collection, odd, detail);
        }
    }

    async fn collection(&mut self, snapshot: &mut Connection, uid: CollectionUid, id: &str) -> Result<()> {
        self.audited.collections += 1;
        let of = Some(id);
        match collections::by_uid(&mut *snapshot, uid).await {
            Err(StoreError::Corrupt(what)) => self.found(FindingKind::UnreadableCollection, of, Odd::default(), what),
            read => drop(read?),
        }
        let (head, last) = odd::head_and_last(&mut *snapshot, uid).await?;
        if head != last {
            let detail = format!("the collection says that its log ends at {head}, and it ends at {last}");
            self.found(FindingKind::HeadPosition, of, Odd::default(), detail);
        }
        for (position, before) in odd::gaps(&mut *snapshot, uid).await? {
            let detail = format!("the entries from {} to {} are missing", before + 1, position - 1);
            self.found(FindingKind::LogGap, of, Odd { position: Some(position), ..Odd::default() }, detail);
        }
        self.relations(&mut *snapshot, uid, id).await?;
        self.identities(&mut *snapshot, uid, id).await?;
        self.payloads(&mut *snapshot, uid, id).await
    }

    /// What should stand beside each other and does not.
    async fn relations(&mut self, snapshot: &mut Connection, uid: CollectionUid, id: &str) -> Result<()> {
        let relations: [(FindingKind, Where, &str); 6] = [
            (FindingKind::IdentityWithoutEntry, Where::IdentityWithoutEntry, "the log does not tell of it"),
            (
                FindingKind::TemplateWithoutEntry,
                Where::TemplateWithoutEntry,
                "the log does not tell of it at its position",
            ),
            (
                FindingKind::EntryWithoutTemplate,
                Where::EntryWithoutTemplate,
                "the log admits it, nobody forgot it, and it is not there",
            ),
            (FindingKind::TemplateWithoutIdentity, Where::TemplateWithoutIdentity, "its identity is not there"),
            (FindingKind::TemplateWithoutPayload, Where::TemplateWithoutPayload, "its numbers are not there"),
            (
                FindingKind::TemplateOfUnknownSpace,
                Where::TemplateOfUnknownSpace,
                "the collection does not know its embedding space",
            ),
        ];
        for (kind, place, detail) in relations {
            let odd = odd::odd(&mut *snapshot, uid, place).await?;
            self.all(kind, Some(id), odd, detail);
        }
        Ok(())
    }

    async fn identities(&mut self, snapshot: &mut Connection, uid: CollectionUid, of: &str) -> Result<()> {
        let mut after = String::new();
        loop {
            let page = odd::identities(&mut *snapshot, uid, &after, PAGE).await?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            after.clone_from(last);
            for (id, labels) in page {
                self.audited.identities += 1;
                let problem = match (IdentityId::new(&id), serde_json::from_str::<Labels>(&labels)) {
                    (Err(_), _) => "its id is none that this program gives",
                    // The parser's own words would quote a label.
                    (_, Err(_)) => "its labels cannot be read",
                    (Ok(_), Ok(_)) => continue,
                };
                let odd = Odd { identity: Some(id), ..Odd::default() };
                self.found(FindingKind::UnreadableIdentity, Some(of), odd, problem);
            }
        }
    }

    async fn payloads(&mut self, snapshot: &mut Connection, uid: CollectionUid, of: &str) -> Result<()> {
        let mut after = 0;
        loop {
            let page = templates::unread_page(&mut *snapshot, uid, after, PAGE).await?;
            let Some(last) = page.last().map(StoredTemplateRow::place) else {
                return Ok(());
            };
            after = last;
            for row in page {
                self.audited.templates += 1;
                self.payload(row, of);
            }
            (self.watch)(self.audited.templates);
        }
    }

    fn payload(&mut self, row: StoredTemplateRow, of: &str) {
        let (id, checked, identity) = (row.id(), row.check(), row.identity().to_owned());
        self.audited.checksums_missing += u64::from(checked == Checked::Missing);
        let odd = Odd { template: Some(id.0), identity: Some(identity), position: Some(row.place()) };
        match (checked, StoredTemplate::try_from(row)) {
            (Checked::Wrong, _) => {
                self.found(FindingKind::ChecksumMismatch, Some(of), odd, "its numbers do not have their checksum");
            }
            (_, Err(StoreError::Corrupt(what))) => self.found(FindingKind::UnreadableTemplate, Some(of), odd, what),
            (_, Err(other)) => self.found(FindingKind::UnreadableTemplate, Some(of), odd, other.to_string()),
            (_, Ok(_)) => {}
        }
    }
}

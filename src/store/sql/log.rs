use std::collections::HashMap;

use async_trait::async_trait;
use sqlx::QueryBuilder;

use super::{
    Database, DbConnection, identities,
    many::pieces,
    session::{CollectionAccess, Session},
    templates,
};
use crate::{
    Log, Page, Result,
    rows::{LogEntry, LogRow, bigint, micros},
};
use domain::{CollectionUid, Entry, EntryKind, Position};

#[async_trait]
impl<A: CollectionAccess> Log for Session<A> {
    async fn entries_after(&mut self, after: Position, limit: u32) -> Result<Page<Entry>> {
        let uid = self.0.uid();
        let mut step = self.0.read().await?;
        let entries = entries_after(&mut step, uid, after, limit).await?;
        step.finish(entries).await
    }
}

/// Entries after a position, each with the present state of its subject.
///
/// The subjects are read after the entries and may be newer. An entry promises no more than that, so a follower that
/// reads on reaches the same state.
pub(super) async fn entries_after(
    connection: &mut DbConnection,
    uid: CollectionUid,
    after: Position,
    limit: u32,
) -> Result<Vec<Entry>> {
    let page = page(connection, uid, after, limit).await?;
    let Some(through) = page.last().map(|last| last.position) else {
        return Ok(Vec::new());
    };
    let any = |kind| page.iter().any(|entry| entry.kind == kind);

    let mut admitted = HashMap::new();
    if any(EntryKind::Admit) {
        let found = templates::stored_between(connection, uid, after, through).await?;
        admitted.extend(found.into_iter().map(|stored| (stored.template.position, stored)));
    }
    let mut labelled = HashMap::new();
    if any(EntryKind::Label) {
        let found = identities::labelled_between(connection, uid, after, through).await?;
        labelled.extend(found.into_iter().map(|identity| (identity.id.clone(), identity)));
    }

    let mut moved = HashMap::new();
    if any(EntryKind::Move) {
        let found = templates::moved_between(connection, uid, after, through).await?;
        moved.extend(found.into_iter().map(|stored| (stored.template.id, stored)));
    }

    let entries = page.into_iter().map(|LogEntry { position, kind, identity, template, time }| Entry {
        admitted: admitted.remove(&position),
        // Not removed: an identity may be labelled several times.
        labelled: (kind == EntryKind::Label).then(|| labelled.get(&identity).cloned()).flatten(),
        // Nor a template: it may move several times.
        moved: template.filter(|_| kind == EntryKind::Move).and_then(|id| moved.get(&id).cloned()),
        position,
        kind,
        identity,
        template,
        time,
    });
    Ok(entries.collect())
}

async fn page(connection: &mut DbConnection, uid: CollectionUid, after: Position, limit: u32) -> Result<Vec<LogEntry>> {
    let rows: Vec<LogRow> = sqlx::query_as(
        "SELECT position, kind, identity_id, template_id, time
         FROM log_entries
         WHERE collection_uid = $1 AND position > $2
         ORDER BY position
         LIMIT $3",
    )
    .bind(uid.0)
    .bind(bigint(after.0))
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(LogRow::read).collect()
}

pub(super) async fn append(connection: &mut DbConnection, uid: CollectionUid, entries: &[LogEntry]) -> Result<()> {
    for piece in pieces(entries) {
        let mut insert = QueryBuilder::<Database>::new(
            "INSERT INTO log_entries (collection_uid, position, kind, identity_id, template_id, time) ",
        );
        insert.push_values(piece, |mut row, entry| {
            row.push_bind(uid.0)
                .push_bind(bigint(entry.position.0))
                .push_bind(entry.kind.as_str())
                .push_bind(entry.identity.as_str())
                .push_bind(entry.template.map(|id| id.0))
                .push_bind(micros(entry.time));
        });
        insert.build().execute(&mut *connection).await?;
    }
    Ok(())
}

use sqlx::FromRow;
use uuid::Uuid;

use super::Table;
use crate::Result;
use domain::{EntryKind, IdentityId, Position, TemplateId, Timestamp};

const LOG_ENTRIES: Table = Table("log_entries");

#[derive(Debug, FromRow)]
pub(crate) struct LogRow {
    position: i64,
    kind: String,
    identity_id: String,
    template_id: Option<Uuid>,
    time: i64,
}

/// An entry as the log stores it, without the present state of its subject.
#[derive(Debug)]
pub(crate) struct LogEntry {
    pub(crate) position: Position,
    pub(crate) kind: EntryKind,
    pub(crate) identity: IdentityId,
    pub(crate) template: Option<TemplateId>,
    pub(crate) time: Timestamp,
}

impl LogRow {
    pub(crate) fn read(self) -> Result<LogEntry> {
        Ok(LogEntry {
            position: Position(LOG_ENTRIES.count(self.position)?),
            kind: LOG_ENTRIES.word("kind", EntryKind::ALL, EntryKind::as_str, &self.kind)?,
            identity: LOG_ENTRIES.identity_id(&self.identity_id)?,
            template: self.template_id.map(TemplateId),
            time: LOG_ENTRIES.time(self.time)?,
        })
    }
}

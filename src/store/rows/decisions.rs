use sqlx::{FromRow, types::Json};
use uuid::Uuid;

use super::Table;
use crate::{DecisionRecord, Result};
use domain::DecisionId;

#[derive(Debug, FromRow)]
pub(crate) struct DecisionRow {
    id: Uuid,
    time: i64,
    body: Json<serde_json::Value>,
}

impl DecisionRow {
    pub(crate) fn read(self) -> Result<DecisionRecord> {
        Ok(DecisionRecord { id: DecisionId(self.id), time: Table("decisions").time(self.time)?, body: self.body.0 })
    }
}

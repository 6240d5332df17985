use sqlx::FromRow;

use super::Table;
use crate::{IdempotencyRecord, Result};

const IDEMPOTENCY_KEYS: Table = Table("idempotency_keys");

#[derive(Debug, FromRow)]
pub(crate) struct IdempotencyRow {
    body_hash: Vec<u8>,
    answer: Vec<u8>,
    expire_time: i64,
}

impl IdempotencyRow {
    pub(crate) fn read(self) -> Result<IdempotencyRecord> {
        Ok(IdempotencyRecord {
            body_hash: self.body_hash.try_into().map_err(|_| IDEMPOTENCY_KEYS.unreadable("body_hash"))?,
            answer: self.answer,
            expire_time: IDEMPOTENCY_KEYS.time(self.expire_time)?,
        })
    }
}

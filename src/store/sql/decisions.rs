use async_trait::async_trait;
use sqlx::types::Json;

use super::{
    DbConnection,
    session::{CollectionAccess, Session},
};
use crate::{
    DecisionRecord, Decisions, Result,
    rows::{DecisionRow, micros},
};
use domain::{CollectionUid, DecisionId};

#[async_trait]
impl<A: CollectionAccess> Decisions for Session<A> {
    async fn decision(&mut self, id: DecisionId) -> Result<Option<DecisionRecord>> {
        let uid = self.0.uid();
        let mut step = self.0.read().await?;
        let row: Option<DecisionRow> =
            sqlx::query_as("SELECT id, time, body FROM decisions WHERE collection_uid = $1 AND id = $2")
                .bind(uid.0)
                .bind(id.0)
                .fetch_optional(&mut *step)
                .await?;
        step.finish(row.map(DecisionRow::read).transpose()?).await
    }

    async fn put_decision(&mut self, record: &DecisionRecord) -> Result<()> {
        let uid = self.0.uid();
        let mut step = self.0.write().await?;
        put(&mut step, uid, record).await?;
        step.finish(()).await
    }
}

pub(super) async fn put(connection: &mut DbConnection, uid: CollectionUid, record: &DecisionRecord) -> Result<()> {
    sqlx::query(
        "INSERT INTO decisions (id, collection_uid, time, body) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING",
    )
    .bind(record.id.0)
    .bind(uid.0)
    .bind(micros(record.time))
    .bind(Json(&record.body))
    .execute(connection)
    .await?;
    Ok(())
}

//! The store on one database.

use async_trait::async_trait;

use super::{
    ConnectionPools, decisions, hold_collection,
    session::{OutsideTurn, Session},
    turn,
};
use crate::{
    CollectionRecords, DecisionRecord, IdempotencyKeys, LogWatch, Result, Scrubbed, Store, StoreOptions, Turn, schema,
};
use domain::CollectionUid;

#[derive(Debug)]
pub(crate) struct SqlStore {
    pub(crate) pools: ConnectionPools,
}

impl SqlStore {
    pub(crate) async fn connect(options: &StoreOptions) -> Result<Self> {
        Ok(Self { pools: ConnectionPools::open(options).await? })
    }
}

#[async_trait]
impl Store for SqlStore {
    fn kind(&self) -> &'static str {
        ConnectionPools::KIND
    }

    async fn migrate(&self) -> Result<()> {
        self.pools.migrate().await
    }

    async fn is_new(&self) -> Result<bool> {
        Ok(self.pools.applied_migrations().await?.is_empty())
    }

    async fn check_schema(&self) -> Result<()> {
        schema::check(&ConnectionPools::MIGRATIONS, &self.pools.applied_migrations().await?)
    }

    async fn scrub(&self) -> Result<Scrubbed> {
        self.pools.scrub().await
    }

    fn write_outage(&self) -> Option<String> {
        self.pools.health.outage()
    }

    async fn check_writes(&self) -> Result<()> {
        if !self.pools.health.is_in_doubt() {
            return Ok(());
        }
        self.pools.check_writes().await.inspect_err(|error| self.pools.health.failed(error))
    }

    async fn ping(&self) -> Result<()> {
        let mut step = self.pools.read_step().await?;
        sqlx::query("SELECT 1").execute(&mut *step).await?;
        step.finish(()).await
    }

    async fn close(&self) {
        self.pools.close().await;
    }

    fn watch(&self) -> Box<dyn LogWatch> {
        self.pools.watch()
    }

    fn in_collection(&self, uid: CollectionUid) -> Box<dyn CollectionRecords + '_> {
        Box::new(Session(OutsideTurn { pools: &self.pools, uid }))
    }

    fn idempotency_keys(&self) -> Box<dyn IdempotencyKeys + Send + '_> {
        Box::new(Session(&self.pools))
    }

    async fn put_decisions(&self, records: &[(CollectionUid, DecisionRecord)]) -> Result<()> {
        let mut step = self.pools.write_step().await?;
        for (uid, record) in records {
            if hold_collection(&mut step, *uid).await? {
                decisions::put(&mut step, *uid, record).await?;
            }
        }
        step.finish(()).await
    }

    async fn take_turn(&self, uid: CollectionUid) -> Result<Box<dyn Turn>> {
        Ok(Box::new(turn::take(self.pools.begin().await?, uid).await?))
    }
}

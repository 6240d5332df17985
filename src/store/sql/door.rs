//! The store's door, the same for both databases.

use async_trait::async_trait;

use super::{
    Pools, announce, calibrations, collections, decisions, hold_collection, idempotency, identities, lock_collection,
    log, operations,
    review::{self, CasePage},
    review_trials,
    templates::{self, TemplatePage},
    turn::SqlTurn,
};
use crate::{
    DecisionRecord, Head, Heard, IdempotencyKey, IdempotencyRecord, News, Page, Result, Store, StoreError,
    StoreOptions, Turn, Watch, schema,
};
use domain::{
    CalibrationId, Collection, CollectionId, CollectionUid, DecisionId, Entry, Identity, IdentityId, KeptCalibration,
    Operation, OperationId, OperationOutcome, Owned, Position, Progress, ReviewCase, ReviewCaseId, ReviewStage,
    ReviewTrial, Revision, StoredTemplate, SurveyFinding, Template, TemplateId, Timestamp,
};

#[derive(Debug)]
pub(crate) struct SqlStore {
    pub(super) pools: Pools,
}

impl SqlStore {
    pub(crate) async fn connect(options: &StoreOptions) -> Result<Self> {
        Ok(Self { pools: Pools::open(options).await? })
    }
}

#[async_trait]
impl Store for SqlStore {
    fn kind(&self) -> &'static str {
        Pools::KIND
    }

    async fn migrate(&self) -> Result<()> {
        self.pools.migrate().await
    }

    async fn check_schema(&self) -> Result<()> {
        schema::check(&Pools::MIGRATIONS, &self.pools.applied_migrations().await?)
    }

    async fn ping(&self) -> Result<()> {
        sqlx::query("SELECT 1").execute(&mut *self.pools.reader().await?).await?;
        Ok(())
    }

    async fn scrub(&self) -> Result<()> {
        self.pools.scrub().await
    }

    async fn close(&self) {
        self.pools.close().await;
    }

    async fn create_collection(
        &self,
        collection: &Collection,
        once: Option<(&IdempotencyKey, &IdempotencyRecord)>,
    ) -> Result<Option<IdempotencyRecord>> {
        let mut transaction = self.pools.begin().await?;
        if let Some((key, record)) = once {
            // The key first: of several at once, one gets it, and the others wait here until that one has committed.
            let now = collection.create_time;
            if !idempotency::keep(&mut transaction, key, record, now).await? {
                return idempotency::by_key(&mut transaction, key, now).await;
            }
        }
        collections::create(&mut transaction, collection).await?;
        announce(&mut transaction, &News::Changed(collection.uid)).await?;
        transaction.commit().await?;
        Ok(None)
    }

    async fn collection(&self, id: &CollectionId) -> Result<Option<Collection>> {
        collections::by_id(&mut *self.pools.reader().await?, id).await
    }

    async fn collections(&self, after: Option<&CollectionId>, limit: u32) -> Result<Page<Collection>> {
        collections::page(&mut *self.pools.reader().await?, after, limit).await
    }

    async fn update_collection(&self, collection: &Collection, expected: Revision) -> Result<()> {
        let mut transaction = self.pools.begin().await?;
        if lock_collection(&mut transaction, collection.uid).await?.is_none() {
            return Err(StoreError::CollectionGone);
        }
        collections::update(&mut transaction, collection, expected).await?;
        announce(&mut transaction, &News::Changed(collection.uid)).await?;
        Ok(transaction.commit().await?)
    }

    async fn delete_collection(&self, uid: CollectionUid) -> Result<bool> {
        let mut transaction = self.pools.begin().await?;
        // Locked first: a turn that is under way may yet keep answers, and they must go with the rest.
        if lock_collection(&mut transaction, uid).await?.is_none() {
            return Ok(false);
        }
        idempotency::delete_of_collection(&mut transaction, uid).await?;
        collections::delete(&mut transaction, uid).await?;
        announce(&mut transaction, &News::Changed(uid)).await?;
        transaction.commit().await?;
        Ok(true)
    }

    async fn heads(&self) -> Result<Vec<Head>> {
        collections::heads(&mut *self.pools.reader().await?).await
    }

    async fn head(&self, uid: CollectionUid) -> Result<Option<Head>> {
        collections::head(&mut *self.pools.reader().await?, uid).await
    }

    fn watch(&self) -> Box<dyn Watch> {
        self.pools.watch()
    }

    async fn identity(&self, uid: CollectionUid, id: &IdentityId) -> Result<Option<Identity>> {
        identities::by_id(&mut *self.pools.reader().await?, uid, id).await
    }

    async fn identities(&self, uid: CollectionUid, after: Option<&IdentityId>, limit: u32) -> Result<Page<Identity>> {
        identities::page(&mut *self.pools.reader().await?, uid, after, limit).await
    }

    async fn expired(&self, now: Timestamp, limit: u32) -> Result<Vec<(CollectionUid, IdentityId)>> {
        identities::expired(&mut *self.pools.reader().await?, now, limit).await
    }

    async fn templates_of(
        &self,
        uid: CollectionUid,
        identity: &IdentityId,
        after: Option<TemplateId>,
        limit: u32,
    ) -> Result<Page<Template>> {
        let page = TemplatePage { after, limit };
        templates::of_identity(&mut *self.pools.reader().await?, uid, identity, page).await
    }

    async fn template(&self, uid: CollectionUid, id: TemplateId) -> Result<Option<Template>> {
        templates::by_id(&mut *self.pools.reader().await?, uid, id).await
    }

    async fn stored_templates(&self, uid: CollectionUid, after: Position, limit: u32) -> Result<Page<StoredTemplate>> {
        templates::stored_page(&mut *self.pools.reader().await?, uid, after, limit).await
    }

    async fn entries_after(&self, uid: CollectionUid, after: Position, limit: u32) -> Result<Page<Entry>> {
        log::entries_after(&mut *self.pools.reader().await?, uid, after, limit).await
    }

    async fn take_turn(&self, uid: CollectionUid) -> Result<Box<dyn Turn>> {
        Ok(Box::new(SqlTurn::take(self.pools.begin().await?, uid).await?))
    }

    async fn idempotent(&self, key: &IdempotencyKey, now: Timestamp) -> Result<Option<IdempotencyRecord>> {
        idempotency::by_key(&mut *self.pools.reader().await?, key, now).await
    }

    async fn keep_idempotent(&self, key: &IdempotencyKey, record: &IdempotencyRecord, now: Timestamp) -> Result<()> {
        let mut transaction = self.pools.begin().await?;
        idempotency::keep(&mut transaction, key, record, now).await?;
        Ok(transaction.commit().await?)
    }

    async fn sweep_idempotent(&self, now: Timestamp) -> Result<u64> {
        let mut transaction = self.pools.begin().await?;
        let swept = idempotency::sweep(&mut transaction, now).await?;
        transaction.commit().await?;
        Ok(swept)
    }

    async fn sweep_decisions(&self, before: Timestamp) -> Result<u64> {
        let mut transaction = self.pools.begin().await?;
        let swept = decisions::sweep(&mut transaction, before).await?;
        transaction.commit().await?;
        Ok(swept)
    }

    async fn keep_decisions(&self, records: &[(CollectionUid, DecisionRecord)]) -> Result<()> {
        let mut transaction = self.pools.begin().await?;
        for (uid, record) in records {
            if hold_collection(&mut transaction, *uid).await? {
                decisions::keep(&mut transaction, *uid, record).await?;
            }
        }
        Ok(transaction.commit().await?)
    }

    async fn calibration(&self, uid: CollectionUid, id: CalibrationId) -> Result<Option<KeptCalibration>> {
        calibrations::by_id(&mut *self.pools.reader().await?, uid, id).await
    }

    async fn calibrations(
        &self,
        uid: CollectionUid,
        after: Option<CalibrationId>,
        limit: u32,
    ) -> Result<Page<KeptCalibration>> {
        calibrations::page(&mut *self.pools.reader().await?, uid, after, limit).await
    }

    async fn active_calibrations(&self, uid: CollectionUid) -> Result<Vec<KeptCalibration>> {
        calibrations::active(&mut *self.pools.reader().await?, uid).await
    }

    async fn review_case(&self, uid: CollectionUid, id: ReviewCaseId) -> Result<Option<ReviewCase>> {
        review::by_id(&mut *self.pools.reader().await?, uid, id).await
    }

    async fn review_cases(
        &self,
        uid: CollectionUid,
        (stage, now): (Option<ReviewStage>, Timestamp),
        after: Option<ReviewCaseId>,
        limit: u32,
    ) -> Result<Page<ReviewCase>> {
        let page = CasePage { stage, now, after, limit };
        review::page(&mut *self.pools.reader().await?, uid, page).await
    }

    async fn put_review_case(&self, uid: CollectionUid, case: &ReviewCase) -> Result<()> {
        let mut transaction = self.pools.begin().await?;
        review::put(&mut transaction, uid, case).await?;
        Ok(transaction.commit().await?)
    }

    async fn delete_review_case(&self, uid: CollectionUid, id: ReviewCaseId) -> Result<bool> {
        let mut transaction = self.pools.begin().await?;
        let deleted = review::delete(&mut transaction, uid, id).await?;
        transaction.commit().await?;
        Ok(deleted)
    }

    async fn sweep_review_cases(&self, now: Timestamp) -> Result<u64> {
        let mut transaction = self.pools.begin().await?;
        let swept = review::sweep(&mut transaction, now).await?;
        transaction.commit().await?;
        Ok(swept)
    }

    async fn operation(&self, uid: CollectionUid, id: OperationId) -> Result<Option<Operation>> {
        operations::by_id(&mut *self.pools.reader().await?, uid, id).await
    }

    async fn operations(&self, uid: CollectionUid, after: Option<OperationId>, limit: u32) -> Result<Page<Operation>> {
        operations::page(&mut *self.pools.reader().await?, uid, after, limit).await
    }

    async fn findings(&self, id: OperationId, now: Timestamp) -> Result<Vec<SurveyFinding<Owned>>> {
        operations::findings(&mut *self.pools.reader().await?, id, now).await
    }

    async fn hear_of_operation(
        &self,
        uid: CollectionUid,
        id: OperationId,
        heard: (Progress, Timestamp),
    ) -> Result<Heard> {
        let mut transaction = self.pools.begin().await?;
        let wanted = operations::hear(&mut transaction, uid, id, heard).await?;
        transaction.commit().await?;
        Ok(wanted)
    }

    async fn cancel_operation(&self, uid: CollectionUid, id: OperationId) -> Result<()> {
        let mut transaction = self.pools.begin().await?;
        operations::cancel(&mut transaction, uid, id).await?;
        Ok(transaction.commit().await?)
    }

    async fn end_operation(
        &self,
        uid: CollectionUid,
        id: OperationId,
        ended: (&OperationOutcome, Timestamp),
    ) -> Result<()> {
        let mut transaction = self.pools.begin().await?;
        operations::end(&mut transaction, uid, id, ended).await?;
        Ok(transaction.commit().await?)
    }

    async fn end_silent_operations(
        &self,
        uid: CollectionUid,
        before: Timestamp,
        outcome: &OperationOutcome,
    ) -> Result<()> {
        let mut transaction = self.pools.begin().await?;
        operations::end_silent(&mut transaction, uid, before, outcome).await?;
        Ok(transaction.commit().await?)
    }

    async fn delete_operation(&self, uid: CollectionUid, id: OperationId) -> Result<bool> {
        let mut transaction = self.pools.begin().await?;
        let deleted = operations::delete(&mut transaction, uid, id).await?;
        transaction.commit().await?;
        Ok(deleted)
    }

    async fn sweep_operations(&self, now: Timestamp) -> Result<u64> {
        let mut transaction = self.pools.begin().await?;
        let swept = operations::sweep(&mut transaction, now).await?;
        transaction.commit().await?;
        Ok(swept)
    }

    async fn review_trials(&self, uid: CollectionUid) -> Result<Vec<ReviewTrial>> {
        review_trials::all(&mut *self.pools.reader().await?, uid).await
    }

    async fn decision(&self, uid: CollectionUid, id: DecisionId) -> Result<Option<DecisionRecord>> {
        decisions::by_id(&mut *self.pools.reader().await?, uid, id).await
    }
}

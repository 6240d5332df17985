//! A collection's turn: one transaction that holds the collection until it ends.

use async_trait::async_trait;

use super::{
    Transaction, append, calibrations, collections, decisions, idempotency, identities, log, operations, review,
    review_trials, templates,
};
use crate::{DecisionRecord, IdempotencyKey, IdempotencyRecord, News, Page, Result, StoreError, Turn};
use domain::{
    CalibrationId, Change, Collection, CollectionUid, EmbeddingSpace, Encoded, Entry, Identity, IdentityId,
    KeptCalibration, Modality, Operation, OperationId, OperationOutcome, Position, ReviewCase, ReviewCaseId,
    ReviewTrial, SurveyFinding, Template, TemplateId, Timestamp,
};

/// The collection's lock is held by the transaction, from before the record and the head were read.
///
/// Each method takes the transaction out and puts it back when all went well. A method that fails, or whose caller
/// hangs up half way, therefore drops it: the turn is rolled back at once and cannot be committed in part. (Postgres
/// would answer the COMMIT of a failed transaction with a rollback that looks like success.)
#[derive(Debug)]
pub(super) struct SqlTurn {
    transaction: Option<Transaction>,
    collection: Collection,
    head: Position,
}

impl SqlTurn {
    /// # Errors
    /// [`StoreError::CollectionGone`].
    pub(super) async fn take(mut transaction: Transaction, uid: CollectionUid) -> Result<Self> {
        let head = super::lock_collection(&mut transaction, uid).await?.ok_or(StoreError::CollectionGone)?;
        let collection = collections::by_uid(&mut transaction, uid).await?.ok_or(StoreError::CollectionGone)?;
        Ok(Self { transaction: Some(transaction), collection, head: collections::position(head)? })
    }

    fn transaction(&mut self) -> Result<Transaction> {
        self.transaction
            .take()
            .ok_or_else(|| StoreError::Refused("the turn was rolled back when one of its steps failed".into()))
    }
}

#[async_trait]
impl Turn for SqlTurn {
    fn head(&self) -> Position {
        self.head
    }

    fn collection(&self) -> &Collection {
        &self.collection
    }

    async fn entries_after(&mut self, after: Position, limit: u32) -> Result<Page<Entry>> {
        let mut transaction = self.transaction()?;
        let entries = log::entries_after(&mut transaction, self.collection.uid, after, limit).await?;
        self.transaction = Some(transaction);
        Ok(entries)
    }

    async fn identity(&mut self, id: &IdentityId) -> Result<Option<Identity>> {
        let mut transaction = self.transaction()?;
        let identity = identities::by_id(&mut transaction, self.collection.uid, id).await?;
        self.transaction = Some(transaction);
        Ok(identity)
    }

    async fn template(&mut self, id: TemplateId) -> Result<Option<Template>> {
        let mut transaction = self.transaction()?;
        let template = templates::by_id(&mut transaction, self.collection.uid, id).await?;
        self.transaction = Some(transaction);
        Ok(template)
    }

    async fn enrolled(&mut self, ids: &[IdentityId]) -> Result<Vec<(Identity, u64)>> {
        let mut transaction = self.transaction()?;
        let enrolled = identities::enrolled(&mut transaction, self.collection.uid, ids).await?;
        self.transaction = Some(transaction);
        Ok(enrolled)
    }

    async fn append(&mut self, changes: &[Change], now: Timestamp) -> Result<Vec<Entry>> {
        let mut transaction = self.transaction()?;
        let uid = self.collection.uid;
        let entries = append::append(&mut transaction, uid, changes, (self.head, now)).await?;
        if let Some(position) = entries.last().map(|last| last.position) {
            collections::set_head_position(&mut transaction, uid, position).await?;
            super::announce(&mut transaction, &News::Appended { uid, position }).await?;
            self.head = position;
        }
        self.transaction = Some(transaction);
        Ok(entries)
    }

    async fn put_collection(&mut self, collection: &Collection) -> Result<()> {
        let mut transaction = self.transaction()?;
        let expected = self.collection.revision;
        if collection.uid != self.collection.uid || collection.revision != expected.next() {
            return Err(StoreError::RevisionMoved);
        }
        collections::update(&mut transaction, collection, expected).await?;
        super::announce(&mut transaction, &News::Changed(collection.uid)).await?;
        self.collection = collection.clone();
        self.transaction = Some(transaction);
        Ok(())
    }

    async fn idempotent(&mut self, key: &IdempotencyKey, now: Timestamp) -> Result<Option<IdempotencyRecord>> {
        let mut transaction = self.transaction()?;
        let record = idempotency::by_key(&mut transaction, key, now).await?;
        self.transaction = Some(transaction);
        Ok(record)
    }

    async fn keep_idempotent(
        &mut self,
        key: &IdempotencyKey,
        record: &IdempotencyRecord,
        now: Timestamp,
    ) -> Result<()> {
        let mut transaction = self.transaction()?;
        idempotency::keep(&mut transaction, key, record, now).await?;
        self.transaction = Some(transaction);
        Ok(())
    }

    async fn keep_decision(&mut self, record: &DecisionRecord) -> Result<()> {
        let mut transaction = self.transaction()?;
        decisions::keep(&mut transaction, self.collection.uid, record).await?;
        self.transaction = Some(transaction);
        Ok(())
    }

    async fn calibration(&mut self, id: CalibrationId) -> Result<Option<KeptCalibration>> {
        let mut transaction = self.transaction()?;
        let kept = calibrations::by_id(&mut transaction, self.collection.uid, id).await?;
        self.transaction = Some(transaction);
        Ok(kept)
    }

    async fn put_calibration(&mut self, calibration: &KeptCalibration, most: u64) -> Result<bool> {
        let mut transaction = self.transaction()?;
        let uid = self.collection.uid;
        let is_room = u64::try_from(calibrations::count(&mut transaction, uid).await?).is_ok_and(|held| held < most);
        if is_room {
            calibrations::put(&mut transaction, uid, calibration).await?;
        }
        self.transaction = Some(transaction);
        Ok(is_room)
    }

    async fn activate_calibration(&mut self, modality: Modality, id: Option<CalibrationId>) -> Result<()> {
        let mut transaction = self.transaction()?;
        let uid = self.collection.uid;
        // First all off: at no moment may the constraint see two.
        calibrations::deactivate_all(&mut transaction, uid, modality).await?;
        if let Some(id) = id {
            calibrations::activate(&mut transaction, uid, id).await?;
        }
        self.transaction = Some(transaction);
        Ok(())
    }

    async fn delete_calibration(&mut self, id: CalibrationId) -> Result<()> {
        let mut transaction = self.transaction()?;
        calibrations::delete(&mut transaction, self.collection.uid, id).await?;
        self.transaction = Some(transaction);
        Ok(())
    }

    async fn open_review_case(&mut self, case: &ReviewCase, samples: &[Encoded]) -> Result<()> {
        let mut transaction = self.transaction()?;
        review::open(&mut transaction, self.collection.uid, case, samples).await?;
        self.transaction = Some(transaction);
        Ok(())
    }

    async fn review_case(&mut self, id: ReviewCaseId) -> Result<Option<ReviewCase>> {
        let mut transaction = self.transaction()?;
        let case = review::by_id(&mut transaction, self.collection.uid, id).await?;
        self.transaction = Some(transaction);
        Ok(case)
    }

    async fn review_samples(&mut self, id: ReviewCaseId) -> Result<Vec<Encoded>> {
        let mut transaction = self.transaction()?;
        let samples = review::samples(&mut transaction, id).await?;
        self.transaction = Some(transaction);
        Ok(samples)
    }

    async fn review_cases_undecided(&mut self) -> Result<u64> {
        let mut transaction = self.transaction()?;
        let undecided = review::undecided(&mut transaction, self.collection.uid).await?;
        self.transaction = Some(transaction);
        Ok(undecided)
    }

    async fn put_review_case(&mut self, case: &ReviewCase) -> Result<()> {
        let mut transaction = self.transaction()?;
        review::put(&mut transaction, self.collection.uid, case).await?;
        self.transaction = Some(transaction);
        Ok(())
    }

    async fn begin_operation(&mut self, operation: &Operation, most: u64) -> Result<bool> {
        let mut transaction = self.transaction()?;
        let uid = self.collection.uid;
        let is_room = operations::running(&mut transaction, uid).await? < most;
        if is_room {
            operations::put(&mut transaction, uid, operation).await?;
        }
        self.transaction = Some(transaction);
        Ok(is_room)
    }

    async fn finish_operation(
        &mut self,
        id: OperationId,
        ended: (&OperationOutcome, Timestamp),
        findings: &[SurveyFinding<TemplateId>],
    ) -> Result<()> {
        let mut transaction = self.transaction()?;
        let uid = self.collection.uid;
        if operations::end(&mut transaction, uid, id, ended).await? {
            operations::put_findings(&mut transaction, uid, id, findings).await?;
        }
        self.transaction = Some(transaction);
        Ok(())
    }

    async fn put_review_trial(&mut self, trial: &ReviewTrial, most: u64) -> Result<()> {
        let mut transaction = self.transaction()?;
        review_trials::put(&mut transaction, self.collection.uid, trial, most).await?;
        self.transaction = Some(transaction);
        Ok(())
    }

    async fn review_trials(&mut self) -> Result<Vec<ReviewTrial>> {
        let mut transaction = self.transaction()?;
        let trials = review_trials::all(&mut transaction, self.collection.uid).await?;
        self.transaction = Some(transaction);
        Ok(trials)
    }

    async fn delete_review_trial(&mut self, case: ReviewCaseId) -> Result<()> {
        let mut transaction = self.transaction()?;
        review_trials::delete(&mut transaction, self.collection.uid, case).await?;
        self.transaction = Some(transaction);
        Ok(())
    }

    async fn accepted_below(&mut self, posterior: f64) -> Result<Vec<(EmbeddingSpace, IdentityId, TemplateId)>> {
        let mut transaction = self.transaction()?;
        let accepted = templates::accepted_below(&mut transaction, self.collection.uid, posterior).await?;
        self.transaction = Some(transaction);
        Ok(accepted)
    }

    async fn commit(mut self: Box<Self>) -> Result<()> {
        Ok(self.transaction()?.commit().await?)
    }
}

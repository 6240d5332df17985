//! Idempotency: an answer is kept under the request id of its caller; a repeated request receives it again.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};

use super::Writes;
use crate::matcher::{request::context::Context, request::fault::Fault};
use domain::{CollectionId, Timestamp};
use store::{IdempotencyKey, IdempotencyRecord};

/// Retention of an answer.
const KEPT: Duration = Duration::from_hours(24);

/// The key of a request; `None` without a request id.
pub(crate) fn key(context: &Context, collection: Option<&CollectionId>) -> Option<IdempotencyKey> {
    context.idempotent.as_ref().map(|request| IdempotencyKey {
        principal: context.principal.to_string(),
        method: request.method,
        collection: collection.map(ToString::to_string).unwrap_or_default(),
        key: request.request_id.clone(),
    })
}

impl Writes {
    /// The earlier answer of this request, read before any costly work. The turn reads it again.
    pub(crate) async fn answered_before<T: DeserializeOwned>(
        &self,
        context: &Context,
        collection: &CollectionId,
    ) -> Result<Option<T>, Fault> {
        match key(context, Some(collection)) {
            None => Ok(None),
            Some(key) => {
                answer(context, self.store.idempotency_keys().idempotency_record(&key, self.clock.now()).await?)
            }
        }
    }

    /// Keeps the answer of a request that took no turn. Returns the kept answer, which may be an earlier one.
    pub(crate) async fn keep_first<T: Serialize + DeserializeOwned>(
        &self,
        context: &Context,
        collection: &CollectionId,
        given: T,
    ) -> Result<T, Fault> {
        let now = self.clock.now();
        let (Some(key), Some(record)) = (key(context, Some(collection)), record(context, &given, now)?) else {
            return Ok(given);
        };
        self.store.idempotency_keys().put_idempotency_record(&key, &record, now).await?;
        Ok(self.answered_before(context, collection).await?.unwrap_or(given))
    }
}

/// The kept answer of a request.
///
/// # Errors
/// [`Fault::RequestIdReused`] when the id belongs to another request.
pub(crate) fn answer<T: DeserializeOwned>(
    context: &Context,
    found: Option<IdempotencyRecord>,
) -> Result<Option<T>, Fault> {
    let (Some(request), Some(record)) = (&context.idempotent, found) else {
        return Ok(None);
    };
    if record.body_hash != request.body_hash {
        return Err(Fault::RequestIdReused);
    }
    serde_json::from_slice(&record.answer).map(Some).map_err(Fault::internal)
}

/// The record of an answer; `None` without a request id.
pub(crate) fn record<T: Serialize>(
    context: &Context,
    answer: &T,
    now: Timestamp,
) -> Result<Option<IdempotencyRecord>, Fault> {
    let Some(request) = &context.idempotent else {
        return Ok(None);
    };
    Ok(Some(IdempotencyRecord {
        body_hash: request.body_hash,
        answer: serde_json::to_vec(answer).map_err(Fault::internal)?,
        expire_time: now.checked_add(KEPT).map_err(Fault::internal)?,
    }))
}

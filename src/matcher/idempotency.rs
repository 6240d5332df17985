//! Asking again changes nothing: answers are kept under the id that the caller chose.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};

use super::{Context, Fault, Matcher};
use domain::{CollectionId, Timestamp};
use store::{IdempotencyKey, IdempotencyRecord};

/// How long an answer is kept.
const KEPT: Duration = Duration::from_hours(24);

/// The key of a request, if its caller gave it an id.
pub(super) fn key(context: &Context, collection: Option<&CollectionId>) -> Option<IdempotencyKey> {
    context.once.as_ref().map(|once| IdempotencyKey {
        principal: context.principal.to_string(),
        method: once.method,
        collection: collection.map(ToString::to_string).unwrap_or_default(),
        key: once.request_id.clone(),
    })
}

impl Matcher {
    /// The answer that this request got before, looked up before anything costly is done. The turn looks again.
    pub(super) async fn answered_before<T: DeserializeOwned>(
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
}

impl Matcher {
    /// Keeps the answer of a request that took no turn; answers the one that stays, which may be an earlier one.
    pub(super) async fn keep_first<T: Serialize + DeserializeOwned>(
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

/// The answer that was given then.
///
/// # Errors
/// [`Fault::RequestIdReused`] when the request then was another one.
pub(super) fn answer<T: DeserializeOwned>(
    context: &Context,
    found: Option<IdempotencyRecord>,
) -> Result<Option<T>, Fault> {
    let (Some(once), Some(record)) = (&context.once, found) else {
        return Ok(None);
    };
    if record.body_hash != once.body_hash {
        return Err(Fault::RequestIdReused);
    }
    serde_json::from_slice(&record.answer).map(Some).map_err(Fault::internal)
}

/// The record to keep for an answer.
pub(super) fn record<T: Serialize>(
    context: &Context,
    answer: &T,
    now: Timestamp,
) -> Result<Option<IdempotencyRecord>, Fault> {
    let Some(once) = &context.once else {
        return Ok(None);
    };
    Ok(Some(IdempotencyRecord {
        body_hash: once.body_hash,
        answer: serde_json::to_vec(answer).map_err(Fault::internal)?,
        expire_time: now.checked_add(KEPT).map_err(Fault::internal)?,
    }))
}

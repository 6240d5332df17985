//! Rows as both databases store them, and the domain values that they stand for.
//!
//! Writing cannot fail. Reading can, because a database may hold values that this program did not write. The error then
//! names the table and the column or the template, never a label and never a number of an embedding.

mod calibrations;
mod collections;
mod decisions;
mod idempotency;
mod identities;
mod log;
mod operations;
mod payload;
mod regroupings;
mod review_samples;
mod templates;

use sqlx::FromRow;

pub(super) use calibrations::{CalibrationRow, logit_bytes, mated_logit_bytes, trial_bytes};
pub(super) use collections::{CollectionRow, HeadRow, role_word};
pub(super) use decisions::DecisionRow;
pub(super) use idempotency::IdempotencyRow;
pub(super) use identities::{EnrolledRow, ExpiredRow, IdentityRow};
pub(super) use log::{LogEntry, LogRow};
pub(super) use operations::{FindingRow, OperationRow};
pub(super) use payload::{ChecksumState, F32LE_UNIT, StoredTemplateRow, checksum, payload_bytes};
pub(super) use regroupings::{LineageRecords, OtherBody, OtherRow, RegroupingRow, TemplateMoveRow};
pub(super) use review_samples::{SampleDescription, SampleRow};
pub(super) use templates::{AcceptedRow, OwnedTemplateRow, TemplateRow, origin_word};

use super::{Result, StoreError, fault::corrupt};
use domain::{EmbeddingSpace, IdentityId, Modality, ModelDigest, SpaceName, Timestamp};

/// Microseconds since the epoch, as the databases store an instant.
pub(super) fn micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

/// An instant as it comes back from the database: without what is below a microsecond.
pub(super) fn to_micros(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(micros(time)).unwrap_or(time)
}

/// A count as the databases store it. Counts of this program stay far below 2^63; a position that a client invented may
/// not, and then stands behind all others.
pub(super) fn bigint(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_possible_truncation, reason = "it was an f32 when it was written")]
fn narrow(number: f64) -> f32 {
    number as f32
}

/// Reads columns of one table. Its errors name the table.
#[derive(Debug, Clone, Copy)]
struct Table(&'static str);

impl Table {
    fn unreadable(self, column: &str) -> StoreError {
        corrupt(format!("column {column} of a row of {}", self.0))
    }

    fn count(self, value: i64) -> Result<u64> {
        u64::try_from(value).map_err(|_| corrupt(format!("a negative count in a row of {}", self.0)))
    }

    fn time(self, micros: i64) -> Result<Timestamp> {
        Timestamp::from_microsecond(micros).map_err(|_| corrupt(format!("an impossible time in a row of {}", self.0)))
    }

    /// The value among `known` that is written as `text`.
    fn word<T: Copy>(
        self,
        column: &str,
        known: impl IntoIterator<Item = T>,
        as_str: fn(T) -> &'static str,
        text: &str,
    ) -> Result<T> {
        known.into_iter().find(|value| as_str(*value) == text).ok_or_else(|| self.unreadable(column))
    }

    fn identity_id(self, text: &str) -> Result<IdentityId> {
        IdentityId::new(text).map_err(|_| corrupt(format!("the identity's id in a row of {}", self.0)))
    }

    fn space_name(self, text: &str) -> Result<SpaceName> {
        SpaceName::new(text).map_err(|_| corrupt(format!("the space's name in a row of {}", self.0)))
    }

    fn space(self, columns: &SpaceColumns) -> Result<EmbeddingSpace> {
        let SpaceColumns { modality, digest, dimension, parts } = columns;
        Ok(EmbeddingSpace {
            modality: modality.parse::<Modality>().map_err(|_| self.unreadable("modality"))?,
            digest: ModelDigest(digest.as_slice().try_into().map_err(|_| self.unreadable("digest"))?),
            dimension: u32::try_from(*dimension).map_err(|_| self.unreadable("dimension"))?,
            parts: u32::try_from(*parts).map_err(|_| self.unreadable("parts"))?,
        })
    }
}

/// The columns that name an embedding space.
#[derive(Debug, FromRow)]
struct SpaceColumns {
    modality: String,
    digest: Vec<u8>,
    dimension: i64,
    parts: i64,
}

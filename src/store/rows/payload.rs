//! The embedding of a template or of a review sample as both databases store it, and its checksum.

use sqlx::FromRow;
use uuid::Uuid;

use super::TemplateRow;
use crate::{Result, fault::corrupt};
use domain::{Embedding, EmbeddingSpace, StoredTemplate, TemplateId};

/// The one payload format so far: the numbers of a unit vector as 32-bit floats, little endian.
pub(crate) const F32LE_UNIT: &str = "f32le-unit";

pub(crate) fn payload_bytes(embedding: &Embedding) -> Vec<u8> {
    embedding.values().iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// CRC-32 over the id of the template or review case, and the bytes. The id is included because a payload at the wrong
/// record is an error too.
pub(crate) fn checksum(id: Uuid, bytes: &[u8]) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(id.as_bytes());
    hash.update(bytes);
    hash.finalize()
}

/// A template joined with its payload.
#[derive(Debug, FromRow)]
pub(crate) struct StoredTemplateRow {
    #[sqlx(flatten)]
    template: TemplateRow,
    format: String,
    key_id: Option<String>,
    bytes: Vec<u8>,
    crc32: Option<i64>,
}

/// The stored checksum of a payload compared with its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChecksumState {
    /// The payload was written before payloads had checksums.
    Missing,
    Right,
    Wrong,
}

impl StoredTemplateRow {
    pub(crate) fn read(self) -> Result<StoredTemplate> {
        let id = self.id();
        if self.checksum_state() == ChecksumState::Wrong {
            return Err(corrupt(format!(
                "the payload of template {id} does not match its checksum; `semblance doctor` lists all such templates"
            )));
        }
        let template = self.template.read()?;
        if self.format != F32LE_UNIT || self.key_id.is_some() {
            return Err(corrupt(format!("the payload of template {id} has a format unknown to this program")));
        }
        let embedding = embedding_of(template.space, &self.bytes).ok_or_else(|| {
            corrupt(format!(
                "the payload of template {id} is not {} finite numbers of unit length",
                template.space.dimension
            ))
        })?;
        Ok(StoredTemplate { template, embedding })
    }

    pub(crate) fn id(&self) -> TemplateId {
        self.template.id()
    }

    pub(crate) fn identity_id(&self) -> &str {
        self.template.identity_id()
    }

    /// The column as it is stored, even if it is negative.
    pub(crate) fn position(&self) -> i64 {
        self.template.position()
    }

    /// The checksum that the bytes have.
    pub(crate) fn checksum(&self) -> u32 {
        checksum(self.id().0, &self.bytes)
    }

    pub(crate) fn checksum_state(&self) -> ChecksumState {
        match self.crc32 {
            None => ChecksumState::Missing,
            Some(stored) if stored == i64::from(self.checksum()) => ChecksumState::Right,
            Some(_) => ChecksumState::Wrong,
        }
    }
}

/// The embedding that a payload's bytes are; `None` if they are no embedding of the space.
pub(super) fn embedding_of(space: EmbeddingSpace, bytes: &[u8]) -> Option<Embedding> {
    let (numbers, rest) = bytes.as_chunks();
    if !rest.is_empty() {
        return None;
    }
    Embedding::restored(space, numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
}

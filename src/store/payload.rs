//! A template's numbers as both databases keep them, and how damage to them is noticed.

use sqlx::FromRow;
use uuid::Uuid;

use super::{
    Result, StoreError,
    fault::corrupt,
    rows::{F32LE_UNIT, TemplateRow},
};
use domain::{Embedding, EmbeddingSpace, StoredTemplate, Template, TemplateId};

/// Over the id too: numbers that stand at another template are as wrong as changed ones.
pub(super) fn checksum(id: TemplateId, bytes: &[u8]) -> u32 {
    checksum_of(id.0, bytes)
}

/// The same over any record's id.
pub(super) fn checksum_of(id: Uuid, bytes: &[u8]) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(id.as_bytes());
    hash.update(bytes);
    hash.finalize()
}

/// A template beside its payload.
#[derive(Debug, FromRow)]
pub(super) struct StoredTemplateRow {
    #[sqlx(flatten)]
    template: TemplateRow,
    format: String,
    key_id: Option<String>,
    bytes: Vec<u8>,
    crc32: Option<i64>,
}

/// What a payload's checksum says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checked {
    /// The payload is from before there were checksums.
    Missing,
    Right,
    Wrong,
}

impl StoredTemplateRow {
    pub(super) fn id(&self) -> TemplateId {
        self.template.id()
    }

    pub(super) fn identity(&self) -> &str {
        self.template.identity()
    }

    /// Where the row stands in position order, readable or not.
    pub(super) fn place(&self) -> i64 {
        self.template.place()
    }

    /// The checksum that the payload should have.
    pub(super) fn checksum(&self) -> u32 {
        checksum(self.id(), &self.bytes)
    }

    pub(super) fn check(&self) -> Checked {
        match self.crc32 {
            None => Checked::Missing,
            Some(kept) if kept == i64::from(self.checksum()) => Checked::Right,
            Some(_) => Checked::Wrong,
        }
    }
}

impl TryFrom<StoredTemplateRow> for StoredTemplate {
    type Error = StoreError;

    fn try_from(row: StoredTemplateRow) -> Result<Self> {
        let id = row.id();
        if row.check() == Checked::Wrong {
            return Err(corrupt(format!(
                "the payload of template {id} does not have its checksum; semblance doctor lists all such"
            )));
        }
        let template = Template::try_from(row.template)?;
        if row.format != F32LE_UNIT || row.key_id.is_some() {
            return Err(corrupt(format!("the payload of template {id} has a form unknown to this program")));
        }
        let embedding = unsealed(template.space, &row.bytes).ok_or_else(|| {
            corrupt(format!(
                "the payload of template {id} is not {} finite numbers of unit length",
                template.space.dimension
            ))
        })?;
        Ok(Self { template, embedding })
    }
}

/// The embedding that a payload's bytes are; `None` when they are none of the space.
pub(super) fn unsealed(space: EmbeddingSpace, bytes: &[u8]) -> Option<Embedding> {
    let (numbers, rest) = bytes.as_chunks();
    if !rest.is_empty() {
        return None;
    }
    Embedding::restored(space, numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
}

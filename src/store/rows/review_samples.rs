use serde::{Deserialize, Serialize};
use sqlx::{FromRow, types::Json};

use super::{F32LE_UNIT, checksum, payload::embedding_of};
use crate::{Result, fault::corrupt};
use domain::{EmbeddingSpace, Encoded, ReviewCaseId, SampleReport, SpaceName, TemplateOrigin};

/// The column `about`: all of a review sample except its embedding.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SampleDescription {
    space: EmbeddingSpace,
    model: SpaceName,
    origin: TemplateOrigin,
    external: bool,
    report: SampleReport,
}

impl From<&Encoded> for SampleDescription {
    fn from(sample: &Encoded) -> Self {
        Self {
            space: sample.embedding.space(),
            model: sample.model.clone(),
            origin: sample.origin,
            external: sample.external,
            report: sample.report.clone(),
        }
    }
}

#[derive(Debug, FromRow)]
pub(crate) struct SampleRow {
    about: Json<SampleDescription>,
    format: String,
    key_id: Option<String>,
    bytes: Vec<u8>,
    crc32: i64,
}

impl SampleRow {
    pub(crate) fn read(self, case: ReviewCaseId) -> Result<Encoded> {
        let SampleDescription { space, model, origin, external, report } = self.about.0;
        let is_readable = i64::from(checksum(case.0, &self.bytes)) == self.crc32
            && self.key_id.is_none()
            && self.format == F32LE_UNIT;
        let embedding = is_readable
            .then(|| embedding_of(space, &self.bytes))
            .flatten()
            .ok_or_else(|| corrupt(format!("the payload of a sample of review case {case} is damaged")))?;
        Ok(Encoded { embedding, model, origin, external, report })
    }
}

//! One row of a file of any format.

use std::collections::BTreeMap;

use domain::{DIMENSION_MAX, Embedding, IdentityId, Labels, Modality, ModelDigest, Sample, SampleContent, SpaceName};

/// A row: an identity and its sample.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportRow {
    /// Counted from 1: line of a JSON lines file, row of a table.
    pub number: u64,
    pub identity: IdentityId,
    pub labels: Labels,
    pub sample: Sample,
    /// Model digest of the embedding, if given: model names may be reused, digests are not.
    pub digest: Option<ModelDigest>,
}

/// An invalid row and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    pub number: u64,
    pub problem: String,
}

/// A row or its error.
pub type RowRead = Result<ImportRow, BadRow>;

/// Defaults for rows without these fields.
#[derive(Debug, Clone, Default)]
pub struct RowDefaults {
    pub model: Option<SpaceName>,
    pub modality: Option<Modality>,
}

/// A template for export.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    pub identity: IdentityId,
    pub labels: Labels,
    pub modality: Modality,
    pub model: SpaceName,
    pub digest: ModelDigest,
    /// Written to files with embeddings.
    pub embedding: Embedding,
}

/// The unchecked fields of a row in any format.
#[derive(Debug, Default)]
pub(super) struct RowFields<'r> {
    pub(super) identity: &'r str,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) model: Option<&'r str>,
    pub(super) modality: Option<&'r str>,
    pub(super) digest: Option<&'r str>,
}

impl RowFields<'_> {
    /// Builds the row of an embedding.
    pub(super) fn with_embedding(self, values: Vec<f32>, defaults: &RowDefaults) -> Result<ImportRow, String> {
        let model = match self.model {
            Some(name) => Some(SpaceName::new(name).map_err(|problem| format!("model: {problem}"))?),
            None => defaults.model.clone(),
        };
        let model = model.ok_or("the row has no model for its embedding; --model sets it for all rows")?;
        if values.is_empty() || values.len() > DIMENSION_MAX as usize {
            return Err(format!("an embedding has 1 to {DIMENSION_MAX} numbers, this one has {}", values.len()));
        }
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(format!("number {at} of the embedding is not finite"));
        }
        self.with(SampleContent::Embedding { model, values }, defaults)
    }

    /// Builds the row of any sample.
    pub(super) fn with(self, content: SampleContent, defaults: &RowDefaults) -> Result<ImportRow, String> {
        let modality = match self.modality {
            Some(word) => Some(word.parse::<Modality>().map_err(|problem| format!("modality: {problem}"))?),
            None => defaults.modality,
        };
        let modality = modality.ok_or("the row has no modality; --modality sets it for all rows")?;
        let digest = self.digest.map(str::parse).transpose();
        Ok(ImportRow {
            number: 0,
            digest: digest.map_err(|_| "digest: 64 hexadecimal digits are expected")?,
            identity: IdentityId::new(self.identity).map_err(|problem| format!("identity: {problem}"))?,
            labels: Labels::try_from(self.labels).map_err(|problem| format!("labels: {problem}"))?,
            sample: Sample { modality, content },
        })
    }
}

/// Adds the number to a row or its error.
pub(super) fn numbered(number: u64, read: Result<ImportRow, String>) -> RowRead {
    match read {
        Ok(row) => Ok(ImportRow { number, ..row }),
        Err(problem) => Err(BadRow { number, problem }),
    }
}

//! One row of a file, whatever the file's form.

use std::collections::BTreeMap;

use domain::{DIMENSION_MAX, Embedding, IdentityId, Labels, Modality, ModelDigest, Sample, SampleContent, SpaceName};

/// Whom to enroll from what, as a row says it.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportRow {
    /// 1 is the first: the line of JSON lines, the row of a table.
    pub number: u64,
    pub identity: IdentityId,
    pub labels: Labels,
    pub sample: Sample,
    /// Of the embedding's space, where the row says it: names of models are given anew, digests are not.
    pub digest: Option<ModelDigest>,
}

/// A row that cannot be read, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    pub number: u64,
    pub problem: String,
}

/// A row, or what is wrong with it.
pub type RowRead = Result<ImportRow, BadRow>;

/// What rows mean that do not say it.
#[derive(Debug, Clone, Default)]
pub struct RowDefaults {
    pub model: Option<SpaceName>,
    pub modality: Option<Modality>,
}

/// A template as a file keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    pub identity: IdentityId,
    pub labels: Labels,
    pub modality: Modality,
    pub model: SpaceName,
    pub digest: ModelDigest,
    /// Written where the file is to hold embeddings.
    pub embedding: Embedding,
}

/// What a row of any form says, unchecked.
#[derive(Debug, Default)]
pub(super) struct RowFields<'r> {
    pub(super) identity: &'r str,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) model: Option<&'r str>,
    pub(super) modality: Option<&'r str>,
    pub(super) digest: Option<&'r str>,
}

impl RowFields<'_> {
    /// The row of an embedding.
    pub(super) fn with_embedding(self, values: Vec<f32>, defaults: &RowDefaults) -> Result<ImportRow, String> {
        let model = match self.model {
            Some(name) => Some(SpaceName::new(name).map_err(|problem| format!("model: {problem}"))?),
            None => defaults.model.clone(),
        };
        let model = model.ok_or("the row does not say of which model its embedding is; --model says it for all")?;
        if values.is_empty() || values.len() > DIMENSION_MAX as usize {
            return Err(format!("an embedding has 1 to {DIMENSION_MAX} numbers, this one has {}", values.len()));
        }
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(format!("number {at} of the embedding is not finite"));
        }
        self.with(SampleContent::Embedding { model, values }, defaults)
    }

    /// The row of any sample.
    pub(super) fn with(self, content: SampleContent, defaults: &RowDefaults) -> Result<ImportRow, String> {
        let modality = match self.modality {
            Some(word) => Some(word.parse::<Modality>().map_err(|problem| format!("modality: {problem}"))?),
            None => defaults.modality,
        };
        let modality = modality.ok_or("the row does not say its modality; --modality says it for all")?;
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

/// A row with its number, or what is wrong with the row of that number.
pub(super) fn numbered(number: u64, read: Result<ImportRow, String>) -> RowRead {
    match read {
        Ok(row) => Ok(ImportRow { number, ..row }),
        Err(problem) => Err(BadRow { number, problem }),
    }
}

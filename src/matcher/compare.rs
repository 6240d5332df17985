//! Extract and compare: what encoders make of samples, with no gallery and nothing stored.

use super::{Context, Fault, Matcher};
use crate::domain::{Embedding, Sample, Similarity, SpaceName};

/// What an encoder made of a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Extracted {
    pub embedding: Embedding,
    pub model: SpaceName,
}

/// One for each sample, in order.
pub type Extraction = Vec<Extracted>;

impl Matcher {
    pub async fn extract(&self, context: &Context, samples: Vec<Sample>) -> Result<Extraction, Fault> {
        let encoded = self.encode(context, None, samples).await?;
        Ok(encoded.into_iter().map(|e| Extracted { embedding: e.embedding, model: e.model }).collect())
    }

    /// Every probe with every reference: one row for each probe.
    ///
    /// # Errors
    /// When a probe and a reference are of different spaces.
    pub async fn compare(
        &self,
        context: &Context,
        probes: Vec<Sample>,
        references: Vec<Sample>,
    ) -> Result<Vec<Vec<Similarity>>, Fault> {
        let (probes, references) = tokio::try_join!(self.extract(context, probes), self.extract(context, references))?;
        probes.iter().map(|p| references.iter().map(|r| similarity(p, r)).collect()).collect()
    }
}

fn similarity(probe: &Extracted, reference: &Extracted) -> Result<Similarity, Fault> {
    probe.embedding.similarity(&reference.embedding).ok_or_else(|| Fault::OtherSpace {
        modality: probe.embedding.space().modality,
        active: reference.model.clone(),
        given: probe.model.clone(),
    })
}

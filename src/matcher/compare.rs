//! Extract and compare: what encoders make of samples, with no gallery and nothing stored.

use super::{
    Context, Fault, Matcher,
    probe::{ask, encoded},
};
use domain::{Embedding, Encoded, Sample, SampleContent, SampleReport, Similarity, SpaceName};

/// What an encoder made of a sample, or of one face of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Extracted {
    pub embedding: Embedding,
    pub model: SpaceName,
    /// Which of the samples, the first being 0.
    pub sample: usize,
    pub report: SampleReport,
}

/// In the order of the samples; of a photo with several faces one for each.
pub type Extraction = Vec<Extracted>;

/// How alike samples are.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// One row for each probe: its similarity to every reference.
    pub rows: Vec<Vec<Similarity>>,
    pub probes: Vec<SampleReport>,
    pub references: Vec<SampleReport>,
}

impl Matcher {
    /// Every face of photos that do not say which is meant; of all else the one thing that a sample shows.
    pub async fn extract(&self, context: &Context, samples: Vec<Sample>) -> Result<Extraction, Fault> {
        self.check_count(&samples)?;
        let alone = samples.len() == 1;
        let one = |(at, sample)| async move {
            let found = self.extract_one(context, sample).await;
            let found = found.map_err(|fault| if alone { fault } else { Fault::of_sample(fault, at) })?;
            let told = |Encoded { embedding, model, report, .. }| Extracted { embedding, model, sample: at, report };
            Ok::<_, Fault>(found.into_iter().map(told).collect::<Extraction>())
        };
        let found = futures::future::try_join_all(samples.into_iter().enumerate().map(one)).await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn extract_one(&self, context: &Context, sample: Sample) -> Result<Vec<Encoded>, Fault> {
        if matches!(sample.content, SampleContent::Embedding { .. }) {
            return self.encode(context, None, vec![sample]).await;
        }
        let encoder = self.encoder_for(None, sample.modality)?;
        let encodings = encoder.encode_all(sample, ask(context, None)).await?;
        Ok(encodings.into_iter().map(|encoding| encoded(encoder, encoding)).collect())
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
    ) -> Result<Compared, Fault> {
        let (probes, references) =
            tokio::try_join!(self.encode(context, None, probes), self.encode(context, None, references))?;
        let row = |probe: &Encoded| references.iter().map(|reference| similarity(probe, reference)).collect();
        let rows = probes.iter().map(row).collect::<Result<_, Fault>>()?;
        let reports = |parts: Vec<Encoded>| parts.into_iter().map(|part| part.report).collect();
        Ok(Compared { rows, probes: reports(probes), references: reports(references) })
    }
}

fn similarity(probe: &Encoded, reference: &Encoded) -> Result<Similarity, Fault> {
    probe.embedding.similarity(&reference.embedding).ok_or_else(|| Fault::OtherSpace {
        modality: probe.embedding.space().modality,
        active: reference.model.clone(),
        given: probe.model.clone(),
    })
}

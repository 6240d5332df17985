//! Extract and compare: embeddings of samples, without a gallery and without storage.

use crate::matcher::{Matcher, request::context::Context, request::fault::Fault};
use domain::{Embedding, Encoded, Sample, SampleReport, Similarity, SpaceName};

/// The embedding of a sample, or of one face of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ExtractedEmbedding {
    pub embedding: Embedding,
    pub model: SpaceName,
    /// The index of the sample, from 0.
    pub sample: usize,
    pub report: SampleReport,
}

/// In the order of the samples; one item per face of a photo.
pub type Extraction = Vec<ExtractedEmbedding>;

/// The similarities of samples.
#[derive(Debug, Clone, PartialEq)]
pub struct CompareResult {
    /// One row per probe: its similarity to every reference.
    pub rows: Vec<Vec<Similarity>>,
    pub probes: Vec<SampleReport>,
    pub references: Vec<SampleReport>,
}

impl Matcher {
    /// The embeddings of every face of a photo that selects none, and of the one subject of any other sample.
    pub async fn extract(&self, context: &Context, samples: Vec<Sample>) -> Result<Extraction, Fault> {
        self.recognition.check_count(&samples)?;
        let is_single = samples.len() == 1;
        let one = |(at, sample)| async move {
            let found = self.recognition.encode_all(context, sample).await;
            let found = found.map_err(|fault| if is_single { fault } else { Fault::of_sample(fault, at) })?;
            let extracted =
                |Encoded { embedding, model, report, .. }| ExtractedEmbedding { embedding, model, sample: at, report };
            Ok::<_, Fault>(found.into_iter().map(extracted).collect::<Extraction>())
        };
        let found = futures::future::try_join_all(samples.into_iter().enumerate().map(one)).await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Compares every probe with every reference.
    ///
    /// # Errors
    /// [`Fault::OtherSpace`] when a probe and a reference are of different spaces.
    pub async fn compare(
        &self,
        context: &Context,
        probes: Vec<Sample>,
        references: Vec<Sample>,
    ) -> Result<CompareResult, Fault> {
        let encode = |samples| self.recognition.encode(context, None, samples);
        let (probes, references) = tokio::try_join!(encode(probes), encode(references))?;
        let row = |probe: &Encoded| references.iter().map(|reference| similarity(probe, reference)).collect();
        let rows = probes.iter().map(row).collect::<Result<_, Fault>>()?;
        let reports = |parts: Vec<Encoded>| parts.into_iter().map(|part| part.report).collect();
        Ok(CompareResult { rows, probes: reports(probes), references: reports(references) })
    }
}

fn similarity(probe: &Encoded, reference: &Encoded) -> Result<Similarity, Fault> {
    probe.embedding.similarity(&reference.embedding).ok_or_else(|| Fault::OtherSpace {
        modality: probe.embedding.space().modality,
        active: reference.model.clone(),
        given: probe.model.clone(),
    })
}

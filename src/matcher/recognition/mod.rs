//! From samples to embeddings: the encoders that the use cases need, and the probe of a request.

pub(crate) mod probe;
pub(crate) mod sample_encoders;

use std::sync::Arc;

use self::{
    probe::{Probe, ProbeView},
    sample_encoders::{SampleEncoder, SampleEncoders},
};
use crate::matcher::{options::RecognitionOptions, request::context::Context, request::fault::Fault};
use domain::{
    Collection, Embedding, EmbeddingSpace, Encoded, Modality, PackageCalibration, PadMode, PadPolicy, Sample,
    SampleContent, SampleReport, SpaceName, TemplateOrigin,
};
use encoder::{EncodeParameters, Encoding, RequestShare, ShareId, WorkRequest};

/// Makes embeddings of samples in the spaces of a collection. Clones share the encoders.
#[derive(Debug, Clone)]
pub(crate) struct Recognition {
    encoders: Arc<dyn SampleEncoders>,
    samples_max: usize,
}

impl Recognition {
    pub(crate) fn new(encoders: Arc<dyn SampleEncoders>, options: &RecognitionOptions) -> Self {
        Self { encoders, samples_max: options.samples_max }
    }

    pub(crate) fn encoders(&self) -> &dyn SampleEncoders {
        &*self.encoders
    }

    pub(crate) fn samples_max(&self) -> usize {
        self.samples_max
    }

    /// The measurements of the model package of a space, where it is installed and has them.
    pub(crate) fn package_calibration(&self, space: EmbeddingSpace) -> Option<&PackageCalibration> {
        self.encoders.by_digest(space.digest).and_then(SampleEncoder::calibration)
    }

    /// Encodes samples in the spaces of the collection, in the order of the samples; without a collection in the spaces
    /// of the serving models.
    ///
    /// # Errors
    /// The fault of the first sample that fails; with several samples it names the sample.
    pub(crate) async fn encode(
        &self,
        context: &Context,
        collection: Option<&Collection>,
        samples: Vec<Sample>,
    ) -> Result<Vec<Encoded>, Fault> {
        self.check_count(&samples)?;
        // All start at once: samples of one model meet in its queue and make a batch.
        let is_single = samples.len() == 1;
        let share = self.admit(context, &samples)?;
        let id = share.id();
        let one = |(at, sample)| async move {
            let encoded = self.encode_one(context, collection, sample, id).await;
            encoded.map_err(|fault| if is_single { fault } else { fault.of_sample(at) })
        };
        futures::future::try_join_all(samples.into_iter().enumerate().map(one)).await
    }

    /// # Errors
    /// An invalid argument when there is no sample, or more than the maximum.
    pub(crate) fn check_count(&self, samples: &[Sample]) -> Result<(), Fault> {
        if samples.is_empty() {
            return Err(Fault::invalid("samples", "at least one sample is needed"));
        }
        if samples.len() > self.samples_max {
            let problem = format!("a request has at most {} samples, this one has {}", self.samples_max, samples.len());
            return Err(Fault::invalid("samples", problem));
        }
        Ok(())
    }

    pub(crate) async fn encode_one(
        &self,
        context: &Context,
        collection: Option<&Collection>,
        sample: Sample,
        share: Option<ShareId>,
    ) -> Result<Encoded, Fault> {
        let modality = sample.modality;
        if let SampleContent::Embedding { model, values } = sample.content {
            let NamedSpace { space, external } = self.space_named(collection, &model)?;
            if space.modality != modality {
                return Err(Fault::invalid("samples.modality", format!("{model} is a space of {}", space.modality)));
            }
            let embedding = Embedding::new(space, &values)?;
            let report = SampleReport::default();
            return Ok(Encoded { embedding, model, origin: TemplateOrigin::Embedding, external, report });
        }
        let encoder = self.encoder_for(collection, modality)?;
        let encoding = encoder.encode(sample, parameters(context, collection, share)).await?;
        Ok(encoded(encoder, encoding))
    }

    /// Admits a request with these samples, or refuses it before any work.
    pub(crate) fn admit(&self, context: &Context, samples: &[Sample]) -> Result<RequestShare, Fault> {
        let samples = samples.iter().map(pictures).sum();
        if samples == 0 {
            return Ok(RequestShare::none());
        }
        let (urgency, deadline) = (context.urgency, context.deadline);
        Ok(self.encoders.admit(WorkRequest { principal: context.principal.name(), samples, urgency, deadline })?)
    }

    /// Encodes every face of a photo that selects none, and the one subject of any other sample.
    pub(crate) async fn encode_all(&self, context: &Context, sample: Sample) -> Result<Vec<Encoded>, Fault> {
        if matches!(sample.content, SampleContent::Embedding { .. }) {
            return self.encode(context, None, vec![sample]).await;
        }
        let encoder = self.encoder_for(None, sample.modality)?;
        let share = self.admit(context, std::slice::from_ref(&sample))?;
        let encodings = encoder.encode_all(sample, parameters(context, None, share.id())).await?;
        Ok(encodings.into_iter().map(|encoding| encoded(encoder, encoding)).collect())
    }

    /// The encoder of a modality: that of the space that the collection searches, else the serving one.
    fn encoder_for(&self, collection: Option<&Collection>, modality: Modality) -> Result<&dyn SampleEncoder, Fault> {
        match collection.and_then(|c| c.active_space(modality)) {
            None => self.encoders.for_modality(modality).ok_or(Fault::NoEncoder(modality)),
            Some(active) if active.external => Err(Fault::ExternalSpace { modality, model: active.name.clone() }),
            Some(active) => self
                .encoders
                .by_digest(active.space.digest)
                .ok_or_else(|| Fault::EncoderGone { modality, model: active.name.clone() }),
        }
    }

    /// The space of an embedding that a client made.
    fn space_named(&self, collection: Option<&Collection>, name: &SpaceName) -> Result<NamedSpace, Fault> {
        if let Some(binding) = collection.and_then(|c| c.space_named(name)) {
            return Ok(NamedSpace { space: binding.space, external: binding.external });
        }
        let encoder = self.encoders.by_name(name).ok_or_else(|| Fault::UnknownSpace(name.clone()))?;
        Ok(NamedSpace { space: encoder.space(), external: false })
    }

    /// Encodes the probe of a request. Embeddings of one modality are averaged.
    ///
    /// # Errors
    /// When a sample is of another space than the collection searches, or samples of one modality are of several spaces.
    pub(crate) async fn probe(
        &self,
        context: &Context,
        collection: &Collection,
        samples: Vec<Sample>,
    ) -> Result<Probe, Fault> {
        let parts = self.encode(context, Some(collection), samples).await?;
        let mut modalities: Vec<Modality> = Vec::new();
        for part in &parts {
            let modality = part.embedding.space().modality;
            if !modalities.contains(&modality) {
                modalities.push(modality);
            }
        }
        let views = modalities.into_iter().map(|modality| ProbeView::of(modality, collection, &parts));
        Ok(Probe { views: views.collect::<Result<_, Fault>>()?, parts })
    }
}

/// The space that a name stands for.
struct NamedSpace {
    space: EmbeddingSpace,
    /// Declared by a client, not made by a model of this server.
    external: bool,
}

/// How often the models work on a sample.
fn pictures(sample: &Sample) -> usize {
    match &sample.content {
        SampleContent::Embedding { .. } => 0,
        SampleContent::Track(pictures) => pictures.len(),
        _ => 1,
    }
}

/// The encoding parameters of a request: presentation attack detection as in the collection's policy; without a
/// collection it is reported.
fn parameters(context: &Context, collection: Option<&Collection>, share: Option<ShareId>) -> EncodeParameters {
    let policy = collection.map_or(PadPolicy { mode: PadMode::Report, ..PadPolicy::default() }, |c| c.policy.pad);
    let pad_score_min = (policy.mode != PadMode::Off).then_some(policy.score_min);
    EncodeParameters { urgency: context.urgency, deadline: context.deadline, pad_score_min, share }
}

fn encoded(encoder: &dyn SampleEncoder, encoding: Encoding) -> Encoded {
    let Encoding { embedding, report } = encoding;
    Encoded { embedding, model: encoder.name().clone(), origin: TemplateOrigin::Sample, external: false, report }
}

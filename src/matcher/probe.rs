//! From samples to embeddings of the right space.

use super::{Context, Fault, Matcher};
use domain::{
    Collection, Embedding, EmbeddingSpace, Encoded, Modality, PadMode, PadPolicy, Sample, SampleContent, SampleReport,
    SpaceName, TemplateOrigin,
};
use encoder::{EncodeParameters, Encoder, Encoding};

/// What is searched with: an embedding for each modality that the samples show, each in the space that the collection
/// searches.
#[derive(Debug, Clone)]
pub(super) struct Probe {
    /// In the order of their first samples; at least one.
    pub(super) views: Vec<View>,
    /// The samples it was made of, one by one.
    pub(super) parts: Vec<Encoded>,
}

/// What all samples of one modality show.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) embedding: Embedding,
    pub(super) model: SpaceName,
}

impl View {
    pub(super) fn modality(&self) -> Modality {
        self.embedding.space().modality
    }
}

impl Probe {
    /// The first modality, and the only one of most probes.
    pub(super) fn first(&self) -> &View {
        self.views.first().expect("a probe has at least one sample")
    }

    /// Whether several modalities speak.
    pub(super) fn is_fused(&self) -> bool {
        self.views.len() > 1
    }

    pub(super) fn reports(&self) -> Vec<SampleReport> {
        self.parts.iter().map(|part| part.report.clone()).collect()
    }

    /// What each sample shows, in order.
    pub(super) fn modalities(&self) -> Vec<Modality> {
        self.parts.iter().map(|part| part.embedding.space().modality).collect()
    }

    /// # Errors
    /// [`Fault::OtherSpace`] where the collection searches another space by now than the probe is of.
    pub(super) fn check_spaces(&self, collection: &Collection) -> Result<(), Fault> {
        self.views.iter().try_for_each(|view| {
            let space = view.embedding.space();
            match collection.active_space(space.modality) {
                Some(active) if active.space != space => Err(Fault::OtherSpace {
                    modality: space.modality,
                    active: active.name.clone(),
                    given: view.model.clone(),
                }),
                _ => Ok(()),
            }
        })
    }
}

impl Matcher {
    /// Encodes samples in the spaces that the collection uses, in the order of the samples. Without a collection, in
    /// the spaces that the server serves.
    pub(super) async fn encode(
        &self,
        context: &Context,
        collection: Option<&Collection>,
        samples: Vec<Sample>,
    ) -> Result<Vec<Encoded>, Fault> {
        self.check_count(&samples)?;
        // All start at once: those of one model meet in its queue and make a batch.
        let alone = samples.len() == 1;
        let one = |(at, sample)| async move {
            let encoded = self.encode_one(context, collection, sample).await;
            encoded.map_err(|fault| if alone { fault } else { fault.of_sample(at) })
        };
        futures::future::try_join_all(samples.into_iter().enumerate().map(one)).await
    }

    pub(super) fn check_count(&self, samples: &[Sample]) -> Result<(), Fault> {
        if samples.is_empty() {
            return Err(Fault::invalid("samples", "at least one sample is needed"));
        }
        if samples.len() > self.options.samples_max {
            let problem =
                format!("a request has at most {} samples, this one has {}", self.options.samples_max, samples.len());
            return Err(Fault::invalid("samples", problem));
        }
        Ok(())
    }

    pub(super) async fn encode_one(
        &self,
        context: &Context,
        collection: Option<&Collection>,
        sample: Sample,
    ) -> Result<Encoded, Fault> {
        let modality = sample.modality;
        if let SampleContent::Embedding { model, values } = sample.content {
            let (space, external) = self.space_named(collection, &model)?;
            if space.modality != modality {
                return Err(Fault::invalid("samples.modality", format!("{model} is a space of {}", space.modality)));
            }
            let embedding = Embedding::new(space, &values)?;
            let report = SampleReport::default();
            return Ok(Encoded { embedding, model, origin: TemplateOrigin::Embedding, external, report });
        }
        let encoder = self.encoder_for(collection, modality)?;
        let encoding = encoder.encode(sample, ask(context, collection)).await?;
        Ok(encoded(encoder, encoding))
    }

    /// The encoder of samples of a modality: the one whose space the collection searches, or else the one that serves.
    pub(super) fn encoder_for(&self, collection: Option<&Collection>, modality: Modality) -> Result<&Encoder, Fault> {
        match collection.and_then(|c| c.active_space(modality)) {
            None => self.encoders.for_modality(modality).ok_or(Fault::NoEncoder(modality)),
            Some(active) if active.external => Err(Fault::ExternalSpace { modality, model: active.name.clone() }),
            Some(active) => self
                .encoders
                .by_digest(active.space.digest)
                .ok_or_else(|| Fault::EncoderGone { modality, model: active.name.clone() }),
        }
    }

    /// The space that an embedding of a client's own says it is of.
    pub(super) fn space_named(
        &self,
        collection: Option<&Collection>,
        name: &SpaceName,
    ) -> Result<(EmbeddingSpace, bool), Fault> {
        if let Some(binding) = collection.and_then(|c| c.space_named(name)) {
            return Ok((binding.space, binding.external));
        }
        let encoder = self.encoders.by_name(name).ok_or_else(|| Fault::UnknownSpace(name.clone()))?;
        Ok((encoder.space(), false))
    }

    /// What to search with: samples of one modality are averaged.
    ///
    /// # Errors
    /// When samples are of a space that is not the one searched, or several of one modality are of several spaces.
    pub(super) async fn probe(
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
        let views = modalities.into_iter().map(|modality| view(modality, collection, &parts));
        Ok(Probe { views: views.collect::<Result<_, Fault>>()?, parts })
    }
}

fn view(modality: Modality, collection: &Collection, parts: &[Encoded]) -> Result<View, Fault> {
    let own: Vec<&Encoded> = parts.iter().filter(|part| part.embedding.space().modality == modality).collect();
    let first = own.first().expect("there is a sample of every modality that was seen");
    let (space, model) = match collection.active_space(modality) {
        Some(active) => (active.space, &active.name),
        None => (first.embedding.space(), &first.model),
    };
    if let Some(other) = own.iter().find(|part| part.embedding.space() != space) {
        return Err(Fault::OtherSpace { modality, active: model.clone(), given: other.model.clone() });
    }
    let embeddings: Vec<Embedding> = own.iter().map(|part| part.embedding.clone()).collect();
    Ok(View { embedding: Embedding::mean(&embeddings)?, model: first.model.clone() })
}

/// How samples are to be encoded: as the collection's policy asks, and without a collection with all that there is.
pub(super) fn ask(context: &Context, collection: Option<&Collection>) -> EncodeParameters {
    let policy = collection.map_or(PadPolicy { mode: PadMode::Report, ..PadPolicy::default() }, |c| c.policy.pad);
    let pad_score_min = (policy.mode != PadMode::Off).then_some(policy.score_min);
    EncodeParameters { urgency: context.urgency, deadline: context.deadline, pad_score_min }
}

pub(super) fn encoded(encoder: &Encoder, encoding: Encoding) -> Encoded {
    let Encoding { embedding, report } = encoding;
    Encoded { embedding, model: encoder.name().clone(), origin: TemplateOrigin::Sample, external: false, report }
}

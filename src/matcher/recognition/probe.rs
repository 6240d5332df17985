//! The probe of a request: one embedding for each modality of its samples.

use crate::matcher::request::fault::Fault;
use domain::{Collection, Embedding, Encoded, Modality, SampleReport, SpaceName};

/// An embedding for each modality of the samples, in the space that the collection searches.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    /// In the order of the first sample of each modality; at least one.
    pub(crate) views: Vec<ProbeView>,
    /// The encoded samples, in order.
    pub(crate) parts: Vec<Encoded>,
}

/// The mean embedding of all samples of one modality.
#[derive(Debug, Clone)]
pub(crate) struct ProbeView {
    pub(crate) embedding: Embedding,
    pub(crate) model: SpaceName,
}

impl ProbeView {
    /// # Errors
    /// [`Fault::OtherSpace`] when a sample of the modality is of another space than the collection searches, or than the
    /// first sample where it searches none yet.
    pub(crate) fn of(modality: Modality, collection: &Collection, parts: &[Encoded]) -> Result<Self, Fault> {
        let own: Vec<&Encoded> = parts.iter().filter(|part| part.embedding.space().modality == modality).collect();
        let first = own.first().expect("the modality is one of the samples");
        let (space, model) = match collection.active_space(modality) {
            Some(active) => (active.space, &active.name),
            None => (first.embedding.space(), &first.model),
        };
        if let Some(other) = own.iter().find(|part| part.embedding.space() != space) {
            return Err(Fault::OtherSpace { modality, active: model.clone(), given: other.model.clone() });
        }
        let embeddings: Vec<Embedding> = own.iter().map(|part| part.embedding.clone()).collect();
        Ok(Self { embedding: Embedding::mean(&embeddings)?, model: first.model.clone() })
    }

    pub(crate) fn modality(&self) -> Modality {
        self.embedding.space().modality
    }
}

impl Probe {
    /// The first modality; most probes have no other.
    pub(crate) fn first(&self) -> &ProbeView {
        self.views.first().expect("a probe has at least one sample")
    }

    /// Whether the probe has several modalities.
    pub(crate) fn is_fused(&self) -> bool {
        self.views.len() > 1
    }

    pub(crate) fn reports(&self) -> Vec<SampleReport> {
        self.parts.iter().map(|part| part.report.clone()).collect()
    }

    /// The modality of each sample, in order.
    pub(crate) fn modalities(&self) -> Vec<Modality> {
        self.parts.iter().map(|part| part.embedding.space().modality).collect()
    }

    /// # Errors
    /// [`Fault::OtherSpace`] when the collection now searches another space than that of the probe.
    pub(crate) fn check_spaces(&self, collection: &Collection) -> Result<(), Fault> {
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

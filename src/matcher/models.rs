//! Models: what is loaded, with what its makers say of it.

use super::{Fault, Matcher};
use crate::{
    domain::{EmbeddingSpace, SpaceName},
    encoder::ModelCard,
};

/// A loaded model package.
#[derive(Debug, Clone)]
pub struct Model {
    pub name: SpaceName,
    pub space: EmbeddingSpace,
    pub card: ModelCard,
    /// New samples of its modality are encoded by it.
    pub serving: bool,
}

impl Matcher {
    /// The loaded models in order of their ids.
    #[must_use]
    pub fn models(&self) -> Vec<Model> {
        let mut models: Vec<Model> = self
            .encoders
            .all()
            .map(|encoder| Model {
                name: encoder.name().clone(),
                space: encoder.space(),
                card: encoder.card().clone(),
                serving: self
                    .encoders
                    .for_modality(encoder.space().modality)
                    .is_some_and(|e| e.name() == encoder.name()),
            })
            .collect();
        models.sort_by(|a, b| a.name.cmp(&b.name));
        models
    }

    pub fn model(&self, name: &SpaceName) -> Result<Model, Fault> {
        self.models().into_iter().find(|m| m.name == *name).ok_or_else(|| Fault::NoModel(name.clone()))
    }
}

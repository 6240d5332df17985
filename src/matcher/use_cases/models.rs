//! Models: what is loaded, with the model cards of the packages.

use crate::matcher::{Matcher, request::fault::Fault};
use domain::SpaceName;
pub use encoder::{LoadedModel as Model, Task as ModelTask};

impl Matcher {
    /// The loaded models, sorted by name.
    #[must_use]
    pub fn models(&self) -> Vec<Model> {
        self.recognition.encoders().models()
    }

    /// # Errors
    /// [`Fault::NoModel`].
    pub fn model(&self, name: &SpaceName) -> Result<Model, Fault> {
        self.models().into_iter().find(|m| m.name == *name).ok_or_else(|| Fault::NoModel(name.clone()))
    }
}

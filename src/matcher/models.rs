//! Models: what is loaded, with what its makers say of it.

use super::{Fault, Matcher};
use domain::SpaceName;
pub use encoder::{LoadedModel as Model, Task as ModelTask};

impl Matcher {
    /// The loaded models in order of their ids.
    #[must_use]
    pub fn models(&self) -> Vec<Model> {
        self.encoders.models()
    }

    pub fn model(&self, name: &SpaceName) -> Result<Model, Fault> {
        self.models().into_iter().find(|m| m.name == *name).ok_or_else(|| Fault::NoModel(name.clone()))
    }
}

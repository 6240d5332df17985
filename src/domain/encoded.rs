//! Encoded samples.

use super::{Embedding, SampleReport, SpaceName, TemplateOrigin};

/// The embedding of a sample, and its origin. It does not contain the picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    pub embedding: Embedding,
    pub model: SpaceName,
    pub origin: TemplateOrigin,
    /// A client declared the embedding space.
    pub external: bool,
    /// The measurements of the sample; empty for an embedding that a client sent.
    pub report: SampleReport,
}

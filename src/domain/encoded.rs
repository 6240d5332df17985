//! Samples after their encoder.

use super::{Embedding, SampleReport, SpaceName, TemplateOrigin};

/// An embedding with what is known of where it came from. The picture is not part of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    pub embedding: Embedding,
    pub model: SpaceName,
    pub origin: TemplateOrigin,
    /// The space is one that a client declared.
    pub external: bool,
    /// What was seen in the sample; nothing of one that came as an embedding.
    pub report: SampleReport,
}

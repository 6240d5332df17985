//! Collections: one gallery per embedding space, a policy, and which space is searched.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{CollectionId, CollectionUid, EmbeddingSpace, Modality, QualityPolicy, SpaceName, Timestamp};

/// Counts the changes of a record, so that two writers notice each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    pub const FIRST: Self = Self(1);

    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A collection as the store keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Collection {
    pub uid: CollectionUid,
    pub id: CollectionId,
    pub display_name: String,
    pub policy: Policy,
    /// Every space that the collection holds or may hold templates of, at most one of them active per modality.
    pub spaces: Vec<SpaceBinding>,
    pub revision: Revision,
    pub create_time: Timestamp,
    pub update_time: Timestamp,
}

impl Collection {
    /// The space that searches of this modality look in; `None` until something was enrolled.
    #[must_use]
    pub fn active_space(&self, modality: Modality) -> Option<&SpaceBinding> {
        self.spaces.iter().find(|b| b.role == SpaceRole::Active && b.space.modality == modality)
    }

    #[must_use]
    pub fn space_named(&self, name: &SpaceName) -> Option<&SpaceBinding> {
        self.spaces.iter().find(|b| b.name == *name)
    }
}

/// A space that a collection knows, under the name that clients use for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceBinding {
    pub name: SpaceName,
    pub space: EmbeddingSpace,
    pub role: SpaceRole,
    /// Declared by a client for embeddings of its own; no encoder here fills it.
    pub external: bool,
}

/// Whether a space is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpaceRole {
    /// Searched: the one space of its modality that answers are made from.
    Active,
    /// Filled beside the active one and not searched.
    Beside,
}

/// How many errors an operator accepts, and what samples must be like.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Resolve: at most this share of strangers comes back as somebody (FPIR, ISO/IEC 19795-1).
    pub target_fpir: f64,
    /// Verify: at most this share of impostors is accepted (FMR).
    pub target_fmr: f64,
    #[serde(default)]
    pub quality: QualityPolicy,
    #[serde(default)]
    pub pad: PadPolicy,
}

/// What is asked about presentation attacks on faces.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PadPolicy {
    pub mode: PadMode,
    /// A bona fide presentation scores at least this.
    pub score_min: f32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PadMode {
    /// Nobody looks.
    #[default]
    Off,
    /// Answers say what was found, and nothing follows from it.
    Report,
    /// Attacks are refused, and so is what cannot be evaluated.
    Require,
}

impl Default for PadPolicy {
    fn default() -> Self {
        Self { mode: PadMode::Off, score_min: 0.5 }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self { target_fpir: 0.01, target_fmr: 0.001, quality: QualityPolicy::default(), pad: PadPolicy::default() }
    }
}

/// The policy asks for what cannot be.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("{field} is a number from {least} to {most}; {value} is not")]
pub struct PolicyError {
    pub field: &'static str,
    pub value: f64,
    pub least: f64,
    pub most: f64,
}

impl Policy {
    /// # Errors
    /// When an error rate is not within 1e-6 to 0.5, or a demand on samples is out of its range.
    pub fn checked(self) -> Result<Self, PolicyError> {
        let rates = [("policy.targetFpir", self.target_fpir), ("policy.targetFmr", self.target_fmr)];
        let rates = rates.map(|(field, value)| PolicyError { field, value, least: 1e-6, most: 0.5 });
        let share =
            |field, value: f32, most: f32| PolicyError { field, value: value.into(), least: 0.0, most: most.into() };
        let demands = self.quality.numbers();
        let demands =
            demands.into_iter().filter_map(|(field, value, most)| value.map(|value| share(field, value, most)));
        let pad = share("policy.pad.scoreMin", self.pad.score_min, 1.0);
        let wrong = |asked: &PolicyError| !(asked.least..=asked.most).contains(&asked.value);
        match rates.into_iter().chain(demands).chain([pad]).find(wrong) {
            Some(wrong) => Err(wrong),
            None => Ok(self),
        }
    }
}

/// How much a collection holds in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CollectionStats {
    pub identities: u64,
    pub templates: u64,
}

//! Collections: one gallery per embedding space, a policy, and which space is searched.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{CollectionId, CollectionUid, EmbeddingSpace, Modality, SpaceName, Timestamp};

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

/// How many errors an operator accepts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Resolve: at most this share of strangers comes back as somebody (FPIR, ISO/IEC 19795-1).
    pub target_fpir: f64,
    /// Verify: at most this share of impostors is accepted (FMR).
    pub target_fmr: f64,
}

impl Default for Policy {
    fn default() -> Self {
        Self { target_fpir: 0.01, target_fmr: 0.001 }
    }
}

/// The policy asks for an error rate that is none.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("{field} is a share of errors, at least 0.000001 and at most 0.5; {value} is not")]
pub struct PolicyError {
    pub field: &'static str,
    pub value: f64,
}

impl Policy {
    /// # Errors
    /// When a rate is not within 1e-6 to 0.5.
    pub fn checked(self) -> Result<Self, PolicyError> {
        for (field, value) in [("policy.targetFpir", self.target_fpir), ("policy.targetFmr", self.target_fmr)] {
            if !(1e-6..=0.5).contains(&value) {
                return Err(PolicyError { field, value });
            }
        }
        Ok(self)
    }
}

/// How much a collection holds in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CollectionStats {
    pub identities: u64,
    pub templates: u64,
}

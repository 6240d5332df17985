//! Collections: one gallery per embedding space, a policy, and which space is searched.

use std::{num::NonZeroU32, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    CollectionId, CollectionUid, EmbeddingSpace, Modality, OpenSetRule, QualityPolicy, Reranking, ReviewPolicy,
    SpaceName, Timestamp,
};

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
    /// Resolve: at most about this share of acquaintances comes back as UNCERTAIN. The price is that those who would have
    /// been come back as NEW: a smaller share here makes more second identities of one person. `None`: no limit, and NEW is
    /// said only of what hardly any acquaintance falls below.
    #[serde(default)]
    pub max_uncertain: Option<f64>,
    #[serde(default)]
    pub quality: QualityPolicy,
    #[serde(default)]
    pub pad: PadPolicy,
    /// How the templates of one identity speak together.
    #[serde(default)]
    pub pooling: Pooling,
    /// What decides whether somebody is known.
    #[serde(default)]
    pub open_set: OpenSetRule,
    /// Whether a human is asked about what cannot be told.
    #[serde(default)]
    pub review: ReviewPolicy,
    /// Self-paced review: at most this share of the resolves that may enroll become questions.
    #[serde(default = "Policy::review_share")]
    pub review_share: f64,
    /// What orders the candidates of a search besides their similarity.
    #[serde(default)]
    pub reranking: Reranking,
    /// Where several modalities speak: after so long what a body says is worth half, for people change clothes. Zero: it
    /// stays worth what it is.
    #[serde(default = "half_a_day")]
    pub person_half_life: Duration,
}

fn half_a_day() -> Duration {
    Duration::from_hours(12)
}

/// How alike a probe and an identity are, given how alike it and each of the identity's templates are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// As the most similar template: finds who has one good match, and trusts a single bad template.
    #[default]
    Best,
    /// As the mean of so many of the most similar, or of all where there are fewer: one template alone does not decide.
    MeanOfBest(NonZeroU32),
    /// As the mean of all, each as much as the square of its quality; those of which nothing is known count in full.
    ByQuality,
    /// As one prototype of all: the direction of their sum, each as much as the square of its quality and, from three on, as
    /// `exp(8 (a - max a))` of its mean cosine `a` to the others. Whose sample got in by mistake disagrees, and hardly counts.
    Prototype,
    /// As the most similar template after each has moved to between itself and the mean of the others (label-aware
    /// centralisation). Best of all where templates are right, and as trusting as the best where one is not.
    Centralised,
}

impl Pooling {
    /// The most templates that a mean of the best may ask for.
    pub const BEST_MAX: u32 = 16;
    /// The worst template still counts a little: otherwise an identity of bad ones would have no similarity at all.
    const QUALITY_MIN: f64 = 0.05;

    /// What a template of that quality (0 to 1) counts where quality decides.
    #[must_use]
    pub fn weight(quality: Option<f32>) -> f64 {
        quality.map_or(1.0, |quality| f64::from(quality).max(Self::QUALITY_MIN).powi(2))
    }
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
        Self {
            target_fpir: 0.01,
            target_fmr: 0.001,
            max_uncertain: None,
            quality: QualityPolicy::default(),
            pad: PadPolicy::default(),
            pooling: Pooling::default(),
            open_set: OpenSetRule::default(),
            review: ReviewPolicy::default(),
            person_half_life: half_a_day(),
            reranking: Reranking::default(),
            review_share: Self::review_share(),
        }
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
    fn review_share() -> f64 {
        0.2
    }

    /// # Errors
    /// When an error rate is not within 1e-6 to 0.5, a share not within 0 to 1, or a demand on samples is out of its range.
    pub fn checked(self) -> Result<Self, PolicyError> {
        let rates = [("policy.targetFpir", self.target_fpir), ("policy.targetFmr", self.target_fmr)];
        let rates = rates.map(|(field, value)| PolicyError { field, value, least: 1e-6, most: 0.5 });
        let uncertain =
            self.max_uncertain.map(|value| PolicyError { field: "policy.maxUncertain", value, least: 0.0, most: 1.0 });
        let asked = PolicyError { field: "policy.reviewShare", value: self.review_share, least: 0.0, most: 1.0 };
        let share =
            |field, value: f32, most: f32| PolicyError { field, value: value.into(), least: 0.0, most: most.into() };
        let demands = self.quality.numbers();
        let demands =
            demands.into_iter().filter_map(|(field, value, most)| value.map(|value| share(field, value, most)));
        let pad = share("policy.pad.scoreMin", self.pad.score_min, 1.0);
        let best = match self.pooling {
            Pooling::MeanOfBest(best) => f64::from(best.get()),
            Pooling::Best | Pooling::ByQuality | Pooling::Prototype | Pooling::Centralised => 1.0,
        };
        let most = f64::from(Pooling::BEST_MAX);
        let best = PolicyError { field: "policy.pooling.best", value: best, least: 1.0, most };
        let wrong = |asked: &PolicyError| !(asked.least..=asked.most).contains(&asked.value);
        match rates.into_iter().chain(uncertain).chain(demands).chain([pad, best, asked]).find(wrong) {
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

//! Collections: a policy, and embedding spaces of which at most one per modality is searched.

use std::{num::NonZeroU32, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    CollectionId, CollectionUid, EmbeddingSpace, Modality, OpenSetRule, QualityPolicy, Reranking, ReviewPolicy,
    SpaceName, Timestamp,
};

/// The number of a version of a record. A writer states the revision that it read, so that two writers detect each
/// other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision of a new record.
    pub const FIRST: Self = Self(1);

    /// The revision after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The record of a collection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Collection {
    pub uid: CollectionUid,
    pub id: CollectionId,
    pub display_name: String,
    pub policy: Policy,
    /// The embedding spaces that templates of the collection may have; at most one per modality is active.
    pub spaces: Vec<SpaceBinding>,
    pub revision: Revision,
    pub create_time: Timestamp,
    pub update_time: Timestamp,
}

impl Collection {
    /// The space that searches of this modality use; `None` until a template of the modality is enrolled.
    #[must_use]
    pub fn active_space(&self, modality: Modality) -> Option<&SpaceBinding> {
        self.spaces.iter().find(|b| b.role == SpaceRole::Active && b.space.modality == modality)
    }

    /// The space with this name.
    #[must_use]
    pub fn space_named(&self, name: &SpaceName) -> Option<&SpaceBinding> {
        self.spaces.iter().find(|b| b.name == *name)
    }
}

/// An embedding space of a collection, with the name that clients use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceBinding {
    pub name: SpaceName,
    pub space: EmbeddingSpace,
    pub role: SpaceRole,
    /// A client declared the space for embeddings of its own; no encoder of the server produces them.
    pub external: bool,
}

/// Whether a space is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpaceRole {
    /// Searched: the one space of its modality that answers come from.
    Active,
    /// Enrolled beside the active one, not searched.
    Beside,
}

/// The error rates that an operator accepts, and the requirements on samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Resolve: the target FPIR (ISO/IEC 19795-1), the share of non-mated probes that return an identity; 1e-6 to 0.5.
    pub target_fpir: f64,
    /// Verify: the target FMR (ISO/IEC 19795-1), the share of impostors that match; 1e-6 to 0.5.
    pub target_fmr: f64,
    /// Resolve: the target share of mated probes that return NEW, so that an enrolled person gets a second identity; 1e-6
    /// to 0.5.
    #[serde(default = "target_duplicates_before")]
    pub target_duplicates: f64,
    #[serde(default)]
    pub quality: QualityPolicy,
    #[serde(default)]
    pub pad: PadPolicy,
    /// How the similarities to the templates of one identity combine.
    #[serde(default)]
    pub pooling: Pooling,
    /// The rule that decides between KNOWN, NEW and UNCERTAIN.
    #[serde(default = "open_set_before")]
    pub open_set: OpenSetRule,
    /// When an UNCERTAIN answer opens a review case.
    #[serde(default)]
    pub review: ReviewPolicy,
    /// Self-paced review: the maximum share of resolves with `ENROLL_IF_NEW` that open a case, 0 to 1.
    #[serde(default = "Policy::review_share")]
    pub review_share: f64,
    /// Whether a search re-ranks its candidates.
    #[serde(default)]
    pub reranking: Reranking,
    /// Fusion of several modalities: the age of a person template at which its evidence counts half, because people
    /// change clothes. Zero: evidence does not age.
    #[serde(default = "half_a_day")]
    pub person_half_life: Duration,
    /// How long after its creation an identity without an expire time of its own expires. `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_ttl: Option<Duration>,
    /// What a resolve keeps of an undecided sighting.
    #[serde(default)]
    pub uncertain: UncertainRule,
    /// How long after its latest sighting a provisional identity expires.
    #[serde(default = "thirty_days")]
    pub provisional_ttl: Duration,
}

/// What a resolve that may enroll keeps of a sighting that it does not decide.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UncertainRule {
    /// Nothing, unless a review case is opened.
    #[default]
    Off,
    /// A provisional identity. Later sightings join it, until all of them together are decided or it expires.
    Provisional,
}

fn thirty_days() -> Duration {
    Duration::from_hours(24 * 30)
}

/// The target of policies from before the field: 2 % of mated similarities were below the threshold for NEW.
fn target_duplicates_before() -> f64 {
    0.02
}

/// The rule of policies from before the field.
fn open_set_before() -> OpenSetRule {
    OpenSetRule::Thresholds
}

fn half_a_day() -> Duration {
    Duration::from_hours(12)
}

/// How the similarity of a probe to an identity follows from the similarities to the identity's templates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The highest similarity. One good template suffices for a match; so does one wrong template.
    #[default]
    Best,
    /// The mean of this many highest similarities, or of all if there are fewer. One wrong template does not decide.
    MeanOfBest(NonZeroU32),
    /// The mean of all similarities, weighted by the squared quality of the templates. Templates without quality have
    /// weight 1.
    ByQuality,
    /// The similarity to one prototype: the direction of the weighted sum of the templates. The weight is the squared
    /// quality and, from three templates, also `exp(8 (a - max a))`, where `a` is the mean cosine of the template to
    /// the others. A wrong template disagrees with the others and gets little weight.
    Prototype,
    /// The highest similarity after each template moved halfway to the mean of the others (label-aware centralisation).
    /// The most accurate rule for correct templates; as sensitive to a wrong template as `Best`.
    Centralised,
}

impl Pooling {
    /// Maximum of [`Pooling::MeanOfBest`].
    pub const BEST_MAX: u32 = 16;
    /// The least quality that counts: an identity with only bad templates must still have a similarity.
    const QUALITY_MIN: f64 = 0.05;

    /// The weight of a template by its quality (0 to 1): the square, at least 0.0025; 1 without a quality.
    #[must_use]
    pub fn weight(quality: Option<f32>) -> f64 {
        quality.map_or(1.0, |quality| f64::from(quality).max(Self::QUALITY_MIN).powi(2))
    }
}

/// Presentation-attack detection (ISO/IEC 30107) of faces.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PadPolicy {
    pub mode: PadMode,
    /// The least score of a bona fide presentation, 0 to 1.
    pub score_min: f32,
}

/// What follows from presentation-attack detection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PadMode {
    /// No detection.
    #[default]
    Off,
    /// Answers report the score; nothing is refused.
    Report,
    /// Attacks are refused, and so are samples that cannot be evaluated.
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
            target_duplicates: 0.05,
            quality: QualityPolicy::default(),
            pad: PadPolicy::default(),
            pooling: Pooling::default(),
            open_set: OpenSetRule::default(),
            review: ReviewPolicy::default(),
            person_half_life: half_a_day(),
            identity_ttl: None,
            uncertain: UncertainRule::default(),
            provisional_ttl: thirty_days(),
            reranking: Reranking::default(),
            review_share: Self::review_share(),
        }
    }
}

/// A number of the policy is out of range.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("{field} is a number from {least} to {most}; {value} is not")]
pub struct PolicyError {
    pub field: &'static str,
    pub value: f64,
    pub least: f64,
    pub most: f64,
}

impl Policy {
    /// The expire time of an identity that is created at this time without one of its own.
    #[must_use]
    pub fn expire_time(&self, create_time: Timestamp) -> Option<Timestamp> {
        // Beyond the end of the calendar is never.
        self.identity_ttl.and_then(|ttl| create_time.checked_add(ttl).ok())
    }

    fn review_share() -> f64 {
        0.2
    }

    /// # Errors
    /// When an error rate is not within 1e-6 to 0.5, a share not within 0 to 1, or a sample requirement out of its
    /// range.
    pub fn checked(self) -> Result<Self, PolicyError> {
        let rates = [
            ("policy.targetFpir", self.target_fpir),
            ("policy.targetDuplicates", self.target_duplicates),
            ("policy.targetFmr", self.target_fmr),
        ];
        let rates = rates.map(|(field, value)| PolicyError { field, value, least: 1e-6, most: 0.5 });
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
        match rates.into_iter().chain(demands).chain([pad, best, asked]).find(wrong) {
            Some(wrong) => Err(wrong),
            None => Ok(self),
        }
    }
}

/// Number of records of a collection in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CollectionStats {
    pub identities: u64,
    pub templates: u64,
}

/// The records of a collection in memory: what is enrolled, and what is provisional.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CollectionCounts {
    pub enrolled: CollectionStats,
    pub provisional: CollectionStats,
}

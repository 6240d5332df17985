//! The answer of a resolve, and the evidence that its decision was made from.

use serde::{Deserialize, Serialize};

use crate::matcher::{request::consistency_token::ConsistencyToken, request::fault::Fault};
use decision::{Decision, SightingAnswer, Thresholds};
use domain::{
    Candidate, DecisionId, DecisionKind, IdentityId, Modality, OperatingPoint, Policy, Reason, ReviewCaseId,
    SampleReport, Similarity, SpaceName, Timestamp,
};
use store::DecisionRecord;

/// What a resolve may change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResolveMode {
    /// Decide and change nothing.
    #[default]
    DryRun,
    /// Enroll the person if the decision is NEW; open a review case if it is UNCERTAIN and the policy asks for one.
    EnrollIfNew,
}

/// The open-set answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResolveResult {
    pub id: DecisionId,
    pub kind: DecisionKind,
    pub reasons: Vec<Reason>,
    /// The known identity, or the new one once it is enrolled.
    pub identity: Option<IdentityId>,
    pub enrolled: bool,
    pub candidates: Vec<Candidate>,
    pub similarity: Option<Similarity>,
    /// Similarity of the best candidate minus that of the second.
    pub margin: Option<f32>,
    pub operating_point: OperatingPoint,
    pub model: SpaceName,
    /// The modality of the candidates, or the first of several; `None` in records of versions with one modality.
    #[serde(default)]
    pub modality: Option<Modality>,
    pub token: ConsistencyToken,
    /// One report per sample, in order.
    #[serde(default)]
    pub samples: Vec<SampleReport>,
    /// The review case that this answer opened.
    #[serde(default)]
    pub review_case: Option<ReviewCaseId>,
    /// The probability that the probe is of an enrolled identity, at equal priors: from the open-set decider, or from the
    /// fusion of several modalities.
    #[serde(default)]
    pub posterior: Option<f64>,
    /// The provisional identity that the sighting joined or made; of a dry run, the one that it would join.
    #[serde(default)]
    pub provisional: Option<IdentityId>,
    /// The number of sightings that the answer is about.
    #[serde(default = "one")]
    pub sightings: u64,
}

fn one() -> u64 {
    1
}

/// Everything that a decision was made from. It contains no embedding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    pub policy: Policy,
    /// Of the first sample.
    pub modality: Modality,
    /// Of each sample; empty in records of versions with one modality per probe.
    #[serde(default)]
    pub modalities: Vec<Modality>,
    #[serde(rename = "terms")]
    pub thresholds: Thresholds,
    /// The weighed candidates, with the second one even when the caller listed fewer.
    pub candidates: Vec<Candidate>,
    /// From the open-set decider, or from the fusion of several modalities.
    pub posterior: Option<f64>,
    /// The posterior from which self-paced review accepted answers at that time.
    #[serde(default)]
    pub accept_level: Option<f64>,
    /// Several sightings that are KNOWN together: what each of them is decided from. The candidates and the posterior are
    /// then those of their mean.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sightings: Vec<SightingEvidence>,
}

/// What one of several sightings is decided from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SightingEvidence {
    /// The best two.
    pub candidates: Vec<Candidate>,
    pub posterior: Option<f64>,
}

impl Evidence {
    /// The open-set decision from this evidence.
    pub(crate) fn open_set(&self) -> Decision {
        let rule = self.policy.open_set;
        let mean = decision::decide(&self.thresholds, rule, &self.candidates, self.posterior);
        if self.sightings.is_empty() {
            return mean;
        }
        let answer = |one: &SightingEvidence| SightingAnswer {
            kind: decision::decide(&self.thresholds, rule, &one.candidates, one.posterior).kind,
            best: one.candidates.first().map(|best| best.identity.clone()),
        };
        let answers: Vec<SightingAnswer> = self.sightings.iter().map(answer).collect();
        decision::decide_sightings(mean, self.candidates.first().map(|best| &best.identity), &answers)
    }
}

/// The stored form of a decision.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredDecision {
    pub(crate) mode: ResolveMode,
    pub(crate) answer: ResolveResult,
    pub(crate) evidence: Evidence,
}

impl StoredDecision {
    /// The record of this decision.
    ///
    /// # Errors
    /// When it cannot be written as JSON, a bug of this program.
    pub(crate) fn record(self, time: Timestamp) -> Result<DecisionRecord, Fault> {
        let id = self.answer.id;
        Ok(DecisionRecord { id, time, body: serde_json::to_value(self).map_err(Fault::internal)? })
    }
}

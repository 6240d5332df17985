//! A collection in memory that answers resolve as the server does by default: the same index, rehearsal and decision,
//! with embeddings of one encoder and the default policy.

use std::sync::Arc;

use uuid::Uuid;

use decision::{
    Calibration, Decider, Decision, PosteriorCalibration, SightingAnswer, Thresholds, decide, decide_sightings,
    genuine_similarities, joins,
    relations::{NEIGHBOURS_MAX, Relations},
};
use domain::{
    Assignment, Candidate, CollectionUid, DecisionKind, Embedding, EmbeddingSpace, Entry, EntryKind, GalleryStatistics,
    Identity, IdentityId, Labels, Neighbour, OpenSetRule, PROVISIONAL_TEMPLATES_MAX, PackageCalibration, Policy,
    Pooling, Position, PosteriorTrials, Revision, Similarity, SpaceName, StoredTemplate, Template, TemplateId,
    TemplateOrigin, Timestamp, UncertainRule, has_moved,
};
use gallery::{CollectionIndex, Gallery, GalleryOptions, Query, RehearsalLimits, Searched};

/// Trials of a rehearsal, as the server's default.
const TRIALS_MAX: usize = 2000;
const SEED: u64 = 1;

/// The collection. Identities are numbered in the order of their enrollment.
pub(crate) struct TrialCollection {
    index: Arc<CollectionIndex>,
    policy: Policy,
    head: Position,
    identities: usize,
    /// The last rehearsal, and the number of identities then.
    rehearsed: Option<(u64, PosteriorCalibration)>,
    /// The same of the similarities; `None` with too few trials.
    similarities: Option<(u64, Option<Calibration>)>,
    package: Option<PackageCalibration>,
}

/// What became of a sighting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sighting {
    pub(crate) kind: DecisionKind,
    /// The identity of the sighting; provisional after an uncertain answer.
    pub(crate) identity: Option<usize>,
    /// The provisional identity that is part of `identity` from now on.
    pub(crate) merged: Option<usize>,
}

/// A decision, and the most similar enrolled identity.
struct Decided {
    decision: Decision,
    best: Option<usize>,
}

/// The answer of resolve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Known(usize),
    New,
    Uncertain,
}

impl TrialCollection {
    /// `package` is the calibration of the encoder's package, if there is one.
    pub(crate) fn new(policy: Policy, package: Option<PackageCalibration>) -> Self {
        let index = Gallery::new(GalleryOptions::default()).open(CollectionUid(Uuid::nil()));
        Self { index, policy, head: Position::START, identities: 0, rehearsed: None, similarities: None, package }
    }

    /// Enrolls a new identity and returns its number.
    pub(crate) fn enroll(&mut self, embeddings: &[&Embedding]) -> usize {
        self.add(embeddings, false)
    }

    /// Whether the identity is provisional.
    pub(crate) fn is_provisional(&self, identity: usize) -> bool {
        self.index.identity(&id(identity)).is_some_and(|found| found.provisional)
    }

    fn add(&mut self, embeddings: &[&Embedding], provisional: bool) -> usize {
        let number = self.identities;
        self.identities += 1;
        self.label(number, provisional);
        self.admit(number, embeddings);
        number
    }

    fn label(&mut self, number: usize, provisional: bool) {
        let identity = id(number);
        let mut entry = self.entry(EntryKind::Label, &identity);
        entry.labelled = Some(Identity {
            id: identity,
            labels: Labels::default(),
            expire_time: None,
            provisional,
            revision: Revision::FIRST,
            create_time: Timestamp::UNIX_EPOCH,
            update_time: Timestamp::UNIX_EPOCH,
        });
        self.index.apply(&[entry]).expect("a log without gaps");
    }

    fn admit(&mut self, number: usize, embeddings: &[&Embedding]) {
        let identity = id(number);
        let mut entries = Vec::new();
        for embedding in embeddings {
            let mut entry = self.entry(EntryKind::Admit, &identity);
            let template = Template {
                id: TemplateId(Uuid::from_u128(entry.position.0.into())),
                identity: identity.clone(),
                space: embedding.space(),
                model: SpaceName::new("evaluated").expect("a valid name"),
                origin: TemplateOrigin::Embedding,
                assignment: Assignment::Enrolled,
                quality: None,
                track: None,
                position: entry.position,
                create_time: Timestamp::UNIX_EPOCH,
            };
            entry.template = Some(template.id);
            entry.admitted = Some(StoredTemplate { template, embedding: (*embedding).clone() });
            entries.push(entry);
        }
        self.index.apply(&entries).expect("a log without gaps");
    }

    /// Resolves a sighting and enrolls whoever is new, as the server does under the policy.
    pub(crate) fn sighting(&mut self, probe: &Embedding) -> Sighting {
        let thresholds = self.thresholds(probe.space());
        let alone = self.decide(&thresholds, probe);
        if let Some(joined) = self.seen_before(probe, &alone.decision) {
            return self.join(&thresholds, alone, joined, probe);
        }
        match alone.decision.kind {
            DecisionKind::Known => Sighting { kind: DecisionKind::Known, identity: alone.best, merged: None },
            DecisionKind::New => {
                let identity = Some(self.enroll(&[probe]));
                Sighting { kind: DecisionKind::New, identity, merged: None }
            }
            kind => {
                let identity = (self.policy.uncertain == UncertainRule::Provisional).then(|| self.add(&[probe], true));
                Sighting { kind, identity, merged: None }
            }
        }
    }

    /// The provisional identity that a sighting joins.
    fn seen_before(&mut self, probe: &Embedding, decision: &Decision) -> Option<usize> {
        let provisional = self.index.provisional_in(probe.space());
        if provisional == 0 {
            return None;
        }
        let nearest = self.nearest(probe, 1, Searched::Provisional).into_iter().next()?;
        let threshold = self.known_among(probe.space(), provisional);
        joins(threshold, &nearest, decision.kind, decision.similarity).then(|| number(&nearest.identity))
    }

    /// The similarity that is KNOWN among so many identities; `None` without a calibration.
    fn known_among(&mut self, space: EmbeddingSpace, identities: u64) -> Option<Similarity> {
        let enrolled = self.index.identities_in(space);
        let (then, calibration) =
            self.similarities.take().filter(|(then, _)| !has_moved(*then, enrolled)).unwrap_or_else(|| {
                let rehearsal = self.index.rehearse(space, Pooling::Best, TRIALS_MAX, SEED);
                (enrolled, Calibration::from_rehearsal(&rehearsal, self.package.as_ref()))
            });
        let packaged = || self.package.as_ref().and_then(Calibration::from_package);
        let known = |calibration: &Calibration| calibration.thresholds(self.policy, identities).point.threshold_known;
        let threshold = calibration.as_ref().map_or_else(|| packaged().as_ref().and_then(known), known);
        self.similarities = Some((then, calibration));
        threshold
    }

    /// Decides about a sighting together with those that it joins, and carries the decision out.
    fn join(&mut self, thresholds: &Thresholds, alone: Decided, joined: usize, probe: &Embedding) -> Sighting {
        let mut all = self.index.provisional_embeddings(&id(joined), probe.space());
        let earlier: Vec<Decided> = all.iter().map(|one| self.decide(thresholds, one)).collect();
        all.push(probe.clone());
        let mean = self.decide(thresholds, &Embedding::mean(&all).expect("embeddings of one space"));
        let answer = |one: Decided| SightingAnswer { kind: one.decision.kind, best: one.best.map(id) };
        let answers: Vec<SightingAnswer> = earlier.into_iter().chain([alone]).map(answer).collect();
        let decision = decide_sightings(mean.decision, mean.best.map(id).as_ref(), &answers);
        match (decision.kind, mean.best) {
            (DecisionKind::Known, Some(known)) => {
                let forget = self.entry(EntryKind::Forget, &id(joined));
                self.index.apply(&[forget]).expect("a log without gaps");
                self.admit(known, &all.iter().collect::<Vec<_>>());
                Sighting { kind: decision.kind, identity: Some(known), merged: Some(joined) }
            }
            (kind, _) => {
                if kind == DecisionKind::New {
                    self.label(joined, false);
                }
                if all.len() as u64 <= PROVISIONAL_TEMPLATES_MAX {
                    self.admit(joined, &[probe]);
                }
                Sighting { kind, identity: Some(joined), merged: None }
            }
        }
    }

    fn entry(&mut self, kind: EntryKind, identity: &IdentityId) -> Entry {
        self.head = Position(self.head.0 + 1);
        Entry {
            position: self.head,
            kind,
            identity: identity.clone(),
            template: None,
            time: Timestamp::UNIX_EPOCH,
            admitted: None,
            labelled: None,
            moved: None,
        }
    }

    /// The decision about a probe under these thresholds.
    pub(crate) fn answer(&self, thresholds: &Thresholds, probe: &Embedding) -> Answer {
        let Decided { decision, best } = self.decide(thresholds, probe);
        match (decision.kind, best) {
            (DecisionKind::Known, Some(best)) => Answer::Known(best),
            (DecisionKind::New, _) => Answer::New,
            _ => Answer::Uncertain,
        }
    }

    fn decide(&self, thresholds: &Thresholds, probe: &Embedding) -> Decided {
        let candidates = self.nearest(probe, NEIGHBOURS_MAX, Searched::Enrolled);
        let identities: Vec<IdentityId> = candidates.iter().map(|candidate| candidate.identity.clone()).collect();
        let surroundings = self.index.neighbourhood(probe, &identities, NEIGHBOURS_MAX);
        let posterior = surroundings
            .filter(|_| !candidates.is_empty())
            .map(|(neighbours, statistics)| 1.0 / (1.0 + (-log_odds(&neighbours, &statistics)).exp()));
        let decision = decide(thresholds, OpenSetRule::Posterior, &candidates, posterior);
        Decided { decision, best: identities.first().map(number) }
    }

    fn nearest(&self, probe: &Embedding, limit: usize, searched: Searched) -> Vec<Candidate> {
        let query = Query {
            limit,
            filter: None,
            now: Timestamp::UNIX_EPOCH,
            pooling: Pooling::Best,
            similarity_min: None,
            searched,
        };
        self.index.search(probe, &query)
    }

    /// The thresholds for the gallery as it is now. Rehearses if it has grown by a fifth since the last time.
    pub(crate) fn thresholds(&mut self, space: EmbeddingSpace) -> Thresholds {
        let identities = self.index.identities_in(space);
        let packaged = self.package.as_ref().and_then(Calibration::from_package);
        let packaged = packaged.map(|packaged| packaged.thresholds(self.policy, identities));
        if let Some(thresholds) = packaged.filter(Thresholds::are_of_package) {
            return thresholds;
        }
        let calibration = match self.rehearsed.take() {
            Some((then, calibration)) if !has_moved(then, identities) => (then, calibration),
            _ => {
                let limits = RehearsalLimits { trials_max: TRIALS_MAX, neighbours_max: NEIGHBOURS_MAX, seed: SEED };
                let genuine = self.package.as_ref().map_or_else(Vec::new, genuine_similarities);
                let trials: PosteriorTrials = self.index.rehearse_open_set(space, limits, &genuine, &log_odds);
                (identities, PosteriorCalibration::from_trials(&trials))
            }
        };
        let posterior = calibration.1.thresholds(&self.policy, false);
        self.rehearsed = Some(calibration);
        Thresholds::uncalibrated(self.policy, identities).by_posterior(posterior)
    }
}

fn log_odds(neighbours: &[Neighbour], surroundings: &GalleryStatistics) -> f64 {
    Decider::shipped().log_odds(&Relations::new(neighbours, surroundings))
}

fn id(number: usize) -> IdentityId {
    IdentityId::new(&format!("i{number}")).expect("a valid id")
}

fn number(identity: &IdentityId) -> usize {
    identity.as_str()[1..].parse().expect("a number that enroll wrote")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labelled::fixtures::embedding;

    #[test]
    fn the_first_sighting_is_new_and_its_copy_is_known() {
        let mut collection = TrialCollection::new(Policy::default(), None);
        let person = embedding(&[1.0, 0.0, 0.0]);
        let first = collection.sighting(&person);
        assert_eq!(first, Sighting { kind: DecisionKind::New, identity: Some(0), merged: None });
        let again = collection.sighting(&person);
        assert_eq!(again, Sighting { kind: DecisionKind::Known, identity: Some(0), merged: None });
    }
}

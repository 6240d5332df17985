//! A collection in memory that answers resolve as the server does by default: the same index, rehearsal and decision,
//! with embeddings of one encoder and the default policy.

use std::sync::Arc;

use uuid::Uuid;

use decision::{
    Calibration, Decider, PosteriorCalibration, Thresholds, decide, genuine_similarities,
    relations::{NEIGHBOURS_MAX, Relations},
};
use domain::{
    Assignment, CollectionUid, DecisionKind, Embedding, EmbeddingSpace, Entry, EntryKind, GalleryStatistics, Identity,
    IdentityId, Labels, Neighbour, OpenSetRule, PackageCalibration, Policy, Pooling, Position, PosteriorTrials,
    Revision, SpaceName, StoredTemplate, Template, TemplateId, TemplateOrigin, Timestamp, has_moved,
};
use gallery::{CollectionIndex, Gallery, GalleryOptions, Query, RehearsalLimits};

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
    package: Option<PackageCalibration>,
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
        Self { index, policy, head: Position::START, identities: 0, rehearsed: None, package }
    }

    /// Enrolls a new identity and returns its number.
    pub(crate) fn enroll(&mut self, embeddings: &[&Embedding]) -> usize {
        let number = self.identities;
        let identity = id(number);
        let mut entries = vec![self.entry(EntryKind::Label, &identity)];
        entries[0].labelled = Some(Identity {
            id: identity.clone(),
            labels: Labels::default(),
            expire_time: None,
            revision: Revision::FIRST,
            create_time: Timestamp::UNIX_EPOCH,
            update_time: Timestamp::UNIX_EPOCH,
        });
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
        self.identities += 1;
        number
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

    /// Whether the probe is an enrolled person, by the present thresholds.
    pub(crate) fn resolve(&mut self, probe: &Embedding) -> Answer {
        let thresholds = self.thresholds(probe.space());
        self.answer(&thresholds, probe)
    }

    pub(crate) fn answer(&self, thresholds: &Thresholds, probe: &Embedding) -> Answer {
        let query = Query {
            limit: NEIGHBOURS_MAX,
            filter: None,
            now: Timestamp::UNIX_EPOCH,
            pooling: Pooling::Best,
            similarity_min: None,
        };
        let candidates = self.index.search(probe, &query);
        let identities: Vec<IdentityId> = candidates.iter().map(|candidate| candidate.identity.clone()).collect();
        let Some((neighbours, surroundings)) = self.index.neighbourhood(probe, &identities, NEIGHBOURS_MAX) else {
            return Answer::New;
        };
        let posterior = 1.0 / (1.0 + (-log_odds(&neighbours, &surroundings)).exp());
        match decide(thresholds, OpenSetRule::Posterior, &candidates, Some(posterior)).kind {
            DecisionKind::Known => Answer::Known(number(&identities[0])),
            DecisionKind::New => Answer::New,
            DecisionKind::Uncertain | DecisionKind::Rejected => Answer::Uncertain,
        }
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
        assert_eq!(collection.resolve(&person), Answer::New);
        let number = collection.enroll(&[&person]);
        assert_eq!(collection.resolve(&person), Answer::Known(number));
    }
}

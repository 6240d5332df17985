//! Sightings of persons who are not decided yet: when a sighting joins those of a provisional identity, and what all of
//! them together are.

use super::outcome::Decision;
use domain::{Candidate, DecisionKind, IdentityId, Reason, Similarity};

/// Whether a sighting joins the most similar provisional identity. `threshold` is the similarity that would be KNOWN in
/// a gallery of the provisional identities; without a calibration nothing joins. A sighting of an enrolled person joins
/// only if it is more similar to the provisional identity than to that person.
#[must_use]
pub fn joins(
    threshold: Option<Similarity>,
    provisional: &Candidate,
    decided: DecisionKind,
    best: Option<Similarity>,
) -> bool {
    let is_nearer = decided != DecisionKind::Known || best.is_none_or(|best| provisional.similarity > best);
    is_nearer && threshold.is_some_and(|threshold| provisional.similarity >= threshold)
}

/// The answer to one of several sightings of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SightingAnswer {
    pub kind: DecisionKind,
    /// The most similar enrolled identity.
    pub best: Option<IdentityId>,
}

/// The decision about several sightings of one person. `mean` is that of the mean of their embeddings, and `best` its
/// most similar identity.
///
/// A mean is more similar to everybody than a single sighting is, and the thresholds come from single ones. So KNOWN also
/// needs that every sighting is most similar to that identity, and that one of them is KNOWN by itself.
#[must_use]
pub fn decide_sightings(mean: Decision, best: Option<&IdentityId>, sightings: &[SightingAnswer]) -> Decision {
    let is_of_best = |sighting: &SightingAnswer| sighting.best.as_ref() == best;
    let is_known = |sighting: &SightingAnswer| sighting.kind == DecisionKind::Known;
    if mean.kind != DecisionKind::Known || (sightings.iter().all(is_of_best) && sightings.iter().any(is_known)) {
        return mean;
    }
    let reasons = mean.reasons.into_iter().chain([Reason::SightingsDisagree]).collect();
    Decision { kind: DecisionKind::Uncertain, reasons, ..mean }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::TemplateId;
    use uuid::Uuid;

    fn id(name: &str) -> IdentityId {
        IdentityId::new(name).expect("valid")
    }

    fn candidate(similarity: f32) -> Candidate {
        let template = TemplateId(Uuid::nil());
        Candidate { identity: id("seen"), template, similarity: Similarity(similarity), fused: None }
    }

    #[test]
    fn a_sighting_joins_from_the_threshold_on_and_never_without_one() {
        let uncertain = |threshold| joins(threshold, &candidate(0.5), DecisionKind::Uncertain, Some(Similarity(0.9)));
        assert!(uncertain(Some(Similarity(0.5))));
        assert!(!uncertain(Some(Similarity(0.51))));
        assert!(!uncertain(None));
    }

    #[test]
    fn a_known_sighting_joins_only_what_it_is_more_similar_to() {
        let known = |best| joins(Some(Similarity(0.4)), &candidate(0.6), DecisionKind::Known, Some(Similarity(best)));
        assert!(known(0.55));
        assert!(!known(0.6));
    }

    #[test]
    fn sightings_are_known_only_if_each_of_them_points_to_the_identity() {
        let mean = |kind| Decision { kind, reasons: vec![Reason::LearntDecision], similarity: None, margin: None };
        let sighting = |kind, best| SightingAnswer { kind, best: Some(id(best)) };
        let (known, uncertain) = (DecisionKind::Known, DecisionKind::Uncertain);
        let decide = |kind, sightings: &[SightingAnswer]| decide_sightings(mean(kind), Some(&id("ann")), sightings);
        let agreed = decide(known, &[sighting(known, "ann"), sighting(uncertain, "ann")]);
        assert_eq!(agreed, mean(known));
        for sightings in [
            [sighting(known, "ann"), sighting(uncertain, "bob")],
            [sighting(uncertain, "ann"), sighting(uncertain, "ann")],
        ] {
            let decided = decide(known, &sightings);
            assert_eq!(decided.kind, uncertain);
            assert_eq!(decided.reasons, [Reason::LearntDecision, Reason::SightingsDisagree]);
        }
        assert_eq!(decide(DecisionKind::New, &[sighting(known, "bob")]), mean(DecisionKind::New));
    }
}

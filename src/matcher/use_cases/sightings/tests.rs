//! Sightings through the matcher, in a gallery of simulated persons whose thresholds leave a wide band of uncertain answers.

use std::{sync::Arc, time::Duration};

use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{RngCore, SeedableRng},
};

use crate::matcher::{
    CollectionDraft, CollectionPatch, DeclaredSpace, Enrollment, Fault, IdentityDraft, IdentityPatch, ListedIdentities,
    MatcherOptions, MergeDraft, MergedLabels, Resolution, ResolveMode, ResolveResult, RevertDraft, RevertExtent,
    Search, SplitDraft, Verification, WriteOptions,
    options::JudgingOptions,
    testbed::{self, NoEncoders, Testbed, context},
};
use domain::{
    DecisionKind, Identity, IdentityId, Labels, Modality, OpenSetRule, Policy, Reason, ReviewPolicy, Sample,
    SampleContent, SpaceName, UncertainRule,
};

const DIMENSION: usize = 64;
const PERSONS: usize = 320;

/// The enrolled persons: two templates each, from hardly similar to nearly equal, so that the thresholds leave a band.
struct Gallery {
    testbed: Testbed,
    first: Vec<Vec<f32>>,
    enrolled: Vec<Vec<f32>>,
    random: Xoshiro256PlusPlus,
}

fn id(name: &str) -> IdentityId {
    IdentityId::new(name).expect("an id")
}

fn unit(values: &[f32]) -> Vec<f32> {
    let norm = values.iter().map(|value| value * value).sum::<f32>().sqrt();
    values.iter().map(|value| value / norm).collect()
}

fn similarity(one: &[f32], other: &[f32]) -> f32 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}

fn direction(random: &mut Xoshiro256PlusPlus) -> Vec<f32> {
    let mut uniform = || (random.next_u32() >> 8) as f32 / 16_777_216.0;
    // The sum of twelve uniform numbers is nearly normal.
    let values: Vec<f32> = (0..DIMENSION).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect();
    unit(&values)
}

/// A unit vector at this similarity to `of`, elsewhere in the direction of `beside`.
fn at(cosine: f32, of: &[f32], beside: &[f32]) -> Vec<f32> {
    let along = similarity(of, beside);
    let across: Vec<f32> = beside.iter().zip(of).map(|(other, one)| other - along * one).collect();
    let across = unit(&across);
    let rest = (1.0 - cosine * cosine).sqrt();
    of.iter().zip(&across).map(|(one, other)| cosine * one + rest * other).collect()
}

fn sample(values: &[f32]) -> Sample {
    let model = SpaceName::new("mine").expect("a name");
    Sample { modality: Modality::Face, content: SampleContent::Embedding { model, values: values.to_vec() } }
}

fn policy(uncertain: UncertainRule) -> Policy {
    Policy { open_set: OpenSetRule::Thresholds, uncertain, ..Policy::default() }
}

impl Gallery {
    async fn new(policy: Policy) -> Self {
        let options = MatcherOptions {
            writes: WriteOptions { templates_per_identity_max: 4, ..WriteOptions::default() },
            judging: JudgingOptions { rehearsal_trials_max: 1000, calibration_wait: Duration::from_mins(1) },
            ..testbed::options(1)
        };
        let dimension = u32::try_from(DIMENSION).expect("short");
        let spaces =
            vec![DeclaredSpace { name: SpaceName::new("mine").expect("a name"), modality: Modality::Face, dimension }];
        let draft = CollectionDraft { policy, spaces, ..CollectionDraft::default() };
        let testbed = Box::pin(Testbed::with(options, draft, Arc::new(NoEncoders))).await;
        let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
        let (mut first, mut enrolled) = (Vec::new(), Vec::new());
        for person in 0..PERSONS {
            let template = direction(&mut random);
            let second = at(0.05 + 0.9 * person as f32 / PERSONS as f32, &template, &direction(&mut random));
            let enrollment = Enrollment {
                collection: testbed.handle.collection.id.clone(),
                identity: id(&format!("p{person}")),
                samples: vec![sample(&template), sample(&second)],
                labels: Labels::default(),
            };
            testbed.matcher.enroll(&context(None), enrollment).await.expect("enrolled");
            enrolled.extend([template.clone(), second]);
            first.push(template);
        }
        Self { testbed, first, enrolled, random }
    }

    /// A person who is not enrolled, and whom nobody takes for one who is.
    fn stranger(&mut self) -> Vec<f32> {
        let (enrolled, random) = (&self.enrolled, &mut self.random);
        let is_unlike = |drawn: &Vec<f32>| enrolled.iter().all(|template| similarity(template, drawn) < 0.4);
        std::iter::repeat_with(|| direction(random)).find(is_unlike).expect("an endless supply")
    }

    async fn resolve_as(&self, mode: ResolveMode, values: &[f32]) -> ResolveResult {
        let resolution = Resolution {
            collection: self.testbed.handle.collection.id.clone(),
            samples: vec![sample(values)],
            mode,
            limit: 3,
            min_similarity: None,
            labels: testing::labels(&[("door", "north")]),
            token: None,
        };
        self.testbed.matcher.resolve(&context(None), resolution).await.expect("resolved")
    }

    async fn resolve(&self, values: &[f32]) -> ResolveResult {
        self.resolve_as(ResolveMode::EnrollIfNew, values).await
    }

    async fn identity(&self, id: &IdentityId) -> Result<Identity, Fault> {
        self.testbed.matcher.identity(&self.testbed.handle.collection.id, id).await
    }

    async fn provisional(&self) -> Vec<IdentityId> {
        let listed = ListedIdentities { provisional: Some(true), ..ListedIdentities::default() };
        let id = &self.testbed.handle.collection.id;
        let (page, _) = self.testbed.matcher.identities(id, None, 1000, &listed).await.expect("a page");
        page.into_iter().map(|identity| identity.id).collect()
    }

    async fn patch_policy(&self, patch: CollectionPatch) {
        let id = &self.testbed.handle.collection.id;
        self.testbed.matcher.update_collection(id, patch).await.expect("updated");
    }

    async fn patch(&self, identity: &IdentityId, patch: IdentityPatch) -> Result<Identity, Fault> {
        let collection = &self.testbed.handle.collection.id;
        self.testbed.matcher.update_identity(&context(None), collection, identity, patch).await
    }

    /// The first candidate, and whether it has a template of this very sample.
    async fn first_found(&self, values: &[f32], includes_provisional: bool) -> (IdentityId, bool) {
        let search = Search {
            collection: self.testbed.handle.collection.id.clone(),
            samples: vec![sample(values)],
            limit: 1,
            filter: None,
            min_similarity: None,
            includes_provisional,
            token: None,
        };
        let found = self.testbed.matcher.search(&context(None), search).await.expect("found");
        (found.candidates[0].identity.clone(), found.candidates[0].similarity.0 > 0.99)
    }
}

#[tokio::test]
async fn a_stranger_who_comes_back_joins_one_provisional_identity() {
    let mut gallery = Gallery::new(policy(UncertainRule::Provisional)).await;
    let (stranger, other) = (gallery.stranger(), gallery.stranger());
    let first = gallery.resolve(&stranger).await;
    assert_eq!((first.kind, first.sightings), (DecisionKind::Uncertain, 1), "{first:?}");
    let made = first.provisional.clone().expect("a provisional identity");
    assert_eq!(gallery.provisional().await, std::slice::from_ref(&made));
    let record = gallery.identity(&made).await.expect("a record");
    assert!(record.provisional && record.expire_time.is_some(), "{record:?}");
    assert_eq!(record.labels, testing::labels(&[("door", "north")]));
    // A dry run names it and changes nothing.
    let beside = gallery.stranger();
    let again = at(0.8, &stranger, &beside);
    let dry = gallery.resolve_as(ResolveMode::DryRun, &again).await;
    assert_eq!((dry.kind, dry.provisional.as_ref()), (DecisionKind::Uncertain, Some(&made)));
    let second = gallery.resolve(&again).await;
    assert_eq!((second.kind, second.provisional.as_ref()), (DecisionKind::Uncertain, Some(&made)), "{second:?}");
    assert_eq!(second.sightings, 2);
    assert!(second.reasons.contains(&Reason::SeveralSightings), "{:?}", second.reasons);
    assert!(gallery.identity(&made).await.expect("a record").expire_time > record.expire_time, "prolonged");
    // Somebody else does not join it.
    let third = gallery.resolve(&other).await;
    assert!(third.provisional.as_ref().is_some_and(|third| *third != made), "{third:?}");
    // Searches find it only when asked; the promises do not count it.
    assert!(!gallery.first_found(&stranger, false).await.1);
    assert_eq!(gallery.first_found(&stranger, true).await, (made.clone(), true));
    let counts = gallery.testbed.matcher.stats(&gallery.testbed.handle.collection.id);
    assert_eq!((counts.enrolled.identities, counts.provisional.identities), (PERSONS as u64, 2));
    assert_eq!(third.operating_point.gallery_identities, PERSONS as u64);
}

#[tokio::test]
async fn sightings_that_are_known_together_are_merged_and_the_merge_can_be_reverted() {
    let mut gallery = Gallery::new(policy(UncertainRule::Provisional)).await;
    let (person, beside) = (gallery.first[200].clone(), gallery.stranger());
    let bad = at(0.42, &person, &beside);
    let first = gallery.resolve(&bad).await;
    assert_eq!(first.kind, DecisionKind::Uncertain, "{first:?}");
    let made = first.provisional.expect("a provisional identity");
    let better = at(0.75, &person, &beside);
    let second = gallery.resolve(&better).await;
    assert_eq!((second.kind, second.identity.as_ref()), (DecisionKind::Known, Some(&id("p200"))), "{second:?}");
    assert!(second.enrolled && second.provisional.is_none() && second.sightings == 2, "{second:?}");
    assert!(gallery.provisional().await.is_empty());
    assert!(matches!(gallery.identity(&made).await, Err(Fault::NoIdentity(_))));
    assert_eq!(gallery.first_found(&bad, false).await, (id("p200"), true), "its sightings are templates of the person");
    let replayed =
        gallery.testbed.matcher.replay_decision(&gallery.testbed.handle.collection.id, second.id).await.expect("made");
    assert!(replayed.same, "{replayed:?}");
    let draft = RevertDraft { identity: id("p200"), regrouping: None, extent: RevertExtent::Whole };
    let collection = gallery.testbed.handle.collection.id.clone();
    gallery.testbed.matcher.revert_regrouping(&context(None), &collection, draft).await.expect("reverted");
    assert_eq!(gallery.provisional().await, [made]);
    assert!(!gallery.first_found(&bad, false).await.1, "provisional again, so out of searches");
}

#[tokio::test]
async fn sightings_of_a_person_with_the_most_templates_stay_provisional() {
    let mut gallery = Gallery::new(policy(UncertainRule::Provisional)).await;
    let (person, beside) = (gallery.first[200].clone(), gallery.stranger());
    let made = gallery.resolve(&at(0.42, &person, &beside)).await.provisional.expect("a provisional identity");
    let second = gallery.resolve(&at(0.44, &person, &beside)).await;
    assert_eq!((second.kind, second.provisional.as_ref()), (DecisionKind::Uncertain, Some(&made)), "{second:?}");
    // Two templates and three sightings are more than this server allows.
    let third = gallery.resolve(&at(0.75, &person, &beside)).await;
    assert_eq!((third.kind, third.identity.as_ref()), (DecisionKind::Known, Some(&id("p200"))), "{third:?}");
    assert_eq!((third.enrolled, third.provisional.as_ref()), (false, Some(&made)), "{third:?}");
    let collection = &gallery.testbed.handle.collection.id;
    let kept = gallery.testbed.matcher.templates(collection, &made, None, 10).await.expect("a page");
    assert_eq!(kept.len(), 3, "nothing is lost");
}

#[tokio::test]
async fn sightings_that_are_new_together_are_enrolled() {
    let mut gallery = Gallery::new(policy(UncertainRule::Provisional)).await;
    let (stranger, beside) = (gallery.stranger(), gallery.stranger());
    let made = gallery.resolve(&stranger).await.provisional.expect("a provisional identity");
    gallery.patch_policy(CollectionPatch { target_duplicates: Some(0.5), ..CollectionPatch::default() }).await;
    let second = gallery.resolve(&at(0.9, &stranger, &beside)).await;
    assert_eq!((second.kind, second.identity.as_ref(), second.enrolled), (DecisionKind::New, Some(&made), true));
    let record = gallery.identity(&made).await.expect("a record");
    assert!(!record.provisional && record.expire_time.is_none(), "{record:?}");
    assert_eq!(gallery.first_found(&stranger, false).await, (made.clone(), true));
    assert_eq!(gallery.resolve(&stranger).await.kind, DecisionKind::Known);
}

#[tokio::test]
async fn a_full_provisional_identity_still_decides_and_keeps_no_more_templates() {
    let mut gallery = Gallery::new(policy(UncertainRule::Provisional)).await;
    let stranger = gallery.stranger();
    let mut made = None;
    for number in 0..7 {
        let beside = gallery.stranger();
        let seen = gallery.resolve(&at(0.95, &stranger, &beside)).await;
        assert_eq!(seen.sightings, (number + 1).min(5), "{seen:?}");
        let joined = seen.provisional.expect("provisional");
        assert_eq!(*made.get_or_insert_with(|| joined.clone()), joined);
    }
    let collection = &gallery.testbed.handle.collection.id;
    let templates =
        gallery.testbed.matcher.templates(collection, &made.expect("made"), None, 100).await.expect("a page");
    assert_eq!(templates.len(), 4, "the limit of this server, which is below that of provisional identities");
}

#[tokio::test]
async fn an_undecided_sighting_leaves_nothing_by_default() {
    let mut gallery = Gallery::new(policy(UncertainRule::Off)).await;
    let stranger = gallery.stranger();
    for _ in 0..2 {
        let seen = gallery.resolve(&stranger).await;
        assert_eq!((seen.kind, seen.provisional), (DecisionKind::Uncertain, None));
    }
    assert!(gallery.provisional().await.is_empty());
}

#[tokio::test]
async fn a_provisional_identity_is_not_taken_for_an_enrolled_one() {
    let mut gallery = Gallery::new(policy(UncertainRule::Provisional)).await;
    let stranger = gallery.stranger();
    let made = gallery.resolve(&stranger).await.provisional.expect("a provisional identity");
    let matcher = gallery.testbed.matcher.clone();
    let collection = gallery.testbed.handle.collection.id.clone();
    let samples = vec![sample(&stranger)];
    let labels = Labels::default();
    let provisional = |fault: &Fault| matches!(fault, Fault::IdentityProvisional(of) if *of == made);

    let (to, identity) = (collection.clone(), made.clone());
    let enrollment = Enrollment { collection: to, identity, samples: samples.clone(), labels: labels.clone() };
    let refused = matcher.enroll(&context(None), enrollment).await.expect_err("not by name");
    assert!(provisional(&refused), "{refused:?}");
    let (of, identity) = (collection.clone(), made.clone());
    let verification = Verification { collection: of, identity, samples, token: None };
    let refused = matcher.verify(&context(None), verification).await.expect_err("not verified");
    assert!(provisional(&refused), "{refused:?}");
    let draft = IdentityDraft { id: Some(made.clone()), ..IdentityDraft::default() };
    let refused = matcher.create_identity(&context(None), &collection, draft).await.expect_err("named like another");
    assert!(matches!(refused, Fault::IdentityExists(_)), "{refused:?}");
    let draft = MergeDraft { target: made.clone(), sources: vec![id("p1")], labels: MergedLabels::Keep };
    let refused = matcher.merge_identities(&context(None), &collection, draft).await.expect_err("would hide a person");
    assert!(provisional(&refused), "{refused:?}");
    let enrolled = IdentityPatch { provisional: Some(true), ..IdentityPatch::default() };
    assert!(matches!(gallery.patch(&id("p1"), enrolled).await, Err(Fault::Invalid { .. })));
    assert_eq!(gallery.provisional().await, std::slice::from_ref(&made), "nothing changed");

    // An operator who knows the person enrolls it, or merges it.
    let promoted = IdentityPatch { provisional: Some(false), ..IdentityPatch::default() };
    let record = gallery.patch(&made, promoted).await.expect("enrolled");
    assert!(!record.provisional && record.expire_time.is_none(), "{record:?}");
    assert_eq!(gallery.first_found(&stranger, false).await, (made.clone(), true));
}

#[tokio::test]
async fn the_part_of_a_provisional_identity_is_provisional_and_erasure_erases_it() {
    let mut gallery = Gallery::new(policy(UncertainRule::Provisional)).await;
    let (stranger, beside) = (gallery.stranger(), gallery.stranger());
    let made = gallery.resolve(&stranger).await.provisional.expect("a provisional identity");
    gallery.resolve(&at(0.9, &stranger, &beside)).await;
    let matcher = gallery.testbed.matcher.clone();
    let collection = gallery.testbed.handle.collection.id.clone();
    let templates = matcher.templates(&collection, &made, None, 10).await.expect("a page");
    let draft = SplitDraft {
        identity: made.clone(),
        templates: vec![templates[1].id],
        made: Some(id("part")),
        labels: Labels::default(),
    };
    matcher.split_identity(&context(None), &collection, draft).await.expect("split");
    assert!(gallery.identity(&id("part")).await.expect("a record").provisional);
    for one in [made, id("part")] {
        matcher.delete_identity(&context(None), &collection, &one, None).await.expect("deleted");
    }
    let counts = matcher.stats(&collection);
    assert_eq!((counts.provisional.identities, counts.provisional.templates), (0, 0));
}

#[tokio::test]
async fn provisional_identities_and_review_exclude_each_other() {
    let gallery = Testbed::new(1).await;
    let id = &gallery.handle.collection.id;
    let patch = CollectionPatch {
        uncertain: Some(UncertainRule::Provisional),
        review: Some(ReviewPolicy::Uncertain),
        ..CollectionPatch::default()
    };
    let refused = gallery.matcher.update_collection(id, patch).await.expect_err("both");
    assert!(matches!(&refused, Fault::Invalid { field, .. } if field == "policy.uncertain"), "{refused:?}");
}

//! A stream of sightings through the matcher: a tenth with their labels, then self-paced review by a reviewer who is always
//! right.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{RngCore, SeedableRng},
};
use uuid::Uuid;

use crate::matcher::{
    CollectionDraft, Context, DeclaredSpace, Enrollment, Learning, Matcher, MatcherOptions, Resolution, ResolveMode,
    ResolveResult, ReviewOptions, ReviewVerdict, Search, WriteOptions,
    testbed::{self, NoEncoders, Testbed, context},
};
use domain::{
    Assignment, CandidateEvidence, CaseSelection, CollectionId, DecisionKind, EmbeddingSpace, IdentityId, Labels,
    Modality, OpenSetRule, Policy, Pooling, Reason, ReviewCaseId, ReviewPolicy, ReviewState, ReviewTrial, Sample,
    SampleContent, Similarity, SpaceName, TemplateId, Timestamp, Verdict,
};

/// The person of a sighting, and its embedding values.
type Sighting = (String, Vec<f32>);

/// A matcher on an empty in-memory database, and its one collection. Its gallery has too few trials for a calibration, so
/// thresholds decide nothing: every answer that review does not accept is UNCERTAIN.
struct ReviewTestbed {
    matcher: Matcher,
    collection: CollectionId,
}

fn mine() -> SpaceName {
    SpaceName::new("mine").expect("a name")
}

fn sample(values: &[f32]) -> Sample {
    Sample { modality: Modality::Face, content: SampleContent::Embedding { model: mine(), values: values.to_vec() } }
}

fn ask() -> Context {
    context(None)
}

impl ReviewTestbed {
    async fn new(dimension: usize, policy: Policy) -> Self {
        let options = MatcherOptions {
            writes: WriteOptions { templates_per_identity_max: 20, ..WriteOptions::default() },
            reviews: ReviewOptions { cases_max: 100_000, ..ReviewOptions::default() },
            ..testbed::options(1)
        };
        let dimension = u32::try_from(dimension).expect("short");
        let spaces = vec![DeclaredSpace { name: mine(), modality: Modality::Face, dimension }];
        let draft = CollectionDraft { policy, spaces, ..CollectionDraft::default() };
        let Testbed { matcher, handle } = Box::pin(Testbed::with(options, draft, Arc::new(NoEncoders))).await;
        Self { matcher, collection: handle.collection.id.clone() }
    }

    async fn enroll(&self, (person, values): &Sighting) -> TemplateId {
        let enrollment = Enrollment {
            collection: self.collection.clone(),
            identity: IdentityId::new(person).expect("an id"),
            samples: vec![sample(values)],
            labels: Labels::default(),
        };
        self.matcher.enroll(&ask(), enrollment).await.expect("enrolled").templates[0].id
    }

    async fn resolve(&self, values: &[f32]) -> ResolveResult {
        let resolution = Resolution {
            collection: self.collection.clone(),
            samples: vec![sample(values)],
            mode: ResolveMode::EnrollIfNew,
            limit: 1,
            min_similarity: None,
            labels: Labels::default(),
            token: None,
        };
        self.matcher.resolve(&ask(), resolution).await.expect("resolved")
    }

    /// Decides a case and returns its new templates. An identity at the template limit gets none.
    async fn decide(&self, case: ReviewCaseId, person: &str) -> Vec<TemplateId> {
        let id = IdentityId::new(person).expect("an id");
        let known = self.matcher.templates(&self.collection, &id, None, 100).await.ok();
        let is_full = known.as_ref().is_some_and(|templates| templates.len() >= 20);
        let verdict = ReviewVerdict {
            collection: self.collection.clone(),
            case,
            reviewer: "ann".to_owned(),
            verdict: if known.is_some() { Verdict::SameAs(id) } else { Verdict::New(Some(id)) },
            learning: if is_full { Learning::Link } else { Learning::Enroll },
            expected: None,
        };
        let reviewed = self.matcher.reviews.decide_review_case(&ask(), verdict).await.expect("decided");
        let ReviewState::Decided(outcome) = reviewed.case.state else { panic!("undecided") };
        outcome.templates
    }

    async fn is_known(&self, (person, values): &Sighting) -> bool {
        let search = Search {
            collection: self.collection.clone(),
            samples: vec![sample(values)],
            limit: 1,
            filter: None,
            min_similarity: None,
            includes_provisional: false,
            token: None,
        };
        let found = self.matcher.search(&ask(), search).await.expect("found");
        found.candidates[0].identity.as_str() == person
    }

    /// Keeps the trial of a verdict.
    async fn learn(&self, trial: ReviewTrial) {
        let handle = self.matcher.replica.open(&self.collection).await.expect("open");
        let mut turn = self.matcher.writes.take_turn(&handle).await.expect("the turn");
        self.matcher.reviews.learn(&mut turn, trial).await.expect("learnt");
        turn.commit().await.expect("committed");
    }

    async fn assignments(&self, person: &str) -> Vec<Assignment> {
        let id = IdentityId::new(person).expect("an id");
        let templates = self.matcher.templates(&self.collection, &id, None, 100).await.expect("listed");
        templates.into_iter().map(|template| template.assignment).collect()
    }
}

fn self_paced(review_share: f64) -> Policy {
    // Without a calibration, thresholds make every answer uncertain.
    let open_set = OpenSetRule::Thresholds;
    Policy { review: ReviewPolicy::SelfPaced, review_share, open_set, ..Policy::default() }
}

/// The outcome of a stream.
#[derive(Debug, Default)]
struct Report {
    resolves: usize,
    review_cases: usize,
    accepted: usize,
    accepted_right: usize,
    /// Similarity, posterior, and whether the best candidate was right, of every resolve.
    doubts: Vec<(f64, f64, bool)>,
    rank_one: f64,
    rank_one_of_all_labels: f64,
}

/// Labels for a tenth of the stream, review of the rest, and at the end a search for each probe.
async fn stream(sightings: &[Sighting], probes: &[Sighting], share: f64) -> Report {
    let bench = ReviewTestbed::new(sightings[0].1.len(), self_paced(share)).await;
    let all = ReviewTestbed::new(sightings[0].1.len(), Policy::default()).await;
    let mut report = Report::default();
    let mut certified: Vec<(String, TemplateId)> = Vec::new();
    let mut enrolled: HashMap<&str, usize> = HashMap::new();
    let labelled = sightings.len() / 10;
    for (number, sighting) in sightings.iter().enumerate() {
        let (person, values) = sighting;
        let count = enrolled.entry(person).or_default();
        *count += 1;
        if *count <= 20 {
            all.enroll(sighting).await;
        }
        if number < labelled {
            if *count <= 20 {
                bench.enroll(sighting).await;
            }
            continue;
        }
        let resolved = bench.resolve(values).await;
        report.resolves += 1;
        let best = resolved.candidates.first().expect("the gallery is not empty");
        let was_right = best.identity.as_str() == person;
        report.doubts.push((
            best.similarity.0.into(),
            resolved.posterior.expect("the gallery is not empty"),
            was_right,
        ));
        if let Some(case) = resolved.review_case {
            report.review_cases += 1;
            let templates = bench.decide(case, person).await;
            certified.extend(templates.into_iter().map(|template| (person.clone(), template)));
        } else if resolved.kind == DecisionKind::Known {
            assert!(resolved.reasons.contains(&Reason::AutoAccepted), "{resolved:?}");
            report.accepted += 1;
            report.accepted_right += usize::from(resolved.identity.is_some_and(|id| id.as_str() == person));
        } else {
            assert!(resolved.reasons.contains(&Reason::ReviewShareSpent), "{resolved:?}");
        }
    }
    for (person, template) in certified {
        let id = IdentityId::new(&person).expect("an id");
        let kept = bench.matcher.template(&bench.collection, &id, template).await.expect("it is where it was put");
        assert!(matches!(kept.assignment, Assignment::Certified(_)), "{kept:?}");
    }
    for probe in probes {
        report.rank_one += f64::from(bench.is_known(probe).await) / probes.len() as f64;
        report.rank_one_of_all_labels += f64::from(all.is_known(probe).await) / probes.len() as f64;
    }
    report
}

impl Report {
    fn print(&self, name: &str) {
        let share = |part: usize, of: usize| 100.0 * part as f64 / of.max(1) as f64;
        #[expect(clippy::print_stderr, reason = "figures of the test, shown with --nocapture")]
        {
            eprintln!(
                "{name}: {} resolves, {:.1} % review cases, {:.1} % accepted, {:.2} % of these right, rank-1 {:.1} %, with all labels \
                 {:.1} %; right from wrong: similarity {:.4}, posterior {:.4}",
                self.resolves,
                share(self.review_cases, self.resolves),
                share(self.accepted, self.resolves),
                share(self.accepted_right, self.accepted),
                100.0 * self.rank_one,
                100.0 * self.rank_one_of_all_labels,
                self.separation(|(similarity, ..)| *similarity),
                self.separation(|(_, posterior, _)| *posterior),
            );
        }
    }

    /// How often one that was right scores higher than one that was wrong (the area under the ROC curve).
    fn separation(&self, score: impl Fn(&(f64, f64, bool)) -> f64) -> f64 {
        let of =
            |was_right| self.doubts.iter().filter(move |doubt| doubt.2 == was_right).map(&score).collect::<Vec<f64>>();
        let (right, wrong) = (of(true), of(false));
        let wins =
            |one: &f64| wrong.iter().map(|other| 0.5 * (f64::from(one > other) + f64::from(one >= other))).sum::<f64>();
        right.iter().map(wins).sum::<f64>() / (right.len() * wrong.len()) as f64
    }

    fn meets_its_targets(&self, share: f64) {
        assert!(self.review_cases as f64 <= share * self.resolves as f64, "{} review cases", self.review_cases);
        assert!(self.accepted > self.resolves / 10, "the verdicts allow further acceptances: {}", self.accepted);
        assert!(
            self.accepted_right as f64 >= 0.99 * self.accepted as f64,
            "{} of {}",
            self.accepted_right,
            self.accepted
        );
        let (own, all) = (self.rank_one, self.rank_one_of_all_labels);
        assert!(own >= all - 0.01, "rank-1 is {own} and with all labels {all}");
    }
}

struct SightingSource(Xoshiro256PlusPlus);

impl SightingSource {
    fn unit(&mut self) -> f32 {
        (self.0.next_u64() >> 40) as f32 / (1_u64 << 24) as f32
    }

    /// Nearly normal: the sum of four even numbers.
    fn normal(&mut self) -> f32 {
        ((0..4).map(|_| self.unit()).sum::<f32>() - 2.0) * 3.0_f32.sqrt()
    }

    fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.0.next_u64() % count as u64).expect("below the count, which is one")
    }

    fn direction(&mut self, dimension: usize) -> Vec<f32> {
        (0..dimension).map(|_| self.normal()).collect()
    }

    /// A sighting of one of the first so many, as far from their direction as `noise` times its own length.
    fn sighting(&mut self, people: &[Vec<f32>], first: usize, noise: f32) -> Sighting {
        let person = self.below(first);
        let values = people[person].iter().map(|value| value + noise * self.normal()).collect();
        (format!("p{person}"), values)
    }
}

#[tokio::test]
async fn a_stream_with_a_tenth_of_its_labels_ends_as_if_it_had_all() {
    const SHARE: f64 = 0.2;
    let mut world = SightingSource(Xoshiro256PlusPlus::seed_from_u64(5));
    let people: Vec<Vec<f32>> = (0..48).map(|_| world.direction(128)).collect();
    // Eight more people appear after the review begins.
    let mut sightings: Vec<Sighting> = (0..300).map(|_| world.sighting(&people, 40, 0.9)).collect();
    sightings.extend((300..3000).map(|_| world.sighting(&people, 48, 0.9)));
    let probes: Vec<Sighting> = (0..1000).map(|_| world.sighting(&people, 48, 0.9)).collect();
    let report = Box::pin(stream(&sightings, &probes, SHARE)).await;
    report.print("simulated");
    report.meets_its_targets(SHARE);
}

#[tokio::test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
async fn a_stream_of_faces_keeps_its_review_share_and_accepts_the_right_identity_on_real_data() {
    const SHARE: f64 = 0.2;
    let rows = testing::embeddings("lfw_mobilefacenet");
    let mut pictures: BTreeMap<String, Vec<Vec<f32>>> = BTreeMap::new();
    for (image, values) in rows {
        pictures.entry(testing::lfw_person(&image).to_owned()).or_default().push(values);
    }
    // People with enough pictures to hold one out as a probe; at most thirty pictures each.
    pictures.retain(|_, of| of.len() >= 6);
    let mut world = SightingSource(Xoshiro256PlusPlus::seed_from_u64(5));
    let (mut sightings, mut probes) = (Vec::new(), Vec::new());
    for (person, mut of) in pictures {
        for _ in 0..of.len() / 6 {
            let held_out = of.swap_remove(world.below(of.len()));
            probes.push((person.clone(), held_out));
        }
        sightings.extend(of.into_iter().take(30).map(|values| (person.clone(), values)));
    }
    for last in (1..sightings.len()).rev() {
        sightings.swap(last, world.below(last + 1));
    }
    let report = Box::pin(stream(&sightings, &probes, SHARE)).await;
    report.print("LFW");
    assert!(report.review_cases as f64 <= SHARE * report.resolves as f64, "{} review cases", report.review_cases);
    assert!(report.accepted_right as f64 >= 0.99 * report.accepted as f64, "{report:?}");
}

/// The trial of a verdict, on the case of this number.
fn verdict(number: u128, posterior: f64, was_right: bool) -> ReviewTrial {
    ReviewTrial {
        case: ReviewCaseId(Uuid::from_u128(1 << 100 | number)),
        doubt: CandidateEvidence {
            space: external(),
            pooling: Pooling::Best,
            similarity: Similarity(0.5),
            margin: None,
            posterior: Some(posterior),
            selection: if number.is_multiple_of(2) { CaseSelection::Blind } else { CaseSelection::ByPosterior },
        },
        was_right,
        time: Timestamp::UNIX_EPOCH,
    }
}

fn external() -> EmbeddingSpace {
    let digest = domain::ModelDigest::of_external(&mine(), Modality::Face, 4);
    EmbeddingSpace::whole(Modality::Face, digest, 4)
}

#[tokio::test]
async fn contradicted_acceptances_are_taken_back_and_certified_templates_stay() {
    let bench = ReviewTestbed::new(4, self_paced(1.0)).await;
    bench.enroll(&("alice".to_owned(), vec![1.0, 0.0, 0.0, 0.0])).await;
    let uncertain_alice = bench.resolve(&[1.0, 0.2, 0.0, 0.0]).await;
    bench.decide(uncertain_alice.review_case.expect("the review share allows every case"), "alice").await;
    for number in 0..298 {
        bench.learn(verdict(number, 0.0, true)).await;
    }
    // With the verdict on Alice, 299 were right, so every posterior is accepted.
    let accepted = bench.resolve(&[1.0, 0.0, 0.3, 0.0]).await;
    assert_eq!((accepted.kind, accepted.enrolled, accepted.review_case), (DecisionKind::Known, true, None));
    assert_eq!(accepted.identity.expect("an identity").as_str(), "alice");
    assert!(accepted.reasons.contains(&Reason::AutoAccepted), "{:?}", accepted.reasons);
    let replayed = bench.matcher.replay_decision(&bench.collection, accepted.id).await.expect("replayed");
    assert!(replayed.same, "{replayed:?}");

    let kinds = async || {
        let assignments = bench.assignments("alice").await;
        let certified = assignments.iter().filter(|of| matches!(of, Assignment::Certified(_))).count();
        let accepted = assignments.iter().filter(|of| matches!(of, Assignment::Accepted { .. })).count();
        (assignments.len(), certified, accepted)
    };
    assert_eq!(kinds().await, (3, 1, 1));
    // At most one in a hundred may be wrong.
    for number in 298..301 {
        bench.learn(verdict(number, 1.0, false)).await;
    }
    assert_eq!(kinds().await, (3, 1, 1));
    bench.learn(verdict(301, 1.0, false)).await;
    assert_eq!(kinds().await, (2, 1, 0), "the accepted template is removed, and no other");
    let uncertain = bench.resolve(&[1.0, 0.0, 0.3, 0.0]).await;
    assert_eq!(uncertain.kind, DecisionKind::Uncertain);

    // A calibration uses only trials of cases that were selected by similarity.
    let handle = bench.matcher.replica.open(&bench.collection).await.expect("open");
    let reviewed = bench.matcher.judging.reviewed(&handle, external()).await.expect("read");
    assert_eq!((reviewed.right.len(), reviewed.wrong.len()), (150, 2));
}

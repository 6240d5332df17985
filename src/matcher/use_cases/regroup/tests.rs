//! Merges, splits and reverts on an in-memory database: random sequences that are undone, and what is refused.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::matcher::{
    collection::group_commit::EnrollWrite,
    options::{MatcherOptions, WriteOptions},
    testbed::{self, NoEncoders, Testbed, context, enroll_write},
    use_cases::collections::CollectionDraft,
    use_cases::identities::{IdentityDraft, IdentityPatch},
    use_cases::revert::{RevertDraft, RevertExtent},
};
use domain::{
    Assignment, Candidate, DecisionId, Embedding, IdentityId, Pooling, Position, ReviewCase, ReviewCaseId, ReviewState,
    Similarity, StoredTemplate, Timestamp,
};
use gallery::{Gallery, GalleryOptions, Query, Searched};
use store::Store;

fn id(name: &str) -> IdentityId {
    IdentityId::new(name).expect("an id")
}

fn merge(target: &str, sources: &[&str]) -> MergeDraft {
    MergeDraft {
        target: id(target),
        sources: sources.iter().map(|name| id(name)).collect(),
        labels: MergedLabels::Fill,
    }
}

fn split(identity: &str, templates: &[TemplateId], made: &str) -> SplitDraft {
    SplitDraft {
        identity: id(identity),
        templates: templates.to_vec(),
        made: Some(id(made)),
        labels: testing::labels(&[("made", "yes")]),
    }
}

fn revert(identity: &str) -> RevertDraft {
    RevertDraft { identity: id(identity), regrouping: None, extent: RevertExtent::Whole }
}

/// Everything that a revert restores. Revisions are left out: they only rise.
#[derive(Debug, PartialEq)]
struct State {
    identities: Vec<Identity>,
    templates: Vec<StoredTemplate>,
    answers: Vec<Vec<Candidate>>,
}

fn probe(number: u16) -> Embedding {
    let angle = f32::from(number) * 0.7;
    let space = enroll_write("x", 1).encoded[0].embedding.space();
    Embedding::new(space, &[angle.cos(), angle.sin()]).expect("an embedding")
}

/// The answers of an index with each pooling.
fn answers(index: &gallery::CollectionIndex, now: Timestamp) -> Vec<Vec<Candidate>> {
    let poolings = [Pooling::Best, Pooling::ByQuality, Pooling::Prototype, Pooling::Centralised];
    let searches = poolings.into_iter().flat_map(|pooling| (0..7).map(move |number| (pooling, number)));
    searches
        .map(|(pooling, number)| {
            index.search(
                &probe(number),
                &Query { limit: 9, filter: None, now, pooling, similarity_min: None, searched: Searched::Enrolled },
            )
        })
        .collect()
}

impl Testbed {
    fn collection(&self) -> &CollectionId {
        &self.handle.collection.id
    }

    async fn enrolled(&self, name: &str, numbers: &[u16], labels: &[(&str, &str)]) -> Vec<TemplateId> {
        let mut write = EnrollWrite { labels: testing::labels(labels), ..enroll_write(name, numbers.len()) };
        for (part, number) in write.encoded.iter_mut().zip(numbers) {
            part.embedding = probe(*number);
        }
        let enrolled = self.matcher.writes.enroll(&context(None), self.collection(), write).await.expect("enrolled");
        enrolled.templates.iter().map(|template| template.id).collect()
    }

    async fn merged(&self, draft: MergeDraft) -> Result<Regrouped, Fault> {
        self.matcher.merge_identities(&context(None), self.collection(), draft).await
    }

    async fn divided(&self, draft: SplitDraft) -> Result<Regrouped, Fault> {
        self.matcher.split_identity(&context(None), self.collection(), draft).await
    }

    async fn reverted(&self, draft: RevertDraft) -> Result<Regrouped, Fault> {
        self.matcher.revert_regrouping(&context(None), self.collection(), draft).await
    }

    async fn state(&self) -> State {
        let uid = self.handle.collection.uid;
        let mut identities = self.matcher.store.in_collection(uid).identities(None, 1000).await.expect("a page");
        for identity in &mut identities {
            identity.revision = Revision::FIRST;
        }
        let templates =
            self.matcher.store.in_collection(uid).stored_templates(Position::START, 1000).await.expect("a page");
        State { identities, templates, answers: answers(&self.handle.index, self.matcher.now()) }
    }

    async fn owned(&self, name: &str) -> Vec<TemplateId> {
        let uid = self.handle.collection.uid;
        let page = self.matcher.store.in_collection(uid).templates_of(&id(name), None, 1000).await.expect("a page");
        page.into_iter().map(|template| template.id).collect()
    }

    /// A follower that reads the whole log late, and a start from the tables, answer as the index that was there.
    async fn assert_others_answer_the_same(&self) {
        let uid = self.handle.collection.uid;
        let (store, now): (&dyn Store, _) = (&*self.matcher.store, self.matcher.now());
        let log = store.in_collection(uid).entries_after(Position::START, 10_000).await.expect("entries");
        let late = Gallery::new(GalleryOptions::default()).open(uid);
        late.apply(&log).expect("in order");
        let restarted = Gallery::new(GalleryOptions::default()).open(uid);
        let mut restore = restarted.restore(late.position(), 0);
        restore.identities(&store.in_collection(uid).identities(None, 1000).await.expect("a page"));
        restore.templates(store.in_collection(uid).stored_templates(Position::START, 1000).await.expect("a page"));
        restore.finish();
        let expected = answers(&self.handle.index, now);
        assert_eq!(answers(&late, now), expected, "a follower that comes late");
        assert_eq!(answers(&restarted, now), expected, "a start from the tables");
    }
}

/// A random merge or split; what it names is chosen from what exists then.
#[derive(Debug, Clone)]
struct Proposal {
    splits: bool,
    first: prop::sample::Index,
    others: Vec<prop::sample::Index>,
    labels: MergedLabels,
}

fn proposal() -> impl Strategy<Value = Proposal> {
    let others = prop::collection::vec(any::<prop::sample::Index>(), 1..3);
    let labels = prop_oneof![Just(MergedLabels::Fill), Just(MergedLabels::Keep)];
    (any::<bool>(), any::<prop::sample::Index>(), others, labels).prop_map(|(splits, first, others, labels)| Proposal {
        splits,
        first,
        others,
        labels,
    })
}

/// Carries out a proposal where it makes sense. Returns the identity to revert.
async fn carried_out(testbed: &Testbed, proposal: &Proposal) -> Option<IdentityId> {
    let uid = testbed.handle.collection.uid;
    let all = testbed.matcher.store.in_collection(uid).identities(None, 1000).await.expect("a page");
    let first = all[proposal.first.index(all.len())].id.clone();
    let done = if proposal.splits {
        let owned = testbed.owned(first.as_str()).await;
        let chosen: HashSet<TemplateId> =
            proposal.others.iter().filter(|_| owned.len() > 1).map(|at| owned[at.index(owned.len())]).collect();
        if chosen.is_empty() || chosen.len() == owned.len() {
            return None;
        }
        let templates = chosen.into_iter().collect();
        let draft = SplitDraft { identity: first.clone(), templates, made: None, labels: Labels::default() };
        testbed.divided(draft).await
    } else {
        let others = proposal.others.iter().map(|at| &all[at.index(all.len())].id);
        let sources: BTreeSet<&IdentityId> = others.filter(|source| **source != first).collect();
        let sources: Vec<IdentityId> = sources.into_iter().cloned().collect();
        if sources.is_empty() {
            return None;
        }
        let draft = MergeDraft { target: first.clone(), sources, labels: proposal.labels };
        testbed.merged(draft).await
    };
    let done = done.expect("it makes sense");
    assert_eq!(done.regrouping.identity, first);
    Some(first)
}

/// A testbed in which every merge has room.
async fn roomy() -> Testbed {
    let options = testbed::options(8);
    let writes = WriteOptions { templates_per_identity_max: 100, ..options.writes.clone() };
    let options = MatcherOptions { writes, ..options };
    Box::pin(Testbed::with(options, CollectionDraft::default(), Arc::new(NoEncoders))).await
}

async fn regroupings_are_undone(proposals: Vec<Proposal>) {
    let testbed = roomy().await;
    for (person, number) in ["ann", "bob", "carl", "dora"].into_iter().zip(0_u16..) {
        let numbers: Vec<u16> = (0..=number % 3).map(|at| number * 5 + at).collect();
        testbed.enrolled(person, &numbers, &[("name", person), (person, "yes")]).await;
    }
    let mut before = vec![testbed.state().await];
    let mut done = Vec::new();
    for proposal in &proposals {
        if let Some(identity) = carried_out(&testbed, proposal).await {
            done.push(identity);
            before.push(testbed.state().await);
        }
    }
    testbed.assert_others_answer_the_same().await;
    while let Some(identity) = done.pop() {
        before.pop();
        testbed.reverted(revert(identity.as_str())).await.expect("reverted");
        assert_eq!(&testbed.state().await, before.last().expect("one more than done"));
    }
    testbed.assert_others_answer_the_same().await;
    let audited = testbed.matcher.store.audit(&|_| ()).await.expect("audited");
    assert_eq!(audited.findings, vec![]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn reverts_in_reverse_order_restore_every_state(proposals in prop::collection::vec(proposal(), 1..9)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        runtime.block_on(Box::pin(regroupings_are_undone(proposals)));
    }
}

#[tokio::test]
async fn what_makes_no_merge_is_refused_and_nothing_changes() {
    let testbed = Testbed::new(8).await;
    testbed.enrolled("ann", &[1, 2], &[]).await;
    testbed.enrolled("bob", &[3, 4], &[]).await;
    testbed.enrolled("carl", &[5], &[]).await;
    let before = testbed.state().await;
    let field = |refused: Result<Regrouped, Fault>| match refused {
        Err(Fault::Invalid { field, problem }) => (field, problem),
        other => panic!("{other:?}"),
    };
    let (at, problem) = field(testbed.merged(merge("ann", &["carl", "ann"])).await);
    assert!(at == "sources[1]" && problem.contains("into itself"), "{at} {problem}");
    let (at, problem) = field(testbed.merged(merge("ann", &["carl", "carl"])).await);
    assert!(at == "sources[1]" && problem.contains("twice"), "{at} {problem}");
    assert_eq!(field(testbed.merged(merge("ann", &[])).await).0, "sources");
    let many: Vec<String> = (0..=MERGE_SOURCES_MAX).map(|number| format!("p{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(field(testbed.merged(merge("ann", &many)).await).0, "sources");
    for (target, sources) in [("nobody", ["ann"]), ("ann", ["nobody"])] {
        let refused = testbed.merged(merge(target, &sources)).await;
        assert!(matches!(&refused, Err(Fault::NoIdentity(id)) if id.as_str() == "nobody"), "{refused:?}");
    }
    // The limit of the testbed is three templates.
    let refused = testbed.merged(merge("ann", &["carl", "bob"])).await;
    assert!(matches!(&refused, Err(Fault::WouldBeTooMany { templates: 5, limit: 3, .. })), "{refused:?}");
    assert_eq!(testbed.state().await, before);
}

#[tokio::test]
async fn an_expired_identity_takes_no_part() {
    let testbed = Testbed::new(8).await;
    testbed.enrolled("ann", &[1], &[]).await;
    let expired = IdentityDraft {
        id: Some(id("old")),
        labels: Labels::default(),
        expire_time: Some(Timestamp::UNIX_EPOCH - Duration::from_secs(1)),
    };
    testbed.matcher.create_identity(&context(None), testbed.collection(), expired).await.expect("created");
    for draft in [merge("ann", &["old"]), merge("old", &["ann"])] {
        let refused = testbed.merged(draft).await;
        assert!(matches!(&refused, Err(Fault::IdentityExpired(id)) if id.as_str() == "old"), "{refused:?}");
    }
}

#[tokio::test]
async fn of_two_merges_in_a_cycle_one_succeeds_and_the_other_is_told_why_not() {
    let testbed = Testbed::new(8).await;
    testbed.enrolled("ann", &[1], &[]).await;
    testbed.enrolled("bob", &[2], &[]).await;
    let (one, other) = tokio::join!(testbed.merged(merge("ann", &["bob"])), testbed.merged(merge("bob", &["ann"])));
    let (done, refused) = if one.is_ok() { (one, other) } else { (other, one) };
    let into = done.expect("one succeeds").regrouping.identity;
    let refused = refused.expect_err("one is refused");
    let Fault::IdentityMerged { identity, into: told } = &refused else { panic!("{refused:?}") };
    assert!(*told == into && *identity != into, "{refused}");
    assert_eq!(testbed.owned(into.as_str()).await.len(), 2);
}

#[tokio::test]
async fn what_makes_no_split_is_refused_and_nothing_changes() {
    let testbed = Testbed::new(8).await;
    let ann = testbed.enrolled("ann", &[1, 2, 3], &[]).await;
    let bob = testbed.enrolled("bob", &[4], &[]).await;
    let before = testbed.state().await;
    let refused = testbed.divided(split("ann", &ann, "new")).await;
    assert!(matches!(refused, Err(Fault::SplitLeavesNothing(_))), "{refused:?}");
    let refused = testbed.divided(split("ann", &[ann[0], bob[0]], "new")).await;
    assert!(matches!(refused, Err(Fault::NoTemplate(unknown)) if unknown == bob[0]), "{refused:?}");
    let refused = testbed.divided(split("ann", &ann[..1], "bob")).await;
    assert!(matches!(&refused, Err(Fault::IdentityExists(id)) if id.as_str() == "bob"), "{refused:?}");
    let refused = testbed.divided(split("ann", &ann[..1], "ann")).await;
    assert!(matches!(refused, Err(Fault::IdentityExists(_))), "{refused:?}");
    for templates in [&[][..], &[ann[0], ann[0]]] {
        let refused = testbed.divided(split("ann", templates, "new")).await;
        assert!(matches!(&refused, Err(Fault::Invalid { field, .. }) if field == "templates"), "{refused:?}");
    }
    let refused = testbed.divided(split("nobody", &ann[..1], "new")).await;
    assert!(matches!(refused, Err(Fault::NoIdentity(_))), "{refused:?}");
    assert_eq!(testbed.state().await, before);
}

#[tokio::test]
async fn a_revert_is_done_once_and_needs_something_to_revert() {
    let testbed = Testbed::new(8).await;
    testbed.enrolled("ann", &[1], &[]).await;
    testbed.enrolled("bob", &[2], &[]).await;
    testbed.enrolled("carl", &[3], &[]).await;
    let refused = testbed.reverted(revert("ann")).await;
    assert!(matches!(refused, Err(Fault::NothingToRevert(_))), "{refused:?}");
    let merged = testbed.merged(merge("ann", &["bob"])).await.expect("merged").regrouping.id;
    let refused = testbed.reverted(revert("bob")).await;
    assert!(matches!(&refused, Err(Fault::IdentityMerged { into, .. }) if into.as_str() == "ann"), "{refused:?}");
    let named = |name: &str| RevertDraft { regrouping: Some(merged), ..revert(name) };
    let refused = testbed.reverted(named("carl")).await;
    assert!(matches!(&refused, Err(Fault::Invalid { field, .. }) if field == "regrouping"), "{refused:?}");
    testbed.reverted(named("ann")).await.expect("reverted");
    let refused = testbed.reverted(named("ann")).await;
    assert!(matches!(refused, Err(Fault::AlreadyReverted(id)) if id == merged), "{refused:?}");
    let refused = testbed.reverted(revert("ann")).await;
    assert!(matches!(refused, Err(Fault::NothingToRevert(_))), "{refused:?}");
    let unknown = RevertDraft { regrouping: Some(RegroupingId(uuid::Uuid::nil())), ..revert("ann") };
    let refused = testbed.reverted(unknown).await;
    assert!(matches!(refused, Err(Fault::NoRegrouping(_))), "{refused:?}");
}

fn problems(refused: Result<Regrouped, Fault>) -> Vec<String> {
    match refused {
        Err(Fault::RevertBlocked { problems, .. }) => problems,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_revert_tells_what_was_erased_or_moved_again_and_restores_the_rest_on_request() {
    let testbed = Testbed::new(8).await;
    testbed.enrolled("ann", &[1], &[]).await;
    let bob = testbed.enrolled("bob", &[2, 3], &[("name", "bob")]).await;
    let merged = testbed.merged(merge("ann", &["bob"])).await.expect("merged");
    assert_eq!(merged.identities[0].labels, testing::labels(&[("name", "bob")]));
    testbed.matcher.delete_template(&context(None), testbed.collection(), &id("ann"), bob[0]).await.expect("erased");
    testbed.divided(split("ann", &bob[1..], "new")).await.expect("moved again");
    let of_merge = |extent| RevertDraft { regrouping: Some(merged.regrouping.id), extent, ..revert("ann") };
    let told = problems(testbed.reverted(of_merge(RevertExtent::Whole)).await);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains(&bob[1].to_string()) && told[0].contains("moved again, to new"), "{told:?}");
    assert_eq!(told[1], "1 of the 2 templates that moved with bob were erased");
    let told = problems(testbed.reverted(of_merge(RevertExtent::Possible)).await);
    assert_eq!(told.len(), 2, "nothing is left to restore: {told:?}");

    testbed.reverted(revert("ann")).await.expect("the split is undone first");
    let undone = testbed.reverted(of_merge(RevertExtent::Possible)).await.expect("what is left");
    assert_eq!(undone.regrouping.templates, [TemplateOwner { template: bob[1], identity: id("bob") }]);
    assert_eq!(undone.identities[1].labels, testing::labels(&[("name", "bob")]));
    assert_eq!((testbed.owned("bob").await, testbed.owned("ann").await.len()), (bob[1..].to_vec(), 1));
}

#[tokio::test]
async fn a_revert_does_not_mix_a_person_with_a_new_one_of_the_same_id() {
    let testbed = Testbed::new(8).await;
    testbed.enrolled("ann", &[1], &[]).await;
    testbed.enrolled("bob", &[2], &[]).await;
    testbed.merged(merge("ann", &["bob"])).await.expect("merged");
    testbed.enrolled("bob", &[3], &[]).await;
    let before = testbed.state().await;
    for extent in [RevertExtent::Whole, RevertExtent::Possible] {
        let told = problems(testbed.reverted(RevertDraft { extent, ..revert("ann") }).await);
        assert_eq!(told, ["identity bob was created again"]);
    }
    assert_eq!(testbed.state().await, before);
}

#[tokio::test]
async fn a_merge_is_not_reverted_past_a_later_one() {
    let testbed = Testbed::new(8).await;
    for (name, number) in [("ann", 1), ("bob", 2), ("carl", 3)] {
        testbed.enrolled(name, &[number], &[]).await;
    }
    let first = testbed.merged(merge("bob", &["carl"])).await.expect("merged").regrouping.id;
    testbed.merged(merge("ann", &["bob"])).await.expect("merged");
    let told = problems(testbed.reverted(RevertDraft { regrouping: Some(first), ..revert("ann") }).await);
    assert_eq!(told, ["identity bob was merged into ann since; revert that first"]);
}

#[tokio::test]
async fn an_erased_person_is_not_restored() {
    let testbed = Testbed::new(8).await;
    testbed.enrolled("ann", &[1], &[]).await;
    testbed.enrolled("bob", &[2], &[]).await;
    let merged = testbed.merged(merge("ann", &["bob"])).await.expect("merged").regrouping.id;
    testbed.matcher.delete_identity(&context(None), testbed.collection(), &id("ann"), None).await.expect("erased");
    testbed.enrolled("ann", &[1], &[]).await;
    let refused = testbed.reverted(RevertDraft { regrouping: Some(merged), ..revert("ann") }).await;
    assert!(matches!(refused, Err(Fault::NoRegrouping(_))), "{refused:?}");
}

#[tokio::test]
async fn labels_that_changed_since_a_merge_stay() {
    let testbed = Testbed::new(8).await;
    testbed.enrolled("ann", &[1], &[("name", "ann"), ("site", "north")]).await;
    testbed.enrolled("bob", &[2], &[("name", "bob"), ("desk", "7"), ("floor", "2")]).await;
    let merged = testbed.merged(merge("ann", &["bob"])).await.expect("merged");
    let filled = [("name", "ann"), ("site", "north"), ("desk", "7"), ("floor", "2")];
    assert_eq!(merged.identities[0].labels, testing::labels(&filled));
    let labels = Some(testing::labels(&[("name", "ann"), ("site", "south"), ("desk", "7"), ("floor", "9")]));
    let patch = IdentityPatch { labels, ..IdentityPatch::default() };
    testbed.matcher.update_identity(&context(None), testbed.collection(), &id("ann"), patch).await.expect("relabelled");
    let undone = testbed.reverted(revert("ann")).await.expect("reverted");
    let kept = [("name", "ann"), ("site", "south"), ("floor", "9")];
    assert_eq!(undone.identities[0].labels, testing::labels(&kept), "the desk was Bob's, and nobody touched it");
}

#[tokio::test]
async fn what_was_enrolled_since_a_split_keeps_the_new_identity() {
    let testbed = Testbed::new(8).await;
    let ann = testbed.enrolled("ann", &[1, 2], &[]).await;
    testbed.divided(split("ann", &ann[1..], "new")).await.expect("split");
    let since = testbed.enrolled("new", &[3], &[]).await;
    testbed.reverted(revert("new")).await.expect("by either name");
    assert_eq!((testbed.owned("ann").await, testbed.owned("new").await), (ann, since));
}

#[tokio::test]
async fn a_certified_template_moves_with_its_certificate() {
    let testbed = Testbed::new(8).await;
    testbed.enrolled("ann", &[1], &[]).await;
    let certificate = domain::Certificate {
        reviewer: "eve".to_owned(),
        principal: "tests".to_owned(),
        case: ReviewCaseId(uuid::Uuid::nil()),
        time: Timestamp::UNIX_EPOCH,
    };
    let assignment = Assignment::Certified(certificate);
    let mut turn = testbed.matcher.writes.take_turn(&testbed.handle).await.expect("the turn");
    let admitted = turn
        .admit(&id("bob"), &Labels::default(), enroll_write("bob", 1).encoded, &assignment)
        .await
        .expect("admitted");
    turn.commit().await.expect("committed");
    testbed.merged(merge("ann", &["bob"])).await.expect("merged");
    let uid = testbed.handle.collection.uid;
    let moved = testbed.matcher.store.in_collection(uid).template(admitted[0].id).await.expect("read").expect("there");
    assert_eq!((moved.identity, moved.assignment), (id("ann"), assignment), "the certificate stays");
}

/// A case about a probe that may be of Ann or Bob.
fn case(number: u128, candidates: &[(&str, TemplateId)], state: ReviewState) -> ReviewCase {
    let candidate = |(name, template): &(&str, TemplateId)| Candidate {
        identity: id(name),
        template: *template,
        similarity: Similarity(0.5),
        fused: None,
    };
    ReviewCase {
        id: ReviewCaseId(uuid::Uuid::from_u128(number)),
        decision: DecisionId(uuid::Uuid::from_u128(number)),
        reasons: Vec::new(),
        candidates: candidates.iter().map(candidate).collect(),
        operating_point: decision::Thresholds::uncalibrated(domain::Policy::default(), 2).point,
        doubt: None,
        modality: domain::Modality::Face,
        model: domain::SpaceName::new("mine").expect("a name"),
        labels: Labels::default(),
        samples: Vec::new(),
        state,
        revision: Revision::FIRST,
        create_time: Timestamp::UNIX_EPOCH,
        update_time: Timestamp::UNIX_EPOCH,
        expire_time: Timestamp::UNIX_EPOCH + Duration::from_hours(1),
    }
}

#[tokio::test]
async fn review_cases_follow_and_decided_ones_outlive_the_merged_identity() {
    let testbed = Testbed::new(8).await;
    let ann = testbed.enrolled("ann", &[1], &[]).await;
    let bob = testbed.enrolled("bob", &[2], &[]).await;
    let verdict = domain::ReviewOutcome {
        verdict: domain::Verdict::SameAs(id("bob")),
        identity: Some(id("bob")),
        made: false,
        templates: Vec::new(),
        reviewer: "eve".to_owned(),
        time: Timestamp::UNIX_EPOCH,
    };
    let both = [("bob", bob[0]), ("ann", ann[0])];
    let (open, decided) = (case(1, &both, ReviewState::Open), case(2, &both, ReviewState::Decided(verdict)));
    let uid = testbed.handle.collection.uid;
    for case in [&open, &decided] {
        testbed.matcher.store.in_collection(uid).open_review_case(case, &[]).await.expect("opened");
    }
    let shown = async |case: &ReviewCase| {
        let shown = testbed.matcher.reviews.review_case(testbed.collection(), case.id).await.expect("there");
        let names: Vec<String> = shown.candidates.iter().map(|one| one.identity.to_string()).collect();
        (names.join(" "), shown.revision.0)
    };
    testbed.merged(merge("ann", &["bob"])).await.expect("merged");
    assert_eq!(shown(&open).await, ("ann ann".to_owned(), 2));
    assert_eq!(shown(&decided).await, ("bob ann".to_owned(), 1), "history");
    testbed.reverted(revert("ann")).await.expect("reverted");
    assert_eq!(shown(&open).await, ("bob ann".to_owned(), 3));
    testbed.matcher.delete_identity(&context(None), testbed.collection(), &id("ann"), None).await.expect("erased");
    assert_eq!(shown(&decided).await.1, 1, "the case is Bob's again");
    testbed.matcher.delete_identity(&context(None), testbed.collection(), &id("bob"), None).await.expect("erased");
    let gone = testbed.matcher.reviews.review_case(testbed.collection(), decided.id).await;
    assert!(matches!(gone, Err(Fault::NoReviewCase(_))), "{gone:?}");
}

#[tokio::test]
async fn a_repeated_request_has_the_first_answer() {
    let testbed = Testbed::new(8).await;
    testbed.enrolled("ann", &[1], &[]).await;
    testbed.enrolled("bob", &[2], &[]).await;
    let once = async || {
        let draft = merge("ann", &["bob"]);
        testbed.matcher.merge_identities(&context(Some("once")), testbed.collection(), draft).await.expect("merged")
    };
    assert_eq!(once().await, once().await);
}

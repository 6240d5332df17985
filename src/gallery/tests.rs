//! The public interface: answers compared with exact comparison of every template, with the scan and with the graph.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use jiff::SignedDuration;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{
    rows::measure::similarity_of,
    testbed::{LogWriter, embedding, id, index, names, now, space, unit_rows},
};
use domain::{Candidate, Filter, Pooling, Similarity, StoredTemplate, TemplateId};

fn uid(number: u128) -> CollectionUid {
    CollectionUid(Uuid::from_u128(number))
}

#[test]
fn collections_share_the_limit_and_nothing_else() {
    let gallery = Gallery::new(GalleryOptions { templates_max: 3, ..GalleryOptions::default() });
    gallery.open(uid(1)).apply(&LogWriter::new(2).enroll("alice", &[1.0, 0.0])).expect("in order");
    gallery.open(uid(2)).apply(&LogWriter::new(2).enroll("bob", &[0.0, 1.0])).expect("in order");
    assert_eq!(gallery.totals(), CollectionStats { identities: 2, templates: 2 });
    assert_eq!(gallery.check_capacity(1), Ok(()));
    assert_eq!(gallery.check_capacity(2), Err(GalleryError::Full { held: 2, templates_max: 3 }));

    assert!(gallery.remove(uid(1)).is_some());
    assert!(gallery.remove(uid(1)).is_none());
    assert!(gallery.index(uid(1)).is_none());
    assert_eq!(gallery.open(uid(1)).position(), Position::START, "a new index is empty");
    assert_eq!(gallery.totals(), CollectionStats { identities: 1, templates: 1 });
}

#[test]
fn entries_are_applied_once_in_order_and_without_gaps() {
    let index = index(GalleryOptions::default());
    let mut writer = LogWriter::new(2);
    let log = [writer.enroll("alice", &[1.0, 0.0]), writer.enroll("bob", &[0.0, 1.0])].concat();
    assert_eq!(
        index.apply(&[log[0].clone(), log[2].clone()]),
        Err(GalleryError::Gap { expected: Position(2), found: Position(3) })
    );
    assert_eq!(index.position(), Position(1));
    index.apply(&log).expect("the first entry is skipped, the others follow");
    index.apply(&log).expect("all are skipped");
    assert_eq!((index.position(), index.stats()), (Position(4), CollectionStats { identities: 2, templates: 2 }));
}

/// The log contains a template of an identity that was deleted before the log was read.
#[test]
fn a_template_of_a_deleted_identity_is_ignored() {
    let index = index(GalleryOptions::default());
    let mut writer = LogWriter::new(2);
    let mut log = writer.enroll("alice", &[1.0, 0.0]);
    log[0].labelled = None;
    log.extend(writer.enroll("alice", &[0.0, 1.0]));
    log[2].admitted = None;
    log.extend(writer.forget_identity("alice"));
    index.apply(&log).expect("in order");
    assert_eq!((index.position(), index.stats()), (Position(4), CollectionStats::default()));
}

#[test]
fn deleted_templates_are_never_found() {
    let index = index(GalleryOptions::default());
    let mut writer = LogWriter::new(2);
    let probe = embedding(&[1.0, 0.1]);
    index.apply(&writer.enroll("alice", &[1.0, 0.0])).expect("in order");
    index.apply(&writer.enroll("alice", &[1.0, 0.5])).expect("in order");
    index.apply(&writer.enroll("bob", &[0.0, 1.0])).expect("in order");
    let best = index.search(&probe, &Query::top(5));
    assert_eq!(names(&best), ["alice", "bob"]);

    index.apply(&writer.forget_template("alice", best[0].template)).expect("in order");
    let next = index.nearest_of(&probe, &id("alice"), Pooling::Best, now()).expect("another template is left");
    assert_ne!(next.template, best[0].template);

    index.apply(&writer.forget_identity("alice")).expect("in order");
    assert_eq!(names(&index.search(&probe, &Query::top(5))), ["bob"]);
    assert_eq!(index.nearest_of(&probe, &id("alice"), Pooling::Best, now()), None);
    assert_eq!((index.identity(&id("alice")), index.identities_in(space(2))), (None, 1));

    index.apply(&writer.enroll("alice", &[0.0, 1.0])).expect("in order");
    let again = index.search(&probe, &Query::top(5));
    assert!(again[0].similarity.0 < 0.2, "templates of the deleted identity do not come back");
}

#[test]
fn a_moved_template_answers_for_its_new_owner() {
    let index = index(GalleryOptions::default());
    let mut writer = LogWriter::new(2);
    let probe = embedding(&[1.0, 0.1]);
    let enrolled = writer.enroll("alice", &[1.0, 0.0]);
    let stored = enrolled[1].admitted.clone().expect("admitted");
    index.apply(&enrolled).expect("in order");
    index.apply(&writer.enroll("alice", &[0.0, 1.0])).expect("in order");
    index.apply(&writer.enroll("bob", &[0.0, 1.0])).expect("in order");
    let before = index.search(&probe, &Query::top(5));
    assert_eq!(names(&before), ["alice", "bob"]);

    index.apply(&writer.move_template(&stored, "bob")).expect("in order");
    let moved = index.search(&probe, &Query::top(5));
    assert_eq!(names(&moved), ["bob", "alice"]);
    assert_eq!((moved[0].template, moved[0].similarity), (before[0].template, before[0].similarity));
    assert_eq!((index.identities_in(space(2)), index.templates_in(space(2))), (2, 3));
    // What moved stays when the former owner goes, and goes with the new one.
    index.apply(&writer.forget_identity("alice")).expect("in order");
    assert_eq!(index.search(&probe, &Query::top(5)), moved[..1]);
    index.apply(&writer.label("alice", &[], None)).expect("in order");
    index.apply(&writer.move_template(&stored, "alice")).expect("in order");
    assert_eq!(index.search(&probe, &Query::top(1)), before[..1]);
    index.apply(&writer.forget_identity("alice")).expect("in order");
    assert_eq!(names(&index.search(&probe, &Query::top(5))), ["bob"]);
    assert_eq!(index.templates_in(space(2)), 1);
}

/// A follower that reads late sees templates with their present owners, which may be created further on in the log.
#[test]
fn a_template_that_moved_on_is_found_once_its_owner_is_there() {
    let index = index(GalleryOptions::default());
    let mut writer = LogWriter::new(2);
    let probe = embedding(&[1.0, 0.1]);
    let enrolled = writer.enroll("alice", &[1.0, 0.0]);
    let stored = enrolled[1].admitted.clone().expect("admitted");
    index.apply(&enrolled).expect("in order");
    index.apply(&writer.label("bob", &[], None)).expect("in order");
    let mut to_bob = writer.move_template(&stored, "carl");
    to_bob[0].identity = id("bob");
    index.apply(&to_bob).expect("in order");
    assert_eq!(index.search(&probe, &Query::top(5)), [], "Carl is not there yet");
    index.apply(&writer.forget_identity("alice")).expect("in order");
    index.apply(&writer.label("carl", &[], None)).expect("in order");
    index.apply(&writer.move_template(&stored, "carl")).expect("in order");
    assert_eq!(names(&index.search(&probe, &Query::top(5))), ["carl"]);
    let mut erased = writer.move_template(&stored, "bob");
    erased[0].moved = None;
    index.apply(&erased).expect("in order");
    assert_eq!((index.search(&probe, &Query::top(5)), index.templates_in(space(2))), (vec![], 0));
}

#[test]
fn provisional_identities_have_no_part_in_what_is_said_of_the_enrolled() {
    let index = index(GalleryOptions::default());
    let mut writer = LogWriter::new(2);
    let (probe, space) = (embedding(&[1.0, 0.0]), space(2));
    index.apply(&writer.enroll("alice", &[0.6, 0.8])).expect("in order");
    let before = (index.stats(), index.identities_in(space), index.rehearse(space, Pooling::Best, 100, 1));
    index.apply(&writer.label_provisional("seen", true)).expect("in order");
    index.apply(&writer.enroll("seen", &[1.0, 0.0])).expect("in order");
    let searched = |searched| index.search(&probe, &Query { searched, ..Query::top(5) });
    assert_eq!(names(&searched(Searched::Enrolled)), ["alice"]);
    assert_eq!(names(&searched(Searched::Provisional)), ["seen"]);
    assert_eq!(names(&searched(Searched::Both)), ["seen", "alice"]);
    assert_eq!((index.stats(), index.identities_in(space), index.rehearse(space, Pooling::Best, 100, 1)), before);
    assert_eq!(index.nearest_of(&probe, &id("seen"), Pooling::Best, now()), None);
    assert_eq!(index.provisional_embeddings(&id("seen"), space), std::slice::from_ref(&probe));
    let provisional = CollectionStats { identities: 1, templates: 1 };
    assert_eq!((index.counts().provisional, index.provisional_in(space)), (provisional, 1));

    index.apply(&writer.label_provisional("seen", false)).expect("in order");
    assert_eq!(names(&searched(Searched::Enrolled)), ["seen", "alice"], "enrolled");
    assert_eq!((index.stats(), index.provisional_in(space)), (CollectionStats { identities: 2, templates: 2 }, 0));
    index.apply(&writer.label_provisional("seen", true)).expect("in order");
    assert_eq!(names(&searched(Searched::Enrolled)), ["alice"], "a merge was reverted");
    index.apply(&writer.forget_identity("seen")).expect("in order");
    assert_eq!((searched(Searched::Both).len(), index.counts().provisional), (1, CollectionStats::default()));
}

#[test]
fn a_template_moves_between_a_provisional_and_an_enrolled_identity() {
    let index = index(GalleryOptions::default());
    let mut writer = LogWriter::new(2);
    let probe = embedding(&[1.0, 0.0]);
    index.apply(&writer.enroll("alice", &[0.0, 1.0])).expect("in order");
    index.apply(&writer.label_provisional("seen", true)).expect("in order");
    let enrolled = writer.enroll("seen", &[1.0, 0.0]);
    let stored = enrolled[0].admitted.clone().expect("admitted");
    index.apply(&enrolled).expect("in order");
    for (to, found) in [("alice", Searched::Enrolled), ("seen", Searched::Provisional)] {
        index.apply(&writer.move_template(&stored, to)).expect("in order");
        let nearest = |searched| index.search(&probe, &Query { searched, ..Query::top(1) });
        let all = nearest(Searched::Both);
        assert_eq!((names(&all), all[0].similarity.0 > 0.99), (vec![to], true));
        assert_eq!(nearest(found), all);
    }
    assert_eq!(index.counts().enrolled.templates + index.counts().provisional.templates, 2);
}

#[test]
fn expired_identities_are_hidden_before_they_are_deleted() {
    let index = index(GalleryOptions::default());
    let mut writer = LogWriter::new(2);
    index.apply(&writer.enroll("alice", &[1.0, 0.0])).expect("in order");
    index.apply(&writer.label("alice", &[("site", "north")], Some(now()))).expect("in order");
    let before = now() - SignedDuration::from_secs(1);
    let probe = embedding(&[1.0, 0.0]);
    let filter = Filter::parse("labels.site = \"north\"").expect("valid");
    for filter in [None, Some(&filter)] {
        let query = Query { filter, ..Query::top(1) };
        assert_eq!(index.search(&probe, &query), []);
        assert_eq!(names(&index.search(&probe, &Query { now: before, ..query })), ["alice"]);
    }
    assert_eq!(index.nearest_of(&probe, &id("alice"), Pooling::Best, now()), None);
    assert!(index.nearest_of(&probe, &id("alice"), Pooling::Best, before).is_some());
    assert_eq!(index.identity(&id("alice")).and_then(|known| known.expire_time), Some(now()));
}

#[test]
fn a_restored_index_answers_like_one_that_applied_the_log() {
    let mut writer = LogWriter::new(8);
    let log: Vec<_> = unit_rows(40, 8, 2)
        .iter()
        .enumerate()
        .flat_map(|(n, row)| writer.enroll(&format!("p{}", n % 10), row))
        .collect();
    let head = log[45].position;
    let followed = index(GalleryOptions::default());
    followed.apply(&log).expect("in order");

    // The store is read while a writer continues: the pages contain more than the head that was read first.
    let restored = index(GalleryOptions::default());
    let identities: Vec<_> = log.iter().filter_map(|entry| entry.labelled.clone()).collect();
    let templates: Vec<StoredTemplate> = log.iter().filter_map(|entry| entry.admitted.clone()).collect();
    let mut restore = restored.restore(head, 0);
    identities.chunks(3).for_each(|page| restore.identities(page));
    templates.chunks(7).for_each(|page| restore.templates(page.to_vec()));
    assert_eq!(restored.position(), Position::START, "nothing is seen before the end");
    restore.finish();
    assert_eq!(restored.position(), head);
    restored.apply(&log).expect("goes on at the head");

    let probe = embedding(&unit_rows(1, 8, 3)[0]);
    assert_eq!(restored.stats(), followed.stats());
    assert_eq!(restored.search(&probe, &Query::top(10)), followed.search(&probe, &Query::top(10)));
}

/// Operations of a writer, in few dimensions and few values, so that duplicates and ties are common.
#[derive(Debug, Clone)]
enum Step {
    Enroll { person: u8, values: [i8; 3] },
    Label { person: u8, site: bool },
    ForgetNewest { person: u8 },
    ForgetAll { person: u8 },
    Maintain,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let person = 0..12_u8;
    let values = prop::array::uniform3(-2..=2_i8).prop_filter("no direction", |v| *v != [0; 3]);
    let step = prop_oneof![
        8 => (person.clone(), values).prop_map(|(person, values)| Step::Enroll { person, values }),
        2 => (person.clone(), any::<bool>()).prop_map(|(person, site)| Step::Label { person, site }),
        1 => person.clone().prop_map(|person| Step::ForgetNewest { person }),
        1 => person.prop_map(|person| Step::ForgetAll { person }),
        1 => Just(Step::Maintain),
    ];
    prop::collection::vec(step, 0..120)
}

/// Whether the identity has the filtered label, and its templates.
type Person = (bool, Vec<(TemplateId, Vec<f32>)>);

/// Reference model of a gallery.
#[derive(Debug, Default)]
struct Model {
    people: BTreeMap<String, Person>,
}

impl Model {
    fn search(&self, probe: &[f32], limit: usize, filtered: bool) -> Vec<(String, TemplateId, Similarity)> {
        let mut best: Vec<_> = self
            .people
            .iter()
            .filter(|(_, (site, _))| *site || !filtered)
            .filter_map(|(name, (_, templates))| {
                let hits = templates.iter().map(|(t, values)| (Similarity(similarity_of(probe, values)), *t));
                let (similarity, template) = hits.min_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)))?;
                Some((name.clone(), template, similarity))
            })
            .collect();
        best.sort_by(|a, b| b.2.total_cmp(&a.2).then(a.1.cmp(&b.1)));
        best.truncate(limit);
        best
    }
}

/// Performs the steps on the index and on the model.
fn perform(steps: &[Step], index: &CollectionIndex) -> Model {
    let (mut writer, mut model) = (LogWriter::new(3), Model::default());
    for step in steps {
        match step {
            Step::Enroll { person, values } => {
                let name = format!("p{person}");
                let log = writer.enroll(&name, &values.map(f32::from));
                index.apply(&log).expect("in order");
                let stored = log.last().and_then(|e| e.admitted.clone()).expect("the last entry admits");
                let template = (stored.template.id, stored.embedding.values().to_vec());
                model.people.entry(name).or_default().1.push(template);
            }
            Step::Label { person, site } => {
                let name = format!("p{person}");
                let labels: &[_] = if *site { &[("site", "north")] } else { &[] };
                index.apply(&writer.label(&name, labels, None)).expect("in order");
                model.people.entry(name).or_default().0 = *site;
            }
            Step::ForgetNewest { person } => {
                let name = format!("p{person}");
                if let Some((template, _)) = model.people.get_mut(&name).and_then(|(_, templates)| templates.pop()) {
                    index.apply(&writer.forget_template(&name, template)).expect("in order");
                }
            }
            Step::ForgetAll { person } => {
                let name = format!("p{person}");
                if model.people.remove(&name).is_some() {
                    index.apply(&writer.forget_identity(&name)).expect("in order");
                }
            }
            Step::Maintain => {
                index.maintain();
            }
        }
    }
    model
}

fn seen(candidates: &[Candidate]) -> Vec<(String, TemplateId, Similarity)> {
    candidates.iter().map(|c| (c.identity.as_str().to_owned(), c.template, c.similarity)).collect()
}

proptest! {
    #[test]
    fn the_scan_answers_like_an_exact_comparison(
        steps in steps(), probe in prop::array::uniform3(1..=3_i8), limit in 0..15_usize, filtered in any::<bool>(),
    ) {
        let index = index(GalleryOptions::default());
        let model = perform(&steps, &index);
        let probe = embedding(&probe.map(f32::from));
        let filter = Filter::parse("labels.site = \"north\"").expect("valid");
        let query = Query { filter: filtered.then_some(&filter), ..Query::top(limit) };
        let expected = model.search(probe.values(), limit, filtered);
        prop_assert_eq!(seen(&index.search(&probe, &query)), expected.clone());
        prop_assert_eq!(index.stats().identities, model.people.len() as u64);
        let pooling_in_space = model.people.values().filter(|(_, templates)| !templates.is_empty()).count();
        prop_assert_eq!(index.identities_in(space(3)), pooling_in_space as u64);

        let floor = expected.get(1).map(|(_, _, similarity)| *similarity);
        let trimmed: Vec<_> = expected.into_iter().filter(|e| floor.is_none_or(|f| e.2 >= f)).collect();
        prop_assert_eq!(seen(&index.search(&probe, &Query { similarity_min: floor, ..query })), trimmed);
    }

    /// A graph of a dozen points with many duplicates is the worst case: its answers must be correct even where they
    /// are incomplete.
    #[test]
    fn graph_answers_are_correct(steps in steps(), filtered in any::<bool>()) {
        let index = index(GalleryOptions { graph_templates_min: 4, graph_links: 4, graph_search_width: 4, ..Default::default() });
        let model = perform(&steps, &index);
        let probe = embedding(&[1.0, 2.0, 3.0]);
        let filter = Filter::parse("labels.site = \"north\"").expect("valid");
        let query = Query { filter: filtered.then_some(&filter), ..Query::top(3) };
        let found = seen(&index.search(&probe, &query));
        prop_assert!(found.is_sorted_by(|a, b| a.2 > b.2 || (a.2 == b.2 && a.1 < b.1)));
        prop_assert_eq!(found.len(), model.search(probe.values(), 3, filtered).len());
        let all = model.search(probe.values(), usize::MAX, filtered);
        for (name, template, similarity) in &found {
            let templates = &model.people[name].1;
            let values = &templates.iter().find(|(t, _)| t == template).expect("not forgotten").1;
            prop_assert_eq!(similarity.0.to_bits(), similarity_of(probe.values(), values).to_bits());
            prop_assert!(all.iter().any(|(other, ..)| other == name), "the filter holds");
        }
        let different: BTreeSet<_> = found.iter().map(|(name, ..)| name).collect();
        prop_assert_eq!(different.len(), found.len());
    }
}

fn graph_options() -> GalleryOptions {
    GalleryOptions { graph_templates_min: 100, graph_build_threads: 2, ..GalleryOptions::default() }
}

/// Share of the exact ten most similar identities that the graph finds, over probes that are not enrolled.
#[expect(clippy::print_stderr, reason = "the measured recall is what the test is for")]
fn recall(set: &str, person: fn(&str) -> &str) -> f64 {
    let rows = testing::embeddings(set);
    let (exact, approximate) = (index(GalleryOptions::default()), index(graph_options()));
    let mut writer = LogWriter::new(rows[0].1.len());
    let (mut probes, mut log) = (Vec::new(), Vec::new());
    for (number, (image, values)) in rows.iter().enumerate() {
        if number % 10 == 0 {
            probes.push(embedding(values));
        } else {
            log.extend(writer.enroll(person(image), values));
        }
    }
    exact.apply(&log).expect("in order");
    approximate.apply(&log).expect("in order");
    assert_eq!(approximate.maintain().built, 1);
    let (mut found, mut wanted) = (0, 0);
    for probe in &probes {
        let near = names_of(&approximate.search(probe, &Query::top(10)));
        let nearest = names_of(&exact.search(probe, &Query::top(10)));
        wanted += nearest.len();
        found += nearest.intersection(&near).count();
    }
    let recall = f64::from(u32::try_from(found).expect("few")) / wanted as f64;
    eprintln!("{set}: recall@10 of the graph {recall:.4} over {} probes", probes.len());
    recall
}

fn names_of(candidates: &[Candidate]) -> BTreeSet<String> {
    candidates.iter().map(|c| c.identity.as_str().to_owned()).collect()
}

#[test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
fn the_graph_finds_the_nearest_faces_on_real_data() {
    assert!(recall("lfw_mobilefacenet", testing::lfw_person) >= 0.95);
}

#[test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
fn the_graph_finds_the_nearest_bodies_on_real_data() {
    assert!(recall("market_osnet", testing::market_person) >= 0.95);
}

/// `people` identities with two templates each, and a graph.
fn indexed_identities(people: usize) -> (std::sync::Arc<CollectionIndex>, LogWriter, Vec<Vec<f32>>) {
    let index = index(graph_options());
    let (mut writer, rows) = (LogWriter::new(32), unit_rows(people * 2, 32, 11));
    for (number, row) in rows.iter().enumerate() {
        index.apply(&writer.enroll(&format!("p{}", number / 2), row)).expect("in order");
    }
    assert_eq!(index.maintain(), MaintenanceReport { built: 1, dropped: 0, inserted: 0 });
    (index, writer, rows)
}

#[test]
fn an_identity_with_many_near_duplicates_hides_no_other() {
    let (index, mut writer, rows) = indexed_identities(300);
    for number in 0..200_u8 {
        let mut near = rows[0].clone();
        near[1] += f32::from(number) * 1e-5;
        index.apply(&writer.enroll("twin", &near)).expect("in order");
    }
    let probe = embedding(&rows[0]);
    let expected = |candidates: &[Candidate]| {
        assert_eq!(candidates.len(), 10);
        assert_eq!(names_of(&candidates[..2]), ["p0".to_owned(), "twin".to_owned()].into());
        assert_eq!(names_of(candidates).len(), 10, "each identity once");
    };
    expected(&index.search(&probe, &Query::top(10)));
    assert_eq!(index.maintain().inserted, 200);
    expected(&index.search(&probe, &Query::top(10)));
    for (number, row) in rows.iter().enumerate() {
        let first = &index.search(&embedding(row), &Query::top(2));
        assert!(names(first).contains(&format!("p{}", number / 2).as_str()), "a point near the others is still found");
    }
}

#[test]
fn the_graph_follows_additions_and_deletions() {
    let (index, mut writer, rows) = indexed_identities(100);
    let probe = unit_rows(1, 32, 99).remove(0);
    index.apply(&writer.enroll("late", &probe)).expect("in order");
    assert_eq!(names(&index.search(&embedding(&probe), &Query::top(1))), ["late"], "before any maintenance");
    assert_eq!(index.maintain(), MaintenanceReport { built: 0, dropped: 0, inserted: 1 });
    assert_eq!(names(&index.search(&embedding(&probe), &Query::top(1))), ["late"]);

    for person in 0..20 {
        index.apply(&writer.forget_identity(&format!("p{person}"))).expect("in order");
        let found = index.search(&embedding(&rows[person * 2]), &Query::top(100));
        assert!(!names_of(&found).contains(&format!("p{person}")));
    }
    assert_eq!(index.maintain().built, 1, "a fifth of the points is forgotten");
    assert_eq!(index.maintain(), MaintenanceReport::default());
    assert_eq!(index.search(&embedding(&rows[0]), &Query::top(100)).len(), 81);

    for person in 20..80 {
        index.apply(&writer.forget_identity(&format!("p{person}"))).expect("in order");
    }
    assert_eq!(index.maintain(), MaintenanceReport { built: 0, dropped: 1, inserted: 0 });
    assert_eq!(index.search(&embedding(&rows[0]), &Query::top(100)).len(), 21);
}

#[test]
fn a_selective_filter_finds_all_matches() {
    let (index, mut writer, rows) = indexed_identities(300);
    index.apply(&writer.label("p7", &[("vip", "yes")], None)).expect("in order");
    index.apply(&writer.label("p8", &[("vip", "yes")], None)).expect("in order");
    let filter = Filter::parse("labels.vip = \"yes\"").expect("valid");
    let found = index.search(&embedding(&rows[400]), &Query { filter: Some(&filter), ..Query::top(10) });
    assert_eq!(names_of(&found), ["p7".to_owned(), "p8".to_owned()].into());
}

struct EndWhenDropped<'d>(&'d AtomicBool);

impl Drop for EndWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One thread adds and deletes templates, one builds graphs, and four search an identity that is always enrolled.
#[test]
fn searches_run_while_the_log_is_applied_and_graphs_are_built() {
    let (index, mut writer, rows) = indexed_identities(80);
    let passing = unit_rows(150, 32, 77);
    let done = AtomicBool::new(false);
    let until_done = |work: &dyn Fn()| {
        while !done.load(Ordering::Relaxed) {
            work();
        }
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                until_done(&|| assert_eq!(names(&index.search(&embedding(&rows[0]), &Query::top(1))), ["p0"]));
            });
        }
        scope.spawn(|| {
            until_done(&|| {
                index.maintain();
            });
        });
        // Ends the other threads also when an assertion below fails.
        let _end = EndWhenDropped(&done);
        for (number, row) in passing.iter().enumerate() {
            let (name, probe) = (format!("passing{number}"), embedding(row));
            index.apply(&writer.enroll(&name, row)).expect("in order");
            assert_eq!(names(&index.search(&probe, &Query::top(1))), [name.as_str()], "found at once");
            if number % 3 > 0 {
                index.apply(&writer.forget_identity(&name)).expect("in order");
                assert!(!names_of(&index.search(&probe, &Query::top(50))).contains(&name), "never found again");
            }
        }
    });
    assert_eq!(index.stats(), CollectionStats { identities: 130, templates: 210 });
}

#[test]
fn a_rehearsal_uses_the_requested_space() {
    let (index, ..) = indexed_identities(60);
    let rehearsal = index.rehearse(space(32), Pooling::Best, 100, 1);
    assert_eq!((rehearsal.identities, rehearsal.templates, rehearsal.nonmated_best.len()), (60, 120, 100));
    assert_eq!(index.rehearse(space(31), Pooling::Best, 100, 1).identities, 0);
}

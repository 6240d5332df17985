//! The room as its callers see it: answers against a look at every template, with the scan and with the graph.

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
    testbed::{Writer, embedding, id, names, now, shelf, space, unit_rows},
};
use domain::{Candidate, Filter, Pooling, Similarity, StoredTemplate, TemplateId};

fn uid(number: u128) -> CollectionUid {
    CollectionUid(Uuid::from_u128(number))
}

#[test]
fn collections_share_the_room_and_nothing_else() {
    let gallery = Gallery::new(GalleryOptions { templates_max: 3, ..GalleryOptions::default() });
    gallery.open(uid(1)).apply(&Writer::new(2).enroll("alice", &[1.0, 0.0])).expect("in order");
    gallery.open(uid(2)).apply(&Writer::new(2).enroll("bob", &[0.0, 1.0])).expect("in order");
    assert_eq!(gallery.totals(), CollectionStats { identities: 2, templates: 2 });
    assert_eq!(gallery.check_room(1), Ok(()));
    assert_eq!(gallery.check_room(2), Err(GalleryError::Full { held: 2, templates_max: 3 }));

    assert!(gallery.remove(uid(1)).is_some());
    assert!(gallery.remove(uid(1)).is_none());
    assert!(gallery.shelf(uid(1)).is_none());
    assert_eq!(gallery.open(uid(1)).position(), Position::START, "a new life starts from nothing");
    assert_eq!(gallery.totals(), CollectionStats { identities: 1, templates: 1 });
}

#[test]
fn entries_are_applied_once_in_order_and_without_gaps() {
    let shelf = shelf(GalleryOptions::default());
    let mut writer = Writer::new(2);
    let log = [writer.enroll("alice", &[1.0, 0.0]), writer.enroll("bob", &[0.0, 1.0])].concat();
    assert_eq!(
        shelf.apply(&[log[0].clone(), log[2].clone()]),
        Err(GalleryError::Gap { expected: Position(2), found: Position(3) })
    );
    assert_eq!(shelf.position(), Position(1));
    shelf.apply(&log).expect("the first entry is skipped, the others follow");
    shelf.apply(&log).expect("all are skipped");
    assert_eq!((shelf.position(), shelf.stats()), (Position(4), CollectionStats { identities: 2, templates: 2 }));
}

/// The log tells of a template, but its identity was removed before the log was read.
#[test]
fn an_entry_read_late_changes_nothing() {
    let shelf = shelf(GalleryOptions::default());
    let mut writer = Writer::new(2);
    let mut log = writer.enroll("alice", &[1.0, 0.0]);
    log[0].labelled = None;
    log.extend(writer.enroll("alice", &[0.0, 1.0]));
    log[2].admitted = None;
    log.extend(writer.forget_identity("alice"));
    shelf.apply(&log).expect("in order");
    assert_eq!((shelf.position(), shelf.stats()), (Position(4), CollectionStats::default()));
}

#[test]
fn what_is_forgotten_is_never_found_again() {
    let shelf = shelf(GalleryOptions::default());
    let mut writer = Writer::new(2);
    let probe = embedding(&[1.0, 0.1]);
    shelf.apply(&writer.enroll("alice", &[1.0, 0.0])).expect("in order");
    shelf.apply(&writer.enroll("alice", &[1.0, 0.5])).expect("in order");
    shelf.apply(&writer.enroll("bob", &[0.0, 1.0])).expect("in order");
    let best = shelf.search(&probe, &Query::top(5));
    assert_eq!(names(&best), ["alice", "bob"]);

    shelf.apply(&writer.forget_template("alice", best[0].template)).expect("in order");
    let next = shelf.nearest_of(&probe, &id("alice"), Pooling::Best, now()).expect("another template is left");
    assert_ne!(next.template, best[0].template);

    shelf.apply(&writer.forget_identity("alice")).expect("in order");
    assert_eq!(names(&shelf.search(&probe, &Query::top(5))), ["bob"]);
    assert_eq!(shelf.nearest_of(&probe, &id("alice"), Pooling::Best, now()), None);
    assert_eq!((shelf.identity(&id("alice")), shelf.identities_in(space(2))), (None, 1));

    shelf.apply(&writer.enroll("alice", &[0.0, 1.0])).expect("in order");
    let again = shelf.search(&probe, &Query::top(5));
    assert!(again[0].similarity.0 < 0.2, "the first life's templates do not come back with the second");
}

#[test]
fn the_expired_are_hidden_before_they_are_swept() {
    let shelf = shelf(GalleryOptions::default());
    let mut writer = Writer::new(2);
    shelf.apply(&writer.enroll("alice", &[1.0, 0.0])).expect("in order");
    shelf.apply(&writer.label("alice", &[("site", "north")], Some(now()))).expect("in order");
    let before = now() - SignedDuration::from_secs(1);
    let probe = embedding(&[1.0, 0.0]);
    let filter = Filter::parse("labels.site = \"north\"").expect("valid");
    for filter in [None, Some(&filter)] {
        let query = Query { filter, ..Query::top(1) };
        assert_eq!(shelf.search(&probe, &query), []);
        assert_eq!(names(&shelf.search(&probe, &Query { now: before, ..query })), ["alice"]);
    }
    assert_eq!(shelf.nearest_of(&probe, &id("alice"), Pooling::Best, now()), None);
    assert!(shelf.nearest_of(&probe, &id("alice"), Pooling::Best, before).is_some());
    assert_eq!(shelf.identity(&id("alice")).and_then(|known| known.expire_time), Some(now()));
}

#[test]
fn a_restored_shelf_answers_like_one_that_followed_the_log() {
    let mut writer = Writer::new(8);
    let log: Vec<_> = unit_rows(40, 8, 2)
        .iter()
        .enumerate()
        .flat_map(|(n, row)| writer.enroll(&format!("p{}", n % 10), row))
        .collect();
    let head = log[45].position;
    let followed = shelf(GalleryOptions::default());
    followed.apply(&log).expect("in order");

    // The store is read while somebody writes: it shows more than the head that was read before.
    let restored = shelf(GalleryOptions::default());
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

/// What a writer may do, in few dimensions and few values, so that duplicates and ties abound.
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

/// Who has the label that the filter wants, and everybody's templates.
type Person = (bool, Vec<(TemplateId, Vec<f32>)>);

/// The plainest gallery there is.
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

/// Does the steps on the shelf and on the model.
fn perform(steps: &[Step], shelf: &Shelf) -> Model {
    let (mut writer, mut model) = (Writer::new(3), Model::default());
    for step in steps {
        match step {
            Step::Enroll { person, values } => {
                let name = format!("p{person}");
                let log = writer.enroll(&name, &values.map(f32::from));
                shelf.apply(&log).expect("in order");
                let stored = log.last().and_then(|e| e.admitted.clone()).expect("the last entry admits");
                let template = (stored.template.id, stored.embedding.values().to_vec());
                model.people.entry(name).or_default().1.push(template);
            }
            Step::Label { person, site } => {
                let name = format!("p{person}");
                let labels: &[_] = if *site { &[("site", "north")] } else { &[] };
                shelf.apply(&writer.label(&name, labels, None)).expect("in order");
                model.people.entry(name).or_default().0 = *site;
            }
            Step::ForgetNewest { person } => {
                let name = format!("p{person}");
                if let Some((template, _)) = model.people.get_mut(&name).and_then(|(_, templates)| templates.pop()) {
                    shelf.apply(&writer.forget_template(&name, template)).expect("in order");
                }
            }
            Step::ForgetAll { person } => {
                let name = format!("p{person}");
                if model.people.remove(&name).is_some() {
                    shelf.apply(&writer.forget_identity(&name)).expect("in order");
                }
            }
            Step::Maintain => {
                shelf.maintain();
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
    fn the_scan_answers_what_a_look_at_every_template_answers(
        steps in steps(), probe in prop::array::uniform3(1..=3_i8), limit in 0..15_usize, filtered in any::<bool>(),
    ) {
        let shelf = shelf(GalleryOptions::default());
        let model = perform(&steps, &shelf);
        let probe = embedding(&probe.map(f32::from));
        let filter = Filter::parse("labels.site = \"north\"").expect("valid");
        let query = Query { filter: filtered.then_some(&filter), ..Query::top(limit) };
        let expected = model.search(probe.values(), limit, filtered);
        prop_assert_eq!(seen(&shelf.search(&probe, &query)), expected.clone());
        prop_assert_eq!(shelf.stats().identities, model.people.len() as u64);
        let in_space = model.people.values().filter(|(_, templates)| !templates.is_empty()).count();
        prop_assert_eq!(shelf.identities_in(space(3)), in_space as u64);

        let floor = expected.get(1).map(|(_, _, similarity)| *similarity);
        let trimmed: Vec<_> = expected.into_iter().filter(|e| floor.is_none_or(|f| e.2 >= f)).collect();
        prop_assert_eq!(seen(&shelf.search(&probe, &Query { similarity_min: floor, ..query })), trimmed);
    }

    /// A graph of a dozen points over a lattice of duplicates is the worst case for a graph: what it answers must be
    /// true even where it is not complete.
    #[test]
    fn the_graph_answers_nothing_that_is_not_so(steps in steps(), filtered in any::<bool>()) {
        let shelf = shelf(GalleryOptions { graph_from: 4, graph_links: 4, graph_search_width: 4, ..Default::default() });
        let model = perform(&steps, &shelf);
        let probe = embedding(&[1.0, 2.0, 3.0]);
        let filter = Filter::parse("labels.site = \"north\"").expect("valid");
        let query = Query { filter: filtered.then_some(&filter), ..Query::top(3) };
        let found = seen(&shelf.search(&probe, &query));
        prop_assert!(found.is_sorted_by(|a, b| a.2 > b.2 || (a.2 == b.2 && a.1 < b.1)));
        prop_assert_eq!(found.len(), model.search(probe.values(), 3, filtered).len());
        let everybody = model.search(probe.values(), usize::MAX, filtered);
        for (name, template, similarity) in &found {
            let templates = &model.people[name].1;
            let values = &templates.iter().find(|(t, _)| t == template).expect("not forgotten").1;
            prop_assert_eq!(similarity.0.to_bits(), similarity_of(probe.values(), values).to_bits());
            prop_assert!(everybody.iter().any(|(other, ..)| other == name), "the filter holds");
        }
        let different: BTreeSet<_> = found.iter().map(|(name, ..)| name).collect();
        prop_assert_eq!(different.len(), found.len());
    }
}

fn graph_options() -> GalleryOptions {
    GalleryOptions { graph_from: 100, graph_build_threads: 2, ..GalleryOptions::default() }
}

/// The share of the exact ten nearest identities that the graph finds, over probes that were not enrolled.
#[expect(clippy::print_stderr, reason = "the measured recall is what the test is for")]
fn recall(set: &str, person: fn(&str) -> &str) -> f64 {
    let rows = testing::embeddings(set);
    let (exact, approximate) = (shelf(GalleryOptions::default()), shelf(graph_options()));
    let mut writer = Writer::new(rows[0].1.len());
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

/// `people` with two templates each and a graph over them.
fn crowd(people: usize) -> (std::sync::Arc<Shelf>, Writer, Vec<Vec<f32>>) {
    let shelf = shelf(graph_options());
    let (mut writer, rows) = (Writer::new(32), unit_rows(people * 2, 32, 11));
    for (number, row) in rows.iter().enumerate() {
        shelf.apply(&writer.enroll(&format!("p{}", number / 2), row)).expect("in order");
    }
    assert_eq!(shelf.maintain(), Upkeep { built: 1, dropped: 0, inserted: 0 });
    (shelf, writer, rows)
}

#[test]
fn one_identity_with_many_near_duplicates_hides_nobody() {
    let (shelf, mut writer, rows) = crowd(300);
    for number in 0..200_u8 {
        let mut near = rows[0].clone();
        near[1] += f32::from(number) * 1e-5;
        shelf.apply(&writer.enroll("twin", &near)).expect("in order");
    }
    let probe = embedding(&rows[0]);
    let expected = |candidates: &[Candidate]| {
        assert_eq!(candidates.len(), 10);
        assert_eq!(names_of(&candidates[..2]), ["p0".to_owned(), "twin".to_owned()].into());
        assert_eq!(names_of(candidates).len(), 10, "each identity once");
    };
    expected(&shelf.search(&probe, &Query::top(10)));
    assert_eq!(shelf.maintain().inserted, 200);
    expected(&shelf.search(&probe, &Query::top(10)));
    for (number, row) in rows.iter().enumerate() {
        let first = &shelf.search(&embedding(row), &Query::top(2));
        assert!(names(first).contains(&format!("p{}", number / 2).as_str()), "a point near the crowd is still found");
    }
}

#[test]
fn the_graph_follows_what_is_admitted_and_forgotten() {
    let (shelf, mut writer, rows) = crowd(100);
    let stranger = unit_rows(1, 32, 99).remove(0);
    shelf.apply(&writer.enroll("late", &stranger)).expect("in order");
    assert_eq!(names(&shelf.search(&embedding(&stranger), &Query::top(1))), ["late"], "before any maintenance");
    assert_eq!(shelf.maintain(), Upkeep { built: 0, dropped: 0, inserted: 1 });
    assert_eq!(names(&shelf.search(&embedding(&stranger), &Query::top(1))), ["late"]);

    for person in 0..20 {
        shelf.apply(&writer.forget_identity(&format!("p{person}"))).expect("in order");
        let found = shelf.search(&embedding(&rows[person * 2]), &Query::top(100));
        assert!(!names_of(&found).contains(&format!("p{person}")));
    }
    assert_eq!(shelf.maintain().built, 1, "a fifth of the points is forgotten");
    assert_eq!(shelf.maintain(), Upkeep::default());
    assert_eq!(shelf.search(&embedding(&rows[0]), &Query::top(100)).len(), 81);

    for person in 20..80 {
        shelf.apply(&writer.forget_identity(&format!("p{person}"))).expect("in order");
    }
    assert_eq!(shelf.maintain(), Upkeep { built: 0, dropped: 1, inserted: 0 });
    assert_eq!(shelf.search(&embedding(&rows[0]), &Query::top(100)).len(), 21);
}

#[test]
fn a_selective_filter_finds_its_few() {
    let (shelf, mut writer, rows) = crowd(300);
    shelf.apply(&writer.label("p7", &[("vip", "yes")], None)).expect("in order");
    shelf.apply(&writer.label("p8", &[("vip", "yes")], None)).expect("in order");
    let filter = Filter::parse("labels.vip = \"yes\"").expect("valid");
    let found = shelf.search(&embedding(&rows[400]), &Query { filter: Some(&filter), ..Query::top(10) });
    assert_eq!(names_of(&found), ["p7".to_owned(), "p8".to_owned()].into());
}

struct EndWhenDropped<'d>(&'d AtomicBool);

impl Drop for EndWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A writer enrolls and forgets, a keeper builds graphs, and four searchers look for somebody who is always there.
#[test]
fn searches_go_on_while_the_log_is_followed_and_graphs_are_built() {
    let (shelf, mut writer, rows) = crowd(80);
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
                until_done(&|| assert_eq!(names(&shelf.search(&embedding(&rows[0]), &Query::top(1))), ["p0"]));
            });
        }
        scope.spawn(|| {
            until_done(&|| {
                shelf.maintain();
            });
        });
        // Also when an assertion below fails: the others would never end.
        let _end = EndWhenDropped(&done);
        for (number, row) in passing.iter().enumerate() {
            let (name, probe) = (format!("passing{number}"), embedding(row));
            shelf.apply(&writer.enroll(&name, row)).expect("in order");
            assert_eq!(names(&shelf.search(&probe, &Query::top(1))), [name.as_str()], "found at once");
            if number % 3 > 0 {
                shelf.apply(&writer.forget_identity(&name)).expect("in order");
                assert!(!names_of(&shelf.search(&probe, &Query::top(50))).contains(&name), "never found again");
            }
        }
    });
    assert_eq!(shelf.stats(), CollectionStats { identities: 130, templates: 210 });
}

#[test]
fn a_rehearsal_sees_the_space_that_it_is_asked_for() {
    let (shelf, ..) = crowd(60);
    let rehearsal = shelf.rehearse(space(32), Pooling::Best, 100, 1);
    assert_eq!((rehearsal.identities, rehearsal.templates, rehearsal.nonmated_best.len()), (60, 120, 100));
    assert_eq!(shelf.rehearse(space(31), Pooling::Best, 100, 1).identities, 0);
}

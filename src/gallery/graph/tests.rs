//! Both graphs against exact comparison of all codes, also with crowds of similar points.

use std::collections::BTreeSet;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::rows::codes::ProbeCode;
use crate::{
    rows::{kernel::Kernel, measure::similarity_of},
    testbed::{embedding, unit_rows},
};

const SHAPE: GraphShape = GraphShape { links: 16, build_width: 100 };

fn codes_of(rows: &[Vec<f32>]) -> Codes {
    let mut codes = Codes::new(rows[0].len());
    for row in rows {
        codes.push(row);
    }
    codes
}

fn both(rows: &[Vec<f32>], threads: usize) -> [Box<dyn PointGraph>; 2] {
    let codes = codes_of(rows);
    [Box::new(HnswRs::build(&codes, SHAPE, threads)), Box::new(Compact::build(codes, SHAPE, threads))]
}

fn points_of(found: &PointHits) -> Vec<usize> {
    found.hits.iter().map(|hit| hit.point).collect()
}

/// The most similar rows, best first.
fn nearest_of(rows: &[Vec<f32>], probe: &[f32], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|a, b| similarity_of(probe, &rows[*b]).total_cmp(&similarity_of(probe, &rows[*a])));
    order.truncate(count);
    order
}

#[test]
fn both_graphs_find_nearly_all_that_are_nearest() {
    let rows = unit_rows(3000, 64, 1);
    for threads in [1, 3] {
        for points in both(&rows, threads) {
            let (mut found, mut wanted) = (0, 0);
            for probe in unit_rows(50, 64, 2) {
                let shown = points_of(&points.nearest(&probe, 200));
                assert_eq!(shown.len(), 200);
                let nearest = nearest_of(&rows, &probe, 10);
                found += nearest.iter().filter(|row| shown.contains(row)).count();
                wanted += nearest.len();
            }
            assert!(found * 100 >= wanted * 95, "{found} of {wanted} with {threads} threads");
        }
    }
}

#[test]
fn search_results_are_sorted_and_within_their_error() {
    let rows = unit_rows(500, 40, 3);
    let probe = &unit_rows(1, 40, 4)[0];
    for points in both(&rows, 1) {
        let found = points.nearest(probe, 60);
        assert!(found.hits.is_sorted_by(|a, b| a.similarity >= b.similarity));
        for hit in &found.hits {
            let exact = similarity_of(probe, &rows[hit.point]);
            assert!((hit.similarity - exact).abs() <= hit.error, "{hit:?} is {exact}");
        }
        let different: BTreeSet<usize> = points_of(&found).into_iter().collect();
        assert_eq!(different.len(), 60, "each point once");
        let last = found.hits.last().expect("60 points");
        assert!(found.edge >= last.upper());
    }
}

#[test]
fn one_thread_builds_the_same_graph_again() {
    let rows = unit_rows(800, 32, 5);
    let [_, one] = both(&rows, 1);
    let [_, other] = both(&rows, 1);
    for probe in unit_rows(20, 32, 6) {
        assert_eq!(points_of(&one.nearest(&probe, 40)), points_of(&other.nearest(&probe, 40)));
    }
}

#[test]
fn points_inserted_later_are_found() {
    let rows = unit_rows(1200, 48, 7);
    for mut points in both(&rows[..200], 1) {
        for row in &rows[200..] {
            points.insert(row);
        }
        let lost = (0..rows.len()).filter(|point| !points.finds(*point, SELF_QUERY_WIDTH)).count();
        assert!(lost <= 12, "{lost} of 1200");
    }
}

#[test]
fn an_empty_graph_takes_its_first_points() {
    let rows = unit_rows(3, 16, 8);
    let mut points = Compact::build(Codes::new(16), SHAPE, 2);
    let nothing = points.nearest(&rows[0], 5);
    assert!(nothing.hits.is_empty() && nothing.edge == f32::INFINITY, "an empty graph bounds nothing");
    for row in &rows {
        points.insert(row);
    }
    assert_eq!(points_of(&points.nearest(&rows[1], 5))[0], 1);
    assert_eq!(points.nearest(&rows[1], 5).hits.len(), 3);
}

/// 4000 random points, and 1000 points that differ by `step` from one of them.
fn with_a_crowd(step: f32) -> Vec<Vec<f32>> {
    let mut rows = unit_rows(4000, 64, 9);
    for noise in unit_rows(1000, 64, 10) {
        let member: Vec<f32> = rows[17].iter().zip(&noise).map(|(value, noise)| value + step * noise).collect();
        rows.push(embedding(&member).values().to_vec());
    }
    rows
}

/// The same image a thousand times, or compressed anew.
#[test]
fn a_thousand_near_duplicates_hide_no_other_point() {
    for step in [0.0, 1e-5, 1e-3, 1e-2] {
        let rows = with_a_crowd(step);
        let points = Compact::build(codes_of(&rows), SHAPE, 1);
        let lost = (0..rows.len()).filter(|point| !points.finds(*point, SELF_QUERY_WIDTH)).count();
        assert_eq!(lost, 0, "at {step}");
    }
}

/// A thousand images of one minute are too different to be near-duplicates. The graph cannot hold such a crowd, so most
/// of it is compared one by one; other points must hardly be affected.
#[test]
fn no_point_of_a_similar_crowd_is_lost() {
    let options = GalleryOptions { graph_links: 16, graph_build_width: 100, ..GalleryOptions::default() };
    for step in [0.05, 0.2] {
        let rows = with_a_crowd(step);
        let templates: Vec<TemplateId> = (0..rows.len() as u128).map(|row| TemplateId(Uuid::from_u128(row))).collect();
        let graph = Graph::build(codes_of(&rows), templates.clone(), &options);
        let unindexed: BTreeSet<TemplateId> = graph.unindexed(&rows[0]).map(|(template, _)| template).collect();
        let others = templates[..4000].iter().filter(|template| unindexed.contains(template)).count();
        assert!(others <= 20, "{others} of the others are compared one by one at {step}");
        for (row, template) in rows.iter().zip(&templates) {
            let found =
                || graph.nearest(row, SELF_QUERY_WIDTH * 2).templates.iter().any(|(found, _)| found == template);
            assert!(unindexed.contains(template) || found(), "{template:?} is lost at {step}");
        }
    }
}

#[test]
fn near_duplicates_are_returned_together_and_their_radius_widens_the_edge() {
    let rows = with_a_crowd(1e-4);
    let points = Compact::build(codes_of(&rows), SHAPE, 1);
    let found = points.nearest(&rows[17], 10);
    assert_eq!(found.hits.len(), 1010, "ten points, and the near_duplicates of one of them");
    let farthest = found.hits.last().expect("many");
    assert!(found.edge > farthest.upper());
}

/// Many rows in few dimensions and few values: many ties.
fn lattice() -> impl Strategy<Value = Vec<Vec<f32>>> {
    let values = prop::array::uniform3(-2..=2_i8).prop_filter("no direction", |v| *v != [0; 3]);
    let row = values.prop_map(|values| embedding(&values.map(f32::from)).values().to_vec());
    prop::collection::vec(row, 1..120)
}

proptest! {
    #[test]
    fn ties_and_duplicates_neither_repeat_points_nor_break_a_search(rows in lattice(), width in 1_usize..130) {
        for points in both(&rows, 2) {
            for probe in rows.iter().take(5) {
                let shown = points_of(&points.nearest(probe, width));
                let different: BTreeSet<usize> = shown.iter().copied().collect();
                prop_assert_eq!(different.len(), shown.len());
                prop_assert!(different.last().is_none_or(|last| *last < rows.len()));
            }
        }
    }
}

/// The link lists of a point, its share of the upper layers, and its template id.
#[test]
fn a_point_takes_at_most_160_bytes_beside_its_code() {
    // A whole number of blocks, so that spare capacity does not count.
    let rows = unit_rows(1 << 13, 16, 11);
    let points = Compact::build(codes_of(&rows), SHAPE, 2);
    let each = points.bytes() as f64 / rows.len() as f64 + size_of::<TemplateId>() as f64;
    assert!(each <= 160.0, "{each:.1} bytes");
}

#[test]
fn a_probe_and_a_code_agree_on_the_nearest() {
    let rows = unit_rows(300, 64, 12);
    let codes = codes_of(&rows);
    let points = Compact::build(codes.clone(), SHAPE, 1);
    let probe = ProbeCode::new(&rows[5]);
    let first = points.nearest(&rows[5], 10).hits[0];
    assert_eq!(first.point, 5);
    let sum = Kernel::fastest().sum(probe.numbers(), codes.code(5).numbers);
    assert_eq!(first.similarity.to_bits(), probe.similarity(sum, codes.code(5).quantization).to_bits());
}

//! Exact scan with pooled similarities: an identity's similarity combines several of its templates.
//!
//! Pooling is monotone in every similarity (`ranking/accumulators.rs`), so it maps the intervals of the templates to an
//! interval of the identity: pooled lower ends are at most the pooled similarity, pooled upper ends at least. The
//! filter-and-refine scheme of `scan/mod.rs` therefore works for identities. Prototype and centralised poolings store
//! no vectors, only one weight per row (`rows/weights.rs`).

use crate::{
    roster::Slot,
    rows::{Rows, codes::ProbeCode, kernel::Kernel, weights::WeightedPooling},
    scan::{
        query::{PendingQuery, SpaceQuery},
        top::Hit,
    },
};
use domain::TemplateId;
use ranking::{Accumulators, TemplateSimilarity};

/// More than a hundred roundings of a double-precision sum, and one to single precision.
const ROUNDING: f32 = 2.0 * f32::EPSILON;

/// An identity and its rows in a space.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IdentityRows<'r> {
    pub(crate) owner: Slot,
    pub(crate) rows: &'r [usize],
}

/// Pooled similarity of one identity, with its most similar template.
pub(crate) fn pooled(
    rows: &Rows,
    query: &SpaceQuery<'_>,
    weighted: WeightedPooling<'_>,
    identity: IdentityRows<'_>,
) -> Option<Hit> {
    // In the order of template ids, because the row order depends on earlier deletions and sums must be equal on every
    // replica.
    let mut each: Vec<(TemplateId, TemplateSimilarity)> = identity
        .rows
        .iter()
        .map(|row| {
            let similarity = rows.measure().of(query.probe, rows.values(*row));
            (rows.template(*row), weighted.template_similarity(rows, *row, similarity))
        })
        .collect();
    each.sort_unstable_by_key(|(template, _)| *template);
    let hit = |(template, input): &(TemplateId, TemplateSimilarity)| Hit {
        similarity: input.similarity,
        template: *template,
        owner: identity.owner,
    };
    let nearest = each.iter().map(hit).min_by(Hit::rank)?;
    Some(Hit { similarity: Accumulators::single(weighted.pooling, each.iter().map(|(_, input)| *input))?, ..nearest })
}

/// Offers the most similar identities that pass the filter. Exact. `rows_of` returns the rows of an identity.
pub(crate) fn scan_pooled(
    rows: &Rows,
    PendingQuery { query, top }: &mut PendingQuery<'_, '_>,
    weighted: WeightedPooling<'_>,
    rows_of: impl Fn(Slot) -> Vec<usize>,
) {
    let slots = query.candidate_filter.slots();
    let mut lower = Accumulators::new(weighted.pooling, slots);
    let mut upper = Accumulators::new(weighted.pooling, slots);
    // Intervals of all rows, for poolings with a second pass.
    let mut intervals: Vec<(usize, f32, f32)> = Vec::new();
    each_interval(rows, query, |row, lower_end, upper_end| {
        let owner = rows.owner(row);
        if query.candidate_filter.admits(owner) {
            lower.add(owner.0 as usize, weighted.template_similarity(rows, row, lower_end));
            upper.add(owner.0 as usize, weighted.template_similarity(rows, row, upper_end));
            if Accumulators::needs_second_pass(weighted.pooling) {
                intervals.push((row, lower_end, upper_end));
            }
        }
    });
    for (row, lower_end, upper_end) in intervals {
        let owner = rows.owner(row).0 as usize;
        lower.add_second_pass(owner, weighted.template_similarity(rows, row, lower_end));
        upper.add_second_pass(owner, weighted.template_similarity(rows, row, upper_end));
    }
    let mut floor = top.emptied();
    let mut candidates: Vec<(Slot, f32)> = Vec::new();
    for (slot, identity) in (0..slots).filter_map(|slot| Some((Slot(u32::try_from(slot).ok()?), slot))) {
        if let (Some(lower_end), Some(upper_end)) = (lower.similarity(identity), upper.similarity(identity)) {
            // Each identity is offered once, so any template id will do.
            floor.offer(Hit { similarity: lower_end - ROUNDING, template: TemplateId(uuid::Uuid::nil()), owner: slot });
            candidates.push((slot, upper_end + ROUNDING));
        }
    }
    candidates.retain(|(_, upper_end)| *upper_end >= floor.floor());
    candidates.sort_unstable_by(|(_, one), (_, other)| other.total_cmp(one));
    for (slot, upper_end) in candidates {
        if upper_end < top.floor() {
            break;
        }
        if let Some(hit) = pooled(rows, query, weighted, IdentityRows { owner: slot, rows: &rows_of(slot) }) {
            top.offer(hit);
        }
    }
}

/// Calls `take` with each row and the interval of its similarity.
fn each_interval(rows: &Rows, query: &SpaceQuery<'_>, mut take: impl FnMut(usize, f32, f32)) {
    let Some(codes) = rows.codes() else {
        let mut similarities = Vec::new();
        for (first, values) in rows.blocks() {
            rows.measure().of_all(query.probe, values, &mut similarities);
            for (row, similarity) in (first..).zip(&similarities) {
                take(row, *similarity, *similarity);
            }
        }
        return;
    };
    let (probe, kernel, mut sums) = (ProbeCode::packed(query.probe, codes.packing()), Kernel::fastest(), Vec::new());
    for block in (0..codes.blocks()).map(|index| codes.block(index)) {
        kernel.sums(&[probe.numbers()], codes.packed_rows(block.numbers), &mut sums);
        for (row, (sum, quantization)) in (block.first..).zip(sums.iter().zip(block.quantizations)) {
            let (middle, error) = (probe.similarity(*sum, *quantization), probe.error(*quantization));
            take(row, (middle - error).clamp(-1.0, 1.0), (middle + error).clamp(-1.0, 1.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, num::NonZeroU32};

    use proptest::prelude::*;

    use super::*;
    use crate::{
        rows::{
            RowRecord,
            kernel::Packing,
            measure::{Measure, similarity_of},
            weights::all_template_weights,
        },
        scan::{filter::CandidateFilter, top::TopIdentities},
        testbed::{embedding, now, roster, row_record, unit_rows},
    };
    use domain::{Filter, Pooling};

    fn poolings() -> impl Strategy<Value = Pooling> {
        let top = (1_u32..5).prop_map(|n| Pooling::MeanOfBest(NonZeroU32::new(n).expect("at least one")));
        let linear = prop_oneof![Just(Pooling::ByQuality), Just(Pooling::Prototype), Just(Pooling::Centralised)];
        prop_oneof![Just(Pooling::Best), linear, top]
    }

    fn cosine(one: &[f64], other: &[f64]) -> f64 {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
    }

    fn weighted(rows: &[Vec<f64>], weights: &[f64]) -> Vec<f64> {
        let mut sum = vec![0.0; rows[0].len()];
        for (row, weight) in rows.iter().zip(weights) {
            sum.iter_mut().zip(row).for_each(|(sum, number)| *sum += weight * number);
        }
        sum
    }

    /// The definition of each pooling, computed from the embeddings and without template weights.
    fn expected(pooling: Pooling, probe: &[f32], its: &[(&[f32], f32)]) -> f64 {
        let wide = |row: &[f32]| row.iter().copied().map(f64::from).collect::<Vec<f64>>();
        let (probe, rows): (Vec<f64>, Vec<Vec<f64>>) = (wide(probe), its.iter().map(|(row, _)| wide(row)).collect());
        let each: Vec<f64> = rows.iter().map(|row| cosine(&probe, row)).collect();
        let mut falling = each.clone();
        falling.sort_by(|one, other| other.total_cmp(one));
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let weight = |quality: f32| if quality.is_nan() { 1.0 } else { f64::from(quality.max(0.05)).powi(2) };
        let by_quality: Vec<f64> = its.iter().map(|(_, quality)| weight(*quality)).collect();
        let others = |own: usize| -> Vec<Vec<f64>> {
            rows.iter().enumerate().filter(|(row, _)| *row != own).map(|(_, row)| row.clone()).collect()
        };
        match pooling {
            Pooling::Best => falling[0],
            Pooling::MeanOfBest(most) => mean(&falling[..falling.len().min(most.get() as usize)]),
            Pooling::ByQuality => {
                each.iter().zip(&by_quality).map(|(s, w)| s * w).sum::<f64>() / by_quality.iter().sum::<f64>()
            }
            Pooling::Prototype => {
                let agreement =
                    |own: usize| mean(&others(own).iter().map(|o| cosine(&rows[own], o)).collect::<Vec<_>>());
                let agreements: Vec<f64> = (0..rows.len()).map(agreement).collect();
                let highest = agreements.iter().copied().fold(f64::MIN, f64::max);
                let agree = |own: usize| if rows.len() > 2 { (8.0 * (agreements[own] - highest)).exp() } else { 1.0 };
                let weights: Vec<f64> = by_quality.iter().enumerate().map(|(own, w)| w * agree(own)).collect();
                cosine(&probe, &weighted(&rows, &weights))
            }
            Pooling::Centralised if rows.len() == 1 => each[0],
            Pooling::Centralised => {
                let moved = |own: usize| {
                    let others = others(own);
                    let middle = weighted(&others, &vec![1.0 / others.len() as f64; others.len()]);
                    cosine(&probe, &weighted(&[rows[own].clone(), middle], &[1.0, 1.0]))
                };
                (0..rows.len()).map(moved).fold(f64::MIN, f64::max)
            }
        }
    }

    fn rows_of(seed: u64, people: u32, qualities: &[f32]) -> Rows {
        // Crowded, so that different identities are similar and templates of one identity are not.
        let centre = unit_rows(1, 32, seed + 1).remove(0);
        let mut rows = Rows::new(32, Measure::Whole, Packing::Bytes);
        for ((number, noise), quality) in (0..).zip(unit_rows(qualities.len(), 32, seed)).zip(qualities) {
            let values: Vec<f32> = centre.iter().zip(&noise).map(|(c, n)| c + 0.3 * n).collect();
            let identity = row_record(number * 7 % people, number * 7919 % 10_007);
            rows.push(RowRecord { quality: *quality, ..identity }, embedding(&values).values());
        }
        rows
    }

    proptest! {
        #[test]
        fn a_pooled_scan_answers_like_an_exact_comparison(
            pooling in poolings(), seed in 1_u64..500, people in 1_u32..40, limit in 1_usize..12, filtered in any::<bool>(),
            qualities in prop::collection::vec(prop_oneof![Just(f32::NAN), 0.0_f32..1.0], 1..160),
        ) {
            let rows = rows_of(seed, people, &qualities);
            let roster = roster(people as usize);
            let filter = Filter::parse("labels.half = \"1\"").expect("valid");
            let candidate_filter = CandidateFilter::new(&roster, filtered.then_some(&filter), now());
            let probe = unit_rows(1, 32, seed + 1).remove(0);
            let query = SpaceQuery { probe: &probe, candidate_filter: &candidate_filter, width: 1, pooling };
            let mut owned: BTreeMap<Slot, Vec<usize>> = BTreeMap::new();
            for row in (0..rows.len()).filter(|row| candidate_filter.admits(rows.owner(*row))) {
                owned.entry(rows.owner(row)).or_default().push(row);
            }
            let weights = all_template_weights(&rows, pooling, owned.values().cloned());
            let weighted = WeightedPooling::new(pooling, &weights);
            let mut top = TopIdentities::new(limit, None);
            let mut pending = PendingQuery { query: &query, top: &mut top };
            scan_pooled(&rows, &mut pending, weighted, |slot| owned.get(&slot).cloned().unwrap_or_default());
            let found = top.into_hits();

            let mut expected_hits: Vec<Hit> =
                owned.iter().filter_map(|(slot, its)| pooled(&rows, &query, weighted, IdentityRows { owner: *slot, rows: its })).collect();
            expected_hits.sort_by(Hit::rank);
            expected_hits.truncate(limit);
            prop_assert_eq!(&found, &expected_hits);
            for hit in &found {
                let its: Vec<(&[f32], f32)> =
                    owned[&hit.owner].iter().map(|row| (rows.values(*row), rows.quality(*row))).collect();
                let expected = expected(pooling, &probe, &its);
                prop_assert!((f64::from(hit.similarity) - expected).abs() < 2e-6, "{} {expected}", hit.similarity);
                let nearest = owned[&hit.owner].iter().map(|row| similarity_of(&probe, rows.values(*row)));
                let nearest = nearest.fold(f32::MIN, f32::max);
                let named = (0..rows.len()).find(|row| rows.template(*row) == hit.template).expect("a row has this template");
                prop_assert_eq!(similarity_of(&probe, rows.values(named)).to_bits(), nearest.to_bits());
            }
        }
    }
}

//! Identities by what several of their templates say together, where a policy wants that.
//!
//! What a template's code says of its similarity is an interval, and pooling keeps order (`ranking/pools.rs`): pooled lower ends
//! are at most the pooled similarity, pooled upper ends at least. So the answer is found as with single templates: a floor from
//! lower ends, suspects whose upper end reaches it, and originals for the suspects alone. Of prototypes and centralised
//! templates no vector is kept: what each template counts is a number beside its row (`shares.rs`).

use crate::{
    roster::Slot,
    rows::{Rows, codes::Probe, kernel::Kernel, weights::Voice},
    scan::{
        query::Ask,
        top::{Best, Hit},
    },
};
use domain::TemplateId;
use ranking::{Pools, Said};

/// More than a hundred roundings of a double sum, and the one to single precision.
const ROUNDING: f32 = 2.0 * f32::EPSILON;

/// The pooled similarity of one identity, and its most similar template; `rows_of_it` are its rows.
pub(crate) fn pooled(
    rows: &Rows,
    ask: &Ask<'_>,
    voice: Voice<'_>,
    (owner, rows_of_it): (Slot, &[usize]),
) -> Option<Hit> {
    // In the order of ids and not of rows, which depends on what was forgotten before: sums are to be the same anywhere.
    let mut each: Vec<(TemplateId, Said)> = rows_of_it
        .iter()
        .map(|row| {
            let similarity = rows.measure().of(ask.probe, rows.values(*row));
            (rows.template(*row), voice.said(rows, *row, similarity))
        })
        .collect();
    each.sort_unstable_by_key(|(template, _)| *template);
    let hit = |(template, said): &(TemplateId, Said)| Hit { similarity: said.similarity, template: *template, owner };
    let nearest = each.iter().map(hit).min_by(Hit::rank)?;
    Some(Hit { similarity: Pools::one(voice.pooling, each.iter().map(|(_, said)| *said))?, ..nearest })
}

/// Offers the nearest identities that the sieve admits. Exact. `rows_of` answers the rows of an identity.
pub(crate) fn sweep_pooled(
    rows: &Rows,
    (ask, voice): (&Ask<'_>, Voice<'_>),
    rows_of: impl Fn(Slot) -> Vec<usize>,
    best: &mut Best,
) {
    let slots = ask.sieve.slots();
    let mut lower = Pools::new(voice.pooling, slots);
    let mut upper = Pools::new(voice.pooling, slots);
    // Of every row, where it is to be told a second time.
    let mut intervals: Vec<(usize, f32, f32)> = Vec::new();
    each_interval(rows, ask, |row, low, high| {
        let owner = rows.owner(row);
        if ask.sieve.admits(owner) {
            lower.add(owner.0 as usize, voice.said(rows, row, low));
            upper.add(owner.0 as usize, voice.said(rows, row, high));
            if Pools::has_two_rounds(voice.pooling) {
                intervals.push((row, low, high));
            }
        }
    });
    for (row, low, high) in intervals {
        let owner = rows.owner(row).0 as usize;
        lower.compare(owner, voice.said(rows, row, low));
        upper.compare(owner, voice.said(rows, row, high));
    }
    let mut floor = best.emptied();
    let mut suspects: Vec<(Slot, f32)> = Vec::new();
    for (slot, place) in (0..slots).filter_map(|slot| Some((Slot(u32::try_from(slot).ok()?), slot))) {
        if let (Some(low), Some(high)) = (lower.of(place), upper.of(place)) {
            // Each identity is offered once, so any template will do.
            floor.offer(Hit { similarity: low - ROUNDING, template: TemplateId(uuid::Uuid::nil()), owner: slot });
            suspects.push((slot, high + ROUNDING));
        }
    }
    suspects.retain(|(_, high)| *high >= floor.floor());
    suspects.sort_unstable_by(|(_, one), (_, other)| other.total_cmp(one));
    for (slot, high) in suspects {
        if high < best.floor() {
            break;
        }
        if let Some(hit) = pooled(rows, ask, voice, (slot, &rows_of(slot))) {
            best.offer(hit);
        }
    }
}

/// The interval in which each row's similarity lies.
fn each_interval(rows: &Rows, ask: &Ask<'_>, mut take: impl FnMut(usize, f32, f32)) {
    let Some(codes) = rows.codes() else {
        let mut similarities = Vec::new();
        for (first, values) in rows.blocks() {
            rows.measure().of_all(ask.probe, values, &mut similarities);
            for (row, similarity) in (first..).zip(&similarities) {
                take(row, *similarity, *similarity);
            }
        }
        return;
    };
    let (probe, kernel, mut sums) = (Probe::packed(ask.probe, codes.packing()), Kernel::fastest(), Vec::new());
    for block in (0..codes.blocks()).map(|index| codes.block(index)) {
        kernel.sums(&[probe.numbers()], (block.numbers, codes.packing()), codes.stride(), &mut sums);
        for (row, (sum, term)) in (block.first..).zip(sums.iter().zip(block.terms)) {
            let (middle, error) = (probe.similarity(*sum, *term), probe.error(*term));
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
            Member,
            kernel::Packing,
            measure::{Measure, similarity_of},
            weights::shares_of_all,
        },
        scan::filter::Sieve,
        testbed::{embedding, member, now, roster, unit_rows},
    };
    use domain::{Filter, Pooling};

    fn poolings() -> impl Strategy<Value = Pooling> {
        let best = (1_u32..5).prop_map(|n| Pooling::MeanOfBest(NonZeroU32::new(n).expect("at least one")));
        let linear = prop_oneof![Just(Pooling::ByQuality), Just(Pooling::Prototype), Just(Pooling::Centralised)];
        prop_oneof![Just(Pooling::Best), linear, best]
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

    /// What the words of a pooling say, in as many words: from the embeddings, and no share of any.
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
        // Crowded, so that identities are near each other and templates of one identity are not.
        let centre = unit_rows(1, 32, seed + 1).remove(0);
        let mut rows = Rows::new(32, Measure::Whole, Packing::Bytes);
        for ((number, noise), quality) in (0..).zip(unit_rows(qualities.len(), 32, seed)).zip(qualities) {
            let values: Vec<f32> = centre.iter().zip(&noise).map(|(c, n)| c + 0.3 * n).collect();
            let place = member(number * 7 % people, number * 7919 % 10_007);
            rows.push(Member { quality: *quality, ..place }, embedding(&values).values());
        }
        rows
    }

    proptest! {
        #[test]
        fn a_pooled_sweep_answers_what_a_look_at_every_identity_answers(
            pooling in poolings(), seed in 1_u64..500, people in 1_u32..40, limit in 1_usize..12, filtered in any::<bool>(),
            qualities in prop::collection::vec(prop_oneof![Just(f32::NAN), 0.0_f32..1.0], 1..160),
        ) {
            let rows = rows_of(seed, people, &qualities);
            let roster = roster(people as usize);
            let filter = Filter::parse("labels.half = \"1\"").expect("valid");
            let sieve = Sieve::new(&roster, filtered.then_some(&filter), now());
            let probe = unit_rows(1, 32, seed + 1).remove(0);
            let ask = Ask { probe: &probe, sieve: &sieve, width: 1, pooling };
            let mut owned: BTreeMap<Slot, Vec<usize>> = BTreeMap::new();
            for row in (0..rows.len()).filter(|row| sieve.admits(rows.owner(*row))) {
                owned.entry(rows.owner(row)).or_default().push(row);
            }
            let shares = shares_of_all(&rows, pooling, owned.values().cloned());
            let voice = Voice::new(pooling, &shares);
            let mut best = Best::new(limit, None);
            sweep_pooled(&rows, (&ask, voice), |slot| owned.get(&slot).cloned().unwrap_or_default(), &mut best);
            let found = best.into_hits();

            let mut everybody: Vec<Hit> =
                owned.iter().filter_map(|(slot, its)| pooled(&rows, &ask, voice, (*slot, its))).collect();
            everybody.sort_by(Hit::rank);
            everybody.truncate(limit);
            prop_assert_eq!(&found, &everybody);
            for hit in &found {
                let its: Vec<(&[f32], f32)> =
                    owned[&hit.owner].iter().map(|row| (rows.values(*row), rows.quality(*row))).collect();
                let expected = expected(pooling, &probe, &its);
                prop_assert!((f64::from(hit.similarity) - expected).abs() < 2e-6, "{} {expected}", hit.similarity);
                let nearest = owned[&hit.owner].iter().map(|row| similarity_of(&probe, rows.values(*row)));
                let nearest = nearest.fold(f32::MIN, f32::max);
                let named = (0..rows.len()).find(|row| rows.template(*row) == hit.template).expect("it is a row's");
                prop_assert_eq!(similarity_of(&probe, rows.values(named)).to_bits(), nearest.to_bits());
            }
        }
    }
}

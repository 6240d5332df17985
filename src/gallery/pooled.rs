//! Identities by what several of their templates say together, where a policy wants that.
//!
//! What a template's code says of its similarity is an interval, and pooling keeps order: pooled lower ends are at most
//! the pooled similarity, pooled upper ends at least. So the answer is found as with single templates: a floor from
//! lower ends, suspects whose upper end reaches it, and originals for the suspects alone.

use super::{
    best::{Best, Hit},
    codes::Probe,
    kernel::Kernel,
    rows::Rows,
    slots::Slot,
    space::Ask,
};
use crate::domain::{Pooling, TemplateId};

/// More than a hundred roundings of a double sum, and the one to single precision.
const ROUNDING: f32 = 2.0 * f32::EPSILON;

/// The pooled similarity of each identity, template by template.
#[derive(Debug)]
pub(super) struct Pools {
    pooling: Pooling,
    /// For the mean of the best: so many of the highest for each slot, in falling order. Otherwise the sum and the weight.
    values: Vec<f64>,
    width: usize,
}

impl Pools {
    pub(super) fn new(pooling: Pooling, slots: usize) -> Self {
        let (width, nothing) = match pooling {
            Pooling::Best => (1, f64::NEG_INFINITY),
            Pooling::MeanOfBest(most) => (most.get() as usize, f64::NEG_INFINITY),
            Pooling::ByQuality => (2, 0.0),
        };
        Self { pooling, values: vec![nothing; slots * width], width }
    }

    pub(super) fn add(&mut self, slot: Slot, similarity: f32, quality: f32) {
        let kept = &mut self.values[slot.0 as usize * self.width..][..self.width];
        match self.pooling {
            Pooling::Best | Pooling::MeanOfBest(_) => {
                let mut moving = f64::from(similarity);
                for place in kept {
                    if moving > *place {
                        std::mem::swap(place, &mut moving);
                    }
                }
            }
            Pooling::ByQuality => {
                let weight = Pooling::weight((!quality.is_nan()).then_some(quality));
                kept[0] += weight * f64::from(similarity);
                kept[1] += weight;
            }
        }
    }

    /// `None` where nothing was added.
    pub(super) fn of(&self, slot: Slot) -> Option<f32> {
        let kept = &self.values[slot.0 as usize * self.width..][..self.width];
        let (sum, weight) = match self.pooling {
            Pooling::Best | Pooling::MeanOfBest(_) => {
                let there = kept.iter().take_while(|value| value.is_finite());
                there.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0))
            }
            Pooling::ByQuality => (kept[0], kept[1]),
        };
        #[expect(clippy::cast_possible_truncation, reason = "similarities are single precision")]
        let mean = (sum / weight) as f32;
        (weight > 0.0).then_some(mean)
    }
}

/// The pooled similarity of one identity, and its most similar template; `rows_of_it` are its rows.
pub(super) fn pooled(rows: &Rows, ask: &Ask<'_>, owner: Slot, rows_of_it: &[usize]) -> Option<Hit> {
    // In the order of ids and not of rows, which depends on what was forgotten before: sums are to be the same anywhere.
    let mut each: Vec<(TemplateId, f32, f32)> = rows_of_it
        .iter()
        .map(|row| {
            let member = rows.member(*row);
            (member.template, rows.measure().of(ask.probe, rows.values(*row)), member.quality)
        })
        .collect();
    each.sort_unstable_by_key(|(template, ..)| *template);
    let mut pools = Pools::new(ask.pooling, 1);
    for (_, similarity, quality) in &each {
        pools.add(Slot(0), *similarity, *quality);
    }
    let hit = |(template, similarity, _): &(TemplateId, f32, f32)| Hit {
        similarity: *similarity,
        template: *template,
        owner,
    };
    let nearest = each.iter().map(hit).min_by(Hit::rank)?;
    Some(Hit { similarity: pools.of(Slot(0))?, ..nearest })
}

/// Offers the nearest identities that the sieve admits. Exact. `rows_of` answers the rows of an identity.
pub(super) fn sweep_pooled(rows: &Rows, ask: &Ask<'_>, rows_of: impl Fn(Slot) -> Vec<usize>, best: &mut Best) {
    let slots = ask.sieve.slots();
    let mut lower = Pools::new(ask.pooling, slots);
    let mut upper = Pools::new(ask.pooling, slots);
    each_interval(rows, ask, |row, low, high| {
        let member = rows.member(row);
        if ask.sieve.admits(member.owner) {
            lower.add(member.owner, low, member.quality);
            upper.add(member.owner, high, member.quality);
        }
    });
    let mut floor = best.emptied();
    let mut suspects: Vec<(Slot, f32)> = Vec::new();
    for slot in (0..slots).filter_map(|slot| u32::try_from(slot).ok()).map(Slot) {
        if let (Some(low), Some(high)) = (lower.of(slot), upper.of(slot)) {
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
        if let Some(hit) = pooled(rows, ask, slot, &rows_of(slot)) {
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
        domain::Filter,
        gallery::{
            kernel::Packing,
            rows::Member,
            scan::{Measure, similarity_of},
            slots::Sieve,
            testbed::{embedding, member, now, roster, unit_rows},
        },
    };

    fn poolings() -> impl Strategy<Value = Pooling> {
        let best = (1_u32..5).prop_map(|n| Pooling::MeanOfBest(NonZeroU32::new(n).expect("at least one")));
        prop_oneof![Just(Pooling::Best), Just(Pooling::ByQuality), best]
    }

    /// What the words of a pooling say, in as many words.
    fn expected(pooling: Pooling, each: &[(f32, f32)]) -> f64 {
        let mut falling: Vec<f64> = each.iter().map(|(similarity, _)| f64::from(*similarity)).collect();
        falling.sort_by(|one, other| other.total_cmp(one));
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        match pooling {
            Pooling::Best => falling[0],
            Pooling::MeanOfBest(most) => mean(&falling[..falling.len().min(most.get() as usize)]),
            Pooling::ByQuality => {
                let weight = |quality: f32| if quality.is_nan() { 1.0 } else { f64::from(quality.max(0.05)).powi(2) };
                let weights: f64 = each.iter().map(|(_, quality)| weight(*quality)).sum();
                each.iter().map(|(similarity, quality)| weight(*quality) * f64::from(*similarity)).sum::<f64>()
                    / weights
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
            let mut best = Best::new(limit, None);
            sweep_pooled(&rows, &ask, |slot| owned.get(&slot).cloned().unwrap_or_default(), &mut best);
            let found = best.into_hits();

            let mut everybody: Vec<Hit> =
                owned.iter().filter_map(|(slot, its)| pooled(&rows, &ask, *slot, its)).collect();
            everybody.sort_by(Hit::rank);
            everybody.truncate(limit);
            prop_assert_eq!(&found, &everybody);
            for hit in &found {
                let each: Vec<(f32, f32)> = owned[&hit.owner].iter()
                    .map(|row| (similarity_of(&probe, rows.values(*row)), rows.member(*row).quality)).collect();
                prop_assert!((f64::from(hit.similarity) - expected(pooling, &each)).abs() < 1e-6);
                let nearest = owned[&hit.owner].iter().map(|row| similarity_of(&probe, rows.values(*row)));
                let nearest = nearest.fold(f32::MIN, f32::max);
                let named = (0..rows.len()).find(|row| rows.template(*row) == hit.template).expect("it is a row's");
                prop_assert_eq!(similarity_of(&probe, rows.values(named)).to_bits(), nearest.to_bits());
            }
        }
    }
}

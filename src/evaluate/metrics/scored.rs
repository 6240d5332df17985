//! Open-set decisions of several methods: weighted measures, and intervals by resampling whole worlds or persons,
//! because probes of one unit are correlated.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    bootstrap::{PersonDraws, middle},
    rate::Interval,
};

/// All methods use the same bootstrap draws.
const SEED: u64 = 1;

/// A scored probe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoredProbe {
    pub score: f64,
    pub says_enrolled: bool,
    pub is_enrolled: bool,
}

/// A measure and its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    pub value: f64,
    #[serde(flatten)]
    pub interval: Interval,
}

/// A measure over scored probes with optional weights.
pub type ProbeMeasure = fn(&[ScoredProbe], Option<&[f64]>) -> f64;

/// The resampling unit of each probe: its world or person.
pub struct ResamplingUnits {
    /// The unit of each probe.
    of: Vec<usize>,
    count: usize,
}

impl ResamplingUnits {
    pub fn new(names: impl Iterator<Item = u32>) -> Self {
        let mut places = BTreeMap::new();
        let place = |name| {
            let next = places.len();
            *places.entry(name).or_insert(next)
        };
        let of = names.map(place).collect();
        Self { of, count: places.len() }
    }

    /// A measure of scored probes (in the order of the units) and its interval.
    #[must_use]
    pub fn estimate(&self, scored: &[ScoredProbe], measure: ProbeMeasure) -> Estimate {
        // Sorted once, for rank-based measures.
        let mut order: Vec<usize> = (0..scored.len()).collect();
        order.sort_by(|one, other| scored[*one].score.total_cmp(&scored[*other].score));
        let sorted: Vec<ScoredProbe> = order.iter().map(|place| scored[*place]).collect();
        let mut draws = PersonDraws::new(self.count, SEED);
        let interval = middle(|| {
            let times = draws.next();
            let weights: Vec<f64> = order.iter().map(|place| times[self.of[*place]] as f64).collect();
            Some(measure(&sorted, Some(&weights)))
        });
        Estimate { value: measure(&sorted, None), interval }
    }
}

fn weight(weights: Option<&[f64]>, place: usize) -> f64 {
    weights.map_or(1.0, |weights| weights[place])
}

/// The area under the ROC of probes sorted by score: the probability that a mated probe scores above a nonmated one,
/// ties counted half.
#[must_use]
pub fn auc(scored: &[ScoredProbe], weights: Option<&[f64]>) -> f64 {
    let (mut won, mut strangers, mut enrolled) = (0.0, 0.0, 0.0);
    let mut place = 0;
    for tied in scored.chunk_by(|one, other| one.score.total_cmp(&other.score).is_eq()) {
        let (mut of_strangers, mut of_enrolled) = (0.0, 0.0);
        for one in tied {
            *(if one.is_enrolled { &mut of_enrolled } else { &mut of_strangers }) += weight(weights, place);
            place += 1;
        }
        won += of_enrolled * (strangers + of_strangers / 2.0);
        strangers += of_strangers;
        enrolled += of_enrolled;
    }
    won / (strangers * enrolled)
}

/// Balanced accuracy: the mean of the accuracies on mated and nonmated probes.
#[must_use]
pub fn balanced_accuracy(scored: &[ScoredProbe], weights: Option<&[f64]>) -> f64 {
    let (mut right, mut all) = ([0.0; 2], [0.0; 2]);
    for (place, one) in scored.iter().enumerate() {
        let kind = usize::from(one.is_enrolled);
        all[kind] += weight(weights, place);
        right[kind] += if one.says_enrolled == one.is_enrolled { weight(weights, place) } else { 0.0 };
    }
    f64::midpoint(right[0] / all[0], right[1] / all[1])
}

/// Expected calibration error (Naeini et al. 2015) over 15 equal bins.
#[must_use]
pub fn calibration_error(scored: &[ScoredProbe], weights: Option<&[f64]>) -> f64 {
    const BINS: usize = 15;
    let mut bins = [(0.0, 0.0); BINS];
    let mut all = 0.0;
    for (place, one) in scored.iter().enumerate() {
        let weight = weight(weights, place);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 15 bins")]
        let bin = ((one.score * BINS as f64) as usize).min(BINS - 1);
        bins[bin].0 += weight * one.score;
        bins[bin].1 += if one.is_enrolled { weight } else { 0.0 };
        all += weight;
    }
    bins.iter().map(|(predicted, observed)| (predicted - observed).abs()).sum::<f64>() / all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(score: f64, is_enrolled: bool) -> ScoredProbe {
        ScoredProbe { score, says_enrolled: score >= 0.5, is_enrolled }
    }

    fn close(one: f64, other: f64) {
        assert!((one - other).abs() < 1e-9, "{one} is not {other}");
    }

    #[test]
    fn measures_by_hand() {
        let probes = [scored(0.1, false), scored(0.4, true), scored(0.4, false), scored(0.6, false), scored(0.9, true)];
        // Of six pairs: .4 wins one, ties one, loses one; .9 wins three.
        close(auc(&probes, None), 4.5 / 6.0);
        close(balanced_accuracy(&probes, None), f64::midpoint(2.0 / 3.0, 0.5));
        close(calibration_error(&probes, None), (0.1 + 0.2 + 0.6 + 0.1) / 5.0);
        // Weight 2 for the second nonmated probe and 0 for the last.
        close(auc(&probes, Some(&[1.0, 1.0, 2.0, 0.0, 1.0])), (1.0 + 1.0 + 3.0) / 6.0);
    }

    #[test]
    fn intervals_hold_the_value_and_narrow_with_more_units() {
        // Of seven worlds, four are always correct and three always wrong.
        let one = |n: u32| scored(if (n % 7 < 4) == n.is_multiple_of(2) { 0.9 } else { 0.1 }, n.is_multiple_of(2));
        let probes: Vec<ScoredProbe> = (0..600).map(one).collect();
        let width = |units: u32| {
            let of = ResamplingUnits::new((0..600).map(|n| n % units));
            let Estimate { value, interval: Interval { low, high } } = of.estimate(&probes, balanced_accuracy);
            assert!(low <= value && value <= high, "{low} {value} {high}");
            high - low
        };
        assert!(width(600) < width(7), "{} {}", width(600), width(7));
    }
}

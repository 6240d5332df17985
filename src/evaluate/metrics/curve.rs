//! Error trade-off curves and histograms of two kinds of scores.

use rayon::prelude::*;
use serde::Serialize;

/// Points of a curve per rate: at most twice as many in total for any number of scores.
const LEVELS: usize = 200;
/// Number of bins of a histogram.
const BINS: usize = 60;

/// The error rates at one threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CurvePoint {
    pub threshold: f32,
    /// Share of impostor scores at or above the threshold: FMR or FPIR.
    pub false_positive: f64,
    /// Share of genuine scores below the threshold: FNMR or FNIR.
    pub false_negative: f64,
}

/// Counts of both kinds in bins of equal width.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Histogram {
    /// Start of the first bin and end of the last.
    pub low: f32,
    pub high: f32,
    pub genuine: Vec<u64>,
    pub impostor: Vec<u64>,
}

/// Scores of both kinds, ascending.
#[derive(Debug, Clone)]
pub(super) struct Sorted {
    pub(super) genuine: Vec<f32>,
    pub(super) impostor: Vec<f32>,
}

impl Sorted {
    /// # Panics
    /// When there is no score of one kind, or one is not finite.
    pub(super) fn new(genuine: &[f32], impostor: &[f32]) -> Self {
        assert!(!genuine.is_empty() && !impostor.is_empty(), "both kinds of scores are needed");
        Self { genuine: sorted(genuine), impostor: sorted(impostor) }
    }

    pub(super) fn accepted_impostors(&self, threshold: f32) -> usize {
        self.impostor.len() - self.impostor.partition_point(|s| *s < threshold)
    }

    pub(super) fn missed(&self, threshold: f32) -> usize {
        self.genuine.partition_point(|s| *s < threshold)
    }

    pub(super) fn at(&self, threshold: f32) -> CurvePoint {
        CurvePoint {
            threshold,
            false_positive: self.accepted_impostors(threshold) as f64 / self.impostor.len() as f64,
            false_negative: self.missed(threshold) as f64 / self.genuine.len() as f64,
        }
    }

    /// Calls `look` with every relevant threshold, ascending, and the scores below it: (threshold, genuine, impostor).
    pub(super) fn sweep(&self, mut look: impl FnMut(f32, usize, usize)) {
        let (mut genuine, mut impostor) = (0, 0);
        while genuine < self.genuine.len() || impostor < self.impostor.len() {
            let next = |scores: &[f32], at: usize| scores.get(at).copied().unwrap_or(f32::INFINITY);
            let threshold = next(&self.genuine, genuine).min(next(&self.impostor, impostor));
            look(threshold, genuine, impostor);
            while next(&self.genuine, genuine) <= threshold && genuine < self.genuine.len() {
                genuine += 1;
            }
            while next(&self.impostor, impostor) <= threshold && impostor < self.impostor.len() {
                impostor += 1;
            }
        }
        look(self.highest().next_up(), genuine, impostor);
    }

    /// The lowest threshold that accepts at most this share (below 1) of the impostor scores.
    pub(super) fn threshold_at(&self, false_positive: f64) -> f32 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count is a count")]
        let accepted = (false_positive * self.impostor.len() as f64).floor() as usize;
        match self.impostor.len().checked_sub(accepted + 1) {
            Some(refused) => self.impostor[refused].next_up(),
            None => self.impostor[0],
        }
    }

    /// The trade-off by rising threshold: with few scores at every threshold, with many at steps on the probit scale of
    /// DET curves (Martin et al. 1997).
    pub(super) fn curve(&self) -> Vec<CurvePoint> {
        let mut thresholds = Vec::new();
        for scores in [&self.genuine, &self.impostor] {
            if scores.len() <= LEVELS {
                thresholds.extend(scores);
            } else {
                let end = probit(0.5 / scores.len() as f64);
                let level = |step: usize| normal_below(end - 2.0 * end * step as f64 / (LEVELS - 1) as f64);
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
                let place = |step: usize| ((level(step) * scores.len() as f64) as usize).min(scores.len() - 1);
                thresholds.extend((0..LEVELS).map(|step| scores[place(step)]));
            }
        }
        thresholds.push(self.lowest());
        thresholds.push(self.highest().next_up());
        thresholds.sort_unstable_by(f32::total_cmp);
        thresholds.dedup();
        thresholds.into_iter().map(|threshold| self.at(threshold)).collect()
    }

    pub(super) fn histogram(&self) -> Histogram {
        let (low, high) = (self.lowest(), self.highest());
        let width = f64::from(high) - f64::from(low);
        let counts = |scores: &[f32]| {
            let mut counts = vec![0; BINS];
            for score in scores {
                let place = (f64::from(*score) - f64::from(low)) / width * BINS as f64;
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to the number of bins")]
                let bin = if width > 0.0 { place as usize } else { 0 };
                counts[bin.min(BINS - 1)] += 1;
            }
            counts
        };
        Histogram { low, high, genuine: counts(&self.genuine), impostor: counts(&self.impostor) }
    }

    fn lowest(&self) -> f32 {
        self.genuine[0].min(self.impostor[0])
    }

    fn highest(&self) -> f32 {
        let last = |scores: &[f32]| scores[scores.len() - 1];
        last(&self.genuine).max(last(&self.impostor))
    }
}

fn sorted(scores: &[f32]) -> Vec<f32> {
    let mut scores = scores.to_vec();
    assert!(scores.iter().all(|s| s.is_finite()), "a score is a finite number");
    scores.par_sort_unstable_by(f32::total_cmp);
    scores
}

/// The normal quantile by Acklam's rational approximation (2003), relative error below 1.2e-9. Rates of 0 and 1 give
/// the quantiles of 1e-12 and 1 - 1e-12.
#[must_use]
pub fn probit(rate: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 6] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
        1.0,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 5] =
        [7.784_695_709_041_462e-3, 3.224_671_290_700_398e-1, 2.445_134_137_142_996, 3.754_408_661_907_416, 1.0];
    const TAIL: f64 = 0.024_25;
    let polynomial = |factors: &[f64], x: f64| factors.iter().fold(0.0, |sum, factor| sum * x + factor);
    let rate = rate.clamp(1e-12, 1.0 - 1e-12);
    let tail = |share: f64| {
        let q = (-2.0 * share.ln()).sqrt();
        polynomial(&C, q) / polynomial(&D, q)
    };
    if rate < TAIL {
        tail(rate)
    } else if rate > 1.0 - TAIL {
        -tail(1.0 - rate)
    } else {
        let (q, r) = (rate - 0.5, (rate - 0.5).powi(2));
        polynomial(&A, r) * q / polynomial(&B, r)
    }
}

/// The normal distribution function to 1e-6, enough to place points on a curve, by bisection of the quantile.
fn normal_below(x: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if probit(middle) < x { low = middle } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn probits_of_the_tables() {
        for (rate, expected) in [
            (0.5, 0.0),
            (0.975, 1.959_963_985),
            (0.01, -2.326_347_874),
            (1e-5, -4.264_890_794),
            (0.841_344_746, 1.0),
            (0.02, -2.053_748_911),
        ] {
            assert!((probit(rate) - expected).abs() < 1e-7, "{rate}: {}", probit(rate));
        }
        assert!(probit(0.0).is_finite() && probit(1.0).is_finite());
        assert!((normal_below(1.0) - 0.841_344_746).abs() < 1e-6);
    }

    #[test]
    fn bins_hold_every_score() {
        let histogram = Sorted::new(&[0.0, 1.0, 1.0], &[0.0, 0.5]).histogram();
        assert_eq!((histogram.genuine[0], histogram.genuine[BINS - 1]), (1, 2));
        assert_eq!(histogram.impostor[BINS / 2], 1);
        let same = Sorted::new(&[0.5; 3], &[0.5; 2]).histogram();
        assert_eq!((same.genuine[0], same.impostor[0]), (3, 2));
    }

    #[test]
    fn long_curves_are_thinned_and_keep_their_end_points() {
        let genuine: Vec<f32> = (0_u16..5000).map(|i| f32::from(i).sin() + 1.0).collect();
        let impostor: Vec<f32> = (0_u16..9000).map(|i| f32::from(i).cos() - 1.0).collect();
        let curve = Sorted::new(&genuine, &impostor).curve();
        assert!((LEVELS..=2 * LEVELS + 2).contains(&curve.len()), "{}", curve.len());
        let (first, last) = (curve[0], curve[curve.len() - 1]);
        assert_eq!((first.false_positive, first.false_negative), (1.0, 0.0));
        assert_eq!((last.false_positive, last.false_negative), (0.0, 1.0));
    }

    proptest! {
        /// Compared with a direct count by definition.
        #[test]
        fn a_curve_tells_the_rates(
            genuine in prop::collection::vec(-5_i8..5, 1..40),
            impostor in prop::collection::vec(-5_i8..5, 1..40),
        ) {
            let [genuine, impostor] = [genuine, impostor].map(|s| s.into_iter().map(f32::from).collect::<Vec<f32>>());
            let curve = Sorted::new(&genuine, &impostor).curve();
            for point in &curve {
                let accepted = impostor.iter().filter(|s| **s >= point.threshold).count();
                let missed = genuine.iter().filter(|s| **s < point.threshold).count();
                prop_assert!((point.false_positive - accepted as f64 / impostor.len() as f64).abs() < 1e-12);
                prop_assert!((point.false_negative - missed as f64 / genuine.len() as f64).abs() < 1e-12);
            }
            prop_assert!(curve.windows(2).all(|two| two[0].threshold < two[1].threshold));
        }
    }
}

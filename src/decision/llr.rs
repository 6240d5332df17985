//! Log-likelihood ratios of similarities: evidence that can be added across modalities.

mod reviewed;

/// Minimum number of trials of each kind.
const TRIALS_MIN: usize = 50;
/// Ridge on the slope, in units of the spread of similarities. It keeps the slope finite when mated and non-mated
/// trials do not overlap, and has no visible effect when they do.
const RIDGE: f64 = 1e-5;
/// Maximum number of Newton steps; convergence is much earlier.
const STEPS_MAX: usize = 50;

/// Natural log-likelihood ratio of a similarity: ln(p(similarity | same person) / p(similarity | different persons)).
///
/// Logistic regression of mated against non-mated trials, each kind with a total weight of one half (equal priors, so
/// that the logit is the ratio; Brümmer and du Preez 2006). A straight line, hence monotone in the similarity. Limited
/// to what the number of trials supports: a thousand impostors cannot show a ratio of a million.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Llr {
    slope: f64,
    offset: f64,
    least: f64,
    most: f64,
    /// Variances and covariance of slope and offset, with the mean of the trials as origin.
    slope_variance: f64,
    offset_variance: f64,
    covariance: f64,
    centre: f64,
    spread: f64,
}

impl Llr {
    /// Fits the line. `None` below 50 trials of either kind, or when mated similarities are not the higher ones.
    ///
    /// The ratio is limited to ln(n + 1) for n non-mated trials, and to -ln(n + 1) for n mated ones.
    #[must_use]
    pub fn fit(genuine: &[f64], impostor: &[f64]) -> Option<Self> {
        if genuine.len().min(impostor.len()) < TRIALS_MIN {
            return None;
        }
        let all = || genuine.iter().chain(impostor).copied();
        let count = (genuine.len() + impostor.len()) as f64;
        let centre = all().sum::<f64>() / count;
        let spread = (all().map(|s| (s - centre).powi(2)).sum::<f64>() / count).sqrt();
        if spread <= 0.0 {
            return None;
        }
        let scaled = |trials: &[f64]| trials.iter().map(|s| (s - centre) / spread).collect::<Vec<f64>>();
        let trials = RegressionTrials { genuine: scaled(genuine), impostor: scaled(impostor) };
        let (slope, offset) = trials.regress();
        if slope <= 0.0 {
            return None;
        }
        let [slope_variance, covariance, offset_variance] = trials.variances(slope, offset);
        Some(Self {
            slope,
            offset,
            least: -((genuine.len() + 1) as f64).ln(),
            most: ((impostor.len() + 1) as f64).ln(),
            slope_variance,
            offset_variance,
            covariance,
            centre,
            spread,
        })
    }

    /// Natural log-likelihood ratio; monotone in the similarity.
    #[must_use]
    pub fn of(&self, similarity: f64) -> f64 {
        self.limited(self.line(similarity))
    }

    /// The same with an upper limit from other trials.
    pub(super) fn at_most(&self, similarity: f64, most: f64) -> f64 {
        self.line(similarity).clamp(self.least, most.max(self.least))
    }

    /// Half the width of the 95 % confidence interval of the ratio, before limiting.
    pub(super) fn uncertainty(&self, similarity: f64) -> f64 {
        let x = self.scaled(similarity);
        let variance = self.slope_variance * x * x + 2.0 * self.covariance * x + self.offset_variance;
        1.959_964 * variance.max(0.0).sqrt()
    }

    pub(super) fn limited(&self, llr: f64) -> f64 {
        llr.clamp(self.least, self.most)
    }

    fn line(&self, similarity: f64) -> f64 {
        self.slope * self.scaled(similarity) + self.offset
    }

    fn scaled(&self, similarity: f64) -> f64 {
        (similarity - self.centre) / self.spread
    }
}

/// Cost of log-likelihood ratios in bits, Cllr: half the sum of the means of log2(1 + e^-l) over mated and log2(1 +
/// e^l) over non-mated trials (Brümmer and du Preez 2006). 0 is perfect; 1 is the cost of ratios that are always 0.
///
/// # Panics
/// When either kind has no trial.
#[must_use]
pub fn cllr(genuine: &[f64], impostor: &[f64]) -> f64 {
    assert!(!genuine.is_empty() && !impostor.is_empty(), "both kinds of trials are needed");
    let mean =
        |sign: f64, ratios: &[f64]| ratios.iter().map(|l| cost_bits(sign * l)).sum::<f64>() / ratios.len() as f64;
    f64::midpoint(mean(-1.0, genuine), mean(1.0, impostor))
}

/// log2(1 + e^x) without overflow.
#[must_use]
pub fn cost_bits(x: f64) -> f64 {
    (x.max(0.0) + (-x.abs()).exp().ln_1p()) / std::f64::consts::LN_2
}

/// RegressionTrials scaled to zero mean and unit deviation.
struct RegressionTrials {
    genuine: Vec<f64>,
    impostor: Vec<f64>,
}

impl RegressionTrials {
    /// (x, truth, weight) of each trial; each kind has a total weight of one half.
    fn each(&self) -> impl Iterator<Item = (f64, f64, f64)> {
        let weighed = |trials: &Vec<f64>| 0.5 / trials.len() as f64;
        let (genuine, impostor) = (weighed(&self.genuine), weighed(&self.impostor));
        let ones = self.genuine.iter().map(move |x| (*x, 1.0, genuine));
        ones.chain(self.impostor.iter().map(move |x| (*x, 0.0, impostor)))
    }

    /// Slope and offset by Newton's method, from zero. The problem is convex; a step that raises the cost is halved.
    fn regress(&self) -> (f64, f64) {
        let (mut slope, mut offset) = (0.0_f64, 0.0_f64);
        for _ in 0..STEPS_MAX {
            let (gradient, [aa, ab, bb]) = self.derivatives(slope, offset);
            let determinant = aa * bb - ab * ab;
            let mut step = [
                (bb * gradient[0] - ab * gradient[1]) / determinant,
                (aa * gradient[1] - ab * gradient[0]) / determinant,
            ];
            let before = self.cost(slope, offset);
            while self.cost(slope - step[0], offset - step[1]) > before && step[0].abs().max(step[1].abs()) > 1e-12 {
                step = step.map(|s| s / 2.0);
            }
            slope -= step[0];
            offset -= step[1];
            if step[0].abs().max(step[1].abs()) < 1e-10 {
                break;
            }
        }
        (slope, offset)
    }

    fn cost(&self, slope: f64, offset: f64) -> f64 {
        let loss = |(x, truth, weight): (f64, f64, f64)| {
            let logit = slope * x + offset;
            // ln(1 + e^l) without overflow.
            weight * (logit.max(0.0) + (-logit.abs()).exp().ln_1p() - truth * logit)
        };
        self.each().map(loss).sum::<f64>() + RIDGE / 2.0 * slope * slope
    }

    /// Gradient by slope and offset, and the second derivatives (slope, mixed, offset).
    fn derivatives(&self, slope: f64, offset: f64) -> ([f64; 2], [f64; 3]) {
        let (mut gradient, mut second) = ([RIDGE * slope, 0.0], [RIDGE, 0.0, 0.0]);
        for (x, truth, weight) in self.each() {
            let p = logistic(slope * x + offset);
            gradient[0] += weight * (p - truth) * x;
            gradient[1] += weight * (p - truth);
            let curve = weight * p * (1.0 - p);
            second[0] += curve * x * x;
            second[1] += curve * x;
            second[2] += curve;
        }
        (gradient, second)
    }

    /// Variance of the slope, covariance, variance of the offset: the sandwich estimator H^-1 J H^-1, because weighted
    /// trials are not one observation each (White 1980).
    fn variances(&self, slope: f64, offset: f64) -> [f64; 3] {
        let (_, [aa, ab, bb]) = self.derivatives(slope, offset);
        let determinant = aa * bb - ab * ab;
        let inverse = [bb / determinant, -ab / determinant, aa / determinant];
        let mut scores = [0.0; 3];
        for (x, truth, weight) in self.each() {
            let score = weight * (logistic(slope * x + offset) - truth);
            scores[0] += score * score * x * x;
            scores[1] += score * score * x;
            scores[2] += score * score;
        }
        // Product of three symmetric 2 x 2 matrices: the first two column by column, then the third.
        let [left, cross, right] = inverse;
        let [first, middle, last] = scores;
        let [one, two] = [left * first + cross * middle, left * middle + cross * last];
        let [three, four] = [cross * first + right * middle, cross * middle + right * last];
        [one * left + two * cross, one * cross + two * right, three * cross + four * right]
    }
}

pub(super) fn logistic(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Midpoints of equal shares of a normal distribution. Winitzki's approximation of the inverse error function
    /// (2008), accurate to 0.002.
    fn normal(count: u32, mean: f64, deviation: f64) -> Vec<f64> {
        let quantile = |share: f64| {
            let x = 2.0 * share - 1.0;
            let log = (1.0 - x * x).ln();
            let a = 0.147;
            let first = 2.0 / (std::f64::consts::PI * a) + log / 2.0;
            x.signum() * ((first * first - log / a).sqrt() - first).sqrt() * std::f64::consts::SQRT_2
        };
        (0..count).map(|n| mean + deviation * quantile((f64::from(n) + 0.5) / f64::from(count))).collect()
    }

    /// For two normal distributions with means m and k and deviation d, the ratio is exactly ((m - k) s - (m^2 - k^2) /
    /// 2) / d^2.
    #[test]
    fn two_normal_distributions_have_their_known_ratio() {
        let llr = Llr::fit(&normal(4000, 0.6, 0.15), &normal(40_000, 0.2, 0.15)).expect("enough trials");
        for similarity in [0.2, 0.4, 0.5, 0.7] {
            let truth = (0.4 * similarity - (0.36 - 0.04) / 2.0) / 0.0225;
            let found = llr.of(similarity);
            assert!((found - truth).abs() < 0.15, "{found} instead of {truth} at {similarity}");
            assert!(llr.uncertainty(similarity) < 0.5);
        }
        assert!((llr.of(1.0) - 40_001.0_f64.ln()).abs() < 1e-9, "no more than the impostors can carry");
        assert!((llr.of(-1.0) + 4001.0_f64.ln()).abs() < 1e-9);
    }

    #[test]
    fn trials_that_do_not_overlap_have_a_finite_ratio() {
        let llr = Llr::fit(&normal(60, 0.8, 0.01), &normal(60, 0.1, 0.01)).expect("enough trials");
        assert!(llr.of(0.8) > 2.0 && llr.of(0.8) <= 61.0_f64.ln());
        assert!(llr.of(0.1) < -2.0);
    }

    #[test]
    fn trials_without_information_give_no_ratio() {
        assert_eq!(Llr::fit(&normal(49, 0.6, 0.1), &normal(500, 0.2, 0.1)), None);
        assert_eq!(Llr::fit(&normal(500, 0.6, 0.1), &normal(49, 0.2, 0.1)), None);
        assert_eq!(Llr::fit(&normal(500, 0.2, 0.1), &normal(500, 0.6, 0.1)), None, "non-mated trials are more similar");
        assert_eq!(Llr::fit(&[0.5; 100], &[0.5; 100]), None);
    }

    #[test]
    fn the_cost_without_information_is_one_bit() {
        assert!((cllr(&[0.0; 5], &[0.0; 7]) - 1.0).abs() < 1e-12);
        assert!(cllr(&[20.0; 5], &[-20.0; 7]) < 1e-6);
        assert!(cllr(&[-5.0], &[5.0]) > 7.0, "confident and wrong");
    }

    proptest! {
        #[test]
        fn more_similar_is_never_less_evidence(
            genuine in prop::collection::vec(-1.0_f64..1.0, 50..80),
            impostor in prop::collection::vec(-1.0_f64..1.0, 50..80),
            similarities in prop::array::uniform2(-1.0_f64..1.0),
        ) {
            if let Some(llr) = Llr::fit(&genuine, &impostor) {
                let (low, high) = (similarities[0].min(similarities[1]), similarities[0].max(similarities[1]));
                prop_assert!(llr.of(low) <= llr.of(high));
                prop_assert!(llr.of(high).is_finite());
            }
        }
    }
}

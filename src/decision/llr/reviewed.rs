//! Review verdicts in the fit of a log-likelihood ratio.

use super::{Llr, RegressionTrials, TRIALS_MIN};

impl Llr {
    /// The ratio with a slope improved by verdicts on best candidates: similarities of right ones and of wrong ones.
    /// Unchanged below 50 of either kind.
    ///
    /// Reviewed cases are selected by similarity, and a wrong best candidate is the most similar of a whole gallery.
    /// Neither affects the slope of a logistic regression, only its offset (Prentice and Pyke 1979). So the verdicts
    /// get a regression of their own, of which only the slope is used. Both slopes are averaged by inverse variance,
    /// and the offset follows by its covariance with the slope: the joint estimate to first order.
    ///
    /// The tail of non-mated similarities does not use verdicts, because it depends on the similarities themselves,
    /// which were selected.
    #[must_use]
    pub(crate) fn with_verdicts(self, right: &[f64], wrong: &[f64]) -> Self {
        if right.len().min(wrong.len()) < TRIALS_MIN {
            return self;
        }
        let scaled = |trials: &[f64]| trials.iter().map(|s| self.scaled(*s)).collect::<Vec<f64>>();
        let trials = RegressionTrials { genuine: scaled(right), impostor: scaled(wrong) };
        let (slope, offset) = trials.regress();
        let [theirs, ..] = trials.variances(slope, offset);
        let own = self.slope_variance;
        if !(slope.is_finite() && theirs.is_finite() && theirs > 0.0 && own > 0.0) {
            return self;
        }
        let joint = self.slope + own / (own + theirs) * (slope - self.slope);
        if joint <= 0.0 {
            return self;
        }
        let follows = self.covariance / own;
        let slope_variance = own * theirs / (own + theirs);
        Self {
            slope: joint,
            offset: self.offset + follows * (joint - self.slope),
            slope_variance,
            covariance: follows * slope_variance,
            offset_variance: self.offset_variance - follows * follows * (own - slope_variance),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Quantiles of a normal distribution at (rank + 0.5) / count.
    fn normal(mean: f64, spread: f64, count: u32) -> Vec<f64> {
        let quantile = |share: f64| {
            // Bisection of a logistic curve within 0.01 of the normal one.
            let (mut low, mut high) = (-6.0_f64, 6.0_f64);
            for _ in 0..60 {
                let middle = f64::midpoint(low, high);
                let below = 1.0 / (1.0 + (-0.070_56 * middle.powi(3) - 1.597_6 * middle).exp());
                if below < share { low = middle } else { high = middle }
            }
            low
        };
        (0..count).map(|n| mean + spread * quantile((f64::from(n) + 0.5) / f64::from(count))).collect()
    }

    fn between(trials: &[f64], least: f64, most: f64) -> Vec<f64> {
        trials.iter().copied().filter(|s| (least..most).contains(s)).collect()
    }

    #[test]
    fn verdicts_on_a_band_sharpen_the_ratio_and_do_not_move_it() {
        // Equal deviations, so that the ratio is linear: (s - 0.3) * 0.2 / 0.01.
        let truth = |s: f64| (s - 0.3) * 20.0;
        let few = Llr::fit(&normal(0.4, 0.1, 60), &normal(0.2, 0.1, 60)).expect("enough trials");
        // Reviewed similarities lie in a band, with more right than wrong answers.
        let right = between(&normal(0.4, 0.1, 9000), 0.28, 0.4);
        let wrong = between(&normal(0.2, 0.1, 3000), 0.28, 0.4);
        let with_verdicts = few.with_verdicts(&right, &wrong);
        for similarity in [0.2, 0.25, 0.4] {
            assert!((with_verdicts.of(similarity) - truth(similarity)).abs() < 0.4, "{}", with_verdicts.of(similarity));
            assert!(with_verdicts.uncertainty(similarity) < few.uncertainty(similarity), "{with_verdicts:?} {few:?}");
        }
        assert!(with_verdicts.slope_variance < few.slope_variance / 2.0, "{with_verdicts:?} {few:?}");
        // Added to the other trials they would shift the ratio: the band would look like the population.
        let pooled =
            |own: Vec<f64>, theirs: &Vec<f64>| own.into_iter().chain(theirs.iter().copied()).collect::<Vec<f64>>();
        let naive = Llr::fit(&pooled(normal(0.4, 0.1, 60), &right), &pooled(normal(0.2, 0.1, 60), &wrong));
        let off = naive.map_or(f64::INFINITY, |naive| (naive.of(0.3) - truth(0.3)).abs());
        assert!(off > 0.5 && with_verdicts.of(0.3).abs() < 0.05, "{off} {}", with_verdicts.of(0.3));
    }

    #[test]
    fn few_verdicts_and_verdicts_against_likeness_teach_nothing() {
        let own = Llr::fit(&normal(0.6, 0.1, 60), &normal(0.1, 0.1, 60)).expect("enough trials");
        assert_eq!(own.with_verdicts(&normal(0.4, 0.05, 49), &normal(0.3, 0.05, 500)), own);
        let against = own.with_verdicts(&normal(0.3, 0.01, 50_000), &normal(0.4, 0.01, 50_000));
        assert!(against.slope > 0.0, "it never falls when the similarity rises: {against:?}");
    }
}

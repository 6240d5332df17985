//! Table of error rates and similarities in a model package: interpolation and extrapolation.

/// Similarity as a piecewise linear function of ln(rate): the tails of mated and non-mated similarities are about
/// exponential.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RateTable {
    /// (ln rate, similarity), highest rate first; at least two rows.
    rows: Vec<(f64, f64)>,
}

impl RateTable {
    /// `None` below two rows.
    pub(super) fn new(rows: &[(f64, f32)]) -> Option<Self> {
        let rows: Vec<(f64, f64)> = rows.iter().map(|(rate, similarity)| (rate.ln(), f64::from(*similarity))).collect();
        (rows.len() >= 2).then_some(Self { rows })
    }

    /// The lowest measured rate.
    pub(super) fn rate_min(&self) -> f64 {
        self.rows[self.rows.len() - 1].0.exp()
    }

    pub(super) fn similarity_at(&self, rate: f64) -> f64 {
        let rate = rate.ln();
        let last = self.rows.len() - 1;
        if rate < self.rows[last].0 {
            return self.rows[last].1 + (rate - self.rows[last].0) * self.slope_beyond();
        }
        let after = self.rows.iter().position(|row| row.0 <= rate).unwrap_or(last).max(1);
        self.rows[after].1 + (rate - self.rows[after].0) * slope(self.rows[after - 1], self.rows[after])
    }

    /// Rate at a similarity, for tables in which similarity rises with the rate: the share of genuine pairs below it.
    /// By bisection, because a flat stretch has no inverse.
    pub(super) fn rate_below(&self, similarity: f64) -> f64 {
        let (mut low, mut high) = (-30.0_f64, 0.0_f64);
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if self.similarity_at(middle.exp()) < similarity { low = middle } else { high = middle }
        }
        high.exp()
    }

    /// Rate at a similarity, for tables in which similarity falls with the rate: the share of impostor pairs that reach
    /// it.
    pub(super) fn rate_above(&self, similarity: f64) -> f64 {
        let (mut low, mut high) = (-60.0_f64, 0.0_f64);
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if self.similarity_at(middle.exp()) >= similarity { low = middle } else { high = middle }
        }
        high.exp()
    }

    /// Slope for extrapolation: the steeper of the last step and the whole table. A flat last step would otherwise make
    /// rarer rates free.
    fn slope_beyond(&self) -> f64 {
        let last = self.rows.len() - 1;
        let (step, whole) = (slope(self.rows[last - 1], self.rows[last]), slope(self.rows[0], self.rows[last]));
        if step.abs() > whole.abs() { step } else { whole }
    }
}

fn slope(from: (f64, f64), to: (f64, f64)) -> f64 {
    (to.1 - from.1) / (to.0 - from.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64) -> bool {
        (found - expected).abs() < 1e-6
    }

    #[test]
    fn rates_between_and_beyond_the_rows_are_read_off_straight_lines() {
        let table = RateTable::new(&[(0.1, 0.2), (0.01, 0.3), (0.001, 0.5)]).expect("three rows");
        for (rate, similarity) in [
            (1.0, 0.1),
            (0.1, 0.2),
            (0.1_f64.powf(1.5), 0.25),
            (0.01, 0.3),
            (0.1_f64.powf(2.5), 0.4),
            (0.001, 0.5),
            (1e-5, 0.9),
        ] {
            assert!(near(table.similarity_at(rate), similarity), "{rate}: {}", table.similarity_at(rate));
        }
        assert!(near(table.rate_min(), 0.001));
    }

    #[test]
    fn rates_are_found_from_similarities() {
        let table = RateTable::new(&[(0.5, 0.6), (0.05, 0.4), (0.005, 0.4)]).expect("three rows");
        assert!(near(table.rate_below(0.6), 0.5));
        assert!(near(table.rate_below(0.4), 0.005), "the whole level stretch is not below");
        assert!(near(table.rate_below(0.9), 1.0));
        assert!(table.rate_below(-1.0) < 1e-9);
    }

    #[test]
    fn a_level_end_goes_on_rising() {
        let table = RateTable::new(&[(0.1, 0.2), (0.01, 0.4), (0.001, 0.4)]).expect("three rows");
        assert!(near(table.similarity_at(1e-5), 0.6));
        assert_eq!(RateTable::new(&[(0.1, 0.2)]), None);
    }
}

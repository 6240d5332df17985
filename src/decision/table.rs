//! A model package's table of error rates and similarities, read between its rows and beyond them.

/// Similarity as a function of the logarithm of the rate, straight between rows: similarities of strangers and of
/// acquaintances thin out about exponentially.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Table {
    /// (ln rate, similarity), the highest rate first. At least two.
    rows: Vec<(f64, f64)>,
}

impl Table {
    /// `None` for less than two rows, from which nothing can be read.
    pub(super) fn new(rows: &[(f64, f32)]) -> Option<Self> {
        let rows: Vec<(f64, f64)> = rows.iter().map(|(rate, similarity)| (rate.ln(), f64::from(*similarity))).collect();
        (rows.len() >= 2).then_some(Self { rows })
    }

    /// The lowest rate that was measured.
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

    /// The rate that belongs to a similarity, where similarity rises with the rate: the share of genuine pairs below
    /// it. Found by halving, because rows may lie level and a level line has no inverse.
    pub(super) fn rate_below(&self, similarity: f64) -> f64 {
        let (mut low, mut high) = (-30.0_f64, 0.0_f64);
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if self.similarity_at(middle.exp()) < similarity { low = middle } else { high = middle }
        }
        high.exp()
    }

    /// The rate that belongs to a similarity, where similarity rises as the rate falls: the share of impostor pairs that reach
    /// it.
    pub(super) fn rate_above(&self, similarity: f64) -> f64 {
        let (mut low, mut high) = (-60.0_f64, 0.0_f64);
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if self.similarity_at(middle.exp()) >= similarity { low = middle } else { high = middle }
        }
        high.exp()
    }

    /// The steeper of the last step and the whole table: where the last rows lie level by chance, the rarer rates
    /// would otherwise cost nothing.
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
        let table = Table::new(&[(0.1, 0.2), (0.01, 0.3), (0.001, 0.5)]).expect("three rows");
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
        let table = Table::new(&[(0.5, 0.6), (0.05, 0.4), (0.005, 0.4)]).expect("three rows");
        assert!(near(table.rate_below(0.6), 0.5));
        assert!(near(table.rate_below(0.4), 0.005), "the whole level stretch is not below");
        assert!(near(table.rate_below(0.9), 1.0));
        assert!(table.rate_below(-1.0) < 1e-9);
    }

    #[test]
    fn a_level_end_goes_on_rising() {
        let table = Table::new(&[(0.1, 0.2), (0.01, 0.4), (0.001, 0.4)]).expect("three rows");
        assert!(near(table.similarity_at(1e-5), 0.6));
        assert_eq!(Table::new(&[(0.1, 0.2)]), None);
    }
}

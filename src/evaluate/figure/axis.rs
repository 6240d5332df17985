//! Axes: positions of values, tick lines and labels.

use crate::metrics::probit;

/// One axis, from `low` to `high`.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    pub(super) label: String,
    scale: AxisScale,
    pub(super) low: f64,
    pub(super) high: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AxisScale {
    Linear,
    /// Shares from 0 to 1, labelled as percentages.
    Percent,
    /// Rates above zero on a logarithmic scale.
    Log,
    /// Rates on the scale of normal quantiles: normally distributed scores give straight lines.
    Probit,
}

/// Ticks of a probit axis.
const PROBIT_TICKS: [f64; 15] = [1e-6, 1e-5, 1e-4, 1e-3, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.99];
/// Approximate number of ticks on a linear axis.
const TICKS: f64 = 6.0;

impl Axis {
    /// # Panics
    /// When the range is empty, or includes zero on a logarithmic or probit scale.
    pub(crate) fn new(label: impl Into<String>, scale: AxisScale, low: f64, high: f64) -> Self {
        assert!(low < high && low.is_finite() && high.is_finite(), "low is below high");
        assert!(
            low > 0.0 || matches!(scale, AxisScale::Linear | AxisScale::Percent),
            "zero has no position on this scale"
        );
        Self { label: label.into(), scale, low, high }
    }

    /// The position of a value: 0 at the start, 1 at the end; values beyond are clamped.
    pub(super) fn place(&self, value: f64) -> f64 {
        let (low, high) = (self.scaled(self.low), self.scaled(self.high));
        (self.scaled(value.clamp(self.low, self.high)) - low) / (high - low)
    }

    fn scaled(&self, value: f64) -> f64 {
        match self.scale {
            AxisScale::Linear | AxisScale::Percent => value,
            AxisScale::Log => value.log10(),
            AxisScale::Probit => probit(value),
        }
    }

    /// The ticks with their labels.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        let values: Vec<f64> = match self.scale {
            AxisScale::Linear | AxisScale::Percent => {
                let step = round_step((self.high - self.low) / TICKS);
                let first = (self.low / step - 1e-9).ceil();
                (0..100).map(|tick| (first + f64::from(tick)) * step).collect()
            }
            AxisScale::Log => (-9..=0).map(|power| 10_f64.powi(power)).collect(),
            AxisScale::Probit => PROBIT_TICKS.into(),
        };
        let slack = (self.high - self.low) * 1e-9;
        let within =
            values.into_iter().filter(|value| (self.low * (1.0 - 1e-9) - slack..=self.high + slack).contains(value));
        within.map(|value| (value, self.words(value))).collect()
    }

    fn words(&self, value: f64) -> String {
        match self.scale {
            // Values near zero by rounding are zero.
            AxisScale::Linear => shortest(if value.abs() < (self.high - self.low) * 1e-9 { 0.0 } else { value }),
            AxisScale::Percent | AxisScale::Probit | AxisScale::Log => format!("{} %", shortest(100.0 * value)),
        }
    }
}

/// Up to five decimals without trailing zeros.
fn shortest(value: f64) -> String {
    let words = format!("{value:.5}");
    let words = words.trim_end_matches('0').trim_end_matches('.');
    words.to_owned()
}

/// The next larger 1, 2 or 5 times a power of ten.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= step * (1.0 - 1e-9)).unwrap_or(10.0);
    factor * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(axis: &Axis) -> Vec<String> {
        axis.ticks().into_iter().map(|(_, words)| words).collect()
    }

    #[test]
    fn ticks_are_at_round_numbers() {
        assert_eq!(words(&Axis::new("", AxisScale::Linear, -0.23, 0.97)), ["-0.2", "0", "0.2", "0.4", "0.6", "0.8"]);
        assert_eq!(
            words(&Axis::new("", AxisScale::Percent, 0.9, 1.0)),
            ["90 %", "92 %", "94 %", "96 %", "98 %", "100 %"]
        );
        assert_eq!(words(&Axis::new("", AxisScale::Log, 1e-5, 1.0)).len(), 6);
        assert_eq!(words(&Axis::new("", AxisScale::Log, 1e-5, 1.0))[0], "0.001 %");
        assert_eq!(words(&Axis::new("", AxisScale::Probit, 1e-3, 0.5))[..3], ["0.1 %", "0.5 %", "1 %"]);
    }

    #[test]
    fn places_follow_the_scale() {
        let log = Axis::new("", AxisScale::Log, 1e-4, 1.0);
        assert!(
            (log.place(1e-2) - 0.5).abs() < 1e-12
                && log.place(0.0).abs() < 1e-12
                && (log.place(7.0) - 1.0).abs() < 1e-12
        );
        let probit = Axis::new("", AxisScale::Probit, 0.01, 0.99);
        assert!((probit.place(0.5) - 0.5).abs() < 1e-9);
        assert!((probit.place(0.1) + probit.place(0.9) - 1.0).abs() < 1e-9);
    }
}

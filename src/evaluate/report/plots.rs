//! The figures of a report.

use super::{Report, Results};
use crate::{
    figure::{Axis, AxisScale, Figure, LegendCorner, Series, SeriesShape},
    metrics::{CurvePoint, Histogram, Pairwise, Reliability},
};

/// Lower limit of rate axes.
const RATE_MIN: f64 = 1e-6;
/// Upper limit of DET axes: larger error rates are irrelevant.
const DET_MAX: f64 = 0.6;
/// Space for a histogram's legend above its bars.
const HEADROOM: f64 = 1.25;

pub(super) fn of(report: &Report) -> Vec<Figure> {
    let mut figures = Vec::new();
    let slices: Vec<(String, &Results)> =
        report.slices.iter().map(|slice| (format!("{} {}", slice.label, slice.value), &slice.results)).collect();
    match &report.results {
        Results::Verification(v) => {
            let marks = v.at_fmr.iter().filter(|at| at.support.is_enough()).map(|at| (at.fmr.rate, at.fnmr.rate));
            let curves = ErrorCurves {
                errors: ["FMR", "FNMR"],
                trials: [v.impostor_pairs, v.genuine_pairs],
                marked: "FNMR at the FMRs of the table",
                marks: marks.collect(),
                all: curves(&v.curve, &slices),
            };
            figures.extend([curves.det(), curves.roc()]);
            figures.push(histogram(&v.histogram, ["genuine pairs", "impostor pairs"], "pairs"));
        }
        Results::Retrieval(r) => figures.push(cmc(&r.cmc, &slices)),
        Results::Pairwise(p) => figures.extend(by_value(p, &slices)),
        Results::Detection(_) | Results::Stream(_) => {}
        Results::Identification(i) => {
            let marks = i.at_fpir.iter().filter(|at| at.support.is_enough()).map(|at| (at.fpir.rate, at.fnir.rate));
            let curves = ErrorCurves {
                errors: ["FPIR", "FNIR"],
                trials: [i.nonmated_probes, i.mated_probes],
                marked: "FNIR at the FPIRs of the table",
                marks: marks.collect(),
                all: curves(&i.curve, &slices),
            };
            figures.extend([curves.det(), curves.roc()]);
            let kinds = ["mated probes, correct first identity", "nonmated probes"];
            figures.extend(i.histogram.as_ref().map(|scores| histogram(scores, kinds, "probes")));
            figures.extend((!i.promised.is_empty()).then(|| {
                promises(i.promised.iter().map(|promise| (promise.target_fpir, promise.fpir.rate)).collect())
            }));
        }
    }
    figures.extend(report.calibration.as_ref().map(|c| reliability(&c.decisions.reliability)));
    figures
}

/// Trade-off curves of two error rates.
struct ErrorCurves<'r> {
    /// Names of the false positive and the false negative rate.
    errors: [&'static str; 2],
    trials: [usize; 2],
    marked: &'static str,
    marks: Vec<(f64, f64)>,
    all: Vec<(String, &'r [CurvePoint])>,
}

fn curves<'r>(whole: &'r [CurvePoint], slices: &[(String, &'r Results)]) -> Vec<(String, &'r [CurvePoint])> {
    let slices = slices.iter().filter_map(|(name, results)| match results {
        Results::Verification(v) => Some((name.clone(), &*v.curve)),
        Results::Identification(i) => Some((name.clone(), &*i.curve)),
        Results::Retrieval(_) | Results::Pairwise(_) | Results::Detection(_) | Results::Stream(_) => None,
    });
    std::iter::once(("all".to_owned(), whole)).chain(slices).collect()
}

impl ErrorCurves<'_> {
    /// The lowest rate that this number of trials supports, rounded to a power of ten.
    fn least(trials: usize) -> f64 {
        10_f64.powf((1.0 / trials.max(1) as f64).log10().floor()).clamp(RATE_MIN, 0.01)
    }

    fn det(&self) -> Figure {
        let [positive, negative] = self.errors;
        let least = self.trials.map(Self::least);
        let within = |rate: f64, least: f64| (least..=DET_MAX).contains(&rate);
        let series = self.all.iter().map(|(name, curve)| Series {
            name: name.clone(),
            // Without errors the curve ends.
            points: curve
                .iter()
                .map(|point| (point.false_positive, point.false_negative))
                .filter(|(x, y)| within(*x, least[0]) && within(*y, least[1]))
                .collect(),
            shape: SeriesShape::Line,
        });
        let series: Vec<Series> = series.collect();
        let lowest = series.iter().flat_map(|s| &s.points).map(|(_, y)| *y).fold(0.01, f64::min);
        let least = [least[0], 10_f64.powf(lowest.log10().floor())];
        let guide = Series {
            name: "EER".to_owned(),
            points: diagonal(least[0].max(least[1]), DET_MAX),
            shape: SeriesShape::Guide,
        };
        Figure {
            name: "det",
            title: format!("Detection error trade-off: {negative} against {positive}"),
            x: Axis::new(format!("{positive}, probit scale"), AxisScale::Probit, least[0], DET_MAX),
            y: Axis::new(format!("{negative}, probit scale"), AxisScale::Probit, least[1], DET_MAX),
            series: std::iter::once(guide).chain(self.with_marks(series, |(x, y)| (x, y))).collect(),
            legend: LegendCorner::TopRight,
        }
    }

    fn roc(&self) -> Figure {
        let [positive, negative] = self.errors;
        let least = Self::least(self.trials[0]);
        let series: Vec<Series> = self
            .all
            .iter()
            .map(|(name, curve)| Series {
                name: name.clone(),
                points: curve
                    .iter()
                    .filter(|point| point.false_positive >= least)
                    .map(|point| (point.false_positive, 1.0 - point.false_negative))
                    .collect(),
                shape: SeriesShape::Line,
            })
            .collect();
        let lowest = series.iter().flat_map(|s| &s.points).map(|(_, y)| *y).fold(1.0, f64::min);
        Figure {
            name: "roc",
            title: format!("Receiver operating characteristic: 1 - {negative} against {positive}"),
            x: Axis::new(format!("{positive}, logarithmic"), AxisScale::Log, least, 1.0),
            y: Axis::new(format!("1 - {negative}"), AxisScale::Percent, floor_of(lowest), 1.0),
            series: self.with_marks(series, |(x, y)| (x, 1.0 - y)),
            legend: LegendCorner::BottomRight,
        }
    }

    /// Marks belong to the first curve and follow it.
    fn with_marks(&self, mut series: Vec<Series>, place: impl Fn((f64, f64)) -> (f64, f64)) -> Vec<Series> {
        if !self.marks.is_empty() {
            let points = self.marks.iter().map(|mark| place(*mark)).collect();
            series.insert(1, Series { name: self.marked.to_owned(), points, shape: SeriesShape::Marks });
        }
        series
    }
}

/// The line of equal rates, in small steps for any scale.
fn diagonal(low: f64, high: f64) -> Vec<(f64, f64)> {
    (0..=60).map(|step| low * (high / low).powf(f64::from(step) / 60.0)).map(|rate| (rate, rate)).collect()
}

/// A round lower limit, so that the curve fills the figure.
fn floor_of(lowest: f64) -> f64 {
    (((lowest - 0.005) * 20.0).floor() / 20.0).clamp(0.0, 0.95)
}

fn histogram(scores: &Histogram, names: [&str; 2], of: &str) -> Figure {
    let bins = scores.genuine.len();
    let (low, high) = (f64::from(scores.low), f64::from(scores.high));
    // Constant scores get a bin with a width, too.
    let high = if high > low { high } else { low + 1.0 };
    let width = (high - low) / bins as f64;
    let series = |name: &str, counts: &[u64]| {
        let all = counts.iter().sum::<u64>().max(1) as f64;
        let edge = |bin: usize| low + bin as f64 * width;
        let mut points: Vec<(f64, f64)> =
            counts.iter().enumerate().map(|(bin, count)| (edge(bin), *count as f64 / all)).collect();
        points.extend(points.last().map(|(_, share)| (high, *share)));
        Series { name: name.to_owned(), points, shape: SeriesShape::Filled }
    };
    let series = vec![series(names[0], &scores.genuine), series(names[1], &scores.impostor)];
    let most = series.iter().flat_map(|s| &s.points).map(|(_, share)| *share).fold(0.0, f64::max);
    Figure {
        name: "histogram",
        title: format!("Similarities of {} and {}", names[0], names[1]),
        x: Axis::new("similarity", AxisScale::Linear, low, high),
        y: Axis::new(format!("share of {of}, each kind for itself"), AxisScale::Percent, 0.0, most * HEADROOM),
        series,
        legend: LegendCorner::TopRight,
    }
}

fn cmc(whole: &[f64], slices: &[(String, &Results)]) -> Figure {
    let line = |name: String, cmc: &[f64]| Series {
        name,
        points: cmc.iter().enumerate().map(|(place, share)| ((place + 1) as f64, *share)).collect(),
        shape: SeriesShape::Line,
    };
    let mut series = vec![line("all".to_owned(), whole)];
    series.push(Series { name: "rank 1".to_owned(), points: vec![(1.0, whole[0])], shape: SeriesShape::Marks });
    for (name, results) in slices {
        if let Results::Retrieval(r) = results {
            series.push(line(name.clone(), &r.cmc));
        }
    }
    let lowest = series.iter().flat_map(|s| &s.points).map(|(_, share)| *share).fold(1.0, f64::min);
    let ranks = series.iter().map(|s| s.points.len()).max().unwrap_or(1).max(2);
    Figure {
        name: "cmc",
        title: "Cumulative match characteristic".to_owned(),
        x: Axis::new("rank", AxisScale::Linear, 0.0, ranks as f64),
        y: Axis::new("probes whose person is within the rank", AxisScale::Percent, floor_of(lowest), 1.0),
        series,
        legend: LegendCorner::BottomRight,
    }
}

/// Rank 1 by the probe's value for numeric values (degrees, weeks); `None` otherwise.
fn by_value(whole: &Pairwise, slices: &[(String, &Results)]) -> Option<Figure> {
    let line = |name: String, p: &Pairwise| {
        let points: Option<Vec<(f64, f64)>> =
            p.by_probe.iter().map(|(value, rank_1)| Some((value.parse().ok()?, *rank_1))).collect();
        let mut points = points?;
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Some(Series { name, points, shape: SeriesShape::Line })
    };
    let mut series = vec![line("all".to_owned(), whole)?];
    series.extend(slices.iter().filter_map(|(name, results)| match results {
        Results::Pairwise(p) => line(name.clone(), p),
        _ => None,
    }));
    let places = || series.iter().flat_map(|s| &s.points).map(|(x, _)| *x);
    let (low, high) = (places().fold(f64::INFINITY, f64::min), places().fold(f64::NEG_INFINITY, f64::max));
    (low.is_finite() && high.is_finite() && low < high).then(|| Figure {
        name: "pairwise",
        title: format!("Rank 1 by the {} of the probe, against all others", whole.label),
        x: Axis::new(whole.label.clone(), AxisScale::Linear, low, high),
        y: Axis::new("rank-1, mean over galleries", AxisScale::Percent, 0.0, 1.0),
        series,
        legend: LegendCorner::BottomRight,
    })
}

fn promises(points: Vec<(f64, f64)>) -> Figure {
    // A zero rate is on the lower edge.
    let least = points.iter().flat_map(|(x, y)| [*x, *y]).filter(|rate| *rate > 0.0).fold(1.0, f64::min);
    let low = 10_f64.powf(least.log10().floor()).min(1e-3);
    Figure {
        name: "promised",
        title: "False positive identifications: target and observed".to_owned(),
        x: Axis::new("target FPIR, threshold from the gallery alone", AxisScale::Log, low, 0.1),
        y: Axis::new("FPIR seen", AxisScale::Log, low, 1.0),
        series: vec![
            Series { name: "as promised".to_owned(), points: diagonal(low, 0.1), shape: SeriesShape::Guide },
            Series { name: "seen".to_owned(), points: points.clone(), shape: SeriesShape::Line },
            Series { name: String::new(), points, shape: SeriesShape::Marks },
        ],
        legend: LegendCorner::TopLeft,
    }
}

fn reliability(reliability: &Reliability) -> Figure {
    let points: Vec<(f64, f64)> =
        reliability.bins.iter().map(|bin| (bin.mean_probability, bin.observed.rate)).collect();
    Figure {
        name: "reliability",
        title: format!("Reliability: expected calibration error {:.4}", reliability.ece),
        x: Axis::new("mean probability of the bin", AxisScale::Percent, 0.0, 1.0),
        y: Axis::new("came true", AxisScale::Percent, 0.0, 1.0),
        series: vec![
            Series {
                name: "perfect calibration".to_owned(),
                points: vec![(0.0, 0.0), (1.0, 1.0)],
                shape: SeriesShape::Guide,
            },
            Series { name: "as seen".to_owned(), points: points.clone(), shape: SeriesShape::Line },
            Series { name: String::new(), points, shape: SeriesShape::Marks },
        ],
        legend: LegendCorner::TopLeft,
    }
}

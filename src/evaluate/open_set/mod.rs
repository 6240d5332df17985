//! Compares open-set decision methods on galleries with half nonmated probes.
//!
//! Simulated galleries are given by the relations of their probes. Real ones are drawn here from vectors with persons.
//! Nothing is tuned on either: thresholds, coefficients and weights come with the decider, from its training worlds.
//! Only the oracle uses the labels and is marked as such.

mod draw;
mod report;
#[cfg(test)]
mod tests;

use std::time::Instant;

use super::metrics::scored::{self, ResamplingUnits, ScoredProbe};
use decision::{
    Decider, OpenSetModel, Prior,
    relations::{GalleryTrials, OpenSetTrial, Scores, best_threshold},
};

pub use super::metrics::scored::Estimate;
pub use draw::{EmbeddingSet, galleries};
pub use report::{OpenSetReport, OpenSetRow, OpenSetTable, SizeRow};

/// A set of galleries.
#[derive(Debug, Clone, PartialEq)]
pub struct GallerySet {
    pub name: String,
    /// The resampling unit of intervals: `"world"` or `"person"`, the meaning of [`OpenSetTrial::person`].
    pub resampled_by: &'static str,
    pub galleries: Vec<GalleryTrials>,
}

/// Size classes of galleries; the last has no limit.
const SIZES: [(usize, &str); 4] = [(15, "1-15"), (50, "16-50"), (150, "51-150"), (usize::MAX, "above 150")];

/// A decision method.
enum Method<'a> {
    /// One threshold for all galleries.
    Threshold(fn(&Scores) -> f32, f32),
    /// The best threshold of each gallery by its own labels.
    Oracle(fn(&Scores) -> f32),
    /// The best threshold of each half of a gallery's probes by the labels of the other half. A threshold chosen on a
    /// hundred probes also fits noise, so the plain oracle is optimistic; this one is not.
    OracleOfOthers(fn(&Scores) -> f32),
    Probability(&'a Decider, OpenSetModel),
}

/// Measures the decider and the baselines.
#[must_use]
pub fn measure(decider: &Decider, sets: &[GallerySet]) -> OpenSetReport {
    let facts = decider.manifest();
    OpenSetReport {
        decider: facts.id.clone(),
        version: facts.version.clone(),
        provenance: facts.provenance.clone(),
        microseconds_each: microseconds_each(decider, sets),
        sets: sets.iter().map(|set| table(decider, set)).collect(),
    }
}

fn methods(decider: &Decider) -> [(&'static str, Method<'_>); 9] {
    let thresholds = decider.manifest().thresholds;
    [
        ("one cosine threshold", Method::Threshold(|s| s.cosine, thresholds.cosine)),
        ("oracle threshold for each gallery", Method::Oracle(|s| s.cosine)),
        ("oracle, each half by the other", Method::OracleOfOthers(|s| s.cosine)),
        ("AS-norm", Method::Threshold(|s| s.as_norm, thresholds.as_norm)),
        ("NAC (16 classes)", Method::Threshold(|s| s.nac, thresholds.nac)),
        ("top1 - top2", Method::Threshold(|s| s.margin, thresholds.margin)),
        ("logistic regression", Method::Probability(decider, OpenSetModel::Logistic)),
        ("perceptron", Method::Probability(decider, OpenSetModel::Perceptron)),
        ("set transformer", Method::Probability(decider, OpenSetModel::SetTransformer)),
    ]
}

fn table(decider: &Decider, set: &GallerySet) -> OpenSetTable {
    let trials: Vec<(usize, &OpenSetTrial)> =
        set.galleries.iter().flat_map(|one| one.trials.iter().map(|trial| (one.identities, trial))).collect();
    let units = ResamplingUnits::new(trials.iter().map(|(_, trial)| trial.person));
    let mut rows = Vec::new();
    let mut by_size: Vec<SizeRow> =
        SIZES.iter().map(|(_, name)| SizeRow { identities: name, ..SizeRow::default() }).collect();
    for (method, way) in methods(decider) {
        let probes = judge(&way, &set.galleries);
        let has_probability = matches!(way, Method::Probability(..));
        rows.push(OpenSetRow {
            method,
            auc: (!matches!(way, Method::Oracle(_) | Method::OracleOfOthers(_)))
                .then(|| units.estimate(&probes, scored::auc)),
            balanced_accuracy: units.estimate(&probes, scored::balanced_accuracy),
            ece: has_probability.then(|| units.estimate(&probes, scored::calibration_error)),
        });
        for (size, row) in by_size.iter_mut().enumerate() {
            let low = size.checked_sub(1).map_or(0, |before| SIZES[before].0);
            let inside = |identities: usize| identities > low && identities <= SIZES[size].0;
            let of_size: Vec<ScoredProbe> =
                probes.iter().zip(&trials).filter(|(_, (size, _))| inside(*size)).map(|(one, _)| *one).collect();
            row.probes = of_size.len();
            row.balanced_accuracy.push((method, scored::balanced_accuracy(&of_size, None)));
        }
    }
    by_size.retain(|row| row.probes > 0);
    OpenSetTable {
        name: set.name.clone(),
        galleries: set.galleries.len(),
        probes: trials.len(),
        resampled_by: set.resampled_by,
        rows,
        by_size,
    }
}

fn judge(way: &Method<'_>, galleries: &[GalleryTrials]) -> Vec<ScoredProbe> {
    let mut scored = Vec::new();
    for gallery in galleries {
        let halves = halves(&gallery.trials);
        // The best threshold on one half, or on all probes.
        let best = |score: &fn(&Scores) -> f32, of: Option<bool>| {
            let seen = gallery.trials.iter().zip(&halves).filter(|(_, half)| of.is_none_or(|of| of == **half));
            best_threshold(&mut seen.map(|(t, _)| (score(&t.measurement.scores), t.is_enrolled)).collect::<Vec<_>>())
        };
        let thresholds = match way {
            Method::Threshold(_, threshold) => [*threshold; 2],
            Method::Oracle(score) => [best(score, None); 2],
            Method::OracleOfOthers(score) => [best(score, Some(true)), best(score, Some(false))],
            Method::Probability(..) => [0.5; 2],
        };
        scored.extend(gallery.trials.iter().zip(&halves).map(|(trial, half)| {
            let score = match way {
                Method::Threshold(score, _) | Method::Oracle(score) | Method::OracleOfOthers(score) => {
                    f64::from(score(&trial.measurement.scores))
                }
                Method::Probability(decider, judge) => {
                    decider.probability_by(*judge, &trial.measurement.relations, Prior::EVEN)
                }
            };
            let says_enrolled = score >= f64::from(thresholds[usize::from(*half)]);
            ScoredProbe { score, says_enrolled, is_enrolled: trial.is_enrolled }
        }));
    }
    scored
}

/// The half of each trial: mated and nonmated probes alternate separately.
fn halves(trials: &[OpenSetTrial]) -> Vec<bool> {
    let mut second = [false; 2];
    let half = |trial: &OpenSetTrial| {
        let next = &mut second[usize::from(trial.is_enrolled)];
        std::mem::replace(next, !*next)
    };
    trials.iter().map(half).collect()
}

/// Time per decision of the set transformer on one thread, over the first probes.
fn microseconds_each(decider: &Decider, sets: &[GallerySet]) -> f64 {
    let trials = || sets.iter().flat_map(|set| &set.galleries).flat_map(|gallery| &gallery.trials).take(2000);
    let begun = Instant::now();
    let sum: f64 = trials().map(|trial| decider.probability(&trial.measurement.relations)).sum();
    let took = begun.elapsed().as_secs_f64();
    // The sum is used, so that the compiler cannot remove the work.
    if sum.is_finite() { 1e6 * took / trials().count().max(1) as f64 } else { f64::NAN }
}

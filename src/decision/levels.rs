//! Thresholds and errors of a calibration at standard error rates.

use super::calibration::{Calibration, limited};
use domain::{IntervalEstimate, Similarity, ThresholdEstimate};

/// Target false-positive identification rates.
const TARGETS: [f64; 7] = [0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001];

impl Calibration {
    /// Thresholds at standard FPIR targets in a gallery of `gallery_identities` identities, with all error rates.
    /// Highest target first.
    #[must_use]
    pub fn levels(&self, gallery_identities: u64) -> Vec<ThresholdEstimate> {
        let level = |target_fpir: f64| {
            let threshold = self.nonmated_scores.threshold_known(target_fpir, gallery_identities);
            let similarity = limited(threshold.similarity);
            let at = f64::from(similarity.0);
            ThresholdEstimate {
                target_fpir,
                threshold: similarity,
                fmr: self.nonmated_scores.fmr(at),
                fpir: self.nonmated_scores.fpir(at, gallery_identities),
                fnir: self.mated.as_ref().map(|mated| mated.missed(at)),
                llr: self.evidence(similarity),
                extrapolated: threshold.extrapolated,
                unsupported: threshold.unsupported,
            }
        };
        TARGETS.into_iter().map(level).collect()
    }

    fn evidence(&self, similarity: Similarity) -> Option<IntervalEstimate> {
        let llr = self.llr?;
        let (value, half) = (llr.of(similarity.0.into()), llr.uncertainty(similarity.0.into()));
        Some(IntervalEstimate { value, lower: llr.limited(value - half), upper: llr.limited(value + half) })
    }
}

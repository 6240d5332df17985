//! The errors of one calibration at the rates that operators ask for most.

use super::calibration::{Calibration, limited};
use domain::{IntervalEstimate, Similarity, ThresholdEstimate};

/// The shares of strangers at which a calibration is shown.
const TARGETS: [f64; 7] = [0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001];

impl Calibration {
    /// Thresholds at standard rates of strangers who come back as somebody, in a gallery of so many identities, with all the
    /// errors that they make. The largest rate first.
    #[must_use]
    pub fn levels(&self, gallery_identities: u64) -> Vec<ThresholdEstimate> {
        let level = |target_fpir: f64| {
            let threshold = self.strangers.threshold_known(target_fpir, gallery_identities);
            let similarity = limited(threshold.similarity);
            let at = f64::from(similarity.0);
            ThresholdEstimate {
                target_fpir,
                threshold: similarity,
                fmr: self.strangers.fmr(at),
                fpir: self.strangers.fpir(at, gallery_identities),
                fnir: self.genuine.as_ref().map(|genuine| genuine.missed(at)),
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

//! Open-set identification (ISO/IEC 19795-1): mated probes must be identified, nonmated probes must not.

use serde::Serialize;

use super::{
    curve::{CurvePoint, Histogram, Sorted},
    rate::{Interval, Rate, Support},
};

/// The FPIRs at which FNIRs are reported.
const FPIR_TARGETS: [f64; 3] = [0.01, 0.003, 0.001];

/// Open-set identification at rank 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Identification {
    pub enrolled: usize,
    pub mated_probes: usize,
    pub nonmated_probes: usize,
    /// Share of mated probes whose most similar identity is correct, at any similarity.
    pub rank_1: f64,
    pub at_fpir: Vec<AtFpir>,
    /// Thresholds that the server derives from this gallery alone, and the observed FPIR.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub promised: Vec<PromisedRate>,
    /// The answers of resolve under the default policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided: Option<Decided>,
    /// FPIR against FNIR. Probes with a wrong first identity are missed at every threshold, so the curve may not reach
    /// 0.
    pub curve: Vec<CurvePoint>,
    /// Best similarities of mated probes with a correct first identity, and of nonmated probes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub histogram: Option<Histogram>,
}

/// FNIR at a maximum FPIR.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AtFpir {
    pub target_fpir: f64,
    pub support: Support,
    /// The lowest threshold with at most the target FPIR on these probes.
    pub threshold: f32,
    pub fpir: Rate,
    pub fnir: Rate,
    /// 1 - FNIR, the detection and identification rate.
    pub dir: f64,
    /// Interval over persons instead of probes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fnir_by_person: Option<Interval>,
}

/// A target FPIR and the observed one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PromisedRate {
    pub target_fpir: f64,
    pub threshold: f32,
    pub fpir: Rate,
    pub fnir: Rate,
}

/// The answers of resolve, with the rates that the policy promises.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decided {
    /// Promised share of nonmated probes that are known.
    pub target_fpir: f64,
    /// Promised share of mated probes that are new.
    pub target_duplicates: f64,
    /// Upper bound of the FPIR that the operating point tells; `None` with too few trials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fpir_upper_bound: Option<f64>,
    pub mated: AnswerRates,
    pub nonmated: AnswerRates,
}

/// Shares of the answers to one kind of probe.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AnswerRates {
    /// With the identity of the probe.
    pub known_right: AnswerRate,
    /// With another identity.
    pub known_wrong: AnswerRate,
    pub new: AnswerRate,
    pub uncertain: AnswerRate,
}

/// The share of an answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AnswerRate {
    #[serde(flatten)]
    pub rate: Rate,
    /// Interval over persons instead of probes.
    pub by_person: Interval,
}

/// The scores of identification.
#[derive(Debug, Clone, Copy)]
struct Searches<'s> {
    mated: &'s [Option<f32>],
    nonmated: &'s [f32],
}

/// Measures open-set identification. A mated probe has the similarity of its identity if it came first, otherwise
/// `None`; a nonmated probe has the highest similarity. `promised` are (target FPIR, threshold).
///
/// # Panics
/// When one kind of probe is missing, or a similarity is not finite.
#[must_use]
pub fn identification(
    mated: &[Option<f32>],
    nonmated: &[f32],
    enrolled: usize,
    promised: &[(f64, f32)],
) -> Identification {
    let searches = Searches { mated, nonmated };
    let found: Vec<f32> = mated.iter().copied().flatten().collect();
    // Probes with a wrong first identity are below every threshold.
    let genuine: Vec<f32> = mated.iter().map(|score| score.unwrap_or(f32::MIN)).collect();
    let sorted = Sorted::new(&genuine, nonmated);
    let at_fpir = |target_fpir: f64| {
        let threshold = sorted.threshold_at(target_fpir);
        let (fpir, fnir) = searches.rates(threshold);
        let support = Support::of(target_fpir, nonmated.len());
        AtFpir { target_fpir, support, threshold, fpir, fnir, dir: 1.0 - fnir.rate, fnir_by_person: None }
    };
    let promise = |(target_fpir, threshold): &(f64, f32)| {
        let (fpir, fnir) = searches.rates(*threshold);
        PromisedRate { target_fpir: *target_fpir, threshold: *threshold, fpir, fnir }
    };
    Identification {
        enrolled,
        mated_probes: mated.len(),
        nonmated_probes: nonmated.len(),
        rank_1: found.len() as f64 / mated.len() as f64,
        at_fpir: FPIR_TARGETS.map(at_fpir).into(),
        promised: promised.iter().map(promise).collect(),
        decided: None,
        curve: sorted.curve().into_iter().filter(|point| point.threshold > f32::MIN).collect(),
        histogram: (!found.is_empty()).then(|| Sorted::new(&found, nonmated).histogram()),
    }
}

impl Searches<'_> {
    /// FPIR and FNIR.
    fn rates(self, threshold: f32) -> (Rate, Rate) {
        let taken = self.nonmated.iter().filter(|score| **score >= threshold).count();
        let missed = self.mated.iter().filter(|score| score.is_none_or(|score| score < threshold)).count();
        (Rate::of(taken, self.nonmated.len()), Rate::of(missed, self.mated.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identification_by_hand() {
        // Of five mated probes, one has a wrong first identity, and one is below the best nonmated score.
        let mated = [Some(0.9), Some(0.8), Some(0.7), Some(0.4), None];
        let nonmated = [0.5, 0.3, 0.2, 0.1];
        let measured = identification(&mated, &nonmated, 10, &[(0.25, 0.5), (0.5, 0.25)]);
        assert_eq!((measured.mated_probes, measured.nonmated_probes, measured.rank_1), (5, 4, 0.8));
        let at = &measured.at_fpir[0];
        assert_eq!((at.fpir.errors, at.fnir.errors), (0, 2), "{at:?}");
        assert!((at.dir - 0.6).abs() < 1e-12 && at.threshold.to_bits() == 0.5_f32.next_up().to_bits());
        assert_eq!(at.support, Support::TooFewTrials { needed: 300 });
        let [first, second] = &measured.promised[..] else { panic!("{measured:?}") };
        assert_eq!((first.fpir.errors, first.fnir.errors), (1, 2));
        assert_eq!((second.fpir.errors, second.fnir.errors), (2, 1));
        // No threshold identifies a probe with a wrong first identity.
        assert!(measured.curve.iter().all(|point| point.false_negative >= 0.2), "{:?}", measured.curve);
    }

    #[test]
    fn a_gallery_without_correct_answers_is_measured() {
        let measured = identification(&[None, None], &[0.5], 3, &[]);
        assert_eq!((measured.rank_1, measured.at_fpir[0].fnir.rate), (0.0, 1.0));
        assert!(measured.histogram.is_none());
    }
}

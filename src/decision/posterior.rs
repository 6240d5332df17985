//! Thresholds on the posterior of the open-set decider, from a gallery's rehearsal of the whole decision.
//!
//! Similarities of trials depend on the encoder; so do log-odds, less so. A gallery therefore rehearses the decision, and
//! the thresholds are quantiles of its own log-odds: the share `targetFpir` of non-mated trials reaches the threshold for
//! KNOWN, and the share `targetDuplicates` of mated trials stays below the threshold for NEW.

use super::{
    TRIALS_MIN,
    bounds::{self, MARGIN_MIN},
    tail::ParetoTail,
};
use domain::{CalibrationId, MatedLogit, Policy, PosteriorTrials, Reason, ThresholdSource};

/// Number of expected errors among the independent trials up to which the odds of the decider limit the threshold for KNOWN,
/// and from which they no longer count. Between both their part falls evenly.
const ODDS_ALONE: f64 = 1.0;
const TRIALS_ALONE: f64 = 2.0;
/// The part of the odds that counts. At low similarities the odds are too high: below a threshold where the non-mated trials
/// tell 10 % of the mated ones, there are 2 to 5 % of faces and of pedestrians. Chosen on these people
/// (`docs/results/three-way.md`).
const WEIGHTED_PART: f64 = 0.5;
/// With few trials, a share of mated log-odds lies below the odds of this multiple of the share. In larger galleries, the
/// weighted trials give such odds.
const FEW_MULTIPLE: f64 = 4.0;
/// Minimum number of mated trials.
const MATED_TRIALS_MIN: usize = 50;

/// Distributions of the decider's log-odds in one space of one collection.
#[derive(Debug, Clone, PartialEq)]
pub struct PosteriorCalibration {
    /// `None` with too few trials.
    nonmated: Option<ParetoTail>,
    /// Number of independent non-mated trials: trials of one person are not independent.
    independent: f64,
    source: ThresholdSource,
    mated: MatedLogits,
}

/// Log-odds of mated trials.
#[derive(Debug, Clone, PartialEq)]
enum MatedLogits {
    /// Trials by rising log-odds; `is_made_up` if they combine non-mated trials with genuine similarities of the package.
    Trials { by_logit: Vec<MatedLogit>, is_made_up: bool },
    /// Non-mated trials by rising log-odds: for calibrated log-odds l, mated trials have e^l times their density. The odds
    /// of the decider are higher than that at low similarities, see [`WEIGHTED_PART`].
    Weighted(Vec<f64>),
    /// The odds of the decider.
    Odds,
}

/// Thresholds on the posterior, with the expected shares of answers.
#[derive(Debug, Clone, PartialEq)]
pub struct PosteriorThresholds {
    /// KNOWN at or above this posterior probability of being enrolled.
    pub known: f64,
    /// NEW below this.
    pub new: f64,
    pub source: ThresholdSource,
    /// The stored calibration that an operator activated; `None` for an automatic one.
    pub calibration: Option<CalibrationId>,
    /// Number of non-mated trials.
    pub trials: u64,
    /// Upper bound of the FPIR with 95 % confidence; `None` with too few trials.
    pub fpir_upper_bound: Option<f64>,
    pub expected: ExpectedShares,
    /// Reasons reported with every resolve under these thresholds.
    pub reasons: Vec<Reason>,
}

/// Expected shares of answers; `None` without trials of the kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExpectedShares {
    /// Mated probes that are not answered KNOWN with their identity.
    pub fnir: Option<f64>,
    /// Mated probes that are answered UNCERTAIN.
    pub uncertain_mated: Option<f64>,
    /// Non-mated probes that are answered UNCERTAIN.
    pub uncertain_nonmated: Option<f64>,
}

impl PosteriorCalibration {
    /// From the trials of a gallery. The mated side comes from the gallery's own templates, if at least 50 trials have
    /// another image of their identity; else from made-up trials with genuine similarities of the package; else from the
    /// non-mated trials, weighted by their odds.
    #[must_use]
    pub fn from_trials(trials: &PosteriorTrials) -> Self {
        let sorted = |mated: &[MatedLogit]| {
            let mut by_logit = mated.to_vec();
            by_logit.sort_by(|one, other| one.logit.total_cmp(&other.logit));
            by_logit
        };
        let (source, nonmated, people) = if trials.outsiders.len() >= TRIALS_MIN {
            (ThresholdSource::Outsiders, &trials.outsiders, trials.outsiders.len() as u64)
        } else {
            (ThresholdSource::Rehearsal, &trials.nonmated, trials.identities)
        };
        let independent = people.min(nonmated.len() as u64) as f64;
        let nonmated = ParetoTail::fit(nonmated.iter().copied());
        let mated = if trials.mated.len() >= MATED_TRIALS_MIN {
            MatedLogits::Trials { by_logit: sorted(&trials.mated), is_made_up: false }
        } else if trials.made_up.len() >= MATED_TRIALS_MIN {
            MatedLogits::Trials { by_logit: sorted(&trials.made_up), is_made_up: true }
        } else if trials.nonmated.len() >= MATED_TRIALS_MIN {
            let mut weighted: Vec<f64> = trials.nonmated.iter().map(|logit| f64::from(*logit)).collect();
            weighted.sort_by(f64::total_cmp);
            MatedLogits::Weighted(weighted)
        } else {
            MatedLogits::Odds
        };
        Self { nonmated, independent, source, mated }
    }

    /// The thresholds for a policy. `is_stale` says that the gallery has changed too much since the rehearsal.
    #[must_use]
    pub fn thresholds(&self, policy: &Policy, is_stale: bool) -> PosteriorThresholds {
        let independent = if self.nonmated.is_some() { self.independent } else { 0.0 };
        let errors = policy.target_fpir * independent;
        // At equal priors, at most a share 1 / odds of non-mated probes reaches calibrated odds.
        let odds = -log_odds(policy.target_fpir);
        let known = self.nonmated.as_ref().map_or(odds, |tail| {
            let own = tail.threshold(policy.target_fpir, independent);
            let part_of_odds = ((TRIALS_ALONE - errors) / (TRIALS_ALONE - ODDS_ALONE)).clamp(0.0, 1.0);
            own + part_of_odds * (odds - own).max(0.0)
        });
        let new = self.mated.quantile(policy.target_duplicates).min(known);
        let has_trials = self.nonmated.is_some();
        let is_made_up = matches!(self.mated, MatedLogits::Trials { is_made_up: true, .. });
        let all = [
            (Reason::PackageCalibration, is_made_up),
            (Reason::CalibrationStale, is_stale),
            (Reason::Extrapolated, has_trials && errors < 1.0 - TOLERANCE),
            (Reason::Unsupported, errors < bounds::SUPPORT_MIN * (1.0 - TOLERANCE)),
        ];
        let share_between = |tail: &ParetoTail| {
            let reached = |logit: f64| tail.reached(logit) / tail.trials() as f64;
            (reached(new) - reached(known)).max(0.0)
        };
        PosteriorThresholds {
            known: probability(known),
            new: probability(new),
            source: if has_trials { self.source } else { ThresholdSource::None },
            calibration: None,
            trials: self.nonmated.as_ref().map_or(0, |tail| tail.trials() as u64),
            fpir_upper_bound: self.nonmated.as_ref().map(|tail| {
                let errors = tail.reached(known) * independent / tail.trials() as f64;
                bounds::share(errors, independent).upper
            }),
            expected: ExpectedShares {
                fnir: self.mated.share(|mated| !(is_above(mated, known) && mated.margin >= MARGIN_MIN)),
                uncertain_mated: self.mated.share(|mated| {
                    let is_close = mated.margin.abs() < MARGIN_MIN;
                    (!is_above(mated, known) && is_above(mated, new)) || (is_above(mated, known) && is_close)
                }),
                uncertain_nonmated: self.nonmated.as_ref().map(share_between),
            },
            reasons: all.into_iter().filter_map(|(reason, holds)| holds.then_some(reason)).collect(),
        }
    }
}

/// Rounding of products of rates and counts.
const TOLERANCE: f64 = 1e-9;

impl MatedLogits {
    /// Log-odds below which the share `share` of mated trials lies.
    fn quantile(&self, share: f64) -> f64 {
        match self {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
            Self::Trials { by_logit, .. } => {
                let place = (share * by_logit.len() as f64) as usize;
                by_logit[place.min(by_logit.len() - 1)].logit.into()
            }
            Self::Weighted(nonmated) => {
                let mut below = 0.0;
                for logit in nonmated {
                    below += WEIGHTED_PART * logit.exp() / nonmated.len() as f64;
                    if below > share {
                        return *logit;
                    }
                }
                f64::INFINITY
            }
            Self::Odds => log_odds((FEW_MULTIPLE * share).min(0.5)),
        }
    }

    /// Share of the trials; `None` without trials.
    fn share(&self, holds: impl Fn(MatedLogit) -> bool) -> Option<f64> {
        match self {
            Self::Trials { by_logit, .. } => {
                Some(by_logit.iter().filter(|mated| holds(**mated)).count() as f64 / by_logit.len() as f64)
            }
            Self::Weighted(_) | Self::Odds => None,
        }
    }
}

fn is_above(mated: MatedLogit, logit: f64) -> bool {
    f64::from(mated.logit) >= logit
}

fn log_odds(probability: f64) -> f64 {
    (probability / (1.0 - probability)).ln()
}

fn probability(log_odds: f64) -> f64 {
    1.0 / (1.0 + (-log_odds).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Log-odds from -10 to 0 for non-mated trials, and from -2 to 8 for mated ones.
    fn trials(count: u16) -> PosteriorTrials {
        let at = |number: u16| f32::from(number) / f32::from(count) * 10.0;
        PosteriorTrials {
            identities: count.into(),
            nonmated: (0..count).map(|number| at(number) - 10.0).collect(),
            mated: (0..count).map(|number| MatedLogit { logit: at(number) - 2.0, margin: 0.1 }).collect(),
            ..PosteriorTrials::default()
        }
    }

    fn policy(target_fpir: f64, target_duplicates: f64) -> Policy {
        Policy { target_fpir, target_duplicates, ..Policy::default() }
    }

    #[test]
    fn thresholds_are_quantiles_of_the_log_odds() {
        let calibration = PosteriorCalibration::from_trials(&trials(10_000));
        let thresholds = calibration.thresholds(&policy(0.05, 0.1), false);
        // The fitted tail has no end as sharp as that of the trials.
        assert!((log_odds(thresholds.known) + 0.5).abs() < 0.1, "{thresholds:?}");
        assert!((log_odds(thresholds.new) + 1.0).abs() < 0.01, "{thresholds:?}");
        assert_eq!((thresholds.source, thresholds.trials), (ThresholdSource::Rehearsal, 10_000));
        assert!(thresholds.reasons.is_empty(), "{:?}", thresholds.reasons);
        let ExpectedShares { fnir, uncertain_mated, uncertain_nonmated } = thresholds.expected;
        for (found, expected) in [(fnir, 0.145), (uncertain_mated, 0.045), (uncertain_nonmated, 0.045)] {
            assert!((found.expect("trials") - expected).abs() < 0.003, "{found:?} instead of {expected}");
        }
        assert!(thresholds.fpir_upper_bound.is_some_and(|bound| (0.05..0.065).contains(&bound)), "{thresholds:?}");
    }

    #[test]
    fn laxer_rates_never_widen_the_band() {
        let calibration = PosteriorCalibration::from_trials(&trials(1000));
        let rates = [1e-4, 0.001, 0.01, 0.05, 0.2, 0.5];
        for pair in rates.windows(2) {
            for other in rates {
                let (strict, lax) = (policy(pair[0], other), policy(pair[1], other));
                let (strict, lax) = (calibration.thresholds(&strict, false), calibration.thresholds(&lax, false));
                assert!(lax.known <= strict.known && lax.new <= lax.known, "{pair:?} beside {other}");
                assert!(lax.expected.uncertain_mated <= strict.expected.uncertain_mated, "{pair:?} beside {other}");
                let (strict, lax) = (policy(other, pair[0]), policy(other, pair[1]));
                let (strict, lax) = (calibration.thresholds(&strict, false), calibration.thresholds(&lax, false));
                assert!(lax.new >= strict.new && lax.known.to_bits() == strict.known.to_bits(), "{pair:?} {other}");
            }
        }
    }

    #[test]
    fn where_the_rates_leave_no_band_no_answer_is_uncertain() {
        let thresholds = PosteriorCalibration::from_trials(&trials(1000)).thresholds(&policy(0.5, 0.5), false);
        assert_eq!(thresholds.known.to_bits(), thresholds.new.to_bits());
        assert_eq!(thresholds.expected.uncertain_nonmated, Some(0.0));
    }

    #[test]
    fn galleries_with_one_template_per_identity_borrow_the_mates_of_the_package_and_say_so() {
        let own = trials(1000);
        let borrowed = PosteriorTrials { mated: Vec::new(), made_up: own.mated.clone(), ..own.clone() };
        let thresholds = PosteriorCalibration::from_trials(&borrowed).thresholds(&policy(0.05, 0.1), false);
        let expected = PosteriorCalibration::from_trials(&own).thresholds(&policy(0.05, 0.1), false);
        assert_eq!(thresholds.reasons, [Reason::PackageCalibration]);
        assert_eq!(PosteriorThresholds { reasons: Vec::new(), ..thresholds }, expected);
    }

    /// Non-mated trials with density e^-l of the mated ones.
    #[test]
    fn without_mates_the_odds_of_strangers_tell_their_quantile() {
        // Mated log-odds are uniform in -5 to 5; non-mated ones have the density e^-l, up to a constant.
        let total = (5.0_f64).exp() - (-5.0_f64).exp();
        let quantile = |share: f64| -((5.0_f64).exp() - share * total).ln();
        #[expect(clippy::cast_possible_truncation, reason = "log-odds are f32")]
        let nonmated = (0..20_000).map(|number| quantile((f64::from(number) + 0.5) / 20_000.0) as f32).collect();
        let strangers = PosteriorTrials { identities: 20_000, nonmated, ..PosteriorTrials::default() };
        let calibration = PosteriorCalibration::from_trials(&strangers);
        // Calibrated log-odds have a mean of e^l of 1 over strangers; here it is 10 / total.
        let scale = 10.0 / total;
        let thresholds = calibration.thresholds(&policy(1e-6, 0.1 * scale * WEIGHTED_PART), false);
        assert!((log_odds(thresholds.new) + 4.0).abs() < 0.05, "{}", log_odds(thresholds.new));
    }

    #[test]
    fn three_hundred_outsiders_replace_the_nonmated_trials() {
        let own = trials(1000);
        let outsiders: Vec<f32> = own.nonmated.iter().map(|logit| logit + 1.0).collect();
        let few = PosteriorTrials { outsiders: outsiders[..299].to_vec(), ..own.clone() };
        let known = |trials: &PosteriorTrials| {
            let thresholds = PosteriorCalibration::from_trials(trials).thresholds(&policy(0.05, 0.1), false);
            (thresholds.source, log_odds(thresholds.known))
        };
        assert_eq!(known(&few), known(&own), "too few outsiders are ignored");
        let (source, threshold) = known(&PosteriorTrials { outsiders, ..own.clone() });
        assert_eq!(source, ThresholdSource::Outsiders);
        assert!((threshold - known(&own).1 - 1.0).abs() < 1e-3, "{threshold}");
    }

    #[test]
    fn with_few_trials_the_odds_decide_and_are_unsupported() {
        let none = PosteriorCalibration::from_trials(&PosteriorTrials::default());
        let thresholds = none.thresholds(&policy(0.01, 0.05), false);
        assert!((thresholds.known - 0.99).abs() < 1e-12 && (thresholds.new - 0.2).abs() < 1e-12, "{thresholds:?}");
        assert_eq!((thresholds.source, thresholds.trials), (ThresholdSource::None, 0));
        assert_eq!(thresholds.reasons, [Reason::Unsupported]);
        let stale = none.thresholds(&policy(0.01, 0.05), true);
        assert_eq!(stale.reasons, [Reason::CalibrationStale, Reason::Unsupported]);
    }
}

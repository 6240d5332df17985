//! How similar strangers and acquaintances are, and the thresholds that follow.

use serde::{Deserialize, Serialize};

use super::{table::Table, tail::Tail};
use crate::domain::{OperatingPoint, PackageCalibration, Policy, Reason, Rehearsal, Similarity, ThresholdSource};

/// Fewer non-mated trials than this show nothing at the rates that people ask for.
pub const TRIALS_MIN: usize = 300;
/// Fewer mated trials than this leave the genuine 2 % quantile to a single person's bad day.
const MATED_TRIALS_MIN: usize = 50;
/// NEW is said of what only this share of acquaintances would fall below.
const GENUINE_MISS_SHARE: f64 = 0.02;
/// A rehearsal is stale once the gallery has grown or shrunk by more than this share.
const STALE_SHARE: f64 = 0.2;
/// A gallery that rehearses itself underestimates its far tail, by 1.4 to 3 times in simulated worlds; half the rate is
/// asked for where no trial can tell.
const TAIL_SAFETY: f64 = 2.0;

/// What thresholds are computed from, for one embedding space of one collection.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    strangers: Strangers,
    genuine: Option<Genuine>,
}

#[derive(Debug, Clone, PartialEq)]
enum Strangers {
    /// Trials of the gallery against itself, made when it held so many identities.
    Rehearsed { identities: u64, nonmated: Tail, impostor: Tail },
    /// A package's impostor pairs.
    Packaged { pairs: u64, impostor: Table },
}

#[derive(Debug, Clone, PartialEq)]
enum Genuine {
    /// Least similar first.
    Trials(Vec<f64>),
    Table(Table),
}

/// The operating point in force, and what to keep in mind with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    pub point: OperatingPoint,
    /// What holds for every resolve under these terms.
    pub resolve_reasons: Vec<Reason>,
    /// What holds for every verification under these terms.
    pub verify_reasons: Vec<Reason>,
}

/// A threshold and whether it lies beyond what was seen.
struct Threshold {
    similarity: f64,
    extrapolated: bool,
}

impl Calibration {
    /// From a gallery's rehearsal; where it has too few mated trials, the package's genuine pairs stand in. `None` below
    /// [`TRIALS_MIN`] non-mated or impostor trials.
    pub fn from_rehearsal(rehearsal: &Rehearsal, package: Option<&PackageCalibration>) -> Option<Self> {
        if rehearsal.nonmated_best.len().min(rehearsal.impostor.len()) < TRIALS_MIN {
            return None;
        }
        let tail = |trials: &[Similarity]| Tail::fit(trials.iter().map(|s| s.0));
        Some(Self {
            strangers: Strangers::Rehearsed {
                identities: rehearsal.identities,
                nonmated: tail(&rehearsal.nonmated_best)?,
                impostor: tail(&rehearsal.impostor)?,
            },
            genuine: Genuine::of_trials(&rehearsal.mated_best).or_else(|| Genuine::of_package(package?)),
        })
    }

    /// From what a model package knows; `None` when its impostor table has less than two rows.
    pub fn from_package(package: &PackageCalibration) -> Option<Self> {
        Some(Self {
            strangers: Strangers::Packaged { pairs: package.impostor_pairs, impostor: Table::new(&package.impostor)? },
            genuine: Genuine::of_package(package),
        })
    }

    /// The thresholds for a policy in a gallery of so many identities.
    pub fn terms(&self, policy: Policy, gallery_identities: u64) -> Terms {
        let known = self.strangers.threshold_known(policy.target_fpir, gallery_identities);
        let verify = self.strangers.threshold_verify(policy.target_fmr);
        let threshold_known = limited(known.similarity);
        // Without any knowledge of acquaintances there is no telling which of those below the threshold are
        // doubtful. A band that is made up would either stop all enrollment or stop nothing; the operator's error
        // rate holds without one.
        let genuine_floor = self.genuine.as_ref().map_or(known.similarity, |g| g.quantile(GENUINE_MISS_SHARE));
        Terms {
            point: OperatingPoint {
                target_fpir: policy.target_fpir,
                target_fmr: policy.target_fmr,
                threshold_known: Some(threshold_known),
                threshold_new: Some(limited(genuine_floor.min(known.similarity))),
                threshold_verify: Some(limited(verify.similarity)),
                expected_fnir: self.genuine.as_ref().map(|g| g.share_below(threshold_known.0.into())),
                source: self.strangers.source(),
                trials: self.strangers.trials(),
                gallery_identities,
            },
            resolve_reasons: self.strangers.reasons(&known, self.strangers.is_stale(gallery_identities)),
            verify_reasons: self.strangers.reasons(&verify, false),
        }
    }
}

impl Terms {
    /// Where neither the gallery nor a package knows anything.
    pub fn uncalibrated(policy: Policy, gallery_identities: u64) -> Self {
        Self {
            point: OperatingPoint {
                target_fpir: policy.target_fpir,
                target_fmr: policy.target_fmr,
                threshold_known: None,
                threshold_new: None,
                threshold_verify: None,
                expected_fnir: None,
                source: ThresholdSource::None,
                trials: 0,
                gallery_identities,
            },
            resolve_reasons: vec![Reason::NoCalibration],
            verify_reasons: vec![Reason::NoCalibration],
        }
    }
}

impl Strangers {
    /// The similarity that a share `fpir` of strangers reaches with anybody.
    ///
    /// With N identities that strangers resemble independently, FPIR = 1 - (1 - FMR)^N. A package's FMR is read at the
    /// one that belongs to N; a rehearsal at another size is read at the share that belongs to its own.
    fn threshold_known(&self, fpir: f64, identities: u64) -> Threshold {
        let identities = identities.max(1) as f64;
        match self {
            Self::Rehearsed { identities: rehearsed, nonmated, .. } => {
                reach(nonmated, share_of_power(fpir, *rehearsed as f64 / identities))
            }
            Self::Packaged { impostor, .. } => read(impostor, share_of_power(fpir, 1.0 / identities)),
        }
    }

    /// The similarity that a share `fmr` of impostors reaches with the one person they claim to be.
    fn threshold_verify(&self, fmr: f64) -> Threshold {
        match self {
            Self::Rehearsed { impostor, .. } => reach(impostor, fmr),
            Self::Packaged { impostor, .. } => read(impostor, fmr),
        }
    }

    fn is_stale(&self, identities: u64) -> bool {
        match self {
            Self::Rehearsed { identities: rehearsed, .. } => {
                identities.abs_diff(*rehearsed) as f64 > STALE_SHARE * *rehearsed as f64
            }
            Self::Packaged { .. } => false,
        }
    }

    fn trials(&self) -> u64 {
        match self {
            Self::Rehearsed { nonmated, .. } => nonmated.trials() as u64,
            Self::Packaged { pairs, .. } => *pairs,
        }
    }

    fn source(&self) -> ThresholdSource {
        match self {
            Self::Rehearsed { .. } => ThresholdSource::Rehearsal,
            Self::Packaged { .. } => ThresholdSource::Package,
        }
    }

    fn reasons(&self, threshold: &Threshold, stale: bool) -> Vec<Reason> {
        let packaged = matches!(self, Self::Packaged { .. });
        let all = [
            (Reason::PackageCalibration, packaged),
            (Reason::CalibrationStale, stale),
            (Reason::Extrapolated, threshold.extrapolated),
        ];
        all.into_iter().filter_map(|(reason, holds)| holds.then_some(reason)).collect()
    }
}

impl Genuine {
    fn of_trials(mated_best: &[Similarity]) -> Option<Self> {
        let mut trials: Vec<f64> = mated_best.iter().map(|s| s.0.into()).collect();
        trials.sort_by(f64::total_cmp);
        (trials.len() >= MATED_TRIALS_MIN).then_some(Self::Trials(trials))
    }

    fn of_package(package: &PackageCalibration) -> Option<Self> {
        Table::new(&package.genuine).map(Self::Table)
    }

    /// The similarity that a share of acquaintances stays below.
    fn quantile(&self, share: f64) -> f64 {
        match self {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
            Self::Trials(trials) => trials[(share * trials.len() as f64) as usize],
            Self::Table(table) => table.similarity_at(share),
        }
    }

    fn share_below(&self, similarity: f64) -> f64 {
        match self {
            Self::Trials(trials) => trials.partition_point(|t| *t < similarity) as f64 / trials.len() as f64,
            Self::Table(table) => table.rate_below(similarity),
        }
    }
}

/// 1 - (1 - share)^power, exact for tiny shares.
fn share_of_power(share: f64, power: f64) -> f64 {
    -(power * (-share).ln_1p()).exp_m1()
}

fn reach(tail: &Tail, rate: f64) -> Threshold {
    let extrapolated = rate * (tail.trials() as f64) < 1.0;
    let rate = if extrapolated { rate / TAIL_SAFETY } else { rate };
    Threshold { similarity: tail.similarity_at(rate), extrapolated }
}

fn read(table: &Table, rate: f64) -> Threshold {
    // A hair of slack, because the lowest rate itself comes back from its logarithm.
    Threshold { similarity: table.similarity_at(rate), extrapolated: rate < table.rate_min() * (1.0 - 1e-9) }
}

#[expect(clippy::cast_possible_truncation, reason = "similarities are f32")]
fn limited(similarity: f64) -> Similarity {
    Similarity(similarity.clamp(-1.0, 1.0) as f32)
}

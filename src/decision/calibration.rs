//! How similar strangers and acquaintances are, and the thresholds that follow.

use serde::{Deserialize, Serialize};

use super::{bounds, llr::Llr, table::Table, tail::Tail};
use domain::{
    IntervalEstimate, OperatingPoint, PackageCalibration, Policy, Reason, Rehearsal, ReviewedSimilarities, Similarity,
    StoredCalibration, ThresholdSource, has_moved,
};

/// Fewer non-mated trials than this show nothing at the rates that people ask for.
pub const TRIALS_MIN: usize = 300;
/// Fewer mated trials than this leave the genuine 2 % quantile to a single person's bad day.
const MATED_TRIALS_MIN: usize = 50;
/// NEW is said of what only this share of acquaintances would fall below.
const GENUINE_MISS_SHARE: f64 = 0.02;
/// From this share of strangers on, how many of them reach a similarity with somebody says nothing of one identity.
const BULK: f64 = 0.9;
/// So many pairs stand for a package's table.
const QUANTILES: u32 = 400;

/// What thresholds are computed from, for one embedding space of one collection.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    pub(super) strangers: Strangers,
    pub(super) genuine: Option<Genuine>,
    pub(super) llr: Option<Llr>,
    /// What [`Calibration::weigh`] goes by: the same, or one in which a package's pairs stand in for trials.
    pub(super) line: Option<Llr>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Strangers {
    /// Trials against a gallery that held so many identities.
    Tried { source: ThresholdSource, identities: u64, nonmated: Trials, impostor: Option<Trials> },
    /// A package's impostor pairs.
    Packaged { pairs: u64, impostor: Table },
}

/// Trials of which only so many are independent: those of one person are not.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Trials {
    tail: Tail,
    independent: f64,
    /// How many other identities each was tried against.
    others: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Genuine {
    /// Least similar first, and how many of them are independent.
    Trials(Vec<f64>, f64),
    /// A package's, and how many pairs it was made of.
    Table(Table, f64),
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

/// A threshold and how far the trials carry it.
pub(super) struct Threshold {
    pub(super) similarity: f64,
    /// Less than one error is to be expected among the trials.
    pub(super) extrapolated: bool,
    /// Less than three are: not even trials without one would show that the promise holds.
    pub(super) unsupported: bool,
}

impl Calibration {
    /// From a gallery's rehearsal; where it has too few mated trials, the package's genuine pairs stand in. `None` below
    /// [`TRIALS_MIN`] non-mated or impostor trials.
    pub fn from_rehearsal(rehearsal: &Rehearsal, package: Option<&PackageCalibration>) -> Option<Self> {
        Self::from_trials(rehearsal, &[], package)
    }

    /// From what was kept. `None` as with [`Calibration::from_trials`].
    pub fn from_kept(kept: &StoredCalibration, package: Option<&PackageCalibration>) -> Option<Self> {
        Self::from_trials(&kept.rehearsal, &kept.outsiders, package)
    }

    /// The same with a cohort of people who are not enrolled: the highest similarity that each reached with anybody. From
    /// [`TRIALS_MIN`] of them on they speak for strangers instead of the rehearsal; fewer are passed over. `None` where there
    /// are too few of both.
    pub fn from_trials(
        rehearsal: &Rehearsal,
        outsiders: &[Similarity],
        package: Option<&PackageCalibration>,
    ) -> Option<Self> {
        let enough = |trials: &[Similarity]| trials.len() >= TRIALS_MIN;
        let people = rehearsal.identities;
        let impostor = enough(&rehearsal.impostor).then(|| Trials::of(&rehearsal.impostor, people, 1)).flatten();
        let (source, nonmated) = if enough(outsiders) {
            (ThresholdSource::Outsiders, Trials::of(outsiders, outsiders.len() as u64, people)?)
        } else if enough(&rehearsal.nonmated_best) && impostor.is_some() {
            // Whoever is tried was taken out of the gallery.
            (ThresholdSource::Rehearsal, Trials::of(&rehearsal.nonmated_best, people, people.saturating_sub(1))?)
        } else {
            return None;
        };
        let values = |trials: &[Similarity]| trials.iter().map(|s| s.0.into()).collect::<Vec<f64>>();
        let ReviewedSimilarities { right, wrong } = &rehearsal.reviewed;
        let impostors = values(&rehearsal.impostor);
        let llr = Llr::fit(&values(&rehearsal.mated_best), &impostors);
        let llr = llr.map(|llr| llr.taught(&values(right), &values(wrong)));
        let packaged = || Llr::fit(&quantiles(&Table::new(&package?.genuine)?), &impostors);
        Some(Self {
            strangers: Strangers::Tried { source, identities: people, nonmated, impostor },
            genuine: Genuine::of_trials(&rehearsal.mated_best, people).or_else(|| Genuine::of_package(package?)),
            llr,
            line: llr.or_else(packaged),
        })
    }

    /// From what a model package knows; `None` when its impostor table has less than two rows.
    pub fn from_package(package: &PackageCalibration) -> Option<Self> {
        let impostor = Table::new(&package.impostor)?;
        let genuine = Table::new(&package.genuine);
        let line = genuine.and_then(|genuine| Llr::fit(&quantiles(&genuine), &quantiles(&impostor)));
        Some(Self {
            strangers: Strangers::Packaged { pairs: package.impostor_pairs, impostor },
            genuine: Genuine::of_package(package),
            llr: None,
            line,
        })
    }

    /// Who spoke for strangers.
    #[must_use]
    pub fn source(&self) -> ThresholdSource {
        self.strangers.source()
    }

    /// How many strangers were tried, or pairs of a package.
    #[must_use]
    pub fn trials(&self) -> u64 {
        self.strangers.trials()
    }

    /// What a similarity between a probe and one identity is worth as evidence; `None` where trials are too few.
    #[must_use]
    pub fn llr(&self) -> Option<Llr> {
        self.llr
    }

    /// The log-likelihood ratio of a similarity, to be added to those of other modalities. `None` where neither trials nor a
    /// package know acquaintances.
    ///
    /// The straight line of [`Calibration::llr`], and at most minus ln of the share of impostors that are as similar or more:
    /// nothing that a share p of impostors reach can speak for an identity by more than 1 : p. That share is read off trials
    /// against the whole gallery, which see far more impostors than trials one by one. So evidence of one modality alone is
    /// strong enough for KNOWN about where its similarity reaches that threshold.
    #[must_use]
    pub fn weigh(&self, similarity: Similarity) -> Option<f64> {
        let similarity = similarity.0.into();
        self.line.map(|line| line.at_most(similarity, self.strangers.carried(similarity)))
    }

    /// The most that any similarity is worth. `None` as with [`Calibration::weigh`].
    #[must_use]
    pub fn weight_max(&self) -> Option<f64> {
        self.weigh(Similarity(1.0))
    }

    /// The thresholds for a policy in a gallery of so many identities.
    pub fn terms(&self, policy: Policy, gallery_identities: u64) -> Terms {
        let known = self.strangers.threshold_known(policy.target_fpir, gallery_identities);
        let verify = self.strangers.threshold_verify(policy.target_fmr);
        let threshold_known = limited(known.similarity);
        // Without any knowledge of acquaintances there is no telling which of those below the threshold are
        // doubtful. A band that is made up would either stop all enrollment or stop nothing; the operator's error
        // rate holds without one.
        let genuine_floor =
            self.genuine.as_ref().map_or(known.similarity, |g| g.floor(policy.max_uncertain, threshold_known));
        Terms {
            point: OperatingPoint {
                target_fpir: policy.target_fpir,
                target_fmr: policy.target_fmr,
                threshold_known: Some(threshold_known),
                threshold_new: Some(limited(genuine_floor.min(known.similarity))),
                threshold_verify: Some(limited(verify.similarity)),
                evidence_known: None,
                evidence_new: None,
                evidence_verify: None,
                expected_fnir: self.genuine.as_ref().map(|g| g.share_below(threshold_known.0.into())),
                fpir_upper_bound: Some(self.strangers.fpir(threshold_known.0.into(), gallery_identities).upper),
                source: self.strangers.source(),
                calibration: None,
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
                evidence_known: None,
                evidence_new: None,
                evidence_verify: None,
                expected_fnir: None,
                fpir_upper_bound: None,
                source: ThresholdSource::None,
                calibration: None,
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
    /// one that belongs to N; trials against a gallery of another size are read at the share that belongs to its own.
    pub(super) fn threshold_known(&self, fpir: f64, identities: u64) -> Threshold {
        let identities = identities.max(1) as f64;
        match self {
            Self::Tried { nonmated, .. } => nonmated.reach(share_of_power(fpir, nonmated.others / identities)),
            Self::Packaged { pairs, impostor } => read(impostor, share_of_power(fpir, 1.0 / identities), *pairs),
        }
    }

    /// The similarity that a share `fmr` of impostors reaches with the one person they claim to be. Where no impostor was
    /// tried, it follows from the strangers, as above with one identity.
    pub(super) fn threshold_verify(&self, fmr: f64) -> Threshold {
        match self {
            Self::Tried { impostor: Some(impostor), .. } => impostor.reach(fmr),
            Self::Tried { nonmated, .. } => nonmated.reach(share_of_power(fmr, nonmated.others)),
            Self::Packaged { pairs, impostor } => read(impostor, fmr, *pairs),
        }
    }

    /// The share of strangers that reach the similarity with anybody of so many identities.
    pub(super) fn fpir(&self, similarity: f64, identities: u64) -> IntervalEstimate {
        let identities = identities.max(1) as f64;
        match self {
            Self::Tried { nonmated, .. } => {
                bounds::map(nonmated.share(similarity), |share| share_of_power(share, identities / nonmated.others))
            }
            Self::Packaged { .. } => bounds::map(self.fmr(similarity), |share| share_of_power(share, identities)),
        }
    }

    /// The share of impostors that reach the similarity with one identity.
    pub(super) fn fmr(&self, similarity: f64) -> IntervalEstimate {
        match self {
            Self::Tried { impostor: Some(impostor), .. } => impostor.share(similarity),
            Self::Tried { nonmated, .. } => {
                bounds::map(nonmated.share(similarity), |share| share_of_power(share, 1.0 / nonmated.others))
            }
            Self::Packaged { pairs, impostor } => {
                let (rate, pairs) = (impostor.rate_above(similarity), *pairs as f64);
                // Less than half an error among the pairs is none.
                let errors = if rate * pairs < 0.5 { 0.0 } else { rate * pairs };
                within(rate, bounds::share(errors, pairs))
            }
        }
    }

    /// The most that a similarity can be worth; never falls when it rises.
    fn carried(&self, similarity: f64) -> f64 {
        match self {
            Self::Tried { nonmated, .. } => {
                let seen = nonmated.share(similarity).value;
                let against_all = -share_of_power(seen.min(BULK), 1.0 / nonmated.others).ln();
                // Where about everybody reaches it with somebody, only trials one by one tell what it is worth.
                let one_by_one = if seen > BULK { -self.fmr(similarity).value.ln() } else { f64::INFINITY };
                against_all.min(one_by_one).min((nonmated.independent * nonmated.others + 1.0).ln())
            }
            Self::Packaged { pairs, .. } => -self.fmr(similarity).value.max(1.0 / (*pairs as f64 + 1.0)).ln(),
        }
    }

    fn is_stale(&self, identities: u64) -> bool {
        match self {
            Self::Tried { identities: before, .. } => has_moved(*before, identities),
            Self::Packaged { .. } => false,
        }
    }

    fn trials(&self) -> u64 {
        match self {
            Self::Tried { nonmated, .. } => nonmated.tail.trials() as u64,
            Self::Packaged { pairs, .. } => *pairs,
        }
    }

    pub(super) fn source(&self) -> ThresholdSource {
        match self {
            Self::Tried { source, .. } => *source,
            Self::Packaged { .. } => ThresholdSource::Package,
        }
    }

    pub(super) fn reasons(&self, threshold: &Threshold, stale: bool) -> Vec<Reason> {
        let packaged = matches!(self, Self::Packaged { .. });
        let all = [
            (Reason::PackageCalibration, packaged),
            (Reason::CalibrationStale, stale),
            (Reason::Extrapolated, threshold.extrapolated),
            (Reason::Unsupported, threshold.unsupported),
        ];
        all.into_iter().filter_map(|(reason, holds)| holds.then_some(reason)).collect()
    }
}

impl Trials {
    /// `people` took part, each against `others`.
    fn of(similarities: &[Similarity], people: u64, others: u64) -> Option<Self> {
        let independent = people.min(similarities.len() as u64).max(1) as f64;
        Some(Self { tail: Tail::fit(similarities.iter().map(|s| s.0))?, independent, others: others.max(1) as f64 })
    }

    fn reach(&self, rate: f64) -> Threshold {
        Threshold {
            similarity: self.tail.threshold(rate, self.independent),
            ..Threshold::carried(rate * self.independent)
        }
    }

    /// The share that reaches the similarity: by the fitted tail, within what counting allows.
    fn share(&self, similarity: f64) -> IntervalEstimate {
        let errors = self.tail.reached(similarity) * self.independent / self.tail.trials() as f64;
        within(self.tail.rate_at(similarity), bounds::share(errors, self.independent))
    }
}

impl Threshold {
    /// What can be said where so many errors are to be expected among the trials.
    fn carried(errors: f64) -> Self {
        // A hair of slack, because rates come back from their logarithms.
        let below = |least: f64| errors < least * (1.0 - 1e-9);
        Self { similarity: 1.0, extrapolated: below(1.0), unsupported: below(bounds::SUPPORT_MIN) }
    }
}

impl Genuine {
    fn of_trials(mated_best: &[Similarity], people: u64) -> Option<Self> {
        let mut trials: Vec<f64> = mated_best.iter().map(|s| s.0.into()).collect();
        trials.sort_by(f64::total_cmp);
        let independent = people.min(trials.len() as u64).max(1) as f64;
        (trials.len() >= MATED_TRIALS_MIN).then_some(Self::Trials(trials, independent))
    }

    fn of_package(package: &PackageCalibration) -> Option<Self> {
        Table::new(&package.genuine).map(|table| Self::Table(table, package.genuine_pairs as f64))
    }

    /// Below this it is said of nobody that he may be an acquaintance: 2 % of acquaintances are, or as many more as it takes to
    /// leave at most `max_uncertain` of all between here and `known`.
    fn floor(&self, max_uncertain: Option<f64>, known: Similarity) -> f64 {
        let floor = self.quantile(GENUINE_MISS_SHARE);
        let spared = max_uncertain.map(|most| self.quantile_above(self.share_below(known.0.into()) - most));
        spared.unwrap_or(floor).max(floor)
    }

    /// The similarity that a share of acquaintances stays below.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        match self {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
            Self::Trials(trials, _) => trials[(share * trials.len() as f64) as usize],
            Self::Table(table, _) => table.similarity_at(share),
        }
    }

    /// The lowest similarity that at least a share of acquaintances stays below, however many are just as similar.
    fn quantile_above(&self, share: f64) -> f64 {
        if share <= 0.0 {
            return -1.0;
        }
        match self {
            Self::Trials(trials, _) => {
                // A hair less, because the share is a difference of two that were whole counts.
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
                let below = (share * trials.len() as f64 - 1e-6).ceil() as usize;
                below.checked_sub(1).map_or(-1.0, |last| narrow(trials[last]).next_up().into())
            }
            Self::Table(table, _) => table.similarity_at(share),
        }
    }

    pub(super) fn share_below(&self, similarity: f64) -> f64 {
        match self {
            Self::Trials(trials, _) => trials.partition_point(|t| *t < similarity) as f64 / trials.len() as f64,
            Self::Table(table, _) => table.rate_below(similarity),
        }
    }

    /// The same with its bounds.
    pub(super) fn missed(&self, similarity: f64) -> IntervalEstimate {
        let (Self::Trials(_, independent) | Self::Table(_, independent)) = self;
        let share = self.share_below(similarity);
        within(share, bounds::share(share * independent, *independent))
    }
}

/// The similarities of equally many pairs between any two, as a table of shares has them.
fn quantiles(table: &Table) -> Vec<f64> {
    let middle = |number: u32| table.similarity_at((f64::from(number) + 0.5) / f64::from(QUANTILES));
    (0..QUANTILES).map(|number| middle(number).clamp(-1.0, 1.0)).collect()
}

/// 1 - (1 - share)^power, exact for tiny shares.
fn share_of_power(share: f64, power: f64) -> f64 {
    -(power * (-share).ln_1p()).exp_m1()
}

/// A value by a better estimate than counting, within the bounds that counting gives.
fn within(value: f64, bounds: IntervalEstimate) -> IntervalEstimate {
    IntervalEstimate { value: value.clamp(bounds.lower, bounds.upper), ..bounds }
}

fn read(table: &Table, rate: f64, pairs: u64) -> Threshold {
    let carried = Threshold::carried(rate * pairs as f64);
    // A hair of slack, because the lowest rate itself comes back from its logarithm.
    let extrapolated = rate < table.rate_min() * (1.0 - 1e-9);
    Threshold { similarity: table.similarity_at(rate), extrapolated, ..carried }
}

pub(super) fn limited(similarity: f64) -> Similarity {
    Similarity(narrow(similarity.clamp(-1.0, 1.0)))
}

#[expect(clippy::cast_possible_truncation, reason = "similarities are f32")]
fn narrow(similarity: f64) -> f32 {
    similarity as f32
}

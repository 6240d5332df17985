//! Calibration: distributions of mated and non-mated similarities, and the thresholds that follow from them.

use serde::{Deserialize, Serialize};

use super::{bounds, llr::Llr, posterior::PosteriorThresholds, table::RateTable, tail::ParetoTail};
use domain::{
    IntervalEstimate, OperatingPoint, PackageCalibration, Policy, Reason, Rehearsal, ReviewedSimilarities, Similarity,
    StoredCalibration, ThresholdSource, has_moved,
};

/// Minimum number of non-mated trials. Fewer prove nothing at the error rates that operators ask for.
pub const TRIALS_MIN: usize = 300;
/// Minimum number of identities from which the posterior decides although a model package states thresholds: below, a
/// rehearsal says less than the pairs of the package. Measured on faces and pedestrians (`docs/results/three-way.md`).
const REHEARSED_IDENTITIES_MIN: u64 = 50;
/// Minimum number of mated trials. With fewer, their 2 % quantile depends on a single sample.
const MATED_TRIALS_MIN: usize = 50;
/// Share of non-mated probes from which the rate against the whole gallery says nothing about a single identity.
const BULK: f64 = 0.9;
/// Number of quantiles that represent a package's table of pairs.
const QUANTILES: u32 = 400;

/// Distributions of similarities for one embedding space of one collection.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    pub(super) nonmated_scores: NonmatedScores,
    pub(super) mated: Option<MatedScores>,
    pub(super) llr: Option<Llr>,
    /// The line that [`Calibration::log_likelihood_ratio`] uses: `llr`, or one fitted with a package's pairs as mated
    /// trials.
    pub(super) line: Option<Llr>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum NonmatedScores {
    /// TailTrials against a gallery of `identities` identities.
    Trials { source: ThresholdSource, identities: u64, nonmated: TailTrials, impostor: Option<TailTrials> },
    /// Impostor pairs of a model package.
    Package { pairs: u64, impostor: RateTable },
}

/// Similarities of trials, of which only some are independent: trials of one person are not.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TailTrials {
    tail: ParetoTail,
    independent: f64,
    /// Number of identities that each probe was compared with.
    others: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum MatedScores {
    /// Similarities, ascending, and the number of independent ones.
    Trials(Vec<f64>, f64),
    /// Table of a model package, and its number of pairs.
    Table(RateTable, f64),
}

/// The thresholds in force, with the reasons that answers must report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    pub point: OperatingPoint,
    /// Reasons reported with every resolve under these thresholds.
    pub resolve_reasons: Vec<Reason>,
    /// Reasons reported with every verification under these thresholds.
    pub verify_reasons: Vec<Reason>,
}

/// A threshold, and whether the trials support it.
pub(super) struct Threshold {
    pub(super) similarity: f64,
    /// Less than one error is expected among the trials.
    pub(super) extrapolated: bool,
    /// Less than three errors are expected: not even trials without an error would prove the rate.
    pub(super) unsupported: bool,
}

impl Calibration {
    /// From a gallery's rehearsal. With too few mated trials, the package's mated pairs are used instead. `None`
    /// below [`TRIALS_MIN`] non-mated or impostor trials.
    pub fn from_rehearsal(rehearsal: &Rehearsal, package: Option<&PackageCalibration>) -> Option<Self> {
        Self::from_trials(rehearsal, &[], package)
    }

    /// From a stored calibration. `None` as with [`Calibration::from_trials`].
    pub fn from_kept(kept: &StoredCalibration, package: Option<&PackageCalibration>) -> Option<Self> {
        Self::from_trials(&kept.rehearsal, &kept.outsiders, package)
    }

    /// From a rehearsal and `outsiders`: the highest similarity of each person of a non-enrolled cohort. At least
    /// [`TRIALS_MIN`] outsiders replace the rehearsal's non-mated trials; fewer are ignored. `None` when both are too
    /// few.
    pub fn from_trials(
        rehearsal: &Rehearsal,
        outsiders: &[Similarity],
        package: Option<&PackageCalibration>,
    ) -> Option<Self> {
        let enough = |trials: &[Similarity]| trials.len() >= TRIALS_MIN;
        let people = rehearsal.identities;
        let impostor = TailTrials::of_impostors(&rehearsal.impostor, rehearsal.impostor_independent)
            .filter(|_| enough(&rehearsal.impostor));
        let (source, nonmated) = if enough(outsiders) {
            (ThresholdSource::Outsiders, TailTrials::of(outsiders, outsiders.len() as u64, people)?)
        } else if enough(&rehearsal.nonmated_best) && impostor.is_some() {
            // The probe's own identity is not compared.
            (ThresholdSource::Rehearsal, TailTrials::of(&rehearsal.nonmated_best, people, people.saturating_sub(1))?)
        } else {
            return None;
        };
        let values = |trials: &[Similarity]| trials.iter().map(|s| s.0.into()).collect::<Vec<f64>>();
        let ReviewedSimilarities { right, wrong } = &rehearsal.reviewed;
        // One per probe, as there is one mated trial per probe.
        let mut impostors = values(&rehearsal.impostor);
        impostors.truncate(rehearsal.mated_best.len().max(TRIALS_MIN));
        let llr = Llr::fit(&values(&rehearsal.mated_best), &impostors);
        let llr = llr.map(|llr| llr.with_verdicts(&values(right), &values(wrong)));
        let packaged = || Llr::fit(&quantiles(&RateTable::new(&package?.genuine)?), &impostors);
        Some(Self {
            nonmated_scores: NonmatedScores::Trials { source, identities: people, nonmated, impostor },
            mated: MatedScores::of_trials(&rehearsal.mated_best, people).or_else(|| MatedScores::of_package(package?)),
            llr,
            line: llr.or_else(packaged),
        })
    }

    /// From the tables of a model package; `None` when its impostor table has fewer than two rows.
    pub fn from_package(package: &PackageCalibration) -> Option<Self> {
        let impostor = RateTable::new(&package.impostor)?;
        let mated = RateTable::new(&package.genuine);
        let line = mated.and_then(|mated| Llr::fit(&quantiles(&mated), &quantiles(&impostor)));
        Some(Self {
            nonmated_scores: NonmatedScores::Package { pairs: package.impostor_pairs, impostor },
            mated: MatedScores::of_package(package),
            llr: None,
            line,
        })
    }

    /// Source of the non-mated distribution.
    #[must_use]
    pub fn source(&self) -> ThresholdSource {
        self.nonmated_scores.source()
    }

    /// Number of non-mated trials, or of the package's impostor pairs.
    #[must_use]
    pub fn trials(&self) -> u64 {
        self.nonmated_scores.trials()
    }

    /// Log-likelihood ratio fitted to trials; `None` with too few trials.
    #[must_use]
    pub fn llr(&self) -> Option<Llr> {
        self.llr
    }

    /// Natural log-likelihood ratio of a similarity, to be added to those of other modalities. `None` when neither
    /// trials nor a package give mated similarities.
    ///
    /// The fitted line of [`Calibration::llr`], limited to -ln(p), where p is the share of impostors with at least this
    /// similarity: what a share p of impostors reaches cannot be stronger evidence than 1 : p. p comes from trials
    /// against the whole gallery, which cover far more impostors than single comparisons. Thus evidence of one modality
    /// alone is strong enough for KNOWN near its similarity threshold.
    #[must_use]
    pub fn log_likelihood_ratio(&self, similarity: Similarity) -> Option<f64> {
        let similarity = similarity.0.into();
        self.line.map(|line| line.at_most(similarity, self.nonmated_scores.ratio_max(similarity)))
    }

    /// Maximum log-likelihood ratio of any similarity. `None` as with [`Calibration::log_likelihood_ratio`].
    #[must_use]
    pub fn log_likelihood_ratio_max(&self) -> Option<f64> {
        self.log_likelihood_ratio(Similarity(1.0))
    }

    /// The thresholds for a policy and a gallery of `gallery_identities` identities.
    pub fn thresholds(&self, policy: Policy, gallery_identities: u64) -> Thresholds {
        let known = self.nonmated_scores.threshold_known(policy.target_fpir, gallery_identities);
        let verify = self.nonmated_scores.threshold_verify(policy.target_fmr);
        let threshold_known = limited(known.similarity);
        // Without mated similarities there is no basis for a band of UNCERTAIN answers. An invented band would stop all
        // enrollments or none; the operator's error rate holds without one.
        let genuine_floor =
            self.mated.as_ref().map_or(known.similarity, |mated| mated.quantile(policy.target_duplicates));
        let threshold_new = limited(genuine_floor.min(known.similarity));
        let missed = |threshold: Similarity| self.mated.as_ref().map(|mated| mated.share_below(threshold.0.into()));
        let fpir = |threshold: Similarity| self.nonmated_scores.fpir(threshold.0.into(), gallery_identities);
        Thresholds {
            point: OperatingPoint {
                threshold_known: Some(threshold_known),
                threshold_new: Some(threshold_new),
                threshold_verify: Some(limited(verify.similarity)),
                expected_fnir: missed(threshold_known),
                expected_uncertain_mated: missed(threshold_known)
                    .zip(missed(threshold_new))
                    .map(|(below_known, below_new)| (below_known - below_new).max(0.0)),
                expected_uncertain_nonmated: Some((fpir(threshold_new).value - fpir(threshold_known).value).max(0.0)),
                fpir_upper_bound: Some(fpir(threshold_known).upper),
                fmr_upper_bound: Some(self.nonmated_scores.fmr(verify.similarity).upper),
                impostor_trials: self.nonmated_scores.impostor_trials(),
                source: self.nonmated_scores.source(),
                trials: self.nonmated_scores.trials(),
                ..Thresholds::uncalibrated(policy, gallery_identities).point
            },
            resolve_reasons: self.nonmated_scores.reasons(&known, self.nonmated_scores.is_stale(gallery_identities)),
            verify_reasons: self.nonmated_scores.reasons(&verify, false),
        }
    }
}

impl Thresholds {
    /// Without any calibration: no thresholds.
    pub fn uncalibrated(policy: Policy, gallery_identities: u64) -> Self {
        Self {
            point: OperatingPoint {
                target_fpir: policy.target_fpir,
                target_duplicates: Some(policy.target_duplicates),
                target_fmr: policy.target_fmr,
                threshold_known: None,
                threshold_new: None,
                threshold_verify: None,
                posterior_known: None,
                posterior_new: None,
                evidence_known: None,
                evidence_new: None,
                evidence_verify: None,
                expected_fnir: None,
                expected_uncertain_mated: None,
                expected_uncertain_nonmated: None,
                fpir_upper_bound: None,
                fmr_upper_bound: None,
                impostor_trials: 0,
                source: ThresholdSource::None,
                calibration: None,
                trials: 0,
                gallery_identities,
            },
            resolve_reasons: vec![Reason::NoCalibration],
            verify_reasons: vec![Reason::NoCalibration],
        }
    }

    /// Whether similarities decide, even under a policy by posterior: the gallery is too small for a rehearsal of its own,
    /// and a model package states thresholds.
    #[must_use]
    pub fn are_of_package(&self) -> bool {
        self.point.source == ThresholdSource::Package && self.point.gallery_identities < REHEARSED_IDENTITIES_MIN
    }

    /// These thresholds for resolves that the posterior decides: what concerns the thresholds for KNOWN and NEW comes from
    /// `posterior`.
    #[must_use]
    pub fn by_posterior(self, posterior: PosteriorThresholds) -> Self {
        let PosteriorThresholds { known, new, source, calibration, trials, fpir_upper_bound, expected, reasons } =
            posterior;
        Self {
            point: OperatingPoint {
                threshold_known: None,
                threshold_new: None,
                posterior_known: Some(known),
                posterior_new: Some(new),
                expected_fnir: expected.fnir,
                expected_uncertain_mated: expected.uncertain_mated,
                expected_uncertain_nonmated: expected.uncertain_nonmated,
                fpir_upper_bound,
                source,
                calibration,
                trials,
                ..self.point
            },
            // What was ignored concerns the probe and not the thresholds.
            resolve_reasons: reasons
                .into_iter()
                .chain(self.resolve_reasons.into_iter().filter(|reason| *reason == Reason::ModalityUncalibrated))
                .collect(),
            verify_reasons: self.verify_reasons,
        }
    }
}

impl NonmatedScores {
    /// Similarity that a share `fpir` of non-mated probes reaches with at least one of `identities` identities.
    ///
    /// With N independent identities, FPIR = 1 - (1 - FMR)^N. A package's table is read at the FMR that belongs to N.
    /// TailTrials against a gallery of another size are read at the FPIR of their own size.
    pub(super) fn threshold_known(&self, fpir: f64, identities: u64) -> Threshold {
        let identities = identities.max(1) as f64;
        match self {
            Self::Trials { nonmated, .. } => nonmated.reach(share_of_power(fpir, nonmated.others / identities)),
            Self::Package { pairs, impostor } => read(impostor, share_of_power(fpir, 1.0 / identities), *pairs),
        }
    }

    /// Similarity that a share `fmr` of impostors reaches with one claimed identity. Without impostor trials it follows
    /// from the non-mated trials with the formula above.
    pub(super) fn threshold_verify(&self, fmr: f64) -> Threshold {
        match self {
            Self::Trials { impostor: Some(impostor), .. } => impostor.reach(fmr),
            Self::Trials { nonmated, .. } => nonmated.reach(share_of_power(fmr, nonmated.others)),
            Self::Package { pairs, impostor } => read(impostor, fmr, *pairs),
        }
    }

    /// Share of non-mated probes that reach the similarity with at least one of `identities` identities.
    pub(super) fn fpir(&self, similarity: f64, identities: u64) -> IntervalEstimate {
        let identities = identities.max(1) as f64;
        match self {
            Self::Trials { nonmated, .. } => {
                bounds::map(nonmated.share(similarity), |share| share_of_power(share, identities / nonmated.others))
            }
            Self::Package { .. } => bounds::map(self.fmr(similarity), |share| share_of_power(share, identities)),
        }
    }

    /// Share of impostors that reach the similarity with one identity.
    pub(super) fn fmr(&self, similarity: f64) -> IntervalEstimate {
        match self {
            Self::Trials { impostor: Some(impostor), .. } => impostor.share(similarity),
            Self::Trials { nonmated, .. } => {
                bounds::map(nonmated.share(similarity), |share| share_of_power(share, 1.0 / nonmated.others))
            }
            Self::Package { pairs, impostor } => {
                let (rate, pairs) = (impostor.rate_above(similarity), *pairs as f64);
                // Less than half an expected error counts as none.
                let errors = if rate * pairs < 0.5 { 0.0 } else { rate * pairs };
                within(rate, bounds::share(errors, pairs))
            }
        }
    }

    /// Maximum log-likelihood ratio of a similarity; monotone in it.
    fn ratio_max(&self, similarity: f64) -> f64 {
        match self {
            Self::Trials { nonmated, .. } => {
                let seen = nonmated.share(similarity).value;
                let against_all = -share_of_power(seen.min(BULK), 1.0 / nonmated.others).ln();
                // When nearly every non-mated probe reaches the similarity, only single comparisons show what it is
                // worth.
                let one_by_one = if seen > BULK { -self.fmr(similarity).value.ln() } else { f64::INFINITY };
                against_all.min(one_by_one).min((nonmated.independent * nonmated.others + 1.0).ln())
            }
            Self::Package { pairs, .. } => -self.fmr(similarity).value.max(1.0 / (*pairs as f64 + 1.0)).ln(),
        }
    }

    fn is_stale(&self, identities: u64) -> bool {
        match self {
            Self::Trials { identities: before, .. } => has_moved(*before, identities),
            Self::Package { .. } => false,
        }
    }

    fn trials(&self) -> u64 {
        match self {
            Self::Trials { nonmated, .. } => nonmated.tail.trials() as u64,
            Self::Package { pairs, .. } => *pairs,
        }
    }

    /// Number of impostor trials or pairs.
    fn impostor_trials(&self) -> u64 {
        match self {
            Self::Trials { impostor, .. } => impostor.as_ref().map_or(0, |impostor| impostor.tail.trials() as u64),
            Self::Package { pairs, .. } => *pairs,
        }
    }

    pub(super) fn source(&self) -> ThresholdSource {
        match self {
            Self::Trials { source, .. } => *source,
            Self::Package { .. } => ThresholdSource::Package,
        }
    }

    pub(super) fn reasons(&self, threshold: &Threshold, stale: bool) -> Vec<Reason> {
        let packaged = matches!(self, Self::Package { .. });
        let all = [
            (Reason::PackageCalibration, packaged),
            (Reason::CalibrationStale, stale),
            (Reason::Extrapolated, threshold.extrapolated),
            (Reason::Unsupported, threshold.unsupported),
        ];
        all.into_iter().filter_map(|(reason, holds)| holds.then_some(reason)).collect()
    }
}

impl TailTrials {
    /// `people` persons gave trials, each compared with `others` identities.
    fn of(similarities: &[Similarity], people: u64, others: u64) -> Option<Self> {
        let independent = people.min(similarities.len() as u64).max(1) as f64;
        Some(Self {
            tail: ParetoTail::fit(similarities.iter().map(|s| s.0))?,
            independent,
            others: others.max(1) as f64,
        })
    }

    fn of_impostors(similarities: &[Similarity], independent: f64) -> Option<Self> {
        let tail = ParetoTail::fit(similarities.iter().map(|s| s.0))?;
        Some(Self { tail, independent: independent.max(1.0), others: 1.0 })
    }

    fn reach(&self, rate: f64) -> Threshold {
        Threshold {
            similarity: self.tail.threshold(rate, self.independent),
            ..Threshold::supported_by(rate * self.independent)
        }
    }

    /// Share of trials that reach the similarity: the fitted tail, within the bounds of counting.
    fn share(&self, similarity: f64) -> IntervalEstimate {
        let errors = self.tail.reached(similarity) * self.independent / self.tail.trials() as f64;
        within(self.tail.rate_at(similarity), bounds::share(errors, self.independent))
    }
}

impl Threshold {
    /// Support of a threshold with so many expected errors among the trials.
    fn supported_by(errors: f64) -> Self {
        // Tolerance, because rates were converted from logarithms.
        let below = |least: f64| errors < least * (1.0 - 1e-9);
        Self { similarity: 1.0, extrapolated: below(1.0), unsupported: below(bounds::SUPPORT_MIN) }
    }
}

impl MatedScores {
    fn of_trials(mated_best: &[Similarity], people: u64) -> Option<Self> {
        let mut trials: Vec<f64> = mated_best.iter().map(|s| s.0.into()).collect();
        trials.sort_by(f64::total_cmp);
        let independent = people.min(trials.len() as u64).max(1) as f64;
        (trials.len() >= MATED_TRIALS_MIN).then_some(Self::Trials(trials, independent))
    }

    fn of_package(package: &PackageCalibration) -> Option<Self> {
        RateTable::new(&package.genuine).map(|table| Self::Table(table, package.genuine_pairs as f64))
    }

    /// Similarity below which the share `share` of mated similarities lies.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        match self {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
            Self::Trials(trials, _) => trials[(share * trials.len() as f64) as usize],
            Self::Table(table, _) => table.similarity_at(share),
        }
    }

    pub(super) fn share_below(&self, similarity: f64) -> f64 {
        match self {
            Self::Trials(trials, _) => trials.partition_point(|t| *t < similarity) as f64 / trials.len() as f64,
            Self::Table(table, _) => table.rate_below(similarity),
        }
    }

    /// Share below the similarity with its bounds.
    pub(super) fn missed(&self, similarity: f64) -> IntervalEstimate {
        let (Self::Trials(_, independent) | Self::Table(_, independent)) = self;
        let share = self.share_below(similarity);
        within(share, bounds::share(share * independent, *independent))
    }
}

/// Similarities that represent the genuine pairs of a package; empty when its table has fewer than two rows.
#[must_use]
pub fn genuine_similarities(package: &PackageCalibration) -> Vec<f32> {
    let table = RateTable::new(&package.genuine);
    table.map_or_else(Vec::new, |table| quantiles(&table).into_iter().map(narrow).collect())
}

/// Quantiles at equal distances, as a sample that represents the table.
fn quantiles(table: &RateTable) -> Vec<f64> {
    let middle = |number: u32| table.similarity_at((f64::from(number) + 0.5) / f64::from(QUANTILES));
    (0..QUANTILES).map(|number| middle(number).clamp(-1.0, 1.0)).collect()
}

/// 1 - (1 - share)^power, accurate for tiny shares.
fn share_of_power(share: f64, power: f64) -> f64 {
    -(power * (-share).ln_1p()).exp_m1()
}

/// Limits a better estimate than counting to the bounds of counting.
fn within(value: f64, bounds: IntervalEstimate) -> IntervalEstimate {
    IntervalEstimate { value: value.clamp(bounds.lower, bounds.upper), ..bounds }
}

fn read(table: &RateTable, rate: f64, pairs: u64) -> Threshold {
    let supported = Threshold::supported_by(rate * pairs as f64);
    // Tolerance, because the lowest rate was converted from its logarithm.
    let extrapolated = rate < table.rate_min() * (1.0 - 1e-9);
    Threshold { similarity: table.similarity_at(rate), extrapolated, ..supported }
}

pub(super) fn limited(similarity: f64) -> Similarity {
    Similarity(narrow(similarity.clamp(-1.0, 1.0)))
}

#[expect(clippy::cast_possible_truncation, reason = "similarities are f32")]
fn narrow(similarity: f64) -> f32 {
    similarity as f32
}

//! Handling of UNCERTAIN answers: accept without a human, ask for a review, or leave.
//!
//! After active self-paced learning (Lin et al. 2018): the model labels what it is sure of, a human labels what it is
//! least sure of, and human labels are never changed. An UNCERTAIN answer is accepted as its best candidate when
//! verdicts prove that at least 99 % of answers with such a posterior are right.
//!
//! The score is the posterior, not the similarity. It separates right from wrong answers better (on a stream of LFW
//! faces, 99.4 % of pairs against 98.2 % for the similarity) and keeps its meaning while the gallery grows. Reviews are
//! also selected by it: given the score, the selection is independent of whether the answer is right.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use rand_xoshiro::{
    SplitMix64,
    rand_core::{RngCore, SeedableRng},
};

use super::bounds::{self, MARGIN_MIN};
use domain::{CaseSelection, ReviewTrial};

/// Minimum share of right answers for acceptance, proven with 95 % confidence.
pub const PRECISION_MIN: f64 = 0.99;
/// Number of recent resolves over which the review budget holds.
const WINDOW: u64 = 1000;
/// Share of the reviews drawn at random from all answers that cannot be accepted. A probe unlike any enrolled identity
/// is surely new and would otherwise never be reviewed.
const BLIND_SHARE: f64 = 0.25;
/// Share of acceptable answers that are reviewed nevertheless, within the budget. Without them no one would notice that
/// an acceptance level has become wrong.
const AUDIT_SHARE: f64 = 0.05;

/// An UNCERTAIN answer with its best candidate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UncertainAnswer {
    pub posterior: Option<f64>,
    /// Similarity difference between the best candidate and the second.
    pub margin: Option<f32>,
}

/// Posterior levels that the verdicts prove.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AcceptanceLevels {
    /// Minimum posterior for acceptance; `None` while verdicts prove none.
    pub accept: Option<f64>,
    /// Accepted answers below this posterior are revoked: of the verdicts at and above it, more than one in a hundred
    /// says that the candidate is wrong. A level that is no longer *proven* stays in force for accepted answers; a
    /// contradicted one does not. Infinite when every level is contradicted.
    pub keep: f64,
}

/// What to do with an UNCERTAIN answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReviewAction {
    /// Accept the best candidate.
    Accept,
    /// Open a review case.
    Ask(CaseSelection),
    /// Leave it uncertain.
    Leave,
}

/// Review budget of a collection: its recent resolves, which of them became reviews, and the distance to even odds of
/// those that could not be accepted. Each process has its own and keeps its reviews within the share of its own
/// resolves, so the share holds for all processes together. A new process starts with an empty budget.
#[derive(Debug, Default)]
pub struct ReviewBudget {
    seen: u64,
    reviewed: VecDeque<u64>,
    uncertain: VecDeque<(u64, f64)>,
}

impl UncertainAnswer {
    /// Whether the answer is acceptable at this level. The posterior does not tell which of two close candidates is
    /// right, so answers with a small margin are not acceptable.
    #[must_use]
    pub fn reaches(self, level: f64) -> bool {
        self.is_apart() && self.posterior.is_some_and(|posterior| posterior >= level)
    }

    fn is_apart(self) -> bool {
        self.margin.is_none_or(|margin| margin >= MARGIN_MIN)
    }

    /// |posterior - 0.5|; the maximum when there is no posterior.
    fn distance(self) -> f64 {
        self.posterior.map_or(0.5, |posterior| (posterior - 0.5).abs())
    }
}

impl AcceptanceLevels {
    /// AcceptanceLevels from the review trials of one embedding space, in any order. Trials with a small margin are ignored,
    /// because such answers are never accepted.
    ///
    /// Verdicts are counted from the highest posterior down, so each level covers all posteriors above it. The
    /// acceptance level is the lowest of the first run of proven levels, so that a lucky run far below does not count.
    /// Errors are counted among reviewed answers, and lower posteriors are reviewed more often, so the error rate is
    /// rather over- than underestimated.
    ///
    /// The 95 % confidence holds for one test, but every verdict is a new test. In simulations of 5000 verdicts, levels
    /// with 98.5 % right answers are accepted at some time in 2 % of the runs, with 99 % in 22 %, with 98 % hardly
    /// ever. Reviews of acceptable answers and `keep` compensate for that.
    #[must_use]
    pub fn of<'t>(trials: impl IntoIterator<Item = &'t ReviewTrial>) -> Self {
        let ranked = |trial: &ReviewTrial| {
            let answer = UncertainAnswer { posterior: trial.doubt.posterior, margin: trial.doubt.margin };
            Some((answer.posterior.filter(|_| answer.is_apart())?, trial.was_right))
        };
        let mut ranked: Vec<(f64, bool)> = trials.into_iter().filter_map(ranked).collect();
        ranked.sort_by(|one, other| other.0.total_cmp(&one.0));
        let (mut accept, mut run_has_ended) = (None, false);
        let mut keep = if ranked.is_empty() { 0.0 } else { f64::INFINITY };
        let (mut errors, mut count) = (0, 0);
        // Trials with equal posteriors lie on the same side of every level.
        for equal in ranked.chunk_by(|one, other| one.0.total_cmp(&other.0).is_eq()) {
            count += equal.len() as u64;
            errors += equal.iter().filter(|(_, was_right)| !was_right).count() as u64;
            let level = equal[0].0;
            if bounds::shows_at_most(1.0 - PRECISION_MIN, errors, count) {
                accept = accept.filter(|_| run_has_ended).or(Some(level));
            } else {
                run_has_ended = accept.is_some();
            }
            if errors as f64 <= (1.0 - PRECISION_MIN) * count as f64 {
                keep = level;
            }
        }
        // Below the lowest reviewed posterior nothing is known, so nothing contradicts answers accepted there.
        if ranked.last().is_some_and(|(lowest, _)| keep <= *lowest) {
            keep = 0.0;
        }
        Self { accept, keep }
    }
}

impl ReviewBudget {
    /// Counts a resolve that may become a review.
    pub fn count_resolve(&mut self) {
        self.seen += 1;
        let gone = self.seen.saturating_sub(WINDOW);
        self.reviewed.retain(|at| *at > gone);
        self.uncertain.retain(|(at, _)| *at > gone);
    }

    /// Decides what to do with an UNCERTAIN answer. `share` is the share of resolves that may become reviews, 0 to 1;
    /// `random` is uniform in 0 to 1.
    ///
    /// When more answers are uncertain than may be reviewed, those nearest to even odds are reviewed, judged by the
    /// recent ones.
    pub fn decide(&mut self, answer: UncertainAnswer, accept: Option<f64>, share: f64, random: f64) -> ReviewAction {
        let allowance = share * self.seen.min(WINDOW) as f64;
        let has_budget = (self.reviewed.len() + 1) as f64 <= allowance;
        if accept.is_some_and(|level| answer.reaches(level)) {
            return if has_budget && random < AUDIT_SHARE {
                self.ask(CaseSelection::ByPosterior)
            } else {
                ReviewAction::Accept
            };
        }
        // With an acceptance level, the remaining answers are selected by their low posterior.
        let drawn = if accept.is_none() { CaseSelection::Blind } else { CaseSelection::ByPosterior };
        let selection = self.selection(answer.distance(), allowance, random, drawn);
        self.uncertain.push_back((self.seen, answer.distance()));
        match selection {
            Some(selection) if has_budget => self.ask(selection),
            Some(_) | None => ReviewAction::Leave,
        }
    }

    fn selection(&self, distance: f64, allowance: f64, random: f64, drawn: CaseSelection) -> Option<CaseSelection> {
        let uncertain = (self.uncertain.len() + 1) as f64;
        if uncertain <= allowance || random < BLIND_SHARE * allowance / uncertain {
            return Some(drawn);
        }
        let nearer = self.uncertain.iter().filter(|(_, other)| *other < distance).count();
        ((nearer as f64) < (1.0 - BLIND_SHARE) * allowance).then_some(CaseSelection::ByPosterior)
    }

    fn ask(&mut self, selection: CaseSelection) -> ReviewAction {
        self.reviewed.push_back(self.seen);
        ReviewAction::Ask(selection)
    }
}

/// Uniform number in [0, 1) from both halves of an id, for random and for consecutive ids (finalizer of SplitMix64,
/// Steele et al. 2014).
#[must_use]
pub fn uniform_from_id(high: u64, low: u64) -> f64 {
    let mixed = SplitMix64::seed_from_u64(low ^ high.rotate_left(32)).next_u64();
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

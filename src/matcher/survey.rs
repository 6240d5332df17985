//! Looks at everybody: who is enrolled twice, and which templates are one person whatever names they bear.

use std::{
    collections::{HashMap, HashSet},
    ops::ControlFlow,
    sync::Arc,
};

use tokio_util::sync::CancellationToken;

use super::{
    Fault, Matcher,
    calibrate::{InForce, Patience, SEED},
    directory::Open,
    operations::{Course, Worked},
};
use decision::{Calibration, TRIALS_MIN};
use domain::{
    CollectionId, Filter, Modality, OperationFailure, OperationKind, OperationSummary, Policy, Pooling, Progress,
    Reason, SAME_IMAGE, Similarity, SpaceBinding, SurveyFinding, TemplateId, ThresholdSource,
};
use gallery::{Alike, Grouped, JoinError, JoinProgress, Survey};

/// A look that is wanted.
#[derive(Debug, Clone)]
pub struct SurveyDraft {
    pub collection: CollectionId,
    pub kind: OperationKind,
    pub modality: Modality,
    /// The level; one that follows from the calibration when absent.
    pub similarity_min: Option<Similarity>,
    pub filter: Option<Filter>,
    pub listing: Listing,
}

/// Which groups are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    All,
    /// Those alone that do not agree with names.
    Disagreeing,
}

/// Why a look came to no end.
#[derive(Debug)]
pub(super) enum Halt {
    /// It was told to stop.
    Stopped,
    Failed {
        failure: OperationFailure,
        message: String,
    },
    Fault(Fault),
}

impl From<Fault> for Halt {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<JoinError> for Halt {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::Stopped => Self::Stopped,
            JoinError::TooManyPairs(_) => too_much(format!("{error}; raise minSimilarity, or narrow the filter")),
        }
    }
}

fn too_much(message: String) -> Halt {
    Halt::Failed { failure: OperationFailure::TooMuchFound, message }
}

/// From which similarity on two are one, and what is to be said of that.
struct Judged {
    level: Similarity,
    false_pairs: Option<f64>,
    reasons: Vec<Reason>,
}

impl Matcher {
    /// The space that is looked through.
    ///
    /// # Errors
    /// [`Fault::NothingToCompare`]; [`Fault::NoLevel`] where no level is given and none can follow.
    pub(super) async fn surveyed_space(&self, open: &Open, draft: &SurveyDraft) -> Result<SpaceBinding, Fault> {
        let active = open.collection.active_space(draft.modality);
        let binding = active.cloned().ok_or(Fault::NothingToCompare(draft.modality))?;
        let rehearses = open.shelf.templates_in(binding.space) >= TRIALS_MIN as u64;
        let is_judged = draft.similarity_min.is_some()
            || rehearses
            || self.package_calibration(binding.space).is_some()
            || self.pinned(open, draft.modality).await.is_some();
        if is_judged { Ok(binding) } else { Err(Fault::NoLevel(draft.modality)) }
    }

    /// Looks at everybody, on one thread.
    pub(super) async fn survey(
        &self,
        open: &Open,
        (binding, draft): (SpaceBinding, SurveyDraft),
        course: &Arc<Course>,
        stop: &CancellationToken,
    ) -> Worked {
        let prepared = async {
            let alone = self.operations.alone.lock().await;
            (alone, self.judge(open, &binding, draft.kind).await)
        };
        let (_alone, in_force) = tokio::select! {
            prepared = prepared => prepared,
            () = stop.cancelled() => return Err(Halt::Stopped),
        };
        let look = Look {
            policy: open.collection.policy,
            in_force,
            pairs_max: self.options.operation_pairs_max,
            findings_max: self.options.operation_findings_max,
            binding,
            draft,
        };
        let (shelf, now) = (Arc::clone(&open.shelf), self.clock.now());
        let (course, stop) = (Arc::clone(course), stop.clone());
        let look_at_all = move || {
            let survey = shelf.survey(look.binding.space, look.draft.filter.as_ref(), now);
            look.at(survey.as_ref(), &mut |JoinProgress { done, total }| {
                course.set(Progress { done, total });
                // A search that waits for a core shall have this one.
                std::thread::yield_now();
                if stop.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
        };
        tokio::task::spawn_blocking(look_at_all).await.map_err(Fault::internal)?
    }

    /// Who says how alike strangers are. Groups are made of templates one by one, whatever the policy says of identities, and
    /// so are duplicates where templates weigh each other;
    /// where templates speak together, no calibration in force knows of that.
    async fn judge(&self, open: &Open, binding: &SpaceBinding, kind: OperationKind) -> Option<InForce> {
        let weigh_each_other = matches!(open.collection.policy.pooling, Pooling::Prototype | Pooling::Centralised);
        let grouped = kind == OperationKind::ClusterTemplates && open.collection.policy.pooling != Pooling::Best;
        if !(weigh_each_other || grouped) {
            return self.in_force(open, binding.space, Patience::Survey).await;
        }
        let _alone = self.calibrations.alone.lock().await;
        let (shelf, space) = (Arc::clone(&open.shelf), binding.space);
        let (trials_max, package) = (self.options.rehearsal_trials_max, self.package_calibration(space).cloned());
        let rehearse = move || {
            let rehearsal = shelf.rehearse(space, Pooling::Best, trials_max, SEED);
            let calibration = Calibration::from_rehearsal(&rehearsal, package.as_ref());
            calibration.or_else(|| Calibration::from_package(package.as_ref()?))
        };
        let calibration = tokio::task::spawn_blocking(rehearse).await.ok()??;
        Some(InForce { calibration: Arc::new(calibration), pinned: None, is_stale: false })
    }
}

/// All that a look needs to know.
struct Look {
    binding: SpaceBinding,
    draft: SurveyDraft,
    policy: Policy,
    in_force: Option<InForce>,
    pairs_max: usize,
    findings_max: usize,
}

impl Look {
    fn at(&self, survey: Option<&Survey>, watch: &mut dyn FnMut(JoinProgress) -> ControlFlow<()>) -> Worked {
        let (identities, templates) = survey.map_or((0, 0), |survey| (survey.identities(), survey.templates()));
        let Judged { level, false_pairs, reasons } = self.level(identities, templates)?;
        let alike = Alike { level, pairs_max: self.pairs_max };
        let (findings, alone) = match (survey, self.draft.kind) {
            (None, _) => (Vec::new(), 0),
            (Some(survey), OperationKind::FindDuplicates) => {
                let llr = self.in_force.as_ref().and_then(|in_force| in_force.calibration.llr());
                let found = survey.duplicates(alike, self.policy.pooling, watch)?.into_iter().map(|found| {
                    let llr = llr.map(|llr| llr.of(found.similarity.0.into()));
                    let same_image = found.best.0 >= SAME_IMAGE;
                    SurveyFinding::Pair { templates: found.templates, similarity: found.similarity, llr, same_image }
                });
                (found.collect(), 0)
            }
            (Some(survey), OperationKind::ClusterTemplates) => {
                let groups = survey.clusters(alike, watch)?;
                listed(groups, self.draft.listing)
            }
        };
        if findings.len() > self.findings_max {
            let (found, most) = (findings.len(), self.findings_max);
            let what = match self.draft.kind {
                OperationKind::FindDuplicates => "pairs; raise minSimilarity",
                OperationKind::ClusterTemplates => "templates in clusters; list disagreeingOnly",
            };
            return Err(too_much(format!(
                "found {found}, and the server keeps at most {most} {what}, or narrow the filter"
            )));
        }
        let in_force = self.in_force.as_ref();
        let summary = OperationSummary {
            model: self.binding.name.clone(),
            identities,
            templates,
            level,
            false_pairs,
            reasons,
            source: in_force.map_or(ThresholdSource::None, |in_force| in_force.calibration.source()),
            calibration: in_force.and_then(|in_force| in_force.pinned),
            alone,
        };
        Ok((summary, findings))
    }

    fn level(&self, identities: u64, templates: u64) -> Result<Judged, Halt> {
        let comparisons = self.comparisons(identities, templates);
        let Some(InForce { calibration, is_stale, .. }) = &self.in_force else {
            let message = "nothing says how alike strangers are here, so there is no level; send minSimilarity";
            let unjudged = || Halt::Failed { failure: OperationFailure::NoCalibration, message: message.to_owned() };
            let level = self.draft.similarity_min.ok_or_else(unjudged)?;
            return Ok(Judged { level, false_pairs: None, reasons: vec![Reason::NoCalibration] });
        };
        // A group is told by the mean of all its pairs, which chance reaches far less often than it reaches a single one:
        // on 6547 faces of the wild groups at the level of verifications were right by 99 % of pairs and found 88 %, and at
        // that of duplicates 65 %.
        let asked = match self.draft.kind {
            OperationKind::FindDuplicates => comparisons,
            OperationKind::ClusterTemplates => 1.0,
        };
        let judged = calibration.pair_level(self.policy, asked);
        let level = self.draft.similarity_min.unwrap_or(judged.similarity);
        let stale = is_stale.then_some(Reason::CalibrationStale);
        Ok(Judged {
            level,
            false_pairs: Some(calibration.false_pairs(level, comparisons).value),
            reasons: judged.reasons.into_iter().chain(stale).collect(),
        })
    }

    /// How many comparisons as a verification makes them there are among strangers: of a template with an identity. Two
    /// identities of which a template reaches the other's best also reach it the other way round, so each pair is two of
    /// these; pooled, it need not.
    fn comparisons(&self, identities: u64, templates: u64) -> f64 {
        let (identities, templates) = (identities as f64, templates as f64);
        match (self.draft.kind, self.policy.pooling) {
            (OperationKind::ClusterTemplates, _) => templates * (templates - 1.0).max(0.0) / 2.0,
            (OperationKind::FindDuplicates, Pooling::Best | Pooling::Prototype | Pooling::Centralised) => {
                templates * (identities - 1.0).max(0.0) / 2.0
            }
            (OperationKind::FindDuplicates, Pooling::MeanOfBest(_) | Pooling::ByQuality) => {
                templates * (identities - 1.0).max(0.0)
            }
        }
    }
}

/// The groups that are told of, the largest first, and how many templates are alone with no other of their identity
/// elsewhere.
fn listed(mut groups: Vec<Vec<Grouped>>, listing: Listing) -> (Vec<SurveyFinding<TemplateId>>, u64) {
    let owners = |group: &[Grouped]| group.iter().map(|grouped| grouped.owner).collect::<HashSet<u32>>();
    let mut groups_of: HashMap<u32, u32> = HashMap::new();
    for owner in groups.iter().flat_map(|group| owners(group)) {
        *groups_of.entry(owner).or_default() += 1;
    }
    let is_split = |grouped: &Grouped| groups_of[&grouped.owner] > 1;
    let disagrees = |group: &[Grouped]| owners(group).len() > 1 || group.iter().any(is_split);
    let alone = groups.iter().filter(|group| group.len() == 1 && !disagrees(group)).count();
    groups.retain(|group| disagrees(group) || (listing == Listing::All && group.len() > 1));
    groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
    let members = (0..).zip(groups).flat_map(|(number, group)| {
        group.into_iter().map(move |grouped| SurveyFinding::Member { group: number, template: grouped.template })
    });
    (members.collect(), alone as u64)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn template(number: u128) -> TemplateId {
        TemplateId(Uuid::from_u128(number))
    }

    #[test]
    fn groups_that_disagree_with_names_are_told_from_those_that_agree() {
        let group = |members: &[(u128, u32)]| -> Vec<Grouped> {
            members.iter().map(|(number, owner)| Grouped { template: template(*number), owner: *owner }).collect()
        };
        let groups = vec![
            group(&[(1, 1)]),                 // Alone, and nothing else is known of 1.
            group(&[(2, 2), (3, 2)]),         // As names have it.
            group(&[(4, 3), (5, 4), (6, 4)]), // Two names.
            group(&[(7, 5)]),                 // One of two of 5,
            group(&[(8, 5)]),                 // and the other.
        ];
        let of = |listing| {
            let (findings, alone) = listed(groups.clone(), listing);
            let member = |finding: SurveyFinding<TemplateId>| match finding {
                SurveyFinding::Member { group, template } => (group, template.0.as_u128()),
                SurveyFinding::Pair { .. } => unreachable!("groups have members"),
            };
            (findings.into_iter().map(member).collect::<Vec<_>>(), alone)
        };
        assert_eq!(of(Listing::All), (vec![(0, 4), (0, 5), (0, 6), (1, 2), (1, 3), (2, 7), (3, 8)], 1));
        assert_eq!(of(Listing::Disagreeing), (vec![(0, 4), (0, 5), (0, 6), (1, 7), (2, 8)], 1));
    }
}

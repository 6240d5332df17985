//! Merges and splits: templates move between identities, with the lineage that a revert needs.

use std::collections::{HashMap, HashSet};

use futures::FutureExt;
use serde::{Deserialize, Serialize};

use crate::matcher::{
    Matcher, request::consistency_token::ConsistencyToken, request::context::Context, request::fault::Fault,
    turn::collection_turn::CollectionTurn,
};
use domain::{
    Change, CollectionId, HandedOver, Identity, IdentityId, Labels, Lineage, MERGE_SOURCES_MAX, OtherIdentity,
    Regrouping, RegroupingId, RegroupingKind, RegroupingState, Revision, Template, TemplateId, TemplateMove,
    TemplateOwner, Timestamp,
};

/// A request to merge identities.
#[derive(Debug, Clone)]
pub struct MergeDraft {
    /// The identity that stays.
    pub target: IdentityId,
    /// The identities whose templates move to the target; each once, and not the target.
    pub sources: Vec<IdentityId>,
    pub labels: MergedLabels,
}

/// The labels of a merged identity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MergedLabels {
    /// Those of the target, and keys that it lacks from the sources, the first source first.
    #[default]
    Fill,
    /// Those of the target alone.
    Keep,
}

/// A request to split an identity.
#[derive(Debug, Clone)]
pub struct SplitDraft {
    pub identity: IdentityId,
    /// The templates that move: some of the identity's, not all.
    pub templates: Vec<TemplateId>,
    /// The id of the new identity; generated if `None`.
    pub made: Option<IdentityId>,
    /// The labels of the new identity.
    pub labels: Labels,
}

/// A merge, a split or a revert after its commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Regrouped {
    pub regrouping: RegroupingSummary,
    /// Merge: the target. Split: the new identity. Revert: all identities that the regrouping concerns and that exist.
    pub identities: Vec<Identity>,
    pub token: ConsistencyToken,
}

/// A regrouping without records of identities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegroupingSummary {
    pub id: RegroupingId,
    pub kind: RegroupingKind,
    pub identity: IdentityId,
    /// The sources of a merge, or the identity that a split made.
    pub others: Vec<IdentityId>,
    /// The moved templates with their present identities.
    pub templates: Vec<TemplateOwner>,
    pub time: Timestamp,
    pub revert_time: Option<Timestamp>,
}

impl Matcher {
    /// Moves all templates of the sources to the target, and removes the sources.
    ///
    /// # Errors
    /// [`Fault::NoIdentity`], [`Fault::IdentityMerged`], [`Fault::IdentityExpired`], [`Fault::WouldBeTooMany`],
    /// [`Fault::IdentityProvisional`] if enrolled templates would become provisional, and [`Fault::Invalid`] for sources
    /// that are no set of other identities.
    pub async fn merge_identities(
        &self,
        context: &Context,
        collection: &CollectionId,
        draft: MergeDraft,
    ) -> Result<Regrouped, Fault> {
        let templates_max = self.writes.options().templates_per_identity_max;
        self.writes
            .change(context, collection, move |turn| {
                async move { merge_in_turn(turn, &draft, templates_max).await }.boxed()
            })
            .await
    }

    /// Moves some templates of an identity to a new one.
    ///
    /// # Errors
    /// [`Fault::NoIdentity`], [`Fault::IdentityMerged`], [`Fault::IdentityExpired`], [`Fault::NoTemplate`],
    /// [`Fault::IdentityExists`], [`Fault::SplitLeavesNothing`].
    pub async fn split_identity(
        &self,
        context: &Context,
        collection: &CollectionId,
        draft: SplitDraft,
    ) -> Result<Regrouped, Fault> {
        self.writes
            .change(context, collection, move |turn| async move { split_in_turn(turn, draft).await }.boxed())
            .await
    }
}

pub(crate) async fn merge_in_turn(
    turn: &mut CollectionTurn,
    draft: &MergeDraft,
    templates_max: u64,
) -> Result<Regrouped, Fault> {
    check_sources(draft)?;
    let now = turn.now();
    let before = living(turn, &draft.target).await?;
    let (mut others, mut moves) = (Vec::new(), Vec::new());
    let mut labels = before.labels.clone();
    for source in &draft.sources {
        let record = living(turn, source).await?;
        if before.provisional && !record.provisional {
            return Err(Fault::IdentityProvisional(before.id));
        }
        if draft.labels == MergedLabels::Fill {
            labels = record.labels.merged(&labels)?;
        }
        let templates = all_templates(turn, source).await?;
        moves.extend(templates.iter().map(|one| TemplateMove {
            template: one.id,
            from: source.clone(),
            to: before.id.clone(),
        }));
        others.push(OtherIdentity { record, templates: templates.len() as u64, handed_over: HandedOver::default() });
    }
    let templates = template_count(turn, &before.id).await? + moves.len() as u64;
    if templates > templates_max {
        return Err(Fault::WouldBeTooMany { identity: before.id, templates, limit: templates_max });
    }
    let after = if labels == before.labels {
        before.clone()
    } else {
        Identity { labels, revision: before.revision.next(), update_time: now, ..before.clone() }
    };

    let position = turn.token().position();
    let put = (after != before).then(|| Change::PutIdentity(after.clone()));
    let changes: Vec<Change> = put.into_iter().chain(moves.iter().map(change)).collect();
    turn.append(&changes).await?;
    for other in &mut others {
        // Before the source is removed: its removal also removes what it still holds.
        other.handed_over = turn.store().hand_over(&other.record.id, &before.id).await?;
        turn.append(&[Change::ForgetIdentity(other.record.id.clone())]).await?;
    }
    for source in &draft.sources {
        cases_follow(turn, source, &|_| Some(before.id.clone())).await?;
    }
    let identity = before.id.clone();
    let others_then = others.len() as u64;
    let identities = vec![after.clone()];
    let regrouping = Regrouping {
        id: RegroupingId(turn.fresh_id()),
        kind: RegroupingKind::Merge,
        holder: identity.clone(),
        identity,
        position,
        time: now,
        state: RegroupingState::InForce(Box::new(Lineage { before, after, others, others_then, moves })),
    };
    keep(turn, regrouping, identities).await
}

async fn split_in_turn(turn: &mut CollectionTurn, draft: SplitDraft) -> Result<Regrouped, Fault> {
    let SplitDraft { identity, templates, made, labels } = draft;
    if templates.is_empty() {
        return Err(Fault::invalid("templates", "name the templates that move to the new identity"));
    }
    if templates.iter().collect::<HashSet<_>>().len() < templates.len() {
        return Err(Fault::invalid("templates", "a template is named twice"));
    }
    let now = turn.now();
    let origin = living(turn, &identity).await?;
    let owned: HashSet<TemplateId> = all_templates(turn, &identity).await?.iter().map(|one| one.id).collect();
    if let Some(unknown) = templates.iter().find(|id| !owned.contains(id)) {
        return Err(Fault::NoTemplate(*unknown));
    }
    if templates.len() == owned.len() {
        return Err(Fault::SplitLeavesNothing(identity));
    }
    let made = match made {
        Some(made) => made,
        None => IdentityId::new(&turn.fresh_id().to_string())?,
    };
    let mut changes = Vec::new();
    match turn.store().identity(&made).await? {
        Some(known) if !known.is_expired(now) => return Err(Fault::IdentityExists(made)),
        Some(_) => changes.push(Change::ExpireIdentity(made.clone())),
        None => {}
    }
    let record = Identity {
        id: made.clone(),
        labels,
        // What was to be deleted at a time still is.
        expire_time: origin.expire_time,
        provisional: origin.provisional,
        revision: Revision::FIRST,
        create_time: now,
        update_time: now,
    };
    let one_move = |template| TemplateMove { template, from: identity.clone(), to: made.clone() };
    let moves: Vec<TemplateMove> = templates.into_iter().map(one_move).collect();
    let position = turn.token().position();
    changes.push(Change::PutIdentity(record.clone()));
    changes.extend(moves.iter().map(change));
    turn.append(&changes).await?;
    let moved: HashSet<TemplateId> = moves.iter().map(|one| one.template).collect();
    cases_follow(turn, &identity, &|template| moved.contains(&template).then(|| made.clone())).await?;
    let other =
        OtherIdentity { record: record.clone(), templates: moves.len() as u64, handed_over: HandedOver::default() };
    let (before, after) = (origin.clone(), origin);
    let regrouping = Regrouping {
        id: RegroupingId(turn.fresh_id()),
        kind: RegroupingKind::Split,
        holder: identity.clone(),
        identity: identity.clone(),
        position,
        time: now,
        state: RegroupingState::InForce(Box::new(Lineage {
            before,
            after,
            others: vec![other],
            others_then: 1,
            moves,
        })),
    };
    keep(turn, regrouping, vec![record]).await
}

/// Stores a new regrouping and answers.
async fn keep(
    turn: &mut CollectionTurn,
    regrouping: Regrouping,
    identities: Vec<Identity>,
) -> Result<Regrouped, Fault> {
    turn.store().put_regrouping(&regrouping).await?;
    let summary = RegroupingSummary::of(&regrouping, |one| one.to.clone());
    Ok(Regrouped { regrouping: summary, identities, token: turn.token() })
}

impl RegroupingSummary {
    /// `owner` is the present identity of a moved template.
    pub(crate) fn of(regrouping: &Regrouping, owner: impl Fn(&TemplateMove) -> IdentityId) -> Self {
        let (others, templates, revert_time) = match &regrouping.state {
            RegroupingState::InForce(lineage) => (
                lineage.others.iter().map(|other| other.record.id.clone()).collect(),
                lineage
                    .moves
                    .iter()
                    .map(|one| TemplateOwner { template: one.template, identity: owner(one) })
                    .collect(),
                None,
            ),
            RegroupingState::Reverted(time) => (Vec::new(), Vec::new(), Some(*time)),
        };
        let Regrouping { id, kind, identity, time, .. } = regrouping.clone();
        Self { id, kind, identity, others, templates, time, revert_time }
    }
}

fn check_sources(draft: &MergeDraft) -> Result<(), Fault> {
    let MergeDraft { target, sources, .. } = draft;
    if sources.is_empty() {
        return Err(Fault::invalid("sources", "name the identities to merge into the target"));
    }
    if sources.len() > MERGE_SOURCES_MAX {
        let problem = format!("a merge has at most {MERGE_SOURCES_MAX} sources; these are {}", sources.len());
        return Err(Fault::invalid("sources", problem));
    }
    let mut seen = HashMap::new();
    for (at, source) in sources.iter().enumerate() {
        let field = format!("sources[{at}]");
        if source == target {
            return Err(Fault::invalid(
                field,
                format!("{source} is the target; an identity is not merged into itself"),
            ));
        }
        if let Some(first) = seen.insert(source, at) {
            return Err(Fault::invalid(field, format!("{source} is named twice; it is sources[{first}] already")));
        }
    }
    Ok(())
}

pub(crate) fn change(one: &TemplateMove) -> Change {
    let TemplateMove { template, from, to } = one.clone();
    Change::MoveTemplate { template, from, to }
}

/// # Errors
/// [`Fault::NoIdentity`], [`Fault::IdentityMerged`], [`Fault::IdentityExpired`].
pub(crate) async fn living(turn: &mut CollectionTurn, id: &IdentityId) -> Result<Identity, Fault> {
    let now = turn.now();
    match turn.store().identity(id).await? {
        Some(identity) if identity.is_expired(now) => Err(Fault::IdentityExpired(id.clone())),
        Some(identity) => Ok(identity),
        None => Err(match turn.store().merged_into(id).await? {
            Some(into) => Fault::IdentityMerged { identity: id.clone(), into },
            None => Fault::NoIdentity(id.clone()),
        }),
    }
}

pub(crate) async fn template_count(turn: &mut CollectionTurn, id: &IdentityId) -> Result<u64, Fault> {
    let enrolled = turn.store().enrolled_identities(std::slice::from_ref(id)).await?;
    Ok(enrolled.first().map_or(0, |enrolled| enrolled.templates))
}

async fn all_templates(turn: &mut CollectionTurn, id: &IdentityId) -> Result<Vec<Template>, Fault> {
    const PAGE: u32 = 1000;
    let mut all: Vec<Template> = Vec::new();
    loop {
        let page = turn.store().templates_of(id, all.last().map(|last| last.id), PAGE).await?;
        let is_last = page.len() < PAGE as usize;
        all.extend(page);
        if is_last {
            return Ok(all);
        }
    }
}

/// Undecided review cases name the present identity of each candidate. Decided cases stay as they were recorded.
///
/// `owner` is the new identity of a candidate of `named` by its template; `None` leaves the candidate.
pub(crate) async fn cases_follow(
    turn: &mut CollectionTurn,
    named: &IdentityId,
    owner: &(dyn Fn(TemplateId) -> Option<IdentityId> + Sync),
) -> Result<(), Fault> {
    let now = turn.now();
    for mut case in turn.store().undecided_cases_naming(named).await? {
        let mut is_changed = false;
        for candidate in case.candidates.iter_mut().filter(|candidate| candidate.identity == *named) {
            if let Some(owner) = owner(candidate.template) {
                candidate.identity = owner;
                is_changed = true;
            }
        }
        if is_changed {
            let state = case.state.clone();
            turn.store().put_review_case(&case.with_state(state, now)).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

//! Reverts: a merge or a split is undone from its lineage.

use std::collections::{HashMap, HashSet};

use futures::FutureExt;

use super::regroup::{Regrouped, RegroupingSummary, cases_follow, change, living, template_count};
use crate::matcher::{
    Matcher, request::context::Context, request::fault::Fault, turn::collection_turn::CollectionTurn,
};
use domain::{
    Change, CollectionId, Identity, IdentityId, Lineage, OtherIdentity, Regrouping, RegroupingId, RegroupingKind,
    RegroupingState, TemplateId, TemplateMove,
};

/// A request to revert a merge or a split.
#[derive(Debug, Clone)]
pub struct RevertDraft {
    /// The target of the merge; the identity that was split, or the one that the split made.
    pub identity: IdentityId,
    /// The regrouping; the latest of the identity that is in force if `None`.
    pub regrouping: Option<RegroupingId>,
    pub extent: RevertExtent,
}

/// What a revert does when not everything can be restored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RevertExtent {
    /// It is refused, and nothing changes.
    #[default]
    Whole,
    /// It restores what it can.
    Possible,
}

impl Matcher {
    /// Undoes a merge or a split: each template returns to its former identity, and each identity has its former record.
    ///
    /// # Errors
    /// [`Fault::NothingToRevert`], [`Fault::NoRegrouping`], [`Fault::AlreadyReverted`], [`Fault::RevertBlocked`] with
    /// what cannot be restored, [`Fault::WouldBeTooMany`].
    pub async fn revert_regrouping(
        &self,
        context: &Context,
        collection: &CollectionId,
        draft: RevertDraft,
    ) -> Result<Regrouped, Fault> {
        let templates_max = self.writes.options().templates_per_identity_max;
        self.writes
            .change(context, collection, move |turn| {
                async move { revert_in_turn(turn, &draft, templates_max).await }.boxed()
            })
            .await
    }
}

/// The part of a regrouping that can be undone.
struct Undoing {
    lineage: Lineage,
    /// The others that are undone.
    others: Vec<OtherIdentity>,
    /// The moves that are undone.
    moves: Vec<TemplateMove>,
    problems: Vec<String>,
}

async fn revert_in_turn(
    turn: &mut CollectionTurn,
    draft: &RevertDraft,
    templates_max: u64,
) -> Result<Regrouped, Fault> {
    living(turn, &draft.identity).await?;
    let mut regrouping = chosen(turn, draft).await?;
    let blocked = |problems| Fault::RevertBlocked { kind: regrouping.kind.as_str(), id: regrouping.id, problems };
    let lineage = match &regrouping.state {
        RegroupingState::Reverted(_) => return Err(Fault::AlreadyReverted(regrouping.id)),
        RegroupingState::InForce(lineage) => (**lineage).clone(),
    };
    if regrouping.holder != regrouping.identity {
        let (kept, holder) = (&regrouping.identity, &regrouping.holder);
        return Err(blocked(vec![format!("identity {kept} was merged into {holder} since; revert that first")]));
    }
    let undoing = match regrouping.kind {
        RegroupingKind::Merge => of_merge(turn, lineage).await?,
        RegroupingKind::Split => of_split(turn, lineage).await?,
    };
    let nothing_left = undoing.others.is_empty() && undoing.moves.is_empty();
    if !undoing.problems.is_empty() && (nothing_left || draft.extent == RevertExtent::Whole) {
        return Err(blocked(undoing.problems));
    }
    let now = turn.now();
    let identities = match regrouping.kind {
        RegroupingKind::Merge => undo_merge(turn, &regrouping.identity, &undoing).await?,
        RegroupingKind::Split => undo_split(turn, &regrouping.identity, &undoing, templates_max).await?,
    };
    turn.store().mark_reverted(regrouping.id, now).await?;
    regrouping.state =
        RegroupingState::InForce(Box::new(Lineage { others: undoing.others, moves: undoing.moves, ..undoing.lineage }));
    let mut summary = RegroupingSummary::of(&regrouping, |one| one.from.clone());
    summary.revert_time = Some(now);
    Ok(Regrouped { regrouping: summary, identities, token: turn.token() })
}

/// The regrouping of the request.
async fn chosen(turn: &mut CollectionTurn, draft: &RevertDraft) -> Result<Regrouping, Fault> {
    let RevertDraft { identity, regrouping, .. } = draft;
    let id = if let Some(named) = regrouping {
        *named
    } else {
        let latest = turn.store().latest_regrouping(identity).await?;
        latest.ok_or_else(|| Fault::NothingToRevert(identity.clone()))?
    };
    let found = turn.store().regrouping(id).await?.ok_or(Fault::NoRegrouping(id))?;
    let made_it = match &found.state {
        RegroupingState::InForce(lineage) if found.kind == RegroupingKind::Split => {
            lineage.others.iter().any(|other| other.record.id == *identity)
        }
        RegroupingState::InForce(_) | RegroupingState::Reverted(_) => false,
    };
    if found.holder == *identity || made_it {
        return Ok(found);
    }
    let problem = format!("{} {id} is of identity {}, not of {identity}", found.kind.as_str(), found.holder);
    Err(Fault::invalid("regrouping", problem))
}

/// The moves that can be undone, and what became of the other moved templates.
async fn movable(
    turn: &mut CollectionTurn,
    lineage: &Lineage,
    problems: &mut Vec<String>,
) -> Result<Vec<TemplateMove>, Fault> {
    let mut moves = Vec::new();
    for one in &lineage.moves {
        let owner = turn.store().template(one.template).await?.map(|found| found.identity);
        match owner {
            Some(owner) if owner == one.to => moves.push(one.clone()),
            Some(owner) => problems.push(format!("template {} was moved again, to {owner}", one.template)),
            None => problems.push(format!("template {} was erased", one.template)),
        }
    }
    for other in &lineage.others {
        let erased = lineage.erased_of(other);
        if erased > 0 {
            let (all, id) = (other.templates, &other.record.id);
            problems.push(format!("{erased} of the {all} templates that moved with {id} were erased"));
        }
    }
    let erased = lineage.others_then.saturating_sub(lineage.others.len() as u64);
    if erased > 0 {
        problems.push(format!("identities that were erased with all their templates: {erased}"));
    }
    Ok(moves)
}

async fn of_merge(turn: &mut CollectionTurn, lineage: Lineage) -> Result<Undoing, Fault> {
    let now = turn.now();
    let mut problems = Vec::new();
    let mut moves = movable(turn, &lineage, &mut problems).await?;
    let mut others = Vec::new();
    for other in &lineage.others {
        let id = &other.record.id;
        if turn.store().identity(id).await?.is_some() {
            problems.push(format!("identity {id} was created again"));
        } else if other.record.is_expired(now) {
            problems.push(format!("identity {id} would have expired since, and be deleted at once"));
        } else if other.templates == 0 || moves.iter().any(|one| one.from == *id) {
            others.push(other.clone());
        }
    }
    let restored: HashSet<&IdentityId> = others.iter().map(|other| &other.record.id).collect();
    moves.retain(|one| restored.contains(&one.from));
    Ok(Undoing { lineage, others, moves, problems })
}

async fn of_split(turn: &mut CollectionTurn, lineage: Lineage) -> Result<Undoing, Fault> {
    let mut problems = Vec::new();
    let moves = movable(turn, &lineage, &mut problems).await?;
    let mut others = Vec::new();
    for other in &lineage.others {
        let id = &other.record.id;
        let is_there = turn.store().identity(id).await?.is_some();
        if is_there {
            others.push(other.clone());
        } else if let Some(into) = turn.store().merged_into(id).await? {
            problems.push(format!("identity {id} was merged into {into} since; revert that first"));
        }
    }
    Ok(Undoing { lineage, others, moves, problems })
}

/// Restores the sources, moves their templates back, and takes back what the merge changed of the target's record.
async fn undo_merge(turn: &mut CollectionTurn, target: &IdentityId, undoing: &Undoing) -> Result<Vec<Identity>, Fault> {
    let now = turn.now();
    let present = living(turn, target).await?;
    let record = undoing.lineage.undone(&present, now);
    let mut changes: Vec<Change> = Vec::new();
    if record != present {
        changes.push(Change::PutIdentity(record.clone()));
    }
    changes.extend(undoing.others.iter().map(|other| Change::PutIdentity(other.record.clone())));
    changes.extend(undoing.moves.iter().map(back));
    turn.append(&changes).await?;
    for other in &undoing.others {
        turn.store().hand_back(&other.handed_over, target, &other.record.id).await?;
    }
    let from: HashMap<TemplateId, &IdentityId> = undoing.moves.iter().map(|one| (one.template, &one.from)).collect();
    cases_follow(turn, target, &|template| from.get(&template).map(|id| (*id).clone())).await?;
    Ok(std::iter::once(record).chain(undoing.others.iter().map(|other| other.record.clone())).collect())
}

/// Moves the templates back, and removes the identity that the split made unless it has others now.
async fn undo_split(
    turn: &mut CollectionTurn,
    origin: &IdentityId,
    undoing: &Undoing,
    templates_max: u64,
) -> Result<Vec<Identity>, Fault> {
    let record = living(turn, origin).await?;
    let templates = template_count(turn, origin).await? + undoing.moves.len() as u64;
    if templates > templates_max {
        return Err(Fault::WouldBeTooMany { identity: origin.clone(), templates, limit: templates_max });
    }
    turn.append(&undoing.moves.iter().map(back).collect::<Vec<_>>()).await?;
    let mut identities = vec![record];
    for other in &undoing.others {
        let made = &other.record.id;
        cases_follow(turn, made, &|_| Some(origin.clone())).await?;
        if template_count(turn, made).await? > 0 {
            identities.extend(turn.store().identity(made).await?);
            continue;
        }
        turn.store().hand_over(made, origin).await?;
        turn.append(&[Change::ForgetIdentity(made.clone())]).await?;
    }
    Ok(identities)
}

fn back(one: &TemplateMove) -> Change {
    let TemplateMove { template, from, to } = one.clone();
    change(&TemplateMove { template, from: to, to: from })
}

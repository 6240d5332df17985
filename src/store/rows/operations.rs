use sqlx::{FromRow, types::Json};
use uuid::Uuid;

use super::{Table, narrow};
use crate::{Result, fault::corrupt};
use domain::{
    Operation, OperationId, OperationKind, OperationOutcome, OperationProgress, OperationState, Similarity,
    SurveyFinding, TemplateId, TemplateOwner,
};

const OPERATIONS: Table = Table("operations");
const FINDINGS: Table = Table("operation_findings");

#[derive(Debug, FromRow)]
pub(crate) struct OperationRow {
    id: Uuid,
    kind: String,
    cancelled: bool,
    outcome: Option<Json<OperationOutcome>>,
    done: i64,
    total: i64,
    create_time: i64,
    update_time: i64,
    expire_time: i64,
}

impl OperationRow {
    pub(crate) fn read(self) -> Result<Operation> {
        Ok(Operation {
            id: OperationId(self.id),
            kind: OPERATIONS.word("kind", OperationKind::ALL, OperationKind::as_str, &self.kind)?,
            state: match self.outcome {
                Some(Json(outcome)) => OperationState::Ended(outcome),
                None => OperationState::Running { cancelled: self.cancelled },
            },
            progress: OperationProgress { done: self.done.unsigned_abs(), total: self.total.unsigned_abs() },
            create_time: OPERATIONS.time(self.create_time)?,
            update_time: OPERATIONS.time(self.update_time)?,
            expire_time: OPERATIONS.time(self.expire_time)?,
        })
    }
}

/// A finding joined with the identities that own its templates.
#[derive(Debug, FromRow)]
pub(crate) struct FindingRow {
    template_id: Uuid,
    identity_id: String,
    other_template_id: Option<Uuid>,
    other_identity_id: Option<String>,
    group_number: Option<i64>,
    similarity: Option<f64>,
    llr: Option<f64>,
    same_image: bool,
    dismissed: bool,
}

impl FindingRow {
    pub(crate) fn read(self) -> Result<SurveyFinding<TemplateOwner>> {
        let template = owned(self.template_id, &self.identity_id)?;
        match (self.other_template_id, self.other_identity_id, self.similarity, self.group_number) {
            (Some(other), Some(identity), Some(similarity), None) => Ok(SurveyFinding::Pair {
                templates: [template, owned(other, &identity)?],
                similarity: Similarity(narrow(similarity)),
                llr: self.llr,
                same_image: self.same_image,
                dismissed: self.dismissed,
            }),
            (None, None, None, Some(group)) => Ok(SurveyFinding::Member {
                group: u32::try_from(group).map_err(|_| FINDINGS.unreadable("group_number"))?,
                template,
            }),
            _ => Err(corrupt("a row of operation_findings is neither a pair nor a member of a group")),
        }
    }
}

fn owned(template: Uuid, identity: &str) -> Result<TemplateOwner> {
    Ok(TemplateOwner { template: TemplateId(template), identity: FINDINGS.identity_id(identity)? })
}

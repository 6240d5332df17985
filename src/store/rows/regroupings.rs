use serde::{Deserialize, Serialize};
use sqlx::{FromRow, types::Json};
use uuid::Uuid;

use super::Table;
use crate::{Result, fault::corrupt};
use domain::{
    HandedOver, Identity, Lineage, OtherIdentity, Position, Regrouping, RegroupingId, RegroupingKind, RegroupingState,
    TemplateId, TemplateMove,
};

const REGROUPINGS: Table = Table("regroupings");
const OTHERS: Table = Table("regrouped_identities");
const MOVES: Table = Table("template_moves");

/// The column `body` of a regrouping in force.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LineageRecords {
    pub(crate) before: Identity,
    pub(crate) after: Identity,
    pub(crate) others_then: u64,
}

/// The column `body` of an identity on the other side.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OtherBody {
    pub(crate) record: Identity,
    pub(crate) handed_over: HandedOver,
}

#[derive(Debug, FromRow)]
pub(crate) struct RegroupingRow {
    id: Uuid,
    identity_id: String,
    holder_id: String,
    kind: String,
    position: i64,
    time: i64,
    revert_time: Option<i64>,
    body: Option<Json<LineageRecords>>,
}

#[derive(Debug, FromRow)]
pub(crate) struct OtherRow {
    templates: i64,
    body: Json<OtherBody>,
}

#[derive(Debug, FromRow)]
pub(crate) struct TemplateMoveRow {
    #[sqlx(rename = "template_id")]
    template: Uuid,
    #[sqlx(rename = "from_id")]
    from: String,
    #[sqlx(rename = "to_id")]
    to: String,
}

impl RegroupingRow {
    pub(crate) fn read(self, others: Vec<OtherRow>, moves: Vec<TemplateMoveRow>) -> Result<Regrouping> {
        let state = match (self.revert_time, self.body) {
            (Some(time), None) => RegroupingState::Reverted(REGROUPINGS.time(time)?),
            (None, Some(Json(LineageRecords { before, after, others_then }))) => {
                let others = others.into_iter().map(OtherRow::read).collect::<Result<_>>()?;
                let moves = moves.into_iter().map(TemplateMoveRow::read).collect::<Result<_>>()?;
                RegroupingState::InForce(Box::new(Lineage { before, after, others, others_then, moves }))
            }
            (Some(_), Some(_)) | (None, None) => {
                return Err(corrupt("a row of regroupings is neither in force nor reverted"));
            }
        };
        Ok(Regrouping {
            id: RegroupingId(self.id),
            kind: REGROUPINGS.word("kind", RegroupingKind::ALL, RegroupingKind::as_str, &self.kind)?,
            identity: REGROUPINGS.identity_id(&self.identity_id)?,
            holder: REGROUPINGS.identity_id(&self.holder_id)?,
            position: Position(REGROUPINGS.count(self.position)?),
            time: REGROUPINGS.time(self.time)?,
            state,
        })
    }
}

impl OtherRow {
    fn read(self) -> Result<OtherIdentity> {
        let OtherBody { record, handed_over } = self.body.0;
        Ok(OtherIdentity { record, templates: OTHERS.count(self.templates)?, handed_over })
    }
}

impl TemplateMoveRow {
    fn read(self) -> Result<TemplateMove> {
        Ok(TemplateMove {
            template: TemplateId(self.template),
            from: MOVES.identity_id(&self.from)?,
            to: MOVES.identity_id(&self.to)?,
        })
    }
}

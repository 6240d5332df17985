use sqlx::{FromRow, types::Json};
use uuid::Uuid;

use super::{IdentityRow, SpaceColumns, StoredTemplateRow, Table, narrow};
use crate::{AcceptedTemplate, OwnedTemplate, Result};
use domain::{Assignment, Certificate, Labels, Position, Template, TemplateId, TemplateOrigin, TrackReport};

const TEMPLATES: Table = Table("templates");

pub(crate) fn origin_word(origin: TemplateOrigin) -> &'static str {
    match origin {
        TemplateOrigin::Sample => "sample",
        TemplateOrigin::Embedding => "embedding",
    }
}

#[derive(Debug, FromRow)]
pub(crate) struct TemplateRow {
    id: Uuid,
    identity_id: String,
    #[sqlx(flatten)]
    space: SpaceColumns,
    model: String,
    origin: String,
    quality: Option<f64>,
    frames_used: Option<i64>,
    frames_dropped: Option<i64>,
    spread: Option<f64>,
    accepted_posterior: Option<f64>,
    certificate: Option<Json<Certificate>>,
    position: i64,
    create_time: i64,
}

impl TemplateRow {
    pub(crate) fn read(self) -> Result<Template> {
        Ok(Template {
            id: TemplateId(self.id),
            identity: TEMPLATES.identity_id(&self.identity_id)?,
            space: TEMPLATES.space(&self.space)?,
            model: TEMPLATES.space_name(&self.model)?,
            origin: TEMPLATES.word(
                "origin",
                [TemplateOrigin::Sample, TemplateOrigin::Embedding],
                origin_word,
                &self.origin,
            )?,
            quality: self.quality.map(narrow),
            track: self.track()?,
            assignment: self.assignment(),
            position: Position(TEMPLATES.count(self.position)?),
            create_time: TEMPLATES.time(self.create_time)?,
        })
    }

    pub(super) fn id(&self) -> TemplateId {
        TemplateId(self.id)
    }

    pub(super) fn identity_id(&self) -> &str {
        &self.identity_id
    }

    pub(super) fn position(&self) -> i64 {
        self.position
    }

    fn assignment(&self) -> Assignment {
        match (self.accepted_posterior, &self.certificate) {
            (_, Some(certificate)) => Assignment::Certified(certificate.0.clone()),
            (Some(posterior), None) => Assignment::Accepted { posterior },
            (None, None) => Assignment::Enrolled,
        }
    }

    fn track(&self) -> Result<Option<TrackReport>> {
        let (Some(used), Some(dropped), Some(spread)) = (self.frames_used, self.frames_dropped, self.spread) else {
            return Ok(None);
        };
        let frames = |count: i64| u32::try_from(count).map_err(|_| TEMPLATES.unreadable("frames"));
        let (frames_used, frames_dropped) = (frames(used)?, frames(dropped)?);
        Ok(Some(TrackReport { frames_used, frames_dropped, spread: narrow(spread) }))
    }
}

#[derive(Debug, FromRow)]
pub(crate) struct AcceptedRow {
    id: Uuid,
    identity_id: String,
    #[sqlx(flatten)]
    space: SpaceColumns,
}

impl AcceptedRow {
    pub(crate) fn read(self) -> Result<AcceptedTemplate> {
        Ok(AcceptedTemplate {
            space: TEMPLATES.space(&self.space)?,
            identity: TEMPLATES.identity_id(&self.identity_id)?,
            template: TemplateId(self.id),
        })
    }
}

/// A template with its embedding, joined with the identity that owns it.
#[derive(Debug, FromRow)]
pub(crate) struct OwnedTemplateRow {
    #[sqlx(flatten)]
    stored: StoredTemplateRow,
    labels: Json<Labels>,
    expire_time: Option<i64>,
    provisional: bool,
    revision: i64,
    identity_create_time: i64,
    update_time: i64,
}

impl OwnedTemplateRow {
    pub(crate) fn read(self) -> Result<OwnedTemplate> {
        let Self { stored, labels, expire_time, provisional, revision, identity_create_time, update_time } = self;
        let identity = IdentityRow {
            id: stored.identity_id().to_owned(),
            labels,
            expire_time,
            provisional,
            revision,
            create_time: identity_create_time,
            update_time,
        };
        Ok(OwnedTemplate { stored: stored.read()?, identity: identity.read()? })
    }
}

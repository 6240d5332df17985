use sqlx::{FromRow, types::Json};
use uuid::Uuid;

use super::Table;
use crate::{EnrolledIdentity, ExpiredIdentity, Result};
use domain::{CollectionUid, Identity, Labels, Revision};

const IDENTITIES: Table = Table("identities");

#[derive(Debug, FromRow)]
pub(crate) struct IdentityRow {
    pub(super) id: String,
    pub(super) labels: Json<Labels>,
    pub(super) expire_time: Option<i64>,
    pub(super) provisional: bool,
    pub(super) revision: i64,
    pub(super) create_time: i64,
    pub(super) update_time: i64,
}

impl IdentityRow {
    pub(crate) fn read(self) -> Result<Identity> {
        Ok(Identity {
            id: IDENTITIES.identity_id(&self.id)?,
            labels: self.labels.0,
            expire_time: self.expire_time.map(|at| IDENTITIES.time(at)).transpose()?,
            provisional: self.provisional,
            revision: Revision(IDENTITIES.count(self.revision)?),
            create_time: IDENTITIES.time(self.create_time)?,
            update_time: IDENTITIES.time(self.update_time)?,
        })
    }
}

#[derive(Debug, FromRow)]
pub(crate) struct EnrolledRow {
    #[sqlx(flatten)]
    identity: IdentityRow,
    templates: i64,
}

impl EnrolledRow {
    pub(crate) fn read(self) -> Result<EnrolledIdentity> {
        Ok(EnrolledIdentity { identity: self.identity.read()?, templates: self.templates.unsigned_abs() })
    }
}

#[derive(Debug, FromRow)]
pub(crate) struct ExpiredRow {
    collection_uid: Uuid,
    id: String,
}

impl ExpiredRow {
    pub(crate) fn read(self) -> Result<ExpiredIdentity> {
        let identity = IDENTITIES.identity_id(&self.id)?;
        Ok(ExpiredIdentity { collection: CollectionUid(self.collection_uid), identity })
    }
}

use sqlx::{FromRow, types::Json};
use uuid::Uuid;

use super::{SpaceColumns, Table};
use crate::{CollectionHead, Result, fault::corrupt};
use domain::{Collection, CollectionId, CollectionUid, Policy, Position, Revision, SpaceBinding, SpaceRole};

const COLLECTIONS: Table = Table("collections");
const SPACES: Table = Table("collection_spaces");

pub(crate) fn role_word(role: SpaceRole) -> &'static str {
    match role {
        SpaceRole::Active => "active",
        SpaceRole::Beside => "beside",
    }
}

/// A collection joined with one of its spaces: one row for each space, or one row without a space.
#[derive(Debug, FromRow)]
pub(crate) struct CollectionRow {
    uid: Uuid,
    id: String,
    display_name: String,
    policy: Json<Policy>,
    revision: i64,
    create_time: i64,
    update_time: i64,
    space_name: Option<String>,
    modality: Option<String>,
    digest: Option<Vec<u8>>,
    dimension: Option<i64>,
    parts: Option<i64>,
    role: Option<String>,
    external: Option<bool>,
}

impl CollectionRow {
    /// Collections with their spaces, from rows in which those of one collection follow each other.
    pub(crate) fn fold(rows: Vec<Self>) -> Result<Vec<Collection>> {
        let mut collections: Vec<Collection> = Vec::new();
        for mut row in rows {
            let space = row.take_space()?;
            let uid = CollectionUid(row.uid);
            if collections.last().is_none_or(|last| last.uid != uid) {
                collections.push(row.collection()?);
            }
            let last = collections.last_mut().expect("a collection was pushed above if there was none");
            last.spaces.extend(space);
        }
        Ok(collections)
    }

    fn collection(self) -> Result<Collection> {
        Ok(Collection {
            uid: CollectionUid(self.uid),
            id: collection_id(&self.id)?,
            display_name: self.display_name,
            policy: self.policy.0,
            spaces: Vec::new(),
            revision: Revision(COLLECTIONS.count(self.revision)?),
            create_time: COLLECTIONS.time(self.create_time)?,
            update_time: COLLECTIONS.time(self.update_time)?,
        })
    }

    fn take_space(&mut self) -> Result<Option<SpaceBinding>> {
        let (Some(name), Some(role), Some(external)) = (&self.space_name, &self.role, self.external) else {
            return Ok(None);
        };
        let (Some(modality), Some(digest)) = (self.modality.take(), self.digest.take()) else {
            return Ok(None);
        };
        let (Some(dimension), Some(parts)) = (self.dimension, self.parts) else {
            return Ok(None);
        };
        Ok(Some(SpaceBinding {
            name: SPACES.space_name(name)?,
            space: SPACES.space(&SpaceColumns { modality, digest, dimension, parts })?,
            role: SPACES.word("role", [SpaceRole::Active, SpaceRole::Beside], role_word, role)?,
            external,
        }))
    }
}

#[derive(Debug, FromRow)]
pub(crate) struct HeadRow {
    uid: Uuid,
    id: String,
    revision: i64,
    head_position: i64,
}

impl HeadRow {
    pub(crate) fn read(self) -> Result<CollectionHead> {
        Ok(CollectionHead {
            uid: CollectionUid(self.uid),
            id: collection_id(&self.id)?,
            revision: Revision(COLLECTIONS.count(self.revision)?),
            position: Self::position(self.head_position)?,
        })
    }

    /// The column `head_position` alone.
    pub(crate) fn position(head_position: i64) -> Result<Position> {
        u64::try_from(head_position).map(Position).map_err(|_| corrupt("a negative position in a row of collections"))
    }
}

fn collection_id(text: &str) -> Result<CollectionId> {
    CollectionId::new(text).map_err(|_| COLLECTIONS.unreadable("id"))
}

//! Rows as both databases keep them, and the values of the house that they stand for.
//!
//! Writing cannot fail. Reading can, because a database may hold what this program did not write: then the error names
//! the table or the template, never a label and never a number of an embedding.

use sqlx::{FromRow, types::Json};
use uuid::Uuid;

pub(super) use super::payload::StoredTemplateRow;
use super::{DecisionRecord, Head, IdempotencyRecord, Result, StoreError, fault::corrupt};
use domain::{
    Assignment, CalibrationId, Certificate, Collection, CollectionId, CollectionUid, DecisionId, Embedding,
    EmbeddingSpace, EntryKind, Identity, IdentityId, KeptCalibration, Labels, Modality, ModelDigest, Policy, Pooling,
    Position, Rehearsal, Reviewed, Revision, Similarity, SpaceBinding, SpaceName, SpaceRole, Template, TemplateId,
    TemplateOrigin, Timestamp, TrackReport,
};

/// The one format that payloads have so far: the numbers of a unit vector, 32-bit floats, little endian.
pub(super) const F32LE_UNIT: &str = "f32le-unit";

/// Microseconds since the epoch.
pub(super) fn micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

/// An instant as it comes back from the database.
pub(super) fn kept(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(micros(time)).unwrap_or(time)
}

/// A count as the databases keep it. None of ours comes near 2^63; a position that a client invented may, and then
/// stands after all others as it should.
pub(super) fn bigint(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(super) fn payload_bytes(embedding: &Embedding) -> Vec<u8> {
    embedding.values().iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub(super) fn trial_bytes(trials: &[Similarity]) -> Vec<u8> {
    trials.iter().flat_map(|similarity| similarity.0.to_le_bytes()).collect()
}

pub(super) fn role_word(role: SpaceRole) -> &'static str {
    match role {
        SpaceRole::Active => "active",
        SpaceRole::Beside => "beside",
    }
}

pub(super) fn origin_word(origin: TemplateOrigin) -> &'static str {
    match origin {
        TemplateOrigin::Sample => "sample",
        TemplateOrigin::Embedding => "embedding",
    }
}

/// A collection beside one of its spaces: as many rows as it has spaces, one without a space when it has none.
#[derive(Debug, FromRow)]
pub(super) struct CollectionRow {
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
    pub(super) fn fold(rows: Vec<Self>) -> Result<Vec<Collection>> {
        let mut collections: Vec<Collection> = Vec::new();
        for row in rows {
            let space = row.space()?;
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
        const TABLE: &str = "collections";
        Ok(Collection {
            uid: CollectionUid(self.uid),
            id: collection_id(&self.id)?,
            display_name: self.display_name,
            policy: self.policy.0,
            spaces: Vec::new(),
            revision: Revision(count(TABLE, self.revision)?),
            create_time: time(TABLE, self.create_time)?,
            update_time: time(TABLE, self.update_time)?,
        })
    }

    fn space(&self) -> Result<Option<SpaceBinding>> {
        const TABLE: &str = "collection_spaces";
        let (Some(name), Some(modality), Some(digest), Some(role), Some(external)) =
            (&self.space_name, &self.modality, &self.digest, &self.role, self.external)
        else {
            return Ok(None);
        };
        let (Some(dimension), Some(parts)) = (self.dimension, self.parts) else {
            return Ok(None);
        };
        let role = [SpaceRole::Active, SpaceRole::Beside].into_iter().find(|known| role_word(*known) == role);
        Ok(Some(SpaceBinding {
            name: space_name(TABLE, name)?,
            space: embedding_space(TABLE, modality, digest, [dimension, parts])?,
            role: role.ok_or_else(|| unreadable(TABLE, "role"))?,
            external,
        }))
    }
}

#[derive(Debug, FromRow)]
pub(super) struct HeadRow {
    uid: Uuid,
    id: String,
    revision: i64,
    head_position: i64,
}

impl TryFrom<HeadRow> for Head {
    type Error = StoreError;

    fn try_from(row: HeadRow) -> Result<Self> {
        const TABLE: &str = "collections";
        Ok(Self {
            uid: CollectionUid(row.uid),
            id: collection_id(&row.id)?,
            revision: Revision(count(TABLE, row.revision)?),
            position: Position(count(TABLE, row.head_position)?),
        })
    }
}

#[derive(Debug, FromRow)]
pub(super) struct IdentityRow {
    pub(super) id: String,
    pub(super) labels: Json<Labels>,
    pub(super) expire_time: Option<i64>,
    pub(super) revision: i64,
    pub(super) create_time: i64,
    pub(super) update_time: i64,
}

impl TryFrom<IdentityRow> for Identity {
    type Error = StoreError;

    fn try_from(row: IdentityRow) -> Result<Self> {
        const TABLE: &str = "identities";
        Ok(Self {
            id: identity_id(TABLE, &row.id)?,
            labels: row.labels.0,
            expire_time: row.expire_time.map(|at| time(TABLE, at)).transpose()?,
            revision: Revision(count(TABLE, row.revision)?),
            create_time: time(TABLE, row.create_time)?,
            update_time: time(TABLE, row.update_time)?,
        })
    }
}

/// Whose time has come.
#[derive(Debug, FromRow)]
pub(super) struct ExpiredRow {
    collection_uid: Uuid,
    id: String,
}

impl TryFrom<ExpiredRow> for (CollectionUid, IdentityId) {
    type Error = StoreError;

    fn try_from(row: ExpiredRow) -> Result<Self> {
        Ok((CollectionUid(row.collection_uid), identity_id("identities", &row.id)?))
    }
}

#[derive(Debug, FromRow)]
pub(super) struct TemplateRow {
    id: Uuid,
    identity_id: String,
    modality: String,
    digest: Vec<u8>,
    dimension: i64,
    parts: i64,
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

impl TryFrom<TemplateRow> for Template {
    type Error = StoreError;

    fn try_from(row: TemplateRow) -> Result<Self> {
        const TABLE: &str = "templates";
        let origin = [TemplateOrigin::Sample, TemplateOrigin::Embedding]
            .into_iter()
            .find(|known| origin_word(*known) == row.origin);
        Ok(Self {
            id: TemplateId(row.id),
            identity: identity_id(TABLE, &row.identity_id)?,
            space: embedding_space(TABLE, &row.modality, &row.digest, [row.dimension, row.parts])?,
            model: space_name(TABLE, &row.model)?,
            origin: origin.ok_or_else(|| unreadable(TABLE, "origin"))?,
            quality: row.quality.map(narrow),
            track: row.track()?,
            assignment: row.assignment(),
            position: Position(count(TABLE, row.position)?),
            create_time: time(TABLE, row.create_time)?,
        })
    }
}

impl TemplateRow {
    pub(super) fn id(&self) -> TemplateId {
        TemplateId(self.id)
    }

    pub(super) fn identity(&self) -> &str {
        &self.identity_id
    }

    /// Where the row stands in position order, readable or not.
    pub(super) fn place(&self) -> i64 {
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
        let frames = |count: i64| u32::try_from(count).map_err(|_| unreadable("templates", "frames"));
        let (frames_used, frames_dropped) = (frames(used)?, frames(dropped)?);
        Ok(Some(TrackReport { frames_used, frames_dropped, spread: narrow(spread) }))
    }
}

/// An entry of the log as it stands in the log.
#[derive(Debug, FromRow)]
pub(super) struct LogRow {
    position: i64,
    kind: String,
    identity_id: String,
    template_id: Option<Uuid>,
    time: i64,
}

/// What happened, to whom and when: an entry without the present state of its subject.
#[derive(Debug)]
pub(super) struct LogEntry {
    pub(super) position: Position,
    pub(super) kind: EntryKind,
    pub(super) identity: IdentityId,
    pub(super) template: Option<TemplateId>,
    pub(super) time: Timestamp,
}

impl TryFrom<LogRow> for LogEntry {
    type Error = StoreError;

    fn try_from(row: LogRow) -> Result<Self> {
        const TABLE: &str = "log_entries";
        let kind = EntryKind::ALL.into_iter().find(|known| known.as_str() == row.kind);
        Ok(Self {
            position: Position(count(TABLE, row.position)?),
            kind: kind.ok_or_else(|| unreadable(TABLE, "kind"))?,
            identity: identity_id(TABLE, &row.identity_id)?,
            template: row.template_id.map(TemplateId),
            time: time(TABLE, row.time)?,
        })
    }
}

#[derive(Debug, FromRow)]
pub(super) struct IdempotencyRow {
    body_hash: Vec<u8>,
    answer: Vec<u8>,
    expire_time: i64,
}

impl TryFrom<IdempotencyRow> for IdempotencyRecord {
    type Error = StoreError;

    fn try_from(row: IdempotencyRow) -> Result<Self> {
        const TABLE: &str = "idempotency_keys";
        Ok(Self {
            body_hash: row.body_hash.try_into().map_err(|_| unreadable(TABLE, "body_hash"))?,
            answer: row.answer,
            expire_time: time(TABLE, row.expire_time)?,
        })
    }
}

#[derive(Debug, FromRow)]
pub(super) struct DecisionRow {
    id: Uuid,
    time: i64,
    body: Json<serde_json::Value>,
}

impl TryFrom<DecisionRow> for DecisionRecord {
    type Error = StoreError;

    fn try_from(row: DecisionRow) -> Result<Self> {
        Ok(Self { id: DecisionId(row.id), time: time("decisions", row.time)?, body: row.body.0 })
    }
}

#[derive(Debug, FromRow)]
pub(super) struct CalibrationRow {
    id: Uuid,
    model: String,
    modality: String,
    digest: Vec<u8>,
    dimension: i64,
    parts: i64,
    pooling: Json<Pooling>,
    quality_mean: Option<f64>,
    active: bool,
    identities: i64,
    templates: i64,
    nonmated_best: Vec<u8>,
    impostor: Vec<u8>,
    mated_best: Vec<u8>,
    outsiders: Vec<u8>,
    reviewed_right: Vec<u8>,
    reviewed_wrong: Vec<u8>,
    create_time: i64,
}

impl TryFrom<CalibrationRow> for KeptCalibration {
    type Error = StoreError;

    fn try_from(row: CalibrationRow) -> Result<Self> {
        const TABLE: &str = "calibrations";
        Ok(Self {
            id: CalibrationId(row.id),
            model: space_name(TABLE, &row.model)?,
            space: embedding_space(TABLE, &row.modality, &row.digest, [row.dimension, row.parts])?,
            pooling: row.pooling.0,
            quality_mean: row.quality_mean,
            is_active: row.active,
            create_time: time(TABLE, row.create_time)?,
            rehearsal: Rehearsal {
                identities: count(TABLE, row.identities)?,
                templates: count(TABLE, row.templates)?,
                nonmated_best: trials("nonmated_best", &row.nonmated_best)?,
                impostor: trials("impostor", &row.impostor)?,
                mated_best: trials("mated_best", &row.mated_best)?,
                reviewed: Reviewed {
                    right: trials("reviewed_right", &row.reviewed_right)?,
                    wrong: trials("reviewed_wrong", &row.reviewed_wrong)?,
                },
            },
            outsiders: trials("outsiders", &row.outsiders)?,
        })
    }
}

fn trials(column: &str, bytes: &[u8]) -> Result<Vec<Similarity>> {
    let (numbers, rest) = bytes.as_chunks();
    let trials: Vec<Similarity> = numbers.iter().map(|number| Similarity(f32::from_le_bytes(*number))).collect();
    // A hair beyond one is what a product of unit vectors may come to.
    let is_sound = rest.is_empty() && trials.iter().all(|trial| trial.0.abs() < 1.01);
    if is_sound { Ok(trials) } else { Err(unreadable("calibrations", column)) }
}

#[derive(Debug, FromRow)]
pub(super) struct AcceptedRow {
    id: Uuid,
    identity_id: String,
    modality: String,
    digest: Vec<u8>,
    dimension: i64,
    parts: i64,
}

impl TryFrom<AcceptedRow> for (EmbeddingSpace, IdentityId, TemplateId) {
    type Error = StoreError;

    fn try_from(row: AcceptedRow) -> Result<Self> {
        const TABLE: &str = "templates";
        let space = embedding_space(TABLE, &row.modality, &row.digest, [row.dimension, row.parts])?;
        Ok((space, identity_id(TABLE, &row.identity_id)?, TemplateId(row.id)))
    }
}

/// Reads every row, or says what is wrong with the first that cannot be read.
pub(super) fn read_all<Row, Value>(rows: Vec<Row>) -> Result<Vec<Value>>
where
    Value: TryFrom<Row, Error = StoreError>,
{
    rows.into_iter().map(Value::try_from).collect()
}

/// Reads the row if there is one.
pub(super) fn read_one<Row, Value>(row: Option<Row>) -> Result<Option<Value>>
where
    Value: TryFrom<Row, Error = StoreError>,
{
    row.map(Value::try_from).transpose()
}

fn unreadable(table: &str, column: &str) -> StoreError {
    corrupt(format!("column {column} of a row of {table}"))
}

fn count(table: &str, value: i64) -> Result<u64> {
    u64::try_from(value).map_err(|_| corrupt(format!("a negative count in a row of {table}")))
}

fn time(table: &str, micros: i64) -> Result<Timestamp> {
    Timestamp::from_microsecond(micros).map_err(|_| corrupt(format!("an impossible time in a row of {table}")))
}

fn collection_id(text: &str) -> Result<CollectionId> {
    CollectionId::new(text).map_err(|_| unreadable("collections", "id"))
}

fn identity_id(table: &str, text: &str) -> Result<IdentityId> {
    IdentityId::new(text).map_err(|_| corrupt(format!("the identity's id in a row of {table}")))
}

fn space_name(table: &str, text: &str) -> Result<SpaceName> {
    SpaceName::new(text).map_err(|_| corrupt(format!("the space's name in a row of {table}")))
}

#[expect(clippy::cast_possible_truncation, reason = "it was an f32 when it was written")]
fn narrow(number: f64) -> f32 {
    number as f32
}

fn embedding_space(table: &str, modality: &str, digest: &[u8], [dimension, parts]: [i64; 2]) -> Result<EmbeddingSpace> {
    Ok(EmbeddingSpace {
        modality: modality.parse::<Modality>().map_err(|_| unreadable(table, "modality"))?,
        digest: ModelDigest(digest.try_into().map_err(|_| unreadable(table, "digest"))?),
        dimension: u32::try_from(dimension).map_err(|_| unreadable(table, "dimension"))?,
        parts: u32::try_from(parts).map_err(|_| unreadable(table, "parts"))?,
    })
}

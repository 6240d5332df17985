//! Records for tests: valid, and the same in every call. A test names only what matters to it: `Identity { labels,
//! ..identity("ann") }`.

use uuid::Uuid;

use domain::{
    Assignment, Collection, CollectionId, CollectionUid, Embedding, EmbeddingSpace, Identity, IdentityId, Labels,
    Policy, Position, Revision, SpaceName, StoredTemplate, Template, TemplateId, TemplateOrigin, Timestamp,
};

/// # Panics
/// When the text is no id.
pub fn identity_id(text: &str) -> IdentityId {
    IdentityId::new(text).expect("tests choose valid ids")
}

/// # Panics
/// When a key or a value is none that a label may have.
pub fn labels(pairs: &[(&str, &str)]) -> Labels {
    let pairs: std::collections::BTreeMap<_, _> =
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Labels::try_from(pairs).expect("tests choose valid labels")
}

/// A collection with the default policy and no spaces, made at the epoch.
///
/// # Panics
/// When the text is no id.
pub fn collection(number: u128, id: &str) -> Collection {
    Collection {
        uid: CollectionUid(Uuid::from_u128(number)),
        id: CollectionId::new(id).expect("tests choose valid ids"),
        display_name: String::new(),
        policy: Policy::default(),
        spaces: Vec::new(),
        revision: Revision::FIRST,
        create_time: Timestamp::UNIX_EPOCH,
        update_time: Timestamp::UNIX_EPOCH,
    }
}

/// An identity without labels that does not expire, made at the epoch.
///
/// # Panics
/// When the text is no id.
pub fn identity(id: &str) -> Identity {
    Identity {
        id: identity_id(id),
        labels: Labels::default(),
        expire_time: None,
        provisional: false,
        revision: Revision::FIRST,
        create_time: Timestamp::UNIX_EPOCH,
        update_time: Timestamp::UNIX_EPOCH,
    }
}

/// A template of an embedding that a client enrolled at the epoch; its position is [`Position::START`].
///
/// # Panics
/// When the text is no id.
pub fn template(number: u128, identity: &str, space: EmbeddingSpace) -> Template {
    Template {
        id: TemplateId(Uuid::from_u128(number)),
        identity: identity_id(identity),
        space,
        model: SpaceName::new("test").expect("a valid name"),
        origin: TemplateOrigin::Embedding,
        assignment: Assignment::Enrolled,
        quality: None,
        track: None,
        position: Position::START,
        create_time: Timestamp::UNIX_EPOCH,
    }
}

/// [`template`] with its embedding, at a position.
///
/// # Panics
/// When the text is no id.
pub fn stored_template(number: u128, identity: &str, embedding: Embedding, position: Position) -> StoredTemplate {
    let template = Template { position, ..template(number, identity, embedding.space()) };
    StoredTemplate { template, embedding }
}

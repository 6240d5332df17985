//! Ids. A client may choose collection and identity ids; the server assigns all others.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

/// Maximum length of an id that a client chooses, in characters.
pub const ID_CHARS_MAX: usize = 128;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdError {
    #[error("an id must not be empty")]
    Empty,
    #[error("an id has at most {ID_CHARS_MAX} characters, this one has {0}")]
    TooLong(usize),
    #[error("an id is made of letters, digits, '.', '_', '~' and '-', not {0:?}")]
    BadCharacter(char),
    #[error("an id must not be \".\" or \"..\", which paths read as folders")]
    Dots,
    #[error("this is not the id of anything")]
    NotAUuid,
}

fn checked(text: &str) -> Result<Box<str>, IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if let Some(bad) = text.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '~' | '-')) {
        return Err(IdError::BadCharacter(bad));
    }
    if text.len() > ID_CHARS_MAX {
        return Err(IdError::TooLong(text.len()));
    }
    if text == "." || text == ".." {
        return Err(IdError::Dots);
    }
    Ok(text.into())
}

macro_rules! client_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// # Errors
            /// When the text is not 1 to 128 letters, digits, `.`, `_`, `~`, `-`.
            pub fn new(text: &str) -> Result<Self, IdError> {
                checked(text).map(Self)
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.into()
            }
        }
    };
}

client_id! {
    /// The id of a collection, chosen by a client or generated.
    CollectionId
}
client_id! {
    /// The id of an identity within its collection, chosen by a client or generated.
    IdentityId
}
client_id! {
    /// The name of an embedding space: the id of its model package, or the name that a client declared.
    SpaceName
}

macro_rules! server_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0.hyphenated())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::try_parse(text).map(Self).map_err(|_| IdError::NotAUuid)
            }
        }
    };
}

server_id! {
    /// The unique id of a collection. It is never reused: a new collection under an old id has another uid.
    CollectionUid
}
server_id! {
    /// The id of a stored template.
    TemplateId
}
server_id! {
    /// The id of a stored calibration.
    CalibrationId
}
server_id! {
    /// The id of a decision of resolve.
    DecisionId
}
server_id! {
    /// The id of a review case.
    ReviewCaseId
}
server_id! {
    /// The id of a long-running operation.
    OperationId
}
server_id! {
    /// The id of a regrouping: a merge or a split of identities.
    RegroupingId
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_are_refused_with_the_reason() {
        assert_eq!(IdentityId::new(""), Err(IdError::Empty));
        assert_eq!(IdentityId::new("a b"), Err(IdError::BadCharacter(' ')));
        assert_eq!(IdentityId::new("a/b"), Err(IdError::BadCharacter('/')));
        assert_eq!(IdentityId::new("a:b"), Err(IdError::BadCharacter(':')));
        assert_eq!(IdentityId::new("é"), Err(IdError::BadCharacter('é')));
        assert_eq!(IdentityId::new(".."), Err(IdError::Dots));
        assert_eq!(IdentityId::new(&"x".repeat(129)), Err(IdError::TooLong(129)));
        assert!(IdentityId::new(&"x".repeat(128)).is_ok());
    }

    proptest! {
        #[test]
        fn every_id_of_the_alphabet_survives_json(text in "[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,127}") {
            let id = CollectionId::new(&text).expect("the text follows the rule");
            let json = serde_json::to_string(&id).expect("a string");
            prop_assert_eq!(serde_json::from_str::<CollectionId>(&json).expect("the same string"), id);
        }
    }
}

//! Embedding spaces. Only embeddings of the same space are comparable.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{IdError, SpaceName};

/// The biometric modality of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Modality {
    Face,
    Person,
    Gait,
}

impl Modality {
    pub const ALL: [Self; 3] = [Self::Face, Self::Person, Self::Gait];

    /// The word used in SQL, JSON, metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Face => "face",
            Self::Person => "person",
            Self::Gait => "gait",
        }
    }
}

impl fmt::Display for Modality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Modality {
    type Err = UnknownModality;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|m| m.as_str() == text).ok_or(UnknownModality)
    }
}

/// The text is not a modality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a modality is face, person or gait")]
pub struct UnknownModality;

/// SHA-256 over everything that affects an encoder's output (tensors, architecture, preprocessing, alignment,
/// mirroring), or over a client's declaration of its own space. Embeddings with different digests are not comparable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelDigest(pub [u8; 32]);

impl ModelDigest {
    /// The digest of a space that a client declares.
    #[must_use]
    pub fn of_external(name: &SpaceName, modality: Modality, dimension: u32) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"semblance external space 1\0");
        hash.update(name.as_str().as_bytes());
        hash.update([0]);
        hash.update(modality.as_str().as_bytes());
        hash.update(dimension.to_le_bytes());
        Self(hash.finalize().into())
    }
}

impl fmt::Display for ModelDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ModelDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for ModelDigest {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| IdError::NotAUuid)?;
        Ok(Self(bytes))
    }
}

impl Serialize for ModelDigest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ModelDigest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The space of an embedding. Two embeddings are comparable only if their spaces are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EmbeddingSpace {
    pub modality: Modality,
    pub digest: ModelDigest,
    /// Number of values of an embedding.
    pub dimension: u32,
    /// Number of equal parts that are compared separately: 1 for most encoders; more for encoders of body parts, of
    /// which some may be hidden.
    #[serde(default = "one_part")]
    pub parts: u32,
}

impl EmbeddingSpace {
    /// A space of one part.
    #[must_use]
    pub fn whole(modality: Modality, digest: ModelDigest, dimension: u32) -> Self {
        Self { modality, digest, dimension, parts: 1 }
    }
}

fn one_part() -> u32 {
    1
}

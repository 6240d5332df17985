//! Labels: keys and values that a client stores with an identity and filters by.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Maximum number of labels of an identity.
pub const LABELS_MAX: usize = 64;
/// Maximum length of a label key, in bytes.
pub const LABEL_KEY_BYTES_MAX: usize = 64;
/// Maximum length of a label value, in bytes.
pub const LABEL_VALUE_BYTES_MAX: usize = 512;

/// The labels of one identity. A key is a letter followed by letters, digits, `_` and `-`, so that a filter can name it
/// without quotes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Labels(BTreeMap<String, String>);

/// Why keys and values are not labels.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LabelsError {
    #[error("an identity has at most {LABELS_MAX} labels, these are {0}")]
    TooMany(usize),
    #[error(
        "a label key is a letter followed by letters, digits, '_' and '-', at most {LABEL_KEY_BYTES_MAX} in all; {0:?} is not"
    )]
    BadKey(String),
    #[error("the value of label {0:?} has more than {LABEL_VALUE_BYTES_MAX} bytes")]
    LongValue(String),
    #[error("the value of label {0:?} has a control character")]
    ControlCharacter(String),
}

pub(super) fn is_label_key(key: &str) -> bool {
    key.len() <= LABEL_KEY_BYTES_MAX
        && key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

impl Labels {
    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Whether there are no labels.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These labels overwritten by `other`.
    ///
    /// # Errors
    /// [`LabelsError::TooMany`].
    pub fn merged(&self, other: &Self) -> Result<Self, LabelsError> {
        let mut merged = self.0.clone();
        merged.extend(other.0.iter().map(|(k, v)| (k.clone(), v.clone())));
        Self::try_from(merged)
    }
}

impl TryFrom<BTreeMap<String, String>> for Labels {
    type Error = LabelsError;

    fn try_from(labels: BTreeMap<String, String>) -> Result<Self, LabelsError> {
        if labels.len() > LABELS_MAX {
            return Err(LabelsError::TooMany(labels.len()));
        }
        for (key, value) in &labels {
            if !is_label_key(key) {
                return Err(LabelsError::BadKey(key.chars().take(LABEL_KEY_BYTES_MAX).collect()));
            }
            if value.len() > LABEL_VALUE_BYTES_MAX {
                return Err(LabelsError::LongValue(key.clone()));
            }
            // Postgres cannot store a NUL in text, and other control characters have no place in a label.
            if value.chars().any(char::is_control) {
                return Err(LabelsError::ControlCharacter(key.clone()));
            }
        }
        Ok(Self(labels))
    }
}

impl From<Labels> for BTreeMap<String, String> {
    fn from(labels: Labels) -> Self {
        labels.0
    }
}

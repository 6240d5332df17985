//! The consistency token: a position in the log of a collection that a read can wait for.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::matcher::request::fault::Fault;
use domain::{CollectionUid, Position};

/// A position in the log of a collection. A write returns it; a read with it sees that write.
///
/// Its text form is base64url without padding of 24 bytes: 16 of the collection's uid, 8 of the position, big-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsistencyToken {
    uid: CollectionUid,
    position: Position,
}

impl ConsistencyToken {
    pub(crate) fn at(uid: CollectionUid, position: Position) -> Self {
        Self { uid, position }
    }

    pub(crate) fn uid(self) -> CollectionUid {
        self.uid
    }

    pub(crate) fn position(self) -> Position {
        self.position
    }
}

impl fmt::Display for ConsistencyToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(self.uid.0.as_bytes());
        bytes[16..].copy_from_slice(&self.position.0.to_be_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for ConsistencyToken {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let bad = || Fault::invalid("consistencyToken", "this is not a token that a write returned");
        let bytes: [u8; 24] = URL_SAFE_NO_PAD.decode(text).ok().and_then(|b| b.try_into().ok()).ok_or_else(bad)?;
        let (uid, position) = bytes.split_at(16);
        Ok(Self {
            uid: CollectionUid(Uuid::from_slice(uid).map_err(|_| bad())?),
            position: Position(u64::from_be_bytes(position.try_into().map_err(|_| bad())?)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text_form_and_other_texts_are_refused() {
        let token = ConsistencyToken { uid: CollectionUid(Uuid::from_u128(77)), position: Position(300) };
        assert_eq!(token.to_string().parse::<ConsistencyToken>().expect("our own"), token);
        for bad in ["", "x", "AAAA", "====", &"A".repeat(33)] {
            assert!(bad.parse::<ConsistencyToken>().is_err(), "{bad}");
        }
    }
}

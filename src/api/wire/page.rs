//! Paging. Page tokens are opaque, and bound to their list and filter.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use crate::matcher::Fault;

const PAGE_SIZE: u32 = 100;
const PAGE_SIZE_MAX: u32 = 1000;
/// The bytes of the hash that binds a token to its list.
const BINDING_BYTES: usize = 8;

/// The start and the length of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::api) struct PageRequest {
    pub limit: u32,
    /// The id after which the page starts.
    pub after: Option<String>,
}

impl PageRequest {
    /// `list` identifies the list and its filter.
    pub(in crate::api) fn parse(page_size: i32, page_token: &str, list: &str) -> Result<Self, Fault> {
        let limit = match u32::try_from(page_size) {
            Ok(0) => PAGE_SIZE,
            Ok(size) => size.min(PAGE_SIZE_MAX),
            Err(_) => return Err(Fault::invalid("pageSize", "a page size must not be negative")),
        };
        if page_token.is_empty() {
            return Ok(Self { limit, after: None });
        }
        let bad = || Fault::invalid("pageToken", "this token is not of this list with this filter");
        let bytes = URL_SAFE_NO_PAD.decode(page_token).map_err(|_| bad())?;
        let (bound, after) = bytes.split_at_checked(BINDING_BYTES).ok_or_else(bad)?;
        if *bound != binding(list) {
            return Err(bad());
        }
        Ok(Self { limit, after: Some(String::from_utf8(after.to_vec()).map_err(|_| bad())?) })
    }
}

fn binding(list: &str) -> [u8; BINDING_BYTES] {
    let hash = Sha256::digest(list.as_bytes());
    hash[..BINDING_BYTES].try_into().expect("a hash is longer")
}

/// The token of the page that starts after `after`; empty when there is none.
pub(in crate::api) fn token(after: Option<String>, list: &str) -> String {
    after.map_or_else(String::new, |after| URL_SAFE_NO_PAD.encode([&binding(list), after.as_bytes()].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_valid_for_its_own_list_only() {
        let next = token(Some("alice".to_owned()), "identities of staff");
        let page = PageRequest::parse(0, &next, "identities of staff").expect("our own");
        assert_eq!(page, PageRequest { limit: 100, after: Some("alice".to_owned()) });
        assert!(PageRequest::parse(0, &next, "identities of guests").is_err());
        assert!(PageRequest::parse(0, "garbage", "identities of staff").is_err());
        assert!(PageRequest::parse(-1, "", "identities of staff").is_err());
        assert_eq!(PageRequest::parse(5000, "", "x").expect("valid").limit, 1000);
    }
}

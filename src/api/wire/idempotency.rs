//! Requests that take effect at most once under one id.

use prost::Message;
use sha2::{Digest, Sha256};

use crate::{api::proto, matcher::Fault};

/// The longest id that a client may give a request.
const REQUEST_ID_CHARS_MAX: usize = 128;

/// A request that may carry an id.
pub(in crate::api) trait Idempotent: Message + 'static {
    /// The name under which the store keeps the id.
    const METHOD: &'static str;

    fn take_request_id(&mut self) -> String;
}

macro_rules! idempotent {
    ($($message:ident is $method:literal),* $(,)?) => {$(
        impl Idempotent for proto::$message {
            const METHOD: &'static str = $method;

            fn take_request_id(&mut self) -> String {
                std::mem::take(&mut self.request_id)
            }
        }
    )*};
}

idempotent! {
    ApplyFindingRequest is "ApplyFinding",
    ClusterTemplatesRequest is "ClusterTemplates",
    CreateCalibrationRequest is "CreateCalibration",
    CreateCollectionRequest is "CreateCollection",
    CreateIdentityRequest is "CreateIdentity",
    DecideReviewCaseRequest is "DecideReviewCase",
    // An entry of a batch too: a request under one id is the same on both ways.
    EnrollRequest is "Enroll",
    FindDuplicatesRequest is "FindDuplicates",
    MergeIdentitiesRequest is "MergeIdentities",
    ResolveRequest is "Resolve",
    RevertIdentityRequest is "RevertIdentity",
    SplitIdentityRequest is "SplitIdentity",
    UpdateIdentityRequest is "UpdateIdentity",
}

/// # Errors
/// When the id is too long or has control characters.
pub(in crate::api) fn check_request_id(request_id: &str) -> Result<(), Fault> {
    if request_id.chars().count() > REQUEST_ID_CHARS_MAX || request_id.chars().any(char::is_control) {
        let problem = format!("a request id has at most {REQUEST_ID_CHARS_MAX} characters and no control characters");
        return Err(Fault::invalid("requestId", problem));
    }
    Ok(())
}

/// sha256 of a request without its id.
pub(in crate::api) fn body_hash(message: &impl Message) -> [u8; 32] {
    Sha256::digest(message.encode_to_vec()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_does_not_depend_on_the_id() {
        let mut first = proto::EnrollRequest { request_id: "a".to_owned(), ..Default::default() };
        let mut again = proto::EnrollRequest { request_id: "b".to_owned(), ..Default::default() };
        assert_ne!(body_hash(&first), body_hash(&again));
        assert_eq!((first.take_request_id(), again.take_request_id()), ("a".to_owned(), "b".to_owned()));
        assert_eq!(body_hash(&first), body_hash(&again));
    }

    #[test]
    fn long_ids_and_control_characters_are_refused() {
        assert!(check_request_id(&"é".repeat(128)).is_ok());
        assert!(check_request_id(&"é".repeat(129)).is_err());
        assert!(check_request_id("a\nb").is_err());
    }
}

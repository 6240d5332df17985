//! The one table from faults to status codes, and the two wire forms of a fault. No other file names a status code.

use std::collections::HashMap;

use http::StatusCode;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::proto;
use crate::matcher::{Fault, FaultKind};
use domain::{ErrorChain, OperationFailure};

/// The domain of `ErrorInfo.reason`.
const DOMAIN: &str = "semblance";
/// The key of the kind in `ErrorInfo.metadata`.
const KIND: &str = "kind";

/// The codes of a kind of fault.
struct Row {
    grpc: Code,
    http: StatusCode,
    word: &'static str,
}

/// The table.
fn row(kind: FaultKind) -> Row {
    let (grpc, http, word) = match kind {
        FaultKind::InvalidArgument => (Code::InvalidArgument, StatusCode::BAD_REQUEST, "INVALID_ARGUMENT"),
        FaultKind::UnusableSample => (Code::InvalidArgument, StatusCode::UNPROCESSABLE_ENTITY, "UNUSABLE_SAMPLE"),
        FaultKind::NotFound => (Code::NotFound, StatusCode::NOT_FOUND, "NOT_FOUND"),
        FaultKind::AlreadyExists => (Code::AlreadyExists, StatusCode::CONFLICT, "ALREADY_EXISTS"),
        FaultKind::FailedPrecondition => (Code::FailedPrecondition, StatusCode::CONFLICT, "FAILED_PRECONDITION"),
        FaultKind::Aborted => (Code::Aborted, StatusCode::CONFLICT, "ABORTED"),
        FaultKind::ResourceExhausted => (Code::ResourceExhausted, StatusCode::TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED"),
        FaultKind::DeadlineExceeded => (Code::DeadlineExceeded, StatusCode::GATEWAY_TIMEOUT, "DEADLINE_EXCEEDED"),
        FaultKind::Unavailable => (Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
        FaultKind::Internal => (Code::Internal, StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL"),
    };
    Row { grpc, http, word }
}

/// The codes of a failed operation: the number of a google.rpc.Code, and a word.
pub(super) fn operation_code(failure: OperationFailure) -> (i32, String) {
    let code = match failure {
        OperationFailure::Cancelled => Code::Cancelled,
        OperationFailure::ServerStopped => Code::Aborted,
        OperationFailure::NoCalibration => Code::FailedPrecondition,
        OperationFailure::TooMuchFound => Code::ResourceExhausted,
        OperationFailure::Internal => Code::Internal,
    };
    (code.into(), failure.as_str().to_ascii_uppercase())
}

/// Faults before any use case is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WireFault {
    NoSuchRoute,
    MethodNotAllowed,
    UnsupportedMediaType,
    BodyTooLarge,
    BodyTooSlow,
    Unauthenticated,
    Forbidden,
}

impl WireFault {
    const ALL: [Self; 7] = [
        Self::NoSuchRoute,
        Self::MethodNotAllowed,
        Self::UnsupportedMediaType,
        Self::BodyTooLarge,
        Self::BodyTooSlow,
        Self::Unauthenticated,
        Self::Forbidden,
    ];

    fn row(self) -> Row {
        let (grpc, http, word) = match self {
            Self::NoSuchRoute => (Code::Unimplemented, StatusCode::NOT_FOUND, "NO_SUCH_ROUTE"),
            Self::MethodNotAllowed => (Code::Unimplemented, StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"),
            Self::UnsupportedMediaType => {
                (Code::InvalidArgument, StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE")
            }
            Self::BodyTooLarge => (Code::OutOfRange, StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE"),
            Self::BodyTooSlow => (Code::DeadlineExceeded, StatusCode::REQUEST_TIMEOUT, "BODY_TOO_SLOW"),
            Self::Unauthenticated => (Code::Unauthenticated, StatusCode::UNAUTHORIZED, "UNAUTHENTICATED"),
            Self::Forbidden => (Code::PermissionDenied, StatusCode::FORBIDDEN, "PERMISSION_DENIED"),
        };
        Row { grpc, http, word }
    }

    /// The fault as a status. The sentence says what to do.
    pub(super) fn status(self, sentence: impl Into<String>) -> Status {
        let row = self.row();
        Status::with_error_details(row.grpc, sentence, details(row.word, row.word))
    }
}

fn details(code: &str, kind: &str) -> ErrorDetails {
    ErrorDetails::with_error_info(code, DOMAIN, HashMap::from([(KIND.to_owned(), kind.to_owned())]))
}

/// The fault as a gRPC status. The causes of an internal fault are logged here, once, and not sent.
pub(super) fn status(fault: &Fault) -> Status {
    let row = row(fault.kind());
    if matches!(fault, Fault::Internal(_) | Fault::StoreUnavailable(_) | Fault::OutcomeUnknown(_)) {
        log(fault);
    }
    let mut details = details(fault.code(), row.word);
    if let Some(field) = fault.field() {
        details.add_bad_request_violation(field, fault.to_string());
    }
    if let Some(wait) = fault.retry_after() {
        details.set_retry_info(Some(wait));
    }
    Status::with_error_details(row.grpc, fault.to_string(), details)
}

/// The status of a message that is no protobuf of its type, where tonic answered INTERNAL. Faults of this server have details,
/// tonic's have none. Faults of gRPC's own framing stay INTERNAL, as its specification wants.
pub(super) fn malformed_message(answered: &Status) -> Option<Status> {
    let is_of_tonic = answered.code() == Code::Internal && answered.details().is_empty();
    let is_malformed = is_of_tonic && !answered.message().starts_with("protocol error");
    is_malformed.then(|| status(&Fault::invalid("message", format!("it cannot be read: {}", answered.message()))))
}

/// The fault as the outcome of a batch entry.
pub(super) fn refusal(fault: &Fault) -> proto::Refusal {
    let status = status(fault);
    proto::Refusal {
        status: http(&status).as_u16().into(),
        code: fault.code().to_owned(),
        detail: fault.to_string(),
        grpc_code: status.code().into(),
        retry_after_seconds: fault.retry_after().map(|wait| wait.as_secs_f64()),
    }
}

fn log(fault: &Fault) {
    let causes = std::error::Error::source(fault).map(|source| ErrorChain(source).to_string()).unwrap_or_default();
    tracing::error!(code = fault.code(), causes, "a request failed");
}

/// The HTTP code of a status, of this table or of tonic.
pub(super) fn http(status: &Status) -> StatusCode {
    let kind = status.get_details_error_info().and_then(|info| info.metadata.get(KIND).cloned());
    let rows = FaultKind::ALL.into_iter().map(row).chain(WireFault::ALL.into_iter().map(WireFault::row));
    match kind.and_then(|kind| rows.into_iter().find(|r| r.word == kind)) {
        Some(row) => row.http,
        None => http_of_code(status.code()),
    }
}

/// The HTTP code of a status of tonic, by the mapping of google.rpc.Code.
fn http_of_code(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::from_u16(499).expect("499 is a code"),
        Code::InvalidArgument | Code::FailedPrecondition => StatusCode::BAD_REQUEST,
        Code::OutOfRange => StatusCode::PAYLOAD_TOO_LARGE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A word for the code in metrics, the same on both wires.
pub(super) fn word(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use domain::{CollectionId, IdentityId, Modality, Reason};

    #[test]
    fn the_codes_of_faults_do_not_change() {
        let faults = [
            (Fault::invalid("topK", "topK is 1 to 1000"), Code::InvalidArgument, 400),
            (Fault::unusable("NO_FACE", &"no face"), Code::InvalidArgument, 422),
            (Fault::Refused { sample: 0, reasons: vec![Reason::PadFailed] }, Code::InvalidArgument, 422),
            (Fault::NoCollection(CollectionId::new("c").expect("valid")), Code::NotFound, 404),
            (Fault::IdentityExists(IdentityId::new("i").expect("valid")), Code::AlreadyExists, 409),
            (Fault::RequestIdReused, Code::AlreadyExists, 409),
            (Fault::NoEncoder(Modality::Gait), Code::FailedPrecondition, 409),
            (Fault::EtagMoved, Code::Aborted, 409),
            (Fault::Busy { retry_after: Duration::from_secs(2) }, Code::ResourceExhausted, 429),
            (Fault::TooLate, Code::DeadlineExceeded, 504),
            (Fault::ShuttingDown, Code::Unavailable, 503),
            (Fault::internal("boom"), Code::Internal, 500),
        ];
        for (fault, grpc, code) in faults {
            let sent = status(&fault);
            assert_eq!(sent.code(), grpc, "{fault:?}");
            assert_eq!(http(&sent).as_u16(), code, "{fault:?}");
            assert_eq!(sent.get_details_error_info().expect("always").reason, fault.code());
        }
        for (fault, code) in WireFault::ALL.into_iter().zip([404, 405, 415, 413, 408, 401, 403]) {
            assert_eq!(http(&fault.status("a sentence")).as_u16(), code, "{fault:?}");
        }
    }

    #[test]
    fn no_two_kinds_share_a_word() {
        let mut words: Vec<_> = FaultKind::ALL
            .into_iter()
            .map(row)
            .chain(WireFault::ALL.into_iter().map(WireFault::row))
            .map(|r| r.word)
            .collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), FaultKind::ALL.len() + WireFault::ALL.len());
    }

    #[test]
    fn the_cause_of_an_internal_fault_is_not_sent() {
        let sent = status(&Fault::internal("password=hunter2"));
        assert!(!sent.message().contains("hunter2"));
    }
}

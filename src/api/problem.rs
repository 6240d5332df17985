//! Statuses in the form of RFC 9457, `application/problem+json`.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use tonic::Status;
use tonic_types::StatusExt;

use super::status;

/// The response for a refused request. `instance` is the path of the request.
pub(super) fn problem(refused: &Status, instance: &str) -> Response {
    let code = status::http(refused);
    let details = refused.get_error_details();
    let reason =
        details.error_info().map_or_else(|| status::word(refused.code()).to_owned(), |info| info.reason.clone());
    let violations: Vec<Value> = details
        .bad_request()
        .map(|b| b.field_violations.iter().map(|v| json!({"field": v.field, "description": v.description})).collect())
        .unwrap_or_default();
    let mut body = json!({
        "type": format!("urn:semblance:problem:{}", reason.to_ascii_lowercase().replace('_', "-")),
        "title": code.canonical_reason().unwrap_or("Client Closed Request"),
        "status": code.as_u16(),
        "detail": refused.message(),
        "instance": instance,
        "code": reason,
    });
    if !violations.is_empty() {
        body["violations"] = Value::Array(violations);
    }
    let mut response = (code, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response();
    if let Some(wait) = details.retry_info().and_then(|r| r.retry_delay) {
        let seconds = wait.as_secs_f64().ceil().max(1.0);
        if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
    }
    if code == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

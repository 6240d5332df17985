//! The caller's trace: the header `traceparent` of W3C Trace Context, <https://www.w3.org/TR/trace-context/>.

use http::HeaderMap;
use tracing::Span;

/// Adds the caller's trace to a request's span, which declares `trace_id` and `parent_span_id`. Other headers than valid
/// ones are ignored, as the standard wants: a trace must not make a request fail.
pub(super) fn record_parent(span: &Span, headers: &HeaderMap) {
    let header = headers.get("traceparent").and_then(|value| value.to_str().ok());
    if let Some((trace_id, parent_span_id)) = header.and_then(ids) {
        span.record("trace_id", trace_id).record("parent_span_id", parent_span_id);
    }
}

/// The ids of the trace and of the calling span, in hexadecimal digits: 32 and 16 of them.
fn ids(header: &str) -> Option<(&str, &str)> {
    let mut fields = header.split('-');
    let (version, trace_id, span_id, flags) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let is_hex = |field: &str, digits: usize| {
        field.len() == digits && field.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_id = |field: &str, digits: usize| is_hex(field, digits) && field.bytes().any(|digit| digit != b'0');
    // Version 00 has four fields; a later one may add some, and ff is none.
    let is_complete = match version {
        "00" => fields.next().is_none(),
        "ff" => false,
        _ => is_hex(version, 2),
    };
    (is_complete && is_id(trace_id, 32) && is_id(span_id, 16) && is_hex(flags, 2)).then_some((trace_id, span_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn a_valid_header_gives_its_ids() {
        for (version, rest) in [("00", ""), ("cc", ""), ("cc", "-what-the-future-adds")] {
            assert_eq!(ids(&format!("{version}-{TRACE}-{SPAN}-01{rest}")), Some((TRACE, SPAN)));
        }
    }

    #[test]
    fn an_invalid_header_is_ignored() {
        let (no_trace, no_span) = ("0".repeat(32), "0".repeat(16));
        for header in [
            String::new(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("0-{TRACE}-{SPAN}-01"),
            format!("00-{no_trace}-{SPAN}-01"),
            format!("00-{TRACE}-{no_span}-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{}-{SPAN}-01", &TRACE[1..]),
            format!("00-{TRACE}-{SPAN}-1"),
        ] {
            assert_eq!(ids(&header), None, "{header}");
        }
    }
}

//! Who may ask. Every request on both wires passes here and leaves with a principal, or not at all.

use std::net::SocketAddr;

use http::{HeaderMap, Uri, header, uri::Authority};
use subtle::ConstantTimeEq;

use super::status::WireFault;
use crate::matcher::Principal;

/// Who may ask; filled from the configuration.
#[derive(Clone, Default)]
pub struct AccessOptions {
    /// The bearer key that every request must carry, when there is one.
    pub api_key: Option<String>,
    /// Without a key: whether others than this machine itself may ask.
    pub allow_anonymous: bool,
}

impl std::fmt::Debug for AccessOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = self.api_key.as_ref().map(|_| "set");
        f.debug_struct("AccessOptions").field("api_key", &key).field("allow_anonymous", &self.allow_anonymous).finish()
    }
}

/// Headers by which a proxy says that it speaks for somebody else.
const PROXIED: [&str; 3] = ["forwarded", "x-forwarded-for", "x-real-ip"];

/// What is refused, and the sentence that says why.
pub(super) type Refusal = (WireFault, &'static str);

impl AccessOptions {
    /// Finds out who asks.
    ///
    /// With a key, every caller must carry it, this machine's own included: a proxy beside the server would otherwise
    /// open it to everybody. Without one, only this machine may ask, unless the operator says otherwise.
    pub(super) fn admit(&self, peer: Option<SocketAddr>, uri: &Uri, headers: &HeaderMap) -> Result<Principal, Refusal> {
        if let Some(key) = &self.api_key {
            return match bearer(headers) {
                None => Err((WireFault::Unauthenticated, "send the key of this server: Authorization: Bearer <key>")),
                Some(given) if bool::from(given.as_bytes().ct_eq(key.as_bytes())) => Ok(Principal::new("api-key")),
                Some(_) => Err((WireFault::Unauthenticated, "this is not the key of this server")),
            };
        }
        if self.allow_anonymous {
            return Ok(Principal::new("anonymous"));
        }
        if !peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback()) {
            let sentence = "without a key this server answers its own machine only; set SEMBLANCE_API_KEY, or \
                            SEMBLANCE_ALLOW_ANONYMOUS=true where the network itself keeps strangers out";
            return Err((WireFault::Forbidden, sentence));
        }
        if PROXIED.iter().any(|header| headers.contains_key(*header)) {
            let sentence = "this came through a proxy, and without a key this server answers its own machine only; set \
                            SEMBLANCE_API_KEY";
            return Err((WireFault::Forbidden, sentence));
        }
        if !is_local_call(uri, headers) {
            let sentence = "a page of another site may not use this server; set SEMBLANCE_API_KEY to let programs in";
            return Err((WireFault::Forbidden, sentence));
        }
        Ok(Principal::new("loopback"))
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
}

/// Whether the caller means this machine by name and no web page of another site sent it: a browser on this machine is
/// also on loopback, and pages from anywhere make it ask.
fn is_local_call(uri: &Uri, headers: &HeaderMap) -> bool {
    let named =
        headers.get(header::HOST).and_then(|h| h.to_str().ok()).or_else(|| uri.authority().map(Authority::as_str));
    let origin = headers.get(header::ORIGIN).map(|o| o.to_str().unwrap_or_default());
    let origin_is_local = origin.is_none_or(|origin| {
        origin.parse::<Uri>().ok().and_then(|o| o.authority().map(|a| is_loopback_name(a.as_str()))).unwrap_or(false)
    });
    named.is_none_or(is_loopback_name) && origin_is_local
}

fn is_loopback_name(authority: &str) -> bool {
    let Ok(authority) = authority.parse::<Authority>() else {
        return false;
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn ask(options: &AccessOptions, peer: &str, headers: &[(HeaderName, &str)]) -> Result<Principal, Refusal> {
        let headers = headers.iter().map(|(n, v)| (n.clone(), HeaderValue::from_str(v).expect("valid"))).collect();
        options.admit(Some(peer.parse().expect("an address")), &Uri::from_static("/v1/models"), &headers)
    }

    #[test]
    fn without_a_key_only_this_machine_may_ask() {
        let options = AccessOptions::default();
        assert!(ask(&options, "127.0.0.1:5", &[]).is_ok());
        assert!(ask(&options, "[::1]:5", &[(header::HOST, "localhost:8080")]).is_ok());
        assert!(ask(&options, "[::ffff:127.0.0.1]:5", &[]).is_ok());
        assert_eq!(ask(&options, "192.0.2.7:5", &[]).expect_err("a stranger").0, WireFault::Forbidden);
        let open = AccessOptions { allow_anonymous: true, ..AccessOptions::default() };
        assert!(ask(&open, "192.0.2.7:5", &[]).is_ok());
    }

    #[test]
    fn pages_of_other_sites_may_not_use_a_browser_here() {
        let options = AccessOptions::default();
        for headers in [
            [(header::ORIGIN, "https://evil.example"), (header::HOST, "127.0.0.1:8080")],
            [(header::ORIGIN, "null"), (header::HOST, "127.0.0.1:8080")],
            [(header::ORIGIN, "http://localhost:8080"), (header::HOST, "evil.example")],
        ] {
            assert_eq!(ask(&options, "127.0.0.1:5", &headers).expect_err("another site").0, WireFault::Forbidden);
        }
        assert!(ask(&options, "127.0.0.1:5", &[(header::ORIGIN, "http://localhost:3000")]).is_ok());
        let proxied = [(HeaderName::from_static("x-forwarded-for"), "203.0.113.9")];
        assert_eq!(ask(&options, "127.0.0.1:5", &proxied).expect_err("a proxy").0, WireFault::Forbidden);
    }

    #[test]
    fn with_a_key_everybody_must_carry_it() {
        let options = AccessOptions { api_key: Some("sesame".to_owned()), allow_anonymous: true };
        for (value, ok) in
            [("Bearer sesame", true), ("bearer sesame", true), ("Bearer sesam", false), ("sesame", false)]
        {
            assert_eq!(ask(&options, "127.0.0.1:5", &[(header::AUTHORIZATION, value)]).is_ok(), ok, "{value}");
        }
        assert_eq!(ask(&options, "127.0.0.1:5", &[]).expect_err("no key").0, WireFault::Unauthenticated);
    }

    #[test]
    fn keys_stay_out_of_the_debug_form() {
        let options = AccessOptions { api_key: Some("sesame".to_owned()), allow_anonymous: false };
        assert!(!format!("{options:?}").contains("sesame"));
    }
}

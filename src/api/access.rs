//! Authentication. A request on either wire gets a principal here, or is refused.

use std::net::SocketAddr;

use http::{HeaderMap, Uri, header, uri::Authority};
use subtle::ConstantTimeEq;

use super::status::WireFault;
use crate::matcher::Principal;

/// Access rules, from the configuration.
#[derive(Clone, Default)]
pub struct AccessOptions {
    /// The bearer key of every request. Without one, only requests of this machine are admitted.
    pub api_key: Option<String>,
    /// Without a key: whether requests of other machines are admitted.
    pub allow_anonymous: bool,
}

impl std::fmt::Debug for AccessOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = self.api_key.as_ref().map(|_| "set");
        f.debug_struct("AccessOptions").field("api_key", &key).field("allow_anonymous", &self.allow_anonymous).finish()
    }
}

/// The headers of a proxy.
const PROXIED: [&str; 3] = ["forwarded", "x-forwarded-for", "x-real-ip"];

/// A request without access, and the sentence for its sender.
#[derive(Debug)]
pub(super) struct Denied {
    pub(super) fault: WireFault,
    pub(super) sentence: &'static str,
}

fn unauthenticated(sentence: &'static str) -> Denied {
    Denied { fault: WireFault::Unauthenticated, sentence }
}

fn forbidden(sentence: &'static str) -> Denied {
    Denied { fault: WireFault::Forbidden, sentence }
}

impl AccessOptions {
    /// The principal of a request.
    ///
    /// With a key, requests of this machine need it too: a proxy on this machine would otherwise admit everyone. Without
    /// a key, only requests of this machine are admitted, unless the operator allows anonymous ones.
    pub(super) fn admit(&self, peer: Option<SocketAddr>, uri: &Uri, headers: &HeaderMap) -> Result<Principal, Denied> {
        if let Some(key) = &self.api_key {
            return match bearer(headers) {
                None => Err(unauthenticated("send the key of this server: Authorization: Bearer <key>")),
                Some(given) if bool::from(given.as_bytes().ct_eq(key.as_bytes())) => Ok(Principal::new("api-key")),
                Some(_) => Err(unauthenticated("this is not the key of this server")),
            };
        }
        if self.allow_anonymous {
            return Ok(Principal::new("anonymous"));
        }
        if !peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback()) {
            return Err(forbidden(
                "without a key this server answers its own machine only; set SEMBLANCE_API_KEY, or \
                 SEMBLANCE_ALLOW_ANONYMOUS=true on a network that restricts access itself",
            ));
        }
        if PROXIED.iter().any(|header| headers.contains_key(*header)) {
            return Err(forbidden(
                "this request came through a proxy, and without a key this server answers its own machine only; set \
                 SEMBLANCE_API_KEY",
            ));
        }
        if !is_local_call(uri, headers) {
            return Err(forbidden(
                "a page of another site may not use this server; set SEMBLANCE_API_KEY for programs",
            ));
        }
        Ok(Principal::new("loopback"))
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
}

/// Whether the request names this machine and no page of another site sent it. A browser on this machine is on loopback
/// too, and pages of any site can make it send requests.
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

    fn ask(options: &AccessOptions, peer: &str, headers: &[(HeaderName, &str)]) -> Result<Principal, Denied> {
        let headers = headers.iter().map(|(n, v)| (n.clone(), HeaderValue::from_str(v).expect("valid"))).collect();
        options.admit(Some(peer.parse().expect("an address")), &Uri::from_static("/v1/models"), &headers)
    }

    #[test]
    fn without_a_key_only_this_machine_is_admitted() {
        let options = AccessOptions::default();
        assert!(ask(&options, "127.0.0.1:5", &[]).is_ok());
        assert!(ask(&options, "[::1]:5", &[(header::HOST, "localhost:8080")]).is_ok());
        assert!(ask(&options, "[::ffff:127.0.0.1]:5", &[]).is_ok());
        assert_eq!(ask(&options, "192.0.2.7:5", &[]).expect_err("another machine").fault, WireFault::Forbidden);
        let open = AccessOptions { allow_anonymous: true, ..AccessOptions::default() };
        assert!(ask(&open, "192.0.2.7:5", &[]).is_ok());
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let options = AccessOptions::default();
        for headers in [
            [(header::ORIGIN, "https://evil.example"), (header::HOST, "127.0.0.1:8080")],
            [(header::ORIGIN, "null"), (header::HOST, "127.0.0.1:8080")],
            [(header::ORIGIN, "http://localhost:8080"), (header::HOST, "evil.example")],
        ] {
            assert_eq!(ask(&options, "127.0.0.1:5", &headers).expect_err("another site").fault, WireFault::Forbidden);
        }
        assert!(ask(&options, "127.0.0.1:5", &[(header::ORIGIN, "http://localhost:3000")]).is_ok());
        let proxied = [(HeaderName::from_static("x-forwarded-for"), "203.0.113.9")];
        assert_eq!(ask(&options, "127.0.0.1:5", &proxied).expect_err("a proxy").fault, WireFault::Forbidden);
    }

    #[test]
    fn with_a_key_every_request_needs_it() {
        let options = AccessOptions { api_key: Some("sesame".to_owned()), allow_anonymous: true };
        for (value, ok) in
            [("Bearer sesame", true), ("bearer sesame", true), ("Bearer sesam", false), ("sesame", false)]
        {
            assert_eq!(ask(&options, "127.0.0.1:5", &[(header::AUTHORIZATION, value)]).is_ok(), ok, "{value}");
        }
        assert_eq!(ask(&options, "127.0.0.1:5", &[]).expect_err("no key").fault, WireFault::Unauthenticated);
    }

    #[test]
    fn keys_stay_out_of_the_debug_form() {
        let options = AccessOptions { api_key: Some("sesame".to_owned()), allow_anonymous: false };
        assert!(!format!("{options:?}").contains("sesame"));
    }
}

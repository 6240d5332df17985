//! Authentication. A request on either wire gets a principal here, or is refused.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, Uri, Version, header, uri::Authority};
use subtle::ConstantTimeEq;

use super::status::WireFault;
use crate::matcher::Principal;

/// Who may use the server; from the configuration.
#[derive(Clone)]
pub enum AccessRule {
    /// Those who send this bearer key. Programs of this machine need it too: a proxy on this machine would otherwise admit
    /// everyone.
    Key(String),
    /// Programs of this machine, as far as their requests show it.
    Loopback,
    /// Everybody.
    Everybody,
}

impl std::fmt::Debug for AccessRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Key(_) => "Key",
            Self::Loopback => "Loopback",
            Self::Everybody => "Everybody",
        })
    }
}

/// The headers that proxies, load balancers, tunnels and content delivery networks add to a request.
const PROXY_HEADERS: [&str; 41] = [
    "akamai-origin-hop",
    "cdn-loop",
    "client-ip",
    "fly-client-ip",
    "forwarded",
    "forwarded-for",
    "incap-client-ip",
    "max-forwards",
    "proxy-authorization",
    "proxy-client-ip",
    "proxy-connection",
    "surrogate-capability",
    "true-client-ip",
    "via",
    "wl-proxy-client-ip",
    "x-amz-cf-id",
    "x-amzn-trace-id",
    "x-appengine-user-ip",
    "x-arr-log-id",
    "x-arr-ssl",
    "x-bluecoat-via",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-coming-from",
    "x-forwarded",
    "x-host",
    "x-nginx-proxy",
    "x-original-forwarded-for",
    "x-original-host",
    "x-original-uri",
    "x-original-url",
    "x-originating-ip",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-ip",
    "x-rewrite-url",
    "x-scheme",
    "x-sucuri-clientip",
    "x-varnish",
    "x-vercel-id",
];
/// The beginnings of further ones.
const PROXY_PREFIXES: [&str; 9] =
    ["cf-", "cloudfront-", "fastly-", "tailscale-", "x-akamai-", "x-azure-", "x-envoy-", "x-forwarded-", "x-proxy-"];

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

/// What access is decided by.
pub(super) struct Caller<'r> {
    pub(super) peer: Option<SocketAddr>,
    pub(super) version: Version,
    pub(super) uri: &'r Uri,
    pub(super) headers: &'r HeaderMap,
}

impl AccessRule {
    /// The principal of a request.
    pub(super) fn admit(&self, caller: &Caller<'_>) -> Result<Principal, Denied> {
        match self {
            Self::Key(key) => match bearer(caller.headers) {
                None => Err(unauthenticated("send the key of this server: Authorization: Bearer <key>")),
                Some(given) if bool::from(given.as_bytes().ct_eq(key.as_bytes())) => Ok(Principal::new("api-key")),
                Some(_) => Err(unauthenticated("this is not the key of this server")),
            },
            Self::Loopback => caller.check_local().map(|()| Principal::new("loopback")),
            Self::Everybody => Ok(Principal::new("anonymous")),
        }
    }
}

impl Caller<'_> {
    /// Whether the request looks like one of a program of this machine: its connection, its host, no sign of a proxy, no
    /// page of another site. A TCP forwarder, or a proxy that rewrites the host and adds no header, cannot be told apart.
    fn check_local(&self) -> Result<(), Denied> {
        if !self.peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback()) {
            return Err(forbidden(
                "without a key this server answers programs of its own machine only; set SEMBLANCE_API_KEY, or \
                 SEMBLANCE_ALLOW_ANONYMOUS=true on a network that restricts access itself",
            ));
        }
        if self.came_through_a_proxy() {
            return Err(forbidden(
                "this request came through a proxy, and without a key this server answers programs of its own machine \
                 only; set SEMBLANCE_API_KEY",
            ));
        }
        if !self.names_this_machine() || !self.is_of_no_other_site() {
            return Err(forbidden(
                "without a key this server answers to localhost and 127.0.0.1 only, and to no page of another site; set \
                 SEMBLANCE_API_KEY for programs",
            ));
        }
        Ok(())
    }

    fn came_through_a_proxy(&self) -> bool {
        // nginx without further settings adds no header, rewrites the host, and speaks HTTP/1.0.
        self.version < Version::HTTP_11
            || self.headers.keys().map(HeaderName::as_str).any(|name| {
                PROXY_HEADERS.contains(&name) || PROXY_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            })
    }

    /// Whether each host that the request names is this machine, and it names one.
    fn names_this_machine(&self) -> bool {
        let headers = self.headers.get_all(header::HOST).iter().map(|host| host.to_str().unwrap_or_default());
        let mut hosts = headers.chain(self.uri.authority().map(Authority::as_str)).peekable();
        hosts.peek().is_some() && hosts.all(is_loopback_name)
    }

    /// A browser of this machine is on loopback too, and pages of any site can make it send requests.
    fn is_of_no_other_site(&self) -> bool {
        self.headers.get_all(header::ORIGIN).iter().all(|origin| {
            let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
            origin.is_some_and(|origin| origin.authority().is_some_and(|named| is_loopback_name(named.as_str())))
        })
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
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
    use http::HeaderValue;

    use super::*;

    const HERE: (HeaderName, &str) = (header::HOST, "127.0.0.1:8080");

    fn ask(rule: &AccessRule, peer: &str, headers: &[(HeaderName, &str)]) -> Result<Principal, Denied> {
        let headers = headers.iter().map(|(n, v)| (n.clone(), HeaderValue::from_str(v).expect("valid"))).collect();
        let (peer, uri) = (Some(peer.parse().expect("an address")), Uri::from_static("/v1/models"));
        rule.admit(&Caller { peer, version: Version::HTTP_11, uri: &uri, headers: &headers })
    }

    fn is_forbidden(headers: &[(HeaderName, &str)]) -> bool {
        ask(&AccessRule::Loopback, "127.0.0.1:5", headers).is_err_and(|denied| denied.fault == WireFault::Forbidden)
    }

    #[test]
    fn on_loopback_only_this_machine_is_admitted() {
        for (peer, host) in [
            ("127.0.0.1:5", "127.0.0.1:8080"),
            ("[::1]:5", "localhost:8080"),
            ("[::1]:5", "[::1]:8080"),
            ("[::ffff:127.0.0.1]:5", "LOCALHOST"),
        ] {
            assert!(ask(&AccessRule::Loopback, peer, &[(header::HOST, host)]).is_ok(), "{peer} {host}");
        }
        let elsewhere = ask(&AccessRule::Loopback, "192.0.2.7:5", &[HERE]).expect_err("another machine");
        assert_eq!(elsewhere.fault, WireFault::Forbidden);
        assert!(ask(&AccessRule::Everybody, "192.0.2.7:5", &[HERE]).is_ok());
    }

    #[test]
    fn a_request_that_names_no_host_or_another_one_is_refused() {
        assert!(is_forbidden(&[]));
        for host in
            ["faces.example", "127.0.0.1.faces.example", "localhost.faces.example", "", "faces.example@", "10.0.0.1"]
        {
            assert!(is_forbidden(&[(header::HOST, host)]), "{host}");
        }
        let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("127.0.0.1"))]);
        let uri = Uri::from_static("http://faces.example/v1/models");
        let peer = Some("127.0.0.1:5".parse().expect("an address"));
        let caller = Caller { peer, version: Version::HTTP_11, uri: &uri, headers: &headers };
        assert!(AccessRule::Loopback.admit(&caller).is_err(), "the address of the request names another host");
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        for origin in ["https://evil.example", "null", "http://localhost.evil.example", ""] {
            assert!(is_forbidden(&[(header::ORIGIN, origin), HERE]), "{origin}");
        }
        assert!(is_forbidden(&[(header::ORIGIN, "http://localhost:8080"), (header::HOST, "evil.example")]));
        assert!(!is_forbidden(&[(header::ORIGIN, "http://localhost:3000"), HERE]));
    }

    #[test]
    fn a_request_with_a_header_of_a_proxy_is_refused() {
        for name in PROXY_HEADERS.into_iter().chain([
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-forwarded-server",
            "cf-connecting-ip",
            "cf-ray",
            "x-envoy-external-address",
            "fastly-client-ip",
        ]) {
            assert!(is_forbidden(&[HERE, (HeaderName::from_static(name), "203.0.113.9")]), "{name}");
        }
        for name in ["accept", "user-agent", "x-request-id", "traceparent", "idempotency-key"] {
            assert!(!is_forbidden(&[HERE, (HeaderName::from_static(name), "of a local program")]), "{name}");
        }
    }

    #[test]
    fn what_nginx_sends_without_further_settings_is_refused() {
        let headers = HeaderMap::from_iter([
            (header::HOST, HeaderValue::from_static("127.0.0.1:8080")),
            (header::CONNECTION, HeaderValue::from_static("close")),
        ]);
        let (peer, uri) = (Some("127.0.0.1:5".parse().expect("an address")), Uri::from_static("/v1/models"));
        let caller = Caller { peer, version: Version::HTTP_10, uri: &uri, headers: &headers };
        assert_eq!(AccessRule::Loopback.admit(&caller).expect_err("a proxy").fault, WireFault::Forbidden);
    }

    #[test]
    fn with_a_key_every_request_needs_it() {
        let rule = AccessRule::Key("sesame".to_owned());
        for (value, ok) in
            [("Bearer sesame", true), ("bearer sesame", true), ("Bearer sesam", false), ("sesame", false)]
        {
            assert_eq!(ask(&rule, "127.0.0.1:5", &[(header::AUTHORIZATION, value)]).is_ok(), ok, "{value}");
        }
        assert_eq!(ask(&rule, "127.0.0.1:5", &[]).expect_err("no key").fault, WireFault::Unauthenticated);
    }

    #[test]
    fn keys_stay_out_of_the_debug_form() {
        assert!(!format!("{:?}", AccessRule::Key("sesame".to_owned())).contains("sesame"));
    }
}

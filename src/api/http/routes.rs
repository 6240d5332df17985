//! The routes of REST, read from the contract: the `google.api.http` option of each RPC holds its method and path.

use std::{borrow::Cow, sync::Arc};

use http::Method;
use percent_encoding::percent_decode_str;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, Value};

/// The part of the request message in the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BodyPart {
    None,
    Whole,
    Field(String),
}

/// One piece of a path template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    Literal(String),
    /// Any one segment; part of the variable with this index.
    Any {
        variable: usize,
    },
    /// A literal that is part of the variable with this index.
    Named {
        variable: usize,
        literal: String,
    },
}

/// The method and path of an RPC.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub(super) verb: Method,
    pub(super) segments: Vec<Segment>,
    /// The fields that the path sets, such as `identity.name`.
    pub(super) variables: Vec<String>,
    /// The word after the colon, as in `identities:search`.
    pub(super) action: Option<String>,
    pub(super) body: BodyPart,
    pub(super) rpc: MethodDescriptor,
}

/// The route of a request, with the values of the path's variables.
#[derive(Debug)]
pub(super) struct RouteMatch {
    pub(super) route: Arc<Route>,
    /// In the order of [`Route::variables`].
    values: Vec<String>,
}

impl RouteMatch {
    /// The fields that the path sets, with their values.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.route.variables.iter().map(String::as_str).zip(self.values.iter().map(String::as_str))
    }
}

/// Why a request has no route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoRoute {
    Path,
    /// The path exists under these methods only.
    Method(Vec<Method>),
}

/// All routes of a contract.
///
/// # Panics
/// When an HTTP option of the contract cannot be read: a mistake in `proto/`, found by the first test that runs.
pub(super) fn all(pool: &DescriptorPool) -> Arc<[Arc<Route>]> {
    let option = pool.get_extension_by_name("google.api.http").expect("the contract is compiled with its HTTP options");
    let rpcs = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    rpcs.filter_map(|rpc| {
        let rule = rpc.options().get_extension(&option).into_owned();
        route(rpc, rule.as_message()?).map(Arc::new)
    })
    .collect()
}

fn route(rpc: MethodDescriptor, rule: &DynamicMessage) -> Option<Route> {
    let verbs = [Method::GET, Method::PUT, Method::POST, Method::DELETE, Method::PATCH];
    let (verb, template) = verbs.into_iter().find_map(|verb| {
        let field = verb.as_str().to_ascii_lowercase();
        let path = rule.has_field_by_name(&field).then(|| text(rule, &field))?;
        Some((verb, path))
    })?;
    let body = match text(rule, "body").as_str() {
        "" => BodyPart::None,
        "*" => BodyPart::Whole,
        field => BodyPart::Field(field.to_owned()),
    };
    let (path, action) = match template.rsplit_once(':') {
        Some((path, action)) => (path, Some(action.to_owned())),
        None => (template.as_str(), None),
    };
    let (segments, variables) = parse(path);
    Some(Route { verb, segments, variables, action, body, rpc })
}

fn text(message: &DynamicMessage, field: &str) -> String {
    message.get_field_by_name(field).as_deref().and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Reads `/v1/{parent=collections/*}/identities`.
fn parse(template: &str) -> (Vec<Segment>, Vec<String>) {
    let (mut segments, mut variables) = (Vec::new(), Vec::new());
    let mut rest = template.trim_start_matches('/');
    while !rest.is_empty() {
        let (piece, after) = if let Some(inner) = rest.strip_prefix('{') {
            let (variable, after) = inner.split_once('}').expect("a template closes its braces");
            let (field, pattern) = variable.split_once('=').unwrap_or((variable, "*"));
            let variable = variables.len();
            variables.push(field.to_owned());
            let of = |part: &str| match part {
                "*" => Segment::Any { variable },
                literal => Segment::Named { variable, literal: literal.to_owned() },
            };
            (pattern.split('/').map(of).collect(), after)
        } else {
            let (literal, after) = rest.split_once('/').unwrap_or((rest, ""));
            (vec![Segment::Literal(literal.to_owned())], after)
        };
        segments.extend(piece);
        rest = after.trim_start_matches('/');
    }
    (segments, variables)
}

/// Finds the route of a request.
pub(super) fn find(routes: &[Arc<Route>], verb: &Method, path: &str) -> Result<RouteMatch, NoRoute> {
    let decoded: Vec<Cow<'_, str>> =
        path.trim_start_matches('/').split('/').map(|s| percent_decode_str(s).decode_utf8_lossy()).collect();
    let mut segments: Vec<&str> = decoded.iter().map(AsRef::as_ref).collect();
    // Ids hold no colon, so the last one splits `{id}:verb`.
    let mut action = None;
    if let Some(last) = segments.last_mut()
        && let Some((before, after)) = last.rsplit_once(':')
    {
        *last = before;
        action = Some(after);
    }
    let mut methods = Vec::new();
    for route in routes {
        let Some(values) = route.matches(&segments, action) else {
            continue;
        };
        if route.verb == verb {
            return Ok(RouteMatch { route: Arc::clone(route), values });
        }
        methods.push(route.verb.clone());
    }
    Err(if methods.is_empty() { NoRoute::Path } else { NoRoute::Method(methods) })
}

impl Route {
    /// The values of the variables, when the path is of this route.
    fn matches(&self, segments: &[&str], action: Option<&str>) -> Option<Vec<String>> {
        if self.action.as_deref() != action || self.segments.len() != segments.len() {
            return None;
        }
        let mut values = vec![String::new(); self.variables.len()];
        for (form, given) in self.segments.iter().zip(segments) {
            match form {
                Segment::Literal(literal) if literal == given => {}
                Segment::Named { variable, literal } if literal == given => join(&mut values[*variable], given),
                Segment::Any { variable } if !given.is_empty() => join(&mut values[*variable], given),
                Segment::Literal(_) | Segment::Named { .. } | Segment::Any { .. } => return None,
            }
        }
        Some(values)
    }

    /// The path of the RPC in gRPC.
    pub(super) fn grpc_path(&self) -> String {
        format!("/{}/{}", self.rpc.parent_service().full_name(), self.rpc.name())
    }
}

fn join(value: &mut String, segment: &str) {
    if !value.is_empty() {
        value.push('/');
    }
    value.push_str(segment);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::http::contract;

    fn asked(verb: &Method, path: &str) -> (String, Vec<(String, String)>) {
        let routes = all(contract());
        let found = find(&routes, verb, path).expect("there is such a route");
        let variables = found.variables().map(|(field, value)| (field.to_owned(), value.to_owned())).collect();
        (found.route.rpc.name().to_owned(), variables)
    }

    #[test]
    fn every_rpc_has_a_rest_route_and_no_two_share_one() {
        let pool = contract();
        let routes = all(pool);
        let rpcs: Vec<_> = pool
            .services()
            .filter(|s| s.package_name() == "semblance.v1")
            .flat_map(|s| s.methods().collect::<Vec<_>>())
            .collect();
        assert!(rpcs.len() >= 20, "the contract has its services");
        for rpc in rpcs {
            // REST has no streams, and generators of gateways refuse an HTTP option there.
            let is_routed = routes.iter().any(|r| r.rpc == rpc);
            assert_eq!(is_routed, !rpc.is_client_streaming(), "{}", rpc.full_name());
        }
        for (at, route) in routes.iter().enumerate() {
            let same = |other: &&Arc<Route>| {
                (&other.verb, &other.segments, &other.action) == (&route.verb, &route.segments, &route.action)
            };
            assert_eq!(routes[at + 1..].iter().filter(same).count(), 0, "{} shares its route", route.rpc.full_name());
            for variable in &route.variables {
                let mut message = Some(route.rpc.input());
                for part in variable.split('.') {
                    let field = message.take().and_then(|m| m.get_field_by_name(part));
                    let field = field.unwrap_or_else(|| panic!("{} has no field {variable}", route.rpc.full_name()));
                    message = field.kind().as_message().cloned();
                }
            }
        }
    }

    #[test]
    fn paths_find_their_rpcs() {
        let name = |field: &str, value: &str| vec![(field.to_owned(), value.to_owned())];
        assert_eq!(asked(&Method::POST, "/v1/collections"), ("CreateCollection".to_owned(), vec![]));
        assert_eq!(
            asked(&Method::POST, "/v1/collections/staff/identities:search"),
            ("Search".to_owned(), name("parent", "collections/staff"))
        );
        assert_eq!(
            asked(&Method::POST, "/v1/collections/st%61ff/identities/a.b~c:enroll"),
            ("Enroll".to_owned(), name("name", "collections/staff/identities/a.b~c"))
        );
        assert_eq!(
            asked(&Method::PATCH, "/v1/collections/staff"),
            ("UpdateCollection".to_owned(), name("collection.name", "collections/staff"))
        );
    }

    #[test]
    fn a_wrong_path_differs_from_a_wrong_method() {
        let routes = all(contract());
        assert_eq!(find(&routes, &Method::GET, "/v1/nothing").expect_err("none"), NoRoute::Path);
        assert_eq!(find(&routes, &Method::GET, "/v1/collections//identities").expect_err("none"), NoRoute::Path);
        assert_eq!(
            find(&routes, &Method::POST, "/v1/collections/a/identities:dance").expect_err("none"),
            NoRoute::Path
        );
        assert_eq!(
            find(&routes, &Method::PUT, "/v1/models").expect_err("only GET"),
            NoRoute::Method(vec![Method::GET])
        );
    }
}

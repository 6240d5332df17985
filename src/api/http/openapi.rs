//! The OpenAPI document. Routes, fields and comments come from `proto/`.

use std::{collections::HashMap, sync::Arc};

use prost_reflect::{
    Cardinality, DescriptorPool, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor,
};
use serde_json::{Map, Value, json};

use super::{
    json::word_of,
    routes::{BodyPart, Route, Segment},
};

const PACKAGE: &str = "semblance.v1";
/// The field that raw and multipart bodies fill.
const SAMPLES: &str = "samples";

/// The document.
pub(super) fn document(routes: &[Arc<Route>], pool: &DescriptorPool) -> Value {
    let writer = Writer { comments: pool.files().flat_map(|file| comments(&file)).collect() };
    let mut paths: Map<String, Value> = Map::new();
    for route in routes {
        let path = paths.entry(path(route)).or_insert_with(|| json!({}));
        path[route.verb.as_str().to_ascii_lowercase()] = writer.operation(route);
    }
    let mut schemas: Map<String, Value> = Map::new();
    for message in pool.all_messages().filter(|m| m.package_name() == PACKAGE && !m.is_map_entry()) {
        schemas.insert(name(message.full_name()), writer.message(&message, &[]));
    }
    for descriptor in pool.all_enums().filter(|e| e.package_name() == PACKAGE) {
        schemas.insert(name(descriptor.full_name()), writer.words(&descriptor));
    }
    schemas.insert("Problem".to_owned(), problem());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Semblance",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The open identity-matching server: enroll, verify, search and open-set decisions over face, person and gait.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        // Relative to the address of this document: a proxy may publish the server under a path.
        "servers": [{"url": "."}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    })
}

/// The schema of `semblance.v1.Skeleton.Frame` is `Skeleton.Frame`.
fn name(full: &str) -> String {
    full.strip_prefix(PACKAGE).unwrap_or(full).trim_start_matches('.').to_owned()
}

/// The name of a variable segment: the singular of the literal before it.
fn singular(plural: &str) -> &str {
    match plural {
        "identities" => "identity",
        plural => plural.strip_suffix('s').unwrap_or(plural),
    }
}

/// `/v1/collections/{collection}/identities/{identity}:enroll`
fn path(route: &Route) -> String {
    let mut path = String::new();
    let mut before = "";
    for segment in &route.segments {
        path.push('/');
        match segment {
            Segment::Literal(literal) | Segment::Named { literal, .. } => {
                path.push_str(literal);
                before = literal;
            }
            Segment::Any { .. } => {
                path.push('{');
                path.push_str(singular(before));
                path.push('}');
            }
        }
    }
    if let Some(action) = &route.action {
        path.push(':');
        path.push_str(action);
    }
    path
}

struct Writer {
    /// The comments before each descriptor, by file and path.
    comments: HashMap<(String, Vec<i32>), String>,
}

impl Writer {
    fn comment(&self, file: &FileDescriptor, path: &[i32]) -> &str {
        self.comments.get(&(file.name().to_owned(), path.to_vec())).map_or("", String::as_str)
    }

    fn operation(&self, route: &Route) -> Value {
        let rpc = &route.rpc;
        let comment = self.comment(&rpc.parent_file(), rpc.path());
        let summary = comment.split_terminator(". ").next().unwrap_or_default().trim_end_matches('.');
        let service = rpc.parent_service();
        let mut operation = json!({
            "operationId": rpc.name(),
            "tags": [service.name().trim_end_matches("Service")],
            "summary": summary,
            "description": comment,
            "parameters": self.parameters(route),
            "responses": {
                "200": {
                    "description": "The answer.",
                    "content": {"application/json": {"schema": reference(&Kind::Message(rpc.output()))}},
                },
                "default": {
                    "description": "A problem document of RFC 9457.",
                    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
                },
            },
        });
        if let Some(body) = self.body(route) {
            operation["requestBody"] = body;
        }
        operation
    }

    fn parameters(&self, route: &Route) -> Vec<Value> {
        let mut parameters = Vec::new();
        let mut before = "";
        for segment in &route.segments {
            match segment {
                Segment::Literal(literal) | Segment::Named { literal, .. } => before = literal,
                Segment::Any { .. } => parameters.push(json!({
                    "name": singular(before), "in": "path", "required": true, "schema": {"type": "string"},
                })),
            }
        }
        let query = |name: String, field: &FieldDescriptor| {
            json!({
                "name": name,
                "in": "query",
                "description": self.comment(&field.parent_message().parent_file(), field.path()),
                "schema": schema(field),
            })
        };
        for field in route.rpc.input().fields() {
            if is_query(route, &field) {
                parameters.push(query(field.json_name().to_owned(), &field));
            } else if let Kind::Message(options) = field.kind()
                && options.full_name() == POSE_OPTIONS
            {
                let inner =
                    options.fields().map(|inner| query(format!("{}.{}", field.json_name(), inner.json_name()), &inner));
                parameters.extend(inner);
            }
        }
        if route.rpc.input().get_field_by_name("request_id").is_some() {
            parameters.push(json!({
                "name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "maxLength": 128},
                "description": "A repeated request with the same key within 24 hours takes effect once and returns the first answer.",
            }));
        }
        parameters
    }

    fn body(&self, route: &Route) -> Option<Value> {
        let input = route.rpc.input();
        let schema = match &route.body {
            BodyPart::None => return None,
            BodyPart::Field(field) => reference(&input.get_field_by_name(field)?.kind()),
            BodyPart::Whole => self.message(&input, &route.variables),
        };
        let mut content = json!({"application/json": {"schema": schema}});
        if input.get_field_by_name(SAMPLES).is_some() {
            for picture in ["image/jpeg", "image/png", "image/webp", "application/octet-stream"] {
                content[picture] = json!({"schema": {"type": "string", "format": "binary"}});
            }
            content["multipart/form-data"] = json!({"schema": {"type": "object", "properties": {
                "sample": {"type": "array", "items": {"type": "string", "format": "binary"}},
            }}});
        }
        Some(json!({"content": content, "required": route.body == BodyPart::Whole}))
    }

    fn message(&self, message: &MessageDescriptor, without: &[String]) -> Value {
        let mut properties = Map::new();
        for field in message.fields().filter(|f| !without.iter().any(|w| w == f.name())) {
            let mut schema = schema(&field);
            let comment = self.comment(&message.parent_file(), field.path());
            if !comment.is_empty() {
                schema["description"] = Value::from(comment);
            }
            properties.insert(field.json_name().to_owned(), schema);
        }
        json!({
            "type": "object",
            "description": self.comment(&message.parent_file(), message.path()),
            "properties": properties,
            "additionalProperties": false,
        })
    }

    fn words(&self, descriptor: &EnumDescriptor) -> Value {
        let file = descriptor.parent_file();
        let values: Vec<_> = descriptor.values().filter(|v| v.number() != 0).collect();
        let words: Vec<String> = values.iter().map(|v| word_of(descriptor, v.name())).collect();
        let meanings: Vec<String> =
            values.iter().zip(&words).map(|(v, word)| format!("`{word}`: {}", self.comment(&file, v.path()))).collect();
        let comment = self.comment(&file, descriptor.path());
        json!({"type": "string", "enum": words, "description": format!("{comment}\n\n{}", meanings.join("\n"))})
    }
}

/// The message of options that a query may set one by one.
const POSE_OPTIONS: &str = "semblance.v1.PoseOptions";

/// Whether a field may be a query parameter: neither path nor body sets it, and it is a scalar.
fn is_query(route: &Route, field: &FieldDescriptor) -> bool {
    let in_path = route.variables.iter().any(|v| v.split('.').next() == Some(field.name()));
    let in_body = matches!(&route.body, BodyPart::Field(body) if body == field.name());
    let is_plain =
        !field.is_list() && !field.is_map() && !matches!(field.kind(), Kind::Message(m) if m.package_name() == PACKAGE);
    !in_path && !in_body && is_plain && field.name() != "request_id"
}

fn schema(field: &FieldDescriptor) -> Value {
    if field.is_map() {
        let value = field.kind().as_message().map(MessageDescriptor::map_entry_value_field);
        return json!({"type": "object", "additionalProperties": value.map_or(json!({}), |v| reference(&v.kind()))});
    }
    let schema = reference(&field.kind());
    if field.cardinality() == Cardinality::Repeated { json!({"type": "array", "items": schema}) } else { schema }
}

fn reference(kind: &Kind) -> Value {
    match kind {
        Kind::Double => json!({"type": "number", "format": "double"}),
        Kind::Float => json!({"type": "number", "format": "float"}),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 | Kind::Uint32 | Kind::Fixed32 => {
            json!({"type": "integer", "format": "int32"})
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64 => {
            json!({"type": "integer", "format": "int64"})
        }
        Kind::Bool => json!({"type": "boolean"}),
        Kind::String => json!({"type": "string"}),
        Kind::Bytes => json!({"type": "string", "format": "byte"}),
        Kind::Enum(descriptor) => json!({"$ref": format!("#/components/schemas/{}", name(descriptor.full_name()))}),
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Timestamp" => json!({"type": "string", "format": "date-time"}),
            "google.protobuf.FieldMask" => {
                json!({"type": "string", "description": "Field names, separated by commas."})
            }
            "google.protobuf.Empty" => json!({"type": "object"}),
            full => json!({"$ref": format!("#/components/schemas/{}", name(full))}),
        },
    }
}

fn problem() -> Value {
    json!({
        "type": "object",
        "description": "A problem document of RFC 9457.",
        "properties": {
            "type": {"type": "string", "format": "uri"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "What to do, in one sentence."},
            "instance": {"type": "string"},
            "code": {"type": "string", "description": "A constant for programs."},
            "violations": {"type": "array", "items": {"type": "object", "properties": {
                "field": {"type": "string"}, "description": {"type": "string"},
            }}},
        },
        "required": ["type", "title", "status", "detail", "code"],
    })
}

fn comments(file: &FileDescriptor) -> Vec<((String, Vec<i32>), String)> {
    let source = file.file_descriptor_proto().source_code_info.clone().unwrap_or_default();
    let comment = |l: prost_reflect::prost_types::source_code_info::Location| {
        let text: Vec<&str> = l.leading_comments().lines().map(str::trim).collect();
        let text = text.join(" ").trim().to_owned();
        (!text.is_empty()).then(|| ((file.name().to_owned(), l.path.clone()), text))
    };
    source.location.into_iter().filter_map(comment).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::http::{contract, routes};

    #[test]
    fn every_route_is_documented_and_every_reference_exists() {
        let routes = routes::all(contract());
        let document = document(&routes, contract());
        let operations: usize =
            document["paths"].as_object().expect("paths").values().map(|p| p.as_object().expect("verbs").len()).sum();
        assert_eq!(operations, routes.len());
        let enroll = &document["paths"]["/v1/collections/{collection}/identities/{identity}:enroll"]["post"];
        assert_eq!(enroll["operationId"], "Enroll");
        assert!(enroll["summary"].as_str().expect("a summary").starts_with("Adds templates"));
        assert!(enroll["requestBody"]["content"]["image/jpeg"].is_object());
        assert!(enroll["requestBody"]["content"]["application/json"]["schema"]["properties"].get("name").is_none());
        let text = document.to_string();
        for reference in
            text.split("\"#/components/schemas/").skip(1).map(|rest| &rest[..rest.find('"').expect("closed")])
        {
            assert!(document["components"]["schemas"][reference].is_object(), "{reference} does not exist");
        }
        assert_eq!(document["components"]["schemas"]["Modality"]["enum"], json!(["face", "person", "gait"]));
    }
}

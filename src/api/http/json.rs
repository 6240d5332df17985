//! JSON of the contract: protobuf's JSON mapping, with enums as lower snake case without their prefix, lists of numbers
//! also nested (`[[x, y], ..]`), and unknown fields refused by name.

use std::collections::BTreeMap;

use http::{HeaderMap, header};
use percent_encoding::percent_decode_str;
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value as Field,
    prost_types::Timestamp,
};
use serde::{
    Deserializer, Serialize, Serializer,
    de::{DeserializeSeed, MapAccess, SeqAccess, Visitor},
    ser::{SerializeMap, SerializeSeq},
};
use serde_json::{Map, Value};

use crate::matcher::Fault;

/// The deepest nesting of a body; the deepest message of the contract needs 6.
const DEPTH_MAX: usize = 16;
const FIELD_MASK: &str = "google.protobuf.FieldMask";

/// Reads JSON. A key that stands twice in an object is an error: programs differ in which of the values they take.
///
/// # Errors
/// Says where the text is not JSON, or which key stands twice.
pub(super) fn parse(text: &[u8]) -> Result<Value, Fault> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = UniqueKeys.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    value.map_err(|problem| match problem.classify() {
        serde_json::error::Category::Data => Fault::invalid("body", problem),
        _ => Fault::invalid("body", format!("this is not JSON: {problem}")),
    })
}

/// Makes a [`Value`], as serde_json does, and refuses objects in which a key stands twice.
struct UniqueKeys;

impl<'de> DeserializeSeed<'de> for UniqueKeys {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for UniqueKeys {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(truth.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(Self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(serde::de::Error::custom(format_args!("the key {key:?} stands twice in one object")));
            }
            object.insert(key, entries.next_value_seed(Self)?);
        }
        Ok(Value::Object(object))
    }
}

/// How answers write values of enums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EnumForm {
    /// `face`
    Word,
    /// `MODALITY_FACE`, as ProtoJSON has it and parsers made from the contract read it.
    Name,
}

impl EnumForm {
    /// `Accept: application/json; enum=name` asks for names.
    pub(super) fn asked(headers: &HeaderMap) -> Self {
        let is_name = |parameter: &str| parameter.trim().eq_ignore_ascii_case("enum=name");
        let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
        let asks = accepted.flat_map(|accept| accept.split(',')).any(|range| range.split(';').skip(1).any(is_name));
        if asks { Self::Name } else { Self::Word }
    }
}

/// Reads a message from JSON.
///
/// # Errors
/// Names the field that is unknown or wrong.
pub(super) fn to_message(descriptor: &MessageDescriptor, mut json: Value) -> Result<DynamicMessage, Fault> {
    normalize_message(descriptor, &mut json, "", 0)?;
    let options = prost_reflect::DeserializeOptions::new().deny_unknown_fields(true);
    DynamicMessage::deserialize_with_options(descriptor.clone(), json, &options)
        .map_err(|problem| Fault::invalid("body", problem))
}

/// Rewrites the contract's JSON into protobuf's.
fn normalize_message(descriptor: &MessageDescriptor, json: &mut Value, path: &str, depth: usize) -> Result<(), Fault> {
    if descriptor.full_name().starts_with("google.protobuf.") {
        return Ok(());
    }
    if depth > DEPTH_MAX {
        return Err(Fault::invalid(or_body(path), format!("the body nests deeper than {DEPTH_MAX}")));
    }
    let Value::Object(object) = json else {
        return Err(Fault::invalid(or_body(path), format!("an object is expected here, not {}", kind_of(json))));
    };
    let mut named = BTreeMap::new();
    for (key, value) in object {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let Some(field) = descriptor.get_field_by_json_name(key).or_else(|| descriptor.get_field_by_name(key)) else {
            let fields: Vec<String> = descriptor.fields().map(|f| f.json_name().to_owned()).collect();
            return Err(Fault::invalid(path, format!("there is no such field; the fields are {}", fields.join(", "))));
        };
        if let Some(first) = named.insert(field.number(), key) {
            return Err(Fault::invalid(path, format!("the field stands twice, as {first:?} and as {key:?}")));
        }
        normalize_field(&field, value, &path, depth)?;
    }
    Ok(())
}

fn normalize_field(field: &FieldDescriptor, json: &mut Value, path: &str, depth: usize) -> Result<(), Fault> {
    if json.is_null() {
        return Ok(());
    }
    if field.is_map() {
        return normalize_map(field, json, path, depth);
    }
    if !field.is_list() {
        return normalize_value(&field.kind(), json, path, depth);
    }
    if matches!(field.kind(), Kind::Float | Kind::Double) {
        flatten(json);
    }
    let Value::Array(items) = json else {
        return Err(Fault::invalid(path, format!("a list is expected here, not {}", kind_of(json))));
    };
    items
        .iter_mut()
        .enumerate()
        .try_for_each(|(at, item)| normalize_value(&field.kind(), item, &format!("{path}[{at}]"), depth))
}

fn normalize_map(field: &FieldDescriptor, json: &mut Value, path: &str, depth: usize) -> Result<(), Fault> {
    let Value::Object(entries) = json else {
        return Err(Fault::invalid(path, format!("an object is expected here, not {}", kind_of(json))));
    };
    let kind = field.kind().as_message().expect("a map is a list of entries").map_entry_value_field().kind();
    entries.iter_mut().try_for_each(|(key, value)| normalize_value(&kind, value, &format!("{path}.{key}"), depth))
}

fn normalize_value(kind: &Kind, json: &mut Value, path: &str, depth: usize) -> Result<(), Fault> {
    match (kind, &mut *json) {
        (Kind::Enum(descriptor), Value::String(word)) => {
            *word = name_of(descriptor, word).ok_or_else(|| {
                let words: Vec<String> = descriptor.values().skip(1).map(|v| word_of(descriptor, v.name())).collect();
                Fault::invalid(path, format!("{word:?} is not one of {}", words.join(", ")))
            })?;
            Ok(())
        }
        // As in ProtoJSON.
        (Kind::Enum(descriptor), Value::Number(number)) => {
            let known = number.as_i64().and_then(|number| descriptor.get_value(i32::try_from(number).ok()?));
            let known = known.ok_or_else(|| Fault::invalid(path, format!("{number} is not a value of this enum")))?;
            *json = Value::from(known.name());
            Ok(())
        }
        (Kind::Message(message), Value::String(mask)) if message.full_name() == FIELD_MASK => {
            *mask = field_mask(mask).map_err(|problem| Fault::invalid(path, problem))?;
            Ok(())
        }
        (Kind::Bytes, Value::String(text)) => standard_base64(text).map_err(|problem| Fault::invalid(path, problem)),
        (Kind::Message(message), json) => normalize_message(message, json, path, depth + 1),
        (Kind::Enum(_), json) => Err(Fault::invalid(path, format!("a word is expected here, not {}", kind_of(json)))),
        (kind, json) => match expected(kind, json) {
            None => Ok(()),
            Some(expected) => Err(Fault::invalid(path, format!("{expected} is expected here, not {}", kind_of(json)))),
        },
    }
}

/// A field mask with the names of JSON: `expireTime` for `expire_time`. Both spellings are taken.
fn field_mask(mask: &str) -> Result<String, String> {
    let mut named = String::with_capacity(mask.len());
    let mut is_next_upper = false;
    for letter in mask.chars() {
        match letter {
            '_' => is_next_upper = true,
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | ',' => {
                named.push(if is_next_upper { letter.to_ascii_uppercase() } else { letter });
                is_next_upper = false;
            }
            ' ' => {}
            _ => {
                return Err(format!(
                    "{mask:?} is not a field mask: write names of fields, separated by commas, such as labels,expireTime"
                ));
            }
        }
    }
    Ok(named)
}

/// Base64 as clients write it, in the one form of the reader: without line breaks, in the standard alphabet, padded. Of a
/// `data:` URL the base64 is taken.
fn standard_base64(text: &mut String) -> Result<(), String> {
    if let Some((head, _)) =
        text.split_once(',').filter(|(head, _)| head.len() >= 5 && head[..5].eq_ignore_ascii_case("data:"))
    {
        if !head.to_ascii_lowercase().ends_with(";base64") {
            return Err("a data: URL must hold base64, as in data:image/jpeg;base64,...".to_owned());
        }
        text.drain(..=head.len());
        if text.contains('%') {
            *text = percent_decode_str(text).decode_utf8_lossy().into_owned();
        }
    }
    if text.bytes().any(|byte| byte.is_ascii_whitespace()) {
        text.retain(|letter| !letter.is_ascii_whitespace());
    }
    if text.contains(['-', '_']) {
        *text = text.replace('-', "+").replace('_', "/");
    }
    let digits = text.trim_end_matches('=').len();
    text.truncate(digits);
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    if let Some(other) = text.bytes().position(|byte| !is_digit(byte)) {
        let other = text.get(other..).and_then(|rest| rest.chars().next()).unwrap_or('?');
        return Err(format!("this is not base64: it holds {other:?}"));
    }
    match digits % 4 {
        0 => {}
        1 => return Err("this is not base64: its end is missing".to_owned()),
        of_last => text.extend(std::iter::repeat_n('=', 4 - of_last)),
    }
    Ok(())
}

/// The kind of JSON that the field expects; `None` when `json` is of it. As in protobuf, a text may hold a number.
fn expected(kind: &Kind, json: &Value) -> Option<&'static str> {
    let is_text = json.is_string();
    match kind {
        Kind::String | Kind::Bytes => (!is_text).then_some("a text"),
        Kind::Bool => (!json.is_boolean()).then_some("true or false"),
        Kind::Enum(_) | Kind::Message(_) => None,
        Kind::Double
        | Kind::Float
        | Kind::Int32
        | Kind::Int64
        | Kind::Uint32
        | Kind::Uint64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Fixed32
        | Kind::Fixed64
        | Kind::Sfixed32
        | Kind::Sfixed64 => (!json.is_number() && !is_text).then_some("a number"),
    }
}

/// `[[1, 2], [3, 4]]` becomes `[1, 2, 3, 4]`: clients may write points in pairs.
fn flatten(json: &mut Value) {
    if let Value::Array(items) = json
        && items.iter().any(Value::is_array)
    {
        *items = items
            .drain(..)
            .flat_map(|item| match item {
                Value::Array(inner) => inner,
                other => vec![other],
            })
            .collect();
    }
}

fn or_body(path: &str) -> String {
    if path.is_empty() { "body".to_owned() } else { path.to_owned() }
}

fn kind_of(json: &Value) -> &'static str {
    match json {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// `MODALITY_` of the enum `Modality`.
fn prefix(descriptor: &EnumDescriptor) -> String {
    let mut prefix = String::new();
    for (at, letter) in descriptor.name().chars().enumerate() {
        if letter.is_ascii_uppercase() && at > 0 {
            prefix.push('_');
        }
        prefix.push(letter.to_ascii_uppercase());
    }
    prefix.push('_');
    prefix
}

/// The word for a value: `face` for `MODALITY_FACE`.
pub(super) fn word_of(descriptor: &EnumDescriptor, value: &str) -> String {
    value.strip_prefix(&prefix(descriptor)).unwrap_or(value).to_ascii_lowercase()
}

/// The value's name in the contract: `MODALITY_FACE` for `face`, or for the name itself.
fn name_of(descriptor: &EnumDescriptor, word: &str) -> Option<String> {
    let lower = word.to_ascii_lowercase();
    let found = descriptor.values().find(|v| word_of(descriptor, v.name()) == lower || v.name() == word);
    found.map(|v| v.name().to_owned())
}

/// A query parameter as JSON of its field's kind.
///
/// # Errors
/// When the text is not of that kind.
pub(super) fn from_query(field: &FieldDescriptor, text: &str) -> Result<Value, Fault> {
    let value = match field.kind() {
        Kind::Bool => text.parse().ok().map(Value::Bool),
        Kind::Int32 | Kind::Sint32 | Kind::Uint32 | Kind::Int64 | Kind::Sint64 | Kind::Uint64 => {
            text.parse::<i64>().ok().map(Value::from)
        }
        Kind::Float | Kind::Double => text.parse::<f64>().ok().filter(|n| n.is_finite()).map(Value::from),
        // A field mask is a text in JSON too.
        _ => Some(Value::from(text)),
    };
    value.ok_or_else(|| Fault::invalid(field.json_name(), format!("{text:?} cannot be read")))
}

/// Sets `value` at a dotted path of field names, by their names in JSON.
pub(super) fn set(descriptor: &MessageDescriptor, object: &mut Map<String, Value>, path: &str, value: Value) {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let field = descriptor.get_field_by_name(first).expect("routes name fields that there are");
    // Path and query take precedence over the body, where the field may have either of its two names.
    if rest.is_none() {
        object.remove(field.name());
        object.insert(field.json_name().to_owned(), value);
        return;
    }
    let entry = object.entry(field.json_name()).or_insert_with(|| Value::Object(Map::new()));
    if let (Value::Object(inner), Some(rest), Some(message)) = (entry, rest, field.kind().as_message()) {
        set(message, inner, rest, value);
    }
}

/// A message as JSON. Fields without presence are always written, so that a reader sees `"match": false`.
pub(super) struct Json<'m>(pub(super) &'m DynamicMessage, pub(super) EnumForm);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let descriptor = self.0.descriptor();
        if descriptor.full_name() == "google.protobuf.Timestamp" {
            let time: Timestamp = self.0.transcode_to().map_err(serde::ser::Error::custom)?;
            return serializer.collect_str(&time);
        }
        let mut map = serializer.serialize_map(None)?;
        for field in descriptor.fields().filter(|f| !f.supports_presence() || self.0.has_field(f)) {
            map.serialize_entry(field.json_name(), &JsonValue(&self.0.get_field(&field), &field.kind(), self.1))?;
        }
        map.end()
    }
}

struct JsonValue<'v>(&'v Field, &'v Kind, EnumForm);

impl Serialize for JsonValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::{Engine, engine::general_purpose::STANDARD};
        match (self.0, self.1) {
            (Field::EnumNumber(number), Kind::Enum(descriptor)) => match descriptor.get_value(*number) {
                Some(value) if self.2 == EnumForm::Name => serializer.serialize_str(value.name()),
                Some(value) => serializer.serialize_str(&word_of(descriptor, value.name())),
                None => serializer.serialize_i32(*number),
            },
            (Field::Bool(value), _) => serializer.serialize_bool(*value),
            (Field::I32(value) | Field::EnumNumber(value), _) => serializer.serialize_i32(*value),
            (Field::I64(value), _) => serializer.serialize_i64(*value),
            (Field::U32(value), _) => serializer.serialize_u32(*value),
            (Field::U64(value), _) => serializer.serialize_u64(*value),
            (Field::F32(value), _) => serializer.serialize_f32(*value),
            (Field::F64(value), _) => serializer.serialize_f64(*value),
            (Field::String(value), _) => serializer.serialize_str(value),
            (Field::Bytes(value), _) => serializer.serialize_str(&STANDARD.encode(value)),
            (Field::Message(message), _) => Json(message, self.2).serialize(serializer),
            (Field::List(items), kind) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| list.serialize_element(&JsonValue(item, kind, self.2)))?;
                list.end()
            }
            (Field::Map(entries), kind) => {
                let of = kind.as_message().map(MessageDescriptor::map_entry_value_field);
                let kind = of.as_ref().map_or_else(|| kind.clone(), FieldDescriptor::kind);
                let mut sorted: Vec<(&str, &Field)> =
                    entries.iter().filter_map(|(key, value)| Some((MapKey::as_str(key)?, value))).collect();
                sorted.sort_unstable_by_key(|(key, _)| *key);
                serializer.collect_map(sorted.into_iter().map(|(key, value)| (key, JsonValue(value, &kind, self.2))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{http::contract, proto};

    fn read<M: prost::Message + Default>(name: &str, body: Value) -> Result<M, Fault> {
        let descriptor = contract().get_message_by_name(name).expect("in the contract");
        Ok(to_message(&descriptor, body)?.transcode_to().expect("the same message"))
    }

    #[test]
    fn words_points_and_bytes_are_read() {
        let body = json!({"samples": [{
            "modality": "face", "image": {"data": "AQID"}, "alignment": "lfw_funneled",
            "landmarks": [[1, 2], [3, 4.5], [5, 6], [7, 8], [9, 10]],
        }], "topK": 3, "min_similarity": 0.25});
        let request: proto::SearchRequest = read("semblance.v1.SearchRequest", body).expect("valid");
        assert_eq!(request.top_k, 3);
        assert_eq!(request.min_similarity, Some(0.25));
        let sample = &request.samples[0];
        assert_eq!(sample.modality(), proto::Modality::Face);
        assert_eq!(sample.alignment(), proto::Alignment::LfwFunneled);
        assert_eq!(sample.landmarks, [1.0, 2.0, 3.0, 4.5, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]);
        assert!(matches!(&sample.content, Some(proto::sample::Content::Image(i)) if i.data[..] == [1, 2, 3]));
    }

    #[test]
    fn mistakes_are_named() {
        let message =
            |body| read::<proto::SearchRequest>("semblance.v1.SearchRequest", body).expect_err("wrong").to_string();
        assert!(
            message(json!({"sampels": []}))
                .starts_with("sampels: there is no such field; the fields are parent, samples")
        );
        assert!(message(json!({"samples": [{"imge": {}}]})).starts_with("samples[0].imge: there is no such field"));
        assert_eq!(message(json!({"modality": "voice"})), "modality: \"voice\" is not one of face, person, gait");
        assert_eq!(message(json!({"samples": {}})), "samples: a list is expected here, not an object");
        assert_eq!(message(json!([1])), "body: an object is expected here, not a list");
        assert_eq!(message(json!({"topK": [1]})), "topK: a number is expected here, not a list");
        assert_eq!(message(json!({"filter": 5})), "filter: a text is expected here, not a number");
        let frames = json!({"samples": [{"skeleton": {"frames": [{"keypoints": [1, {}]}]}}]});
        assert_eq!(
            message(frames),
            "samples[0].skeleton.frames[0].keypoints[1]: a number is expected here, not an object"
        );
        let labels = read::<proto::EnrollRequest>("semblance.v1.EnrollRequest", json!({"labels": {"a": 5}}));
        assert_eq!(labels.expect_err("wrong").to_string(), "labels.a: a text is expected here, not a number");
        assert!(message(json!({"topK": "many"})).starts_with("body: "));
        assert_eq!(
            message(json!({"samples": [{"image": {"data": "no base64!"}}]})),
            "samples[0].image.data: this is not base64: it holds '!'"
        );
    }

    #[test]
    fn answers_have_false_and_lack_absent_fields() {
        let answer = proto::VerifyResponse { reasons: vec![2], similarity: Some(0.71), ..Default::default() };
        let descriptor = contract().get_message_by_name("semblance.v1.VerifyResponse").expect("in the contract");
        let mut message = DynamicMessage::new(descriptor);
        message.transcode_from(&answer).expect("the same message");
        let json = serde_json::to_string(&Json(&message, EnumForm::Word)).expect("json");
        assert_eq!(
            json,
            r#"{"match":false,"similarity":0.71,"template":"","reasons":["package_calibration"],"samples":[]}"#
        );
        let json = serde_json::to_string(&Json(&message, EnumForm::Name)).expect("json");
        assert!(json.contains(r#""reasons":["REASON_PACKAGE_CALIBRATION"]"#), "{json}");
    }

    #[test]
    fn answers_have_names_of_enums_for_those_who_ask() {
        let asked = |accept: &str| {
            EnumForm::asked(&HeaderMap::from_iter([(header::ACCEPT, accept.parse().expect("a header"))]))
        };
        assert_eq!(asked("application/json;enum=name"), EnumForm::Name);
        assert_eq!(asked("text/html, application/json; charset=utf-8; Enum=Name"), EnumForm::Name);
        assert_eq!(asked("application/json"), EnumForm::Word);
        assert_eq!(EnumForm::asked(&HeaderMap::new()), EnumForm::Word);
    }

    #[test]
    fn base64_is_read_in_every_form_that_clients_write() {
        use base64::{
            Engine,
            engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
        };
        for length in [0, 1, 2, 3, 100] {
            let bytes: Vec<u8> = (0..length).map(|at: u8| at.wrapping_mul(67) | 0xf8).collect();
            let whole = STANDARD.encode(&bytes);
            let lines = whole.as_bytes().chunks(76).map(|line| String::from_utf8_lossy(line).into_owned());
            let lines = lines.collect::<Vec<_>>().join("\r\n") + "\n";
            let forms = [
                whole.clone(),
                STANDARD_NO_PAD.encode(&bytes),
                URL_SAFE.encode(&bytes),
                URL_SAFE_NO_PAD.encode(&bytes),
                lines,
                format!(" {whole}\t"),
                format!("data:image/jpeg;base64,{whole}"),
                format!("DATA:;Base64,{}", whole.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")),
            ];
            for form in forms {
                let body = json!({"samples": [{"image": {"data": form}}]});
                let request: proto::SearchRequest = read("semblance.v1.SearchRequest", body).expect(&form);
                let content = request.samples[0].content.as_ref();
                assert!(matches!(content, Some(proto::sample::Content::Image(i)) if i.data[..] == bytes), "{form}");
            }
        }
        let refused = |text: &str| standard_base64(&mut text.to_owned()).expect_err("no base64");
        assert_eq!(
            refused("data:image/svg+xml,<svg/>"),
            "a data: URL must hold base64, as in data:image/jpeg;base64,..."
        );
        assert_eq!(refused("AQIDx"), "this is not base64: its end is missing");
        assert_eq!(refused("file:///x.jpg"), "this is not base64: it holds ':'");
        assert_eq!(refused("AQ==ID"), "this is not base64: it holds '='");
    }

    #[test]
    fn field_masks_are_read_in_both_spellings_and_enums_by_number() {
        let body = |mask: &str| json!({"identity": {"name": "x"}, "updateMask": mask});
        for mask in ["labels,expireTime", "labels,expire_time", "labels, expire_time"] {
            let request: proto::UpdateIdentityRequest =
                read("semblance.v1.UpdateIdentityRequest", body(mask)).expect(mask);
            assert_eq!(request.update_mask.expect("a mask").paths, ["labels", "expire_time"]);
        }
        let refused = read::<proto::UpdateIdentityRequest>("semblance.v1.UpdateIdentityRequest", body("labels;x"));
        let refused = refused.expect_err("no mask").to_string();
        assert!(refused.starts_with("updateMask: \"labels;x\" is not a field mask"), "{refused}");
        let by_number: proto::SearchRequest =
            read("semblance.v1.SearchRequest", json!({"samples": [{"modality": 1}]})).expect("a number");
        assert_eq!(by_number.samples[0].modality(), proto::Modality::Face);
    }
}

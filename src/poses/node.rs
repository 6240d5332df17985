//! JSON as a compact tree: lists of numbers take four bytes per number.

use std::{cell::Cell, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};

use super::PoseError;

/// Lists and objects of a file. A minute of 133 joints as separate points has 240,000.
const NODES_MAX: usize = 1_000_000;
/// Numbers of a file. Two minutes of 136 joints of three people have 4.4 million.
const NUMBERS_MAX: usize = 8_000_000;

/// A part of a pose file. `null` in a list of numbers is NaN.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Null,
    Flag,
    Number(f64),
    Text(String),
    Numbers(Vec<f32>),
    List(Vec<Node>),
    Record(Vec<(String, Node)>),
}

impl Node {
    /// A member of an object that is present and not `null`.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Record(members) => members
                .iter()
                .find(|(name, _)| name == key)
                .map(|(_, member)| member)
                .filter(|member| **member != Self::Null),
            _ => None,
        }
    }

    /// The first present member of several names.
    pub(super) fn any(&self, keys: &[&str]) -> Option<&Self> {
        keys.iter().find_map(|key| self.get(key))
    }

    /// An empty list, whatever it would hold.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Numbers(numbers) if numbers.is_empty())
    }

    /// What stands here, for messages: never a value.
    pub(super) fn described(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Flag => "true or false".to_owned(),
            Self::Number(_) => "a number".to_owned(),
            Self::Text(_) => "a text".to_owned(),
            Self::Numbers(numbers) => format!("a list of {} numbers", numbers.len()),
            Self::List(nodes) => match nodes.first() {
                Some(first) => format!("a list of {}, the first is {}", nodes.len(), first.described()),
                None => "an empty list".to_owned(),
            },
            Self::Record(members) => {
                let names: Vec<String> = members.iter().take(4).map(|(name, _)| shortened(name)).collect();
                let more = if members.len() > names.len() { " and more" } else { "" };
                format!("an object with {}{more}", names.join(", "))
            }
        }
    }
}

fn shortened(name: &str) -> String {
    let short: String = name.chars().take(24).collect();
    format!("{short:?}")
}

/// Parses JSON, JSON lines, or JSON documents one after the other; several documents are a list. `NaN`, which Python
/// writes, is read as `null`.
pub(super) fn parse(bytes: &[u8]) -> Result<Node, PoseError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match documents(bytes) {
        Err(PoseError::NotJson { .. }) if contains_nan(bytes) => documents(&without_nan(bytes)),
        parsed => parsed,
    }
}

fn documents(bytes: &[u8]) -> Result<Node, PoseError> {
    let (nodes, numbers) = (Cell::new(0), Cell::new(0));
    let mut rest = bytes.trim_ascii();
    let mut documents = Vec::new();
    let mut lines = 0;
    while !rest.is_empty() {
        let mut deserializer = serde_json::Deserializer::from_slice(rest);
        let mut stream = Reader { nodes: &nodes, numbers: &numbers };
        let document = DeserializeSeed::deserialize(&mut stream, &mut deserializer);
        let document = document.map_err(|error| problem(&error, lines, [nodes.get(), numbers.get()]))?;
        documents.push(document);
        let used = deserializer.into_iter::<serde::de::IgnoredAny>().byte_offset();
        lines += rest[..used].split(|byte| *byte == b'\n').count() - 1;
        rest = rest[used..].trim_ascii_start();
    }
    match documents.len() {
        0 => Err(PoseError::Empty),
        1 => Ok(documents.remove(0)),
        _ => Ok(Node::List(documents)),
    }
}

fn problem(error: &serde_json::Error, lines: usize, [nodes, numbers]: [usize; 2]) -> PoseError {
    if nodes > NODES_MAX {
        PoseError::TooLarge { limit: NODES_MAX }
    } else if numbers > NUMBERS_MAX {
        PoseError::TooManyNumbers { limit: NUMBERS_MAX }
    } else if error.is_eof() {
        PoseError::CutOff
    } else {
        PoseError::NotJson { line: lines + error.line(), column: error.column() }
    }
}

const NAN: &[u8] = b"NaN";

fn contains_nan(bytes: &[u8]) -> bool {
    bytes.windows(NAN.len()).any(|window| window == NAN)
}

/// `NaN` outside of texts becomes `null`.
fn without_nan(bytes: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(bytes.len() + 64);
    let (mut is_text, mut at) = (false, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if is_text => {
                replaced.push(bytes[at]);
                at += 1;
            }
            b'"' => is_text = !is_text,
            _ if !is_text && bytes[at..].starts_with(NAN) => {
                replaced.extend_from_slice(b"null");
                at += NAN.len();
                continue;
            }
            _ => {}
        }
        if let Some(byte) = bytes.get(at) {
            replaced.push(*byte);
        }
        at += 1;
    }
    replaced
}

/// Builds a node and counts lists, objects and numbers.
#[derive(Clone, Copy)]
struct Reader<'a> {
    nodes: &'a Cell<usize>,
    numbers: &'a Cell<usize>,
}

impl Reader<'_> {
    fn count<E: Error>(self) -> Result<(), E> {
        self.nodes.set(self.nodes.get() + 1);
        if self.nodes.get() > NODES_MAX { Err(E::custom("too many lists and objects")) } else { Ok(()) }
    }

    fn count_number<E: Error>(self) -> Result<(), E> {
        self.numbers.set(self.numbers.get() + 1);
        if self.numbers.get() > NUMBERS_MAX { Err(E::custom("too many numbers")) } else { Ok(()) }
    }
}

impl<'de> DeserializeSeed<'de> for &mut Reader<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(*self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        self.count_number()?;
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Flag)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Node, E> {
        self.count_number()?;
        Ok(Node::Number(number))
    }

    #[expect(clippy::cast_precision_loss, reason = "ids above 2^53 are still told apart from most others")]
    fn visit_u64<E: Error>(self, number: u64) -> Result<Node, E> {
        self.count_number()?;
        Ok(Node::Number(number as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "as for numbers without a sign")]
    fn visit_i64<E: Error>(self, number: i64) -> Result<Node, E> {
        self.count_number()?;
        Ok(Node::Number(number as f64))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<Node, A::Error> {
        self.count()?;
        let mut numbers: Vec<f32> = Vec::new();
        let mut nodes: Option<Vec<Node>> = None;
        while let Some(node) = elements.next_element_seed(&mut self)? {
            match (&mut nodes, node) {
                (Some(nodes), node) => nodes.push(node),
                #[expect(clippy::cast_possible_truncation, reason = "coordinates and scores are f32 everywhere")]
                (None, Node::Number(number)) => numbers.push(number as f32),
                (None, Node::Null) => numbers.push(f32::NAN),
                (None, node) => {
                    let before = numbers
                        .drain(..)
                        .map(|number| if number.is_nan() { Node::Null } else { Node::Number(number.into()) });
                    nodes = Some(before.chain([node]).collect());
                }
            }
        }
        Ok(nodes.map_or(Node::Numbers(numbers), Node::List))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Node, A::Error> {
        self.count()?;
        let mut record = Vec::new();
        while let Some(name) = members.next_key::<String>()? {
            record.push((name, members.next_value_seed(&mut self)?));
        }
        Ok(Node::Record(record))
    }
}

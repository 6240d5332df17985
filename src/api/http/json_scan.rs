//! Counts what a body of JSON costs, before anything is made of it.

use crate::matcher::Fault;

/// The deepest nesting of lists and objects. The deepest message of the contract needs 12.
const DEPTH_MAX: usize = 32;
/// An object counts as so many values: its map takes as much memory.
const OBJECT_VALUES: usize = 8;
/// The memory of one counted value, in bytes, while a body is translated; measured in docs/api.md.
const BYTES_PER_VALUE: usize = 200;

/// Counts the values and keys of JSON, piece by piece. Text that is no JSON is counted too; its reader refuses it.
#[derive(Debug)]
pub(super) struct JsonScan {
    values: usize,
    values_max: usize,
    depth: usize,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    InText,
    /// Behind a backslash.
    Escaped,
}

impl JsonScan {
    pub(super) fn new(values_max: usize) -> Self {
        Self { values: 0, values_max, depth: 0, place: Place::Outside }
    }

    /// The memory of the values that were counted, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.values.saturating_mul(BYTES_PER_VALUE)
    }

    /// Counts the next piece.
    ///
    /// # Errors
    /// When there are too many values, or they nest too deep.
    pub(super) fn read(&mut self, piece: &[u8]) -> Result<(), Fault> {
        for byte in piece {
            match (self.place, byte) {
                (Place::InText, b'\\') => self.place = Place::Escaped,
                (Place::InText, b'"') => self.place = Place::Outside,
                (Place::Outside, b'"') | (Place::Escaped, _) => self.place = Place::InText,
                (Place::Outside, b'{') => self.open(OBJECT_VALUES)?,
                (Place::Outside, b'[') => self.open(1)?,
                (Place::Outside, b'}' | b']') => self.depth = self.depth.saturating_sub(1),
                // One stands before every value but the first of its list or object, and one behind every key.
                (Place::Outside, b',' | b':') => self.count(1)?,
                (Place::InText | Place::Outside, _) => {}
            }
        }
        Ok(())
    }

    fn open(&mut self, values: usize) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Fault::invalid("body", format!("the JSON nests deeper than {DEPTH_MAX}")));
        }
        self.count(values)
    }

    fn count(&mut self, values: usize) -> Result<(), Fault> {
        self.values += values;
        if self.values > self.values_max {
            let problem = format!(
                "a body of JSON has at most {} values, where a key counts as one and an object as {OBJECT_VALUES}; send \
                 less at once",
                self.values_max
            );
            return Err(Fault::invalid("body", problem));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn scanned(text: &str, values_max: usize, piece: usize) -> Result<JsonScan, Fault> {
        let mut scan = JsonScan::new(values_max);
        text.as_bytes().chunks(piece).try_for_each(|piece| scan.read(piece)).map(|()| scan)
    }

    /// The values and keys inside `value`, without itself; an object as [`OBJECT_VALUES`].
    fn inside(value: &Value) -> usize {
        match value {
            Value::Array(items) => items.iter().map(|item| 1 + inside(item)).sum(),
            Value::Object(entries) => {
                OBJECT_VALUES - 1 + entries.values().map(|value| 2 + inside(value)).sum::<usize>()
            }
            _ => 0,
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 60, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(".{0,6}", inner, 0..6)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_value_escapes_the_count(value in json(), piece in 1..9_usize) {
            let text = value.to_string();
            let scan = scanned(&text, 1_000_000, piece).expect("few values");
            prop_assert!(scan.values >= inside(&value), "{text}: {}", scan.values);
            prop_assert!(scan.values <= 2 * inside(&value) + OBJECT_VALUES, "{text}: {}", scan.values);
            prop_assert_eq!((scan.depth, scan.place), (0, Place::Outside));
        }
    }

    #[test]
    fn signs_inside_texts_are_not_counted() {
        let scan = scanned(r#"{"a,{[": "\",:{[\\", "b": "\\\\"}"#, 100, 1).expect("few values");
        assert_eq!(scan.values, OBJECT_VALUES + 3);
    }

    #[test]
    fn values_that_nest_are_counted_as_those_in_a_row() {
        let nested = format!("[{}]", vec![format!("{}0{}", "{\"\":".repeat(20), "}".repeat(20)); 100].join(","));
        assert!(scanned(&nested, 100 * 20, 4096).is_err(), "a hundred commas, and two thousand objects");
        assert!(scanned(&nested, 100 * 20 * (OBJECT_VALUES + 1) + 200, 4096).is_ok());
        let empty = format!("[{}]", vec!["{}"; 100].join(","));
        assert!(scanned(&empty, 100 * OBJECT_VALUES, 4096).is_err());
    }

    #[test]
    fn deep_nesting_is_refused() {
        for open in ["[", "{\"\":"] {
            assert!(scanned(&open.repeat(DEPTH_MAX), 100_000, 7).is_ok());
            let refused = scanned(&open.repeat(DEPTH_MAX + 1), 100_000, 7).expect_err("too deep");
            assert!(refused.to_string().contains("nests deeper than 32"), "{refused}");
        }
    }
}

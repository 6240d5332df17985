//! The columns of an Arrow file by name, for every Arrow type of the same content.

use std::collections::BTreeMap;

use arrow_array::{Array, Float32Array, RecordBatch, StructArray, cast::AsArray, types::Float32Type};
use arrow_schema::{DataType, Schema};

use super::row::{ImportRow, RowDefaults, RowFields};

/// Whether an Arrow type is supported.
type TypeCheck = fn(&DataType) -> bool;

/// Names and types of the columns.
const COLUMNS: [(&str, &str, TypeCheck); 6] = [
    ("identity", "a text (utf8)", is_text),
    ("labels", "a map from text to text, or a text that holds JSON", |kind| is_text(kind) || is_text_map(kind)),
    ("model", "a text (utf8)", is_text),
    ("modality", "a text (utf8)", is_text),
    ("digest", "a text (utf8)", is_text),
    ("embedding", "a fixed size list or a list of float32", is_numbers),
];

fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_text_map(kind: &DataType) -> bool {
    let DataType::Map(entries, _) = kind else { return false };
    let DataType::Struct(fields) = entries.data_type() else { return false };
    fields.len() == 2 && fields.iter().all(|field| is_text(field.data_type()))
}

fn is_numbers(kind: &DataType) -> bool {
    match kind {
        DataType::FixedSizeList(item, _) | DataType::List(item) | DataType::LargeList(item) => {
            item.data_type() == &DataType::Float32
        }
        _ => false,
    }
}

/// Checks that the required columns exist with supported types.
pub(super) fn check(schema: &Schema) -> Result<(), String> {
    for needed in ["identity", "embedding"] {
        if schema.field_with_name(needed).is_err() {
            let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(format!("it has no column {needed}; its columns are {}", columns.join(", ")));
        }
    }
    for (name, expected, is_expected) in COLUMNS {
        if let Ok(field) = schema.field_with_name(name)
            && !is_expected(field.data_type())
        {
            return Err(format!("the column {name} is {}; it must be {expected}", field.data_type()));
        }
    }
    Ok(())
}

/// Reads a row of a batch with a checked schema.
pub(super) fn row(batch: &RecordBatch, at: usize, defaults: &RowDefaults) -> Result<ImportRow, String> {
    let text = |name: &str| batch.column_by_name(name).and_then(|column| text_at(column, at));
    let fields = RowFields {
        identity: text("identity").ok_or("the row has no identity")?,
        labels: batch.column_by_name("labels").map(|column| labels_at(column, at)).transpose()?.unwrap_or_default(),
        model: text("model"),
        modality: text("modality"),
        digest: text("digest"),
    };
    let embedding = batch.column_by_name("embedding").and_then(|column| numbers_at(column, at));
    fields.with_embedding(embedding.ok_or("the row has no embedding, or one with missing numbers")?, defaults)
}

fn text_at(column: &dyn Array, at: usize) -> Option<&str> {
    if !column.is_valid(at) {
        return None;
    }
    if let Some(texts) = column.as_string_opt::<i32>() {
        return Some(texts.value(at));
    }
    if let Some(texts) = column.as_string_opt::<i64>() {
        return Some(texts.value(at));
    }
    Some(column.as_string_view_opt()?.value(at))
}

fn labels_at(column: &dyn Array, at: usize) -> Result<BTreeMap<String, String>, String> {
    if !column.is_valid(at) {
        return Ok(BTreeMap::new());
    }
    let Some(map) = column.as_map_opt() else {
        let json = text_at(column, at).unwrap_or_default();
        return serde_json::from_str(json)
            .map_err(|problem| format!("labels are not a JSON object of texts: {problem}"));
    };
    let entries: StructArray = map.value(at);
    let pair = |at: usize| {
        let key = text_at(entries.column(0), at).ok_or("a label has no key")?;
        let value = text_at(entries.column(1), at).ok_or("a label has no value")?;
        Ok((key.to_owned(), value.to_owned()))
    };
    (0..entries.len()).map(pair).collect()
}

fn numbers_at(column: &dyn Array, at: usize) -> Option<Vec<f32>> {
    if !column.is_valid(at) {
        return None;
    }
    let list = if let Some(lists) = column.as_fixed_size_list_opt() {
        lists.value(at)
    } else if let Some(lists) = column.as_list_opt::<i32>() {
        lists.value(at)
    } else {
        column.as_list_opt::<i64>()?.value(at)
    };
    let numbers: &Float32Array = list.as_primitive_opt::<Float32Type>()?;
    (numbers.null_count() == 0).then(|| numbers.values().to_vec())
}

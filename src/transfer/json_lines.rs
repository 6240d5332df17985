//! JSON lines: one object per line, with an embedding or the path of a picture.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::error::Category;

use super::{
    ImportRows, ImportSource, TransferError, open,
    row::{Exported, ImportRow, RowDefaults, RowFields, RowRead, numbered},
};
use domain::{
    Alignment, FaceSelection, Geometry, ImageBytes, Landmarks, Modality, ModelDigest, Picture, PixelBox, SampleContent,
};

/// Maximum line length in bytes, more than the longest embedding needs.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// What Windows programs write before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Maximum picture size in bytes.
const IMAGE_BYTES_MAX: u64 = 16 << 20;

/// An input line. Unknown fields are refused by name, so that a misspelt field is not lost.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct InputLine {
    identity: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    model: Option<String>,
    modality: Option<String>,
    digest: Option<String>,
    embedding: Option<Vec<f32>>,
    /// Path of a picture, relative to the file's folder.
    image: Option<PathBuf>,
    alignment: Option<AlignmentWord>,
    face_selection: Option<SelectionWord>,
    landmarks: Option<[[f32; 2]; 5]>,
    r#box: Option<[f32; 4]>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AlignmentWord {
    Detect,
    Landmarks,
    Aligned,
    LfwFunneled,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SelectionWord {
    Largest,
    MostCentral,
    ExactlyOne,
}

pub(super) fn read(source: &ImportSource) -> Result<ImportRows, TransferError> {
    let total = lines(&source.file)?;
    let reader = JsonLines {
        file: source.file.clone(),
        lines: BufReader::with_capacity(1 << 16, open(&source.file)?),
        defaults: source.defaults.clone(),
        after: source.after,
        number: 0,
        is_over: false,
    };
    Ok(ImportRows { total, rows: Box::new(reader) })
}

/// Number of lines; the last one may have no newline.
pub(super) fn lines(path: &Path) -> Result<u64, TransferError> {
    let mut file = open(path)?;
    let (mut lines, mut last, mut buffer) = (0, b'\n', vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut buffer).map_err(|error| TransferError::io(path, error))?;
        let Some(end) = buffer[..read].last() else {
            return Ok(lines + u64::from(last != b'\n'));
        };
        last = *end;
        lines += buffer[..read].split(|byte| *byte == b'\n').count() as u64 - 1;
    }
}

struct JsonLines {
    file: PathBuf,
    lines: BufReader<File>,
    defaults: RowDefaults,
    after: u64,
    number: u64,
    is_over: bool,
}

impl Iterator for JsonLines {
    type Item = Result<RowRead, TransferError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_over {
            let mut line = Vec::new();
            match next_line(&mut self.lines, &mut line) {
                Ok(LineLength::None) => break,
                Ok(length) => {
                    self.number += 1;
                    if self.number == 1 && line.starts_with(BYTE_ORDER_MARK) {
                        line.drain(..BYTE_ORDER_MARK.len());
                    }
                    if self.number <= self.after || line.trim_ascii().is_empty() {
                        continue;
                    }
                    let read = match length {
                        LineLength::TooLong => Err(format!("the line is longer than {LINE_BYTES_MAX} bytes")),
                        _ => self.row(&line),
                    };
                    return Some(Ok(numbered(self.number, read)));
                }
                Err(error) => {
                    self.is_over = true;
                    return Some(Err(TransferError::io(&self.file, error)));
                }
            }
        }
        None
    }
}

#[derive(Clone, Copy, PartialEq)]
enum LineLength {
    None,
    Whole,
    TooLong,
}

/// Reads a line without its newline; of a line that is too long, the beginning.
pub(super) fn next_line_of(lines: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    Ok(next_line(lines, line)? != LineLength::None)
}

fn next_line(lines: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<LineLength> {
    line.clear();
    if lines.take(LINE_BYTES_MAX).read_until(b'\n', line)? == 0 {
        return Ok(LineLength::None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        return Ok(LineLength::Whole);
    }
    // The end of the file or the maximum length: the rest of the line is skipped.
    let is_cut = line.len() as u64 == LINE_BYTES_MAX && !lines.fill_buf()?.is_empty();
    if !is_cut {
        return Ok(LineLength::Whole);
    }
    loop {
        let held = lines.fill_buf()?;
        let end = held.iter().position(|byte| *byte == b'\n');
        let (passed, is_end) = (end.map_or(held.len(), |at| at + 1), end.is_some() || held.is_empty());
        lines.consume(passed);
        if is_end {
            return Ok(LineLength::TooLong);
        }
    }
}

impl JsonLines {
    fn row(&self, line: &[u8]) -> Result<ImportRow, String> {
        let line: InputLine =
            serde_json::from_slice(line).map_err(|problem| format!("this is not a row: {}", said(&problem)))?;
        let fields = RowFields {
            identity: &line.identity,
            labels: line.labels.clone(),
            model: line.model.as_deref(),
            modality: line.modality.as_deref(),
            digest: line.digest.as_deref(),
        };
        match (&line.embedding, &line.image) {
            (Some(values), None) => fields.with_embedding(values.clone(), &self.defaults),
            (None, Some(image)) if line.model.is_none() => {
                let bytes = picture(self.file.parent().unwrap_or(Path::new("")), image)?;
                let picture = Picture { bytes: ImageBytes(bytes.into()), geometry: geometry(&line) };
                fields.with(SampleContent::Image(picture), &self.defaults)
            }
            (None, Some(_)) => Err("a picture is encoded by the server's own model; omit model".to_owned()),
            _ => Err("a row must have an embedding or an image, not both".to_owned()),
        }
    }
}

/// An error of JSON in plain words.
fn said(problem: &serde_json::Error) -> String {
    match problem.classify() {
        Category::Eof => "its JSON is cut off".to_owned(),
        Category::Syntax => format!("its JSON is invalid at column {}; NaN is no number of JSON", problem.column()),
        Category::Data | Category::Io => problem.to_string(),
    }
}

fn geometry(line: &InputLine) -> Geometry {
    let alignment = line.alignment.map(|word| match word {
        AlignmentWord::Detect => Alignment::Detect,
        AlignmentWord::Landmarks => Alignment::Landmarks,
        AlignmentWord::Aligned => Alignment::Aligned,
        AlignmentWord::LfwFunneled => Alignment::LfwFunneled,
    });
    let selection = line.face_selection.map(|word| match word {
        SelectionWord::Largest => FaceSelection::Largest,
        SelectionWord::MostCentral => FaceSelection::MostCentral,
        SelectionWord::ExactlyOne => FaceSelection::ExactlyOne,
    });
    let region = line.r#box.map(|[left, top, width, height]| PixelBox { left, top, width, height });
    Geometry { alignment, landmarks: line.landmarks.map(Landmarks), region, selection, prompts: Vec::new() }
}

fn picture(folder: &Path, image: &Path) -> Result<Vec<u8>, String> {
    let path = folder.join(image);
    let problem = |problem: &dyn std::fmt::Display| format!("the picture {}: {problem}", image.display());
    let file = open(&path).map_err(|error| match error {
        TransferError::Io { source, .. } => problem(&source),
        _ => problem(&"it is not a regular file"),
    })?;
    let mut bytes = Vec::new();
    file.take(IMAGE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| problem(&error))?;
    if bytes.len() as u64 > IMAGE_BYTES_MAX {
        return Err(problem(&format_args!("it has more than {IMAGE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

/// A line as written by export and read by import.
#[derive(Serialize)]
struct OutputLine<'e> {
    identity: &'e str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    modality: Modality,
    model: &'e str,
    digest: ModelDigest,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding: Option<&'e [f32]>,
}

pub(super) fn write(out: &mut impl Write, row: &Exported, with_embedding: bool) -> io::Result<()> {
    let written = OutputLine {
        identity: row.identity.as_str(),
        labels: row.labels.clone().into(),
        modality: row.modality,
        model: row.model.as_str(),
        digest: row.digest,
        embedding: with_embedding.then(|| row.embedding.values()),
    };
    serde_json::to_writer(&mut *out, &written)?;
    out.write_all(b"\n")
}

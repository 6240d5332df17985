//! Embeddings of persons from a file, for `evaluate`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use domain::{Embedding, EmbeddingSpace, Labels, Modality, ModelDigest, SampleContent, SpaceName};
use transfer::{Format, ImportRow, ImportSource, RowDefaults};

/// The model name of embeddings without one.
const UNNAMED: &str = "embeddings";

/// The rows of a file, in order.
#[derive(Debug, Default)]
pub(super) struct PeopleFile {
    pub(super) names: Vec<String>,
    pub(super) labels: Vec<Labels>,
    pub(super) embeddings: Vec<Embedding>,
}

impl PeopleFile {
    /// Reads a file of `semblance import`. The names of an .npy are in a second file, one per line.
    pub(super) fn read(file: &Path, names: Option<&PathBuf>, model: Option<&str>) -> anyhow::Result<Self> {
        if Format::of(file)? == Format::Npy && names.is_none() {
            bail!("an .npy has no names; --names takes a file with one name per line");
        }
        let model = SpaceName::new(model.unwrap_or(UNNAMED)).context("--model")?;
        // The measures do not depend on the modality; embeddings of one modality compare.
        let defaults = RowDefaults { model: Some(model), modality: Some(Modality::Face) };
        let source = ImportSource { file: file.to_owned(), names: names.cloned(), defaults, after: 0 };
        let mut people = Self::default();
        for row in transfer::read(&source)? {
            let row =
                row?.map_err(|bad| anyhow::anyhow!("row {} of {}: {}", bad.number, file.display(), bad.problem))?;
            let embedding = embedding(&row).with_context(|| format!("row {} of {}", row.number, file.display()))?;
            people.embeddings.push(embedding);
            people.names.push(row.identity.to_string());
            people.labels.push(row.labels);
        }
        Ok(people)
    }
}

/// Embeddings of one model, modality and dimension compare.
fn embedding(row: &ImportRow) -> anyhow::Result<Embedding> {
    let SampleContent::Embedding { model, values } = &row.sample.content else {
        bail!("the row is a picture; this protocol measures embeddings");
    };
    let modality = row.sample.modality;
    let dimension = u32::try_from(values.len()).context("the embedding is too long")?;
    let digest = row.digest.unwrap_or_else(|| ModelDigest::of_external(model, modality, dimension));
    Ok(Embedding::new(EmbeddingSpace::whole(modality, digest, dimension), values)?)
}

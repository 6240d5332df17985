//! Embeddings of people in a file, for the commands that measure them.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use domain::{Embedding, EmbeddingSpace, Labels, Modality, ModelDigest, SampleContent, SpaceName};
use transfer::{Format, ImportRow, ImportSource, RowDefaults};

/// What embeddings are called that do not say their model.
const UNNAMED: &str = "embeddings";

/// The rows of a file, in order.
#[derive(Debug, Default)]
pub(super) struct PeopleFile {
    pub(super) names: Vec<String>,
    pub(super) labels: Vec<Labels>,
    pub(super) embeddings: Vec<Embedding>,
}

impl PeopleFile {
    /// Reads a file as `semblance import` takes it; an array has its names in another one, one a line.
    pub(super) fn read(file: &Path, names: Option<&PathBuf>, model: Option<&str>) -> anyhow::Result<Self> {
        if Format::of(file)? == Format::Npy && names.is_none() {
            bail!("an array has no names: --names says which file has them, one a line");
        }
        let model = SpaceName::new(model.unwrap_or(UNNAMED)).context("--model")?;
        // Nothing is made of the modality but that all embeddings are of one.
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
        bail!("it is a picture, and embeddings are measured here");
    };
    let modality = row.sample.modality;
    let dimension = u32::try_from(values.len()).context("more numbers than an embedding has")?;
    let digest = row.digest.unwrap_or_else(|| ModelDigest::of_external(model, modality, dimension));
    Ok(Embedding::new(EmbeddingSpace::whole(modality, digest, dimension), values)?)
}

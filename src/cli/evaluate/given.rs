//! What was made elsewhere and is given in files: embeddings and scores.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, bail};

use super::EvaluateFlags;
use crate::{
    domain::{Embedding, EmbeddingSpace, Modality, ModelDigest, SampleContent, SpaceName},
    evaluate::{self, BoxFiles, Labelled, Origin, PersonRule, Protocol, Report, ScoreFile},
    transfer::{self, Defaults, Format, Row, Source},
};

/// What embeddings are called that do not say their model.
const UNNAMED: &str = "embeddings";

pub(super) fn embeddings(protocol: Protocol, flags: &EvaluateFlags) -> anyhow::Result<Report> {
    let Protocol::Labelled(trials) = protocol else {
        bail!(
            "embeddings are measured by --protocol verification, closed-set, pairwise, open-set-identification or open-set"
        );
    };
    let ([file], [] | [_]) = (flags.embeddings.as_slice(), flags.names.as_slice()) else {
        bail!("this protocol measures one file of embeddings at a time");
    };
    if Format::of(file)? == Format::Npy && flags.names.is_empty() {
        bail!("an array has no names: --names says which file has them, one a line");
    }
    let model = SpaceName::new(flags.model.as_deref().unwrap_or(UNNAMED)).context("--model")?;
    let source = Source {
        file: file.to_owned(),
        names: flags.names.first().cloned(),
        // Nothing is made of the modality but that all embeddings are of one.
        defaults: Defaults { model: Some(model), modality: Some(Modality::Face) },
        after: 0,
    };
    let (mut names, mut labels, mut embeddings) = (Vec::new(), Vec::new(), Vec::new());
    for row in transfer::read(&source)? {
        let row = row?.map_err(|bad| anyhow::anyhow!("row {} of {}: {}", bad.number, file.display(), bad.problem))?;
        embeddings.push(Some(embedding(&row).with_context(|| format!("row {} of {}", row.number, file.display()))?));
        names.push(row.identity.to_string());
        labels.push(row.labels);
    }
    let mut known = flags.person.as_ref().unwrap_or(&PersonRule::Same).known(&names)?;
    for (known, labels) in known.iter_mut().zip(labels) {
        // What the rule says goes before.
        for (key, value) in BTreeMap::from(labels) {
            known.labels.entry(key).or_insert(value);
        }
    }
    let set = Labelled::new(known, embeddings)?;
    let origin = Origin { model: flags.model.clone(), ..Origin::default() };
    evaluate::embeddings(&set, (file.as_path(), origin), trials, &flags.options())
        .with_context(|| format!("{} cannot be measured; --person says how a name tells the person", file.display()))
}

/// Embeddings of one model, modality and dimension compare.
fn embedding(row: &Row) -> anyhow::Result<Embedding> {
    let SampleContent::Embedding { model, values } = &row.sample.content else {
        bail!("it is a picture, and embeddings are measured here");
    };
    let modality = row.sample.modality;
    let dimension = u32::try_from(values.len()).context("more numbers than an embedding has")?;
    let digest = row.digest.unwrap_or_else(|| ModelDigest::of_external(model, modality, dimension));
    Ok(Embedding::new(EmbeddingSpace::whole(modality, digest, dimension), values)?)
}

pub(super) fn scores(file: &Path, flags: &EvaluateFlags) -> anyhow::Result<Report> {
    if flags.protocol.protocol() != Some(Protocol::Scores) {
        bail!("scores are measured by --protocol scores");
    }
    let scores = ScoreFile::read(file)?;
    let origin = Origin { model: flags.model.clone(), ..Origin::default() };
    Ok(evaluate::scores(&scores, (file, origin), flags.scores_are.meaning(), &flags.slice)?)
}

pub(super) fn detections((found, there): (&Path, &Path), flags: &EvaluateFlags) -> anyhow::Result<Report> {
    if flags.protocol.protocol() != Some(Protocol::Detections) {
        bail!("boxes are measured by --protocol detections");
    }
    let origin = Origin { model: flags.model.clone(), ..Origin::default() };
    Ok(evaluate::detections(&BoxFiles::read(there, found)?, (found, origin)))
}

//! Protocols over files of other systems: embeddings, scores and detections.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, bail};

use super::{super::people_file::PeopleFile, EvaluateFlags};
use evaluate::{BoxFiles, Labelled, PersonRule, Protocol, Report, ScoreFile, ScoreOrigin};

pub(super) fn embeddings(protocol: Protocol, flags: &EvaluateFlags) -> anyhow::Result<Report> {
    let Protocol::Labelled(trials) = protocol else {
        bail!(
            "--embeddings needs --protocol verification, closed-set, pairwise, open-set-identification, open-set or templates"
        );
    };
    let ([file], [] | [_]) = (flags.embeddings.as_slice(), flags.names.as_slice()) else {
        bail!("this protocol takes one file of embeddings");
    };
    let PeopleFile { names, labels, embeddings } = PeopleFile::read(file, flags.names.first(), flags.model.as_deref())?;
    let mut known = flags.person.as_ref().unwrap_or(&PersonRule::Same).known(&names)?;
    for (known, labels) in known.iter_mut().zip(labels) {
        // Labels of the rule take precedence.
        for (key, value) in BTreeMap::from(labels) {
            known.labels.entry(key).or_insert(value);
        }
    }
    let set = Labelled::new(known, embeddings.into_iter().map(Some).collect())?;
    let origin = ScoreOrigin { model: flags.model.clone(), ..ScoreOrigin::default() };
    evaluate::embeddings(&set, file.as_path(), origin, trials, &flags.options()).with_context(|| {
        format!("{} cannot be measured; --person sets the rule from a name to its person", file.display())
    })
}

pub(super) fn scores(file: &Path, flags: &EvaluateFlags) -> anyhow::Result<Report> {
    if flags.protocol.protocol() != Some(Protocol::Scores) {
        bail!("--scores needs --protocol scores");
    }
    let scores = ScoreFile::read(file)?;
    let origin = ScoreOrigin { model: flags.model.clone(), ..ScoreOrigin::default() };
    Ok(evaluate::scores(&scores, file, origin, flags.scores_are.meaning(), &flags.slice)?)
}

pub(super) fn detections(found: &Path, truth: &Path, flags: &EvaluateFlags) -> anyhow::Result<Report> {
    if flags.protocol.protocol() != Some(Protocol::Detections) {
        bail!("--detections needs --protocol detections");
    }
    let origin = ScoreOrigin { model: flags.model.clone(), ..ScoreOrigin::default() };
    Ok(evaluate::detections(&BoxFiles::read(truth, found)?, found, origin))
}

//! What was made elsewhere and is given in files: embeddings and scores.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, bail};

use super::{super::people_file::PeopleFile, EvaluateFlags};
use evaluate::{BoxFiles, Labelled, PersonRule, Protocol, Report, ScoreFile, ScoreOrigin};

pub(super) fn embeddings(protocol: Protocol, flags: &EvaluateFlags) -> anyhow::Result<Report> {
    let Protocol::Labelled(trials) = protocol else {
        bail!(
            "embeddings are measured by --protocol verification, closed-set, pairwise, open-set-identification or open-set"
        );
    };
    let ([file], [] | [_]) = (flags.embeddings.as_slice(), flags.names.as_slice()) else {
        bail!("this protocol measures one file of embeddings at a time");
    };
    let PeopleFile { names, labels, embeddings } = PeopleFile::read(file, flags.names.first(), flags.model.as_deref())?;
    let mut known = flags.person.as_ref().unwrap_or(&PersonRule::Same).known(&names)?;
    for (known, labels) in known.iter_mut().zip(labels) {
        // What the rule says goes before.
        for (key, value) in BTreeMap::from(labels) {
            known.labels.entry(key).or_insert(value);
        }
    }
    let set = Labelled::new(known, embeddings.into_iter().map(Some).collect())?;
    let origin = ScoreOrigin { model: flags.model.clone(), ..ScoreOrigin::default() };
    evaluate::embeddings(&set, file.as_path(), origin, trials, &flags.options())
        .with_context(|| format!("{} cannot be measured; --person says how a name tells the person", file.display()))
}

pub(super) fn scores(file: &Path, flags: &EvaluateFlags) -> anyhow::Result<Report> {
    if flags.protocol.protocol() != Some(Protocol::Scores) {
        bail!("scores are measured by --protocol scores");
    }
    let scores = ScoreFile::read(file)?;
    let origin = ScoreOrigin { model: flags.model.clone(), ..ScoreOrigin::default() };
    Ok(evaluate::scores(&scores, file, origin, flags.scores_are.meaning(), &flags.slice)?)
}

pub(super) fn detections((found, there): (&Path, &Path), flags: &EvaluateFlags) -> anyhow::Result<Report> {
    if flags.protocol.protocol() != Some(Protocol::Detections) {
        bail!("boxes are measured by --protocol detections");
    }
    let origin = ScoreOrigin { model: flags.model.clone(), ..ScoreOrigin::default() };
    Ok(evaluate::detections(&BoxFiles::read(there, found)?, found, origin))
}

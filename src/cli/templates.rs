//! `semblance evaluate --protocol templates`

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use super::{people_file::PeopleFile, print};
use evaluate::{
    PersonRule,
    templates::{self, SampleSet, Templates},
};
use transfer::Format;

/// The settings of the protocol.
#[derive(Debug, Clone, Copy)]
pub(super) struct TemplatesFlags<'f> {
    /// Files of embeddings; simulated ones when empty.
    pub(super) embeddings: &'f [PathBuf],
    /// One file of names per .npy.
    pub(super) names: &'f [PathBuf],
    /// The rule from a name to its person.
    pub(super) person: Option<&'f PersonRule>,
    /// The number of random splits of samples into templates and probes.
    pub(super) draws: u32,
    /// Seed of all random draws.
    pub(super) seed: u64,
}

/// Noise of simulated samples: an encoder that separates most persons, and one that separates some.
const NOISES: [f64; 2] = [1.2, 1.8];

pub(super) fn evaluate(flags: &TemplatesFlags<'_>, json: Option<&Path>) -> anyhow::Result<()> {
    if !(1..=1000).contains(&flags.draws) {
        bail!("--draws must be 1 to 1000");
    }
    let crowds = if flags.embeddings.is_empty() {
        NOISES.map(|noise| templates::simulated(noise, flags.seed)).to_vec()
    } else {
        let mut names = flags.names.iter();
        flags.embeddings.iter().map(|file| set(file, &mut names, flags.person)).collect::<anyhow::Result<_>>()?
    };
    let measured = |set: &SampleSet| {
        let measured = templates::measure(set, flags.draws, flags.seed);
        measured.with_context(|| {
            format!(
                "{} needs two persons with five samples each; --person sets the rule from a name to its person",
                set.name
            )
        })
    };
    let sets: Vec<Templates> = crowds.iter().map(measured).collect::<anyhow::Result<_>>()?;
    if let Some(path) = json {
        fs::write(path, serde_json::to_vec_pretty(&sets)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    print(sets.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n"));
    Ok(())
}

fn set<'n>(
    file: &Path,
    names: &mut impl Iterator<Item = &'n PathBuf>,
    person: Option<&PersonRule>,
) -> anyhow::Result<SampleSet> {
    let is_npy = Format::of(file)? == Format::Npy;
    let people = PeopleFile::read(file, is_npy.then(|| names.next()).flatten(), None)?;
    let known = person.unwrap_or(&PersonRule::Same).known(&people.names)?;
    Ok(SampleSet {
        name: file.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned()),
        // Files have no qualities.
        qualities: vec![f32::NAN; people.embeddings.len()],
        embeddings: people.embeddings.iter().map(|embedding| embedding.values().to_vec()).collect(),
        people: known.into_iter().map(|known| known.person).collect(),
    })
}

//! `semblance evaluate`

mod given;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    open_set::{self, OpenSetFlags},
    say,
    templates::{self, TemplatesFlags},
};
use crate::config::PlaceFlags;
use domain::{Device, Modality};
use encoder::{EncoderOptions, Encoders, Package, Placements, SampleLimits};
use evaluate::{EvaluationSet, LabelledProtocol, Meaning, PersonRule, Protocol, ProtocolOptions, SampleFilter};

#[derive(Debug, Args)]
pub(super) struct EvaluateFlags {
    /// Which set, and how it is measured.
    #[arg(long)]
    protocol: ProtocolName,
    /// The folder of the set.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Embeddings instead of a set: .npy with --names, .jsonl, .arrow or .feather. For open-set and templates several times, if you
    /// like.
    #[arg(long, conflicts_with = "data")]
    embeddings: Vec<PathBuf>,
    /// The names of an .npy, one a line; one such file for each .npy.
    #[arg(long, requires = "embeddings")]
    names: Vec<PathBuf>,
    /// For open-set: simulated galleries of either kind; of each file of people 60 are drawn.
    #[arg(long, default_value_t = 500)]
    trial_worlds: u32,
    /// For templates: how often people's samples are parted into templates and probes.
    #[arg(long, default_value_t = 5)]
    draws: u32,
    /// How a name tells the person: `same`, `lfw` (Name_0001.jpg), `market` (PPPP_cCs..., with the label camera),
    /// `casia-b` (PPP-cc-NN-VVV, with the labels condition, run, view and role), or a table (.tsv, .csv) with the columns name and person, and labels in all others.
    #[arg(long)]
    person: Option<PersonRule>,
    /// Scores instead of a set: a table (.tsv, .csv) with the columns score and mated (1 or 0), and labels in all others.
    #[arg(long, conflicts_with_all = ["data", "embeddings"])]
    scores: Option<PathBuf>,
    /// What scores are: probabilities and natural log-likelihood ratios are held to their word, too.
    #[arg(long, default_value = "similarity", requires = "scores")]
    scores_are: MeaningName,
    /// Boxes of people who were found: a table with the columns frame, identity, left, top, right, bottom and score.
    #[arg(long, requires = "truth", conflicts_with_all = ["data", "embeddings", "scores"])]
    detections: Option<PathBuf>,
    /// Boxes of people who are there: the same columns without score.
    #[arg(long, requires = "detections")]
    truth: Option<PathBuf>,
    /// Do not compare samples of one person that share this label, `--across camera`; may be given several times.
    #[arg(long)]
    across: Vec<String>,
    /// Compare samples of one person only where they share this label: `--within clothes`.
    #[arg(long)]
    within: Option<String>,
    /// Who searches, as LABEL=VALUE; everybody when absent.
    #[arg(long)]
    probes: Option<SampleFilter>,
    /// Who is searched, as LABEL=VALUE; everybody when absent.
    #[arg(long)]
    gallery: Option<SampleFilter>,
    /// For pairwise: the label whose values are tried against each other, such as view.
    #[arg(long)]
    pair_label: Option<String>,
    /// Tell results by the values of this label, too; may be given several times.
    #[arg(long)]
    slice: Vec<String>,
    /// For open-set-identification: how many of those who could be are enrolled.
    #[arg(long, default_value_t = 0.5)]
    enrolled_share: f64,
    /// Draws who is enrolled, and people for intervals.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The package to measure; the starter of the set's modality when absent. For embeddings and scores, what made them.
    #[arg(long)]
    model: Option<String>,
    /// Encode each picture together with its mirror image.
    #[arg(long)]
    mirror: bool,
    /// Where the model runs: `cpu`, or `cuda:N`, which is in half precision.
    #[arg(long, default_value_t)]
    device: Device,
    /// For PsyMo: the folder of the same walks' gait-energy images, to be measured beside the model.
    #[arg(long)]
    silhouettes: Option<PathBuf>,
    /// Also write the report here, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Also write the report here, as one page with plots that needs no network.
    #[arg(long)]
    html: Option<PathBuf>,
    /// Also write the plots into this folder, as SVG and PNG.
    #[arg(long)]
    plots: Option<PathBuf>,
}

/// The starter that finds faces.
const DETECTOR: &str = "face-mtcnn";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ProtocolName {
    /// LFW View 1 pairs, deep-funneled: `pairsDevTest.txt` and `images/`.
    LfwPairs,
    /// The same pairs, each face found and aligned by the installed detector.
    LfwPairsDetected,
    /// LFW View 2: `pairs.txt` and `images/`; ten folds, the mean and its standard error.
    #[value(name = "lfw-view-2")]
    LfwView2,
    /// Market-1501: `query/` against `bounding_box_test/`; in a folder of crops every crop against all others. Those of
    /// the same person and camera are left out.
    Market,
    /// PsyMo skeletons: every walk against the normal walks of its viewpoint and direction, itself left out; then against
    /// those of all other viewpoints, and beside methods that take no learning.
    Psymo,
    /// Every pair of a labelled set, from --data with --person, or from --embeddings.
    Verification,
    /// Every sample of one against all others, or --probes against --gallery.
    ClosedSet,
    /// The values of --pair-label against each other, rank 1 each, as CASIA-B's viewpoints are.
    Pairwise,
    /// Some people of one are enrolled with a sample each; their other samples and all other people search.
    OpenSetIdentification,
    /// Scores of any system, from --scores.
    Scores,
    /// Enrolled or not: the open-set decider and what stands beside it, on simulated galleries and on such drawn from
    /// `--embeddings`. It measures no model and needs no `--data`.
    OpenSet,
    /// Several templates of one person, pooled and re-ranked in every way, and with one of four that is somebody else's: people of
    /// `--embeddings`, or simulated ones. It measures no model and needs no `--data`.
    Templates,
    /// Boxes that were found and named, from --detections and --truth: average precision with the right name.
    Detections,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MeaningName {
    Similarity,
    Probability,
    Llr,
}

impl ProtocolName {
    /// None for what measures neither a model nor what one made.
    fn protocol(self) -> Option<Protocol> {
        match self {
            Self::LfwPairs => Some(Protocol::LfwPairs),
            Self::LfwPairsDetected => Some(Protocol::LfwPairsDetected),
            Self::LfwView2 => Some(Protocol::LfwView2),
            Self::Market => Some(Protocol::Market),
            Self::Psymo => Some(Protocol::Psymo),
            Self::Verification => Some(Protocol::Labelled(LabelledProtocol::Verification)),
            Self::ClosedSet => Some(Protocol::Labelled(LabelledProtocol::ClosedSet)),
            Self::OpenSetIdentification => Some(Protocol::Labelled(LabelledProtocol::OpenSetIdentification)),
            Self::Pairwise => Some(Protocol::Labelled(LabelledProtocol::Pairwise)),
            Self::Scores => Some(Protocol::Scores),
            Self::Detections => Some(Protocol::Detections),
            Self::OpenSet | Self::Templates => None,
        }
    }

    /// `None` where the set may be of any modality.
    fn starter(self) -> Option<&'static str> {
        match self {
            Self::LfwPairs | Self::LfwPairsDetected | Self::LfwView2 => Some("face-mobilefacenet"),
            Self::Market => Some("person-osnet-x0-25"),
            Self::Psymo => Some("gait-graph"),
            Self::Verification
            | Self::ClosedSet
            | Self::Pairwise
            | Self::OpenSetIdentification
            | Self::Scores
            | Self::Detections
            | Self::OpenSet
            | Self::Templates => None,
        }
    }
}

impl MeaningName {
    fn meaning(self) -> Meaning {
        match self {
            Self::Similarity => Meaning::Similarity,
            Self::Probability => Meaning::Probability,
            Self::Llr => Meaning::Llr,
        }
    }
}

impl EvaluateFlags {
    fn options(&self) -> ProtocolOptions {
        ProtocolOptions {
            across: self.across.clone(),
            within: self.within.clone(),
            probes: self.probes.clone(),
            gallery: self.gallery.clone(),
            pair_label: self.pair_label.clone(),
            slices: self.slice.clone(),
            seed: self.seed,
            enrolled_share: self.enrolled_share,
        }
    }
}

pub(super) fn run(places: &PlaceFlags, flags: &EvaluateFlags) -> anyhow::Result<()> {
    let Some(protocol) = flags.protocol.protocol() else {
        return without_a_model(flags);
    };
    let mut report = match flags {
        EvaluateFlags { embeddings, .. } if !embeddings.is_empty() => given::embeddings(protocol, flags)?,
        EvaluateFlags { scores: Some(file), .. } => given::scores(file, flags)?,
        EvaluateFlags { detections: Some(found), truth: Some(there), .. } => given::detections((found, there), flags)?,
        _ => encoded(places, protocol, flags)?,
    };
    report.command = Some(command());
    if let Some(path) = &flags.json {
        let json = serde_json::to_vec_pretty(&report)?;
        std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &flags.html {
        std::fs::write(path, report.html()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(folder) = &flags.plots {
        report.write_plots(folder)?;
    }
    say(report);
    Ok(())
}

/// Measures what neither is a model nor was made by one.
fn without_a_model(flags: &EvaluateFlags) -> anyhow::Result<()> {
    let EvaluateFlags { embeddings, names, person, trial_worlds, draws, seed, json, .. } = flags;
    let (person, trial_worlds, draws, seed) = (person.as_ref(), *trial_worlds, *draws, *seed);
    if flags.protocol == ProtocolName::Templates {
        return templates::evaluate(&TemplatesFlags { embeddings, names, person, draws, seed }, json.as_deref());
    }
    open_set::evaluate(&OpenSetFlags { embeddings, names, person, trial_worlds, seed }, json.as_deref())
}

/// Measures a set through an encoder.
fn encoded(places: &PlaceFlags, protocol: Protocol, flags: &EvaluateFlags) -> anyhow::Result<evaluate::Report> {
    let data = flags.data.clone().context("--data names the folder of the set")?;
    let name = flags.model.as_deref().or(flags.protocol.starter());
    let name = name.context("--model names the package to measure, for this protocol is for any modality")?;
    let mut package = Package::load(&places.models_dir().join(name))
        .with_context(|| format!("the package {name} cannot be loaded; semblance models pull {name} gets a starter"))?;
    if flags.mirror {
        package = package.mirrored();
    }
    let set = EvaluationSet {
        data,
        silhouettes: flags.silhouettes.clone(),
        person: flags.person.clone(),
        options: flags.options(),
    };
    measure(places, (package, flags.device), protocol, &set)
}

/// The command as it may be given again.
fn command() -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    let quoted = |word: String| {
        let is_plain = !word.is_empty() && word.chars().all(plain);
        if is_plain { word } else { format!("'{}'", word.replace('\'', "'\\''")) }
    };
    let words = std::env::args_os().skip(1).map(|word| quoted(word.to_string_lossy().into_owned()));
    std::iter::once("semblance".to_owned()).chain(words).collect::<Vec<String>>().join(" ")
}

/// Runs a protocol on a set with one package.
pub(super) fn measure(
    places: &PlaceFlags,
    (package, device): (Package, Device),
    protocol: Protocol,
    set: &EvaluationSet,
) -> anyhow::Result<evaluate::Report> {
    let name = package.manifest.id.clone();
    let finds_faces = protocol == Protocol::LfwPairsDetected
        || (matches!(protocol, Protocol::Labelled(_)) && package.manifest.modality == Modality::Face);
    let mut packages = vec![package];
    if finds_faces {
        let folder = places.models_dir().join(DETECTOR);
        packages.push(Package::load(&folder).with_context(|| {
            format!("the package {DETECTOR} cannot be loaded; semblance models pull {DETECTOR} gets it")
        })?);
    }
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let options = EncoderOptions {
        models_dir: places.models_dir(),
        batch_max: 16,
        linger: Duration::ZERO,
        queue_max: 256,
        workers_per_model: workers,
        placements: Placements { devices: BTreeMap::from([(name.clone(), device)]), ..Placements::default() },
        preparation_threads: workers,
        limits: SampleLimits::default(),
    };
    let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} {eta}")?);
    let report = super::reactor()?.block_on(async {
        let encoders = Encoders::of(packages, &options)?;
        let encoder = encoders.by_name(&name).context("the package was just loaded")?;
        let progress = |done: usize, all: usize| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        };
        let report = evaluate::run(protocol, set, encoder, &progress).await?;
        encoders.stop().await;
        anyhow::Ok(report)
    })?;
    bar.finish_and_clear();
    Ok(report)
}

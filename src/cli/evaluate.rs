//! `semblance evaluate`

mod given;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    open_set::{self, OpenSetFlags},
    print,
    templates::{self, TemplatesFlags},
};
use crate::config::PlaceFlags;
use domain::{Device, MemoryBudget, Modality, UncertainRule};
use encoder::{AdmissionLimits, EncoderOptions, Encoders, Package, Placements, SampleLimits};
use evaluate::{
    EvaluationSet, LabelledProtocol, Meaning, PersonRule, Protocol, ProtocolOptions, SampleFilter, StreamOptions,
};

#[derive(Debug, Args)]
pub(super) struct EvaluateFlags {
    /// Data set and measures.
    #[arg(long)]
    protocol: ProtocolName,
    /// Folder of the data set.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Embeddings instead of a data set: .jsonl, .arrow, .feather, or .npy with --names. The protocols open-set and templates
    /// take several.
    #[arg(long, conflicts_with = "data")]
    embeddings: Vec<PathBuf>,
    /// Names of an .npy, one per line; one file per .npy.
    #[arg(long, requires = "embeddings")]
    names: Vec<PathBuf>,
    /// For open-set: simulated galleries of each kind. From each file of embeddings, 60 galleries are drawn.
    #[arg(long, default_value_t = 500)]
    trial_worlds: u32,
    /// For templates: random splits of the samples into templates and probes.
    #[arg(long, default_value_t = 5)]
    draws: u32,
    /// Rule from a name to its person: `same`, `lfw` (Name_0001.jpg), `market` (PPPP_cCs..., with the label camera),
    /// `casia-b` (PPP-cc-NN-VVV, with the labels condition, run, view and role), or a table (.tsv, .csv) with the columns
    /// name and person; further columns are labels.
    #[arg(long)]
    person: Option<PersonRule>,
    /// Scores instead of a data set: a table (.tsv, .csv) with the columns score and mated (1 or 0); further columns are
    /// labels.
    #[arg(long, conflicts_with_all = ["data", "embeddings"])]
    scores: Option<PathBuf>,
    /// Kind of the scores. Probabilities and natural log-likelihood ratios are also tested for calibration.
    #[arg(long, default_value = "similarity", requires = "scores")]
    scores_are: MeaningName,
    /// Detected boxes: a table with the columns frame, identity, left, top, right, bottom and score.
    #[arg(long, requires = "truth", conflicts_with_all = ["data", "embeddings", "scores"])]
    detections: Option<PathBuf>,
    /// True boxes: the same columns without score.
    #[arg(long, requires = "detections")]
    truth: Option<PathBuf>,
    /// Leave out comparisons of one person with an equal value of this label, such as `camera`; repeatable.
    #[arg(long)]
    across: Vec<String>,
    /// Keep only those comparisons of one person with an equal value of this label, such as `clothes`.
    #[arg(long)]
    within: Option<String>,
    /// Samples that are probes, as LABEL=VALUE; default: all.
    #[arg(long)]
    probes: Option<SampleFilter>,
    /// Samples that are the gallery, as LABEL=VALUE; default: all.
    #[arg(long)]
    gallery: Option<SampleFilter>,
    /// For pairwise: the label with the values to compare with each other, such as `view`.
    #[arg(long)]
    pair_label: Option<String>,
    /// Also report results per value of this label; repeatable.
    #[arg(long)]
    slice: Vec<String>,
    /// For open-set-identification: share of the eligible persons to enroll.
    #[arg(long, default_value_t = 0.5)]
    enrolled_share: f64,
    /// For stream: only persons with at least so many samples.
    #[arg(long, default_value_t = 1)]
    samples_min: usize,
    /// For stream: only persons with at most so many samples; default: any number.
    #[arg(long)]
    samples_max: Option<usize>,
    /// For stream: number of sightings, of persons drawn at random; default: all.
    #[arg(long)]
    sightings: Option<usize>,
    /// For stream: sightings that are not decided make provisional identities.
    #[arg(long)]
    provisional: bool,
    /// Seed of the enrolled persons and of the bootstrap intervals.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Package to measure; default: the starter of the data set's modality. For embeddings and scores: a name for the report.
    #[arg(long)]
    model: Option<String>,
    /// Average each embedding with that of the mirrored picture.
    #[arg(long)]
    mirror: bool,
    /// Device of the model: `cpu`, or `cuda:N` in half precision.
    #[arg(long, default_value_t)]
    device: Device,
    /// For psymo: folder of the gait-energy images of the same sequences, as a baseline.
    #[arg(long)]
    silhouettes: Option<PathBuf>,
    /// Also write the report to this file, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Also write the report to this file, as one HTML page with plots, without external resources.
    #[arg(long)]
    html: Option<PathBuf>,
    /// Also write the plots to this folder, as SVG and PNG.
    #[arg(long)]
    plots: Option<PathBuf>,
}

/// The starter package for face detection.
const DETECTOR: &str = "face-mtcnn";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ProtocolName {
    /// LFW View 1 pairs, deep-funneled: `pairsDevTest.txt` and `images/`.
    LfwPairs,
    /// The same pairs; the installed detector finds and aligns each face.
    LfwPairsDetected,
    /// LFW View 2: `pairs.txt` and `images/`; ten folds, mean and standard error.
    #[value(name = "lfw-view-2")]
    LfwView2,
    /// Market-1501: `query/` against `bounding_box_test/`; in a folder of crops, each crop against all others. Pairs of the
    /// same person and camera are left out.
    Market,
    /// PsyMo skeletons: each sequence against the other normal ones of its viewpoint and direction, then against those of
    /// all other viewpoints; with baselines that are not trained.
    Psymo,
    /// All pairs of a labelled set, from --data with --person, or from --embeddings.
    Verification,
    /// Closed-set identification: each sample of a labelled set against all others, or --probes against --gallery.
    ClosedSet,
    /// Rank 1 for each pair of values of --pair-label, as for CASIA-B's viewpoints.
    Pairwise,
    /// Open-set identification: some persons are enrolled with one sample each; their other samples and all other persons
    /// are probes.
    OpenSetIdentification,
    /// Sightings of a labelled set in random order into an empty collection that enrolls new persons, beside clusterings of the
    /// same sightings.
    Stream,
    /// Scores of any system, from --scores.
    Scores,
    /// Open-set decisions: the decider and its baselines, on simulated galleries and on galleries drawn from --embeddings.
    /// Needs neither a model nor --data.
    OpenSet,
    /// Several templates per person: each pooling and re-ranking method, also with one of four templates from another person.
    /// From --embeddings, or simulated. Needs neither a model nor --data.
    Templates,
    /// Person search: boxes from --detections and --truth; average precision with the right identity.
    Detections,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MeaningName {
    Similarity,
    Probability,
    Llr,
}

impl ProtocolName {
    /// None for a protocol that measures neither a model nor a model's output.
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
            Self::Stream => Some(Protocol::Labelled(LabelledProtocol::Stream)),
            Self::Scores => Some(Protocol::Scores),
            Self::Detections => Some(Protocol::Detections),
            Self::OpenSet | Self::Templates => None,
        }
    }

    /// None where the data set may be of any modality.
    fn starter(self) -> Option<&'static str> {
        match self {
            Self::LfwPairs | Self::LfwPairsDetected | Self::LfwView2 => Some("face-mobilefacenet"),
            Self::Market => Some("person-osnet-x0-25"),
            Self::Psymo => Some("gait-graph"),
            Self::Verification
            | Self::ClosedSet
            | Self::Pairwise
            | Self::OpenSetIdentification
            | Self::Stream
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
            stream: StreamOptions {
                samples_min: self.samples_min,
                samples_max: self.samples_max.unwrap_or(usize::MAX),
                sightings_max: self.sightings.unwrap_or(usize::MAX),
                uncertain: if self.provisional { UncertainRule::Provisional } else { UncertainRule::Off },
            },
        }
    }
}

pub(super) fn run(places: &PlaceFlags, flags: &EvaluateFlags) -> anyhow::Result<()> {
    let Some(protocol) = flags.protocol.protocol() else {
        return without_model(flags);
    };
    let mut report = match flags {
        EvaluateFlags { embeddings, .. } if !embeddings.is_empty() => given::embeddings(protocol, flags)?,
        EvaluateFlags { scores: Some(file), .. } => given::scores(file, flags)?,
        EvaluateFlags { detections: Some(found), truth: Some(truth), .. } => given::detections(found, truth, flags)?,
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
    print(report);
    Ok(())
}

/// Runs the protocols that measure no model.
fn without_model(flags: &EvaluateFlags) -> anyhow::Result<()> {
    let EvaluateFlags { embeddings, names, person, trial_worlds, draws, seed, json, .. } = flags;
    let (person, trial_worlds, draws, seed) = (person.as_ref(), *trial_worlds, *draws, *seed);
    if flags.protocol == ProtocolName::Templates {
        return templates::evaluate(&TemplatesFlags { embeddings, names, person, draws, seed }, json.as_deref());
    }
    open_set::evaluate(&OpenSetFlags { embeddings, names, person, trial_worlds, seed }, json.as_deref())
}

/// Measures a model on a data set.
fn encoded(places: &PlaceFlags, protocol: Protocol, flags: &EvaluateFlags) -> anyhow::Result<evaluate::Report> {
    let data = flags.data.clone().context("--data is missing: the folder of the data set")?;
    let name = flags.model.as_deref().or(flags.protocol.starter());
    let name = name.context("--model is missing: the package to measure; this protocol takes any modality")?;
    let mut package = Package::load(&places.models_dir().join(name)).with_context(|| {
        format!("the package {name} cannot be loaded; semblance models pull {name} installs a starter")
    })?;
    if flags.mirror {
        package = package.mirrored();
    }
    let set = EvaluationSet {
        data,
        silhouettes: flags.silhouettes.clone(),
        person: flags.person.clone(),
        options: flags.options(),
    };
    measure(places, OnDevice { package, device: flags.device }, protocol, &set)
}

/// The command line, quoted for a shell.
fn command() -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    let quoted = |word: String| {
        let is_plain = !word.is_empty() && word.chars().all(plain);
        if is_plain { word } else { format!("'{}'", word.replace('\'', "'\\''")) }
    };
    let words = std::env::args_os().skip(1).map(|word| quoted(word.to_string_lossy().into_owned()));
    std::iter::once("semblance".to_owned()).chain(words).collect::<Vec<String>>().join(" ")
}

/// A package and the device for it.
pub(super) struct OnDevice {
    pub(super) package: Package,
    pub(super) device: Device,
}

/// Runs a protocol on a data set with one package.
pub(super) fn measure(
    places: &PlaceFlags,
    measured: OnDevice,
    protocol: Protocol,
    set: &EvaluationSet,
) -> anyhow::Result<evaluate::Report> {
    let OnDevice { package, device } = measured;
    let name = package.manifest.id.clone();
    let finds_faces = protocol == Protocol::LfwPairsDetected
        || (matches!(protocol, Protocol::Labelled(_)) && package.manifest.modality == Modality::Face);
    let mut packages = vec![package];
    if finds_faces {
        let folder = places.models_dir().join(DETECTOR);
        packages.push(Package::load(&folder).with_context(|| {
            format!("the package {DETECTOR} cannot be loaded; semblance models pull {DETECTOR} installs it")
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
        admission: AdmissionLimits { in_work_max: 256, wait_max: Duration::MAX },
        limits: SampleLimits::default(),
        memory: MemoryBudget::new(usize::MAX),
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

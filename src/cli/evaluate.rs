//! `semblance evaluate`

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    open_set::{self, OpenSetFlags},
    say,
};
use crate::{
    config::PlaceFlags,
    domain::Device,
    encoder::{EncoderOptions, Encoders, Limits, Package, Placements},
    evaluate::{self, Protocol, Set},
};

#[derive(Debug, Args)]
pub(super) struct EvaluateFlags {
    /// Which set, and how it is measured.
    #[arg(long)]
    protocol: ProtocolName,
    /// The folder of the set; every protocol but open-set has one.
    #[arg(long)]
    data: Option<PathBuf>,
    /// The package to measure; the starter of the set's modality when absent.
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
    #[command(flatten)]
    open_set: OpenSetFlags,
}

/// The starter that finds faces.
const DETECTOR: &str = "face-mtcnn";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ProtocolName {
    /// LFW View 1 pairs, deep-funneled: `pairsDevTest.txt` and `images/`.
    LfwPairs,
    /// The same pairs, each face found and aligned by the installed detector.
    LfwPairsDetected,
    /// Market-1501 crops: every crop against all others, those of the same person and camera left out.
    Market,
    /// PsyMo skeletons: every walk against the normal walks of its viewpoint and direction, itself left out; then against
    /// those of all other viewpoints, and beside methods that take no learning.
    Psymo,
    /// Enrolled or not: the open-set decider and what stands beside it, on simulated galleries and on such drawn from
    /// `--embeddings`. It measures no model and needs no `--data`.
    OpenSet,
}

impl ProtocolName {
    /// With the model that is measured where none is named; none for what measures no model.
    fn protocol(self) -> Option<(Protocol, &'static str)> {
        match self {
            Self::LfwPairs => Some((Protocol::LfwPairs, "face-mobilefacenet")),
            Self::LfwPairsDetected => Some((Protocol::LfwPairsDetected, "face-mobilefacenet")),
            Self::Market => Some((Protocol::Market, "person-osnet-x0-25")),
            Self::Psymo => Some((Protocol::Psymo, "gait-graph")),
            Self::OpenSet => None,
        }
    }
}

pub(super) fn run(places: &PlaceFlags, flags: &EvaluateFlags) -> anyhow::Result<()> {
    let Some((protocol, starter)) = flags.protocol.protocol() else {
        return open_set::evaluate(&flags.open_set, flags.json.as_deref());
    };
    let data = flags.data.clone().context("this protocol needs the folder of its set: --data names it")?;
    let name = flags.model.as_deref().unwrap_or(starter);
    let mut package = Package::load(&places.models_dir().join(name))
        .with_context(|| format!("the package {name} cannot be loaded; semblance models pull {name} gets a starter"))?;
    if flags.mirror {
        package = package.mirrored();
    }
    let set = Set { data, silhouettes: flags.silhouettes.clone() };
    let report = measure(places, (package, flags.device), protocol, &set)?;
    if let Some(path) = &flags.json {
        let json = serde_json::to_vec_pretty(&report)?;
        std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    say(report);
    Ok(())
}

/// Runs a protocol on a set with one package.
pub(super) fn measure(
    places: &PlaceFlags,
    (package, device): (Package, Device),
    protocol: Protocol,
    set: &Set,
) -> anyhow::Result<evaluate::Report> {
    let name = package.manifest.id.clone();
    let mut packages = vec![package];
    if protocol == Protocol::LfwPairsDetected {
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
        limits: Limits::default(),
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

//! The networks that are built in, by name.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    NetworkError,
    face::mobilefacenet::{self, MobileFaceNet},
    gait::gaitgraph::{self, GaitGraph},
    layers::Layer,
    parameters::Parameters,
    person::osnet::{self, OsNet},
};

/// The networks that are built in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Architecture {
    /// Face: MobileFaceNet (Chen et al. 2018) for the 112 x 96 crops of SphereFace.
    MobileFaceNet112x96,
    /// Person: OSNet (Zhou et al. 2019) in one of its widths.
    OsNet(OsNetWidth),
    /// Gait: GaitGraph's residual graph network (Teepe et al. 2021), 39 layers, bottleneck reduction 8.
    GaitGraphResGcnN39R8,
}

/// How wide an OSNet is, as a part of the full one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OsNetWidth {
    Quarter,
    Half,
    ThreeQuarters,
    Full,
}

impl Architecture {
    const ALL: [(&'static str, Self); 6] = [
        ("mobilefacenet-112x96", Self::MobileFaceNet112x96),
        ("osnet-x0.25", Self::OsNet(OsNetWidth::Quarter)),
        ("osnet-x0.5", Self::OsNet(OsNetWidth::Half)),
        ("osnet-x0.75", Self::OsNet(OsNetWidth::ThreeQuarters)),
        ("osnet-x1.0", Self::OsNet(OsNetWidth::Full)),
        ("gaitgraph-resgcn-n39-r8", Self::GaitGraphResGcnN39R8),
    ];

    /// The shape of one input: channels, height, width of a picture, or frames, joints, channels of a walk.
    pub fn input_shape(self) -> [usize; 3] {
        match self {
            Self::MobileFaceNet112x96 => mobilefacenet::INPUT,
            Self::OsNet(_) => osnet::INPUT,
            Self::GaitGraphResGcnN39R8 => gaitgraph::INPUT,
        }
    }

    /// How many numbers the answer has.
    pub fn dimension(self) -> usize {
        match self {
            Self::MobileFaceNet112x96 => mobilefacenet::DIMENSION,
            Self::OsNet(_) => osnet::DIMENSION,
            Self::GaitGraphResGcnN39R8 => gaitgraph::DIMENSION,
        }
    }

    pub(super) fn layers(self, parameters: &mut Parameters<'_>) -> Result<Box<dyn Layer + Send>, NetworkError> {
        Ok(match self {
            Self::MobileFaceNet112x96 => Box::new(MobileFaceNet::new(parameters)?),
            Self::OsNet(width) => Box::new(OsNet::new(parameters, width)?),
            Self::GaitGraphResGcnN39R8 => Box::new(GaitGraph::new(parameters)?),
        })
    }

    pub(super) fn serves_training_alone(self, key: &str) -> bool {
        matches!(self, Self::OsNet(_)) && key.starts_with("classifier.")
    }

    pub(super) fn names() -> String {
        Self::ALL.map(|(name, _)| name).join(", ")
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Self::ALL.iter().find(|(_, architecture)| architecture == self);
        f.write_str(named.expect("every architecture is in the table").0)
    }
}

impl FromStr for Architecture {
    type Err = NetworkError;
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let named = Self::ALL.into_iter().find(|(name, _)| *name == text);
        named.map(|(_, architecture)| architecture).ok_or_else(|| NetworkError::UnknownArchitecture(text.to_owned()))
    }
}

impl TryFrom<String> for Architecture {
    type Error = NetworkError;
    fn try_from(text: String) -> Result<Self, NetworkError> {
        text.parse()
    }
}

impl From<Architecture> for String {
    fn from(architecture: Architecture) -> Self {
        architecture.to_string()
    }
}

//! The built-in networks by name.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    NetworkError,
    face::{
        iresnet::{self, IResNet},
        mbf::{self, Mbf},
        mobilefacenet::{self, MobileFaceNet},
    },
    gait::{
        gaitbase::{self, GaitBase},
        gaitgraph::{self, GaitGraph},
        pyramid::{self, Pyramid},
    },
    gaittcn::{self, GaitTcn},
    layers::Layer,
    parameters::Parameters,
    person::{
        osnet::{self, OsNet},
        resnet50::{self, ResNet50},
    },
};
pub use super::{
    face::iresnet::{IResNetDepth, IResNetLayout},
    person::{
        osnet::{OsNetNorm, OsNetWidth},
        resnet50::{ResNet50Layout, ResNet50Norm},
    },
};

/// The built-in networks. Each takes the state dicts of its own layout only.
///
/// | name | of | input | numbers |
/// |---|---|---|---|
/// | `mobilefacenet-112x96` | faces | 3 x 112 x 96 | 128 |
/// | `mobilefacenet-insightface` | faces | 3 x 112 x 112 | 512 |
/// | `iresnet18-arcface`, `iresnet34-arcface`, `iresnet50-arcface`, `iresnet100-arcface` | faces | 3 x 112 x 112 | 512 |
/// | `iresnet18-adaface`, `iresnet34-adaface`, `iresnet50-adaface`, `iresnet101-adaface` | faces | 3 x 112 x 112 | 512 |
/// | `osnet-x0.25`, `osnet-x0.5`, `osnet-x0.75`, `osnet-x1.0` | persons | 3 x 256 x 128 | 512 |
/// | `osnet-ibn-x0.25`, `osnet-ibn-x0.5`, `osnet-ibn-x0.75`, `osnet-ibn-x1.0` | persons | 3 x 256 x 128 | 512 |
/// | `osnet-ain-x0.25`, `osnet-ain-x0.5`, `osnet-ain-x0.75`, `osnet-ain-x1.0` | persons | 3 x 256 x 128 | 512 |
/// | `resnet50-last`, `resnet50-ibn-a-last` | persons | 3 x 256 x 128 | 2048 |
/// | `resnet50-strong-baseline`, `resnet50-ibn-a-strong-baseline` | persons | 3 x 256 x 128 | 2048 |
/// | `resnet50-domainmix`, `resnet50-ibn-a-domainmix` | persons | 3 x 256 x 128 | 2048 |
/// | `resnet50-fastreid`, `resnet50-ibn-a-fastreid` | persons | 3 x 256 x 128 | 2048 |
/// | `gaitgraph-resgcn-n39-r8` | skeletons | 60 frames x 17 joints x (x, y, score) | 128 |
/// | `gait-tcn-60` | skeletons | 60 frames x 17 joints x (x, y, score) | 128 |
/// | `skeleton-pyramid` | skeletons | 60 frames x 17 joints x (x, y, score) | 256 |
/// | `gaitbase` | silhouettes | 30 frames x 64 x 44 | 16 parts of 256 |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Architecture {
    /// Face: MobileFaceNet (Chen et al. 2018) for the 112 x 96 crops of SphereFace.
    MobileFaceNet112x96,
    /// Face: the wider MobileFaceNet of InsightFace, `mbf`.
    MobileFaceNetInsightFace,
    /// Face: the residual network of ArcFace and AdaFace.
    IResNet(IResNetDepth, IResNetLayout),
    /// Person: OSNet (Zhou et al. 2019) in four widths.
    OsNet(OsNetNorm, OsNetWidth),
    /// Person: ResNet-50 with a BNNeck (Luo et al. 2019).
    ResNet50(ResNet50Norm, ResNet50Layout),
    /// Gait: GaitGraph's residual graph network (Teepe et al. 2021), 39 layers, bottleneck reduction 8.
    GaitGraphResGcnN39R8,
    /// Gait: temporal convolutions over 60 frames; our own, trained on simulated walkers.
    GaitTcn60,
    /// Gait: a pyramid of transformers over skeletons, after GaitPT (Catruna et al. 2024).
    SkeletonPyramid,
    /// Gait: GaitBase (Fan et al. 2023), over silhouettes.
    GaitBase,
}

/// Every architecture by its name.
#[rustfmt::skip]
const ALL: [(&str, Architecture); 34] = {
    use Architecture::{GaitBase, GaitGraphResGcnN39R8, GaitTcn60, IResNet, MobileFaceNet112x96, MobileFaceNetInsightFace, OsNet, ResNet50, SkeletonPyramid};
    use IResNetDepth::{L18, L34, L50, L100};
    use IResNetLayout::{AdaFace, ArcFace};
    use OsNetWidth::{Full, Half, Quarter, ThreeQuarters};
    use ResNet50Layout::{DomainMix, FastReid, Last, StrongBaseline};
    [
        ("mobilefacenet-112x96", MobileFaceNet112x96),
        ("mobilefacenet-insightface", MobileFaceNetInsightFace),
        ("iresnet18-arcface", IResNet(L18, ArcFace)),
        ("iresnet34-arcface", IResNet(L34, ArcFace)),
        ("iresnet50-arcface", IResNet(L50, ArcFace)),
        ("iresnet100-arcface", IResNet(L100, ArcFace)),
        ("iresnet18-adaface", IResNet(L18, AdaFace)),
        ("iresnet34-adaface", IResNet(L34, AdaFace)),
        ("iresnet50-adaface", IResNet(L50, AdaFace)),
        ("iresnet101-adaface", IResNet(L100, AdaFace)),
        ("osnet-x0.25", OsNet(OsNetNorm::Batch, Quarter)),
        ("osnet-x0.5", OsNet(OsNetNorm::Batch, Half)),
        ("osnet-x0.75", OsNet(OsNetNorm::Batch, ThreeQuarters)),
        ("osnet-x1.0", OsNet(OsNetNorm::Batch, Full)),
        ("osnet-ibn-x0.25", OsNet(OsNetNorm::Ibn, Quarter)),
        ("osnet-ibn-x0.5", OsNet(OsNetNorm::Ibn, Half)),
        ("osnet-ibn-x0.75", OsNet(OsNetNorm::Ibn, ThreeQuarters)),
        ("osnet-ibn-x1.0", OsNet(OsNetNorm::Ibn, Full)),
        ("osnet-ain-x0.25", OsNet(OsNetNorm::Ain, Quarter)),
        ("osnet-ain-x0.5", OsNet(OsNetNorm::Ain, Half)),
        ("osnet-ain-x0.75", OsNet(OsNetNorm::Ain, ThreeQuarters)),
        ("osnet-ain-x1.0", OsNet(OsNetNorm::Ain, Full)),
        ("resnet50-last", ResNet50(ResNet50Norm::Batch, Last)),
        ("resnet50-ibn-a-last", ResNet50(ResNet50Norm::IbnA, Last)),
        ("resnet50-strong-baseline", ResNet50(ResNet50Norm::Batch, StrongBaseline)),
        ("resnet50-ibn-a-strong-baseline", ResNet50(ResNet50Norm::IbnA, StrongBaseline)),
        ("resnet50-domainmix", ResNet50(ResNet50Norm::Batch, DomainMix)),
        ("resnet50-ibn-a-domainmix", ResNet50(ResNet50Norm::IbnA, DomainMix)),
        ("resnet50-fastreid", ResNet50(ResNet50Norm::Batch, FastReid)),
        ("resnet50-ibn-a-fastreid", ResNet50(ResNet50Norm::IbnA, FastReid)),
        ("gaitgraph-resgcn-n39-r8", GaitGraphResGcnN39R8),
        ("gait-tcn-60", GaitTcn60),
        ("skeleton-pyramid", SkeletonPyramid),
        ("gaitbase", GaitBase),
    ]
};

impl Architecture {
    /// Every architecture, face before person before gait.
    pub fn all() -> impl Iterator<Item = Self> {
        ALL.into_iter().map(|(_, architecture)| architecture)
    }

    /// The shape of one input: `[channels, height, width]` of a picture, `[frames, joints, channels]` of a skeleton
    /// sequence, `[frames, height, width]` of silhouettes.
    pub fn input_shape(self) -> [usize; 3] {
        match self {
            Self::MobileFaceNet112x96 => mobilefacenet::INPUT,
            Self::MobileFaceNetInsightFace => mbf::INPUT,
            Self::IResNet(..) => iresnet::INPUT,
            Self::OsNet(..) => osnet::INPUT,
            Self::ResNet50(..) => resnet50::INPUT,
            Self::GaitGraphResGcnN39R8 => gaitgraph::INPUT,
            Self::GaitTcn60 => gaittcn::INPUT,
            Self::SkeletonPyramid => pyramid::INPUT,
            Self::GaitBase => gaitbase::INPUT,
        }
    }

    /// Number of values in an output.
    pub fn dimension(self) -> usize {
        match self {
            Self::MobileFaceNet112x96 => mobilefacenet::DIMENSION,
            Self::MobileFaceNetInsightFace => mbf::DIMENSION,
            Self::IResNet(..) => iresnet::DIMENSION,
            Self::OsNet(..) => osnet::DIMENSION,
            Self::ResNet50(..) => resnet50::DIMENSION,
            Self::GaitGraphResGcnN39R8 => gaitgraph::DIMENSION,
            Self::GaitTcn60 => gaittcn::DIMENSION,
            Self::SkeletonPyramid => pyramid::DIMENSION,
            Self::GaitBase => gaitbase::DIMENSION,
        }
    }

    /// Number of parts of equal length in an output. Parts are compared one by one; the similarity of two outputs is
    /// the mean over their parts.
    pub fn parts(self) -> usize {
        match self {
            Self::GaitBase => gaitbase::PARTS,
            Self::MobileFaceNet112x96
            | Self::MobileFaceNetInsightFace
            | Self::IResNet(..)
            | Self::OsNet(..)
            | Self::ResNet50(..)
            | Self::GaitGraphResGcnN39R8
            | Self::GaitTcn60
            | Self::SkeletonPyramid => 1,
        }
    }

    pub(super) fn layers(self, parameters: &mut Parameters<'_>) -> Result<Box<dyn Layer + Send>, NetworkError> {
        Ok(match self {
            Self::MobileFaceNet112x96 => Box::new(MobileFaceNet::new(parameters)?),
            Self::MobileFaceNetInsightFace => Box::new(Mbf::new(parameters)?),
            Self::IResNet(depth, layout) => Box::new(IResNet::new(parameters, depth, layout)?),
            Self::OsNet(norm, width) => Box::new(OsNet::new(parameters, norm, width)?),
            Self::ResNet50(norm, layout) => Box::new(ResNet50::new(parameters, norm, layout)?),
            Self::GaitGraphResGcnN39R8 => Box::new(GaitGraph::new(parameters)?),
            Self::GaitTcn60 => Box::new(GaitTcn::new(parameters)?),
            Self::SkeletonPyramid => Box::new(Pyramid::new(parameters)?),
            Self::GaitBase => Box::new(GaitBase::new(parameters)?),
        })
    }

    pub(super) fn serves_training_alone(self, key: &str) -> bool {
        let beginnings = match self {
            Self::OsNet(..) => osnet::TRAINING_ALONE,
            Self::ResNet50(_, layout) => layout.training_alone(),
            Self::GaitBase => gaitbase::TRAINING_ALONE,
            Self::MobileFaceNet112x96
            | Self::MobileFaceNetInsightFace
            | Self::IResNet(..)
            | Self::GaitGraphResGcnN39R8
            | Self::GaitTcn60
            | Self::SkeletonPyramid => &[],
        };
        key.ends_with(".num_batches_tracked") || beginnings.iter().any(|beginning| key.starts_with(beginning))
    }

    fn names() -> String {
        ALL.map(|(name, _)| name).join(", ")
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = ALL.iter().find(|(_, architecture)| architecture == self);
        f.write_str(named.expect("every architecture is in the table").0)
    }
}

impl FromStr for Architecture {
    type Err = NetworkError;
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let named = ALL.into_iter().find(|(name, _)| *name == text);
        named
            .map(|(_, architecture)| architecture)
            .ok_or_else(|| NetworkError::UnknownArchitecture { name: text.to_owned(), known: Self::names() })
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

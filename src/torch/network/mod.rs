//! Networks: built from a state dict, run on batches of plain numbers.
//!
//! A network is strict about its weights: a tensor that is missing, left over, of another shape or not finite is an
//! error that names it. It holds no state between calls and answers the same for the same input.

mod gaitgraph;
pub(super) mod gaittcn;
mod layers;
mod mobilefacenet;
mod osnet;
mod parameters;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use tch::{TchError, Tensor};
use thiserror::Error;

use self::{
    gaitgraph::GaitGraph,
    gaittcn::GaitTcn,
    layers::Layer,
    mobilefacenet::MobileFaceNet,
    osnet::OsNet,
    parameters::{Parameters, StrictSource},
};
use super::weights::{Dtype, StateDict};

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
    /// Gait: convolutions along time over 60 frames; our own, learnt on simulated walkers.
    GaitTcn60,
}

/// How wide an OSNet is, as a part of the full one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OsNetWidth {
    Quarter,
    Half,
    ThreeQuarters,
    Full,
}

/// Whether batch normalisation is folded into the layer before it, as it is served, or run by itself, as it was trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folding {
    Folded,
    Unfolded,
}

/// A network with its weights.
#[derive(Debug)]
pub struct Network {
    architecture: Architecture,
    layers: Box<dyn Layer + Send>,
}

/// Why a network can not be built or run.
#[derive(Debug, Error)]
pub enum NetworkError {
    #[error("there is no architecture {0:?}; there are {known}", known = Architecture::names())]
    UnknownArchitecture(String),
    #[error("the weights lack {0:?}")]
    MissingTensor(String),
    #[error("the weights hold {count} tensors that the architecture does not have, {first:?} among them")]
    SurplusTensors { count: usize, first: String },
    #[error("{key:?} has the shape {found:?}, the architecture wants {expected:?}")]
    WrongShape { key: String, expected: Vec<usize>, found: Vec<usize> },
    #[error("{key:?} holds {found} numbers, the architecture wants floating point")]
    WrongDtype { key: String, found: Dtype },
    #[error("{0:?} holds a number that is not finite as f32")]
    NotFinite(String),
    #[error("{0:?} is a variance and holds a negative number")]
    NegativeVariance(String),
    #[error("a batch must hold something")]
    EmptyBatch,
    #[error("the input has {found} numbers, this batch needs {expected}")]
    WrongInput { expected: usize, found: usize },
    #[error("libtorch failed: {0}")]
    Torch(String),
}

impl From<TchError> for NetworkError {
    /// libtorch appends its call stack to the sentence that says what went wrong.
    fn from(error: TchError) -> Self {
        let text = error.to_string();
        Self::Torch(text.lines().next().unwrap_or_default().to_owned())
    }
}

impl Network {
    /// Builds the network from a state dict as it was published, less any prefix.
    ///
    /// What training alone needs is passed over: `num_batches_tracked` everywhere, and OSNet's `classifier`.
    pub fn build(architecture: Architecture, weights: StateDict, folding: Folding) -> Result<Self, NetworkError> {
        let _settled = super::runtime::settle_thread();
        let mut source = StrictSource::new(weights);
        let layers = architecture.layers(&mut Parameters::new(&mut source, folding))?;
        source.finish(|key| key.ends_with(".num_batches_tracked") || architecture.serves_training_alone(key))?;
        Ok(Self { architecture, layers })
    }

    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// Runs `batch` inputs at once.
    ///
    /// `input` is row-major `[batch, ..architecture.input_shape()]`; the answer is row-major `[batch, dimension]`, as
    /// the last layer gives it and not scaled to unit length.
    pub fn forward(&self, input: &[f32], batch: usize) -> Result<Vec<f32>, NetworkError> {
        if batch == 0 {
            return Err(NetworkError::EmptyBatch);
        }
        let shape = self.architecture.input_shape();
        let expected = batch.saturating_mul(shape.iter().product());
        if input.len() != expected {
            return Err(NetworkError::WrongInput { expected, found: input.len() });
        }
        let sides: Vec<i64> = std::iter::once(batch).chain(shape).map(layers::side).collect();
        let _gradients_off = tch::no_grad_guard();
        let output = self.layers.forward(&Tensor::f_from_slice(input)?.f_reshape(sides)?)?;
        let mut numbers = vec![0.0; batch * self.architecture.dimension()];
        output.f_contiguous()?.f_copy_data(&mut numbers, output.numel())?;
        Ok(numbers)
    }
}

impl Architecture {
    const ALL: [(&'static str, Self); 7] = [
        ("mobilefacenet-112x96", Self::MobileFaceNet112x96),
        ("osnet-x0.25", Self::OsNet(OsNetWidth::Quarter)),
        ("osnet-x0.5", Self::OsNet(OsNetWidth::Half)),
        ("osnet-x0.75", Self::OsNet(OsNetWidth::ThreeQuarters)),
        ("osnet-x1.0", Self::OsNet(OsNetWidth::Full)),
        ("gaitgraph-resgcn-n39-r8", Self::GaitGraphResGcnN39R8),
        ("gait-tcn-60", Self::GaitTcn60),
    ];

    /// The shape of one input: channels, height, width of a picture, or frames, joints, channels of a walk.
    pub fn input_shape(self) -> [usize; 3] {
        match self {
            Self::MobileFaceNet112x96 => mobilefacenet::INPUT,
            Self::OsNet(_) => osnet::INPUT,
            Self::GaitGraphResGcnN39R8 => gaitgraph::INPUT,
            Self::GaitTcn60 => gaittcn::INPUT,
        }
    }

    /// How many numbers the answer has.
    pub fn dimension(self) -> usize {
        match self {
            Self::MobileFaceNet112x96 => mobilefacenet::DIMENSION,
            Self::OsNet(_) => osnet::DIMENSION,
            Self::GaitGraphResGcnN39R8 => gaitgraph::DIMENSION,
            Self::GaitTcn60 => gaittcn::DIMENSION,
        }
    }

    fn layers(self, parameters: &mut Parameters<'_>) -> Result<Box<dyn Layer + Send>, NetworkError> {
        Ok(match self {
            Self::MobileFaceNet112x96 => Box::new(MobileFaceNet::new(parameters)?),
            Self::OsNet(width) => Box::new(OsNet::new(parameters, width)?),
            Self::GaitGraphResGcnN39R8 => Box::new(GaitGraph::new(parameters)?),
            Self::GaitTcn60 => Box::new(GaitTcn::new(parameters)?),
        })
    }

    fn serves_training_alone(self, key: &str) -> bool {
        matches!(self, Self::OsNet(_)) && key.starts_with("classifier.")
    }

    fn names() -> String {
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

#[cfg(test)]
pub(crate) mod tests;

//! Why a network cannot be built, run or served.

use tch::TchError;
use thiserror::Error;

use crate::runtime::RuntimeError;
use weights::{Dtype, FILE_BYTES_MAX};

/// Why a network cannot be built or run.
#[derive(Debug, Error)]
pub enum NetworkError {
    #[error("there is no architecture {name:?}; there are {known}")]
    UnknownArchitecture { name: String, known: String },
    #[error("the weights lack {0:?}")]
    MissingTensor(String),
    #[error("the weights hold {count} tensors that the architecture does not have, {first:?} among them")]
    SurplusTensors { count: usize, first: String },
    #[error("{key:?} has the shape {found:?}, and the architecture needs {expected:?}")]
    WrongShape { key: String, expected: Vec<usize>, found: Vec<usize> },
    #[error("{key:?} has {found} numbers, and the architecture needs floating point")]
    WrongDtype { key: String, found: Dtype },
    #[error("{0:?} has a number that is not finite as f32")]
    NotFinite(String),
    #[error("{0:?} is a variance and has a negative number")]
    NegativeVariance(String),
    #[error("{0:?} is the exponent of a generalised mean and must be above zero")]
    NotAPower(String),
    #[error("a batch must not be empty")]
    EmptyBatch,
    #[error("the input has {found} numbers, and this batch needs {expected}")]
    WrongInput { expected: usize, found: usize },
    #[error("the options of the detector are invalid: {0}")]
    BadOptions(&'static str),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    TrialRun(#[from] TrialRunError),
    #[error(transparent)]
    Script(#[from] ScriptError),
    #[error("libtorch failed: {0}")]
    Torch(String),
}

impl From<TchError> for NetworkError {
    /// libtorch appends its call stack to the message; keep the first line.
    fn from(error: TchError) -> Self {
        let text = error.to_string();
        Self::Torch(text.lines().next().unwrap_or_default().to_owned())
    }
}

/// Why a TorchScript program is refused.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ScriptError {
    #[error("the program is longer than {FILE_BYTES_MAX} bytes")]
    TooLarge,
    #[error("this is not a TorchScript file, or of an incompatible PyTorch: {0}")]
    Unreadable(String),
    #[error("the program fails on a batch of {batch} x {input:?}: {problem}")]
    Failed { batch: usize, input: [usize; 3], problem: String },
    #[error("the program should return {expected}, and returns {found}")]
    WrongAnswer { expected: &'static str, found: &'static str },
    #[error("the program's {what} has the shape {found:?}, and its package declares {expected:?}")]
    WrongShape { what: &'static str, expected: [usize; 2], found: Vec<i64> },
    #[error("the program's {0} has no numbers that convert to f32")]
    NotNumbers(&'static str),
    #[error("a program needs the architecture torchscript, and that architecture needs a program")]
    Misplaced,
    #[error("the program gives a part the visibility {0}, which is not in 0 to 1")]
    Visibility(f32),
}

/// Why a network that runs is not served.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum TrialRunError {
    #[error("its output for a trial input has a number that is not finite: its weights or its arithmetic are broken")]
    NotFinite,
    #[error(
        "its outputs for the same input differ by {0:.1e} of the output: something random, such as dropout, \
         was left on when it was exported"
    )]
    Random(f64),
    #[error(
        "its output for an input differs between a batch and alone by {0:.1e} of the output: it uses the whole batch, as \
         batch normalisation does in training"
    )]
    BatchDependent(f64),
    #[error("it gives the same output for every input: it does not depend on its input")]
    Constant,
}

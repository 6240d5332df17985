//! Why a network cannot be built, run or served.

use tch::TchError;
use thiserror::Error;

use crate::runtime::RuntimeError;
use weights::{Dtype, FILE_BYTES_MAX};

/// Why a network can not be built or run.
#[derive(Debug, Error)]
pub enum NetworkError {
    #[error("there is no architecture {name:?}; there are {known}")]
    UnknownArchitecture { name: String, known: String },
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
    #[error("{0:?} is a power to take means by and must be above zero")]
    NotAPower(String),
    #[error("a batch must hold something")]
    EmptyBatch,
    #[error("the input has {found} numbers, this batch needs {expected}")]
    WrongInput { expected: usize, found: usize },
    #[error("the options of the detector make no sense: {0}")]
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
    /// libtorch appends its call stack to the sentence that says what went wrong.
    fn from(error: TchError) -> Self {
        let text = error.to_string();
        Self::Torch(text.lines().next().unwrap_or_default().to_owned())
    }
}

/// What is wrong with a program.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ScriptError {
    #[error("the program is longer than {FILE_BYTES_MAX} bytes")]
    TooLarge,
    #[error("this is no TorchScript file, or one of another PyTorch: {0}")]
    Unreadable(String),
    #[error("the program fails on a batch of {batch} x {input:?}: {problem}")]
    Failed { batch: usize, input: [usize; 3], problem: String },
    #[error("the program should answer {expected}, and answers {found}")]
    WrongAnswer { expected: &'static str, found: &'static str },
    #[error("the program's {what} has the shape {found:?}, its package declares {expected:?}")]
    WrongShape { what: &'static str, expected: [usize; 2], found: Vec<i64> },
    #[error("the program's {0} holds no numbers that can be read as f32")]
    NotNumbers(&'static str),
    #[error("a program belongs to the architecture torchscript alone, and it takes nothing else")]
    Misplaced,
    #[error("the program says of a part that it is visible to {0}, which is not from 0 to 1")]
    Visibility(f32),
}

/// Why a network is not served, though it runs.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum TrialRunError {
    #[error("its answer to a trial input holds a number that is not finite: its weights or its arithmetic are broken")]
    NotFinite,
    #[error(
        "it answers the same input differently each time, by {0:.1e} of the answer: something random, such as dropout, \
         was left on when it was exported"
    )]
    Random(f64),
    #[error(
        "it answers an input alone otherwise than among others, by {0:.1e} of the answer: it goes by the whole batch, as \
         batch normalisation does in training"
    )]
    BatchDependent(f64),
    #[error("it answers everything the same: it does not look at its input")]
    Constant,
}

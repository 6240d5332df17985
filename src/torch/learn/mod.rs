//! Training: networks with trainable parameters, the contrastive loss of the gait network and the cross-entropy of the
//! open-set decider.
//!
//! The interface is numbers and state dicts. It generates no data, sets no learning rate and counts only its own steps:
//! package `train` does the rest. It draws no random numbers; initial values are passed in.

mod adamw;
mod contrast;
mod open_set;
mod trainable;

use tch::{Kind, Tensor};
use thiserror::Error;

pub use self::open_set::{OpenSetBatch, OpenSetLearner, OpenSetNetwork};
use self::{adamw::AdamW, trainable::Trainable};
use super::network::{Architecture, NetworkError, gaittcn};
use weights::{StateDict, WeightsError};

/// The trainable gait network.
#[derive(Debug)]
pub struct GaitLearner {
    network: Trainable,
    optimizer: AdamW,
}

/// Settings of one step of the gait network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ContrastiveStep {
    pub rate: f64,
    /// Weight decay per step at rate 1.
    pub decay: f64,
    /// Temperature of the contrastive loss: the smaller, the more the hardest pairs dominate.
    pub temperature: f64,
}

/// Settings of one AdamW step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWSettings {
    pub rate: f64,
    /// Weight decay per step at rate 1.
    pub decay: f64,
}

/// Why training cannot continue.
#[derive(Debug, Error)]
pub enum LearnError {
    #[error("{walks} walks and {people} persons are not a batch; give one person per walk")]
    WrongBatch { walks: usize, people: usize },
    #[error("the features of {probes} probes have the wrong length")]
    WrongProbes { probes: usize },
    #[error("no person of the batch has two walks: the loss has no positive pair")]
    NothingInCommon,
    #[error("the loss is not finite; train again at a lower rate")]
    Diverged,
    #[error("this is not a training state of this network: {0}")]
    BadState(String),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

impl From<tch::TchError> for LearnError {
    fn from(error: tch::TchError) -> Self {
        Self::Network(error.into())
    }
}

impl GaitLearner {
    pub const ARCHITECTURE: Architecture = Architecture::GaitTcn60;

    /// An untrained network; initial weights are drawn with `normal`, a source of standard normal numbers.
    ///
    /// # Errors
    ///
    /// When libtorch fails.
    pub fn new(normal: &mut dyn FnMut() -> f32) -> Result<Self, LearnError> {
        settle();
        let network = Trainable::new(normal)?;
        Ok(Self { optimizer: AdamW::new(network.learnt())?, network })
    }

    /// One optimizer step; returns the loss before it. `walks` is row-major `[people.len(), frames, joints, 3]` as
    /// prepared by a package; `people` is the person of each walk.
    ///
    /// # Errors
    ///
    /// [`LearnError::WrongBatch`], [`LearnError::NothingInCommon`], [`LearnError::Diverged`], or an error of libtorch.
    pub fn step(&mut self, walks: &[f32], people: &[u32], how: ContrastiveStep) -> Result<f64, LearnError> {
        settle();
        let batch = batch_tensor(walks, people.len())?;
        let embeddings = gaittcn::embed(&self.network.learning(), &batch)?;
        let loss = contrast::supervised(&embeddings, people, how.temperature)?;
        let gradients = Tensor::f_run_backward(&[&loss], self.network.learnt(), false, false)?;
        let loss = loss.f_double_value(&[])?;
        if !loss.is_finite() {
            return Err(LearnError::Diverged);
        }
        let _gradients_off = tch::no_grad_guard();
        self.optimizer.step(self.network.learnt(), &gradients, AdamWSettings { rate: how.rate, decay: how.decay })?;
        Ok(loss)
    }

    /// Embeddings of walks with the current weights; row-major `[batch, dimension]`, as when served.
    ///
    /// # Errors
    ///
    /// [`LearnError::WrongBatch`], or an error of libtorch.
    pub fn embed(&self, walks: &[f32], batch: usize) -> Result<Vec<f32>, LearnError> {
        settle();
        let _gradients_off = tch::no_grad_guard();
        let answer = gaittcn::embed(&self.network, &batch_tensor(walks, batch)?)?;
        Ok(numbers(&answer)?)
    }

    /// Number of steps so far.
    pub fn steps(&self) -> u64 {
        self.optimizer.steps()
    }

    /// The weights for a package.
    ///
    /// # Errors
    ///
    /// [`LearnError::Diverged`] when a number is not finite.
    pub fn weights(&self) -> Result<StateDict, LearnError> {
        self.network.state()
    }

    /// The complete training state: the weights and the optimizer's averages.
    ///
    /// # Errors
    ///
    /// [`LearnError::Diverged`] when a number is not finite.
    pub fn state(&self) -> Result<StateDict, LearnError> {
        let mut state = self.network.state()?;
        self.optimizer.save(self.network.learnt_keys(), &mut state)?;
        Ok(state)
    }

    /// Resumes from [`GaitLearner::state`].
    ///
    /// # Errors
    ///
    /// [`LearnError::BadState`].
    pub fn resume(mut state: StateDict) -> Result<Self, LearnError> {
        settle();
        let network = Trainable::from_state(&mut state)?;
        let optimizer = AdamW::load(network.learnt_keys(), network.learnt(), &mut state)?;
        match state.iter().next() {
            None => Ok(Self { network, optimizer }),
            Some((surplus, _)) => Err(LearnError::BadState(format!("it has the unknown tensor {surplus:?}"))),
        }
    }
}

/// One thread: results are reproducible, and other work has the other cores.
fn settle() {
    tch::set_num_threads(1);
}

fn batch_tensor(walks: &[f32], batch: usize) -> Result<Tensor, LearnError> {
    let [frames, joints, channels] = GaitLearner::ARCHITECTURE.input_shape();
    let one = frames * joints * channels;
    if batch == 0 || walks.len() != batch * one {
        return Err(LearnError::WrongBatch { walks: walks.len() / one, people: batch });
    }
    let sides = [batch, frames, joints, channels].map(trainable::side);
    Ok(Tensor::f_from_slice(walks)?.f_reshape(sides)?)
}

fn numbers(tensor: &Tensor) -> Result<Vec<f32>, tch::TchError> {
    let flat = tensor.f_to_kind(Kind::Float)?.f_contiguous()?;
    let mut numbers = vec![0.0; flat.numel()];
    flat.f_copy_data(&mut numbers, flat.numel())?;
    Ok(numbers)
}

#[cfg(test)]
mod tests;

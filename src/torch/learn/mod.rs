//! Learning: networks whose numbers change, a contrast between people or a right answer to change them by, and nothing of
//! the world.
//!
//! The door takes and gives plain numbers, and state dicts. It makes no data, chooses no rate and knows no step count but
//! its own: that is the part of the room `train`. It draws nothing at random either; first numbers are given.

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

/// A gait network that learns to tell people apart.
#[derive(Debug)]
pub struct GaitLearner {
    network: Trainable,
    optimizer: AdamW,
}

/// How one step learns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ContrastiveStep {
    pub rate: f64,
    /// How much of each weight is let go of in a step at rate 1.
    pub decay: f64,
    /// Similarities are divided by this before they are compared: the smaller, the more the hardest pairs count.
    pub temperature: f64,
}

/// How far one step goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWSettings {
    pub rate: f64,
    /// How much of each weight is let go of in a step at rate 1.
    pub decay: f64,
}

/// Why learning can not go on.
#[derive(Debug, Error)]
pub enum LearnError {
    #[error("{walks} walks and {people} names of people do not make a batch; give one name for each walk")]
    WrongBatch { walks: usize, people: usize },
    #[error("the numbers of {probes} probes are not as many as they should be")]
    WrongProbes { probes: usize },
    #[error("no person of the batch has two walks: there is nothing to bring together")]
    NothingInCommon,
    #[error("the loss is no finite number any more; learn again at a lower rate")]
    Diverged,
    #[error("this is no state of this network's learning: {0}")]
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

    /// A network that has learnt nothing: its weights are drawn with `normal`, which gives standard normal numbers.
    pub fn new(normal: &mut dyn FnMut() -> f32) -> Result<Self, LearnError> {
        settle();
        let network = Trainable::new(normal)?;
        Ok(Self { optimizer: AdamW::new(network.learnt())?, network })
    }

    /// Learns from one batch and tells its loss. `walks` is row-major `[people.len(), frames, joints, 3]` as a package
    /// prepares it; `people` says whose each is.
    pub fn step(&mut self, walks: &[f32], people: &[u32], how: ContrastiveStep) -> Result<f64, LearnError> {
        settle();
        let batch = batch_tensor(walks, people.len())?;
        let embeddings = gaittcn::embed(&self.network.learning(), &batch)?;
        let loss = contrast::supervised(&embeddings, people, how.temperature)?;
        let slopes = Tensor::f_run_backward(&[&loss], self.network.learnt(), false, false)?;
        let loss = loss.f_double_value(&[])?;
        if !loss.is_finite() {
            return Err(LearnError::Diverged);
        }
        let _gradients_off = tch::no_grad_guard();
        self.optimizer.step(self.network.learnt(), &slopes, AdamWSettings { rate: how.rate, decay: how.decay })?;
        Ok(loss)
    }

    /// What the network as it is now says of walks; row-major `[batch, dimension]`, as when it is served.
    pub fn embed(&self, walks: &[f32], batch: usize) -> Result<Vec<f32>, LearnError> {
        settle();
        let _gradients_off = tch::no_grad_guard();
        let answer = gaittcn::embed(&self.network, &batch_tensor(walks, batch)?)?;
        Ok(numbers(&answer)?)
    }

    /// Steps made so far.
    pub fn steps(&self) -> u64 {
        self.optimizer.steps()
    }

    /// The weights that a package holds.
    pub fn weights(&self) -> Result<StateDict, LearnError> {
        self.network.state()
    }

    /// Everything that learning goes on from: the weights, and what the optimizer remembers.
    pub fn state(&self) -> Result<StateDict, LearnError> {
        let mut state = self.network.state()?;
        self.optimizer.save(self.network.learnt_keys(), &mut state)?;
        Ok(state)
    }

    /// Goes on from [`GaitLearner::state`].
    pub fn resume(mut state: StateDict) -> Result<Self, LearnError> {
        settle();
        let network = Trainable::from_state(&mut state)?;
        let optimizer = AdamW::load(network.learnt_keys(), network.learnt(), &mut state)?;
        match state.iter().next() {
            None => Ok(Self { network, optimizer }),
            Some((surplus, _)) => Err(LearnError::BadState(format!("it has no place for {surplus:?}"))),
        }
    }
}

/// One thread: the same steps then give the same numbers, and other work has the other cores.
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

//! AdamW (Loshchilov and Hutter 2019): adaptive step sizes with decoupled weight decay.

use tch::{TchError, Tensor};

use super::{AdamWSettings, LearnError, trainable};
use weights::{Dtype, RawTensor, StateDict};

/// Decay rates of the moving averages of gradients and of squared gradients (beta 1 and beta 2).
const MEAN_KEPT: f64 = 0.9;
const SQUARES_KEPT: f64 = 0.98;
const EPSILON: f64 = 1e-8;
/// Key of the step count in a saved state.
const STEPS_KEY: &str = "optimizer.steps";

#[derive(Debug)]
pub(super) struct AdamW {
    steps: u64,
    /// Per tensor, the moving averages of gradients and squared gradients.
    memory: Vec<[Tensor; 2]>,
}

impl AdamW {
    pub(super) fn new(learnt: &[Tensor]) -> Result<Self, TchError> {
        let blank = |tensor: &Tensor| Ok([tensor.f_zeros_like()?.f_detach()?, tensor.f_zeros_like()?.f_detach()?]);
        Ok(Self { steps: 0, memory: learnt.iter().map(blank).collect::<Result<_, TchError>>()? })
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    /// Decay applies to tensors with two or more axes, not to biases and normalisation.
    pub(super) fn step(
        &mut self,
        learnt: &[Tensor],
        gradients: &[Tensor],
        settings: AdamWSettings,
    ) -> Result<(), TchError> {
        self.steps += 1;
        // After two billion steps the corrections are one.
        let steps = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let mean_scale = 1.0 - MEAN_KEPT.powi(steps);
        let squares_scale = 1.0 - SQUARES_KEPT.powi(steps);
        for ((tensor, gradient), [mean, squares]) in learnt.iter().zip(gradients).zip(&mut self.memory) {
            let mut tensor = tensor.shallow_clone();
            if tensor.dim() > 1 {
                let _same = tensor.f_mul_scalar_(1.0 - settings.rate * settings.decay)?;
            }
            let _same = mean.f_mul_scalar_(MEAN_KEPT)?.f_add_(&gradient.f_mul_scalar(1.0 - MEAN_KEPT)?)?;
            let _same =
                squares.f_mul_scalar_(SQUARES_KEPT)?.f_add_(&gradient.f_square()?.f_mul_scalar(1.0 - SQUARES_KEPT)?)?;
            let size = squares.f_div_scalar(squares_scale)?.f_sqrt()?.f_add_scalar(EPSILON)?;
            let change = mean.f_div(&size)?.f_mul_scalar(-settings.rate / mean_scale)?;
            let _same = tensor.f_add_(&change)?;
        }
        Ok(())
    }

    pub(super) fn save(&self, keys: &[String], state: &mut StateDict) -> Result<(), LearnError> {
        let steps = RawTensor::new(Dtype::I64, vec![], self.steps.to_le_bytes().to_vec()).expect("one number");
        state.insert(STEPS_KEY.to_owned(), steps)?;
        for (key, memory) in keys.iter().zip(&self.memory) {
            for (name, tensor) in names(key).into_iter().zip(memory) {
                state.insert(name, trainable::raw(tensor)?)?;
            }
        }
        Ok(())
    }

    pub(super) fn load(keys: &[String], learnt: &[Tensor], state: &mut StateDict) -> Result<Self, LearnError> {
        let missing = |name: &str| LearnError::BadState(format!("it lacks {name:?}"));
        let steps = state.remove(STEPS_KEY).ok_or_else(|| missing(STEPS_KEY))?;
        let steps = <[u8; 8]>::try_from(steps.bytes())
            .map_err(|_| LearnError::BadState(format!("{STEPS_KEY} is not a number")))?;
        let one = |(key, like): (&String, &Tensor)| {
            let [mean, squares] = names(key).map(|name| trainable::take(state, &name, &like.size()));
            Ok([mean?, squares?])
        };
        let memory = keys.iter().zip(learnt).map(one).collect::<Result<_, LearnError>>()?;
        Ok(Self { steps: u64::from_le_bytes(steps), memory })
    }
}

fn names(key: &str) -> [String; 2] {
    ["mean", "squares"].map(|what| format!("optimizer.{what}.{key}"))
}

//! The supervised contrastive loss (Khosla et al. 2020, the form with the sum outside of the logarithm).

use tch::{Kind, TchError, Tensor};

use super::{LearnError, trainable::side};

/// Used instead of minus infinity to mask the diagonal; its gradient is zero, not NaN.
const NEVER: f64 = -1e9;
const LENGTH_MIN: f64 = 1e-6;

/// The loss over cosines divided by `temperature`, averaged over the walks with another walk of the same person.
/// `embeddings` is `[walks, dimension]`, `people` the person of each walk.
pub(super) fn supervised(embeddings: &Tensor, people: &[u32], temperature: f64) -> Result<Tensor, LearnError> {
    let (positives, self_alone) = masks(people)?;
    let unit = scaled_to_unit(embeddings)?;
    let logits = unit.f_matmul(&unit.f_transpose(0, 1)?)?.f_div_scalar(temperature)?;
    let others = logits.f_add(&self_alone.f_mul_scalar(NEVER)?)?;
    let negative_log_likelihood = others.f_logsumexp([1_i64].as_slice(), true)?.f_sub(&logits)?;
    Ok(negative_log_likelihood.f_mul(&positives)?.f_sum(Kind::Float)?)
}

fn scaled_to_unit(embeddings: &Tensor) -> Result<Tensor, TchError> {
    let squares = embeddings.f_square()?.f_sum_dim_intlist([1_i64].as_slice(), true, None)?;
    embeddings.f_div(&squares.f_add_scalar(LENGTH_MIN)?.f_sqrt()?)
}

/// The weight of each pair in the loss, and the diagonal: `[walks, walks]`.
fn masks(people: &[u32]) -> Result<(Tensor, Tensor), LearnError> {
    let count = people.len();
    let positives_of = |one: usize| (0..count).filter(move |other| *other != one && people[*other] == people[one]);
    let anchors = (0..count).filter(|one| positives_of(*one).next().is_some()).count();
    if anchors == 0 {
        return Err(LearnError::NothingInCommon);
    }
    let mut positives = vec![0.0_f32; count * count];
    let mut self_alone = vec![0.0_f32; count * count];
    for one in 0..count {
        self_alone[one * count + one] = 1.0;
        let share = 1.0 / (positives_of(one).count() * anchors) as f32;
        positives_of(one).for_each(|other| positives[one * count + other] = share);
    }
    let square = |numbers: &[f32]| Tensor::f_from_slice(numbers)?.f_reshape([side(count), side(count)]);
    Ok((square(&positives)?, square(&self_alone)?))
}

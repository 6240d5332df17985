//! What each template of an identity counts where the others of it have a say.
//!
//! The cosine of a probe with a weighted sum of unit vectors, scaled to unit length, is a sum over the probe's cosines with
//! them: `p . sum(w_i f_i) / |sum(w_i f_i)| = sum(c_i (p . f_i))` with `c_i = w_i / |sum(w_i f_i)|`. So no prototype is kept
//! beside the templates: one number for each does the same, and since none is negative the pooled similarity rises with
//! every single one.

use domain::Pooling;

/// How fast a template's weight falls with its disagreement, per unit of cosine.
const AGREEMENT: f64 = 8.0;
/// A weighted sum shorter than this share of its weights has no direction worth following: its parts cancel each other out.
const LENGTH_MIN: f64 = 1e-3;

/// Whether [`shares`] matter to a pooling. To all others a share is 1.
#[must_use]
pub fn counts_by_share(pooling: Pooling) -> bool {
    match pooling {
        Pooling::Prototype | Pooling::Centralised => true,
        Pooling::Best | Pooling::MeanOfBest(_) | Pooling::ByQuality => false,
    }
}

/// The share of each template of one identity, in order. `rows` are their embeddings, of unit length and of one space;
/// `qualities` are 0 to 1, and NaN where nothing is known.
///
/// For [`Pooling::Prototype`] the `c_i` of this file's head, with `w_i` the weight of the template's quality times
/// `exp(8 (a_i - max a))`, where `a_i` is the mean cosine to the identity's other templates: a softmax over agreement. Of one
/// or two templates none is the odd one out, and quality alone decides. For [`Pooling::Centralised`] `1 / |f_i + mean of the
/// others|`, or 0 where that has no length and the template stands by itself.
///
/// The same to the last bit for the same rows in the same order; takes as long as comparing each twice with a probe.
///
/// # Panics
/// When there are not as many qualities as rows.
#[must_use]
pub fn shares(pooling: Pooling, rows: &[&[f32]], qualities: &[f32]) -> Vec<f32> {
    assert_eq!(rows.len(), qualities.len(), "one quality for each row");
    match pooling {
        _ if rows.len() == 1 => vec![1.0],
        Pooling::Prototype => towards(rows, &weights(rows, qualities)),
        Pooling::Centralised => centralised(rows),
        Pooling::Best | Pooling::MeanOfBest(_) | Pooling::ByQuality => vec![1.0; rows.len()],
    }
}

/// The `c_i` of this file's head for any weights, none of them negative. Where the weighted rows cancel each other out, such
/// that the mean of the similarities follows: `w_i / sum(w)`.
#[must_use]
pub fn towards(rows: &[&[f32]], weights: &[f64]) -> Vec<f32> {
    if rows.len() == 1 {
        // As similar as it is, to the last bit.
        return vec![1.0];
    }
    let all: f64 = weights.iter().sum();
    let length = dot(&sum(rows, weights), &sum(rows, weights)).sqrt();
    let divisor = if length < LENGTH_MIN * all { all } else { length };
    weights.iter().map(|weight| single(weight / divisor)).collect()
}

fn weights(rows: &[&[f32]], qualities: &[f32]) -> Vec<f64> {
    let by_quality = qualities.iter().map(|quality| Pooling::weight((!quality.is_nan()).then_some(*quality)));
    if rows.len() <= 2 {
        return by_quality.collect();
    }
    let all = sum(rows, &vec![1.0; rows.len()]);
    let others = (rows.len() - 1) as f64;
    let agreements: Vec<f64> =
        rows.iter().map(|row| (dot(&wide(row), &all) - dot(&wide(row), &wide(row))) / others).collect();
    let highest = agreements.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    by_quality.zip(agreements).map(|(weight, own)| weight * (AGREEMENT * (own - highest)).exp()).collect()
}

fn centralised(rows: &[&[f32]]) -> Vec<f32> {
    let all = sum(rows, &vec![1.0; rows.len()]);
    let others = (rows.len() - 1) as f64;
    let share = |row: &&[f32]| {
        let moved: Vec<f64> =
            row.iter().zip(&all).map(|(own, all)| f64::from(*own) + (all - f64::from(*own)) / others).collect();
        let length = dot(&moved, &moved).sqrt();
        if length < LENGTH_MIN { 0.0 } else { single(1.0 / length) }
    };
    rows.iter().map(share).collect()
}

fn sum(rows: &[&[f32]], weights: &[f64]) -> Vec<f64> {
    let mut sum = vec![0.0; rows.first().map_or(0, |row| row.len())];
    for (row, weight) in rows.iter().zip(weights) {
        for (sum, number) in sum.iter_mut().zip(*row) {
            *sum += weight * f64::from(*number);
        }
    }
    sum
}

fn wide(row: &[f32]) -> Vec<f64> {
    row.iter().copied().map(f64::from).collect()
}

fn dot(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

#[expect(clippy::cast_possible_truncation, reason = "similarities are single precision, and so is what weighs them")]
fn single(number: f64) -> f32 {
    number as f32
}

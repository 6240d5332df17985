//! Weight of each template of an identity, for poolings in which the templates depend on each other.
//!
//! The cosine of a probe p with a weighted sum of unit vectors is a weighted sum of cosines: `p . sum(w_i f_i) /
//! |sum(w_i f_i)| = sum(c_i (p . f_i))` with `c_i = w_i / |sum(w_i f_i)|`. So the gallery stores no prototype, only one
//! number per template. No `c_i` is negative, so the pooled similarity is monotone in every cosine.

use domain::Pooling;

/// Softmax scale of the agreement, per unit of cosine.
const AGREEMENT: f64 = 8.0;
/// Minimum length of a weighted sum relative to the sum of its weights. A shorter sum has no meaningful direction,
/// because its parts cancel each other out.
const LENGTH_MIN: f64 = 1e-3;

/// Whether the pooling uses [`template_weights`]. For all others each weight is 1.
#[must_use]
pub fn uses_template_weights(pooling: Pooling) -> bool {
    match pooling {
        Pooling::Prototype | Pooling::Centralised => true,
        Pooling::Best | Pooling::MeanOfBest(_) | Pooling::ByQuality => false,
    }
}

/// Weight of each template of one identity, in order. `rows` are unit vectors of one space; `qualities` are 0 to 1, NaN
/// when unknown.
///
/// [`Pooling::Prototype`]: `c_i` as defined at the top of this file, with `w_i` = quality weight times `exp(8 (a_i -
/// max a))`, where `a_i` is the mean cosine to the identity's other templates (a softmax over agreement). With one or
/// two templates, `w_i` is the quality weight alone. [`Pooling::Centralised`]: `1 / |f_i + mean of the others|`; 0
/// where that length is nearly zero, and the template's own cosine counts.
///
/// The same rows in the same order give bit-identical weights. The cost equals two comparisons of each row with a
/// probe.
///
/// # Panics
/// When `rows` and `qualities` differ in length.
#[must_use]
pub fn template_weights(pooling: Pooling, rows: &[&[f32]], qualities: &[f32]) -> Vec<f32> {
    assert_eq!(rows.len(), qualities.len(), "one quality for each row");
    match pooling {
        _ if rows.len() == 1 => vec![1.0],
        Pooling::Prototype => normalised_weights(rows, &prototype_weights(rows, qualities)),
        Pooling::Centralised => centralised(rows),
        Pooling::Best | Pooling::MeanOfBest(_) | Pooling::ByQuality => vec![1.0; rows.len()],
    }
}

/// `c_i` as defined at the top of this file, for any non-negative weights `w_i`. When the weighted rows cancel each
/// other out, `w_i / sum(w)`, which gives the weighted mean of the cosines.
#[must_use]
pub fn normalised_weights(rows: &[&[f32]], weights: &[f64]) -> Vec<f32> {
    if rows.len() == 1 {
        // Exactly 1, so that the pooled similarity equals the template's to the last bit.
        return vec![1.0];
    }
    let all: f64 = weights.iter().sum();
    let length = dot(&sum(rows, weights), &sum(rows, weights)).sqrt();
    let divisor = if length < LENGTH_MIN * all { all } else { length };
    weights.iter().map(|weight| to_f32(weight / divisor)).collect()
}

fn prototype_weights(rows: &[&[f32]], qualities: &[f32]) -> Vec<f64> {
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
    let weight = |row: &&[f32]| {
        let moved: Vec<f64> =
            row.iter().zip(&all).map(|(own, all)| f64::from(*own) + (all - f64::from(*own)) / others).collect();
        let length = dot(&moved, &moved).sqrt();
        if length < LENGTH_MIN { 0.0 } else { to_f32(1.0 / length) }
    };
    rows.iter().map(weight).collect()
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

#[expect(clippy::cast_possible_truncation, reason = "similarities are single precision, and so are their weights")]
fn to_f32(number: f64) -> f32 {
    number as f32
}

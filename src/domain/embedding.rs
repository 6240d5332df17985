//! Embeddings and their similarity.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::EmbeddingSpace;

/// Maximum dimension of an embedding.
pub const DIMENSION_MAX: u32 = 8192;

/// A vector whose numbers are all smaller than this has no usable direction.
const NORM_MIN: f32 = 1e-6;

/// Maximum distance from one of the squared length of a vector that [`Embedding::new`] scaled: 2^-22, because the
/// length and each number are rounded to f32.
const ROUNDED_TO_UNIT: f64 = 2.4e-7;

/// Maximum distance from one of the squared length of [`DIMENSION_MAX`] numbers that are each rounded to f32.
const UNIT_TOLERANCE: f64 = 1e-5;

/// The similarity of two embeddings of one space: the cosine of their angle, -1 to 1, higher is more similar.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Similarity(pub f32);

impl Similarity {
    /// Below every similarity that two embeddings can have.
    pub const LOWEST: Self = Self(-2.0);

    /// The total order of [`f32::total_cmp`].
    #[must_use]
    pub fn total_cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl fmt::Display for Similarity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.4}", self.0)
    }
}

/// Why a vector is not an embedding of a space.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EmbeddingError {
    #[error("an embedding of this space has {expected} numbers, this one has {found}")]
    WrongDimension { expected: u32, found: usize },
    #[error("number {0} of the embedding is not finite")]
    NotFinite(usize),
    #[error("the embedding has no direction: all its numbers are zero or smaller than {NORM_MIN}")]
    NoDirection,
}

/// A vector of an embedding space: finite, of unit length, with as many numbers as the space has dimensions.
///
/// In a space of several parts all visible parts have the same length, and a hidden part is all zeros.
///
/// Its `Debug` form shows the space and never the numbers: embeddings are biometric data and stay out of logs.
#[derive(Clone, PartialEq)]
pub struct Embedding {
    space: EmbeddingSpace,
    values: Arc<[f32]>,
}

impl Embedding {
    /// Scales `values` to unit length.
    ///
    /// # Errors
    /// When the count is not the space's dimension, a number is not finite, or all are (nearly) zero.
    pub fn new(space: EmbeddingSpace, values: &[f32]) -> Result<Self, EmbeddingError> {
        if values.len() != space.dimension as usize {
            return Err(EmbeddingError::WrongDimension { expected: space.dimension, found: values.len() });
        }
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            return Err(EmbeddingError::NotFinite(at));
        }
        // Scaled by the largest number first, so that the squares of huge or tiny inputs neither overflow nor vanish.
        let largest = values.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        if largest < NORM_MIN {
            return Err(EmbeddingError::NoDirection);
        }
        if is_unit_already(space, values) {
            return Ok(Self { space, values: values.into() });
        }
        let norm = values.iter().map(|v| f64::from(v / largest).powi(2)).sum::<f64>().sqrt() * f64::from(largest);
        if space.parts > 1 {
            return Ok(Self { space, values: even_parts(values, space.parts as usize, largest) });
        }
        #[expect(clippy::cast_possible_truncation, reason = "a unit vector's numbers are f32 by definition")]
        let values = values.iter().map(|v| (f64::from(*v) / norm) as f32).collect();
        Ok(Self { space, values })
    }

    /// A stored embedding, bit for bit: it is not scaled again, so that every replica compares the same numbers. `None`
    /// if the vector is not finite, not of unit length, or not of the space's dimension.
    #[must_use]
    pub fn restored(space: EmbeddingSpace, values: Arc<[f32]>) -> Option<Self> {
        // NaN and infinity make a length that is not near one.
        let squared_length = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
        let is_unit = (squared_length - 1.0).abs() < UNIT_TOLERANCE;
        (values.len() == space.dimension as usize && is_unit).then_some(Self { space, values })
    }

    /// The embedding space.
    #[must_use]
    pub fn space(&self) -> EmbeddingSpace {
        self.space
    }

    /// The numbers, unit length.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The mean of several embeddings of one space, scaled to unit length.
    ///
    /// # Errors
    /// [`EmbeddingError::NoDirection`] when there are none, or they cancel out.
    pub fn mean(of: &[Self]) -> Result<Self, EmbeddingError> {
        Self::weighted_mean(of.iter().map(|embedding| (embedding, 1.0)))
    }

    /// The weighted mean of several embeddings of one space, scaled to unit length.
    ///
    /// # Panics
    /// When the embeddings are of different spaces.
    ///
    /// # Errors
    /// [`EmbeddingError::NoDirection`] when there are none, or they cancel out.
    pub fn weighted_mean<'e>(of: impl IntoIterator<Item = (&'e Self, f32)>) -> Result<Self, EmbeddingError> {
        let mut of = of.into_iter().peekable();
        let space = of.peek().ok_or(EmbeddingError::NoDirection)?.0.space;
        let mut sum = vec![0.0; space.dimension as usize];
        for (embedding, weight) in of {
            assert_eq!(embedding.space, space, "embeddings of different spaces never meet");
            for (total, value) in sum.iter_mut().zip(embedding.values.iter()) {
                *total += weight * value;
            }
        }
        Self::new(space, &sum)
    }

    /// The cosine of two embeddings, or [`similarity_by_parts`] in a space of several parts; `None` if their spaces
    /// differ.
    #[must_use]
    pub fn similarity(&self, other: &Self) -> Option<Similarity> {
        let (one, other) = (self.space == other.space).then_some((&self.values, &other.values))?;
        Some(match self.space.parts {
            0 | 1 => Similarity(one.iter().zip(other.iter()).map(|(a, b)| a * b).sum()),
            parts => similarity_by_parts(one, other, parts as usize),
        })
    }
}

/// The mean cosine over the parts that are visible in both embeddings (KPR, Somers et al. 2024), -1 to 1; -1 if no part
/// is visible in both. Both vectors have unit length and visible parts of equal length, so that each of `n` visible
/// parts has the length `1 / sqrt(n)`.
#[must_use]
pub fn similarity_by_parts(one: &[f32], other: &[f32], parts: usize) -> Similarity {
    let width = (one.len() / parts.max(1)).max(1);
    let (mut shared, mut seen) = (0.0_f32, [0.0_f32; 3]);
    for (a, b) in one.chunks_exact(width).zip(other.chunks_exact(width)) {
        let shows = |part: &[f32]| part.iter().any(|number| *number != 0.0);
        let (a_shows, b_shows) = (shows(a), shows(b));
        for (count, is_so) in seen.iter_mut().zip([a_shows, b_shows, a_shows && b_shows]) {
            *count += f32::from(u8::from(is_so));
        }
        if a_shows && b_shows {
            shared += a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        }
    }
    let [of_one, of_other, of_both] = seen;
    if of_both == 0.0 {
        Similarity(-1.0)
    } else {
        Similarity((shared * (of_one * of_other).sqrt() / of_both).clamp(-1.0, 1.0))
    }
}

/// Whether these numbers already are an embedding, such as an exported one. Scaling again would change some numbers by
/// one bit, and an import would not restore the export.
fn is_unit_already(space: EmbeddingSpace, values: &[f32]) -> bool {
    let squared = |part: &[f32]| part.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
    let width = (values.len() / space.parts.max(1) as usize).max(1);
    let parts: Vec<f64> = values.chunks(width).map(squared).filter(|length| *length > 0.0).collect();
    parts.iter().all(|length| (length * parts.len() as f64 - 1.0).abs() < ROUNDED_TO_UNIT)
}

/// Scales each part that is not nearly zero to the same length, and the whole to unit length.
fn even_parts(values: &[f32], parts: usize, largest: f32) -> Arc<[f32]> {
    let width = (values.len() / parts).max(1);
    let length = |part: &[f32]| part.iter().map(|v| f64::from(v / largest).powi(2)).sum::<f64>().sqrt();
    let lengths: Vec<f64> = values.chunks(width).map(length).collect();
    let is_seen = |length: f64| length > f64::from(NORM_MIN);
    let whole = (lengths.iter().filter(|length| is_seen(**length)).count() as f64).sqrt();
    let scaled = values.chunks(width).zip(lengths).flat_map(|(part, length)| {
        #[expect(clippy::cast_possible_truncation, reason = "a unit vector's numbers are f32 by definition")]
        let scale = move |v: &f32| if is_seen(length) { (f64::from(v / largest) / length / whole) as f32 } else { 0.0 };
        part.iter().map(scale)
    });
    scaled.collect()
}

impl fmt::Debug for Embedding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedding").field("space", &self.space).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Modality, ModelDigest};

    fn space(dimension: u32) -> EmbeddingSpace {
        EmbeddingSpace::whole(Modality::Face, ModelDigest([7; 32]), dimension)
    }

    #[test]
    fn parts_that_both_show_are_compared_and_no_others() {
        let space = EmbeddingSpace { parts: 3, ..space(6) };
        let embedding = |values: [f32; 6]| Embedding::new(space, &values).expect("valid");
        let whole = embedding([3.0, 0.0, 0.0, 2.0, 1.0, 0.0]);
        assert!(whole.values().chunks(2).all(|part| (part[0].hypot(part[1]) - 1.0 / 3.0_f32.sqrt()).abs() < 1e-6));
        let legs_hidden = embedding([5.0, 0.0, 0.0, 0.1, 0.0, 0.0]);
        let similarity = |a: &Embedding, b: &Embedding| a.similarity(b).expect("one space").0;
        assert!((similarity(&whole, &legs_hidden) - 1.0).abs() < 1e-6, "what is hidden does not count");
        let other_head = embedding([0.0, 1.0, 0.0, 1.0, 0.0, 0.0]);
        assert!((similarity(&whole, &other_head) - 0.5).abs() < 1e-6);
        let legs_alone = embedding([0.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        assert!((similarity(&legs_hidden, &legs_alone) + 1.0).abs() < 1e-6, "nothing is shared");
        assert!(Embedding::restored(space, whole.values().into()).is_some());
    }

    #[test]
    fn degenerate_vectors_are_refused() {
        assert_eq!(
            Embedding::new(space(3), &[1.0, 2.0]),
            Err(EmbeddingError::WrongDimension { expected: 3, found: 2 })
        );
        assert_eq!(Embedding::new(space(3), &[1.0, f32::NAN, 2.0]), Err(EmbeddingError::NotFinite(1)));
        assert_eq!(Embedding::new(space(2), &[f32::INFINITY, 2.0]), Err(EmbeddingError::NotFinite(0)));
        assert_eq!(Embedding::new(space(2), &[0.0, 0.0]), Err(EmbeddingError::NoDirection));
    }

    #[test]
    fn numbers_stay_out_of_the_debug_form() {
        let embedding = Embedding::new(space(2), &[0.6, 0.8]).expect("valid");
        assert!(!format!("{embedding:?}").contains("0.6"));
    }

    #[test]
    fn only_unit_vectors_are_restored() {
        let restored = |values: &[f32]| Embedding::restored(space(2), values.into());
        assert_eq!(restored(&[0.6, 0.8]).expect("unit length").values(), [0.6, 0.8]);
        for damaged in
            [&[0.6, 0.81][..], &[1.0], &[0.6, 0.8, 0.0], &[f32::NAN, 1.0], &[f32::INFINITY, 0.0], &[0.0, 0.0]]
        {
            assert_eq!(restored(damaged), None, "{damaged:?}");
        }
    }

    proptest! {
        #[test]
        fn every_embedding_is_restored_bit_for_bit(values in prop::collection::vec(-1e30_f32..1e30, 1..64)) {
            let dimension = u32::try_from(values.len()).expect("short");
            if let Ok(embedding) = Embedding::new(space(dimension), &values) {
                let again = Embedding::restored(space(dimension), embedding.values().into());
                prop_assert_eq!(again, Some(embedding));
            }
        }

        #[test]
        fn an_embedding_is_made_of_itself_bit_for_bit(values in prop::collection::vec(-10_f32..10.0, 1..64), parts in 1_u32..4) {
            let values = &values[..values.len() / parts as usize * parts as usize];
            let space = EmbeddingSpace { parts, ..space(u32::try_from(values.len()).expect("short")) };
            if let Ok(embedding) = Embedding::new(space, values) {
                prop_assert_eq!(Embedding::new(space, embedding.values()), Ok(embedding));
            }
        }

        #[test]
        fn every_embedding_is_unit_length(values in prop::collection::vec(-1e30_f32..1e30, 1..64)) {
            let dimension = u32::try_from(values.len()).expect("short");
            if let Ok(embedding) = Embedding::new(space(dimension), &values) {
                let norm: f32 = embedding.values().iter().map(|v| v * v).sum();
                prop_assert!((norm - 1.0).abs() < 1e-5);
                prop_assert!((embedding.similarity(&embedding).expect("one space").0 - 1.0).abs() < 1e-5);
            }
        }
    }
}

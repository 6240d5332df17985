//! How alike a probe and rows are by their originals: the last word on a similarity.
//!
//! One kernel serves verification, the sweep's second look, the graph's and rehearsals, so that all agree to the last
//! bit.
#![expect(unsafe_code, reason = "calls to AVX2 code, after asking the processor whether it has AVX2")]

use domain::similarity_by_parts;

/// Independent sums: four registers of eight numbers hide the latency of a fused multiply-add.
const LANES: usize = 32;

/// How the rows of a space are compared: as a whole, or part by part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    Whole,
    /// By so many parts, of which those count that both rows show. No graph serves such a space: a walk through one
    /// needs a distance that holds for all points alike.
    Parts(usize),
}

impl Measure {
    pub(crate) fn of_parts(parts: u32) -> Self {
        if parts > 1 { Self::Parts(parts as usize) } else { Self::Whole }
    }

    pub(crate) fn of(self, one: &[f32], other: &[f32]) -> f32 {
        match self {
            Self::Whole => similarity_of(one, other),
            Self::Parts(parts) => similarity_by_parts(one, other, parts).0,
        }
    }

    /// The similarity of the probe to each of the rows that follow each other in `values`.
    pub(crate) fn of_all(self, probe: &[f32], values: &[f32], similarities: &mut Vec<f32>) {
        match self {
            Self::Whole => similarities_of(probe, values, similarities),
            Self::Parts(_) => {
                similarities.clear();
                similarities.extend(values.chunks_exact(probe.len()).map(|row| self.of(probe, row)));
            }
        }
    }
}

/// The cosine of two unit vectors. Rounding may carry a dot product past 1, hence the clamp.
pub(crate) fn similarity_of(one: &[f32], other: &[f32]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        // SAFETY: the processor has what the function was compiled for.
        return unsafe { avx2::similarity_of(one, other) };
    }
    dot::<false>(one, other).clamp(-1.0, 1.0)
}

/// The similarity of the probe to each of the rows that follow each other in `values`.
fn similarities_of(probe: &[f32], values: &[f32], similarities: &mut Vec<f32>) {
    similarities.clear();
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        // SAFETY: the processor has what the function was compiled for.
        return unsafe { avx2::similarities_of(probe, values, similarities) };
    }
    similarities.extend(values.chunks_exact(probe.len()).map(|row| dot::<false>(probe, row).clamp(-1.0, 1.0)));
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// The portable kernel compiled once more for processors with AVX2 and fused multiply-add.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    #[target_feature(enable = "avx2,fma")]
    pub(crate) fn similarity_of(one: &[f32], other: &[f32]) -> f32 {
        super::dot::<true>(one, other).clamp(-1.0, 1.0)
    }

    #[target_feature(enable = "avx2,fma")]
    pub(crate) fn similarities_of(probe: &[f32], values: &[f32], similarities: &mut Vec<f32>) {
        similarities.reserve(values.len() / probe.len());
        for row in values.chunks_exact(probe.len()) {
            similarities.push(super::dot::<true>(probe, row).clamp(-1.0, 1.0));
        }
    }
}

/// `FUSED` only where the processor multiplies and adds in one instruction: elsewhere `mul_add` is a library call.
#[inline(always)]
#[expect(clippy::inline_always, reason = "must be compiled into its caller, for the caller's processor features")]
fn dot<const FUSED: bool>(one: &[f32], other: &[f32]) -> f32 {
    let add_product = |sum: f32, a: f32, b: f32| if FUSED { a.mul_add(b, sum) } else { sum + a * b };
    let (one_chunks, one_rest) = one.as_chunks::<LANES>();
    let (other_chunks, other_rest) = other.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for (a, b) in one_chunks.iter().zip(other_chunks) {
        for lane in 0..LANES {
            sums[lane] = add_product(sums[lane], a[lane], b[lane]);
        }
    }
    let rest = one_rest.iter().zip(other_rest).fold(0.0, |sum, (a, b)| add_product(sum, *a, *b));
    // Halved again and again instead of summed in a row: four additions of whole registers, and less rounding.
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0] + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exact(one: &[f32], other: &[f32]) -> f64 {
        one.iter().zip(other).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    }

    proptest! {
        #[test]
        fn every_kernel_computes_the_dot_product(pairs in prop::collection::vec((-0.06_f32..0.06, -0.06_f32..0.06), 1..200)) {
            let (one, other): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let expected = exact(&one, &other);
            let mut rows = Vec::new();
            similarities_of(&one, &[other.clone(), one.clone()].concat(), &mut rows);
            prop_assert_eq!(rows.len(), 2);
            prop_assert_eq!(rows[0].to_bits(), similarity_of(&one, &other).to_bits());
            for found in [rows[0], dot::<false>(&one, &other), dot::<true>(&one, &other)] {
                prop_assert!((f64::from(found) - expected).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn rounding_never_exceeds_certainty() {
        let long = [1.0001_f32; 3];
        assert_eq!((similarity_of(&long, &long), similarity_of(&long, &long.map(|v| -v))), (1.0, -1.0));
    }
}

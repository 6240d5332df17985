//! Similarity of a probe and rows by their original values: the exact value.
//!
//! Verification, scan, graph and rehearsals all use this one kernel, so that their similarities agree to the last bit.
#![expect(unsafe_code, reason = "calls to AVX2 code, after asking the processor whether it has AVX2")]

use domain::similarity_by_parts;

/// Number of independent sums: four registers of eight values hide the latency of a fused multiply-add.
const LANES: usize = 32;

/// Comparison of the rows in a space: as whole vectors, or part by part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    Whole,
    /// Number of parts. Only parts that are present in both rows count. No graph serves such a space: a graph search
    /// needs one distance that is valid for all points.
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

    /// Similarities of the probe to consecutive rows, whose values follow each other in `values`.
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

/// Cosine of two unit vectors, -1 to 1. Clamped, because rounding may carry a dot product past 1.
pub(crate) fn similarity_of(one: &[f32], other: &[f32]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        // SAFETY: the processor has what the function was compiled for.
        return unsafe { avx2::similarity_of(one, other) };
    }
    dot::<false>(one, other).clamp(-1.0, 1.0)
}

/// Similarities of the probe to consecutive rows, whose values follow each other in `values`.
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

/// The portable kernel, compiled once more for processors with AVX2 and fused multiply-add.
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

/// `FUSED` only where the processor has a fused multiply-add instruction: elsewhere `mul_add` is a library call.
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
    // Pairwise halving instead of a running sum: four additions of whole registers, and less rounding.
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
    fn similarities_stay_within_one() {
        let long = [1.0001_f32; 3];
        assert_eq!((similarity_of(&long, &long), similarity_of(&long, &long.map(|v| -v))), (1.0, -1.0));
    }
}

//! Adapter for the `hnsw_rs` crate. No other file names that crate. It works around these properties:
//!
//! - Its distances panic on rounding, or treat a zero vector as a perfect match. [`Angle`] does neither, and an
//!   embedding is never a zero vector.
//! - It does not allow insertion during a search. Insertion takes `&mut` here, so it cannot happen.
//! - Crowds of near-duplicates make other points unreachable.
//! - It copies the values: each point holds its code, followed by four bytes for the scale.

use hnsw_rs::{anndists::dist::Distance, hnsw::Hnsw};

use super::{GraphShape, PointGraph, PointHit, PointHits, in_parallel};
use crate::rows::{
    codes::{Code, Codes, Quantization, similarity_of_codes},
    kernel::Kernel,
};

/// `hnsw_rs` ends the process above 256 links, and stores the number in a byte.
const LINKS_MAX: usize = 255;
/// Number of layers that `hnsw_rs` supports; it cannot save and load fewer.
const LAYERS: usize = 16;
/// Bytes of the scale after a code.
const SCALE_BYTES: usize = size_of::<f32>();

pub(super) struct HnswRs {
    points: Hnsw<'static, i8, Angle>,
    /// The codes, shared with the space: for self queries, and for the quantization errors.
    codes: Codes,
}

impl HnswRs {
    pub(super) fn build(codes: &Codes, shape: GraphShape, threads: usize) -> Self {
        let links = shape.links.clamp(2, LINKS_MAX);
        let angle = Angle(Kernel::fastest());
        let points = Hnsw::new(links, codes.len(), LAYERS, shape.build_width, angle);
        let insert = |row: usize| points.insert_slice((&with_scale(codes.code(row)), row));
        // The first point alone: the others insert themselves relative to it.
        in_parallel(1, 0..codes.len().min(1), insert);
        in_parallel(threads, 1..codes.len(), insert);
        Self { points, codes: codes.clone() }
    }

    fn hits(&self, code: Code<'_>, width: usize) -> Vec<PointHit> {
        let found = self.points.search(&with_scale(code), width, width);
        let hit = |point: usize, distance: f32| {
            let lost = self.codes.code(point).quantization.error;
            // Both quantization errors, their product, and rounding.
            let error = code.quantization.error + lost + code.quantization.error * lost + 1e-5;
            PointHit { point, similarity: 1.0 - distance, error }
        };
        found.iter().map(|neighbour| hit(neighbour.d_id, neighbour.distance)).collect()
    }
}

impl PointGraph for HnswRs {
    fn nearest(&self, probe: &[f32], width: usize) -> PointHits {
        let mut alone = Codes::new(probe.len());
        alone.push(probe);
        PointHits::new(self.hits(alone.code(0), width))
    }

    fn finds(&self, point: usize, width: usize) -> bool {
        self.hits(self.codes.code(point), width).iter().any(|hit| hit.point == point)
    }

    fn insert(&mut self, values: &[f32]) {
        let point = self.codes.len();
        self.codes.push(values);
        self.points.insert_slice((&with_scale(self.codes.code(point)), point));
    }

    fn codes(&self) -> &Codes {
        &self.codes
    }

    /// Estimate: per point one list of values and one per layer; per link a counted pointer and a distance.
    fn bytes(&self) -> usize {
        const LINK_BYTES: usize = 56;
        const LIST_BYTES: usize = 24;
        let links = 2 * usize::from(self.points.get_max_nb_connection());
        let point = self.codes.stride() + SCALE_BYTES + (LAYERS + 1) * LIST_BYTES + links * LINK_BYTES;
        self.codes.len() * point
    }
}

/// Distance 1 - cosine, 0 to 2. The clamp prevents negative distances, on which `hnsw_rs` panics.
struct Angle(Kernel);

impl Distance<i8> for Angle {
    fn eval(&self, one: &[i8], other: &[i8]) -> f32 {
        1.0 - similarity_of_codes(self.0, without_scale(one), without_scale(other)).clamp(-1.0, 1.0)
    }
}

fn with_scale(code: Code<'_>) -> Vec<i8> {
    let scale = code.quantization.scale.to_ne_bytes().map(u8::cast_signed);
    [code.numbers, &scale].concat()
}

fn without_scale(point: &[i8]) -> Code<'_> {
    let (numbers, scale) = point.split_last_chunk::<SCALE_BYTES>().expect("points are made by `with_scale`");
    let scale = f32::from_ne_bytes(scale.map(i8::cast_unsigned));
    Code { numbers, quantization: Quantization { scale, error: 0.0 } }
}

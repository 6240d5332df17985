//! The graph of hnsw_rs: the only file that names it, and what it takes to use it safely.
//!
//! - Its own distances panic on rounding or call a zero vector a perfect match; [`Angle`] does neither, and an
//!   embedding is never a zero vector.
//! - Its documentation rules out insertion during a search. Insertion needs `&mut`, so it cannot happen.
//! - Crowds of near-duplicates make it lose points, those of others too.
//! - It copies the numbers: a point holds its code and four bytes behind it for the scale.

use hnsw_rs::{anndists::dist::Distance, hnsw::Hnsw};

use super::{Near, Points, Shape, Walked, in_parallel};
use crate::rows::{
    codes::{Code, Codes, Term, similarity_of_codes},
    kernel::Kernel,
};

/// hnsw_rs ends the process above 256 links, and keeps the number in a byte.
const LINKS_MAX: usize = 255;
/// As many layers as hnsw_rs knows; fewer cannot be written and read again.
const LAYERS: usize = 16;
/// A scale behind a code.
const SCALE_BYTES: usize = size_of::<f32>();

pub(super) struct HnswRs {
    points: Hnsw<'static, i8, Angle>,
    /// The codes, shared with the space: for points that look for themselves, and what each code lost.
    codes: Codes,
}

impl HnswRs {
    pub(super) fn build(codes: &Codes, shape: Shape, threads: usize) -> Self {
        let links = shape.links.clamp(2, LINKS_MAX);
        let angle = Angle(Kernel::fastest());
        let points = Hnsw::new(links, codes.len(), LAYERS, shape.build_width, angle);
        let insert = |row: usize| points.insert_slice((&with_scale(codes.code(row)), row));
        // The first point alone: others insert themselves relative to it.
        in_parallel(1, 0..codes.len().min(1), insert);
        in_parallel(threads, 1..codes.len(), insert);
        Self { points, codes: codes.clone() }
    }

    fn near(&self, code: Code<'_>, width: usize) -> Vec<Near> {
        let found = self.points.search(&with_scale(code), width, width);
        let near = |point: usize, distance: f32| {
            let lost = self.codes.code(point).term.error;
            // What either lost, against the other with what it lost; and rounding.
            let error = code.term.error + lost + code.term.error * lost + 1e-5;
            Near { point, similarity: 1.0 - distance, error }
        };
        found.iter().map(|neighbour| near(neighbour.d_id, neighbour.distance)).collect()
    }
}

impl Points for HnswRs {
    fn nearest(&self, probe: &[f32], width: usize) -> Walked {
        let mut alone = Codes::new(probe.len());
        alone.push(probe);
        Walked::new(self.near(alone.code(0), width))
    }

    fn finds(&self, point: usize, width: usize) -> bool {
        self.near(self.codes.code(point), width).iter().any(|near| near.point == point)
    }

    fn insert(&mut self, values: &[f32]) {
        let point = self.codes.len();
        self.codes.push(values);
        self.points.insert_slice((&with_scale(self.codes.code(point)), point));
    }

    fn codes(&self) -> &Codes {
        &self.codes
    }

    /// Estimated: a point is a list of its numbers and one for each layer, a link a counted pointer to what it leads to
    /// and how far that is.
    fn bytes(&self) -> usize {
        const LINK_BYTES: usize = 56;
        const LIST_BYTES: usize = 24;
        let links = 2 * usize::from(self.points.get_max_nb_connection());
        let point = self.codes.stride() + SCALE_BYTES + (LAYERS + 1) * LIST_BYTES + links * LINK_BYTES;
        self.codes.len() * point
    }
}

/// One minus the cosine, 0 to 2. The clamp keeps it from going below zero, which hnsw_rs answers with a panic.
struct Angle(Kernel);

impl Distance<i8> for Angle {
    fn eval(&self, one: &[i8], other: &[i8]) -> f32 {
        1.0 - similarity_of_codes(self.0, without_scale(one), without_scale(other)).clamp(-1.0, 1.0)
    }
}

fn with_scale(code: Code<'_>) -> Vec<i8> {
    let scale = code.term.scale.to_ne_bytes().map(u8::cast_signed);
    [code.numbers, &scale].concat()
}

fn without_scale(point: &[i8]) -> Code<'_> {
    let (numbers, scale) = point.split_last_chunk::<SCALE_BYTES>().expect("points are made by `with_scale`");
    let scale = f32::from_ne_bytes(scale.map(i8::cast_unsigned));
    Code { numbers, term: Term { scale, error: 0.0 } }
}

//! Relations: normalised measurements of a probe against a gallery, with the same meaning in every embedding space.
//!
//! A cosine threshold is valid for one encoder, one camera and one gallery size. The relation of a cosine to the
//! similarities within the gallery does not depend on them: the distribution of non-mated similarities, each template's
//! highest non-mated similarity, and its similarity to other templates of its identity. Relations contain no embedding,
//! so one network serves all encoders.
//!
//! The task follows Basoc et al. 2025 (arXiv 2505.02815): decide between enrolled and new from a probe and the gallery
//! templates near it. Relations as input instead of embeddings are our design.

mod measured;
mod summary;
#[cfg(test)]
mod tests;

pub use measured::{GalleryTrials, MeasuredGallery, OpenSetTrial, ProbeMeasurement, Scores, best_threshold};
pub use summary::{SUMMARY, SUMMARY_NAMES};

pub use domain::{GalleryStatistics, Neighbour, OwnCosines, Spread};

/// Maximum number of neighbours: the templates most similar to the probe.
pub const NEIGHBOURS_MAX: usize = 16;
/// Number of values per neighbour.
pub const ITEM: usize = 11;
/// Number of values for the gallery.
pub const GLOBALS: usize = 12;

/// Input of a learned decision: finite values of magnitude about one, for any gallery.
#[derive(Debug, Clone, PartialEq)]
pub struct Relations {
    /// One row per neighbour, most similar first, at most [`NEIGHBOURS_MAX`].
    pub(super) items: Vec<[f32; ITEM]>,
    pub(super) globals: [f32; GLOBALS],
    pub(super) summary: [f32; SUMMARY],
}

/// Minimum standard deviation: two templates with equal cosines say nothing about the spread of others.
const DEVIATION_MIN: f32 = 0.005;
/// Limit of the absolute value.
const LARGEST: f32 = 8.0;

impl Relations {
    /// From the probe's most similar templates in any order, and the statistics of the gallery. Only the
    /// [`NEIGHBOURS_MAX`] most similar are used.
    #[must_use]
    pub fn new(neighbours: &[Neighbour], surroundings: &GalleryStatistics) -> Self {
        let mut nearest = neighbours.to_vec();
        nearest.sort_by(nearer_first);
        nearest.truncate(NEIGHBOURS_MAX);
        let items = nearest.iter().map(|neighbour| item(neighbour, &nearest[0], surroundings)).collect();
        let summary = summary::summary(&nearest, surroundings);
        Self { items, globals: globals(surroundings), summary }
    }

    /// Whether the gallery is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// One row per neighbour, most similar first.
    #[must_use]
    pub fn items(&self) -> &[[f32; ITEM]] {
        &self.items
    }

    #[must_use]
    pub fn globals(&self) -> &[f32; GLOBALS] {
        &self.globals
    }

    /// Input of the logistic regression; [`SUMMARY_NAMES`] names the values.
    #[must_use]
    pub fn summary(&self) -> &[f32; SUMMARY] {
        &self.summary
    }
}

/// Total order by all values of a neighbour, so that the input order never matters. Neighbours that compare equal have
/// equal values.
fn nearer_first(one: &Neighbour, other: &Neighbour) -> std::cmp::Ordering {
    let rank = |n: &Neighbour| {
        let own = n.own.map_or([-2.0; 2], |own| [own.nearest, own.mean]);
        let others = n.others.map_or([-2.0; 2], |others| [others.mean, others.deviation]);
        [n.cosine, n.centroid, n.nearest_impostor.unwrap_or(-2.0), own[0], own[1], others[0], others[1]]
    };
    let (one_rank, other_rank) = (rank(one), rank(other));
    let unequal = one_rank.iter().zip(&other_rank).map(|(one, other)| other.total_cmp(one)).find(|order| order.is_ne());
    let rest = |n: &Neighbour| (n.identity, n.identity_templates);
    unequal.unwrap_or_else(|| rest(one).cmp(&rest(other)))
}

fn item(neighbour: &Neighbour, best: &Neighbour, surroundings: &GalleryStatistics) -> [f32; ITEM] {
    let cosine = neighbour.cosine;
    let above = |other: Option<f32>| other.map_or(0.0, |other| cosine - other);
    [
        cosine,
        normalised(cosine, surroundings.impostor),
        above(neighbour.nearest_impostor),
        above(neighbour.own.map(|own| own.nearest)),
        above(neighbour.own.map(|own| own.mean)),
        flag(neighbour.own.is_some()),
        neighbour.centroid,
        normalised(cosine, neighbour.others),
        flag(neighbour.identity == best.identity),
        logarithm(neighbour.identity_templates.into()) / 3.0,
        cosine - best.cosine,
    ]
    .map(limited)
}

fn globals(surroundings: &GalleryStatistics) -> [f32; GLOBALS] {
    let GalleryStatistics { templates, identities, impostor, genuine, nearest_impostors, probe } = *surroundings;
    let unknown = Spread { mean: 0.0, deviation: 0.0 };
    let (nonmated, mated) = (impostor.unwrap_or(unknown), genuine.unwrap_or(unknown));
    let [middle, high, highest] = nearest_impostors.unwrap_or_default();
    // Standard deviations of cosines are small; the factor 4 brings them to the magnitude of the other values.
    [
        logarithm(templates) / 4.0,
        logarithm(identities) / 4.0,
        nonmated.mean,
        4.0 * nonmated.deviation,
        mated.mean,
        4.0 * mated.deviation,
        flag(genuine.is_some()),
        middle,
        high,
        highest,
        probe.mean,
        4.0 * probe.deviation,
    ]
    .map(limited)
}

/// (cosine - mean) / (4 standard deviations); 0 when the distribution is unknown.
fn normalised(cosine: f32, spread: Option<Spread>) -> f32 {
    spread.map_or(0.0, |Spread { mean, deviation }| (cosine - mean) / (4.0 * deviation.max(DEVIATION_MIN)))
}

fn flag(holds: bool) -> f32 {
    f32::from(u8::from(holds))
}

#[expect(clippy::cast_precision_loss, reason = "a logarithm needs no more")]
fn logarithm(count: u64) -> f32 {
    (count.max(1) as f32).ln()
}

/// Limits the value; 0 when it is not finite.
fn limited(number: f32) -> f32 {
    if number.is_finite() { number.clamp(-LARGEST, LARGEST) } else { 0.0 }
}

//! What a gallery says of a probe, in numbers that mean the same in every embedding space.
//!
//! A threshold on a cosine is good for one encoder, one camera and one size of gallery. How a cosine stands to what the
//! gallery's own templates have among each other does not depend on them: how far strangers are from each other here,
//! how near a template's nearest stranger is, how near its own person's other templates are. Relations are made of these;
//! no embedding goes into them, so one network reads those of any encoder.
//!
//! The design follows the task of Basoc et al. 2025 (arXiv 2505.02815), which decides between enrolled and new from a
//! probe and the gallery's templates around it; that it reads relations instead of embeddings is ours.

mod measured;
mod summary;
#[cfg(test)]
mod tests;

pub use measured::{Look, Measured, Scores, Trial, Trials, best_threshold};
pub use summary::{SUMMARY, SUMMARY_NAMES};

pub use domain::{GalleryStatistics, Neighbour, OwnCosines, Spread};

/// The most neighbours that are looked at: the probe's most similar templates.
pub const NEIGHBOURS_MAX: usize = 16;
/// Numbers that are told of each neighbour.
pub const ITEM: usize = 11;
/// Numbers that are told of the gallery.
pub const GLOBALS: usize = 12;

/// What a decision is made from: finite numbers of a size around one, whatever the gallery.
#[derive(Debug, Clone, PartialEq)]
pub struct Relations {
    /// One for each neighbour, the most similar first, at most [`NEIGHBOURS_MAX`].
    pub(super) items: Vec<[f32; ITEM]>,
    pub(super) globals: [f32; GLOBALS],
    pub(super) summary: [f32; SUMMARY],
}

/// A spread narrower than this is taken as this wide: two templates that happen to agree say nothing about how much
/// others will.
const DEVIATION_MIN: f32 = 0.005;
/// Numbers beyond this tell no more than this one.
const LARGEST: f32 = 8.0;

impl Relations {
    /// Of the probe's most similar templates, in any order, and what surrounds them. More than [`NEIGHBOURS_MAX`] are
    /// trimmed to the most similar.
    #[must_use]
    pub fn new(neighbours: &[Neighbour], surroundings: &GalleryStatistics) -> Self {
        let mut nearest = neighbours.to_vec();
        nearest.sort_by(nearer_first);
        nearest.truncate(NEIGHBOURS_MAX);
        let items = nearest.iter().map(|neighbour| item(neighbour, &nearest[0], surroundings)).collect();
        let summary = summary::summary(&nearest, surroundings);
        Self { items, globals: globals(surroundings), summary }
    }

    /// Whether there is nobody whom the probe could be.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// One row for each neighbour, the most similar first.
    #[must_use]
    pub fn items(&self) -> &[[f32; ITEM]] {
        &self.items
    }

    #[must_use]
    pub fn globals(&self) -> &[f32; GLOBALS] {
        &self.globals
    }

    /// What the logistic regression reads; [`SUMMARY_NAMES`] says what each is.
    #[must_use]
    pub fn summary(&self) -> &[f32; SUMMARY] {
        &self.summary
    }
}

/// By everything that is known of them, so that the order in which neighbours were found never matters. What cannot be
/// compared by its numbers alone is alike in all that is told of it.
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
        standing(cosine, surroundings.impostor),
        above(neighbour.nearest_impostor),
        above(neighbour.own.map(|own| own.nearest)),
        above(neighbour.own.map(|own| own.mean)),
        flag(neighbour.own.is_some()),
        neighbour.centroid,
        standing(cosine, neighbour.others),
        flag(neighbour.identity == best.identity),
        logarithm(neighbour.identity_templates.into()) / 3.0,
        cosine - best.cosine,
    ]
    .map(tame)
}

fn globals(surroundings: &GalleryStatistics) -> [f32; GLOBALS] {
    let GalleryStatistics { templates, identities, impostor, genuine, nearest_impostors, probe } = *surroundings;
    let nothing = Spread { mean: 0.0, deviation: 0.0 };
    let (strangers, own) = (impostor.unwrap_or(nothing), genuine.unwrap_or(nothing));
    let [middle, high, highest] = nearest_impostors.unwrap_or_default();
    // Deviations of cosines are small; four times as large they weigh as much as the rest.
    [
        logarithm(templates) / 4.0,
        logarithm(identities) / 4.0,
        strangers.mean,
        4.0 * strangers.deviation,
        own.mean,
        4.0 * own.deviation,
        flag(genuine.is_some()),
        middle,
        high,
        highest,
        probe.mean,
        4.0 * probe.deviation,
    ]
    .map(tame)
}

/// How many times four deviations a cosine lies above the mean; 0 where nothing is known.
fn standing(cosine: f32, spread: Option<Spread>) -> f32 {
    spread.map_or(0.0, |Spread { mean, deviation }| (cosine - mean) / (4.0 * deviation.max(DEVIATION_MIN)))
}

fn flag(holds: bool) -> f32 {
    f32::from(u8::from(holds))
}

#[expect(clippy::cast_precision_loss, reason = "a logarithm needs no more")]
fn logarithm(count: u64) -> f32 {
    (count.max(1) as f32).ln()
}

/// Finite, whatever went in.
fn tame(number: f32) -> f32 {
    if number.is_finite() { number.clamp(-LARGEST, LARGEST) } else { 0.0 }
}

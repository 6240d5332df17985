//! Summary of relations: few named values, for models that can be interpreted.

use super::{GalleryStatistics, NEIGHBOURS_MAX, Neighbour, flag, limited, logarithm, normalised};

/// Number of values in a summary.
pub const SUMMARY: usize = 18;

/// Names of the values. "best" is the neighbour most similar to the probe, and its identity.
pub const SUMMARY_NAMES: [&str; SUMMARY] = [
    "best_cosine",
    "best_above_impostors_in_4_deviations",
    "best_z_norm_in_4_deviations",
    "best_t_norm_in_4_deviations",
    "best_minus_its_nearest_impostor",
    "best_minus_its_nearest_own",
    "best_minus_its_mean_own",
    "best_has_own",
    "centroid_cosine",
    "centroid_minus_other_identity",
    "best_minus_other_identity",
    "best_minus_median_nearest_impostor",
    "best_minus_q90_nearest_impostor",
    "best_minus_highest_nearest_impostor",
    "share_of_its_templates_near",
    "log_templates_of_best_by_3",
    "log_identities_by_4",
    "best_minus_genuine_mean",
];

/// `nearest` are sorted by falling similarity.
pub(super) fn summary(nearest: &[Neighbour], surroundings: &GalleryStatistics) -> [f32; SUMMARY] {
    let Some(best) = nearest.first() else {
        return [0.0; SUMMARY];
    };
    let (own, others): (Vec<&Neighbour>, Vec<&Neighbour>) = nearest.iter().partition(|n| n.identity == best.identity);
    let above = |other: Option<f32>| other.map_or(0.0, |other| best.cosine - other);
    // When all neighbours belong to one identity, other identities are at most as similar as the last neighbour.
    let runner_up = others.first().copied().or(nearest.last()).map(|n| n.cosine);
    let highest = |of: &[&Neighbour]| of.iter().map(|n| n.centroid).max_by(f32::total_cmp);
    let centroid = highest(&own).unwrap_or(best.cosine);
    let centroid_other = highest(&others).unwrap_or(surroundings.probe.mean);
    let quantile = |which: usize| surroundings.nearest_impostors.map(|quantiles| quantiles[which]);
    let reachable = (best.identity_templates as usize).clamp(1, NEIGHBOURS_MAX);
    [
        best.cosine,
        normalised(best.cosine, surroundings.impostor),
        normalised(best.cosine, best.others),
        normalised(best.cosine, Some(surroundings.probe)),
        above(best.nearest_impostor),
        above(best.own.map(|own| own.nearest)),
        above(best.own.map(|own| own.mean)),
        flag(best.own.is_some()),
        centroid,
        centroid - centroid_other,
        above(runner_up),
        above(quantile(0)),
        above(quantile(1)),
        above(quantile(2)),
        own.len() as f32 / reachable as f32,
        logarithm(best.identity_templates.into()) / 3.0,
        logarithm(surroundings.identities) / 4.0,
        above(surroundings.genuine.map(|genuine| genuine.mean)),
    ]
    .map(limited)
}

//! Detection with identification: average precision in which a box is correct only with the right identity.

use serde::Serialize;

use super::RankingOutcome;

/// Minimum intersection over union with the true box.
const OVERLAP_MIN: f64 = 0.5;

/// A box in pixels: `[left, top, right, bottom]`.
pub type BoxCorners = [f64; 4];

/// A person's box in a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedBox {
    pub frame: String,
    pub identity: String,
    pub place: BoxCorners,
}

/// Identity-aware average precision (after FANVID: mAP at an overlap of 0.5 with the right identity).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Detection {
    pub boxes: usize,
    pub detections: usize,
    /// Average precision over all detections.
    pub average_precision: f64,
    /// Mean average precision over persons.
    pub mean_average_precision: f64,
    /// Average precision without identities: the difference is the cost of identification.
    pub without_names: f64,
}

/// Measures scored detections against the true boxes. A detection is correct if it overlaps enough with a box of its
/// frame and identity that no detection with a higher score has taken.
///
/// # Panics
/// When there is no true box, or a score is not finite.
#[must_use]
pub fn detection(there: &[NamedBox], detections: &[(NamedBox, f32)]) -> Detection {
    assert!(!there.is_empty(), "there must be a true box");
    assert!(detections.iter().all(|(_, score)| score.is_finite()), "a score is a finite number");
    let mut people: Vec<&str> = there.iter().map(|seen| &*seen.identity).collect();
    people.sort_unstable();
    people.dedup();
    let of_person = |person: &&str| {
        let there: Vec<&NamedBox> = there.iter().filter(|seen| seen.identity == *person).collect();
        let found: Vec<&(NamedBox, f32)> = detections.iter().filter(|(seen, _)| seen.identity == *person).collect();
        average_precision(&there, &found, |one, other| one.identity == other.identity)
    };
    let (all_there, all_found): (Vec<&NamedBox>, Vec<_>) = (there.iter().collect(), detections.iter().collect());
    Detection {
        boxes: there.len(),
        detections: detections.len(),
        average_precision: average_precision(&all_there, &all_found, |one, other| one.identity == other.identity),
        mean_average_precision: people.iter().map(of_person).sum::<f64>() / people.len() as f64,
        without_names: average_precision(&all_there, &all_found, |_, _| true),
    }
}

/// Average precision: the mean over true boxes of the precision at their detection; zero for undetected boxes.
fn average_precision(
    there: &[&NamedBox],
    detections: &[&(NamedBox, f32)],
    is_same: impl Fn(&NamedBox, &NamedBox) -> bool,
) -> f64 {
    let mut ranked = detections.to_vec();
    ranked.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let mut taken = vec![false; there.len()];
    let mut ranks = Vec::new();
    for (place, (found, _)) in ranked.into_iter().enumerate() {
        let open = there
            .iter()
            .enumerate()
            .filter(|(at, seen)| !taken[*at] && seen.frame == found.frame && is_same(seen, found));
        let best = open.map(|(at, seen)| (overlap(seen.place, found.place), at)).max_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((_, at)) = best.filter(|(overlap, _)| *overlap >= OVERLAP_MIN) {
            taken[at] = true;
            ranks.push(place + 1);
        }
    }
    let found = ranks.len() as f64;
    RankingOutcome::at(&ranks).map_or(0.0, |outcome| outcome.average_precision * found / there.len() as f64)
}

/// Intersection over union; 0 for boxes without area.
fn overlap(one: BoxCorners, other: BoxCorners) -> f64 {
    let area = |[left, top, right, bottom]: BoxCorners| (right - left).max(0.0) * (bottom - top).max(0.0);
    let shared = area([one[0].max(other[0]), one[1].max(other[1]), one[2].min(other[2]), one[3].min(other[3])]);
    let union = area(one) + area(other) - shared;
    if union > 0.0 { shared / union } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(frame: &str, identity: &str, place: BoxCorners) -> NamedBox {
        NamedBox { frame: frame.to_owned(), identity: identity.to_owned(), place }
    }

    #[test]
    fn overlaps_by_hand() {
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} is not {b}");
        close(overlap([0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 10.0]), 1.0);
        close(overlap([0.0, 0.0, 10.0, 10.0], [5.0, 0.0, 15.0, 10.0]), 1.0 / 3.0);
        close(overlap([0.0, 0.0, 10.0, 10.0], [10.0, 0.0, 20.0, 10.0]), 0.0);
        close(overlap([0.0; 4], [0.0; 4]), 0.0);
    }

    #[test]
    fn a_box_counts_once_and_with_its_identity() {
        let whole = [0.0, 0.0, 10.0, 10.0];
        let there = [seen("1", "ann", whole), seen("1", "bob", [50.0, 0.0, 60.0, 10.0]), seen("2", "ann", whole)];
        let detections = [
            (seen("1", "ann", [1.0, 0.0, 10.0, 10.0]), 0.9),  // right
            (seen("1", "ann", whole), 0.8),                   // a second time
            (seen("1", "ann", [50.0, 0.0, 60.0, 10.0]), 0.7), // there, and it is bob
            (seen("2", "ann", [0.0, 0.0, 10.0, 6.0]), 0.6),   // right
            (seen("3", "ann", whole), 0.5),                   // a frame without a person
        ];
        let found = detection(&there, &detections);
        // Correct at ranks one and four, of three true boxes: (1 + 2/4) / 3.
        assert!((found.average_precision - 0.5).abs() < 1e-12, "{found:?}");
        // Ann: (1 + 2/4) / 2; bob was never identified.
        assert!((found.mean_average_precision - 0.375).abs() < 1e-12, "{found:?}");
        // Without identities the third is correct, too: (1 + 2/3 + 3/4) / 3.
        assert!((found.without_names - (1.0 + 2.0 / 3.0 + 0.75) / 3.0).abs() < 1e-12, "{found:?}");
        assert!(detection(&there, &[]).average_precision == 0.0);
    }
}

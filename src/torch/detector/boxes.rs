//! Boxes: proposals, shifts, and non-maximum suppression.

/// A region of the picture's plane in pixels: pixel 0 covers 0 to 1. It may exceed the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Region {
    pub(super) left: f32,
    pub(super) top: f32,
    pub(super) right: f32,
    pub(super) bottom: f32,
}

impl Region {
    pub(super) fn width(&self) -> f32 {
        self.right - self.left
    }

    pub(super) fn height(&self) -> f32 {
        self.bottom - self.top
    }

    /// Moves left, top, right and bottom by shares of width and height.
    pub(super) fn shifted(&self, [left, top, right, bottom]: [f32; 4]) -> Self {
        let (width, height) = (self.width(), self.height());
        Self {
            left: self.left + left * width,
            top: self.top + top * height,
            right: self.right + right * width,
            bottom: self.bottom + bottom * height,
        }
    }

    /// The square with the same centre and the longer of both sides.
    pub(super) fn squared(&self) -> Self {
        let half = self.width().max(self.height()) / 2.0;
        let (x, y) = (f32::midpoint(self.left, self.right), f32::midpoint(self.top, self.bottom));
        Self { left: x - half, top: y - half, right: x + half, bottom: y + half }
    }

    /// Whether the box has an area, overlaps a picture of `sides`, and is not too large for a face in it. Guards
    /// against diverging network outputs.
    pub(super) fn is_within_reason(&self, sides: [usize; 2]) -> bool {
        let [width, height] = sides.map(|side| side as f32);
        let whole = self.width() >= 1.0 && self.height() >= 1.0;
        let shown = self.left < width && self.top < height && self.right > 0.0 && self.bottom > 0.0;
        let longest = 2.0 * width.max(height);
        // Comparisons with NaN are false.
        whole && shown && self.width() <= longest && self.height() <= longest
    }

    fn area(&self) -> f32 {
        self.width() * self.height()
    }

    fn shared(&self, other: &Self) -> f32 {
        let width = self.right.min(other.right) - self.left.max(other.left);
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        width.max(0.0) * height.max(0.0)
    }
}

/// A face candidate with additional outputs of its network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct BoxCandidate<T> {
    pub(super) region: Region,
    /// 0 to 1.
    pub(super) score: f32,
    pub(super) outputs: T,
}

/// The denominator of the overlap of two boxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OverlapMeasure {
    /// Intersection over union.
    Union,
    /// Intersection over the smaller box.
    Smaller,
}

/// Non-maximum suppression: the best candidates whose overlap with every better one is at most `overlap`; at most
/// `kept` of them.
pub(super) fn suppress<T>(
    mut candidates: Vec<BoxCandidate<T>>,
    of: OverlapMeasure,
    overlap: f32,
    kept: usize,
) -> Vec<BoxCandidate<T>> {
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut best: Vec<BoxCandidate<T>> = Vec::new();
    for candidate in candidates {
        if best.len() == kept {
            break;
        }
        if best.iter().all(|better| part(&better.region, &candidate.region, of) <= overlap) {
            best.push(candidate);
        }
    }
    best
}

fn part(a: &Region, b: &Region, of: OverlapMeasure) -> f32 {
    let shared = a.shared(b);
    match of {
        OverlapMeasure::Union => shared / (a.area() + b.area() - shared),
        OverlapMeasure::Smaller => shared / a.area().min(b.area()),
    }
}

/// Keeps the best candidates in bounded memory.
#[derive(Debug)]
pub(super) struct BestCandidates<T> {
    limit: usize,
    candidates: Vec<BoxCandidate<T>>,
}

impl<T> BestCandidates<T> {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, candidates: Vec::new() }
    }

    pub(super) fn push(&mut self, candidate: BoxCandidate<T>) {
        self.candidates.push(candidate);
        if self.candidates.len() >= 2 * self.limit {
            self.cut();
        }
    }

    pub(super) fn into_best(mut self) -> Vec<BoxCandidate<T>> {
        self.cut();
        self.candidates
    }

    fn cut(&mut self) {
        if self.candidates.len() > self.limit {
            self.candidates.select_nth_unstable_by(self.limit, |a, b| b.score.total_cmp(&a.score));
            self.candidates.truncate(self.limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn square(left: f32, top: f32, side: f32) -> Region {
        Region { left, top, right: left + side, bottom: top + side }
    }

    fn candidate(region: Region, score: f32) -> BoxCandidate<()> {
        BoxCandidate { region, score, outputs: () }
    }

    #[test]
    fn the_better_of_two_overlapping_boxes_is_kept() {
        let boxes = vec![
            candidate(square(0.0, 0.0, 10.0), 0.8),
            candidate(square(1.0, 0.0, 10.0), 0.9),
            candidate(square(30.0, 0.0, 10.0), 0.7),
        ];
        let kept = suppress(boxes, OverlapMeasure::Union, 0.5, 9);
        assert_eq!(kept.iter().map(|kept| kept.score).collect::<Vec<_>>(), [0.9, 0.7]);
    }

    #[test]
    fn a_box_within_another_overlaps_by_the_smaller_area() {
        let boxes = || vec![candidate(square(0.0, 0.0, 40.0), 0.9), candidate(square(10.0, 10.0, 10.0), 0.8)];
        assert_eq!(suppress(boxes(), OverlapMeasure::Union, 0.7, 9).len(), 2);
        assert_eq!(suppress(boxes(), OverlapMeasure::Smaller, 0.7, 9).len(), 1);
    }

    #[test]
    fn shifts_are_relative_and_squares_keep_the_centre() {
        let region = Region { left: 10.0, top: 20.0, right: 20.0, bottom: 40.0 };
        let shifted = region.shifted([0.1, -0.1, 0.2, 0.0]);
        assert_eq!(shifted, Region { left: 11.0, top: 18.0, right: 22.0, bottom: 40.0 });
        assert_eq!(region.squared(), Region { left: 5.0, top: 20.0, right: 25.0, bottom: 40.0 });
    }

    #[test]
    fn unreasonable_boxes_are_detected() {
        let sides = [100, 50];
        assert!(square(-20.0, -20.0, 60.0).is_within_reason(sides));
        for region in [
            square(0.0, 0.0, f32::NAN),
            square(f32::NEG_INFINITY, 0.0, 10.0),
            square(0.0, 0.0, 0.5),
            square(0.0, 0.0, -5.0),
            square(0.0, 0.0, 300.0),
            square(100.0, 0.0, 10.0),
            square(0.0, -10.0, 10.0),
        ] {
            assert!(!region.is_within_reason(sides), "{region:?}");
        }
    }

    fn any_candidates() -> impl Strategy<Value = Vec<BoxCandidate<()>>> {
        let any = (0.0_f32..100.0, 0.0_f32..100.0, 1.0_f32..50.0, 0.0_f32..1.0);
        prop::collection::vec(any, 0..60).prop_map(|boxes| {
            boxes.into_iter().map(|(left, top, side, score)| candidate(square(left, top, side), score)).collect()
        })
    }

    proptest! {
        #[test]
        fn kept_boxes_are_sorted_and_do_not_overlap(boxes in any_candidates(), kept in 1_usize..40) {
            let best = suppress(boxes.clone(), OverlapMeasure::Union, 0.3, kept);
            prop_assert!(best.len() <= kept && best.is_empty() == boxes.is_empty());
            for (at, one) in best.iter().enumerate() {
                for better in &best[..at] {
                    prop_assert!(better.score >= one.score);
                    prop_assert!(part(&better.region, &one.region, OverlapMeasure::Union) <= 0.3);
                }
            }
        }

        #[test]
        fn the_best_candidates_are_kept(boxes in any_candidates(), limit in 1_usize..40) {
            let mut list = BestCandidates::new(limit);
            for candidate in &boxes {
                list.push(*candidate);
            }
            let mut found: Vec<f32> = list.into_best().iter().map(|candidate| candidate.score).collect();
            let mut expected: Vec<f32> = boxes.iter().map(|candidate| candidate.score).collect();
            found.sort_by(|a, b| b.total_cmp(a));
            expected.sort_by(|a, b| b.total_cmp(a));
            expected.truncate(limit);
            prop_assert_eq!(found, expected);
        }
    }
}

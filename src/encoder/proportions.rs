//! Body proportions of a walk, measured without a network.
//!
//! A baseline for gait encoders. It ignores motion and depends on the view.

use domain::{Frame, JOINTS, Skeleton};

/// Pairs of joints; left and right together are one length.
const LENGTHS: [[(usize, usize); 2]; 9] = [
    [(5, 7), (6, 8)],
    [(7, 9), (8, 10)],
    [(11, 13), (12, 14)],
    [(13, 15), (14, 16)],
    [(5, 11), (6, 12)],
    [(5, 6), (5, 6)],
    [(11, 12), (11, 12)],
    [(3, 5), (4, 6)],
    [(0, 3), (0, 4)],
];
/// Minimum joint score.
const SCORE_MIN: f32 = 0.4;

/// The median lengths over the frames, each as a share of their sum; all zero if no frame shows them. Compare by
/// distance.
#[must_use]
pub fn proportions(skeleton: &Skeleton) -> [f32; LENGTHS.len()] {
    let medians = LENGTHS.map(|sides| {
        let mut lengths: Vec<f32> = skeleton
            .frames
            .iter()
            .flat_map(|frame| sides.map(|(from, to)| length(frame, from, to)))
            .flatten()
            .collect();
        let middle = lengths.len() / 2;
        if lengths.is_empty() { 0.0 } else { *lengths.select_nth_unstable_by(middle, f32::total_cmp).1 }
    });
    let sum: f32 = medians.iter().sum();
    if sum > 0.0 { medians.map(|length| length / sum) } else { medians }
}

/// The distance of two visible joints as a share of the body's height in the frame, so that it is independent of scale.
fn length(frame: &Frame, from: usize, to: usize) -> Option<f32> {
    let [from, to] = [frame.joints[from], frame.joints[to]];
    let seen = || frame.joints.iter().filter(|joint| joint.score >= SCORE_MIN);
    let (high, low) = seen().fold((f32::MAX, f32::MIN), |(high, low), joint| (high.min(joint.y), low.max(joint.y)));
    let whole = seen().count() * 2 > JOINTS && low > high;
    (whole && from.score.min(to.score) >= SCORE_MIN).then(|| (from.x - to.x).hypot(from.y - to.y) / (low - high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::Joint;

    fn standing(size: f32, score: f32) -> Skeleton {
        let joint = |number: usize| Joint { x: size * (number % 2) as f32, y: size * number as f32, score };
        vec![Frame { joints: std::array::from_fn(joint) }; 3].into()
    }

    #[test]
    fn size_does_not_matter_and_shape_does() {
        let one = proportions(&standing(1.0, 0.9));
        let large = proportions(&standing(7.0, 0.9));
        assert!((one.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        assert!(one.iter().zip(large).all(|(one, other)| (one - other).abs() < 1e-5));
        let mut long = standing(1.0, 0.9);
        long.frames.iter_mut().for_each(|frame| frame.joints[15].y += 4.0);
        assert!(proportions(&long)[3] > one[3]);
    }

    #[test]
    fn joints_with_low_scores_give_no_proportions() {
        assert!(proportions(&standing(1.0, 0.1)).iter().all(|share| *share == 0.0));
        assert!(proportions(&Vec::new().into()).iter().all(|share| *share == 0.0));
    }
}

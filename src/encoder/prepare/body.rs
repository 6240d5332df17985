//! Whether joints are a walking body: their order, the direction of y, and movement.

use super::{skeleton::SkeletonError, unseen::Course};
use domain::{Frame, JOINTS, Joint};

/// Joints from head to foot, in COCO order.
const LEVELS: [std::ops::Range<usize>; 5] = [0..5, 5..7, 11..13, 13..15, 15..17];
/// The same levels in Human3.6M's order, which has 17 joints too.
const LEVELS_H36M: [&[usize]; 5] = [&[9, 10], &[11, 14], &[1, 4], &[2, 5], &[3, 6]];
/// Lowest movement of the joints relative to the body, as a share of its height. A person who stands still has about one
/// per cent, by the errors of the pose estimator.
const MOVEMENT_MIN: f32 = 1e-3;

/// # Errors
///
/// [`SkeletonError::UpsideDown`], [`SkeletonError::OtherOrder`], [`SkeletonError::Still`].
pub(super) fn check(frames: &[Frame], height: f32) -> Result<(), SkeletonError> {
    let heights: [Option<f32>; JOINTS] = std::array::from_fn(|joint| mean_y(frames, joint));
    let levels = LEVELS.map(|joints| mean(joints.filter_map(|joint| heights[joint])));
    if !descends(&levels) {
        let reversed = levels.iter().rev().copied().collect::<Vec<_>>();
        let h36m = LEVELS_H36M.map(|joints| mean(joints.iter().filter_map(|joint| heights[*joint])));
        return Err(if descends(&reversed) {
            SkeletonError::UpsideDown
        } else if descends(&h36m) {
            SkeletonError::OtherOrder { hint: "; they look like Human3.6M's, so say pose.layout=h36m_17" }
        } else {
            SkeletonError::OtherOrder { hint: "" }
        });
    }
    if movement(frames) < MOVEMENT_MIN * height {
        return Err(SkeletonError::Still { frames: frames.len() });
    }
    Ok(())
}

fn mean_y(frames: &[Frame], joint: usize) -> Option<f32> {
    mean(frames.iter().map(|frame| frame.joints[joint]).filter(Joint::is_seen).map(|joint| joint.y))
}

fn mean(numbers: impl Iterator<Item = f32>) -> Option<f32> {
    let (sum, count) = numbers.fold((0.0, 0.0_f32), |(sum, count), number| (sum + number, count + 1.0));
    (count > 0.0).then(|| sum / count)
}

/// Whether each level lies below the ones before it; levels that nothing shows are passed over.
fn descends(levels: &[Option<f32>]) -> bool {
    let seen: Vec<f32> = levels.iter().copied().flatten().collect();
    seen.windows(2).all(|pair| pair[0] < pair[1])
}

/// Root mean square of the joints' movement relative to the body, in pixels.
fn movement(frames: &[Frame]) -> f32 {
    let course = Course::of(frames);
    let remainders = frames.iter().enumerate().flat_map(|(at, frame)| {
        let course = &course;
        frame.joints.iter().enumerate().filter_map(move |(number, joint)| course.remainder(number, at, *joint))
    });
    mean(remainders.map(|[x, y]| x * x + y * y)).unwrap_or_default().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Joints at the heights of a standing person, with ankles that swing.
    fn walk(order: impl Fn(usize) -> usize) -> Vec<Frame> {
        const HEIGHTS: [f32; JOINTS] =
            [8.0, 5.0, 5.0, 7.0, 7.0, 25.0, 25.0, 42.0, 42.0, 57.0, 57.0, 60.0, 60.0, 82.0, 82.0, 104.0, 104.0];
        let frame = |frame: u16| {
            let swing = (f32::from(frame) / 3.0).sin() * 10.0;
            let joint = |number: usize| Joint {
                x: 50.0 + f32::from(frame) + if number > 12 { swing } else { 0.0 },
                y: HEIGHTS[number],
                score: 0.9,
            };
            Frame { joints: std::array::from_fn(|number| joint(order(number))) }
        };
        (0..40).map(frame).collect()
    }

    #[test]
    fn a_walk_passes() {
        assert_eq!(check(&walk(|joint| joint), 99.0), Ok(()));
    }

    #[test]
    fn y_that_grows_upwards_is_said() {
        let mut frames = walk(|joint| joint);
        frames.iter_mut().flat_map(|frame| &mut frame.joints).for_each(|joint| joint.y = 500.0 - joint.y);
        assert_eq!(check(&frames, 99.0), Err(SkeletonError::UpsideDown));
    }

    #[test]
    fn seventeen_joints_in_another_order_are_no_coco_body() {
        const FROM_H36M: [usize; JOINTS] = [11, 12, 14, 16, 11, 13, 15, 5, 5, 0, 1, 5, 7, 9, 6, 8, 10];
        let refused = check(&walk(|joint| FROM_H36M[joint]), 99.0).expect_err("Human3.6M");
        assert!(refused.to_string().contains("h36m_17"), "{refused}");
        let refused = check(&walk(|joint| (5 * joint + 3) % JOINTS), 99.0).expect_err("no order");
        assert!(matches!(refused, SkeletonError::OtherOrder { hint: "" }), "{refused}");
    }

    #[test]
    fn one_pose_repeated_is_no_walk() {
        let frame = walk(|joint| joint)[0];
        assert_eq!(check(&[frame; 60], 99.0), Err(SkeletonError::Still { frames: 60 }));
    }
}

use proptest::prelude::*;

use super::{gait::WalkInstance, *};

/// Rigid bones: shoulders, hips, arms, legs and head.
const BONES: [(usize, usize); 13] =
    [(5, 6), (11, 12), (5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16), (1, 2), (3, 4), (0, 1)];
/// Allowed change of the face's bones in metres: the line between the ears tilts and the nod ignores that, which
/// distorts a nodding face by some tenths of a millimetre. It stays, because gait-walker was trained on these walks.
const FACE_GIVES: f32 = 1e-3;
const CONDITIONS: [Condition; 4] = [Condition::Normal, Condition::Bag, Condition::Coat, Condition::Phone];

fn walk(seed: u64, condition: Condition) -> WalkInstance {
    let mut random = Random::new(seed, 0);
    let person = Walker::drawn(&mut random);
    WalkInstance::drawn(&person, condition, &mut random)
}

fn length(pose: &Pose, (from, to): (usize, usize)) -> f32 {
    (0..3).map(|axis| (pose[from][axis] - pose[to][axis]).powi(2)).sum::<f32>().sqrt()
}

fn watched(seed: u64, condition: Condition) -> Skeleton {
    let mut random = Random::new(seed, 0);
    let person = Walker::drawn(&mut random);
    let site = WalkSite::drawn(&mut random, 1);
    let walk = WalkSetup { camera: 0, condition, direction: Direction::Forth, frames: 50 };
    site.record(&person, walk, &mut random)
}

/// Mean distance of the wrists from their mean position relative to the shoulders, in metres.
fn arm_motion(walk: &WalkInstance) -> f32 {
    let forward: Vec<[f32; 2]> = (0..60)
        .map(|frame| walk.pose(0.05 * frame as f32, 0.0))
        .map(|pose| [pose[9][0] - pose[5][0], pose[10][0] - pose[6][0]])
        .collect();
    let spread = |side: usize| {
        let mean = forward.iter().map(|pair| pair[side]).sum::<f32>() / 60.0;
        (forward.iter().map(|pair| (pair[side] - mean).powi(2)).sum::<f32>() / 60.0).sqrt()
    };
    spread(0).min(spread(1))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn bones_keep_their_length(seed: u64, condition in prop::sample::select(&CONDITIONS), seconds in 0.0_f32..8.0) {
        let walk = walk(seed, condition);
        let (one, other) = (walk.pose(0.0, 0.0), walk.pose(seconds, 3.0));
        for bone in BONES {
            let (before, after) = (length(&one, bone), length(&other, bone));
            let give = if bone == (0, 1) { FACE_GIVES } else { 1e-4 };
            prop_assert!((before - after).abs() < give, "{:?} {} {}", bone, before, after);
        }
    }

    /// With left and right exchanged and half a stride later, a walk is its mirror image.
    #[test]
    fn the_mirror_image_of_a_walk_is_a_walk(seed: u64, condition in prop::sample::select(&CONDITIONS), seconds in 0.0_f32..4.0) {
        let walk = walk(seed, condition);
        let (seen, mirrored) = (walk.looks(seconds, 1.0), walk.mirrored().looks(seconds, 1.0));
        for (joint, place) in mirrored.iter().enumerate() {
            let twin = if joint == 0 { 0 } else { ((joint - 1) ^ 1) + 1 };
            let expected = [seen[twin][0], -seen[twin][1], seen[twin][2]];
            for axis in 0..3 {
                prop_assert!((place[axis] - expected[axis]).abs() < 1e-3, "{} {:?} {:?}", joint, place, expected);
            }
        }
    }

    #[test]
    fn every_estimate_is_a_valid_skeleton(seed: u64, condition in prop::sample::select(&CONDITIONS)) {
        let skeleton = watched(seed, condition);
        prop_assert!((1..=50).contains(&skeleton.frames.len()));
        for joint in skeleton.frames.iter().flat_map(|frame| frame.joints) {
            prop_assert!(joint.x.abs() < 1e5 && joint.y.abs() < 1e5 && (0.0..=1.0).contains(&joint.score));
        }
    }

    #[test]
    fn the_seed_determines_a_walk(seed: u64) {
        prop_assert_eq!(watched(seed, Condition::Normal), watched(seed, Condition::Normal));
        prop_assert_ne!(watched(seed, Condition::Normal), watched(seed.wrapping_add(1), Condition::Normal));
    }

    #[test]
    fn walkers_are_upright_and_take_steps(seed: u64) {
        let walk = walk(seed, Condition::Normal);
        prop_assert!((0.5..2.5).contains(&walk.speed()), "{}", walk.speed());
        let pose = walk.pose(0.3, 0.0);
        let height = |joint: usize| pose[joint][2];
        prop_assert!(height(0) > height(5) && height(5) > height(11) && height(11) > height(13));
        prop_assert!(height(15) > -0.2 && height(0) < 2.4);
    }
}

#[test]
fn loads_change_the_walk() {
    let mean = |condition: Condition| (0..40).map(|seed| arm_motion(&walk(seed, condition))).sum::<f32>() / 40.0;
    let normal = mean(Condition::Normal);
    assert!(mean(Condition::Bag) < 0.75 * normal && mean(Condition::Phone) < 0.6 * normal);
    let broader = (0..40).map(|seed| {
        let width = |condition: Condition| length(&walk(seed, condition).pose(0.0, 0.0), (11, 12));
        width(Condition::Coat) / width(Condition::Normal)
    });
    assert!(broader.sum::<f32>() / 40.0 > 1.04);
}

#[test]
fn cameras_project_by_perspective() {
    let walk = walk(3, Condition::Normal);
    let pose = walk.pose(0.0, 0.0);
    let face = Camera::level(0.0).see(&pose);
    // A person who walks towards the camera has the left shoulder on the picture's right, and the nose in front of the
    // ears.
    assert!(face.joints[5].place[0] > face.joints[6].place[0] + 50.0);
    assert!(face.joints[0].behind < face.joints[3].behind);
    let back = Camera::level(180.0).see(&pose);
    assert!(back.joints[5].place[0] < back.joints[6].place[0] - 50.0);
    let left_side = Camera::level(90.0).see(&pose);
    assert!(left_side.joints[5].behind < left_side.joints[6].behind);
    assert!(left_side.joints[0].place[1] < left_side.joints[15].place[1], "the picture's y grows downward");
    let far = Camera { distance_m: 12.0, ..Camera::level(90.0) }.see(&pose);
    let tall = |view: &camera::View| view.joints[15].place[1] - view.joints[0].place[1];
    assert!((tall(&left_side) / tall(&far) - 2.0).abs() < 0.1, "twice as far is half as tall");
}

#[test]
fn a_better_estimator_has_smaller_errors() {
    let error = |estimator: Estimator| {
        let mut random = Random::new(8, 0);
        let person = Walker::drawn(&mut random);
        let walk = WalkInstance::drawn(&person, Condition::Normal, &mut random);
        let views: Vec<_> =
            (0..40).map(|frame| Camera::level(90.0).see(&walk.pose(0.04 * frame as f32, 0.0))).collect();
        let estimated = estimator.estimate(&views, Condition::Normal, &mut random);
        let off =
            estimated.frames.iter().zip(&views).flat_map(|(frame, view)| {
                let scale = view.scale;
                frame.joints.iter().zip(view.joints).map(move |(estimated, seen)| {
                    (estimated.x - seen.place[0]).hypot(estimated.y - seen.place[1]) / scale
                })
            });
        off.sum::<f32>() / 40.0 / 17.0
    };
    let usual = Estimator { losses: 0.0, ..Estimator::usual() };
    let perfect = Estimator {
        bias_m: 0.0,
        wander_m: 0.0,
        jitter_m: 0.0,
        grid_m: 1e-4,
        doubt: 0.0,
        score_spread: 0.0,
        swaps: 0.0,
        strays: 0.0,
        losses: 0.0,
        cut_walks: 0.0,
    };
    assert!(error(perfect) < 1e-3);
    assert!((0.01..0.12).contains(&error(usual)), "{}", error(usual));
}

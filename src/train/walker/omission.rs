//! Joints that a pose estimator leaves out: those below its threshold, single ones, runs of frames, and a joint of the
//! far side that a whole walk never shows.

use super::super::random::Random;
use domain::{Joint, Skeleton};

/// Share of walks with omitted joints.
const WALKS_WITH_OMISSIONS: f32 = 0.35;
/// Hips, knees and ankles: they are seen in at least this share of the frames, or a walk is refused.
const LEGS: std::ops::Range<usize> = 11..17;
const LEG_SEEN_MIN: f32 = 0.5;
/// Face and arms, and their share of walks that never show one of them.
const NEVER_SEEN: u32 = 11;
const NEVER_SEEN_SHARE: f32 = 0.2;
const RUN_FRAMES: [f32; 2] = [3.0, 20.0];

/// Omits joints of some walks, each in one way or several.
pub(crate) fn omit(walk: &mut Skeleton, random: &mut Random) {
    if !random.chance(WALKS_WITH_OMISSIONS) {
        return;
    }
    let whole = walk.clone();
    if random.chance(0.5) {
        below_threshold(walk, random.between(0.1, 0.6));
    }
    if random.chance(0.5) {
        singly(walk, random.between(0.0, 0.25), random);
    }
    if random.chance(0.3) {
        in_runs(walk, random);
    }
    if random.chance(NEVER_SEEN_SHARE) {
        let joint = random.below(NEVER_SEEN) as usize;
        walk.frames.iter_mut().for_each(|frame| frame.joints[joint] = Joint::UNSEEN);
    }
    restore_legs(walk, &whole);
}

fn below_threshold(walk: &mut Skeleton, threshold: f32) {
    let joints = walk.frames.iter_mut().flat_map(|frame| &mut frame.joints);
    joints.filter(|joint| joint.score < threshold).for_each(|joint| *joint = Joint::UNSEEN);
}

fn singly(walk: &mut Skeleton, share: f32, random: &mut Random) {
    for joint in walk.frames.iter_mut().flat_map(|frame| &mut frame.joints) {
        if random.chance(share) {
            *joint = Joint::UNSEEN;
        }
    }
}

fn in_runs(walk: &mut Skeleton, random: &mut Random) {
    let frames = walk.frames.len();
    for _ in 0..=random.below(6) {
        let [joint, start] = [random.below(17) as usize, random.below(u32::try_from(frames).unwrap_or(1)) as usize];
        let [least, most] = RUN_FRAMES;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between the two constants")]
        let length = random.between(least, most) as usize;
        walk.frames.iter_mut().skip(start).take(length).for_each(|frame| frame.joints[joint] = Joint::UNSEEN);
    }
}

fn restore_legs(walk: &mut Skeleton, whole: &Skeleton) {
    for joint in LEGS {
        let seen = walk.frames.iter().filter(|frame| frame.joints[joint].is_seen()).count();
        if (seen as f32) < LEG_SEEN_MIN * walk.frames.len() as f32 {
            for (frame, whole) in walk.frames.iter_mut().zip(&whole.frames) {
                frame.joints[joint] = whole.joints[joint];
            }
        }
    }
}

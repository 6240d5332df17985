//! Joints that a pose estimator did not see: filled in over short gaps of time, else left without weight.
//!
//! The body moves as a whole, and each joint keeps an offset from it. What remains of a joint's movement is interpolated
//! over the gap. The score of a filled joint falls with its distance in time from the nearest frame that shows it, down
//! to 0: such a joint has a place near the body and takes no part.

use super::skeleton::SkeletonError;
use domain::{Frame, JOINT_NAMES, JOINTS, Joint};

/// Frames over which the score of a filled joint falls to 0.
const HORIZON: f32 = 5.0;
/// Rounds of the fit of course and offsets; without gaps the first one is exact.
const FIT_ROUNDS: usize = 8;
/// Hips, knees and ankles: without one of them a walk has no step.
const LEGS: std::ops::Range<usize> = 11..17;
/// Lowest share of frames that show a joint of the legs.
pub(super) const LEG_SEEN_MIN: f32 = 0.25;

/// The frames with a position for every joint; frames that show no joint at the begin and the end are left out.
///
/// # Errors
///
/// [`SkeletonError::NoBody`] when no frame shows a joint, [`SkeletonError::UnseenJoint`] when a joint of the legs is
/// seen too rarely.
pub(super) fn filled(frames: &[Frame]) -> Result<Vec<Frame>, SkeletonError> {
    let shows = |frame: &Frame| frame.joints.iter().any(Joint::is_seen);
    let Some(first) = frames.iter().position(shows) else { return Err(SkeletonError::NoBody) };
    let last = frames.iter().rposition(shows).unwrap_or(first);
    let mut frames = frames[first..=last].to_vec();
    for joint in LEGS {
        let seen = frames.iter().filter(|frame| frame.joints[joint].is_seen()).count();
        if (seen as f32) < LEG_SEEN_MIN * frames.len() as f32 {
            return Err(SkeletonError::UnseenJoint { joint: JOINT_NAMES[joint], seen, frames: frames.len() });
        }
    }
    if frames.iter().all(|frame| frame.joints.iter().all(Joint::is_seen)) {
        return Ok(frames);
    }
    let course = Course::of(&frames);
    for joint in 0..JOINTS {
        fill(joint, &mut frames, &course);
    }
    Ok(frames)
}

/// The name of the joint on the other side of the body.
fn mirrored(joint: usize) -> usize {
    if joint == 0 { 0 } else { ((joint - 1) ^ 1) + 1 }
}

/// Where the body is in each frame, and the offset of each joint from there.
pub(super) struct Course {
    places: Vec<[f32; 2]>,
    /// `None` for a joint that no frame shows.
    offsets: [Option<[f32; 2]>; JOINTS],
}

impl Course {
    /// Fits `place + offset` to the seen joints by alternating means.
    pub(super) fn of(frames: &[Frame]) -> Self {
        let mut offsets = [Some([0.0; 2]); JOINTS];
        let mut places = Vec::new();
        for _ in 0..FIT_ROUNDS {
            let place = |frame: &Frame| {
                let joints = frame.joints.iter().zip(offsets);
                mean(joints.filter(|(joint, _)| joint.is_seen()).map(|(joint, offset)| {
                    let [x, y] = offset.unwrap_or_default();
                    [joint.x - x, joint.y - y]
                }))
            };
            places = between(&frames.iter().map(place).collect::<Vec<_>>());
            offsets = std::array::from_fn(|number| {
                let seen = frames.iter().zip(&places).map(|(frame, place)| (frame.joints[number], place));
                mean(seen.filter(|(joint, _)| joint.is_seen()).map(|(joint, [x, y])| [joint.x - x, joint.y - y]))
            });
        }
        Self { places, offsets }
    }

    /// The remainder of a seen joint's position.
    pub(super) fn remainder(&self, number: usize, frame: usize, joint: Joint) -> Option<[f32; 2]> {
        let [x, y] = self.offsets[number]?;
        let [along, down] = self.places[frame];
        joint.is_seen().then_some([joint.x - along - x, joint.y - down - y])
    }
}

fn fill(number: usize, frames: &mut [Frame], course: &Course) {
    let joints: Vec<Joint> = frames.iter().map(|frame| frame.joints[number]).collect();
    // A joint that is never seen stands where its twin does.
    let [x, y] = course.offsets[number].or(course.offsets[mirrored(number)]).unwrap_or_default();
    let remainders: Vec<_> =
        joints.iter().enumerate().map(|(frame, joint)| course.remainder(number, frame, *joint)).collect();
    let smooth = between(&remainders);
    for frame in (0..joints.len()).filter(|frame| !joints[*frame].is_seen()) {
        let before = joints[..frame].iter().rev().zip(1_u16..).find(|(joint, _)| joint.is_seen());
        let after = joints[frame..].iter().zip(0_u16..).find(|(joint, _)| joint.is_seen());
        let distance = before.iter().chain(&after).map(|(_, distance)| *distance).min();
        let score = before.iter().chain(&after).map(|(joint, _)| joint.score).reduce(f32::min);
        let share = distance.map_or(0.0, |distance| 1.0 - f32::from(distance) / HORIZON).max(0.0);
        let ([along, down], [dx, dy]) = (course.places[frame], smooth[frame]);
        let filled = Joint { x: along + x + dx, y: down + y + dy, score: score.unwrap_or(0.0) * share };
        frames[frame].joints[number] = filled;
    }
}

fn mean(points: impl Iterator<Item = [f32; 2]>) -> Option<[f32; 2]> {
    let (mut sum, mut count) = ([0.0; 2], 0.0_f32);
    for [x, y] in points {
        sum = [sum[0] + x, sum[1] + y];
        count += 1.0;
    }
    (count > 0.0).then(|| sum.map(|sum| sum / count))
}

/// Absent points by linear interpolation; the first and the last present one are held. All zero if none is present.
fn between(points: &[Option<[f32; 2]>]) -> Vec<[f32; 2]> {
    let mut all = vec![[0.0; 2]; points.len()];
    let present: Vec<(usize, [f32; 2])> =
        points.iter().enumerate().filter_map(|(at, point)| point.map(|point| (at, point))).collect();
    let (Some((first, start)), Some((last, end))) = (present.first(), present.last()) else { return all };
    all[..=*first].fill(*start);
    all[*last..].fill(*end);
    for pair in present.windows(2) {
        let [(from, one), (to, other)] = pair else { continue };
        for (at, point) in all.iter_mut().enumerate().take(*to).skip(*from) {
            let share = (at - from) as f32 / (to - from) as f32;
            *point = [0, 1].map(|axis| one[axis] + share * (other[axis] - one[axis]));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A walk to the right whose ankles swing; every joint is seen.
    fn walk(frames: u16) -> Vec<Frame> {
        let joint = |frame: u16, number: usize| {
            let swing = (f32::from(frame) / 3.0).sin() * if number > 14 { 12.0 } else { 2.0 };
            let side = if number % 2 == 1 { swing } else { -swing };
            Joint { x: 300.0 + 4.0 * f32::from(frame) + side, y: 100.0 + 12.0 * number as f32, score: 0.9 }
        };
        (0..frames).map(|frame| Frame { joints: std::array::from_fn(|number| joint(frame, number)) }).collect()
    }

    fn distance(one: Joint, other: Joint) -> f32 {
        (one.x - other.x).hypot(one.y - other.y)
    }

    #[test]
    fn a_walk_without_gaps_stays_as_it_is() {
        assert_eq!(filled(&walk(30)).expect("a walk"), walk(30));
    }

    #[test]
    fn a_short_gap_is_filled_near_the_truth_with_a_lower_score() {
        let whole = walk(40);
        let mut frames = whole.clone();
        for frame in &mut frames[20..22] {
            frame.joints[15] = Joint::UNSEEN;
        }
        let filled = filled(&frames).expect("a walk");
        for at in 20..22 {
            let joint = filled[at].joints[15];
            assert!(distance(joint, whole[at].joints[15]) < 1.5, "{joint:?}");
            assert!(joint.score > 0.5 && joint.score < 0.9, "{joint:?}");
        }
    }

    #[test]
    fn the_middle_of_a_long_gap_takes_no_part_and_stays_at_the_body() {
        let whole = walk(60);
        let mut frames = whole.clone();
        for frame in &mut frames[20..40] {
            frame.joints[9] = Joint::UNSEEN;
        }
        let filled = filled(&frames).expect("a walk");
        assert!(!filled[30].joints[9].is_seen());
        assert!(distance(filled[30].joints[9], whole[30].joints[9]) < 10.0);
    }

    #[test]
    fn a_joint_that_is_never_seen_stands_at_its_twin_without_a_score() {
        let whole = walk(40);
        let mut frames = whole.clone();
        for frame in &mut frames {
            frame.joints[3] = Joint::UNSEEN;
        }
        let filled = filled(&frames).expect("a walk");
        let ear = filled[10].joints[3];
        assert!(!ear.is_seen() && distance(ear, whole[10].joints[4]) < 10.0, "{ear:?}");
    }

    #[test]
    fn an_ankle_that_is_never_seen_is_refused_by_its_name() {
        let mut frames = walk(40);
        for frame in &mut frames {
            frame.joints[15] = Joint::UNSEEN;
        }
        let refused = filled(&frames).expect_err("no step is visible");
        assert_eq!(refused, SkeletonError::UnseenJoint { joint: "left ankle", seen: 0, frames: 40 });
    }

    #[test]
    fn frames_without_anybody_are_bridged_and_left_out_at_the_ends() {
        let whole = walk(40);
        let mut frames = whole.clone();
        for at in [0, 1, 20, 39] {
            frames[at].joints = [Joint::UNSEEN; JOINTS];
        }
        let filled = filled(&frames).expect("a walk");
        assert_eq!(filled.len(), 37);
        assert!(distance(filled[18].joints[0], whole[20].joints[0]) < 1.0);
        let nobody = Frame { joints: [Joint::UNSEEN; JOINTS] };
        assert_eq!(super::filled(&[nobody; 9]), Err(SkeletonError::NoBody));
    }
}

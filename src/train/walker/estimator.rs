//! A simulated pose estimator: joint errors per walk and per frame, swapped sides, wrong joints, partly visible
//! persons, lost frames, and scores that mostly reflect the errors.

use super::{super::random::Random, Condition, camera::View};
use domain::{Frame, JOINTS, Joint, Skeleton};

/// The errors of an estimator, in metres at the body unless stated otherwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Estimator {
    /// Constant over the walk: clothes, hair, light.
    pub bias_m: f32,
    /// Correlated over some frames.
    pub wander_m: f32,
    /// Independent per frame.
    pub jitter_m: f32,
    /// Grid of the heat map.
    pub grid_m: f32,
    /// Score loss of a hidden joint.
    pub doubt: f32,
    /// Standard deviation of scores.
    pub score_spread: f32,
    /// Share of frames with swapped sides.
    pub swaps: f32,
    /// Share of joints at wrong positions.
    pub strays: f32,
    /// Share of lost frames.
    pub losses: f32,
    /// Share of walks that begin or end partly outside of the picture.
    pub cut_walks: f32,
}

/// Autocorrelation of the slow error from frame to frame.
const WANDER_KEPT: f32 = 0.7;
/// Joints that are swapped together, left and right.
const SWAPPED: [&[usize]; 4] = [&[13, 15], &[7, 9], &[5, 7, 9], &[11, 13, 15]];
/// Error of each joint relative to the shoulders: hips are guessed under clothes, wrists and ankles are fast.
const HARDNESS: [f32; JOINTS] = [0.6, 0.6, 0.6, 0.8, 0.8, 0.9, 0.9, 1.1, 1.1, 1.2, 1.2, 1.5, 1.5, 1.1, 1.1, 1.0, 1.0];
/// Below this distance in the picture, the farther joint of a pair is hidden.
const HIDING_M: f32 = 0.16;
/// Maximum frames partly outside of the picture.
const FRAMES_CUT_MAX: u32 = 16;

impl Estimator {
    /// Draws an estimator of random quality.
    #[must_use]
    pub(crate) fn drawn(random: &mut Random) -> Self {
        let quality = random.between(0.5, 1.5);
        Self {
            bias_m: 0.010 * quality * random.between(0.6, 1.4),
            wander_m: 0.014 * quality * random.between(0.6, 1.4),
            jitter_m: 0.008 * quality * random.between(0.6, 1.4),
            grid_m: random.between(0.004, 0.018),
            doubt: random.between(0.2, 0.7),
            score_spread: random.between(0.04, 0.14),
            swaps: 0.02 * quality * random.unit(),
            strays: 0.012 * quality * random.unit(),
            losses: if random.chance(0.5) { 0.0 } else { random.between(0.0, 0.12) },
            cut_walks: 0.35,
        }
    }

    /// A typical estimator, for trials.
    #[must_use]
    pub(crate) fn usual() -> Self {
        Self {
            bias_m: 0.010,
            wander_m: 0.014,
            jitter_m: 0.008,
            grid_m: 0.010,
            doubt: 0.4,
            score_spread: 0.08,
            swaps: 0.01,
            strays: 0.006,
            losses: 0.03,
            cut_walks: 0.2,
        }
    }

    /// Estimates the joints of all frames. Frames may be lost, but not all.
    pub(super) fn estimate(&self, views: &[View], condition: Condition, random: &mut Random) -> Skeleton {
        let mut drift = WalkErrors::drawn(self, condition, random);
        let cut = EdgeCrop::drawn(views.len(), self.cut_walks, random);
        let mut frames = Vec::with_capacity(views.len());
        for (at, view) in views.iter().enumerate() {
            let mut joints = drift.estimate(self, view, random);
            self.mistake(&mut joints, view.scale, random);
            cut.apply(at, &mut joints, view.scale, random);
            if !random.chance(self.losses) {
                frames.push(Frame { joints });
            }
        }
        if frames.is_empty() {
            frames.extend(views.iter().map(|view| Frame { joints: drift.estimate(self, view, random) }));
        }
        frames.into()
    }

    /// Swaps sides and moves joints to wrong positions.
    fn mistake(&self, joints: &mut [Joint; JOINTS], scale: f32, random: &mut Random) {
        if random.chance(self.swaps) {
            for left in SWAPPED[random.below(4) as usize] {
                joints.swap(*left, left + 1);
            }
        }
        if random.chance(self.strays * JOINTS as f32) {
            let joint = &mut joints[random.below(17) as usize];
            joint.x += random.normal() * 0.25 * scale;
            joint.y += random.normal() * 0.25 * scale;
            joint.score = if random.chance(0.75) { random.between(0.04, 0.35) } else { random.between(0.4, 0.8) };
        }
    }
}

/// The errors of one walk.
struct WalkErrors {
    hardness: [f32; JOINTS],
    /// Constant and slowly varying error in metres.
    bias: [[f32; 2]; JOINTS],
    wander: [[f32; 2]; JOINTS],
    /// Score loss of each joint on this walk.
    doubt: [f32; JOINTS],
}

impl WalkErrors {
    fn drawn(estimator: &Estimator, condition: Condition, random: &mut Random) -> Self {
        let coat = |joint: usize| if condition == Condition::Coat && (11..15).contains(&joint) { 1.7 } else { 1.0 };
        let hardness: [f32; JOINTS] = std::array::from_fn(|joint| HARDNESS[joint] * coat(joint));
        let mut near = |size: f32| hardness.map(|hard| [random.normal(), random.normal()].map(|n| n * size * hard));
        let (bias, wander) = (near(estimator.bias_m), near(estimator.wander_m));
        let doubt = std::array::from_fn(|_| random.around(0.0, estimator.score_spread));
        Self { hardness, bias, wander, doubt }
    }

    fn estimate(&mut self, estimator: &Estimator, view: &View, random: &mut Random) -> [Joint; JOINTS] {
        let hidden = hidden(view);
        let fresh = (1.0 - WANDER_KEPT * WANDER_KEPT).sqrt();
        std::array::from_fn(|joint| {
            let hard = self.hardness[joint] * (1.0 + 1.6 * hidden[joint]);
            let mut place = view.joints[joint].place;
            let offsets = self.wander[joint].iter_mut().zip(self.bias[joint]);
            for (place, (wander, bias)) in place.iter_mut().zip(offsets) {
                let step = random.normal() * estimator.wander_m * self.hardness[joint] * fresh;
                *wander = WANDER_KEPT * *wander + step;
                let jitter = random.normal() * estimator.jitter_m * hard;
                let off = bias + *wander * (1.0 + hidden[joint]) + jitter;
                *place = snapped(*place + off * view.scale, estimator.grid_m * view.scale);
            }
            let doubt = self.doubt[joint] + estimator.doubt * hidden[joint] + 0.04 * (hard - 1.0);
            let score = random.around(0.87 - doubt, estimator.score_spread);
            Joint { x: place[0], y: place[1], score: score.clamp(0.03, 0.99) }
        })
    }
}

/// The picture's edge crosses the body in the first or last frames of a walk.
struct EdgeCrop {
    frames: std::ops::Range<usize>,
    /// The axis of the edge and the visible side.
    axis: usize,
    sign: f32,
    /// Maximum share of the body beyond the edge, 0 to 1.
    depth: f32,
}

impl EdgeCrop {
    fn drawn(walk: usize, share: f32, random: &mut Random) -> Self {
        let length = if random.chance(share) { 1 + random.below(FRAMES_CUT_MAX) as usize } else { 0 };
        let length = length.min(walk);
        let frames = if random.chance(0.75) { 0..length } else { walk - length..walk };
        let axis = usize::from(random.chance(0.6));
        let sign = if random.chance(0.5) { 1.0 } else { -1.0 };
        Self { frames, axis, sign, depth: random.between(0.2, 0.9) }
    }

    /// Joints beyond the edge are estimated on the edge, with low scores.
    fn apply(&self, frame: usize, joints: &mut [Joint; JOINTS], scale: f32, random: &mut Random) {
        if !self.frames.contains(&frame) {
            return;
        }
        let along = |joint: &Joint| self.sign * if self.axis == 0 { joint.x } else { joint.y };
        let (low, high) = joints.iter().map(along).fold((f32::MAX, f32::MIN), |(l, h), a| (l.min(a), h.max(a)));
        let [first, last] = [self.frames.start, self.frames.end - 1];
        // The visible share grows when entering and shrinks when leaving.
        let beyond = if first == 0 { last + 1 - frame } else { frame + 1 - first };
        let edge = high - (high - low) * self.depth * beyond as f32 / self.frames.len() as f32;
        for joint in joints {
            if along(joint) > edge {
                let clipped = self.sign * (edge + random.normal() * 0.03 * scale);
                if self.axis == 0 {
                    joint.x = clipped;
                    joint.y += random.normal() * 0.08 * scale;
                } else {
                    joint.y = clipped;
                    joint.x += random.normal() * 0.08 * scale;
                }
                joint.score = random.between(0.04, 0.35);
            }
        }
    }
}

/// The hidden share of each joint behind the joint of the other side, 0 to 1.
fn hidden(view: &View) -> [f32; JOINTS] {
    let mut hidden = [0.0; JOINTS];
    for left in (1..JOINTS).step_by(2) {
        let [one, other] = [view.joints[left], view.joints[left + 1]];
        let apart = (one.place[0] - other.place[0]).hypot(one.place[1] - other.place[1]) / view.scale;
        let far = if one.behind > other.behind { left } else { left + 1 };
        let depth = (one.behind - other.behind).abs();
        hidden[far] = (1.0 - apart / HIDING_M).clamp(0.0, 1.0) * (depth / 0.12).min(1.0);
    }
    // A face turned away hides eyes and nose; they are guessed.
    let ears = f32::midpoint(view.joints[3].behind, view.joints[4].behind);
    let away = ((view.joints[0].behind - ears) / 0.06).clamp(0.0, 1.0);
    for face in &mut hidden[..3] {
        *face = face.max(away);
    }
    hidden
}

fn snapped(place: f32, grid: f32) -> f32 {
    (place / grid).round() * grid
}

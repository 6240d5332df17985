//! Cameras beside, in front of or above the path, and their projections of joints.

use std::f32::consts::PI;

use super::{super::random::Random, Direction, Point, Pose};
use domain::JOINTS;

/// Minimum distance of a camera from the ends of a path.
const AWAY_MIN_M: f32 = 1.6;
/// Minimum depth of a visible joint.
const DEPTH_MIN_M: f32 = 0.5;
const FOCAL_PX: f32 = 1000.0;
/// Height of the point that cameras aim at.
const AIM_HEIGHT_M: f32 = 0.95;
/// Standard deviation of the azimuth between walks past one camera.
const AZIMUTH_SPREAD: f32 = 0.07;

/// A camera aimed at the middle of the path.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Camera {
    /// Azimuth relative to the walker's heading in radians: 0 is the front, pi / 2 the left side, pi the back.
    pub azimuth: f32,
    pub distance_m: f32,
    pub height_m: f32,
    pub roll: f32,
}

/// The projection of one joint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ProjectedJoint {
    /// In pixels; y grows downward.
    pub(super) place: [f32; 2],
    /// Depth relative to the body's centre, in metres.
    pub(super) behind: f32,
}

/// The projections of one frame.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct View {
    pub(super) joints: [ProjectedJoint; JOINTS],
    /// Pixels per metre at the body's depth.
    pub(super) scale: f32,
}

impl Camera {
    #[must_use]
    pub(crate) fn drawn(random: &mut Random) -> Self {
        let distance_m = random.between(4.5, 11.0);
        Self { azimuth: random.angle(), distance_m, height_m: random.between(0.8, 3.6), roll: random.around(0.0, 0.02) }
    }

    /// A camera as in CASIA-B, on a tripod a few metres away.
    #[must_use]
    pub(crate) fn level(azimuth_degrees: f32) -> Self {
        Self { azimuth: azimuth_degrees.to_radians(), distance_m: 6.0, height_m: 1.4, roll: 0.0 }
    }

    pub(super) fn resembling(&self, random: &mut Random, direction: Direction) -> Self {
        let turned = match direction {
            Direction::Forth => 0.0,
            Direction::Back => PI,
        };
        let azimuth = self.azimuth + turned + random.around(0.0, AZIMUTH_SPREAD);
        Self { azimuth, distance_m: self.distance_m * random.around(1.0, 0.04), ..*self }
    }

    /// Moves back from a path of this half length.
    pub(super) fn beyond(self, half_way_m: f32) -> Self {
        Self { distance_m: self.distance_m.max(half_way_m + AWAY_MIN_M), ..self }
    }

    pub(super) fn see(&self, pose: &Pose) -> View {
        let down = ((self.height_m - AIM_HEIGHT_M) / self.distance_m).atan();
        let (sin, cos) = self.azimuth.sin_cos();
        let eye = [self.distance_m * cos, self.distance_m * sin, self.height_m];
        let ahead = [-cos * down.cos(), -sin * down.cos(), -down.sin()];
        let right = [-sin, cos, 0.0];
        let up = [-cos * down.sin(), -sin * down.sin(), down.cos()];
        let depth = |point: Point| dot(minus(point, eye), ahead).max(DEPTH_MIN_M);
        let middle = depth(std::array::from_fn(|axis| f32::midpoint(pose[11][axis], pose[12][axis])));
        let (roll_sin, roll_cos) = self.roll.sin_cos();
        let joints = pose.map(|point| {
            let depth = depth(point);
            let away = minus(point, eye);
            let (x, y) = (FOCAL_PX * dot(away, right) / depth, -FOCAL_PX * dot(away, up) / depth);
            ProjectedJoint { place: [x * roll_cos - y * roll_sin, x * roll_sin + y * roll_cos], behind: depth - middle }
        });
        View { joints, scale: FOCAL_PX / middle }
    }
}

fn minus(one: Point, other: Point) -> Point {
    std::array::from_fn(|axis| one[axis] - other[axis])
}

fn dot(one: Point, other: Point) -> f32 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}

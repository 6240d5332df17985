//! Who watches: a camera beside, before or above the way, and where it sees each joint.

use std::f32::consts::PI;

use super::{super::random::Random, Direction, Point, Pose};
use domain::JOINTS;

/// How far from the ends of a way a camera stands at least: nobody walks through one.
const AWAY_MIN_M: f32 = 1.6;
/// Nearer than this nothing is seen.
const DEPTH_MIN_M: f32 = 0.5;
const FOCAL_PX: f32 = 1000.0;
/// Where cameras look.
const AIM_HEIGHT_M: f32 = 0.95;
/// How much two walks past one camera differ in its eyes: people do not walk on rails.
const AZIMUTH_SPREAD: f32 = 0.07;

/// A camera that looks at the middle of the way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Camera {
    /// Of the camera about the walker's heading: 0 sees the face, a quarter circle the left side, a half the back.
    pub azimuth: f32,
    pub distance_m: f32,
    pub height_m: f32,
    pub roll: f32,
}

/// One joint as a perfect estimator would see it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ProjectedJoint {
    /// In pixels; y grows downward.
    pub(super) place: [f32; 2],
    /// How much farther away than the body's middle, in metres.
    pub(super) behind: f32,
}

/// What a camera sees at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct View {
    pub(super) joints: [ProjectedJoint; JOINTS],
    /// Pixels to a metre where the body is.
    pub(super) scale: f32,
}

impl Camera {
    #[must_use]
    pub fn drawn(random: &mut Random) -> Self {
        let distance_m = random.between(4.5, 11.0);
        Self { azimuth: random.angle(), distance_m, height_m: random.between(0.8, 3.6), roll: random.around(0.0, 0.02) }
    }

    /// A camera of CASIA-B's kind, on a tripod some metres away.
    #[must_use]
    pub fn level(azimuth_degrees: f32) -> Self {
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

    /// Stepped back from a way that reaches so far to both sides of its middle.
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

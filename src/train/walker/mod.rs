//! Simulated walkers: persons, their gait, cameras, and a pose estimator.
//!
//! Everything is determined by the given random numbers; no real person was measured. Results on simulated walkers show
//! that a network works, not how well it recognises real people.

mod body;
mod camera;
mod estimator;
mod gait;
mod omission;

pub(crate) use self::{body::Walker, camera::Camera, estimator::Estimator, gait::Condition, omission::omit};
use super::random::Random;
use domain::{JOINTS, Skeleton};

/// A point in metres: forward, left, up.
pub(super) type Point = [f32; 3];
/// The joints of one frame in COCO order.
pub(super) type Pose = [Point; JOINTS];

/// A site: cameras and pose estimator of all its walks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WalkSite {
    pub frames_per_second: f32,
    pub cameras: Vec<Camera>,
    pub estimator: Estimator,
}

/// The setup of one walk past a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WalkSetup {
    /// Index of the site's camera.
    pub camera: usize,
    pub condition: Condition,
    pub direction: Direction,
    /// Number of frames before losses.
    pub frames: usize,
}

/// Direction along the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Forth,
    Back,
}

impl WalkSite {
    /// Draws a site: cameras at random positions and frame rates, and a pose estimator of random quality.
    #[must_use]
    pub(crate) fn drawn(random: &mut Random, cameras: usize) -> Self {
        let frames_per_second = random.between(11.0, 30.0);
        let cameras = (0..cameras).map(|_| Camera::drawn(random)).collect();
        Self { frames_per_second, cameras, estimator: Estimator::drawn(random) }
    }

    /// The estimated joints of a walk.
    ///
    /// # Panics
    /// When the site has no such camera.
    #[must_use]
    pub(crate) fn record(&self, person: &Walker, setup: WalkSetup, random: &mut Random) -> Skeleton {
        let walk = gait::WalkInstance::drawn(person, setup.condition, random);
        let half = walk.speed() * setup.frames as f32 / self.frames_per_second / 2.0;
        let camera = self.cameras[setup.camera].resembling(random, setup.direction).beyond(half);
        let poses = (0..setup.frames).map(|frame| {
            let time = frame as f32 / self.frames_per_second;
            walk.looks(time, walk.speed() * time - half)
        });
        let views: Vec<_> = poses.map(|pose| camera.see(&pose)).collect();
        self.estimator.estimate(&views, setup.condition, random)
    }
}

#[cfg(test)]
mod tests;

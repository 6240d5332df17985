//! A simulated world of walkers: people, how they walk today, who watches, and what a pose estimator makes of it.
//!
//! Everything follows from the numbers that are given; nobody who lives was measured for it. It must never be taken for
//! people: what a network reaches here says that it works, not how well it knows anybody.

mod body;
mod camera;
mod estimator;
mod gait;

pub use self::{body::Walker, camera::Camera, estimator::Estimator, gait::Condition};
use super::random::Random;
use domain::{JOINTS, Skeleton};

/// A point of the world in metres: along the way, to its left, up.
pub(super) type Point = [f32; 3];
/// The joints of one moment, in COCO's order.
pub(super) type Pose = [Point; JOINTS];

/// A place with cameras: what all walks that are seen there have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct WalkSite {
    pub frames_per_second: f32,
    pub cameras: Vec<Camera>,
    pub estimator: Estimator,
}

/// One walk past a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalkSetup {
    /// Which of the site's cameras.
    pub camera: usize,
    pub condition: Condition,
    pub direction: Direction,
    /// How many frames show it, less those that are lost.
    pub frames: usize,
}

/// Which way along the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Forth,
    Back,
}

impl WalkSite {
    /// Some place: cameras anywhere around, of any common rate, with a better or a worse pose estimator.
    #[must_use]
    pub fn drawn(random: &mut Random, cameras: usize) -> Self {
        let frames_per_second = random.between(11.0, 30.0);
        let cameras = (0..cameras).map(|_| Camera::drawn(random)).collect();
        Self { frames_per_second, cameras, estimator: Estimator::drawn(random) }
    }

    /// What the pose estimator tells of a walk.
    ///
    /// # Panics
    /// When the site has no such camera.
    #[must_use]
    pub fn record(&self, person: &Walker, setup: WalkSetup, random: &mut Random) -> Skeleton {
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

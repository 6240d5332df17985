//! Simulated persons: body lengths and gait parameters, drawn once per person.
//!
//! Lengths are shares of stature after Drillis and Contini (1966), adapted to the joint positions of pose estimators;
//! angles are in radians after Winter (1991). The spreads are the differences between persons, slightly exaggerated:
//! additional variety does no harm to a network.

use super::super::random::Random;
use domain::JOINTS;

/// Standard deviation of a joint's appearance offset in metres.
const LOOKS_M: f32 = 0.012;

/// The body and gait of a person.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Walker {
    pub(super) lengths: Lengths,
    /// Strides (two steps) per second at the usual speed.
    pub(super) cadence: f32,
    /// Left and right.
    pub(super) legs: [Leg; 2],
    pub(super) arms: [Arm; 2],
    pub(super) torso: Torso,
    pub(super) head: Head,
    /// Offset of each estimated joint caused by build, hair and clothes: forward, left, up, in metres.
    pub(super) looks: [[f32; 3]; JOINTS],
}

/// In metres.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lengths {
    pub(super) thigh: f32,
    pub(super) shank: f32,
    pub(super) ankle: f32,
    pub(super) hip_half: f32,
    pub(super) trunk: f32,
    pub(super) shoulder_half: f32,
    pub(super) upper_arm: f32,
    pub(super) forearm: f32,
    /// From the midpoint of the shoulders to the midpoint of the ears.
    pub(super) neck: f32,
    pub(super) ear_half: f32,
    pub(super) eye_half: f32,
    pub(super) eye_up: f32,
    /// From the midpoint of the ears to the tip of the nose.
    pub(super) nose: f32,
}

/// A sinusoidal oscillation with the stride's frequency.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Swing {
    pub(super) middle: f32,
    pub(super) size: f32,
    pub(super) lag: f32,
}

impl Swing {
    fn drawn(
        random: &mut Random,
        (middle, middle_spread): (f32, f32),
        (size, size_spread): (f32, f32),
        lag: f32,
    ) -> Self {
        Self {
            middle: random.around(middle, middle_spread),
            size: random.around(size, size_spread),
            lag: random.around(lag, 0.3),
        }
    }

    pub(super) fn at(&self, phase: f32) -> f32 {
        self.middle + self.size * (phase - self.lag).cos()
    }
}

/// A bend once per stride, a pulse of variable height and width.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bend {
    pub(super) size: f32,
    pub(super) moment: f32,
    pub(super) narrowness: f32,
}

impl Bend {
    pub(super) fn at(&self, phase: f32) -> f32 {
        self.size * (self.narrowness * ((phase - self.moment).cos() - 1.0)).exp()
    }
}

/// Phase zero is this leg's heel strike.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Leg {
    pub(super) hip: Swing,
    /// The second harmonic of the hip.
    pub(super) hip_twice: Swing,
    pub(super) knee_straight: f32,
    pub(super) knee_loading: Bend,
    pub(super) knee_swing: Bend,
    /// Outwards.
    pub(super) spread: Swing,
    /// Outward angle of the shank: bow legs and knock knees.
    pub(super) knee_outwards: f32,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Arm {
    pub(super) swing: Swing,
    pub(super) elbow: Swing,
    pub(super) outwards: f32,
    pub(super) forearm_inwards: f32,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Torso {
    pub(super) lean: f32,
    /// Twice per stride.
    pub(super) nod: Swing,
    pub(super) sway: Swing,
    pub(super) pelvis_turn: Swing,
    pub(super) pelvis_drop: Swing,
    pub(super) shoulder_turn: Swing,
    /// Tilt of the shoulders.
    pub(super) shoulder_tilt: Swing,
    /// Vertical movement in metres, twice per stride.
    pub(super) bob: Swing,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Head {
    /// Forward angle of the neck.
    pub(super) forward: f32,
    pub(super) pitch: f32,
    pub(super) tilt: f32,
    pub(super) nod: Swing,
}

const fn degrees(angle: f32) -> f32 {
    angle * std::f32::consts::PI / 180.0
}

impl Walker {
    #[must_use]
    pub(crate) fn drawn(random: &mut Random) -> Self {
        let lengths = Lengths::drawn(random);
        let leg = Leg::drawn(random);
        let arm = Arm::drawn(random);
        let cadence = random.around(0.93, 0.075);
        let legs = [leg.resembling(random), leg.resembling(random)];
        let arms = [arm.resembling(random), arm.resembling(random)];
        let (torso, head) = (Torso::drawn(random), Head::drawn(random));
        Self { lengths, cadence, legs, arms, torso, head, looks: looks(random) }
    }
}

/// Mostly symmetric.
fn looks(random: &mut Random) -> [[f32; 3]; JOINTS] {
    let mut looks = [[0.0; 3]; JOINTS];
    for left in (1..JOINTS).step_by(2) {
        let common: [f32; 3] = std::array::from_fn(|_| random.around(0.0, LOOKS_M));
        for (joint, sign) in [(left, 1.0), (left + 1, -1.0)] {
            let own: [f32; 3] = std::array::from_fn(|_| random.around(0.0, LOOKS_M / 3.0));
            looks[joint] = [common[0] + own[0], sign * common[1] + own[1], common[2] + own[2]];
        }
    }
    looks
}

impl Lengths {
    fn drawn(random: &mut Random) -> Self {
        let stature = random.around(1.70, 0.09);
        // Lengths within legs and within arms are correlated; breadth is independent.
        let (legs, arms, breadth) = (random.around(1.0, 0.025), random.around(1.0, 0.025), random.around(1.0, 0.06));
        let mut share = |mean: f32, spread: f32, common: f32| stature * common * random.around(mean, mean * spread);
        Self {
            thigh: share(0.240, 0.025, legs),
            shank: share(0.242, 0.025, legs),
            ankle: share(0.045, 0.08, 1.0),
            hip_half: share(0.054, 0.09, breadth),
            trunk: share(0.290, 0.03, 1.0),
            shoulder_half: share(0.105, 0.05, breadth),
            upper_arm: share(0.170, 0.035, arms),
            forearm: share(0.150, 0.035, arms),
            neck: share(0.115, 0.07, 1.0),
            ear_half: share(0.044, 0.07, 1.0),
            eye_half: share(0.019, 0.06, 1.0),
            eye_up: share(0.018, 0.15, 1.0),
            nose: share(0.062, 0.08, 1.0),
        }
    }
}

impl Leg {
    fn drawn(random: &mut Random) -> Self {
        let bend = |random: &mut Random, (size, spread): (f32, f32), moment: f32, narrowness: f32| Bend {
            size: degrees(random.around(size, spread)).max(0.0),
            moment: random.around(moment, 0.12),
            narrowness: random.around(narrowness, narrowness * 0.13),
        };
        Self {
            hip: Swing {
                middle: degrees(random.around(9.0, 4.0)),
                size: degrees(random.around(22.0, 2.8)),
                lag: random.around(-0.25, 0.12),
            },
            hip_twice: Swing { middle: 0.0, size: degrees(random.around(3.0, 1.3)), lag: random.around(0.6, 0.5) },
            knee_straight: degrees(random.around(6.0, 3.0)),
            knee_loading: bend(random, (13.0, 4.5), 0.9, 5.0),
            knee_swing: bend(random, (55.0, 5.0), 4.5, 2.6),
            spread: Swing {
                middle: degrees(random.around(0.5, 2.0)),
                size: degrees(random.around(2.0, 1.2)),
                lag: random.around(4.0, 0.5),
            },
            knee_outwards: degrees(random.around(0.0, 2.2)),
        }
    }

    /// The other leg of the same person, nearly equal.
    fn resembling(&self, random: &mut Random) -> Self {
        let mut leg = self.clone();
        leg.hip.size *= random.around(1.0, 0.035);
        leg.hip.middle += degrees(random.around(0.0, 1.0));
        leg.knee_loading.size *= random.around(1.0, 0.12);
        leg.knee_swing.size *= random.around(1.0, 0.04);
        leg.knee_swing.moment += random.around(0.0, 0.04);
        leg.spread.middle += degrees(random.around(0.0, 0.8));
        leg.knee_outwards += degrees(random.around(0.0, 0.8));
        leg
    }
}

impl Arm {
    fn drawn(random: &mut Random) -> Self {
        Self {
            swing: Swing {
                middle: degrees(random.around(-2.0, 6.0)),
                size: degrees(random.around(17.0, 7.5)),
                lag: random.around(3.1, 0.25),
            },
            elbow: Swing {
                middle: degrees(random.around(26.0, 9.0)),
                size: degrees(random.around(9.0, 5.0)),
                lag: random.around(3.0, 0.35),
            },
            outwards: degrees(random.around(9.0, 4.0)),
            forearm_inwards: degrees(random.around(6.0, 6.0)),
        }
    }

    fn resembling(&self, random: &mut Random) -> Self {
        let mut arm = self.clone();
        arm.swing.size *= random.around(1.0, 0.18);
        arm.swing.middle += degrees(random.around(0.0, 2.5));
        arm.elbow.middle += degrees(random.around(0.0, 4.0));
        arm.outwards += degrees(random.around(0.0, 1.8));
        arm
    }
}

impl Torso {
    fn drawn(random: &mut Random) -> Self {
        let mut swing = |middle_spread: f32, size: f32, size_spread: f32, lag: f32| {
            let (middle, size) = ((0.0, degrees(middle_spread)), (degrees(size), degrees(size_spread)));
            Swing::drawn(random, middle, size, lag)
        };
        let (nod, sway) = (swing(0.0, 1.5, 0.8, 1.0), swing(0.8, 2.2, 1.4, 1.5));
        let (pelvis_turn, pelvis_drop) = (swing(1.2, 5.0, 2.2, 0.0), swing(0.8, 3.5, 1.5, 1.2));
        let (shoulder_turn, shoulder_tilt) = (swing(2.0, 5.5, 2.5, 3.1), swing(1.8, 1.5, 1.0, 1.0));
        let bob = Swing { middle: 0.0, size: random.around(0.018, 0.006), lag: random.around(1.2, 0.3) };
        let lean = degrees(random.around(3.0, 3.2));
        Self { lean, nod, sway, pelvis_turn, pelvis_drop, shoulder_turn, shoulder_tilt, bob }
    }
}

impl Head {
    fn drawn(random: &mut Random) -> Self {
        Self {
            forward: degrees(random.around(18.0, 7.0)),
            pitch: degrees(random.around(-4.0, 6.0)),
            tilt: degrees(random.around(0.0, 2.5)),
            nod: Swing::drawn(random, (0.0, 0.0), (degrees(1.5), degrees(0.8)), 1.0),
        }
    }
}

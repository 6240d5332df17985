//! One walk of a person: their gait, speed and load, and the resulting joint positions.

use std::f32::consts::{PI, TAU};

use super::{
    super::random::Random,
    Point, Pose,
    body::{Arm, Leg, Walker},
};

/// The condition of a walk: CASIA-B's three, and a phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Condition {
    Normal,
    /// One arm carries something.
    Bag,
    /// A coat hides hips and knees and moves the arms away from the body.
    Coat,
    /// One hand at the ear, or both in front of the chest.
    Phone,
}

/// A person on one walk.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct WalkInstance {
    person: Walker,
    speed: f32,
    first_phase: f32,
    /// Amplitude and speed of rhythm variation.
    drift: [f32; 2],
    head_turn: f32,
}

const LEFT: f32 = 1.0;
const RIGHT: f32 = -1.0;

impl WalkInstance {
    pub(super) fn drawn(person: &Walker, condition: Condition, random: &mut Random) -> Self {
        let mut person = person.clone();
        let haste = if random.chance(0.25) { random.between(0.72, 1.32) } else { random.around(1.0, 0.05) };
        vary(&mut person, haste, random);
        load(&mut person, condition, random);
        let looking_about = if random.chance(0.25) { 0.35 } else { 0.1 };
        let hip = f32::midpoint(person.legs[0].hip.size, person.legs[1].hip.size);
        // Two steps per stride, each as long as the opening of the legs.
        let stride = 4.0 * (person.lengths.thigh + person.lengths.shank) * hip.sin();
        Self {
            speed: stride * person.cadence,
            first_phase: random.angle(),
            drift: [random.around(0.0, 0.12), random.between(0.4, 1.4)],
            head_turn: random.around(0.0, looking_about),
            person,
        }
    }

    /// Walking speed in metres per second.
    pub(super) fn speed(&self) -> f32 {
        self.speed
    }

    /// The apparent joint positions at a time, with the body at `place` on its path.
    pub(super) fn looks(&self, seconds: f32, place: f32) -> Pose {
        let mut pose = self.pose(seconds, place);
        for (joint, shift) in pose.iter_mut().zip(&self.person.looks) {
            *joint = plus(*joint, *shift, 1.0);
        }
        pose
    }

    /// The joint positions at a time in seconds, with the body at `place` on its path.
    pub(super) fn pose(&self, seconds: f32, place: f32) -> Pose {
        let [drift, slowness] = self.drift;
        let phase = self.first_phase + TAU * self.person.cadence * seconds + drift * (slowness * seconds).sin();
        let Walker { lengths, legs, arms, torso, head, .. } = &self.person;
        let height = 0.97 * (lengths.thigh + lengths.shank) + lengths.ankle;
        let middle = [place, 0.02 * (phase + 1.2).sin(), height + torso.bob.at(2.0 * phase)];
        let hips = across(torso.pelvis_turn.at(phase), torso.pelvis_drop.at(phase - PI / 2.0), lengths.hip_half);
        let lean = torso.lean + torso.nod.at(2.0 * phase);
        let neck = plus(middle, tilted(lean, torso.sway.at(phase)), lengths.trunk);
        let turn = torso.shoulder_turn.at(phase);
        let shoulders = across(turn, torso.shoulder_tilt.at(phase), lengths.shoulder_half);
        let mut pose = [middle; 17];
        for (side, sign) in [(0, LEFT), (1, RIGHT)] {
            // The right leg is half a stride behind; each arm follows the leg of the other side.
            let own = if side == 0 { phase } else { phase + PI };
            let shoulder = plus(neck, shoulders, sign);
            let [elbow, wrist] = self.arm(&arms[side], sign, own, shoulder);
            let hip = plus(middle, hips, sign);
            let [knee, ankle] = self.leg(&legs[side], sign, own, hip);
            for (joint, place) in [(5, shoulder), (7, elbow), (9, wrist), (11, hip), (13, knee), (15, ankle)] {
                pose[joint + side] = place;
            }
        }
        let skull = plus(neck, tilted(lean + head.forward, head.tilt), lengths.neck);
        self.face(&mut pose, skull, phase, turn);
        pose
    }

    /// The mirror image of the walk.
    #[cfg(test)]
    pub(super) fn mirrored(&self) -> Self {
        let mut mirrored = self.clone();
        let person = &mut mirrored.person;
        person.legs.swap(0, 1);
        person.arms.swap(0, 1);
        let torso = &mut person.torso;
        let sideways = [
            &mut torso.sway,
            &mut torso.pelvis_turn,
            &mut torso.pelvis_drop,
            &mut torso.shoulder_turn,
            &mut torso.shoulder_tilt,
        ];
        for swing in sideways {
            swing.middle = -swing.middle;
        }
        person.head.tilt = -person.head.tilt;
        for left in (1..17).step_by(2) {
            person.looks.swap(left, left + 1);
        }
        person.looks.iter_mut().for_each(|look| look[1] = -look[1]);
        mirrored.head_turn = -mirrored.head_turn;
        mirrored.first_phase += PI;
        mirrored
    }

    fn leg(&self, leg: &Leg, sign: f32, phase: f32, hip: Point) -> [Point; 2] {
        let lengths = &self.person.lengths;
        let forward = leg.hip.at(phase) + leg.hip_twice.at(2.0 * phase);
        let bent = leg.knee_straight + leg.knee_loading.at(phase) + leg.knee_swing.at(phase);
        let outwards = leg.spread.at(phase);
        let knee = plus(hip, hanging(forward, sign * outwards), lengths.thigh);
        let shank = hanging(forward - bent, sign * (outwards + leg.knee_outwards));
        [knee, plus(knee, shank, lengths.shank)]
    }

    fn arm(&self, arm: &Arm, sign: f32, phase: f32, shoulder: Point) -> [Point; 2] {
        let lengths = &self.person.lengths;
        let forward = arm.swing.at(phase);
        let elbow = plus(shoulder, hanging(forward, sign * arm.outwards), lengths.upper_arm);
        let forearm = hanging(forward + arm.elbow.at(phase), sign * (arm.outwards - arm.forearm_inwards));
        [elbow, plus(elbow, forearm, lengths.forearm)]
    }

    /// Nose, eyes and ears around the centre of the skull.
    fn face(&self, pose: &mut Pose, skull: Point, phase: f32, shoulder_turn: f32) {
        let Walker { lengths, head, .. } = &self.person;
        let turn = 0.3 * shoulder_turn + self.head_turn;
        let pitch = head.pitch + head.nod.at(2.0 * phase);
        let forward = [pitch.cos() * turn.cos(), pitch.cos() * turn.sin(), pitch.sin()];
        let up = [-pitch.sin() * turn.cos(), -pitch.sin() * turn.sin(), pitch.cos()];
        let left = across(turn, head.tilt, 1.0);
        pose[0] = plus(skull, forward, lengths.nose);
        for (side, sign) in [(0, LEFT), (1, RIGHT)] {
            let eye = plus(plus(skull, forward, 0.8 * lengths.nose), up, lengths.eye_up);
            pose[1 + side] = plus(eye, left, sign * lengths.eye_half);
            pose[3 + side] = plus(skull, left, sign * lengths.ear_half);
        }
    }
}

/// Variation between walks of a person; lengths do not change.
fn vary(person: &mut Walker, haste: f32, random: &mut Random) {
    person.cadence *= haste.sqrt() * random.around(1.0, 0.005);
    for leg in &mut person.legs {
        leg.hip.size *= haste.sqrt() * random.around(1.0, 0.025);
        leg.hip.middle += random.around(0.0, 0.012);
        leg.knee_loading.size *= haste * random.around(1.0, 0.08);
        leg.knee_swing.size *= random.around(1.0, 0.025);
        leg.spread.middle += random.around(0.0, 0.008);
    }
    for arm in &mut person.arms {
        arm.swing.size *= haste * random.around(1.0, 0.15);
        arm.swing.middle += random.around(0.0, 0.035);
        arm.elbow.middle += random.around(0.0, 0.06);
        arm.outwards += random.around(0.0, 0.02);
    }
    let torso = &mut person.torso;
    torso.lean += random.around(0.0, 0.02) + 0.05 * (haste - 1.0);
    torso.shoulder_turn.size *= haste;
    person.head.pitch += random.around(0.0, 0.06);
}

/// The effect of the condition on a walk.
fn load(person: &mut Walker, condition: Condition, random: &mut Random) {
    let side = random.below(2) as usize;
    match condition {
        Condition::Normal => {}
        Condition::Bag => {
            person.torso.lean += random.around(0.02, 0.03);
            person.torso.shoulder_tilt.middle += random.around(0.0, 0.04);
            if random.chance(0.7) {
                let (up, bend) = (random.around(0.1, 0.15), random.between(0.1, 1.7));
                hold(&mut person.arms[side], up, bend, random);
            }
        }
        Condition::Coat => {
            for arm in &mut person.arms {
                arm.swing.size *= 0.8;
                arm.outwards += random.around(0.05, 0.03);
            }
            let wider = random.around(1.08, 0.04);
            person.lengths.hip_half *= wider;
            person.lengths.shoulder_half *= random.around(1.03, 0.02);
            // The coat's hem is estimated as the knee.
            let hem = random.around(0.97, 0.03);
            person.lengths.thigh *= hem;
            person.lengths.shank *= 2.0 - hem;
        }
        Condition::Phone => {
            person.head.pitch -= random.between(0.0, 0.5);
            let both = random.chance(0.5);
            let (up, bend) = if both { (0.3, 1.6) } else { (0.5, 2.4) };
            for (arm, _) in person.arms.iter_mut().zip(0..).filter(|(_, one)| both || *one == side) {
                let (up, bend) = (random.around(up, 0.12), random.around(bend, 0.2));
                hold(arm, up, bend, random);
            }
        }
    }
}

/// Fixes an arm.
fn hold(arm: &mut Arm, up: f32, bend: f32, random: &mut Random) {
    arm.swing.size *= random.between(0.05, 0.35);
    arm.elbow.size *= 0.2;
    arm.swing.middle = up;
    arm.elbow.middle = bend;
    arm.forearm_inwards += random.around(0.2, 0.2);
}

fn plus(from: Point, direction: Point, length: f32) -> Point {
    std::array::from_fn(|axis| from[axis] + direction[axis] * length)
}

/// Unit vector that hangs down, turned forward, then outward.
fn hanging(forward: f32, outward: f32) -> Point {
    [forward.sin() * outward.cos(), outward.sin(), -forward.cos() * outward.cos()]
}

/// Unit vector that points up, leaning forward and to the left.
fn tilted(forward: f32, left: f32) -> Point {
    [forward.sin() * left.cos(), left.sin(), forward.cos() * left.cos()]
}

/// Vector to the left of a body that is turned and tilted.
fn across(turn: f32, drop: f32, length: f32) -> Point {
    [-turn.sin() * drop.cos() * length, turn.cos() * drop.cos() * length, drop.sin() * length]
}

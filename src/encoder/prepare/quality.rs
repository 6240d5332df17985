//! Sample quality, measured on the network's input: the aligned face, the crop of a body, the joints.

use domain::{Frame, Landmarks, Quality};

/// Distance of the nose tip from the plane of the eyes, in interocular distances. With it and weak perspective, five
/// landmarks give the pose.
const NOSE_DEPTH: f32 = 0.5;
/// Distances from the eyes to the mouth and to the nose tip, in interocular distances, for a frontal face (the template
/// of SphereFace and ArcFace).
const MOUTH_DROP: f32 = 1.155;
const NOSE_DROP: f32 = 0.57;
/// Minimum score of a visible joint.
const JOINT_SCORE_MIN: f32 = 0.3;

/// Range of each measure: score 0 at the first value, 1 at the second. The face ranges were chosen on LFW pictures that
/// were downscaled, blurred and made noisy: of eight frames, the best by score identifies its person among 160 for 70
/// people, a random frame for 40, and the eight frames weighted by the squared score for 79.
const FACE_PX: [f32; 2] = [16.0, 80.0];
const NOISE: [f32; 2] = [0.3, 0.03];
const SHARPNESS: [f32; 2] = [0.0, 0.04];
const DARK: [f32; 2] = [0.04, 0.2];
const BRIGHT: [f32; 2] = [0.98, 0.85];
const TURNED_DEGREES: [f32; 2] = [75.0, 25.0];
const DETECTION: [f32; 2] = [0.5, 0.95];
const BODY_PX: [f32; 2] = [24.0, 128.0];
/// Aspect ratio (width / height) of a standing body.
const NARROW: [f32; 2] = [0.12, 0.28];
const WIDE: [f32; 2] = [1.6, 0.75];
const GAIT_FRAMES: [f32; 2] = [4.0, 48.0];
const JOINTS: [f32; 2] = [0.3, 1.0];

/// A grey picture, values 0 to 1.
struct GreyImage {
    values: Vec<f32>,
    width: usize,
}

/// Adds sharpness, noise and brightness. `pixels` are row-major RGB in 0..=255, `width` is the row length.
pub(super) fn of_pixels(pixels: &[[f32; 3]], width: usize, quality: Quality) -> Quality {
    const CONTRAST_MIN: f32 = 1e-3;
    let values: Vec<f32> = pixels.iter().map(|[r, g, b]| (0.299 * r + 0.587 * g + 0.114 * b) / 255.0).collect();
    let count = values.len().max(1) as f32;
    let mean = values.iter().sum::<f32>() / count;
    let contrast = (values.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / count).sqrt();
    let quality = Quality { brightness: Some(mean), ..quality };
    let grey = GreyImage { values, width };
    if width < 3 || grey.values.len() < 3 * width {
        return quality;
    }
    if contrast < CONTRAST_MIN {
        return Quality { sharpness: Some(0.0), noise: Some(0.0), ..quality };
    }
    let noise = grey.noise();
    // White noise with standard deviation s has a Laplacian variance of 20 s^2; subtract it from the sharpness.
    let sharpness = (grey.laplacian_variance() - 20.0 * noise * noise).max(0.0).sqrt() / (4.0 * contrast);
    Quality { sharpness: Some(sharpness), noise: Some(noise / contrast), ..quality }
}

impl GreyImage {
    /// The convolution with `kernel` at each inner pixel.
    fn filtered(&self, kernel: [[f32; 3]; 3]) -> impl Iterator<Item = f32> {
        let (width, height) = (self.width, self.values.len() / self.width);
        let inner = (1..height - 1).flat_map(move |y| (1..width - 1).map(move |x| y * width + x));
        inner.map(move |at| {
            let rows = [at - width, at, at + width].map(|row| &self.values[row - 1..=row + 1]);
            rows.iter().zip(kernel).flat_map(|(row, by)| row.iter().zip(by).map(|(value, by)| value * by)).sum()
        })
    }

    fn laplacian_variance(&self) -> f32 {
        let (mut sum, mut squares, mut count) = (0.0_f32, 0.0_f32, 0.0_f32);
        for value in self.filtered([[0.0, -1.0, 0.0], [-1.0, 4.0, -1.0], [0.0, -1.0, 0.0]]) {
            sum += value;
            squares += value * value;
            count += 1.0;
        }
        (squares / count - (sum / count).powi(2)).max(0.0)
    }

    /// Standard deviation of white noise, by a mask that ignores slopes and edges (Immerkaer 1996).
    fn noise(&self) -> f32 {
        let (mut sum, mut count) = (0.0_f32, 0.0_f32);
        for value in self.filtered([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]]) {
            sum += value.abs();
            count += 1.0;
        }
        sum / count * std::f32::consts::FRAC_PI_2.sqrt() / 6.0
    }
}

/// Yaw, pitch and roll in degrees from five landmarks; an estimate with an error of about ten degrees.
pub(super) fn pose(landmarks: &Landmarks) -> [f32; 3] {
    let Landmarks([left_eye, right_eye, nose, left_mouth, right_mouth]) = *landmarks;
    let between = |a: [f32; 2], b: [f32; 2]| [f32::midpoint(a[0], b[0]), f32::midpoint(a[1], b[1])];
    let (eyes, mouth) = (between(left_eye, right_eye), between(left_mouth, right_mouth));
    let roll = (right_eye[1] - left_eye[1]).atan2(right_eye[0] - left_eye[0]);
    // Rotated upright around the midpoint of the eyes.
    let upright = |[x, y]: [f32; 2]| {
        let (x, y) = (x - eyes[0], y - eyes[1]);
        [x * roll.cos() + y * roll.sin(), y * roll.cos() - x * roll.sin()]
    };
    let (nose, mouth) = (upright(nose), upright(mouth));
    let apart = (right_eye[0] - left_eye[0]).hypot(right_eye[1] - left_eye[1]).max(1e-3);
    // A frontal nose is on the line from eyes to mouth; its offset gives the yaw.
    let middle = mouth[0] * NOSE_DROP / MOUTH_DROP;
    let yaw = ((nose[0] - middle) / apart / NOSE_DEPTH).atan();
    let drop = mouth[1].max(1e-3);
    let pitch = ((NOSE_DROP / MOUTH_DROP - nose[1] / drop) * MOUTH_DROP / NOSE_DEPTH).atan();
    [yaw, pitch, roll].map(f32::to_degrees)
}

/// The quality of a skeleton sequence.
pub(super) fn of_walk(frames: &[Frame]) -> Quality {
    let scores = || frames.iter().flat_map(|frame| &frame.joints).map(|joint| joint.score);
    let joints = scores().count().max(1) as f32;
    let seen = scores().filter(|score| *score >= JOINT_SCORE_MIN).count() as f32 / joints;
    scored(Quality {
        frames: u32::try_from(frames.len()).ok(),
        joints_seen: Some(seen),
        joint_confidence: Some(scores().sum::<f32>() / joints),
        ..Quality::default()
    })
}

/// Adds the score: the product of all measures' scores.
pub(super) fn scored(quality: Quality) -> Quality {
    let size = |degrees: Option<f32>| degrees.map(f32::abs);
    let aspect = quality.aspect.map(|aspect| worth(aspect, NARROW).min(worth(aspect, WIDE)));
    let light = quality.brightness.map(|light| worth(light, DARK).min(worth(light, BRIGHT)));
    let worths = [
        quality.face_px.map(|px| worth(px, FACE_PX)),
        quality.height_px.map(|px| worth(px, BODY_PX)),
        quality.sharpness.map(|sharpness| worth(sharpness, SHARPNESS)),
        quality.noise.map(|noise| worth(noise, NOISE)),
        size(quality.yaw_degrees).map(|degrees| worth(degrees, TURNED_DEGREES)),
        size(quality.pitch_degrees).map(|degrees| worth(degrees, TURNED_DEGREES)),
        quality.detection_score.map(|score| worth(score, DETECTION)),
        quality.frames.map(|frames| worth(frames as f32, GAIT_FRAMES)),
        quality.joints_seen.map(|seen| worth(seen, JOINTS)),
        aspect,
        light,
    ];
    Quality { score: worths.into_iter().flatten().product(), ..quality }
}

/// 0 at `nothing`, 1 at `all` and beyond, linear between; `all` may be the smaller value.
fn worth(value: f32, [nothing, all]: [f32; 2]) -> f32 {
    ((value - nothing) / (all - nothing)).clamp(0.0, 1.0)
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "numbers that no rounding touches")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use domain::{JOINTS as JOINT_COUNT, Joint};

    const FRONTAL: [[f32; 2]; 5] =
        [[30.2946, 51.6963], [65.5318, 51.5014], [48.0252, 71.7366], [33.5493, 92.3655], [62.7299, 92.2041]];

    fn pixels(width: usize, height: usize, of: impl Fn(usize, usize) -> f32) -> Vec<[f32; 3]> {
        (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| [of(x, y); 3]).collect()
    }

    #[test]
    fn a_frontal_face_has_no_yaw_pitch_or_roll() {
        let [yaw, pitch, roll] = pose(&Landmarks(FRONTAL));
        assert!(yaw.abs() < 3.0 && pitch.abs() < 3.0 && roll.abs() < 1.0, "{yaw} {pitch} {roll}");
    }

    #[test]
    fn a_nose_off_the_centre_line_gives_yaw() {
        let with_nose = |dx: f32, dy: f32| {
            let mut points = FRONTAL;
            points[2] = [points[2][0] + dx, points[2][1] + dy];
            pose(&Landmarks(points))
        };
        assert!(with_nose(12.0, 0.0)[0] > 25.0 && with_nose(-12.0, 0.0)[0] < -25.0);
        assert!(with_nose(0.0, -10.0)[1] > 15.0 && with_nose(0.0, 10.0)[1] < -15.0);
    }

    fn seen(pixels: &[[f32; 3]], width: usize) -> Quality {
        of_pixels(pixels, width, Quality::default())
    }

    #[test]
    fn sharpness_falls_with_blur_and_not_with_exposure() {
        let edge = |softness: f32, low: f32, high: f32| {
            let value = move |x: usize, _| low + (high - low) / (1.0 + (-(x as f32 - 20.0) / softness).exp());
            seen(&pixels(40, 30, value), 40).sharpness.expect("large enough")
        };
        assert!(edge(0.3, 20.0, 220.0) > 3.0 * edge(4.0, 20.0, 220.0));
        assert!((edge(1.0, 20.0, 220.0) - edge(1.0, 20.0, 70.0)).abs() < 1e-3);
        assert_eq!(seen(&pixels(40, 30, |_, _| 99.0), 40).sharpness, Some(0.0));
        assert_eq!(seen(&pixels(2, 2, |_, _| 99.0), 2).sharpness, None);
    }

    #[test]
    fn noise_is_not_sharpness() {
        let slope = |x: usize, y: usize| 60.0 + 2.0 * x as f32 + y as f32;
        // A hash of the position, about -1 to 1.
        let hash = |x: usize, y: usize| {
            let [x, y] = [x, y].map(|at| u32::try_from(at).expect("a small picture"));
            let mut mixed = x.wrapping_mul(374_761_393) ^ y.wrapping_mul(668_265_263);
            for _ in 0..3 {
                mixed = (mixed ^ (mixed >> 15)).wrapping_mul(2_246_822_519);
            }
            ((mixed >> 8) % 2001) as f32 / 1000.0 - 1.0
        };
        let noisy = |loudness: f32| seen(&pixels(60, 50, |x, y| slope(x, y) + loudness * hash(x, y)), 60);
        let noise = |quality: Quality| quality.noise.expect("large enough");
        assert!(noise(noisy(0.0)) < 1e-3 && noise(noisy(30.0)) > 2.5 * noise(noisy(10.0)));
        // A uniform value in -1..1 has a standard deviation of 0.577; the slope's own contrast is about 37.
        assert!((noise(noisy(10.0)) - 5.77 / 37.8).abs() < 0.03, "{}", noise(noisy(10.0)));
        assert!(noisy(10.0).sharpness.expect("large enough") < 0.15);
    }

    #[test]
    fn brightness_is_the_mean_luminance() {
        let grey = seen(&pixels(10, 10, |x, _| if x < 5 { 0.0 } else { 255.0 }), 10);
        assert!((grey.brightness.expect("always") - 0.5).abs() < 1e-5);
    }

    #[test]
    fn joints_with_low_scores_are_counted() {
        let joint = |seen| Joint { x: 1.0, y: 1.0, score: if seen { 0.9 } else { 0.1 } };
        let frame = Frame { joints: std::array::from_fn(|number| joint(number != 0)) };
        let quality = of_walk(&[frame; 60]);
        let expected = (JOINT_COUNT - 1) as f32 / JOINT_COUNT as f32;
        assert!((quality.joints_seen.expect("always") - expected).abs() < 1e-6);
        assert_eq!(quality.frames, Some(60));
        assert!(quality.score > 0.9);
        assert_eq!(of_walk(&[frame; 3]).score, 0.0);
    }

    #[test]
    fn one_bad_measure_lowers_the_score() {
        let good =
            Quality { face_px: Some(200.0), sharpness: Some(0.5), detection_score: Some(1.0), ..Quality::default() };
        assert_eq!(scored(good).score, 1.0);
        assert!(scored(Quality { yaw_degrees: Some(-70.0), ..good }).score < 0.2);
        assert_eq!(scored(Quality { face_px: Some(5.0), ..good }).score, 0.0);
    }

    proptest! {
        #[test]
        fn roll_changes_no_other_angle(angle in -80.0_f32..80.0, scale in 0.2_f32..9.0) {
            let (sin, cos) = angle.to_radians().sin_cos();
            let turned = FRONTAL.map(|[x, y]| [scale * (x * cos - y * sin), scale * (x * sin + y * cos)]);
            let [yaw, pitch, roll] = pose(&Landmarks(turned));
            let [yaw_before, pitch_before, roll_before] = pose(&Landmarks(FRONTAL));
            prop_assert!((yaw - yaw_before).abs() < 0.5 && (pitch - pitch_before).abs() < 0.5);
            prop_assert!((roll - roll_before - angle).abs() < 0.5);
        }

        #[test]
        fn the_pose_is_always_finite(points in prop::array::uniform5(prop::array::uniform2(-1e4_f32..1e4))) {
            prop_assert!(pose(&Landmarks(points)).iter().all(|degrees| degrees.is_finite()));
        }
    }
}

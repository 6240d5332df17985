//! Aligns a face to the template of an encoder by five landmarks.

use image::RgbImage;
use thiserror::Error;

use domain::{Alignment, Geometry, Landmarks};

/// The mean landmarks of deep-funneled LFW pictures, in pixels.
const LFW_FUNNELED: Landmarks =
    Landmarks([[103.0, 113.0], [147.0, 113.0], [125.0, 138.0], [107.0, 162.0], [143.0, 162.0]]);
const LFW_SIDE: u32 = 250;

/// Maximum unexplained share of the template's variance. A frontal face leaves about 0.02, a profile 0.2, swapped left
/// and right 0.9.
const MISFIT_MAX: f64 = 0.5;

/// Minimum spread of landmarks (mean squared distance from their centre, in pixels squared); below it they are one
/// point.
const SPREAD_MIN: f64 = 1e-3;

/// Why a face cannot be aligned.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AlignError {
    #[error(
        "no face detector is installed, so set how the face is aligned: alignment is \"landmarks\" (with five landmarks), \"aligned\" or \"lfw_funneled\""
    )]
    Unsaid,
    #[error("no face detector is installed: send five landmarks, or an aligned crop with alignment \"aligned\"")]
    NoDetector,
    #[error("alignment \"landmarks\" needs five landmarks in the sample")]
    NoLandmarks,
    #[error("the sample has landmarks, and its alignment does not use them")]
    LandmarksUnused,
    #[error("this model does not align pictures to landmarks")]
    NotAligning,
    #[error("landmark {0} is not finite or is outside the picture")]
    LandmarkOutside(usize),
    #[error("the landmarks are all at one point")]
    LandmarksDegenerate,
    #[error(
        "the landmarks do not form a face: the order is left eye, right eye, nose, left and right corner of the mouth, as the viewer sees them"
    )]
    LandmarksUnlikeAFace,
    #[error(
        "an aligned face for this model has the shape of {0} x {1} pixels, with the eyes and the mouth at their places; this picture is {2} x {3}: send five landmarks instead"
    )]
    NotAligned(u32, u32, u32, u32),
    #[error("alignment \"lfw_funneled\" is for whole pictures of {LFW_SIDE} x {LFW_SIDE} pixels")]
    NotLfwFunneled,
}

/// How to bring a face into the input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum FacePlacement {
    /// Resize only.
    Fill,
    /// Warp these landmarks of the picture to the template.
    Warp(Landmarks),
}

/// Derives the placement from a face sample's geometry. `[width, height]` are the picture's in pixels; landmarks are
/// relative to its corner.
pub(super) fn placement(geometry: &Geometry, [width, height]: [u32; 2]) -> Result<FacePlacement, AlignError> {
    match (geometry.alignment, geometry.landmarks) {
        (None, None) => Err(AlignError::Unsaid),
        (Some(Alignment::Detect), _) => Err(AlignError::NoDetector),
        (Some(Alignment::Landmarks), None) => Err(AlignError::NoLandmarks),
        (Some(Alignment::Aligned | Alignment::LfwFunneled), Some(_)) => Err(AlignError::LandmarksUnused),
        (None | Some(Alignment::Landmarks), Some(landmarks)) => {
            within(&landmarks, [width, height])?;
            Ok(FacePlacement::Warp(landmarks))
        }
        (Some(Alignment::Aligned), None) => Ok(FacePlacement::Fill),
        (Some(Alignment::LfwFunneled), None) => {
            if [width, height] == [LFW_SIDE; 2] && geometry.region.is_none() {
                Ok(FacePlacement::Warp(LFW_FUNNELED))
            } else {
                Err(AlignError::NotLfwFunneled)
            }
        }
    }
}

fn within(landmarks: &Landmarks, [width, height]: [u32; 2]) -> Result<(), AlignError> {
    let inside = |[x, y]: [f32; 2]| (0.0..=width as f32).contains(&x) && (0.0..=height as f32).contains(&y);
    match landmarks.0.iter().position(|point| !inside(*point)) {
        None => Ok(()),
        Some(at) => Err(AlignError::LandmarkOutside(at)),
    }
}

/// A similarity transform of the plane: `(x, y)` goes to `(cos x - sin y + right, sin x + cos y + down)`, where `cos`
/// and `sin` include the scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct SimilarityTransform {
    cos: f64,
    sin: f64,
    right: f64,
    down: f64,
}

impl SimilarityTransform {
    /// The least-squares transform from `from` to `to` (Umeyama 1991).
    ///
    /// In the plane, with centred points as complex numbers, it is one division: `sum(conj(from) to) / sum(|from|^2)`.
    /// The result is never a reflection.
    pub(super) fn fit(from: &[[f32; 2]; 5], to: &[[f32; 2]; 5]) -> Result<Self, AlignError> {
        let (from, from_centre) = centred(from);
        let (to, to_centre) = centred(to);
        let spread = |points: &[[f64; 2]; 5]| points.iter().map(|[x, y]| x * x + y * y).sum::<f64>();
        let (from_spread, to_spread) = (spread(&from), spread(&to));
        if from_spread < SPREAD_MIN || to_spread < SPREAD_MIN {
            return Err(AlignError::LandmarksDegenerate);
        }
        let pairs = || from.iter().zip(&to);
        let along: f64 = pairs().map(|([x, y], [u, v])| x * u + y * v).sum();
        let across: f64 = pairs().map(|([x, y], [u, v])| x * v - y * u).sum();
        let explained = (along * along + across * across) / (from_spread * to_spread);
        if 1.0 - explained > MISFIT_MAX {
            return Err(AlignError::LandmarksUnlikeAFace);
        }
        let (cos, sin) = (along / from_spread, across / from_spread);
        let [x, y] = from_centre;
        let right = to_centre[0] - (cos * x - sin * y);
        let down = to_centre[1] - (sin * x + cos * y);
        Ok(Self { cos, sin, right, down })
    }

    /// The scale factor.
    pub(super) fn scale(&self) -> f32 {
        narrow(self.cos.hypot(self.sin))
    }

    /// The transform into an output that is `by` times as large. Integer coordinates are pixel centres.
    pub(super) fn resized(&self, by: f32) -> Self {
        let by = f64::from(by);
        let (right, down) = ((self.right + 0.5) * by - 0.5, (self.down + 0.5) * by - 0.5);
        Self { cos: self.cos * by, sin: self.sin * by, right, down }
    }

    fn inverse(&self) -> Self {
        let square = self.cos * self.cos + self.sin * self.sin;
        let (cos, sin) = (self.cos / square, -self.sin / square);
        let right = -(cos * self.right - sin * self.down);
        let down = -(sin * self.right + cos * self.down);
        Self { cos, sin, right, down }
    }

    fn apply(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        [self.cos * x - self.sin * y + self.right, self.sin * x + self.cos * y + self.down]
    }

    /// The transformed picture, `[width, height]` pixels, row-major RGB in 0..=255; outside of the picture it is black.
    /// Integer coordinates are pixel centres.
    pub(super) fn warp(&self, picture: &RgbImage, [width, height]: [u32; 2]) -> Vec<[f32; 3]> {
        let back = self.inverse();
        let places = (0..height).flat_map(|y| (0..width).map(move |x| [f64::from(x), f64::from(y)]));
        places.map(|place| bilinear(picture, back.apply(place))).collect()
    }
}

fn centred(points: &[[f32; 2]; 5]) -> ([[f64; 2]; 5], [f64; 2]) {
    let mean = |axis: usize| points.iter().map(|point| f64::from(point[axis])).sum::<f64>() / points.len() as f64;
    let centre = [mean(0), mean(1)];
    (points.map(|[x, y]| [f64::from(x) - centre[0], f64::from(y) - centre[1]]), centre)
}

fn bilinear(picture: &RgbImage, [x, y]: [f64; 2]) -> [f32; 3] {
    let (left, top) = (x.floor(), y.floor());
    let (right_part, low_part) = (narrow(x - left), narrow(y - top));
    let mut colour = [0.0; 3];
    for (dx, dy, weight) in [
        (0.0, 0.0, (1.0 - right_part) * (1.0 - low_part)),
        (1.0, 0.0, right_part * (1.0 - low_part)),
        (0.0, 1.0, (1.0 - right_part) * low_part),
        (1.0, 1.0, right_part * low_part),
    ] {
        if let Some(pixel) = pixel(picture, left + dx, top + dy) {
            for (sum, part) in colour.iter_mut().zip(pixel) {
                *sum += weight * f32::from(part);
            }
        }
    }
    colour
}

/// The pixel at integer coordinates, if it is inside the picture.
fn pixel(picture: &RgbImage, x: f64, y: f64) -> Option<[u8; 3]> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "both lie within the picture")]
    ((0.0..f64::from(picture.width())).contains(&x) && (0.0..f64::from(picture.height())).contains(&y))
        .then(|| picture.get_pixel(x as u32, y as u32).0)
}

#[expect(clippy::cast_possible_truncation, reason = "parts of a pixel need no f64")]
fn narrow(part: f64) -> f32 {
    part as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEMPLATE: [[f32; 2]; 5] =
        [[30.2946, 51.6963], [65.5318, 51.5014], [48.0252, 71.7366], [33.5493, 92.3655], [62.7299, 92.2041]];

    proptest! {
        #[test]
        fn a_transformed_template_is_recovered(
            angle in -3.1_f64..3.1, scale in 0.1_f64..20.0, right in -500.0_f64..500.0, down in -500.0_f64..500.0,
        ) {
            let moved = SimilarityTransform { cos: scale * angle.cos(), sin: scale * angle.sin(), right, down };
            let from = TEMPLATE.map(|[x, y]| moved.apply([f64::from(x), f64::from(y)]).map(narrow));
            let fit = SimilarityTransform::fit(&from, &TEMPLATE).expect("a face");
            for (from, to) in from.iter().zip(&TEMPLATE) {
                let [x, y] = fit.apply(from.map(f64::from));
                prop_assert!((x - f64::from(to[0])).abs() < 1e-2 && (y - f64::from(to[1])).abs() < 1e-2);
            }
        }
    }

    fn same(found: [f32; 3], expected: [f32; 3]) {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-3), "{found:?} {expected:?}");
    }

    #[test]
    fn the_identity_does_not_change_a_picture() {
        let picture = RgbImage::from_fn(5, 4, |x, y| image::Rgb([x, y, x + y].map(|v| u8::try_from(v).unwrap() * 20)));
        let still = SimilarityTransform { cos: 1.0, sin: 0.0, right: 0.0, down: 0.0 };
        let warped = still.warp(&picture, [5, 4]);
        for (pixel, warped) in picture.pixels().zip(warped) {
            same(warped, pixel.0.map(f32::from));
        }
    }

    #[test]
    fn pixels_outside_the_picture_are_black() {
        let white = RgbImage::from_pixel(4, 4, image::Rgb([255; 3]));
        let half_a_pixel = SimilarityTransform { cos: 1.0, sin: 0.0, right: 0.5, down: 0.0 };
        let warped = half_a_pixel.warp(&white, [6, 4]);
        for (at, expected) in [(0, 127.5), (1, 255.0), (3, 255.0), (4, 127.5), (5, 0.0)] {
            same(warped[at], [expected; 3]);
        }
    }

    #[test]
    fn exchanged_sides_are_refused() {
        let [left_eye, right_eye, nose, left_mouth, right_mouth] = TEMPLATE;
        let exchanged = [right_eye, left_eye, nose, right_mouth, left_mouth];
        assert_eq!(SimilarityTransform::fit(&exchanged, &TEMPLATE), Err(AlignError::LandmarksUnlikeAFace));
        let profile = TEMPLATE.map(|[x, y]| [0.3 * x, y]);
        assert!(SimilarityTransform::fit(&profile, &TEMPLATE).is_ok());
    }

    #[test]
    fn degenerate_and_outside_landmarks_are_refused() {
        assert_eq!(SimilarityTransform::fit(&[[7.0; 2]; 5], &TEMPLATE), Err(AlignError::LandmarksDegenerate));
        let with = |landmark| {
            let mut landmarks = TEMPLATE;
            landmarks[3] = landmark;
            Geometry { landmarks: Some(Landmarks(landmarks)), ..Geometry::default() }
        };
        for outside in [[-1.0, 5.0], [97.0, 5.0], [5.0, 113.0], [f32::NAN, 5.0], [5.0, f32::INFINITY]] {
            assert_eq!(placement(&with(outside), [96, 112]), Err(AlignError::LandmarkOutside(3)));
        }
        assert!(placement(&with([33.0, 92.0]), [96, 112]).is_ok());
    }

    #[test]
    fn every_alignment_has_a_placement_or_an_error() {
        let ask = |alignment, landmarks: Option<[[f32; 2]; 5]>, side| {
            let geometry = Geometry { alignment, landmarks: landmarks.map(Landmarks), ..Geometry::default() };
            placement(&geometry, [side, side])
        };
        let some = Some(TEMPLATE);
        assert_eq!(ask(None, None, 250), Err(AlignError::Unsaid));
        assert_eq!(ask(None, some, 250), Ok(FacePlacement::Warp(Landmarks(TEMPLATE))));
        assert_eq!(ask(Some(Alignment::Landmarks), some, 250), Ok(FacePlacement::Warp(Landmarks(TEMPLATE))));
        assert_eq!(ask(Some(Alignment::Landmarks), None, 250), Err(AlignError::NoLandmarks));
        assert_eq!(ask(Some(Alignment::Aligned), None, 250), Ok(FacePlacement::Fill));
        assert_eq!(ask(Some(Alignment::Aligned), some, 250), Err(AlignError::LandmarksUnused));
        assert_eq!(ask(Some(Alignment::Detect), None, 250), Err(AlignError::NoDetector));
        assert_eq!(ask(Some(Alignment::LfwFunneled), None, 250), Ok(FacePlacement::Warp(LFW_FUNNELED)));
        assert_eq!(ask(Some(Alignment::LfwFunneled), None, 251), Err(AlignError::NotLfwFunneled));
    }
}

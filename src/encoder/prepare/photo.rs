//! A photo for face detection: the picture and a downscaled copy.

use image::{RgbImage, imageops};

use super::{PictureError, SampleLimits, decode::decode, picture::cut};
use domain::{Face, Geometry, ImageBytes, Landmarks, PixelBox};
use torch::detector::Detection;

/// Minimum visible share of a face's box; below it the border cuts the face.
const VISIBLE_SHARE_MIN: f32 = 0.6;

/// A turn of a photo, clockwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    Quarter,
    Half,
    ThreeQuarters,
}

impl Turn {
    pub const ALL: [Self; 3] = [Self::Quarter, Self::ThreeQuarters, Self::Half];

    fn of(self, picture: &RgbImage) -> RgbImage {
        match self {
            Self::Quarter => imageops::rotate90(picture),
            Self::Half => imageops::rotate180(picture),
            Self::ThreeQuarters => imageops::rotate270(picture),
        }
    }
}

/// A decoded photo.
#[derive(Debug)]
pub struct Photo {
    pub(super) picture: RgbImage,
    /// The detector's picture: the photo or its region, downscaled to the maximum side; `None` when it is the photo
    /// itself.
    downscaled: Option<RgbImage>,
    /// Offset of the detector's picture in the photo, and photo pixels per detector pixel.
    corner: [f32; 2],
    scale: f32,
    /// How the photo was turned since it was decoded.
    turn: Option<Turn>,
}

impl Photo {
    /// Decodes a photo, and downscales a copy for the detector if needed.
    ///
    /// # Errors
    ///
    /// See [`PictureError`].
    pub fn decode(bytes: &ImageBytes, geometry: &Geometry, limits: &SampleLimits) -> Result<Self, PictureError> {
        let picture = decode(&bytes.0, limits)?;
        let (part, corner) = match geometry.region {
            None => (None, [0.0; 2]),
            Some(region) => {
                let (part, corner) = cut(&picture, region)?;
                (Some(part), corner)
            }
        };
        let whole = part.as_ref().unwrap_or(&picture);
        let longest = whole.width().max(whole.height());
        let downscaled = if longest > limits.detect_side_px_max {
            let most = u64::from(limits.detect_side_px_max);
            let side = |side: u32| {
                let scaled = (u64::from(side) * most).div_ceil(u64::from(longest)).max(1);
                u32::try_from(scaled).expect("no longer than the original side")
            };
            let (width, height) = (side(whole.width()), side(whole.height()));
            Some(image::imageops::thumbnail(whole, width, height))
        } else {
            part
        };
        let scale = longest as f32 / longest.min(limits.detect_side_px_max) as f32;
        Ok(Self { picture, downscaled, corner, scale, turn: None })
    }

    /// The whole photo.
    #[must_use]
    pub fn picture(&self) -> &RgbImage {
        &self.picture
    }

    /// The picture for the detector.
    #[must_use]
    pub fn detector_picture(&self) -> RgbImage {
        self.downscaled.clone().unwrap_or_else(|| self.picture.clone())
    }

    /// The detector's picture, turned.
    #[must_use]
    pub fn turned_detector_picture(&self, turn: Turn) -> RgbImage {
        turn.of(self.downscaled.as_ref().unwrap_or(&self.picture))
    }

    /// The photo turned. It is the whole photo, not a region of it.
    #[must_use]
    pub fn turned(self, turn: Turn) -> Self {
        let picture = turn.of(&self.picture);
        drop(self.picture);
        Self { picture, downscaled: self.downscaled.map(|small| turn.of(&small)), turn: Some(turn), ..self }
    }

    /// The memory of the decoded photo in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.picture.as_raw().len()
    }

    /// A face of the turned photo in pixels of the photo as it was sent.
    #[must_use]
    pub fn as_sent(&self, face: Face) -> Face {
        let Some(turn) = self.turn else { return face };
        let [width, height] = [self.picture.width() as f32, self.picture.height() as f32];
        let back = |[x, y]: [f32; 2]| match turn {
            Turn::Quarter => [y, width - x],
            Turn::Half => [width - x, height - y],
            Turn::ThreeQuarters => [height - y, x],
        };
        let PixelBox { left, top, width, height } = face.bounds;
        let [[x0, y0], [x1, y1]] = [back([left, top]), back([left + width, top + height])];
        let bounds = PixelBox { left: x0.min(x1), top: y0.min(y1), width: (x1 - x0).abs(), height: (y1 - y0).abs() };
        // Landmarks are measured from pixel centres.
        let landmarks = face.landmarks.0.map(|[x, y]| back([x + 0.5, y + 0.5]).map(|place| place - 0.5));
        Face { bounds, landmarks: Landmarks(landmarks), score: face.score }
    }

    /// Converts a detection to pixels of the photo. Boxes are measured from pixel edges, landmarks from pixel centres.
    #[must_use]
    pub fn face(&self, found: &Detection) -> Face {
        let ([right, down], scale) = (self.corner, self.scale);
        let [left, top, width, height] = found.bounds;
        let bounds = PixelBox {
            left: left * scale + right,
            top: top * scale + down,
            width: width * scale,
            height: height * scale,
        };
        let place = |at: f32, offset: f32| (at + 0.5) * scale - 0.5 + offset;
        let landmarks = Landmarks(found.landmarks.map(|[x, y]| [place(x, right), place(y, down)]));
        Face { bounds, landmarks, score: found.score }
    }

    /// Whether enough of the face is inside the photo.
    #[must_use]
    pub fn shows(&self, face: &Face) -> bool {
        let inside = |start: f32, length: f32, side: u32| {
            ((start + length).min(side as f32) - start.max(0.0)).max(0.0) / length.max(1.0)
        };
        let PixelBox { left, top, width, height } = face.bounds;
        let share = inside(left, width, self.picture.width()) * inside(top, height, self.picture.height());
        share >= VISIBLE_SHARE_MIN
    }

    /// The centre of the detector's picture, (x, y) in pixels of the photo.
    #[must_use]
    pub fn centre(&self) -> [f32; 2] {
        let (width, height) = self.downscaled.as_ref().unwrap_or(&self.picture).dimensions();
        [(width, self.corner[0]), (height, self.corner[1])]
            .map(|(side, corner)| side as f32 * self.scale / 2.0 + corner)
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "numbers that no rounding touches")]
mod tests {
    use image::{DynamicImage, ImageFormat, Rgb};

    use super::*;

    fn photo(width: u32, height: u32, geometry: &Geometry, detect_side_px_max: u32) -> Photo {
        let mut file = std::io::Cursor::new(Vec::new());
        let picture = RgbImage::from_fn(width, height, |x, y| {
            Rgb([x, y, 9].map(|part| u8::try_from(part % 256).expect("below 256")))
        });
        DynamicImage::from(picture).write_to(&mut file, ImageFormat::Png).expect("in memory");
        let limits = SampleLimits { detect_side_px_max, ..SampleLimits::default() };
        Photo::decode(&ImageBytes(file.into_inner().into()), geometry, &limits).expect("a picture")
    }

    fn detection(bounds: [f32; 4]) -> Detection {
        Detection { bounds, landmarks: [[bounds[0], bounds[1]]; 5], score: 0.9 }
    }

    #[test]
    fn a_small_photo_is_not_downscaled() {
        let photo = photo(60, 40, &Geometry::default(), 100);
        assert_eq!(photo.detector_picture().dimensions(), (60, 40));
        let face = photo.face(&detection([10.0, 5.0, 20.0, 20.0]));
        assert_eq!(face.bounds, PixelBox { left: 10.0, top: 5.0, width: 20.0, height: 20.0 });
        assert_eq!(face.landmarks.0[0], [10.0, 5.0]);
        assert_eq!(photo.centre(), [30.0, 20.0]);
    }

    #[test]
    fn faces_of_a_downscaled_photo_are_in_its_own_pixels() {
        let photo = photo(400, 200, &Geometry::default(), 100);
        assert_eq!(photo.detector_picture().dimensions(), (100, 50));
        let face = photo.face(&detection([10.0, 5.0, 20.0, 20.0]));
        assert_eq!(face.bounds, PixelBox { left: 40.0, top: 20.0, width: 80.0, height: 80.0 });
        assert_eq!(face.landmarks.0[0], [41.5, 21.5], "centres of pixels move by half of one");
        assert_eq!(photo.centre(), [200.0, 100.0]);
    }

    #[test]
    fn faces_in_a_region_are_relative_to_the_photo() {
        let region = Some(PixelBox { left: 100.0, top: 50.0, width: 200.0, height: 100.0 });
        let photo = photo(400, 200, &Geometry { region, ..Geometry::default() }, 100);
        assert_eq!(photo.detector_picture().dimensions(), (100, 50));
        let face = photo.face(&detection([10.0, 5.0, 20.0, 20.0]));
        assert_eq!(face.bounds, PixelBox { left: 120.0, top: 60.0, width: 40.0, height: 40.0 });
        assert_eq!(photo.centre(), [200.0, 100.0]);
    }

    #[test]
    fn a_face_of_a_turned_photo_is_told_in_pixels_of_the_photo_as_sent() {
        for turn in Turn::ALL {
            let photo = photo(60, 40, &Geometry::default(), 100);
            assert_eq!(photo.bytes(), 60 * 40 * 3);
            let marked = *photo.picture().get_pixel(50, 7);
            let small = photo.turned_detector_picture(turn);
            let turned = photo.turned(turn);
            assert_eq!(small.dimensions(), turned.picture().dimensions());
            let (x, y, _) = turned.picture().enumerate_pixels().find(|(_, _, pixel)| **pixel == marked).expect("there");
            let face = turned.as_sent(turned.face(&detection([x as f32, y as f32, 1.0, 1.0])));
            assert_eq!(face.bounds, PixelBox { left: 50.0, top: 7.0, width: 1.0, height: 1.0 }, "{turn:?}");
            assert_eq!(face.landmarks.0[0], [50.0, 7.0], "{turn:?}");
        }
    }

    #[test]
    fn a_face_that_the_border_cuts_is_not_shown() {
        let photo = photo(100, 100, &Geometry::default(), 100);
        let shown = |left: f32, top: f32| photo.shows(&photo.face(&detection([left, top, 40.0, 40.0])));
        assert!(shown(0.0, 0.0) && shown(-15.0, 30.0) && shown(75.0, 30.0));
        assert!(!shown(-17.0, 30.0) && !shown(90.0, 30.0) && !shown(-12.0, -12.0) && !shown(200.0, 0.0));
    }

    #[test]
    fn a_photo_one_pixel_wide_is_a_photo() {
        let photo = photo(1, 1, &Geometry::default(), 100);
        assert_eq!(photo.detector_picture().dimensions(), (1, 1));
        let thin = self::photo(3000, 1, &Geometry::default(), 100);
        assert_eq!(thin.detector_picture().dimensions(), (100, 1));
    }
}

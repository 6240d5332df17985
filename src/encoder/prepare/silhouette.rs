//! Prepares silhouettes: crops each to the body's rows, scales it to one height, centres it, and selects a fixed number
//! of frames.

use image::{GrayImage, RgbImage, imageops};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    NetworkInput, PrepareError, PreparedSample, PreprocessingError, SampleLimits, decode::decode, quality, skeleton,
};
use domain::{Picture, Quality};

/// Maximum side of a network's silhouette in pixels.
pub(super) const SIDE_MAX: u32 = 512;
/// Maximum width of a scaled body in pixels.
const STREAK_MAX: u32 = 8 * SIDE_MAX;
/// Minimum brightness of a body pixel.
const BODY_MIN: u8 = 128;
/// Minimum body pixels; fewer are an artefact of segmentation.
const BODY_PIXELS_MIN: usize = 16;

/// How silhouettes become a network's input `[frames, height, width]` (OpenGait's preparation of CASIA-B, OU-MVLP and
/// GREW: 64 x 44).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SilhouettePreprocessing {
    /// A longer walk is sampled evenly, a shorter one is repeated.
    pub frames: usize,
    pub height: u32,
    pub width: u32,
}

/// Why silhouettes cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SilhouetteError {
    #[error("the track has no frames")]
    Empty,
    #[error("the track has {found} frames, and at most {limit} are allowed")]
    TooManyFrames { found: usize, limit: usize },
    #[error("frame {frame} of the track: {problem}")]
    Frame { frame: usize, problem: super::PictureError },
    #[error("no frame of the track shows a body: silhouettes are white on black")]
    NoBody,
}

impl SilhouettePreprocessing {
    pub(super) fn check(&self) -> Result<(), PreprocessingError> {
        let side = 8..=SIDE_MAX;
        let is_sound = (1..=skeleton::INPUT_FRAMES_MAX).contains(&self.frames)
            && side.contains(&self.height)
            && side.contains(&self.width);
        if is_sound { Ok(()) } else { Err(PreprocessingError::Silhouette) }
    }

    /// `[frames, height, width]`.
    pub(super) fn shape(&self) -> [usize; 3] {
        [self.frames, self.height as usize, self.width as usize]
    }

    /// Skips frames without a body.
    pub(super) fn prepare(&self, pictures: &[Picture], limits: &SampleLimits) -> Result<PreparedSample, PrepareError> {
        if pictures.is_empty() {
            return Err(SilhouetteError::Empty.into());
        }
        if pictures.len() > limits.track_frames_max {
            let (found, limit) = (pictures.len(), limits.track_frames_max);
            return Err(SilhouetteError::TooManyFrames { found, limit }.into());
        }
        let mut bodies = Vec::with_capacity(pictures.len());
        for (frame, picture) in pictures.iter().enumerate() {
            let decoded = decode(&picture.bytes.0, limits);
            let decoded = decoded.map_err(|problem| SilhouetteError::Frame { frame, problem })?;
            bodies.extend(self.body(&decoded));
        }
        if bodies.is_empty() {
            return Err(SilhouetteError::NoBody.into());
        }
        let quality = Quality { frames: u32::try_from(bodies.len()).ok(), ..Quality::default() };
        let view = self.chosen(bodies.len()).flat_map(|at| bodies[at].iter().copied()).collect();
        Ok(PreparedSample {
            prepared: NetworkInput { views: vec![view] },
            quality: quality::scored(quality),
            walk: None,
        })
    }

    /// The indices of the selected frames among `found`.
    fn chosen(&self, found: usize) -> impl Iterator<Item = usize> {
        let taken = self.frames;
        (0..taken).map(move |at| if found > taken { at * found / taken } else { at % found })
    }

    /// The body in its frame, `[height, width]`, 0 to 1: cropped to its rows, scaled to the input's height with its
    /// aspect ratio, centred by its mass. `None` without a body.
    fn body(&self, picture: &RgbImage) -> Option<Vec<f32>> {
        let grey = imageops::grayscale(picture);
        let rows: Vec<u32> =
            (0..grey.height()).filter(|y| row(&grey, *y).any(|(_, value)| value >= BODY_MIN)).collect();
        let (top, bottom) = (*rows.first()?, *rows.last()?);
        let pixels = (top..=bottom).flat_map(|y| row(&grey, y)).filter(|(_, value)| *value >= BODY_MIN).count();
        if pixels < BODY_PIXELS_MIN {
            return None;
        }
        let cut = imageops::crop_imm(&grey, 0, top, grey.width(), bottom - top + 1).to_image();
        // A horizontal streak is squeezed, so that it does not fill memory.
        let width = (u64::from(cut.width()) * u64::from(self.height)).div_ceil(u64::from(cut.height()));
        let width = u32::try_from(width).unwrap_or(u32::MAX).clamp(1, STREAK_MAX);
        let scaled = imageops::resize(&cut, width, self.height, imageops::FilterType::Triangle);
        let middle = middle_of_mass(&scaled);
        let left = i64::from(middle) - i64::from(self.width / 2);
        let numbers = (0..self.height).flat_map(|y| (0..self.width).map(move |x| (x, y))).map(|(x, y)| {
            let x = u32::try_from(left + i64::from(x)).ok().filter(|x| *x < scaled.width());
            x.map_or(0.0, |x| f32::from(scaled.get_pixel(x, y).0[0]) / 255.0)
        });
        Some(numbers.collect())
    }
}

fn row(picture: &GrayImage, y: u32) -> impl Iterator<Item = (u32, u8)> {
    (0..picture.width()).map(move |x| (x, picture.get_pixel(x, y).0[0]))
}

/// The column that halves the body's mass.
fn middle_of_mass(picture: &GrayImage) -> u32 {
    let column = |x: u32| (0..picture.height()).map(|y| u64::from(picture.get_pixel(x, y).0[0])).sum::<u64>();
    let columns: Vec<u64> = (0..picture.width()).map(column).collect();
    let half = columns.iter().sum::<u64>() / 2;
    let mut before = 0;
    for (x, mass) in (0..).zip(columns) {
        before += mass;
        if before > half {
            return x;
        }
    }
    picture.width() / 2
}

#[cfg(test)]
mod tests {
    use image::{DynamicImage, ImageFormat, Luma};

    use super::*;
    use domain::{Geometry, ImageBytes};

    const HOW: SilhouettePreprocessing = SilhouettePreprocessing { frames: 4, height: 64, width: 44 };

    fn picture(silhouette: GrayImage) -> Picture {
        let mut file = std::io::Cursor::new(Vec::new());
        DynamicImage::from(silhouette).write_to(&mut file, ImageFormat::Png).expect("in memory");
        Picture { bytes: ImageBytes(file.into_inner().into()), geometry: Geometry::default() }
    }

    /// A body of 20 x 80 with its left edge at `left`.
    fn body(left: u32) -> Picture {
        let is_body = move |x: u32, y: u32| (left..left + 20).contains(&x) && (30..110).contains(&y);
        picture(GrayImage::from_fn(200, 150, |x, y| Luma([if is_body(x, y) { 255 } else { 0 }])))
    }

    fn prepared(pictures: &[Picture]) -> Result<PreparedSample, PrepareError> {
        HOW.prepare(pictures, &SampleLimits::default())
    }

    #[test]
    fn a_body_is_scaled_to_the_height_and_centred() {
        let left = prepared(&[body(10)]).expect("a body").prepared.views[0].clone();
        let right = prepared(&[body(150)]).expect("a body").prepared.views[0].clone();
        assert_eq!(left.len(), 4 * 64 * 44);
        assert!(left.iter().zip(&right).all(|(a, b)| (a - b).abs() < 0.02));
        let row: Vec<f32> = left[44 * 32..44 * 33].to_vec();
        let mass: f32 = row.iter().sum();
        assert!((mass - 16.0).abs() < 1.5, "20 of 80 pixels at a height of 64 are 16: {mass}");
        assert!(row[..12].iter().chain(&row[32..]).all(|value| *value < 0.05));
    }

    #[test]
    fn short_walks_are_repeated_and_long_ones_sampled() {
        let chosen = |found| HOW.chosen(found).collect::<Vec<_>>();
        assert_eq!(chosen(3), [0, 1, 2, 0]);
        assert_eq!(chosen(8), [0, 2, 4, 6]);
    }

    #[test]
    fn frames_without_a_body_are_skipped_and_a_walk_of_them_is_refused() {
        let blank = || picture(GrayImage::new(50, 50));
        let quality = prepared(&[blank(), body(10), blank(), body(12)]).expect("two bodies").quality;
        assert_eq!(quality.frames, Some(2));
        assert_eq!(prepared(&[blank(), blank()]), Err(SilhouetteError::NoBody.into()));
        assert_eq!(prepared(&[]), Err(SilhouetteError::Empty.into()));
        let many = vec![blank(); 301];
        assert_eq!(prepared(&many), Err(SilhouetteError::TooManyFrames { found: 301, limit: 300 }.into()));
        let garbage = Picture { bytes: ImageBytes(b"no picture".as_slice().into()), geometry: Geometry::default() };
        assert!(matches!(
            prepared(&[body(3), garbage]),
            Err(PrepareError::Silhouette(SilhouetteError::Frame { frame: 1, .. }))
        ));
    }
}

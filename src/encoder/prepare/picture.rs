//! Prepares pictures: crop, align or resize, normalise.

use image::{
    GenericImageView, RgbImage,
    imageops::{self, FilterType},
};
use serde::{Deserialize, Serialize};
use tracing::debug_span;

use super::{
    NetworkInput, PrepareError, PreparedSample, PreprocessingError, SampleLimits,
    align::{AlignError, FacePlacement, SimilarityTransform, placement},
    decode::{PictureError, decode},
    prompts::{InputMapping, heat_maps},
    quality,
};
use domain::{Alignment, Face, Geometry, Landmarks, Picture, PixelBox, Quality};

/// Allowed deviation of an aligned face's aspect ratio from the input's.
const ALIGNED_SHAPE_TOLERANCE: f32 = 0.02;
/// Maximum side of a network's input in pixels.
pub(super) const INPUT_SIDE_MAX: u32 = 4096;

/// How a picture becomes a network's input, `[3, height, width]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagePreprocessing {
    pub width: u32,
    pub height: u32,
    pub colour: ColourOrder,
    /// The value range of a pixel before it is normalised as `(value - mean) / std`.
    pub scale: PixelScale,
    /// In the order of `colour`.
    pub mean: [f32; 3],
    pub std: [f32; 3],
    pub resize: Resize,
    /// Landmark positions in the input, in pixels: left eye, right eye, nose, left and right mouth corner, as seen by
    /// the viewer; absent for models without alignment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<[[f32; 2]; 5]>,
    /// Whether the mirror image is encoded too; both outputs are added.
    #[serde(default)]
    pub mirror: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColourOrder {
    Rgb,
    Bgr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PixelScale {
    /// 0 to 255.
    Bytes,
    /// 0 to 1.
    Unit,
}

/// How a picture is resized without a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// Bilinear; when downscaling, the mean over the source pixels.
    Bilinear,
}

/// A picture in the input's shape, and its quality.
#[derive(Debug, PartialEq)]
struct PlacedPicture {
    /// Row-major RGB in 0..=255.
    pixels: Vec<[f32; 3]>,
    /// If the face was upscaled: the pixels at about the original resolution, and their row length. Upscaling hides
    /// noise and adds blur.
    as_taken: Option<(Vec<[f32; 3]>, usize)>,
    quality: Quality,
}

/// Minimum side for quality measures in pixels.
const MEASURED_SIDE_MIN: f32 = 8.0;

impl ImagePreprocessing {
    pub(super) fn check(&self) -> Result<(), PreprocessingError> {
        let side = 1..=INPUT_SIDE_MAX;
        if !side.contains(&self.width) || !side.contains(&self.height) {
            return Err(PreprocessingError::Sides);
        }
        if !self.mean.iter().all(|mean| mean.is_finite()) || !self.std.iter().all(|std| std.is_finite() && *std > 0.0) {
            return Err(PreprocessingError::Normalisation);
        }
        match &self.template {
            Some(template) if !self.is_template(template) => Err(PreprocessingError::Template),
            _ => Ok(()),
        }
    }

    fn is_template(&self, points: &[[f32; 2]; 5]) -> bool {
        let (width, height) = (self.width as f32, self.height as f32);
        let inside = |[x, y]: &[f32; 2]| (0.0..width).contains(x) && (0.0..height).contains(y);
        points.iter().all(inside) && SimilarityTransform::fit(points, points).is_ok()
    }

    pub(super) fn shape(&self) -> [usize; 3] {
        [3, self.height as usize, self.width as usize]
    }

    /// Decodes, crops, places and normalises.
    pub(super) fn prepare(
        &self,
        bytes: &[u8],
        geometry: &Geometry,
        limits: &SampleLimits,
    ) -> Result<PreparedSample, PrepareError> {
        let picture = decode(bytes, limits)?;
        Ok(self.ready(debug_span!("align").in_scope(|| self.place(&picture, geometry))?))
    }

    /// Like `prepare`, with keypoint heat maps after the picture's channels.
    pub(super) fn prepare_prompted(
        &self,
        Picture { bytes, geometry }: &Picture,
        channels: usize,
        limits: &SampleLimits,
    ) -> Result<PreparedSample, PrepareError> {
        let picture = decode(&bytes.0, limits)?;
        let mut ready = self.ready(debug_span!("align").in_scope(|| self.place(&picture, geometry))?);
        if channels > 0 {
            let (part, corner) = match geometry.region {
                None => (picture.dimensions(), [0.0; 2]),
                Some(region) => cut(&picture, region).map(|(part, corner)| (part.dimensions(), corner))?,
            };
            let scale = [self.width as f32 / part.0 as f32, self.height as f32 / part.1 as f32];
            let mapping = InputMapping { corner, scale, input: [self.width as usize, self.height as usize] };
            let maps = heat_maps(&geometry.prompts, channels, &mapping);
            let mirrored = maps.chunks_exact(self.width as usize).flat_map(|row| row.iter().rev().copied()).collect();
            let of_views = [maps, mirrored];
            ready.prepared.views.iter_mut().zip(&of_views).for_each(|(view, maps)| view.extend_from_slice(maps));
        }
        Ok(ready)
    }

    /// Like `prepare`, for a detected face.
    pub(super) fn prepare_face(&self, picture: &RgbImage, face: &Face) -> Result<PreparedSample, PrepareError> {
        let template = self.template.as_ref().ok_or(AlignError::NotAligning)?;
        let mut placed = self.warp(picture, &face.landmarks, template)?;
        placed.quality.detection_score = Some(face.score);
        Ok(self.ready(placed))
    }

    /// Whether faces are aligned to a template.
    pub(super) fn aligns(&self) -> bool {
        self.template.is_some()
    }

    fn ready(&self, placed: PlacedPicture) -> PreparedSample {
        let PlacedPicture { pixels, as_taken, quality } = placed;
        let (taken, width) = as_taken.as_ref().map_or((&pixels, self.width as usize), |(taken, width)| (taken, *width));
        let quality = quality::of_pixels(taken, width, quality);
        let mut views = vec![self.normalise(&pixels)];
        if self.mirror {
            let rows = pixels.chunks_exact(self.width as usize);
            let mirrored: Vec<[f32; 3]> = rows.flat_map(|row| row.iter().rev().copied()).collect();
            views.push(self.normalise(&mirrored));
        }
        PreparedSample { prepared: NetworkInput { views }, quality: quality::scored(quality), walk: None }
    }

    fn place(&self, picture: &RgbImage, geometry: &Geometry) -> Result<PlacedPicture, PrepareError> {
        let placement = match &self.template {
            Some(_) => placement(geometry, [picture.width(), picture.height()])?,
            None => as_it_is(geometry)?,
        };
        let part;
        let (picture, [left, top]) = match geometry.region {
            None => (picture, [0.0; 2]),
            Some(region) => {
                let (cut_out, corner) = cut(picture, region)?;
                part = cut_out;
                (&part, corner)
            }
        };
        if self.template.is_some() && placement == FacePlacement::Fill {
            self.check_shape(picture)?;
        }
        match (placement, &self.template) {
            (FacePlacement::Warp(Landmarks(landmarks)), Some(template)) => {
                self.warp(picture, &Landmarks(landmarks.map(|[x, y]| [x - left, y - top])), template)
            }
            (FacePlacement::Fill | FacePlacement::Warp(_), _) => Ok(self.fill(picture)),
        }
    }

    fn warp(
        &self,
        picture: &RgbImage,
        landmarks: &Landmarks,
        template: &[[f32; 2]; 5],
    ) -> Result<PlacedPicture, PrepareError> {
        let transform = SimilarityTransform::fit(&landmarks.0, template)?;
        let [yaw, pitch, roll] = quality::pose(landmarks);
        let quality = Quality {
            face_px: Some(self.width as f32 / transform.scale()),
            yaw_degrees: Some(yaw),
            pitch_degrees: Some(pitch),
            roll_degrees: Some(roll),
            ..Quality::default()
        };
        let share = 1.0 / transform.scale();
        let as_taken = (share < 1.0).then(|| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of the input's side")]
            let [width, height] =
                [self.width, self.height].map(|side| (side as f32 * share).max(MEASURED_SIDE_MIN) as u32);
            (transform.resized(share).warp(picture, [width, height]), width as usize)
        });
        Ok(PlacedPicture { pixels: transform.warp(picture, [self.width, self.height]), as_taken, quality })
    }

    /// An aligned face has the input's aspect ratio. Any other photo would be distorted, and embeddings of distorted
    /// faces of different people are similar.
    fn check_shape(&self, picture: &RgbImage) -> Result<(), AlignError> {
        let (width, height) = picture.dimensions();
        let off = (width as f32 * self.height as f32) / (height as f32 * self.width as f32) - 1.0;
        if off.abs() <= ALIGNED_SHAPE_TOLERANCE {
            Ok(())
        } else {
            Err(AlignError::NotAligned(self.width, self.height, width, height))
        }
    }

    fn fill(&self, picture: &RgbImage) -> PlacedPicture {
        let (width, height) = picture.dimensions();
        let quality = if self.template.is_some() {
            Quality { face_px: Some(width as f32), ..Quality::default() }
        } else {
            let aspect = width as f32 / height as f32;
            Quality { height_px: Some(height as f32), aspect: Some(aspect), ..Quality::default() }
        };
        let numbers = |picture: &RgbImage| picture.pixels().map(|pixel| pixel.0.map(f32::from)).collect();
        let is_small = width < self.width && height < self.height && width.min(height) as f32 >= MEASURED_SIDE_MIN;
        let as_taken = is_small.then(|| (numbers(picture), width as usize));
        let pixels = if (width, height) == (self.width, self.height) {
            numbers(picture)
        } else {
            let Resize::Bilinear = self.resize;
            numbers(&imageops::resize(picture, self.width, self.height, FilterType::Triangle))
        };
        PlacedPicture { pixels, as_taken, quality }
    }

    /// `[channels, height, width]`.
    fn normalise(&self, pixels: &[[f32; 3]]) -> Vec<f32> {
        let whole = match self.scale {
            PixelScale::Bytes => 1.0,
            PixelScale::Unit => 255.0,
        };
        let source = match self.colour {
            ColourOrder::Rgb => [0, 1, 2],
            ColourOrder::Bgr => [2, 1, 0],
        };
        let channels = source.into_iter().zip(self.mean.into_iter().zip(self.std));
        channels
            .flat_map(|(channel, (mean, std))| pixels.iter().map(move |pixel| (pixel[channel] / whole - mean) / std))
            .collect()
    }
}

/// The placement for a model without template.
fn as_it_is(geometry: &Geometry) -> Result<FacePlacement, AlignError> {
    match (geometry.alignment, geometry.landmarks) {
        (None | Some(Alignment::Aligned), None) => Ok(FacePlacement::Fill),
        _ => Err(AlignError::NotAligning),
    }
}

/// The region of the picture, and the offset of its corner.
pub(super) fn cut(picture: &RgbImage, region: PixelBox) -> Result<(RgbImage, [f32; 2]), PictureError> {
    let PixelBox { left, top, width, height } = region;
    if ![left, top, width, height].iter().all(|number| number.is_finite()) || width <= 0.0 || height <= 0.0 {
        return Err(PictureError::BadRegion);
    }
    let (x, right) = span(left, width, picture.width());
    let (y, bottom) = span(top, height, picture.height());
    if x >= right || y >= bottom {
        return Err(PictureError::RegionOutside);
    }
    Ok((picture.view(x, y, right - x, bottom - y).to_image(), [x as f32, y as f32]))
}

/// First and one past the last pixel of an interval, clamped to the picture.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the picture's sides")]
fn span(start: f32, length: f32, side: u32) -> (u32, u32) {
    let clamp = |place: f32| place.round().clamp(0.0, side as f32) as u32;
    (clamp(start), clamp(start + length))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::Rgb;

    use super::*;

    /// A picture of 6 x 4 with a different colour at each place.
    fn picture() -> RgbImage {
        RgbImage::from_fn(6, 4, |x, y| Rgb([x * 40, y * 60, (x + y) * 20].map(|part| u8::try_from(part).unwrap())))
    }

    /// Takes a picture of 3 x 2 as it is: no scaling, no normalisation.
    fn plain() -> ImagePreprocessing {
        ImagePreprocessing {
            width: 3,
            height: 2,
            colour: ColourOrder::Rgb,
            scale: PixelScale::Bytes,
            mean: [0.0; 3],
            std: [1.0; 3],
            resize: Resize::Bilinear,
            template: None,
            mirror: false,
        }
    }

    fn region(left: f32, top: f32, width: f32, height: f32) -> Geometry {
        Geometry { region: Some(PixelBox { left, top, width, height }), ..Geometry::default() }
    }

    fn same(found: &[[f32; 3]], expected: &[[f32; 3]]) {
        assert_eq!(found.len(), expected.len());
        let parts = found.iter().flatten().zip(expected.iter().flatten());
        assert!(parts.into_iter().all(|(a, b)| (a - b).abs() < 1e-2), "{found:?} {expected:?}");
    }

    #[test]
    fn a_region_is_cut_out() {
        let cut_out = plain().place(&picture(), &region(2.2, 0.8, 3.0, 2.0)).expect("within the picture").pixels;
        let expected: Vec<_> =
            picture().view(2, 1, 3, 2).pixels().map(|(_, _, pixel)| pixel.0.map(f32::from)).collect();
        same(&cut_out, &expected);
        let hanging_over =
            plain().place(&picture(), &region(3.0, 2.0, 30.0, 20.0)).expect("reaches into the picture").pixels;
        same(&hanging_over[..1], &[picture().get_pixel(3, 2).0.map(f32::from)]);
    }

    #[test]
    fn empty_and_outside_regions_are_refused() {
        let refused = |geometry| plain().place(&picture(), &geometry).expect_err("refused");
        for bad in [region(0.0, 0.0, 0.0, 2.0), region(0.0, 0.0, 2.0, -1.0), region(f32::NAN, 0.0, 2.0, 2.0)] {
            assert_eq!(refused(bad), PictureError::BadRegion.into());
        }
        for outside in [region(6.0, 0.0, 3.0, 3.0), region(0.0, -9.0, 3.0, 3.0), region(1e30, 0.0, 1e30, 1.0)] {
            assert_eq!(refused(outside), PictureError::RegionOutside.into());
        }
    }

    #[test]
    fn landmarks_are_relative_to_the_whole_picture() {
        let template = [[5.0, 6.0], [14.0, 6.0], [9.5, 10.0], [6.0, 15.0], [13.0, 15.0]];
        let how = ImagePreprocessing { width: 20, height: 20, template: Some(template), ..plain() };
        let wide = RgbImage::from_fn(60, 50, |x, y| Rgb([x * 4, y * 5, 9].map(|part| u8::try_from(part).unwrap())));
        let landmarks = Some(Landmarks(template.map(|[x, y]| [x + 30.0, y + 20.0])));
        let whole = Geometry { landmarks, ..Geometry::default() };
        let part = Geometry { landmarks, ..region(25.0, 15.0, 30.0, 30.0) };
        let expected: Vec<_> = wide.view(30, 20, 20, 20).pixels().map(|(_, _, pixel)| pixel.0.map(f32::from)).collect();
        for geometry in [whole, part] {
            let placed = how.place(&wide, &geometry).expect("a face");
            same(&placed.pixels, &expected);
            assert_eq!(placed.quality.face_px.map(f32::round), Some(20.0));
        }
    }

    #[test]
    fn a_model_without_template_takes_no_alignment() {
        let asked = Geometry { alignment: Some(Alignment::LfwFunneled), ..Geometry::default() };
        assert_eq!(plain().place(&picture(), &asked), Err(AlignError::NotAligning.into()));
    }

    #[test]
    fn shrinking_takes_the_mean() {
        let stripes = RgbImage::from_fn(60, 40, |x, _| Rgb([if x % 2 == 0 { 0 } else { 200 }; 3]));
        let placed = plain().place(&stripes, &Geometry::default()).expect("a picture").pixels;
        assert!(placed.iter().flatten().all(|part| (part - 100.0).abs() < 5.0), "{placed:?}");
    }

    #[test]
    fn values_are_normalised_by_channel_and_mirrored() {
        let how = ImagePreprocessing {
            colour: ColourOrder::Bgr,
            scale: PixelScale::Unit,
            mean: [0.1, 0.2, 0.3],
            std: [0.5, 0.25, 2.0],
            mirror: true,
            ..plain()
        };
        let small =
            RgbImage::from_fn(3, 2, |x, y| Rgb([51, u8::try_from(x * 51).unwrap(), u8::try_from(y * 51).unwrap()]));
        let mut file = Cursor::new(Vec::new());
        small.write_to(&mut file, image::ImageFormat::Png).expect("in memory");
        let PreparedSample { prepared: NetworkInput { views }, .. } =
            how.prepare(file.get_ref(), &Geometry::default(), &SampleLimits::default()).expect("a picture");
        let [view, mirrored] = views.try_into().expect("two views");
        let near = |found: &[f32], expected: &[f32]| {
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?} {expected:?}");
        };
        near(&view[..6], &[-0.2, -0.2, -0.2, 0.2, 0.2, 0.2]);
        near(&view[6..12], &[-0.8, 0.0, 0.8, -0.8, 0.0, 0.8]);
        near(&view[12..], &[-0.05; 6]);
        near(&mirrored[6..12], &[0.8, 0.0, -0.8, 0.8, 0.0, -0.8]);
    }

    #[test]
    fn invalid_preprocessing_is_refused() {
        assert_eq!(plain().check(), Ok(()));
        let template = Some([[1.0; 2]; 5]);
        for (wrong, error) in [
            (ImagePreprocessing { width: 0, ..plain() }, PreprocessingError::Sides),
            (ImagePreprocessing { height: 4097, ..plain() }, PreprocessingError::Sides),
            (ImagePreprocessing { std: [1.0, 0.0, 1.0], ..plain() }, PreprocessingError::Normalisation),
            (ImagePreprocessing { mean: [f32::NAN; 3], ..plain() }, PreprocessingError::Normalisation),
            (ImagePreprocessing { template, ..plain() }, PreprocessingError::Template),
        ] {
            assert_eq!(wrong.check(), Err(error));
        }
    }
}

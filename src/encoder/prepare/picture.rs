//! Pictures: decoded within limits, cut, aligned or resized, normalised.

use std::io::Cursor;

use image::{
    DynamicImage, GenericImageView, ImageDecoder, ImageError, ImageFormat, ImageReader, RgbImage,
    imageops::{self, FilterType},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    Limits, PrepareError, Prepared, PreprocessingError,
    align::{AlignError, Placement, SimilarityTransform, placement},
};
use crate::domain::{Alignment, Geometry, Landmarks, PixelBox};

/// The longest side of a network's input.
pub(super) const INPUT_SIDE_MAX: u32 = 4096;
/// A decoder may use this many bytes for each pixel: 16-bit RGBA and a second copy of it.
const DECODER_BYTES_PER_PIXEL: u64 = 16;

/// How a picture becomes a network's input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagePreprocessing {
    pub width: u32,
    pub height: u32,
    pub colour: ColourOrder,
    /// The numbers that a pixel has before `mean` is taken off and the rest divided by `std`.
    pub scale: PixelScale,
    /// In the order of `colour`.
    pub mean: [f32; 3],
    pub std: [f32; 3],
    pub resize: Resize,
    /// Where the input has left eye, right eye, nose, left and right corner of the mouth, as the viewer sees them;
    /// absent for models that take their pictures as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<[[f32; 2]; 5]>,
    /// Whether the mirror image is encoded too and both outputs are added.
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

/// How a picture is brought to the input's size where no template does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// Linear between pixels; where the picture shrinks, the mean over the pixels that become one.
    Bilinear,
}

/// Why a picture can not be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PictureError {
    #[error("the picture is empty")]
    Empty,
    #[error("the picture has {found} bytes, at most {limit} are taken")]
    TooManyBytes { found: usize, limit: usize },
    #[error("the picture has {width} x {height} pixels, at most {limit} in all are taken")]
    TooManyPixels { width: u32, height: u32, limit: u64 },
    #[error("this is not a JPEG, PNG, WebP or PGM picture")]
    UnknownFormat,
    #[error("the picture is cut off before its end")]
    Truncated,
    #[error("the picture is damaged or of an unsupported kind: {0}")]
    Damaged(String),
    #[error("the region is not a box of finite numbers with a width and a height above zero")]
    BadRegion,
    #[error("the region lies outside the picture")]
    RegionOutside,
}

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

    /// Decodes, cuts, places and normalises.
    pub(super) fn prepare(&self, bytes: &[u8], geometry: &Geometry, limits: &Limits) -> Result<Prepared, PrepareError> {
        let picture = decode(bytes, limits)?;
        let pixels = self.place(picture, geometry)?;
        let mut views = vec![self.normalise(&pixels)];
        if self.mirror {
            let rows = pixels.chunks_exact(self.width as usize);
            let mirrored: Vec<[f32; 3]> = rows.flat_map(|row| row.iter().rev().copied()).collect();
            views.push(self.normalise(&mirrored));
        }
        Ok(Prepared { views })
    }

    /// The input's pixels, row-major RGB on 0..255.
    fn place(&self, picture: RgbImage, geometry: &Geometry) -> Result<Vec<[f32; 3]>, PrepareError> {
        let placement = match &self.template {
            Some(_) => placement(geometry, [picture.width(), picture.height()])?,
            None => as_it_is(geometry)?,
        };
        let (picture, [left, top]) = match geometry.region {
            None => (picture, [0.0; 2]),
            Some(region) => cut(&picture, region)?,
        };
        Ok(match (placement, &self.template) {
            (Placement::Warp(Landmarks(landmarks)), Some(template)) => {
                let landmarks = landmarks.map(|[x, y]| [x - left, y - top]);
                SimilarityTransform::fit(&landmarks, template)?.warp(&picture, [self.width, self.height])
            }
            (Placement::Fill | Placement::Warp(_), _) => self.fill(picture),
        })
    }

    fn fill(&self, picture: RgbImage) -> Vec<[f32; 3]> {
        let picture = if picture.dimensions() == (self.width, self.height) {
            picture
        } else {
            let Resize::Bilinear = self.resize;
            imageops::resize(&picture, self.width, self.height, FilterType::Triangle)
        };
        picture.pixels().map(|pixel| pixel.0.map(f32::from)).collect()
    }

    /// Channels, height, width.
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

/// The placement for a model that has no template.
fn as_it_is(geometry: &Geometry) -> Result<Placement, AlignError> {
    match (geometry.alignment, geometry.landmarks) {
        (None | Some(Alignment::Aligned), None) => Ok(Placement::Fill),
        _ => Err(AlignError::NotAligning),
    }
}

/// The part of the picture that the region covers, and where its corner was.
fn cut(picture: &RgbImage, region: PixelBox) -> Result<(RgbImage, [f32; 2]), PictureError> {
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

/// First and one past the last pixel of a stretch; what reaches beyond the picture is left out.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the picture's sides")]
fn span(start: f32, length: f32, side: u32) -> (u32, u32) {
    let clamp = |place: f32| place.round().clamp(0.0, side as f32) as u32;
    (clamp(start), clamp(start + length))
}

/// The picture as a viewer sees it: 8-bit RGB, turned as its EXIF orientation says, without transparency.
fn decode(bytes: &[u8], limits: &Limits) -> Result<RgbImage, PictureError> {
    if bytes.is_empty() {
        return Err(PictureError::Empty);
    }
    if bytes.len() > limits.image_bytes_max {
        return Err(PictureError::TooManyBytes { found: bytes.len(), limit: limits.image_bytes_max });
    }
    let format = image::guess_format(bytes).map_err(|_| PictureError::UnknownFormat)?;
    if !matches!(format, ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP | ImageFormat::Pnm) {
        return Err(PictureError::UnknownFormat);
    }
    if format == ImageFormat::Jpeg && !jpeg_ends(bytes) {
        return Err(PictureError::Truncated);
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut allowed = image::Limits::no_limits();
    allowed.max_alloc = Some(limits.image_pixels_max.saturating_mul(DECODER_BYTES_PER_PIXEL));
    reader.limits(allowed);
    let mut decoder = reader.into_decoder().map_err(|error| fault(&error))?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > limits.image_pixels_max {
        return Err(PictureError::TooManyPixels { width, height, limit: limits.image_pixels_max });
    }
    if width == 0 || height == 0 {
        return Err(PictureError::Empty);
    }
    // A broken orientation is no reason to refuse a picture that can be seen.
    let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|error| fault(&error))?;
    picture.apply_orientation(orientation);
    Ok(picture.into_rgb8())
}

fn fault(error: &ImageError) -> PictureError {
    match error {
        ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => PictureError::Truncated,
        _ => PictureError::Damaged(error.to_string()),
    }
}

/// Whether a JPEG has its end marker behind the start of its scan.
///
/// The decoder fills what is missing with grey and says nothing. Within a scan `FF D9` occurs as the end alone; before
/// it, in a thumbnail, it is skipped with the segment that holds it.
fn jpeg_ends(bytes: &[u8]) -> bool {
    const SCAN: u8 = 0xda;
    let mut at = 2;
    while let Some([0xff, marker, high, low]) = bytes.get(at..at + 4).and_then(<[u8]>::as_array) {
        if *marker == SCAN {
            return bytes[at..].windows(2).any(|pair| pair == [0xff, 0xd9]);
        }
        at += 2 + usize::from(u16::from_be_bytes([*high, *low]));
    }
    // Fill bytes or something stranger between segments: let the decoder judge.
    at < bytes.len()
}

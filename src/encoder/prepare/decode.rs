//! Decodes pictures, within limits.

use std::io::{Cursor, ErrorKind};

use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, RgbImage, metadata::Orientation};
use thiserror::Error;

use super::{SampleLimits, decoding_cost::DecodingCost};

/// Decodes to 8-bit RGB, rotated by its EXIF orientation, without transparency.
pub(super) fn decode(bytes: &[u8], limits: &SampleLimits) -> Result<RgbImage, PictureError> {
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
    let memory = match DecodingCost::of(bytes) {
        Some(DecodingCost { width, height, .. }) if is_too_large(width, height, limits) => {
            return Err(PictureError::TooManyPixels { width, height, limit: limits.image_pixels_max });
        }
        Some(cost) => cost.bytes(),
        None => DecodingCost::largest(limits.image_pixels_max),
    };
    // Metadata is unpacked before the size of the picture is known to the decoder.
    allowed.max_alloc = Some(memory as u64);
    reader.limits(allowed);
    let mut decoder = reader.into_decoder().map_err(|error| fault(&error))?;
    let (width, height) = decoder.dimensions();
    if is_too_large(width, height, limits) {
        return Err(PictureError::TooManyPixels { width, height, limit: limits.image_pixels_max });
    }
    if width == 0 || height == 0 {
        return Err(PictureError::Empty);
    }
    // A broken orientation is ignored.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|error| fault(&error))?;
    picture.apply_orientation(orientation);
    Ok(picture.into_rgb8())
}

fn is_too_large(width: u32, height: u32, limits: &SampleLimits) -> bool {
    u64::from(width) * u64::from(height) > limits.image_pixels_max
}

/// The memory that a picture takes while it is decoded, and once it is: in bytes, from its header. Zero for one
/// that is refused without being decoded.
pub(super) fn decoding_memory(bytes: &[u8], limits: &SampleLimits) -> [usize; 2] {
    match DecodingCost::of(bytes) {
        Some(cost) if cost.pixels() > limits.image_pixels_max => [0; 2],
        Some(cost) => [cost.bytes(), cost.rgb_bytes()],
        None if image::guess_format(bytes).is_err() => [0; 2],
        None => [DecodingCost::largest(limits.image_pixels_max); 2],
    }
}

/// Why a picture cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PictureError {
    #[error("the picture is empty")]
    Empty,
    #[error("the picture has {found} bytes, and at most {limit} are allowed")]
    TooManyBytes { found: usize, limit: usize },
    #[error("the picture has {width} x {height} pixels, and at most {limit} in total are allowed")]
    TooManyPixels { width: u32, height: u32, limit: u64 },
    #[error("the picture takes {bytes} bytes of memory while it is decoded, more than this server has for pictures")]
    TooMuchMemory { bytes: usize },
    #[error("this is not a JPEG, PNG, WebP or PGM picture")]
    UnknownFormat,
    #[error("the picture is incomplete")]
    Truncated,
    #[error("the picture is damaged or of an unsupported kind: {0}")]
    Damaged(String),
    #[error("the region is not a box of finite numbers with a width and a height above zero")]
    BadRegion,
    #[error("the region is outside the picture")]
    RegionOutside,
}

fn fault(error: &ImageError) -> PictureError {
    if let ImageError::IoError(error) = error
        && error.kind() == ErrorKind::UnexpectedEof
    {
        return PictureError::Truncated;
    }
    PictureError::Damaged(error.to_string())
}

/// Whether a JPEG has its end marker after the start of its scan.
///
/// The decoder silently fills missing data with grey. Within a scan `FF D9` occurs only at the end; in a thumbnail
/// before the scan it is skipped with its segment.
fn jpeg_ends(bytes: &[u8]) -> bool {
    const SCAN: u8 = 0xda;
    const FILL: u8 = 0xff;
    const END: [u8; 2] = [0xff, 0xd9];
    let mut at = 2;
    while let Some([0xff, marker, high, low]) = bytes.get(at..at + 4).and_then(<[u8]>::as_array) {
        match *marker {
            SCAN => return bytes[at..].windows(2).any(|pair| pair == END),
            FILL => at += 1,
            _ => at += 2 + usize::from(u16::from_be_bytes([*high, *low])),
        }
    }
    // For unknown data between segments the decoder decides. No data at all: the file ends in its header.
    at + 4 <= bytes.len()
}

#[cfg(test)]
mod tests {
    use image::{ImageBuffer, Luma, LumaA, Rgb, Rgba};
    use proptest::prelude::*;

    use super::*;

    const LIMITS: SampleLimits = SampleLimits {
        image_bytes_max: 100_000,
        image_pixels_max: 10_000,
        skeleton_frames_max: 1,
        track_frames_max: 1,
        detect_side_px_max: 1,
    };

    /// A picture of 6 x 4 with a different colour at each place.
    fn picture() -> RgbImage {
        RgbImage::from_fn(6, 4, |x, y| Rgb([x * 40, y * 60, (x + y) * 20].map(|part| u8::try_from(part).unwrap())))
    }

    fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        picture.write_to(&mut file, format).expect("in memory");
        file.into_inner()
    }

    #[test]
    fn lossless_forms_are_decoded_to_the_same_pixels() {
        for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Pnm] {
            let file = encoded(&picture().into(), format);
            assert_eq!(decode(&file, &LIMITS).expect("a picture"), picture(), "{format:?}");
        }
        let near = decode(&encoded(&picture().into(), ImageFormat::Jpeg), &LIMITS).expect("a picture");
        assert_eq!(near.dimensions(), (6, 4));
    }

    #[test]
    fn grey_deep_and_transparent_pictures_become_rgb() {
        let grey = ImageBuffer::from_pixel(2, 2, Luma([77_u8]));
        let grey_through = ImageBuffer::from_pixel(2, 2, LumaA([77_u8, 10]));
        let deep_grey = ImageBuffer::from_pixel(2, 2, Luma([77_u16 * 257]));
        let deep = ImageBuffer::from_pixel(2, 2, Rgb([77_u16 * 257; 3]));
        let through = ImageBuffer::from_pixel(2, 2, Rgba([77_u8, 77, 77, 0]));
        let all: [DynamicImage; 5] = [grey.into(), grey_through.into(), deep_grey.into(), deep.into(), through.into()];
        for picture in all {
            let file = encoded(&picture, ImageFormat::Png);
            let expected = RgbImage::from_pixel(2, 2, Rgb([77; 3]));
            assert_eq!(decode(&file, &LIMITS).expect("a picture"), expected, "{:?}", picture.color());
        }
    }

    /// One colour each; animations give their first frame. Bytes after the end of a JPEG are ignored.
    #[test]
    fn cmyk_and_animations_become_rgb() {
        const CMYK: &[u8] = include_bytes!("../../../tests/data/pictures/cmyk.jpg");
        const MOVING: [&[u8]; 2] = [
            include_bytes!("../../../tests/data/pictures/animated.webp"),
            include_bytes!("../../../tests/data/pictures/animated.png"),
        ];
        let is_near = |pixel: &Rgb<u8>| pixel.0.iter().zip([200_u8, 60, 30]).all(|(a, b)| a.abs_diff(b) <= 6);
        let trailing = [CMYK, &[7; 300]].concat();
        for file in [CMYK, &trailing, MOVING[0], MOVING[1]] {
            let picture = decode(file, &LIMITS).expect("a picture");
            assert_eq!(picture.dimensions(), (32, 24));
            assert!(picture.pixels().all(is_near), "{:?}", picture.get_pixel(9, 9));
        }
    }

    #[test]
    fn the_exif_orientation_is_applied() {
        let mut file =
            encoded(&RgbImage::from_fn(16, 8, |x, _| Rgb([if x < 8 { 250 } else { 5 }; 3])).into(), ImageFormat::Jpeg);
        // One entry, tag 0x0112 (orientation), a short, value 6: turn by a quarter, clockwise.
        let exif = b"\xff\xe1\x00\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        file.splice(2..2, exif.iter().copied());
        let turned = decode(&file, &LIMITS).expect("a picture");
        assert_eq!(turned.dimensions(), (8, 16));
        assert!(turned.get_pixel(4, 2)[0] > 200 && turned.get_pixel(4, 13)[0] < 50);
    }

    #[test]
    fn bytes_and_pixels_have_limits_that_hold_before_decoding() {
        let file = encoded(&picture().into(), ImageFormat::Png);
        let few = SampleLimits { image_bytes_max: file.len() - 1, ..LIMITS };
        let refused = PictureError::TooManyBytes { found: file.len(), limit: file.len() - 1 };
        assert_eq!(decode(&file, &few), Err(refused));
        let small = SampleLimits { image_pixels_max: 23, ..LIMITS };
        assert_eq!(decode(&file, &small), Err(PictureError::TooManyPixels { width: 6, height: 4, limit: 23 }));
        let bomb = b"P5 4000000 4000000 255\n0";
        assert!(matches!(decode(bomb, &LIMITS), Err(PictureError::TooManyPixels { .. })));
    }

    #[test]
    fn files_of_other_formats_are_refused() {
        assert_eq!(decode(b"", &LIMITS), Err(PictureError::Empty));
        for other in [b"hello".as_slice(), b"GIF89a\x01\0\x01\0\0\0\0;", b"%PDF-1.4", &[0; 100]] {
            assert_eq!(decode(other, &LIMITS), Err(PictureError::UnknownFormat));
        }
    }

    #[test]
    fn a_picture_cut_anywhere_is_refused() {
        // PNG ends with an empty chunk of 12 bytes, WebP with a padding byte.
        let idle = [(ImageFormat::Jpeg, 0), (ImageFormat::Png, 12), (ImageFormat::WebP, 1), (ImageFormat::Pnm, 0)];
        for (format, idle) in idle {
            let file = encoded(&picture().into(), format);
            for length in 0..file.len() - idle {
                assert!(decode(&file[..length], &LIMITS).is_err(), "{format:?} {length} of {}", file.len());
            }
        }
    }

    proptest! {
        #[test]
        fn a_flipped_byte_is_an_error_or_a_picture(form in 0..4_usize, place in 0.0_f64..1.0, mask in 1_u8..) {
            let format = [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Pnm][form];
            let mut file = encoded(&picture().into(), format);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place within the file")]
            let at = (place * file.len() as f64) as usize;
            file[at] ^= mask;
            if let Ok(picture) = decode(&file, &LIMITS) {
                prop_assert!(u64::from(picture.width()) * u64::from(picture.height()) <= LIMITS.image_pixels_max);
            }
        }

        #[test]
        fn noise_is_no_picture(noise in prop::collection::vec(any::<u8>(), 0..300)) {
            for head in [b"".as_slice(), b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"RIFF\0\x01\0\0WEBPVP8 "] {
                prop_assert!(decode(&[head, &noise].concat(), &LIMITS).is_err());
            }
        }
    }
}

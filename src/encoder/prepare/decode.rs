//! Decodes pictures, within limits.

use std::{
    borrow::Cow,
    io::{Cursor, ErrorKind},
    panic::{AssertUnwindSafe, catch_unwind},
};

use hayro_jpeg2000::{ColorSpace, DecodeSettings, DecoderContext};
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, RgbImage, metadata::Orientation};
use jxl_oxide::{AllocTracker, EnumColourEncoding, JxlImage, Moxcms, RenderingIntent};
use thiserror::Error;

use super::{
    SampleLimits, colour,
    decoding_cost::{DecodingCost, METADATA_BYTES},
    jpeg_scan::{self, JpegScans},
    picture_kind::PictureKind,
};

/// Decodes to 8-bit sRGB, rotated by its EXIF orientation, without transparency.
pub(super) fn decode(bytes: &[u8], limits: &SampleLimits) -> Result<RgbImage, PictureError> {
    if bytes.is_empty() {
        return Err(PictureError::Empty);
    }
    if bytes.len() > limits.image_bytes_max {
        return Err(PictureError::TooManyBytes { found: bytes.len(), limit: limits.image_bytes_max });
    }
    let kind = PictureKind::of(bytes).map_err(PictureError::OtherFile)?;
    let memory = match DecodingCost::of(bytes) {
        Some(DecodingCost { width, height, .. }) if is_too_large(width, height, limits) => {
            return Err(PictureError::TooManyPixels { width, height, limit: limits.image_pixels_max });
        }
        Some(cost) => cost.bytes(),
        None if needs_header(kind) => return Err(PictureError::Damaged("its header cannot be read".to_owned())),
        None => DecodingCost::largest(limits.image_pixels_max),
    };
    let bytes = if kind == PictureKind::Jpeg { whole_jpeg(bytes)? } else { Cow::Borrowed(bytes) };
    guarded(|| run_decoder(kind, &bytes, limits, memory))
}

/// Runs a decoder. Fuzzing found pictures that make one panic.
fn guarded<T>(decode: impl FnOnce() -> Result<T, PictureError>) -> Result<T, PictureError> {
    // What the decoder leaves behind is dropped with it.
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_panic| Err(PictureError::Damaged("its decoder failed".to_owned())))
}

fn run_decoder(
    kind: PictureKind,
    bytes: &[u8],
    limits: &SampleLimits,
    memory: usize,
) -> Result<RgbImage, PictureError> {
    let format = match kind {
        PictureKind::Jpeg2000 => return jpeg_2000(bytes, limits),
        PictureKind::JpegXl => return jpeg_xl(bytes, limits, memory),
        PictureKind::Jpeg => ImageFormat::Jpeg,
        PictureKind::Png => ImageFormat::Png,
        PictureKind::WebP => ImageFormat::WebP,
        PictureKind::Gif => ImageFormat::Gif,
        PictureKind::Bmp => ImageFormat::Bmp,
        PictureKind::Tiff => ImageFormat::Tiff,
        PictureKind::Pnm => ImageFormat::Pnm,
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut allowed = image::Limits::no_limits();
    // Metadata is unpacked before the size of the picture is known to the decoder.
    allowed.max_alloc = Some(memory as u64);
    reader.limits(allowed);
    let mut decoder = reader.into_decoder().map_err(|error| fault(&error))?;
    let (width, height) = decoder.dimensions();
    check_sides(width, height, limits)?;
    // A broken orientation is ignored, and so is a broken profile.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let profile = decoder.icc_profile().unwrap_or_default();
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|error| fault(&error))?;
    picture.apply_orientation(orientation);
    let mut picture = picture.into_rgb8();
    if let Some(profile) = profile {
        colour::to_srgb(&mut picture, &profile);
    }
    Ok(picture)
}

/// Kinds whose decoders allocate by a header that must be understood first.
fn needs_header(kind: PictureKind) -> bool {
    use PictureKind::{Bmp, Gif, Jpeg2000, JpegXl, Tiff};
    matches!(kind, Gif | Bmp | Tiff | Jpeg2000 | JpegXl)
}

fn check_sides(width: u32, height: u32, limits: &SampleLimits) -> Result<(), PictureError> {
    if is_too_large(width, height, limits) {
        return Err(PictureError::TooManyPixels { width, height, limit: limits.image_pixels_max });
    }
    if width == 0 || height == 0 { Err(PictureError::Empty) } else { Ok(()) }
}

/// The JPEG up to its end, with an end marker: what follows the picture is not the decoder's concern.
fn whole_jpeg(bytes: &[u8]) -> Result<Cow<'_, [u8]>, PictureError> {
    const END: &[u8] = b"\xff\xd9";
    match jpeg_scan::scans(bytes) {
        JpegScans::Complete { end } if bytes[end..].starts_with(END) => Ok(Cow::Borrowed(&bytes[..end + END.len()])),
        JpegScans::Complete { end } => Ok(Cow::Owned([&bytes[..end], END].concat())),
        JpegScans::Unknown => Ok(Cow::Borrowed(bytes)),
        JpegScans::Incomplete => Err(PictureError::Truncated),
        JpegScans::Damaged => Err(PictureError::Damaged("its compressed data is invalid".to_owned())),
    }
}

/// JP2 files and bare codestreams.
fn jpeg_2000(bytes: &[u8], limits: &SampleLimits) -> Result<RgbImage, PictureError> {
    let damaged = |error: hayro_jpeg2000::DecodeError| PictureError::Damaged(error.to_string());
    let settings = DecodeSettings { strict: true, ..DecodeSettings::default() };
    let image = hayro_jpeg2000::Image::new(bytes, &settings).map_err(damaged)?;
    let (width, height) = (image.width(), image.height());
    check_sides(width, height, limits)?;
    let mut context = DecoderContext::default();
    let decoded = image.decode(&mut context).map_err(damaged)?;
    let channels = decoded.components().len();
    let pixels = width as usize * height as usize;
    if decoded.components().iter().any(|component| component.samples().len() != pixels) {
        return Err(PictureError::Damaged("its components differ in size".to_owned()));
    }
    let samples = decoded.data_u8();
    let colours = channels - usize::from(image.has_alpha() && channels > 1);
    let rgb: Vec<u8> = match colours {
        1 => samples.chunks_exact(channels).flat_map(|pixel| [pixel[0]; 3]).collect(),
        3 => samples.chunks_exact(channels).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect(),
        4 => {
            samples.chunks_exact(channels).flat_map(|pixel| of_inks([pixel[0], pixel[1], pixel[2], pixel[3]])).collect()
        }
        _ => return Err(PictureError::Damaged(format!("{channels} components are neither grey, RGB nor CMYK"))),
    };
    let mut picture = RgbImage::from_raw(width, height, rgb).ok_or(PictureError::Truncated)?;
    if let ColorSpace::Icc { profile, .. } = image.color_space() {
        colour::to_srgb(&mut picture, profile);
    }
    Ok(picture)
}

/// CMYK to RGB without a profile.
fn of_inks([cyan, magenta, yellow, black]: [u8; 4]) -> [u8; 3] {
    [cyan, magenta, yellow].map(|ink| {
        let light = u16::from(255 - ink) * u16::from(255 - black) / 255;
        u8::try_from(light).unwrap_or(u8::MAX)
    })
}

/// Containers and bare codestreams; the first frame of an animation. The decoder turns the picture by its orientation.
fn jpeg_xl(bytes: &[u8], limits: &SampleLimits, memory: usize) -> Result<RgbImage, PictureError> {
    let damaged = |error: &dyn std::fmt::Display| PictureError::Damaged(error.to_string());
    let builder = JxlImage::builder().alloc_tracker(AllocTracker::with_limit(memory + METADATA_BYTES));
    let mut image = builder.read(Cursor::new(bytes)).map_err(|error| damaged(&error))?;
    check_sides(image.width(), image.height(), limits)?;
    if !image.is_loading_done() {
        return Err(PictureError::Truncated);
    }
    image.set_cms(Moxcms);
    image.request_color_encoding(EnumColourEncoding::srgb(RenderingIntent::Relative));
    let frame = image.render_frame(0).map_err(|error| damaged(&error))?;
    let mut stream = frame.stream_no_alpha();
    let (width, height, channels) = (stream.width(), stream.height(), stream.channels() as usize);
    check_sides(width, height, limits)?;
    let mut samples = vec![0_u8; width as usize * height as usize * channels];
    stream.write_to_buffer(&mut samples);
    let rgb = match channels {
        1 => samples.into_iter().flat_map(|grey| [grey; 3]).collect(),
        3 => samples,
        _ => return Err(PictureError::Damaged(format!("{channels} channels are neither grey nor RGB"))),
    };
    RgbImage::from_raw(width, height, rgb).ok_or(PictureError::Truncated)
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
        None if PictureKind::of(bytes).map_or(true, needs_header) => [0; 2],
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
    #[error(
        "this is {0}; send a picture as JPEG, PNG or WebP (GIF, BMP, TIFF, JPEG 2000, JPEG XL and PNM are taken too)"
    )]
    OtherFile(&'static str),
    #[error("the picture is incomplete: a part of its pixels is missing; send the whole file")]
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
    fn a_panic_of_a_decoder_is_a_damaged_picture() {
        let decoded = guarded(|| -> Result<(), PictureError> { panic!("out of range") });
        assert_eq!(decoded, Err(PictureError::Damaged("its decoder failed".to_owned())));
    }

    #[test]
    fn lossless_forms_are_decoded_to_the_same_pixels() {
        for format in [
            ImageFormat::Png,
            ImageFormat::WebP,
            ImageFormat::Pnm,
            ImageFormat::Gif,
            ImageFormat::Bmp,
            ImageFormat::Tiff,
        ] {
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

    /// The four colours of tests/data/pictures/kinds, at the middle of each quarter: top left, top right, bottom left,
    /// bottom right.
    const COLOURS: [[u8; 3]; 4] = [[200, 60, 30], [30, 160, 60], [40, 60, 200], [128; 3]];

    macro_rules! kind {
        ($name:literal) => {
            ($name, include_bytes!(concat!("../../../tests/data/pictures/kinds/", $name)).as_slice())
        };
    }

    fn quarters(picture: &RgbImage) -> [[u8; 3]; 4] {
        let (width, height) = picture.dimensions();
        [(1, 1), (3, 1), (1, 3), (3, 3)].map(|(x, y)| picture.get_pixel(x * width / 4, y * height / 4).0)
    }

    fn are_near(found: [[u8; 3]; 4], expected: [[u8; 3]; 4], tolerance: u8) -> bool {
        found.iter().flatten().zip(expected.iter().flatten()).all(|(a, b)| a.abs_diff(*b) <= tolerance)
    }

    #[test]
    fn every_kind_of_picture_gives_its_colours() {
        let files = [
            kind!("progressive.jpg"),
            kind!("subsampled.jpg"),
            kind!("progressive-subsampled.jpg"),
            kind!("restart.jpg"),
            kind!("four.gif"),
            kind!("animated.gif"),
            kind!("palette.bmp"),
            kind!("lzw.tif"),
            kind!("deflate.tif"),
            kind!("packbits.tif"),
            kind!("jpeg.tif"),
            kind!("cmyk.tif"),
            kind!("four.jp2"),
            kind!("four.j2k"),
            kind!("four.jxl"),
            kind!("lossy.jxl"),
        ];
        for (name, file) in files {
            let cost = DecodingCost::of(file).unwrap_or_else(|| panic!("{name}: a header"));
            assert_eq!((cost.width, cost.height), (32, 24), "{name}");
            let picture = decode(file, &LIMITS).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(picture.dimensions(), (32, 24), "{name}");
            assert!(are_near(quarters(&picture), COLOURS, 12), "{name}: {:?}", quarters(&picture));
        }
    }

    #[test]
    fn grey_pictures_of_every_kind_become_rgb() {
        for (name, file) in [kind!("grey.jpg"), kind!("grey.tif")] {
            let picture = decode(file, &LIMITS).unwrap_or_else(|error| panic!("{name}: {error}"));
            // ITU-R BT.601: 0.299 red, 0.587 green, 0.114 blue.
            assert!(are_near(quarters(&picture), [[98; 3], [110; 3], [70; 3], [128; 3]], 3), "{name}");
        }
    }

    #[test]
    fn the_orientation_is_applied_whatever_the_format() {
        let [one, two, three, four] = COLOURS;
        for (name, file) in [kind!("turned.tif"), kind!("turned.webp"), kind!("turned.png")] {
            let picture = decode(file, &LIMITS).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(picture.dimensions(), (24, 32), "{name}");
            assert!(are_near(quarters(&picture), [three, one, four, two], 2), "{name}: {:?}", quarters(&picture));
        }
        // JPEG XL says the orientation in its own header; EXIF within it is for information only.
        let (name, file) = kind!("turned.jxl");
        let picture = decode(file, &LIMITS).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(picture.dimensions(), (32, 24));
    }

    #[test]
    fn a_jpeg_without_its_end_marker_is_taken_and_one_without_all_blocks_is_not() {
        let names = [
            kind!("progressive.jpg"),
            kind!("subsampled.jpg"),
            kind!("progressive-subsampled.jpg"),
            kind!("restart.jpg"),
            kind!("grey.jpg"),
            ("cmyk.jpg", include_bytes!("../../../tests/data/pictures/cmyk.jpg").as_slice()),
        ];
        for (name, file) in names {
            let whole = decode(file, &LIMITS).unwrap_or_else(|error| panic!("{name}: {error}"));
            let end = file.len() - 2;
            assert_eq!(&file[end..], b"\xff\xd9", "{name}");
            let scan = file.windows(2).rposition(|pair| pair == [0xff, 0xda]).expect("a scan");
            let trailer = b"\0\0\0\x18ftypmp42 and \xff\xc4\xff\xd9 and \xff\xd8\xff\xe1 and so on".as_slice();
            for tail in
                [b"".as_slice(), b"\xff", b"\xff\xd9", trailer, b"\xff\xd9MotionPhoto_Data\xff\xd8\xff", &[0; 99]]
            {
                let changed = [&file[..end], tail].concat();
                let picture = decode(&changed, &LIMITS).unwrap_or_else(|error| panic!("{name} {tail:?}: {error}"));
                assert_eq!(picture, whole, "{name} {tail:?}");
            }
            // Cut within the last scan, as it is, with an end marker, and with another picture behind.
            for cut in (scan + 2..end - 1).step_by(3) {
                for tail in [b"".as_slice(), b"\xff\xd9", &[b"\xff\xd9", file].concat()] {
                    let refused = decode(&[&file[..cut], tail].concat(), &LIMITS);
                    assert!(refused.is_err(), "{name}: {cut} of {end}, then {} bytes", tail.len());
                }
            }
        }
    }

    #[test]
    fn profiles_are_converted_to_srgb() {
        let mut file = Vec::new();
        let mut encoder = image::codecs::png::PngEncoder::new(&mut file);
        let profile = moxcms::ColorProfile::new_display_p3().encode().expect("a profile");
        image::ImageEncoder::set_icc_profile(&mut encoder, profile).expect("taken");
        let picture = RgbImage::from_pixel(4, 4, Rgb([200, 120, 100]));
        picture.write_with_encoder(encoder).expect("in memory");
        let found = decode(&file, &LIMITS).expect("a picture").get_pixel(2, 2).0;
        assert!(are_near([found; 4], [[212, 117, 95]; 4], 2), "{found:?}");
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
    fn files_of_other_formats_are_refused_by_name() {
        assert_eq!(decode(b"", &LIMITS), Err(PictureError::Empty));
        for (other, name) in [
            (b"hello".as_slice(), "a text"),
            (b"%PDF-1.4", "a PDF document"),
            (&[0; 100], "a file of an unknown kind"),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC picture"),
        ] {
            assert_eq!(decode(other, &LIMITS), Err(PictureError::OtherFile(name)));
        }
    }

    #[test]
    fn a_picture_cut_anywhere_is_refused() {
        // JPEG ends with a marker, PNG with an empty chunk of 12 bytes, WebP with a padding byte.
        let idle = [(ImageFormat::Jpeg, 2), (ImageFormat::Png, 12), (ImageFormat::WebP, 1), (ImageFormat::Pnm, 0)];
        for (format, idle) in idle {
            let file = encoded(&picture().into(), format);
            for length in 0..file.len() - idle {
                assert!(decode(&file[..length], &LIMITS).is_err(), "{format:?} {length} of {}", file.len());
            }
        }
        // The end of a GIF, and the padding of a JPEG 2000 packet, may be missing.
        let others = [kind!("four.gif"), kind!("palette.bmp"), kind!("lzw.tif"), kind!("four.jp2"), kind!("four.jxl")];
        for (name, file) in others {
            for length in (0..file.len() - 4).step_by(5) {
                if let Ok(picture) = decode(&file[..length], &LIMITS) {
                    assert!(are_near(quarters(&picture), COLOURS, 12), "{name}: {length} of {}", file.len());
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_flipped_byte_is_an_error_or_a_picture(form in 0..7_usize, place in 0.0_f64..1.0, mask in 1_u8..) {
            use ImageFormat::{Bmp, Gif, Jpeg, Png, Pnm, Tiff, WebP};
            let mut file = encoded(&picture().into(), [Jpeg, Png, WebP, Pnm, Gif, Bmp, Tiff][form]);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place within the file")]
            let at = (place * file.len() as f64) as usize;
            file[at] ^= mask;
            if let Ok(picture) = decode(&file, &LIMITS) {
                prop_assert!(u64::from(picture.width()) * u64::from(picture.height()) <= LIMITS.image_pixels_max);
            }
        }

        #[test]
        fn a_flipped_byte_of_a_file_is_an_error_or_a_picture(which in 0..6_usize, place in 0.0_f64..1.0, mask in 1_u8..) {
            let files = [
                kind!("four.jp2"),
                kind!("four.j2k"),
                kind!("four.jxl"),
                kind!("lossy.jxl"),
                kind!("progressive-subsampled.jpg"),
                kind!("restart.jpg"),
            ];
            let mut file = files[which].1.to_vec();
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

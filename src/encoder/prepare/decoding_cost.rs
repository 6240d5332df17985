//! The memory that decoding a picture takes, from its header alone.

use super::picture_kind::{PictureKind, TiffTags};

/// Bytes per pixel of the 8-bit RGB that every picture becomes.
pub(super) const RGB_BYTES: usize = 3;
/// Baseline JPEG: RGB, and the copy that is turned by its orientation.
const JPEG_BYTES: usize = 6;
/// Progressive JPEG keeps 16-bit coefficients of all components until its end.
const PROGRESSIVE_JPEG_BYTES: usize = 11;
/// WebP: RGBA, and the planes or indices that it is made of. 6.5 were measured for a lossy one.
const WEBP_BYTES: usize = 11;
/// PNM and PAM with 16 bits per sample: RGBA, and RGB.
const PNM_BYTES: usize = 11;
/// GIF: the canvas and the frame in RGBA, and RGB.
const GIF_BYTES: usize = 11;
/// BMP: RGBA and RGB.
const BMP_BYTES: usize = 11;
/// JPEG 2000: coefficients and samples of four components as 32-bit numbers, 8-bit samples, and RGB.
const JPEG_2000_BYTES: usize = 44;
/// JPEG XL: planes of 32-bit numbers of the frame, of filters and of references, and RGB.
pub(super) const JPEG_XL_BYTES: usize = 60;
/// Colours, transparency and black: more components than any photo has cost memory for nothing.
const COMPONENTS_MAX: u16 = 5;
/// The number of a tile has 16 bits (ISO/IEC 15444-1, A.4.2).
const TILES_MAX: u64 = 65_535;
/// Boxes before the codestream.
const BOXES_MAX: usize = 256;
/// Segments and fill bytes before the frame header: the header is read on the reactor, and a file of fill bytes must not
/// keep it busy.
const JPEG_SEGMENTS_MAX: usize = 4096;
/// Metadata such as a colour profile, whatever the size of the picture. A decoder that needs more stops.
pub(super) const METADATA_BYTES: usize = 4 << 20;

/// The size of a picture and the bytes that each pixel takes while it is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DecodingCost {
    pub(super) width: u32,
    pub(super) height: u32,
    bytes_per_pixel: usize,
}

impl DecodingCost {
    /// Reads the header. None where it is not understood: the decoder then refuses the picture, or the largest is assumed.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        match PictureKind::of(bytes).ok()? {
            PictureKind::Png => png(bytes),
            PictureKind::Jpeg => jpeg(bytes),
            PictureKind::WebP => webp(bytes),
            PictureKind::Pnm => pnm(bytes),
            PictureKind::Gif => gif(bytes),
            PictureKind::Bmp => bmp(bytes),
            PictureKind::Tiff => tiff(bytes),
            PictureKind::Jpeg2000 => jpeg_2000(bytes),
            PictureKind::JpegXl => jpeg_xl(bytes),
        }
    }

    /// The largest cost of a picture with so many pixels.
    pub(super) fn largest(pixels: u64) -> usize {
        bytes(pixels, PROGRESSIVE_JPEG_BYTES)
    }

    pub(super) fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    /// The memory while the picture is decoded.
    pub(super) fn bytes(self) -> usize {
        bytes(self.pixels(), self.bytes_per_pixel)
    }

    /// The memory of the decoded picture.
    pub(super) fn rgb_bytes(self) -> usize {
        usize::try_from(self.pixels()).unwrap_or(usize::MAX).saturating_mul(RGB_BYTES)
    }
}

fn bytes(pixels: u64, bytes_per_pixel: usize) -> usize {
    let pixels = usize::try_from(pixels).unwrap_or(usize::MAX);
    pixels.saturating_mul(bytes_per_pixel).saturating_add(METADATA_BYTES)
}

/// The header chunk stands first and has a fixed form (W3C PNG, 11.2.1).
fn png(bytes: &[u8]) -> Option<DecodingCost> {
    let header = bytes.get(8..)?.strip_prefix(b"\0\0\0\rIHDR")?;
    let [w0, w1, w2, w3, h0, h1, h2, h3, depth, colour, ..] = *header else { return None };
    let channels = match colour {
        0 => 1,
        4 => 2,
        // Transparency of one colour or of a palette's entries becomes a fourth channel.
        2 | 3 | 6 => 4,
        _ => return None,
    };
    let sample = if depth > 8 { 2 } else { 1 };
    let [width, height] = [[w0, w1, w2, w3], [h0, h1, h2, h3]].map(u32::from_be_bytes);
    Some(DecodingCost { width, height, bytes_per_pixel: channels * sample + RGB_BYTES })
}

/// The size stands in the frame header, behind segments of any number (ITU-T T.81, B.2).
fn jpeg(bytes: &[u8]) -> Option<DecodingCost> {
    let mut at = 2;
    for _ in 0..JPEG_SEGMENTS_MAX {
        let [0xff, marker, high, low] = *bytes.get(at..at + 4)?.as_array()? else { return None };
        match marker {
            0xff => at += 1,
            // Frame headers; C4, C8 and CC are other segments.
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                let [_, h1, h0, w1, w0] = *bytes.get(at + 4..at + 9)?.as_array()?;
                let bytes_per_pixel = if matches!(marker, 0xc0 | 0xc1) { JPEG_BYTES } else { PROGRESSIVE_JPEG_BYTES };
                let [width, height] = [[w1, w0], [h1, h0]].map(|side| u32::from(u16::from_be_bytes(side)));
                return Some(DecodingCost { width, height, bytes_per_pixel });
            }
            _ => at += 2 + usize::from(u16::from_be_bytes([high, low])),
        }
    }
    None
}

/// The three forms of RFC 9649, 2.5 to 2.7.
fn webp(bytes: &[u8]) -> Option<DecodingCost> {
    let (chunk, data) = (bytes.get(12..16)?, bytes.get(20..)?);
    let (width, height) = match chunk {
        b"VP8 " => {
            let [w0, w1, h0, h1] = *data.get(6..10)?.as_array()?;
            // The upper two bits ask for scaling.
            (u32::from(u16::from_le_bytes([w0, w1]) & 0x3fff), u32::from(u16::from_le_bytes([h0, h1]) & 0x3fff))
        }
        b"VP8L" => {
            let sides = u32::from_le_bytes(*data.get(1..5)?.as_array()?);
            ((sides & 0x3fff) + 1, (sides >> 14 & 0x3fff) + 1)
        }
        b"VP8X" => {
            let [w0, w1, w2, h0, h1, h2] = *data.get(4..10)?.as_array()?;
            (u32::from_le_bytes([w0, w1, w2, 0]) + 1, u32::from_le_bytes([h0, h1, h2, 0]) + 1)
        }
        _ => return None,
    };
    Some(DecodingCost { width, height, bytes_per_pixel: WEBP_BYTES })
}

/// Words between white space and comments: of P1 to P6 the second and the third are the sides.
fn pnm(bytes: &[u8]) -> Option<DecodingCost> {
    const HEADER_BYTES_MAX: usize = 1 << 10;
    let kind = *bytes.get(1)?;
    let text = &bytes[2..bytes.len().min(HEADER_BYTES_MAX)];
    let mut words = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
        words.extend(line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).take(4));
        if words.len() >= 8 {
            break;
        }
    }
    let number = |word: Option<&&[u8]>| std::str::from_utf8(word?).ok()?.parse::<u32>().ok();
    let (width, height) = if kind == b'7' {
        let after = |name: &[u8]| number(words.get(words.iter().position(|word| *word == name)? + 1));
        (after(b"WIDTH")?, after(b"HEIGHT")?)
    } else {
        (number(words.first())?, number(words.get(1))?)
    };
    Some(DecodingCost { width, height, bytes_per_pixel: PNM_BYTES })
}

/// The logical screen (GIF 89a, 18).
fn gif(bytes: &[u8]) -> Option<DecodingCost> {
    let [w0, w1, h0, h1] = *bytes.get(6..10)?.as_array()?;
    let [width, height] = [[w0, w1], [h0, h1]].map(|side| u32::from(u16::from_le_bytes(side)));
    Some(DecodingCost { width, height, bytes_per_pixel: GIF_BYTES })
}

/// Two forms of the header: sides of 16 bits, and sides of 32 bits with a sign that tells the order of the rows.
fn bmp(bytes: &[u8]) -> Option<DecodingCost> {
    let (width, height) = if bytes.get(14)? == &12 {
        let [w0, w1, h0, h1] = *bytes.get(18..22)?.as_array()?;
        (u32::from(u16::from_le_bytes([w0, w1])), u32::from(u16::from_le_bytes([h0, h1])))
    } else {
        let [w0, w1, w2, w3, h0, h1, h2, h3] = *bytes.get(18..26)?.as_array()?;
        let [width, height] = [[w0, w1, w2, w3], [h0, h1, h2, h3]].map(|side| i32::from_le_bytes(side).unsigned_abs());
        (width, height)
    };
    Some(DecodingCost { width, height, bytes_per_pixel: BMP_BYTES })
}

/// The first directory (TIFF 6.0, section 8): samples as they are stored, twice for a conversion of colours, and RGB.
fn tiff(bytes: &[u8]) -> Option<DecodingCost> {
    const WIDTH: u16 = 256;
    const HEIGHT: u16 = 257;
    const BITS: u16 = 258;
    const SAMPLES: u16 = 277;
    let tags = TiffTags::of(bytes)?;
    let samples = tags.value(SAMPLES).unwrap_or(1).clamp(1, 16) as usize;
    let bits = tags.value(BITS).unwrap_or(1).clamp(1, 64) as usize;
    let bytes_per_pixel = 2 * samples.max(3) * bits.div_ceil(8) + 2 * RGB_BYTES;
    Some(DecodingCost { width: tags.value(WIDTH)?, height: tags.value(HEIGHT)?, bytes_per_pixel })
}

/// The payload of a box by its name (ISO/IEC 15444-1, annex I.4; ISO/IEC 18181-2).
fn payload<'a>(bytes: &'a [u8], names: &[&[u8; 4]]) -> Option<(&'a [u8], &'a [u8])> {
    let mut at = 0_usize;
    for _ in 0..BOXES_MAX {
        let head = bytes.get(at..)?;
        let length = u32::from_be_bytes(*head.first_chunk()?) as usize;
        let name = head.get(4..8)?;
        let (start, length) = match length {
            0 => (8, head.len()),
            1 => (16, usize::try_from(u64::from_be_bytes(*head.get(8..16)?.as_array()?)).ok()?),
            length => (8, length),
        };
        if names.iter().any(|wanted| &wanted[..] == name) {
            return Some((name, head.get(start..)?));
        }
        at = at.checked_add(length.max(start))?;
    }
    None
}

/// Image and tile size (ISO/IEC 15444-1, A.5.1).
fn jpeg_2000(bytes: &[u8]) -> Option<DecodingCost> {
    let codestream = if bytes.starts_with(b"\xff\x4f") { bytes } else { payload(bytes, &[b"jp2c"])?.1 };
    let sizes = codestream.strip_prefix(b"\xff\x4f\xff\x51")?;
    let number = |at: usize| Some(u32::from_be_bytes(*sizes.get(4 + 4 * at..8 + 4 * at)?.as_array()?));
    let [x1, y1, x0, y0] = [number(0)?, number(1)?, number(2)?, number(3)?];
    let [tile_width, tile_height] = [number(4)?, number(5)?];
    let components = u16::from_be_bytes(*sizes.get(36..38)?.as_array()?);
    let (width, height) = (x1.checked_sub(x0)?, y1.checked_sub(y0)?);
    let tiles = u64::from(x1.div_ceil(tile_width.max(1))) * u64::from(y1.div_ceil(tile_height.max(1)));
    let is_sound =
        tile_width > 0 && tile_height > 0 && tiles <= TILES_MAX && (1..=COMPONENTS_MAX).contains(&components);
    is_sound.then_some(DecodingCost { width, height, bytes_per_pixel: JPEG_2000_BYTES })
}

/// The size header of the codestream (ISO/IEC 18181-1, D.2): fields of bits, the lowest bit first.
fn jpeg_xl(bytes: &[u8]) -> Option<DecodingCost> {
    let codestream = if bytes.starts_with(b"\xff\x0a") {
        bytes
    } else {
        match payload(bytes, &[b"jxlc", b"jxlp"])? {
            (b"jxlp", part) => part.get(4..)?,
            (_, whole) => whole,
        }
    };
    let mut field = [0_u8; 16];
    let head = codestream.strip_prefix(b"\xff\x0a")?;
    let length = head.len().min(field.len());
    field[..length].copy_from_slice(&head[..length]);
    let mut bits = u128::from_le_bytes(field);
    let mut take = |count: u32| {
        let value = u64::try_from(bits & ((1 << count) - 1)).unwrap_or(u64::MAX);
        bits >>= count;
        value
    };
    let is_small = take(1) == 1;
    let side = |take: &mut dyn FnMut(u32) -> u64| {
        if is_small {
            return 8 * (1 + take(5));
        }
        let width = [9, 13, 18, 30][usize::try_from(take(2)).unwrap_or_default()];
        1 + take(width)
    };
    let height = side(&mut take);
    let width = match take(3) {
        0 => side(&mut take),
        1 => height,
        2 => height * 12 / 10,
        3 => height * 4 / 3,
        4 => height * 3 / 2,
        5 => height * 16 / 9,
        6 => height * 5 / 4,
        _ => height * 2,
    };
    let [width, height] = [width, height].map(|side| u32::try_from(side).ok());
    Some(DecodingCost { width: width?, height: height?, bytes_per_pixel: JPEG_XL_BYTES })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, Rgb, Rgba};

    use super::*;

    fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        picture.write_to(&mut file, format).expect("encodable");
        file.into_inner()
    }

    #[test]
    fn the_size_is_read_from_the_header_of_every_format() {
        let picture = DynamicImage::from(ImageBuffer::<Rgb<u8>, _>::new(321, 77));
        for format in [
            ImageFormat::Png,
            ImageFormat::Jpeg,
            ImageFormat::WebP,
            ImageFormat::Pnm,
            ImageFormat::Gif,
            ImageFormat::Bmp,
            ImageFormat::Tiff,
        ] {
            let file = encoded(&picture, format);
            let cost = DecodingCost::of(&file).expect("understood");
            assert_eq!((cost.width, cost.height), (321, 77), "{format:?}");
            assert!(cost.bytes() >= 321 * 77 * 6, "{format:?}: {}", cost.bytes());
            for length in 0..30 {
                // No header may panic, however short.
                let _ = DecodingCost::of(&file[..length]);
            }
        }
    }

    #[test]
    fn a_file_of_fill_bytes_is_not_read_to_its_end() {
        let file = [
            &[0xff, 0xd8][..],
            &[0xff; 2 * JPEG_SEGMENTS_MAX],
            &encoded(&DynamicImage::new_rgb8(9, 9), ImageFormat::Jpeg)[2..],
        ];
        assert_eq!(DecodingCost::of(&file.concat()), None);
    }

    #[test]
    fn deep_colours_cost_more() {
        let deep = DynamicImage::from(ImageBuffer::<Rgba<u16>, _>::new(100, 100));
        let grey = DynamicImage::from(ImageBuffer::<Luma<u8>, _>::new(100, 100));
        let cost = |picture: &DynamicImage| {
            DecodingCost::of(&encoded(picture, ImageFormat::Png)).expect("understood").bytes() - METADATA_BYTES
        };
        assert_eq!(cost(&deep), 100 * 100 * 11);
        assert_eq!(cost(&grey), 100 * 100 * 4);
    }

    #[test]
    fn a_tiny_file_of_a_large_picture_costs_its_pixels() {
        let mut file = b"RIFF\0\0\0\0WEBPVP8 \x0a\0\0\0\x10\x02\0\x9d\x01\x2a".to_vec();
        file.extend(8000_u16.to_le_bytes());
        file.extend(8000_u16.to_le_bytes());
        let cost = DecodingCost::of(&file).expect("understood");
        assert_eq!((cost.width, cost.height), (8000, 8000));
        assert!(cost.bytes() > 418_000_000);
        assert!(cost.bytes() <= DecodingCost::largest(64_000_000));
    }
}

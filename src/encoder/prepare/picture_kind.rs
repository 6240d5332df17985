//! Recognises files by their first bytes: the kinds of pictures that are decoded, and the names of all others.

/// A kind of picture that is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PictureKind {
    Jpeg,
    Png,
    WebP,
    Gif,
    Bmp,
    Tiff,
    Pnm,
    Jpeg2000,
    JpegXl,
}

/// Bytes at the start of text that are looked at.
const TEXT_BYTES: usize = 512;
/// Entries of a TIFF directory that are looked at.
const TIFF_ENTRIES_MAX: usize = 512;

impl PictureKind {
    /// The kind of a file, or the name of what it is instead, with its article.
    pub(super) fn of(bytes: &[u8]) -> Result<Self, &'static str> {
        if let Some(name) = other_picture(bytes) {
            return Err(name);
        }
        match bytes {
            [0xff, 0xd8, 0xff, ..] => Ok(Self::Jpeg),
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Ok(Self::Png),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Self::WebP),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Ok(Self::Gif),
            // The size of the header tells a bitmap from a text that starts with BM.
            [b'B', b'M', rest @ ..]
                if matches!(rest.get(12..16), Some([12 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0])) =>
            {
                Ok(Self::Bmp)
            }
            [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => Ok(Self::Tiff),
            [b'P', b'1'..=b'7', b' ' | b'\t' | b'\n' | b'\r' | b'#', ..] => Ok(Self::Pnm),
            [0, 0, 0, 12, b'j', b'P', b' ', b' ', ..] | [0xff, 0x4f, 0xff, 0x51, ..] => Ok(Self::Jpeg2000),
            [0xff, 0x0a, ..] | [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..] => Ok(Self::JpegXl),
            _ => Err(other_file(bytes)),
        }
    }
}

/// Pictures whose first bytes would pass for a kind that is decoded, or that a camera makes.
fn other_picture(bytes: &[u8]) -> Option<&'static str> {
    if let Some([b'f', b't', b'y', b'p', brand @ ..]) = bytes.get(4..12) {
        return Some(of_brand(brand, bytes.get(16..).unwrap_or_default()));
    }
    match bytes {
        // Of raw pictures in the form of TIFF the first directory often holds a thumbnail only.
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => raw_in_tiff(bytes),
        [b'I', b'I', 43, 0, ..] | [b'M', b'M', 0, 43, ..] => Some("a BigTIFF picture"),
        [b'I', b'I', b'U', 0, ..] => Some("a camera's raw picture (RW2)"),
        [b'I', b'I', b'R', b'O' | b'S', ..] | [b'M', b'M', b'O', b'R', ..] => Some("a camera's raw picture (ORF)"),
        _ if bytes.starts_with(b"FUJIFILMCCD-RAW") => Some("a camera's raw picture (RAF)"),
        _ if bytes.starts_with(b"FOVb") => Some("a camera's raw picture (X3F)"),
        _ => None,
    }
}

/// Files of ISO/IEC 14496-12: the brand says what they hold, the compatible ones where the brand does not.
fn of_brand(brand: &[u8], compatible: &[u8]) -> &'static str {
    let has = |name: &[u8; 4]| brand == name || compatible.chunks_exact(4).take(16).any(|other| other == name);
    match brand {
        b"crx " => "a camera's raw picture (CR3)",
        b"mif1" | b"msf1" if has(b"avif") => "an AVIF picture",
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1" => "a HEIC picture",
        b"avif" | b"avis" => "an AVIF picture",
        b"qt  " => "a QuickTime video",
        b"M4A " | b"M4B " => "a sound file",
        [b'3', b'g', ..] => "a 3GP video",
        _ => "an MP4 video",
    }
}

/// A DNG, or a TIFF with a thumbnail in front of its pictures, as cameras' raw files have.
fn raw_in_tiff(bytes: &[u8]) -> Option<&'static str> {
    const SUBFILE_TYPE: u16 = 254;
    const SUB_DIRECTORIES: u16 = 330;
    const DNG_VERSION: u16 = 50_706;
    if bytes.get(8..10) == Some(b"CR") {
        return Some("a camera's raw picture (CR2)");
    }
    let tags = TiffTags::of(bytes)?;
    if tags.value(DNG_VERSION).is_some() {
        return Some("a camera's raw picture (DNG)");
    }
    let is_thumbnail = tags.value(SUBFILE_TYPE).is_some_and(|kind| kind & 1 == 1);
    (is_thumbnail && tags.value(SUB_DIRECTORIES).is_some()).then_some("a camera's raw picture")
}

/// The first directory of a TIFF file (TIFF 6.0, section 2).
pub(super) struct TiffTags<'a> {
    bytes: &'a [u8],
    entries: &'a [u8],
    is_big: bool,
}

impl<'a> TiffTags<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Option<Self> {
        let is_big = bytes.first()? == &b'M';
        let mut tags = Self { bytes, entries: &[], is_big };
        let at = tags.long(bytes.get(4..8)?)? as usize;
        let count = usize::from(tags.short(bytes.get(at..at.checked_add(2)?)?)?).min(TIFF_ENTRIES_MAX);
        tags.entries = bytes.get(at + 2..(at + 2).checked_add(12 * count)?)?;
        Some(tags)
    }

    /// The first value of a tag.
    pub(super) fn value(&self, tag: u16) -> Option<u32> {
        let entry = self.entries.chunks_exact(12).find(|entry| self.short(entry) == Some(tag))?;
        let (kind, count) = (self.short(&entry[2..])?, self.long(&entry[4..])?);
        match kind {
            1 if count <= 4 => entry.get(8).copied().map(u32::from),
            3 if count <= 2 => self.short(&entry[8..]).map(u32::from),
            3 => self.short(self.bytes.get(self.long(&entry[8..])? as usize..)?).map(u32::from),
            _ => self.long(&entry[8..]),
        }
    }

    fn short(&self, bytes: &[u8]) -> Option<u16> {
        let two = *bytes.first_chunk()?;
        Some(if self.is_big { u16::from_be_bytes(two) } else { u16::from_le_bytes(two) })
    }

    fn long(&self, bytes: &[u8]) -> Option<u32> {
        let four = *bytes.first_chunk()?;
        Some(if self.is_big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) })
    }
}

/// The name of a file that is no picture of a kind that is decoded.
fn other_file(bytes: &[u8]) -> &'static str {
    const STARTS: &[(&[u8], &str)] = &[
        (b"\0\0\x01\0", "an icon (ICO)"),
        (b"8BPS", "a Photoshop document"),
        (b"gimp xcf", "a GIMP picture"),
        (b"v/1\x01", "an OpenEXR picture"),
        (b"#?RADIANCE", "a Radiance HDR picture"),
        (b"qoif", "a QOI picture"),
        (b"DDS ", "a DDS picture"),
        (b"BPG\xfb", "a BPG picture"),
        (b"\xff\xd8", "a damaged JPEG picture"),
        (b"%!PS", "a PostScript document"),
        (b"\xc5\xd0\xd3\xc6", "a PostScript document"),
        (b"\x1a\x45\xdf\xa3", "a WebM or Matroska video"),
        (b"\0\0\x01\xba", "an MPEG video"),
        (b"\0\0\x01\xb3", "an MPEG video"),
        (b"\0\0\0\x01", "a raw H.264 or H.265 video"),
        (b"FLV\x01", "a Flash video"),
        (b"OggS", "an Ogg file"),
        (b"ID3", "a sound file"),
        (b"fLaC", "a sound file"),
        (b"PK\x03\x04", "a ZIP file"),
        (b"PK\x05\x06", "an empty ZIP file"),
        (b"\x1f\x8b", "a gzip file"),
        (b"7z\xbc\xaf\x27\x1c", "a 7-Zip file"),
        (b"Rar!", "a RAR file"),
        (b"\x28\xb5\x2f\xfd", "a zstd file"),
        (b"\xfd7zXZ", "an xz file"),
        (b"BZh", "a bzip2 file"),
        (b"\x93NUMPY", "a NumPy array"),
        (b"\x89HDF", "an HDF5 file"),
        (b"ARROW1", "an Arrow file"),
        (b"PAR1", "a Parquet file"),
        (b"SQLite format 3", "a SQLite database"),
        (b"SIMPLE  =", "a FITS picture"),
        (b"\xd0\xcf\x11\xe0", "an Office document"),
    ];
    if let Some((_, name)) = STARTS.iter().find(|(start, _)| bytes.starts_with(start)) {
        return name;
    }
    match bytes {
        [b'R', b'I', b'F', b'F', _, _, _, _, b'A', b'V', b'I', b' ', ..] => "an AVI video",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', ..]
        | [0xff, 0xf1 | 0xf3 | 0xf9 | 0xfa | 0xfb, ..] => "a sound file",
        _ if bytes.get(128..132) == Some(b"DICM") => "a DICOM file",
        _ if bytes.get(257..262) == Some(b"ustar") => "a tar file",
        // Some writers leave bytes in front of the header (ISO 32000-1, annex H).
        _ if bytes.windows(5).take(1024).any(|five| five == b"%PDF-") => "a PDF document",
        _ => text(bytes).unwrap_or("a file of an unknown kind"),
    }
}

/// The name of a text, by how it starts.
fn text(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Some("a text");
    }
    let start = &bytes[..bytes.len().min(TEXT_BYTES)];
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    let is_control = |byte: &u8| *byte < b' ' && !byte.is_ascii_whitespace() && *byte != 0x1b;
    let is_text = std::str::from_utf8(start).map_or_else(|error| error.error_len().is_none(), |_| true);
    if start.iter().any(is_control) || !is_text {
        return None;
    }
    let start = start.trim_ascii_start().to_ascii_lowercase();
    let has = |word: &[u8]| start.windows(word.len()).any(|part| part == word);
    Some(match &start[..] {
        [] => "white space",
        [b'<', ..] if has(b"<svg") => "an SVG drawing",
        [b'<', ..] if has(b"<html") || has(b"<!doctype html") || has(b"<head") || has(b"<body") => "an HTML page",
        [b'<', ..] => "an XML or HTML text",
        [b'{' | b'[', ..] => "a JSON text",
        [b'-', b'-', ..] if has(b"content-disposition") => "a multipart form; send it with its Content-Type",
        _ if start.starts_with(b"data:image/") => "a data: URL; send the picture's bytes, or the URL within JSON",
        // How JPEG, PNG, GIF and WebP start in base64.
        _ if [&b"/9j/"[..], b"ivborw0kggo", b"r0lgod", b"uklgr"].iter().any(|head| start.starts_with(head)) => {
            "a picture in base64; send the picture's bytes, or the base64 within JSON"
        }
        _ if start.starts_with(b"version https://git-lfs") => "a pointer of Git LFS, not the file itself",
        _ if start.starts_with(b"http://") || start.starts_with(b"https://") => "an address; send the picture itself",
        _ => "a text",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_by_name() {
        let named = |bytes: &[u8]| PictureKind::of(bytes).expect_err("no picture of a kind that is decoded");
        assert_eq!(named(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"), "a HEIC picture");
        assert_eq!(named(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic"), "a HEIC picture");
        assert_eq!(named(b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif"), "an AVIF picture");
        assert_eq!(named(b"\0\0\0\x18ftypisom\0\0\0\0isommp42"), "an MP4 video");
        assert_eq!(named(b"\0\0\0\x14ftypqt  \0\0\0\0qt  "), "a QuickTime video");
        assert_eq!(named(b"<?xml version='1.0'?>\n<svg xmlns='...'/>"), "an SVG drawing");
        assert_eq!(named(b"<!DOCTYPE html><p>404"), "an HTML page");
        assert_eq!(named(b"BM means Bitmap, and this is a sentence."), "a text");
        assert_eq!(named("Größe".as_bytes()), "a text");
        assert_eq!(
            named(b"/9j/4AAQSkZJRg"),
            "a picture in base64; send the picture's bytes, or the base64 within JSON"
        );
        assert_eq!(named(&[0; 100]), "a file of an unknown kind");
    }

    #[test]
    fn a_raw_picture_in_the_form_of_tiff_is_not_taken_for_its_thumbnail() {
        let tiff = |tags: &[(u16, u32)]| {
            let mut file = b"II*\0\x08\0\0\0".to_vec();
            file.extend(u16::try_from(tags.len()).unwrap().to_le_bytes());
            for (tag, value) in tags {
                file.extend([&tag.to_le_bytes()[..], &[4, 0, 1, 0, 0, 0], &value.to_le_bytes()].concat());
            }
            file
        };
        assert_eq!(PictureKind::of(&tiff(&[(254, 1), (330, 99)])), Err("a camera's raw picture"));
        assert_eq!(PictureKind::of(&tiff(&[(254, 0), (50_706, 0x0401)])), Err("a camera's raw picture (DNG)"));
        assert_eq!(PictureKind::of(&tiff(&[(254, 0), (330, 99)])), Ok(PictureKind::Tiff));
        assert_eq!(PictureKind::of(&tiff(&[(256, 3)])), Ok(PictureKind::Tiff));
    }
}

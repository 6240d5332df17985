//! What people send as a picture: each kind is taken, or refused by its name. The table of docs/pictures.md is what the
//! server answers.

use std::{fmt::Write, fs, path::Path};

use image::{DynamicImage, ImageFormat, RgbImage};
use reqwest::{Method, StatusCode};

use crate::support::{Database, Home, Server, Start, answer};

const PAGE: &str = "docs/pictures.md";
const BEFORE: &str = "<!-- The table is what the server answers; a test writes and compares it. -->\n\n";

fn stored(name: &str) -> Vec<u8> {
    fs::read(Path::new("tests/data/pictures").join(name)).expect("it is in the repository")
}

fn drawn(format: ImageFormat) -> Vec<u8> {
    let picture =
        RgbImage::from_fn(32, 24, |x, y| image::Rgb([x * 7, y * 9, 90].map(|v| u8::try_from(v).expect("small"))));
    encoded(&picture.into(), format)
}

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut file, format).expect("in memory");
    file.into_inner()
}

fn jpeg(tail: &[u8]) -> Vec<u8> {
    let file = stored("kinds/subsampled.jpg");
    [&file[..file.len() - 2], tail].concat()
}

/// The head of a file in the form of MP4, with its brands.
fn brands(names: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 32], b"ftyp".as_slice(), &names[..4], &[0; 4], &names[4..], &[0; 64]].concat()
}

fn cut(mut file: Vec<u8>, part: usize) -> Vec<u8> {
    file.truncate(file.len() * part / 8);
    file
}

/// Each kind, with a small file of it.
fn kinds() -> Vec<(&'static str, Vec<u8>)> {
    let tiff_tags = |tags: &[(u16, u32)]| {
        let entry =
            |(tag, value): &(u16, u32)| [&tag.to_le_bytes()[..], &[4, 0, 1, 0, 0, 0], &value.to_le_bytes()].concat();
        [
            b"II*\0\x08\0\0\0".to_vec(),
            vec![u8::try_from(tags.len()).expect("few"), 0],
            tags.iter().flat_map(entry).collect(),
        ]
        .concat()
    };
    vec![
        ("JPEG", stored("kinds/subsampled.jpg")),
        ("JPEG, progressive", stored("kinds/progressive.jpg")),
        ("JPEG, grey", stored("kinds/grey.jpg")),
        ("JPEG, CMYK", stored("cmyk.jpg")),
        ("JPEG, with restart markers", stored("kinds/restart.jpg")),
        ("JPEG without its end marker", jpeg(b"")),
        ("JPEG with a trailer (motion photo)", jpeg(b"\xff\xd9\0\0\0\x18ftypmp42 and the video")),
        ("JPEG, cut", cut(stored("kinds/subsampled.jpg"), 7)),
        (
            "JPEG, cut, with an end marker put behind",
            [cut(stored("kinds/subsampled.jpg"), 7), b"\xff\xd9".to_vec()].concat(),
        ),
        ("PNG", drawn(ImageFormat::Png)),
        ("PNG, 16 bits", encoded(&DynamicImage::from(RgbImage::new(9, 9)).into_rgb16().into(), ImageFormat::Png)),
        ("PNG with transparency", encoded(&DynamicImage::new_rgba8(9, 9), ImageFormat::Png)),
        ("PNG, animated", stored("animated.png")),
        ("PNG, cut", cut(drawn(ImageFormat::Png), 4)),
        ("WebP", drawn(ImageFormat::WebP)),
        ("WebP, animated", stored("animated.webp")),
        ("GIF", stored("kinds/four.gif")),
        ("GIF, animated: the first frame", stored("kinds/animated.gif")),
        ("BMP", drawn(ImageFormat::Bmp)),
        ("TIFF", stored("kinds/lzw.tif")),
        ("TIFF, JPEG inside", stored("kinds/jpeg.tif")),
        ("TIFF, CMYK", stored("kinds/cmyk.tif")),
        ("PGM and PPM", drawn(ImageFormat::Pnm)),
        ("JPEG 2000 (JP2)", stored("kinds/four.jp2")),
        ("JPEG 2000, codestream alone", stored("kinds/four.j2k")),
        ("JPEG XL", stored("kinds/four.jxl")),
        ("HEIC", brands(b"heicmif1heic")),
        ("AVIF", stored("kinds/four.avif")),
        ("raw: DNG", tiff_tags(&[(254, 0), (50_706, 0x0401)])),
        ("raw: NEF, ARW and others in the form of TIFF", tiff_tags(&[(254, 1), (330, 99)])),
        ("raw: CR3", brands(b"crx crx isom")),
        ("icon (ICO)", stored("kinds/four.ico")),
        ("Photoshop (PSD)", b"8BPS\0\x01\0\0\0\0\0\0\0\x03".to_vec()),
        ("SVG", b"<svg xmlns=\"http://www.w3.org/2000/svg\"></svg>".to_vec()),
        ("PDF", b"%PDF-1.7\n".to_vec()),
        ("MP4", brands(b"isomisommp42")),
        ("MOV", brands(b"qt  qt      ")),
        ("WebM", b"\x1a\x45\xdf\xa3\x01\0\0\0".to_vec()),
        ("ZIP", b"PK\x03\x04\x14\0\0\0".to_vec()),
        ("gzip", b"\x1f\x8b\x08\0\0\0".to_vec()),
        ("HTML (an error page that was saved)", b"<!DOCTYPE html><html><body>404</body></html>".to_vec()),
        ("JSON", b"{\"error\": \"not found\"}".to_vec()),
        ("text", b"see attachment".to_vec()),
        ("base64 as the body", b"/9j/4AAQSkZJRgABAQAAAQABAAD/".to_vec()),
        ("data: URL as the body", b"data:image/jpeg;base64,/9j/4AAQ".to_vec()),
        ("NumPy array", b"\x93NUMPY\x01\0v\0".to_vec()),
        ("Git LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n".to_vec()),
        ("zeros", vec![0; 300]),
    ]
}

/// A folder with one model for whole pictures.
fn models() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let package = folder.path().join("torchscript-tiny");
    fs::create_dir(&package).expect("a new folder");
    for file in ["model.toml", "weights.pt"] {
        fs::copy(Path::new("tests/data/torchscript-tiny").join(file), package.join(file)).expect("copied");
    }
    folder
}

#[tokio::test]
async fn the_page_says_what_the_server_answers_to_each_kind_of_file() {
    let (home, models) = (Home::new(&Database::Sqlite).await, models());
    let server = Server::start(&home, &Start { models: Some(models.path()), ..Start::default() });
    let mut table = String::from("| file | answer |\n|---|---|\n");
    let kinds = kinds();
    assert!(kinds.len() >= 40);
    for (kind, file) in kinds {
        let path = "/v1/templates:extract?modality=person";
        let request = server.request(Method::POST, path).header("content-type", "application/octet-stream");
        let (status, answered) = answer(request.body(file)).await;
        let sentence = if status == StatusCode::OK {
            "taken".to_owned()
        } else {
            assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{kind}: {answered}");
            format!("refused: {}", answered["detail"].as_str().expect("a sentence"))
        };
        writeln!(table, "| {kind} | {sentence} |").expect("in memory");
    }
    let page = fs::read_to_string(PAGE).expect("the page");
    let (before, told) = page.split_once(BEFORE).expect("the page has its table");
    if std::env::var_os("SEMBLANCE_WRITE_PAGES").is_some() {
        fs::write(PAGE, format!("{before}{BEFORE}{table}")).expect("written");
    }
    assert!(
        told == table,
        "docs/pictures.md differs from the answers; SEMBLANCE_WRITE_PAGES=1 writes it anew:\n{table}"
    );
    drop(server);
    home.tidy().await;
}

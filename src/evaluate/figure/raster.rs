//! Rasterises figures. The font is compiled in, so that text looks the same on every machine.

use std::sync::Arc;

use resvg::{
    tiny_skia::{Pixmap, Transform},
    usvg,
};
use thiserror::Error;

/// Pixels per SVG pixel, for high-density screens and print.
const DENSITY: u16 = 2;

/// Why a figure cannot be rasterised.
#[derive(Debug, Error)]
pub enum FigureError {
    #[error("the figure is not a valid SVG")]
    Svg(#[from] usvg::Error),
    #[error("there is no memory for {0} x {1} pixels")]
    TooLarge(u32, u32),
    #[error("the pixels cannot be written as PNG: {0}")]
    Png(String),
}

/// Rasterises an SVG as PNG without the machine's fonts or other files.
///
/// # Errors
/// [`FigureError`].
pub(crate) fn png(svg: &str) -> Result<Vec<u8>, FigureError> {
    let mut options = usvg::Options::default();
    let fonts = Arc::make_mut(&mut options.fontdb);
    fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    let family = fonts.faces().next().and_then(|face| face.families.first()).map(|(name, _)| name.clone());
    fonts.set_sans_serif_family(family.expect("the built-in font has a name"));
    let tree = usvg::Tree::from_str(svg, &options)?;
    let size = tree.size().to_int_size();
    let (width, height) = (size.width() * u32::from(DENSITY), size.height() * u32::from(DENSITY));
    let mut pixels = Pixmap::new(width, height).ok_or(FigureError::TooLarge(width, height))?;
    let larger = f32::from(DENSITY);
    resvg::render(&tree, Transform::from_scale(larger, larger), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| FigureError::Png(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::tests::example;

    #[test]
    fn figures_have_lines_and_text() {
        // One line only: a filled series would cover it.
        let svg = example(1).svg();
        let drawn = image::load_from_memory(&png(&svg).expect("drawn")).expect("a PNG").into_rgb8();
        assert_eq!(drawn.dimensions(), (1440, 920));
        let dark = |picture: &image::RgbImage, rows: std::ops::Range<u32>| {
            rows.flat_map(|y| (0..1440).map(move |x| (x, y)))
                .filter(|(x, y)| picture.get_pixel(*x, *y).0.iter().all(|c| *c < 100))
                .count()
        };
        // Only the title is above the frame.
        assert!(dark(&drawn, 20..70) > 300, "there are letters");
        let is_blue = |pixel: &image::Rgb<u8>| pixel.0[0] < 0x20 && pixel.0[2].abs_diff(0xb2) < 0x10;
        let blue = drawn.pixels().filter(|pixel| is_blue(pixel)).count();
        assert!(blue > 500, "there is a line: {blue}");
        let wordless = svg.replace("Two", "").replace("bold", "").replace("lines", "");
        let wordless = image::load_from_memory(&png(&wordless).expect("drawn")).expect("a PNG").into_rgb8();
        assert!(dark(&wordless, 20..70) < dark(&drawn, 20..70), "the letters are the title's");
    }

    #[test]
    fn invalid_svg_is_refused() {
        assert!(matches!(png("<p>no</p>"), Err(FigureError::Svg(_))));
    }
}

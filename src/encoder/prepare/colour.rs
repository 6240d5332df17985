//! Colours of a profile become sRGB: photos of phones are Display P3, those of cameras often Adobe RGB.

use image::RgbImage;
use moxcms::{ColorProfile, DataColorSpace, Layout, TransformOptions};

/// Converts a picture from its ICC profile to sRGB, row by row.
///
/// A profile that cannot be read, or that is for other colours than the decoded ones, is ignored: CMYK is converted
/// without one.
pub(super) fn to_srgb(picture: &mut RgbImage, profile: &[u8]) {
    let Ok(profile) = ColorProfile::new_from_slice(profile) else { return };
    let layout = match profile.color_space {
        DataColorSpace::Rgb => Layout::Rgb,
        DataColorSpace::Gray => Layout::Gray,
        _ => return,
    };
    let options = TransformOptions::default();
    let srgb = ColorProfile::new_srgb();
    let Ok(transform) = profile.create_transform_8bit(layout, &srgb, Layout::Rgb, options) else { return };
    let width = 3 * picture.width() as usize;
    if width == 0 {
        return;
    }
    let is_grey = layout == Layout::Gray;
    for row in picture.chunks_exact_mut(width) {
        let source: Vec<u8> = if is_grey { row.iter().step_by(3).copied().collect() } else { row.to_vec() };
        if transform.transform(&source, row).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    fn converted(profile: &ColorProfile, pixel: [u8; 3]) -> [u8; 3] {
        let mut picture = RgbImage::from_pixel(3, 2, Rgb(pixel));
        to_srgb(&mut picture, &profile.encode().expect("a profile"));
        assert!(picture.pixels().all(|other| other == picture.get_pixel(0, 0)));
        picture.get_pixel(2, 1).0
    }

    fn is_near(found: [u8; 3], expected: [u8; 3]) -> bool {
        found.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 2)
    }

    /// Reference: the matrices of the two spaces (IEC 61966-2-1, SMPTE EG 432-1) by hand.
    #[test]
    fn a_colour_of_display_p3_becomes_that_of_srgb() {
        let found = converted(&ColorProfile::new_display_p3(), [200, 120, 100]);
        assert!(is_near(found, [212, 117, 95]), "{found:?}");
        let grey = converted(&ColorProfile::new_display_p3(), [128, 128, 128]);
        assert!(is_near(grey, [128, 128, 128]), "{grey:?}");
    }

    #[test]
    fn srgb_stays_and_what_is_no_profile_is_ignored() {
        let found = converted(&ColorProfile::new_srgb(), [200, 120, 100]);
        assert!(is_near(found, [200, 120, 100]), "{found:?}");
        let mut picture = RgbImage::from_pixel(3, 2, Rgb([1, 2, 3]));
        to_srgb(&mut picture, b"not a profile");
        assert_eq!(picture, RgbImage::from_pixel(3, 2, Rgb([1, 2, 3])));
    }
}

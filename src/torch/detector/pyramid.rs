//! An image pyramid of halves, from which any region is read at any size by area averaging.
//!
//! A region is read from the smallest level that is not smaller than the requested size. So the cost of a crop depends
//! on its output size, not on the picture, and no pixels are skipped.

use std::{borrow::Cow, ops::Range};

use super::{Pixels, boxes::Region};
use crate::network::mtcnn::{PIXEL_MEAN, PIXEL_SCALE};

const CHANNELS: usize = 3;

/// The picture and its repeated halves.
#[derive(Debug)]
pub(super) struct Pyramid<'a>(Vec<Plane<'a>>);

#[derive(Debug)]
struct Plane<'a> {
    width: usize,
    height: usize,
    rgb: Cow<'a, [u8]>,
}

impl<'a> Pyramid<'a> {
    /// Halves the picture until a side is below `2 * side_min`.
    ///
    /// The number of bytes must match the sides.
    pub(super) fn new(pixels: &Pixels<'a>, side_min: usize) -> Self {
        let (width, height) = (pixels.width as usize, pixels.height as usize);
        let mut planes = vec![Plane { width, height, rgb: Cow::Borrowed(pixels.rgb) }];
        while let Some(last) = planes.last()
            && last.width.min(last.height) >= 2 * side_min
        {
            let half = last.halved();
            planes.push(half);
        }
        Self(planes)
    }

    /// Width and height of the picture.
    pub(super) fn sides(&self) -> [usize; 2] {
        [self.0[0].width, self.0[0].height]
    }

    /// Appends rows of `region`, resized to `[width, height]`, to `into`: row-major RGB, normalised for the networks.
    /// Outside of the picture it is black.
    pub(super) fn read(&self, region: &Region, [width, height]: [usize; 2], rows: Range<usize>, into: &mut Vec<f32>) {
        let (plane, halvings) = self.plane(region, [width, height]);
        let scale = 0.5_f32.powi(halvings);
        let columns = taps([region.left * scale, region.right * scale], width, 0..width, plane.width);
        let rows = taps([region.top * scale, region.bottom * scale], height, rows, plane.height);
        let first = columns.iter().map(|tap| tap.first).min().unwrap_or_default();
        let end = columns.iter().map(|tap| tap.first + tap.weights.len()).max().unwrap_or_default();
        let mut row_sum = vec![0.0_f32; (end - first) * CHANNELS];
        for row in &rows {
            row_sum.fill(0.0);
            for (y, weight) in (row.first..).zip(&row.weights) {
                let source = &plane.rgb[(y * plane.width + first) * CHANNELS..][..row_sum.len()];
                for (sum, part) in row_sum.iter_mut().zip(source) {
                    *sum += weight * f32::from(*part);
                }
            }
            for column in &columns {
                let source = &row_sum[(column.first - first) * CHANNELS..];
                let mut pixel = [0.0_f32; CHANNELS];
                for (part, weight) in source.as_chunks::<CHANNELS>().0.iter().zip(&column.weights) {
                    for (sum, part) in pixel.iter_mut().zip(part) {
                        *sum += weight * part;
                    }
                }
                into.extend(pixel.map(|part| (part - PIXEL_MEAN) * PIXEL_SCALE));
            }
        }
    }

    /// The smallest plane in which the region has at least `sides`, and its number of halvings.
    fn plane(&self, region: &Region, sides: [usize; 2]) -> (&Plane<'a>, i32) {
        let shrink = (region.width() / sides[0] as f32).min(region.height() / sides[1] as f32);
        let fits = |halvings: &i32| 2.0_f32.powi(*halvings) <= shrink;
        let halvings = (1..).zip(&self.0[1..]).map(|(halvings, _)| halvings).take_while(fits).last().unwrap_or(0);
        (&self.0[usize::try_from(halvings).expect("counted up from zero")], halvings)
    }
}

impl Plane<'_> {
    /// Each pixel is the mean of four; the last row or column of an odd side is repeated.
    fn halved(&self) -> Plane<'static> {
        let (width, height) = (self.width.div_ceil(2), self.height.div_ceil(2));
        let row = |y: usize| &self.rgb[y.min(self.height - 1) * self.width * CHANNELS..][..self.width * CHANNELS];
        let mut rgb = Vec::with_capacity(width * height * CHANNELS);
        for y in 0..height {
            let (upper, lower) = (row(2 * y), row(2 * y + 1));
            let (upper, upper_odd) = upper.as_chunks::<{ 2 * CHANNELS }>();
            let (lower, lower_odd) = lower.as_chunks::<{ 2 * CHANNELS }>();
            for (upper, lower) in upper.iter().zip(lower) {
                let sum = |channel: usize| {
                    let pair = |row: &[u8; 2 * CHANNELS]| u16::from(row[channel]) + u16::from(row[channel + CHANNELS]);
                    pair(upper) + pair(lower)
                };
                rgb.extend([sum(0), sum(1), sum(2)].map(|sum| quotient(sum, 4)));
            }
            let odd = upper_odd.iter().zip(lower_odd);
            rgb.extend(odd.map(|(upper, lower)| quotient(u16::from(*upper) + u16::from(*lower), 2)));
        }
        Plane { width, height, rgb: Cow::Owned(rgb) }
    }
}

/// The rounded mean of `count` bytes.
fn quotient(sum: u16, count: u16) -> u8 {
    u8::try_from((sum + count / 2) / count).expect("a mean of bytes is one")
}

/// The source pixels and weights of one output pixel.
struct Tap {
    first: usize,
    weights: Vec<f32>,
}

/// The taps of a range of `count` equal intervals from `from` to `to`, over `pixels` pixels.
///
/// An interval shorter than a pixel is widened to one, which gives linear interpolation. The share outside of the
/// picture has no weight.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the pixels there are")]
fn taps([from, to]: [f32; 2], count: usize, some: Range<usize>, pixels: usize) -> Vec<Tap> {
    let step = (to - from) / count as f32;
    let length = step.max(1.0);
    some.map(|at| {
        let start = from + (at as f32 + 0.5) * step - length / 2.0;
        let end = start + length;
        let first = start.floor().clamp(0.0, pixels as f32) as usize;
        let last = end.ceil().clamp(first as f32, pixels as f32) as usize;
        let covered = |pixel: usize| (end.min(pixel as f32 + 1.0) - start.max(pixel as f32)).max(0.0);
        Tap { first, weights: (first..last).map(|pixel| covered(pixel) / length).collect() }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(width: u32, height: u32) -> Region {
        Region { left: 0.0, top: 0.0, right: width as f32, bottom: height as f32 }
    }

    /// The read values, in 0..=255.
    fn read(pyramid: &Pyramid<'_>, region: &Region, sides: [usize; 2]) -> Vec<f32> {
        let mut numbers = Vec::new();
        pyramid.read(region, sides, 0..sides[1], &mut numbers);
        numbers.iter().map(|number| number / PIXEL_SCALE + PIXEL_MEAN).collect()
    }

    fn near(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-2), "{found:?} {expected:?}");
    }

    fn grey(values: &[u8]) -> Vec<u8> {
        values.iter().flat_map(|value| [*value; CHANNELS]).collect()
    }

    #[test]
    fn reading_at_the_same_size_changes_nothing() {
        let rgb: Vec<u8> = (0..60).map(|at| at * 4).collect();
        let pyramid = Pyramid::new(&Pixels { width: 5, height: 4, rgb: &rgb }, 12);
        let expected: Vec<f32> = rgb.iter().copied().map(f32::from).collect();
        near(&read(&pyramid, &whole(5, 4), [5, 4]), &expected);
    }

    #[test]
    fn downscaling_averages_the_area() {
        let rgb = grey(&[0, 60, 120, 60, 90, 30]);
        let pyramid = Pyramid::new(&Pixels { width: 3, height: 2, rgb: &rgb }, 12);
        near(&read(&pyramid, &whole(3, 2), [1, 1]), &[60.0; 3]);
        // One and a half pixels each: 0 and half of 60, then half of 60 and 120.
        let upper = Region { bottom: 1.0, ..whole(3, 2) };
        near(&read(&pyramid, &upper, [2, 1]), &[20.0, 20.0, 20.0, 100.0, 100.0, 100.0]);
    }

    #[test]
    fn upscaling_is_linear_between_pixels() {
        let rgb = grey(&[0, 100]);
        let pyramid = Pyramid::new(&Pixels { width: 2, height: 1, rgb: &rgb }, 12);
        let middle = Region { left: 0.5, right: 1.5, ..whole(2, 1) };
        let found: Vec<f32> = read(&pyramid, &middle, [4, 1]).chunks(3).map(|pixel| pixel[0]).collect();
        near(&found, &[12.5, 37.5, 62.5, 87.5]);
    }

    #[test]
    fn outside_is_black() {
        let rgb = grey(&[200; 4]);
        let pyramid = Pyramid::new(&Pixels { width: 2, height: 2, rgb: &rgb }, 12);
        let over = Region { left: -2.0, top: -2.0, right: 4.0, bottom: 4.0 };
        let found: Vec<f32> = read(&pyramid, &over, [3, 3]).chunks(3).map(|pixel| pixel[0]).collect();
        near(&found, &[0.0, 0.0, 0.0, 0.0, 200.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn halves_of_odd_sides_keep_their_last_column() {
        let rgb = grey(&[10, 20, 30, 50, 60, 70]);
        let half = Plane { width: 3, height: 2, rgb: Cow::Borrowed(&rgb) }.halved();
        assert_eq!((half.width, half.height, half.rgb.into_owned()), (2, 1, grey(&[35, 50])));
    }

    proptest! {
        #[test]
        fn any_part_of_one_colour_is_that_colour(
            (width, height) in (30_u32..200, 30_u32..200), colour in any::<u8>(),
            (left, top, side) in (0.0_f32..0.5, 0.0_f32..0.5, 0.1_f32..0.5), out in 1_usize..60,
        ) {
            let rgb = vec![colour; (width * height) as usize * CHANNELS];
            let pyramid = Pyramid::new(&Pixels { width, height, rgb: &rgb }, 12);
            // Half a pixel from the border, upscaling finds pixels on both sides.
            let place = |part: f32, side: u32| 0.5 + part * (side - 1) as f32;
            let region = Region {
                left: place(left, width),
                top: place(top, height),
                right: place(left + side, width),
                bottom: place(top + side, height),
            };
            let found = read(&pyramid, &region, [out, out]);
            prop_assert!(found.iter().all(|part| (part - f32::from(colour)).abs() < 0.1), "{:?}", found);
        }

        /// A gradient that is downscaled from any plane has about the value of its centre.
        #[test]
        fn a_slope_stays_a_slope((width, height) in (32_u32..250, 32_u32..250), out in 4_usize..30) {
            let slope = |x: u32| u8::try_from(x).expect("below 250");
            let rgb: Vec<u8> = (0..height).flat_map(|_| (0..width).flat_map(|x| [slope(x); CHANNELS])).collect();
            let pyramid = Pyramid::new(&Pixels { width, height, rgb: &rgb }, 8);
            let found = read(&pyramid, &whole(width, height), [out, out]);
            let step = width as f32 / out as f32;
            for at in 1..out - 1 {
                let expected = (at as f32 + 0.5) * step - 0.5;
                // Halving rounds up, and a pixel of a plane is constant.
                let off = (found[at * CHANNELS] - expected).abs();
                prop_assert!(off < 0.6 + step / 8.0, "{} {expected}", found[at * CHANNELS]);
            }
        }

        #[test]
        fn rows_can_be_read_in_parts(split in 0_usize..20, noise in prop::collection::vec(any::<u8>(), 40 * 40 * 3)) {
            let pyramid = Pyramid::new(&Pixels { width: 40, height: 40, rgb: &noise }, 12);
            let region = whole(40, 40);
            let mut parts = Vec::new();
            pyramid.read(&region, [15, 20], 0..split, &mut parts);
            pyramid.read(&region, [15, 20], split..20, &mut parts);
            let mut all = Vec::new();
            pyramid.read(&region, [15, 20], 0..20, &mut all);
            prop_assert_eq!(parts, all);
        }
    }
}

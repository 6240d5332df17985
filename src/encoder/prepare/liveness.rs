//! The crops for PAD networks: a face with its surroundings.

use image::RgbImage;

use torch::pad::{CROP_NUMBERS, CROP_SCALES, CROP_SIDE};

/// Cuts both crops of a face, in the order of [`CROP_SCALES`], in the form that [`torch::pad::Liveness::forward`]
/// takes.
///
/// `bounds` are left, top, width and height of the face in pixels, finite, with positive sides. Where the picture is
/// too small for a crop, the crop is smaller; a crop across the border is moved inside.
pub fn crops(picture: &RgbImage, bounds: [f32; 4]) -> [Vec<f32>; 2] {
    CROP_SCALES.map(|scale| crop(picture, &CropRegion::around(bounds, scale, [picture.width(), picture.height()])))
}

/// A region of a picture in whole pixels, bounds included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CropRegion {
    left: u32,
    top: u32,
    right: u32,
    bottom: u32,
}

impl CropRegion {
    /// The networks were trained with this rounding: the box in whole pixels with its last column and row, and the
    /// picture without its last column and row.
    fn around([left, top, width, height]: [f32; 4], scale: f32, sides: [u32; 2]) -> Self {
        let [left, top, width, height] = [left, top, width + 1.0, height + 1.0].map(f32::trunc);
        let [last_x, last_y] = sides.map(|side| side.saturating_sub(1) as f32);
        let scale = scale.min(last_x / width).min(last_y / height);
        let (left, right) = inside(left + width / 2.0, width * scale, last_x);
        let (top, bottom) = inside(top + height / 2.0, height * scale, last_y);
        Self { left, top, right, bottom }
    }
}

/// Start and end of an interval around a centre after it is moved between zero and `last`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "both lie within the picture")]
fn inside(centre: f32, length: f32, last: f32) -> (u32, u32) {
    let start = (centre - length / 2.0).min(last - length).max(0.0);
    (start as u32, (start + length).min(last) as u32)
}

/// `[3, 80, 80]` BGR, row-major, bilinear. Downscaling skips pixels without averaging: the networks were trained on
/// such pictures and depend on the resulting texture.
fn crop(picture: &RgbImage, cut: &CropRegion) -> Vec<f32> {
    let (columns, rows) = (pixel_pairs(cut.left, cut.right), pixel_pairs(cut.top, cut.bottom));
    let mut numbers = vec![0.0; CROP_NUMBERS];
    let (blue, rest) = numbers.split_at_mut(CROP_SIDE * CROP_SIDE);
    let (green, red) = rest.split_at_mut(CROP_SIDE * CROP_SIDE);
    for (y, row) in rows.iter().enumerate() {
        for (x, column) in columns.iter().enumerate() {
            let part = |x: u32, y: u32| picture.get_pixel(x, y).0.map(f32::from);
            let upper = between(part(column.near, row.near), part(column.far, row.near), column.part);
            let lower = between(part(column.near, row.far), part(column.far, row.far), column.part);
            let at = y * CROP_SIDE + x;
            [red[at], green[at], blue[at]] = between(upper, lower, row.part).map(f32::round);
        }
    }
    numbers
}

/// Two neighbouring pixels and the weight of the second.
struct PixelPair {
    near: u32,
    far: u32,
    part: f32,
}

/// The pixel pairs of the crop along one side, from the first to the last column or row.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "both lie within the picture")]
fn pixel_pairs(first: u32, last: u32) -> Vec<PixelPair> {
    let step = (last - first + 1) as f32 / CROP_SIDE as f32;
    let place = |at: usize| {
        let place = ((at as f32 + 0.5) * step - 0.5).clamp(0.0, (last - first) as f32);
        let near = place.floor();
        PixelPair { near: first + near as u32, far: (first + near as u32 + 1).min(last), part: place - near }
    };
    (0..CROP_SIDE).map(place).collect()
}

fn between(a: [f32; 3], b: [f32; 3], part: f32) -> [f32; 3] {
    std::array::from_fn(|channel| a[channel] + part * (b[channel] - a[channel]))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use image::Rgb;
    use proptest::prelude::*;

    use super::*;
    use crate::prepare::{SampleLimits, decode::decode};
    use torch::{
        detector::{DetectorOptions, Mtcnn, Pixels},
        pad::Liveness,
        runtime,
    };
    use weights::StateDict;

    /// Joins weight files into one state dict, each with its prefix instead of `module.`.
    fn weights(data: &Path, files: &[(&str, &str)]) -> StateDict {
        let mut all = StateDict::default();
        for (prefix, file) in files {
            let weights = StateDict::read(&data.join("face/weights").join(file), None).expect("a checkpoint");
            for (key, tensor) in weights.strip_prefix("module.").expect("names stay apart").iter() {
                all.insert(format!("{prefix}{key}"), tensor.clone()).expect("prefixes differ");
            }
        }
        all
    }

    /// Published scores of these pictures: 1.00, 0.19 and 0.003. The second varies between 0.15 and 0.28 when its box
    /// moves by a pixel: the networks depend on fine texture, which resizing changes.
    #[test]
    #[ignore = "needs SEMBLANCE_TEST_DATA"]
    fn a_face_and_two_pictures_of_faces_are_told_apart_on_real_data() {
        let data = testing::data();
        let _inference = runtime::prepare_thread();
        let nets = weights(&data, &[("pnet.", "pnet.pt"), ("rnet.", "rnet.pt"), ("onet.", "onet.pt")]);
        let detector = Mtcnn::build(nets, DetectorOptions::default()).expect("the published layout");
        let nets = [("scale2_7.", "2.7_80x80_MiniFASNetV2.pth"), ("scale4_0.", "4_0_0_80x80_MiniFASNetV1SE.pth")];
        let liveness = Liveness::build(weights(&data, &nets)).expect("the published layout");
        for (name, expected) in [("image_T1", 1.0), ("image_F1", 0.19), ("image_F2", 0.003)] {
            let file = std::fs::read(data.join(format!("face/sets/antispoof_samples/{name}.jpg"))).expect("a sample");
            let picture = decode(&file, &SampleLimits::default()).expect("a picture");
            let pixels = Pixels { width: picture.width(), height: picture.height(), rgb: picture.as_raw() };
            let [face] = detector.detect(&[pixels]).expect("runs").remove(0)[..] else { panic!("one face in {name}") };
            let [near, wide] = crops(&picture, face.bounds);
            let score = liveness.forward(&[[&near, &wide]]).expect("runs")[0];
            assert!((score - expected).abs() <= 0.01, "{name}: {score}");
        }
    }

    #[test]
    fn a_cut_is_enlarged_about_the_centre_and_stays_inside() {
        let cut = |bounds, scale| CropRegion::around(bounds, scale, [200, 100]);
        assert_eq!(cut([89.0, 39.0, 20.0, 20.0], 3.0), CropRegion { left: 68, top: 18, right: 131, bottom: 81 });
        // Moved right and down, then left and up.
        assert_eq!(cut([-5.0, 2.0, 19.0, 19.0], 3.0), CropRegion { left: 0, top: 0, right: 60, bottom: 60 });
        assert_eq!(cut([190.0, 90.0, 19.0, 19.0], 3.0), CropRegion { left: 139, top: 39, right: 199, bottom: 99 });
        // No larger than the picture, with the box's aspect ratio.
        assert_eq!(cut([60.0, 10.0, 32.0, 65.0], 4.0), CropRegion { left: 51, top: 0, right: 101, bottom: 99 });
    }

    #[test]
    fn channels_are_blue_green_red() {
        let picture = RgbImage::from_pixel(100, 100, Rgb([10, 20, 30]));
        for crop in crops(&picture, [40.0, 40.0, 20.0, 20.0]) {
            let expected: Vec<f32> = [30.0, 20.0, 10.0].iter().flat_map(|part| vec![*part; CROP_NUMBERS / 3]).collect();
            assert_eq!(crop, expected);
        }
    }

    #[test]
    fn pixels_are_read_at_their_centres() {
        let rising = RgbImage::from_fn(160, 80, |x, _| Rgb([u8::try_from(x).expect("below 160"); 3]));
        let numbers = crop(&rising, &CropRegion { left: 0, top: 0, right: 159, bottom: 79 });
        // Between 0 and 1, between 2 and 3: rounded up.
        assert_eq!(numbers[..4], [1.0, 3.0, 5.0, 7.0]);
        let numbers = crop(&rising, &CropRegion { left: 20, top: 0, right: 59, bottom: 39 });
        assert_eq!(numbers[..6], [20.0, 20.0, 21.0, 21.0, 22.0, 22.0]);
    }

    proptest! {
        #[test]
        fn any_box_gives_crops_of_the_picture(
            (width, height) in (1_u32..60, 1_u32..60),
            (left, top) in (-50.0_f32..80.0, -50.0_f32..80.0), (across, down) in (0.1_f32..200.0, 0.1_f32..200.0),
        ) {
            let picture = RgbImage::from_pixel(width, height, Rgb([7; 3]));
            for crop in crops(&picture, [left, top, across, down]) {
                prop_assert_eq!(crop, vec![7.0; CROP_NUMBERS]);
            }
        }
    }
}

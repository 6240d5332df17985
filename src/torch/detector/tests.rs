use std::{
    fs,
    path::{Path, PathBuf},
};

use image::{
    RgbImage,
    imageops::{self, FilterType},
};

use super::*;
use crate::{network::synthetic, runtime};
use weights::RawTensor;

/// The published weights of the three networks as one state dict.
fn published(data: &Path) -> StateDict {
    let mut all = StateDict::default();
    for net in ["pnet", "rnet", "onet"] {
        let weights = StateDict::read(&data.join(format!("face/weights/{net}.pt")), None).expect("a checkpoint");
        for (key, tensor) in weights.iter() {
            all.insert(format!("{net}.{key}"), tensor.clone()).expect("prefixes differ");
        }
    }
    all
}

fn detector(data: &Path, face_px_min: f32) -> Mtcnn {
    let options = DetectorOptions { face_px_min, ..DetectorOptions::default() };
    Mtcnn::build(published(data), options).expect("the published layout")
}

/// All pictures of the LFW subset, sorted by name.
fn lfw(data: &Path) -> Vec<PathBuf> {
    let sorted = |folder: &Path| {
        let entries = fs::read_dir(folder).expect("a folder");
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        paths
    };
    sorted(&data.join("face/lfw_devtest/images")).iter().flat_map(|person| sorted(person)).collect()
}

fn read(path: &Path) -> RgbImage {
    image::open(path).expect("a picture").into_rgb8()
}

fn pixels(picture: &RgbImage) -> Pixels<'_> {
    Pixels { width: picture.width(), height: picture.height(), rgb: picture.as_raw() }
}

/// Mean distance of the landmarks from their mean positions in deep-funneled LFW pictures, in pixels.
fn off_template(detection: &Detection) -> f32 {
    const TEMPLATE: [[f32; 2]; 5] = [[103.0, 113.0], [147.0, 113.0], [125.0, 138.0], [107.0, 162.0], [143.0, 162.0]];
    let pairs = detection.landmarks.iter().zip(TEMPLATE);
    pairs.map(|(found, expected)| (found[0] - expected[0]).hypot(found[1] - expected[1])).sum::<f32>() / 5.0
}

fn most_central<'a>(faces: &'a [Detection], picture: &RgbImage) -> Option<&'a Detection> {
    let off = |face: &Detection| {
        let [left, top, width, height] = face.bounds;
        let [x, y] = [left + width / 2.0, top + height / 2.0];
        (x - picture.width() as f32 / 2.0).hypot(y - picture.height() as f32 / 2.0)
    };
    faces.iter().min_by(|a, b| off(a).total_cmp(&off(b)))
}

/// All 1549 pictures have a detected face; the mean landmark error is 4.5 pixels in the median, 9.5 at the 95th and
/// 17.5 at the 99th percentile: funneling does not rotate heads out of plane.
#[test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
fn every_lfw_picture_has_a_face_where_funneling_put_it_on_real_data() {
    let data = testing::data();
    let _inference = runtime::prepare_thread();
    let detector = detector(&data, 50.0);
    let paths: Vec<PathBuf> = lfw(&data).into_iter().step_by(4).collect();
    let mut off = Vec::new();
    for paths in paths.chunks(8) {
        let pictures: Vec<RgbImage> = paths.iter().map(|path| read(path)).collect();
        let found = detector.detect(&pictures.iter().map(pixels).collect::<Vec<_>>()).expect("runs");
        for (path, (faces, picture)) in paths.iter().zip(found.iter().zip(&pictures)) {
            let face = most_central(faces, picture);
            off.push(off_template(face.unwrap_or_else(|| panic!("no face in {}", path.display()))));
        }
    }
    off.sort_by(f32::total_cmp);
    assert_eq!(off.len(), 388);
    let at = |part: usize| off[off.len() * part / 100];
    assert!(at(50) < 5.5 && at(95) < 11.0 && at(98) < 22.0, "{} {} {}", at(50), at(95), at(98));
}

#[test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
fn faces_come_back_as_they_did_on_real_data() {
    let data = testing::data();
    let _inference = runtime::prepare_thread();
    let picture = read(&lfw(&data)[0]);
    let found = detector(&data, 50.0).detect(&[pixels(&picture)]).expect("runs").remove(0);
    let [face] = found[..] else { panic!("{found:?}") };
    let near = |found: &[f32], expected: &[f32]| {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.1), "{found:?} {expected:?}");
    };
    near(&face.bounds, &[65.04, 60.06, 100.18, 138.66]);
    let landmarks = [100.04, 113.71, 146.15, 113.62, 128.53, 133.79, 95.89, 156.46, 150.41, 156.80];
    near(face.landmarks.as_flattened(), &landmarks);
    assert!(face.score > 0.99, "{}", face.score);
}

/// Faces in a grid, each picture downscaled to a cell.
fn mosaic(paths: &[PathBuf], [columns, rows]: [u32; 2], cell: u32) -> RgbImage {
    let mut mosaic = RgbImage::new(columns * cell, rows * cell);
    for (at, path) in (0..columns * rows).zip(paths.iter().step_by(7).cycle()) {
        let small = imageops::resize(&read(path), cell, cell, FilterType::Triangle);
        imageops::replace(&mut mosaic, &small, i64::from(at % columns * cell), i64::from(at / columns * cell));
    }
    mosaic
}

#[test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
fn two_hundred_faces_are_found_in_one_photo_on_real_data() {
    let data = testing::data();
    let _inference = runtime::prepare_thread();
    let photo = mosaic(&lfw(&data), [20, 10], 64);
    let detector = detector(&data, 20.0);
    let found = detector.detect(&[pixels(&photo)]).expect("runs").remove(0);
    let mut cells = [false; 200];
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the mosaic")]
    for face in &found {
        let [x, y] = face.landmarks[2].map(|place| (place / 64.0) as usize);
        cells[y * 20 + x] = true;
    }
    let seen = cells.iter().filter(|seen| **seen).count();
    assert!(seen >= 196, "{seen} of {} faces", found.len());
    let few = Mtcnn { options: DetectorOptions { faces_max: 10, ..detector.options }, ..detector };
    assert_eq!(few.detect(&[pixels(&photo)]).expect("runs")[0], found[..10]);
}

#[test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
fn a_picture_twice_as_large_shows_the_same_face_twice_as_large_on_real_data() {
    let data = testing::data();
    let _inference = runtime::prepare_thread();
    let detector = detector(&data, 50.0);
    for path in lfw(&data).iter().step_by(300) {
        let small = read(path);
        let large = imageops::resize(&small, 500, 500, FilterType::Triangle);
        let found = detector.detect(&[pixels(&small), pixels(&large)]).expect("runs");
        let (small, large) = (&found[0][0], &found[1][0]);
        for (small, large) in small.landmarks.as_flattened().iter().zip(large.landmarks.as_flattened()) {
            assert!((2.0 * small - large).abs() < 12.0, "{}: {small} {large}", path.display());
        }
    }
}

/// A face that is half outside of the border is still found; its box exceeds the picture.
#[test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
fn a_face_that_the_border_cuts_has_a_box_beyond_it_on_real_data() {
    let data = testing::data();
    let _inference = runtime::prepare_thread();
    let whole = read(&lfw(&data)[0]);
    let cut = imageops::crop_imm(&whole, 85, 40, 165, 170).to_image();
    let found = detector(&data, 50.0).detect(&[pixels(&cut)]).expect("runs").remove(0);
    assert!(found.iter().any(|face| face.bounds[0] < 0.0 && face.bounds[2] > 60.0), "{found:?}");
}

#[test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
fn pictures_of_many_sizes_answer_together_as_they_do_alone_on_real_data() {
    let data = testing::data();
    let _inference = runtime::prepare_thread();
    let detector = detector(&data, 40.0);
    let mut pictures: Vec<RgbImage> = lfw(&data).iter().step_by(200).map(|path| read(path)).collect();
    pictures[1] = imageops::crop_imm(&pictures[1], 20, 10, 180, 220).to_image();
    pictures[3] = RgbImage::new(1, 1);
    let together = detector.detect(&pictures.iter().map(pixels).collect::<Vec<_>>()).expect("runs");
    assert!(together[3].is_empty());
    for (picture, together) in pictures.iter().zip(&together) {
        let alone = detector.detect(&[pixels(picture)]).expect("runs").remove(0);
        assert_eq!(alone.len(), together.len());
        for (alone, together) in alone.iter().zip(together) {
            assert!((alone.score - together.score).abs() < 1e-3);
            let numbers = alone.landmarks.as_flattened().iter().zip(together.landmarks.as_flattened());
            assert!(numbers.into_iter().all(|(alone, together)| (alone - together).abs() < 1e-2));
        }
    }
}

#[test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
fn published_weights_have_the_layout_that_is_asked_for_on_real_data() {
    let data = testing::data();
    let shapes = |weights: StateDict| -> Vec<_> {
        weights.iter().map(|(key, tensor)| (key.to_owned(), tensor.shape().to_vec())).collect()
    };
    assert_eq!(shapes(published(&data)), shapes(synthetic::mtcnn()));
}

/// Networks that accept everything, on empty and full pictures: the search ends within its limits.
#[test]
fn candidates_stay_within_their_bounds() {
    let _inference = runtime::prepare_thread();
    let options = DetectorOptions {
        thresholds: [0.0; 3],
        face_px_min: 12.0,
        candidates_max: 50,
        faces_max: 20,
        ..DetectorOptions::default()
    };
    let detector = Mtcnn::build(synthetic::mtcnn(), options).expect("its own layout");
    let noise = RgbImage::from_fn(301, 203, |x, y| {
        let mixed = (x + 1).wrapping_mul(2_654_435_761).wrapping_mul(y + 1) >> 7;
        image::Rgb(mixed.to_le_bytes()[..3].try_into().expect("three bytes"))
    });
    let board = RgbImage::from_fn(203, 301, |x, y| image::Rgb([if (x / 5 + y / 5) % 2 == 0 { 0 } else { 255 }; 3]));
    let blank = RgbImage::from_pixel(64, 64, image::Rgb([255; 3]));
    let found = detector.detect(&[pixels(&noise), pixels(&board), pixels(&blank)]).expect("runs");
    for faces in found {
        assert!(faces.len() <= 20, "{}", faces.len());
        assert!(faces.windows(2).all(|pair| pair[0].score >= pair[1].score));
        let numbers = faces.iter().flat_map(|face| face.bounds.iter().chain(face.landmarks.as_flattened()));
        assert!(numbers.into_iter().all(|number| number.is_finite()));
    }
}

#[test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
fn noise_and_patterns_show_no_crowd_on_real_data() {
    let data = testing::data();
    let _inference = runtime::prepare_thread();
    let detector = detector(&data, 20.0);
    let noise = RgbImage::from_fn(640, 480, |x, y| {
        let mixed = (x + 1).wrapping_mul(2_654_435_761).wrapping_mul(y + 1) >> 7;
        image::Rgb(mixed.to_le_bytes()[..3].try_into().expect("three bytes"))
    });
    for side in [1, 3, 8, 40] {
        let board =
            RgbImage::from_fn(640, 480, |x, y| image::Rgb([if (x / side + y / side) % 2 == 0 { 0 } else { 255 }; 3]));
        assert!(detector.detect(&[pixels(&board)]).expect("runs")[0].len() < 5);
    }
    assert!(detector.detect(&[pixels(&noise)]).expect("runs")[0].len() < 5);
}

#[test]
fn pictures_that_can_show_no_face_have_none() {
    let _inference = runtime::prepare_thread();
    let options = DetectorOptions { thresholds: [0.0; 3], ..DetectorOptions::default() };
    let detector = Mtcnn::build(synthetic::mtcnn(), options).expect("its own layout");
    assert!(detector.detect(&[]).expect("runs").is_empty());
    for (width, height) in [(0, 0), (0, 9), (1, 1), (1, 5000), (5000, 1), (22, 22), (11, 2000)] {
        let picture = RgbImage::new(width, height);
        assert_eq!(detector.detect(&[pixels(&picture)]).expect("runs"), [vec![]], "{width} x {height}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let detector = Mtcnn::build(synthetic::mtcnn(), DetectorOptions::default()).expect("its own layout");
    let short = Pixels { width: 10, height: 10, rgb: &[0; 299] };
    let refused = detector.detect(&[short]);
    assert!(matches!(refused, Err(NetworkError::WrongInput { expected: 300, found: 299 })));
    let vast = Pixels { width: u32::MAX, height: u32::MAX, rgb: &[] };
    assert!(matches!(detector.detect(&[vast]), Err(NetworkError::WrongInput { .. })));

    let mut missing = synthetic::mtcnn();
    missing.remove("rnet.dense4.bias");
    let refused = Mtcnn::build(missing, DetectorOptions::default()).expect_err("something is missing");
    assert!(matches!(refused, NetworkError::MissingTensor(key) if key == "rnet.dense4.bias"));
    let mut surplus = synthetic::mtcnn();
    surplus.insert("anet.x".to_owned(), RawTensor::from_f32(vec![1], &[0.0]).expect("one")).expect("a new name");
    let refused = Mtcnn::build(surplus, DetectorOptions::default()).expect_err("something is left over");
    assert!(matches!(refused, NetworkError::SurplusTensors { count: 1, first } if first == "anet.x"));
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let fine = DetectorOptions::default();
    for wrong in [
        DetectorOptions { face_px_min: 11.0, ..fine },
        DetectorOptions { face_px_min: f32::NAN, ..fine },
        DetectorOptions { thresholds: [0.6, 1.1, 0.7], ..fine },
        DetectorOptions { pyramid_factor: 1.0, ..fine },
        DetectorOptions { candidates_max: 0, ..fine },
        DetectorOptions { faces_max: 0, ..fine },
    ] {
        let refused = Mtcnn::build(synthetic::mtcnn(), wrong).expect_err("no sense");
        assert!(matches!(refused, NetworkError::BadOptions(_)), "{wrong:?}");
    }
}

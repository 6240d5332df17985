//! What each stage of a photo's way costs: decode, find the face, align it, encode it, and judge whether it is alive; at
//! the size of a thumbnail, of a video frame and of a phone's photo. Needs the installed starter packages and a JPEG with
//! a face (`SEMBLANCE_BENCH_PHOTO`), which is enlarged to the larger sizes.
//!
//! `SEMBLANCE_BENCH_PHOTO=face.jpg SEMBLANCE_MODELS_DIR=data/models cargo bench --bench photo`

mod table;

use std::{hint::black_box, io::Cursor, path::PathBuf};

use domain::{Geometry, ImageBytes};
use encoder::{
    EncoderArchitecture, ModelKind, Package,
    prepare::{self, Photo, SampleLimits},
};
use image::{DynamicImage, codecs::jpeg::JpegEncoder, imageops::FilterType};
use table::{Random, Table, say, seconds};
use torch::{
    detector::{DetectorOptions, Mtcnn, Pixels},
    network::{Folding, Network},
    pad::Liveness,
    runtime,
};

/// The longer side of the pictures.
const SIDES: [u32; 3] = [250, 1600, 4000];
const QUALITY: u8 = 90;

#[expect(clippy::disallowed_methods, reason = "a benchmark has no configuration")]
fn main() {
    let _inference = runtime::prepare_thread();
    let folder = std::env::var_os("SEMBLANCE_MODELS_DIR").map_or_else(|| PathBuf::from("data/models"), PathBuf::from);
    let Some(picture) = std::env::var_os("SEMBLANCE_BENCH_PHOTO").and_then(|path| image::open(path).ok()) else {
        say("skipped: SEMBLANCE_BENCH_PHOTO names no picture");
        return;
    };
    let load = |name: &str| Package::load(&folder.join(name));
    let (Ok(encoder), Ok(detector), Ok(liveness)) =
        (load("face-mobilefacenet"), load("face-mtcnn"), load("face-minifasnet"))
    else {
        say(format_args!("skipped: the starter packages are not in {}", folder.display()));
        return;
    };
    let stages = Stages::new(&encoder, &detector, &liveness);
    let mut table = Table::new(["photo", "stage", "ms", "of all", "of a copy of its pixels"]);
    for side in SIDES {
        stages.measure(&picture, side, &mut table);
    }
    say("a photo's way, one thread; a presentation attack is looked for only where a policy asks");
    say(table);
}

struct Stages {
    how: prepare::Preprocessing,
    network: Network,
    detector: Mtcnn,
    liveness: Liveness,
}

impl Stages {
    fn new(encoder: &Package, detector: &Package, liveness: &Package) -> Self {
        let ModelKind::Encoder(manifest) = &encoder.manifest.kind else { panic!("it is an encoder") };
        let EncoderArchitecture::BuiltIn(architecture) = manifest.architecture else { panic!("it is built in") };
        let tensors = |package: &Package| package.tensors().expect("it has tensors").clone();
        let options = DetectorOptions { face_px_min: 24.0, ..DetectorOptions::default() };
        Self {
            how: manifest.preprocessing.clone(),
            network: Network::build(architecture, tensors(encoder), Folding::Folded).expect("it is whole"),
            detector: Mtcnn::build(tensors(detector), options).expect("it is whole"),
            liveness: Liveness::build(tensors(liveness)).expect("it is whole"),
        }
    }

    fn measure(&self, picture: &DynamicImage, side: u32, table: &mut Table) {
        let mut enlarged = picture.resize(side, side, FilterType::Triangle).into_rgb8();
        // A sensor's noise: what was only enlarged is smoother than any photo, and decodes faster.
        let mut random = Random::new(side.into());
        for value in enlarged.iter_mut() {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a byte")]
            let noisy = (f32::from(*value) + 3.0 * random.normal()).clamp(0.0, 255.0) as u8;
            *value = noisy;
        }
        let mut file = Cursor::new(Vec::new());
        enlarged.write_with_encoder(JpegEncoder::new_with_quality(&mut file, QUALITY)).expect("in memory");
        let bytes = ImageBytes(file.into_inner().into());
        let (limits, geometry) = (SampleLimits::default(), Geometry::default());
        let decode = || Photo::decode(&bytes, &geometry, &limits).expect("a photo");
        let photo = decode();
        let looked_at = photo.detector_picture();
        let pixels = Pixels { width: looked_at.width(), height: looked_at.height(), rgb: looked_at.as_raw() };
        let detect = || self.detector.detect(&[pixels]).expect("it runs").remove(0);
        let Some(found) = detect().into_iter().max_by(|a, b| a.bounds[2].total_cmp(&b.bounds[2])) else {
            say(format_args!("{side}: no face is found"));
            return;
        };
        let face = photo.face(&found);
        let align = || prepare::prepare_face(&self.how, &photo, &face).expect("a face").prepared;
        let prepared = align();
        let encode = || self.network.forward(&prepared.views[0], 1).expect("it runs");
        let judge = || {
            let [near, wide] = prepare::liveness::crops(photo.picture(), found_bounds(&face));
            self.liveness.forward(&[[&near, &wide]]).expect("it runs")
        };
        let copy = seconds(16, || black_box(photo.picture().as_raw().clone()).len());
        let stages = [
            ("decode, smaller copy", seconds(8, decode)),
            ("find the face", seconds(8, detect)),
            ("align, measure", seconds(32, align)),
            ("encode", seconds(32, encode)),
            ("judge alive", seconds(32, judge)),
        ];
        let all: f64 = stages.iter().map(|(_, took)| took).sum();
        for (stage, took) in stages {
            table.row([
                format!("{} x {}", enlarged.width(), enlarged.height()),
                stage.to_owned(),
                format!("{:.2}", took * 1e3),
                format!("{:.2}", took / all),
                format!("{:.0}", took / copy),
            ]);
        }
    }
}

fn found_bounds(face: &domain::Face) -> [f32; 4] {
    let bounds = face.bounds;
    [bounds.left, bounds.top, bounds.width, bounds.height]
}

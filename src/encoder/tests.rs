use std::{collections::BTreeMap, fs, io::Cursor, num::NonZeroU16, path::Path, time::Instant};

use bytes::Bytes;
use half::f16;
use image::{ImageFormat, RgbImage};

use super::{
    package::Weights,
    prepare::{NetworkInput, Preprocessing},
    queue::{EntryFailure, Schedule},
    *,
};
use domain::{Alignment, Device, Embedding, Geometry, ImageBytes, MemoryBudget, Picture, Sample, SampleContent};
use fixtures::{self as script, ProgramBehaviour};
use torch::network::synthetic::weights as synthetic_weights;

/// A person package with synthetic weights.
pub(super) fn synthetic_package(id: &str) -> Package {
    let entry = Catalogue::built_in().named("person-osnet-x0-25").expect("a starter").clone();
    let manifest = Manifest { id: SpaceName::new(id).expect("an id"), ..entry.manifest };
    let EncoderArchitecture::BuiltIn(architecture) = manifest.encoder().expect("an encoder").architecture else {
        panic!("the starter is built in")
    };
    let weights = Weights::Tensors(synthetic_weights(architecture));
    let digest = package::digest::of_model(&weights, &manifest.kind);
    Package { manifest, digest, weights }
}

/// A person package with a small program.
pub(super) fn script_package(id: &str, behaviour: ProgramBehaviour) -> Package {
    let mut manifest = Manifest { id: SpaceName::new(id).expect("an id"), ..synthetic_package(id).manifest };
    let ModelKind::Encoder(encoder) = &mut manifest.kind else { panic!("the starter is an encoder") };
    let (parts, keypoint_channels) = match behaviour {
        ProgramBehaviour::Parts => (Some(script::PARTS), 0),
        ProgramBehaviour::Prompted(channels) => (None, channels),
        _ => (None, 0),
    };
    let [channels, height, width] = script::INPUT;
    let input_shape = [channels + keypoint_channels, height, width];
    encoder.architecture = EncoderArchitecture::TorchScript(ScriptManifest { input_shape, parts, keypoint_channels });
    encoder.dimension = u32::try_from(script::DIMENSION).expect("few");
    let Preprocessing::Image(image) = &mut encoder.preprocessing else { panic!("persons are pictures") };
    (image.height, image.width) = (u32::try_from(height).expect("few"), u32::try_from(width).expect("few"));
    let bytes = script::program(behaviour);
    manifest.weights = vec![WeightsFile::plain("program.pt", FileHash::of(&bytes))];
    Package::assemble(manifest.checked().expect("sound"), &[bytes]).expect("a program")
}

pub(super) fn write_package(package: &Package, folder: &Path) {
    fs::create_dir_all(folder).expect("a folder");
    package.write(folder).expect("a package");
}

/// A models folder with one synthetic person package, and options that serve it.
pub(super) fn rig(packages: &[&str]) -> (tempfile::TempDir, EncoderOptions) {
    let models = tempfile::tempdir().expect("a folder");
    for id in packages {
        write_package(&synthetic_package(id), &models.path().join(id));
    }
    let options = EncoderOptions {
        models_dir: models.path().to_owned(),
        batch_max: 8,
        linger: Duration::ZERO,
        queue_max: 64,
        workers_per_model: 1,
        placements: Placements::default(),
        preparation_threads: 2,
        admission: AdmissionLimits { in_work_max: 64, wait_max: Duration::from_mins(5) },
        limits: SampleLimits::default(),
        memory: MemoryBudget::new(64 << 20),
    };
    (models, options)
}

fn picture(shade: u8) -> Sample {
    let mut png = Cursor::new(Vec::new());
    RgbImage::from_fn(128, 256, |x, y| image::Rgb([shade, u8::try_from(x).unwrap(), u8::try_from(y).unwrap()]))
        .write_to(&mut png, ImageFormat::Png)
        .expect("memory");
    person(Bytes::from(png.into_inner()))
}

fn person(bytes: Bytes) -> Sample {
    let content = SampleContent::Image(Picture { bytes: ImageBytes(bytes), geometry: Geometry::default() });
    Sample { modality: Modality::Person, content }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_mins(5)
}

fn encode_parameters(urgency: Urgency, deadline: Instant) -> EncodeParameters {
    EncodeParameters { urgency, deadline, pad_score_min: None, share: None }
}

pub(super) fn now() -> EncodeParameters {
    encode_parameters(Urgency::Interactive, soon())
}

fn cosine(embedding: &Embedding, golden: &[f32]) -> f32 {
    let golden = Embedding::new(embedding.space(), golden).expect("a golden vector");
    embedding.similarity(&golden).expect("one space").0
}

#[tokio::test]
async fn without_packages_there_are_no_encoders_and_no_error() {
    let (models, options) = rig(&[]);
    let encoders = Encoders::start(options.clone()).await.expect("an empty folder");
    assert_eq!(encoders.all().count(), 0);
    assert!(encoders.for_modality(Modality::Face).is_none());
    encoders.stop().await;
    let absent = EncoderOptions { models_dir: models.path().join("absent"), ..options };
    assert_eq!(Encoders::start(absent).await.expect("no folder").all().count(), 0);
}

#[tokio::test]
async fn packages_are_found_by_modality_name_and_digest() {
    let (models, options) = rig(&["second", "first"]);
    fs::create_dir(models.path().join(".incoming-third")).expect("an installation under way");
    fs::write(models.path().join("README"), "kept by the operator").expect("a file");
    let encoders = Encoders::start(options).await.expect("sound packages");
    let names: Vec<&str> = encoders.all().map(|encoder| encoder.name().as_str()).collect();
    assert_eq!(names, ["first", "second"]);
    let first = encoders.for_modality(Modality::Person).expect("one of two");
    assert_eq!(first.name().as_str(), "first");
    assert_eq!(first.space().dimension, 512);
    assert!(first.calibration().is_some());
    assert_eq!(first.card().architecture, "osnet-x0.25");
    assert!(encoders.by_digest(first.space().digest).is_some());
    assert!(encoders.by_digest(ModelDigest([0; 32])).is_none());
    assert!(encoders.by_name(&SpaceName::new("third").expect("an id")).is_none());
    assert!(encoders.for_modality(Modality::Gait).is_none());
}

#[tokio::test]
async fn a_batch_gives_the_same_embeddings_as_single_samples() {
    let (_models, options) = rig(&["model"]);
    let encoders = Encoders::start(EncoderOptions { workers_per_model: 2, ..options }).await.expect("a package");
    let encoder = encoders.for_modality(Modality::Person).expect("loaded");
    let shades = [0, 40, 80, 120, 160, 200, 240];
    let together = shades.map(|shade| encoder.encode(picture(shade), encode_parameters(Urgency::Bulk, soon())));
    let together = futures::future::try_join_all(together).await.expect("encoded");
    for (shade, encoding) in shades.into_iter().zip(together) {
        let alone = encoder.encode(picture(shade), now()).await.expect("encoded");
        assert!(alone.embedding.similarity(&encoding.embedding).expect("one space").0 > 0.9999);
    }
    assert!(encoder.is_healthy());
    encoders.stop().await;
    let refused = encoder.encode(picture(0), now()).await;
    assert!(matches!(refused, Err(EncoderError::ShuttingDown)));
}

#[tokio::test]
async fn several_threads_give_the_same_embeddings_as_one() {
    let (_models, options) = rig(&["model"]);
    let name = SpaceName::new("model").expect("a name");
    let mut embeddings = Vec::new();
    for threads in [1, 2, 3] {
        let threads = BTreeMap::from([(name.clone(), NonZeroU16::new(threads).expect("at least one"))]);
        let placements = Placements { threads, ..Placements::default() };
        let encoders = Encoders::start(EncoderOptions { placements, ..options.clone() }).await.expect("a package");
        let encoder = encoders.by_name(&name).expect("loaded");
        embeddings.push(encoder.encode(picture(7), now()).await.expect("encoded").embedding);
        encoders.stop().await;
    }
    assert!(embeddings.iter().all(|other| embeddings[0].similarity(other).expect("one space").0 > 0.9999));
}

#[tokio::test]
async fn an_impossible_placement_is_an_error_at_start() {
    for (model, device, sentence) in
        [("slip", Device::Cpu, "not installed; installed are model"), ("model", Device::Cuda(u16::MAX), "cuda:65535")]
    {
        let (_models, options) = rig(&["model"]);
        let devices = BTreeMap::from([(SpaceName::new(model).expect("a name"), device)]);
        let placements = Placements { devices, ..Placements::default() };
        let error = Encoders::start(EncoderOptions { placements, ..options }).await.expect_err("misplaced").to_string();
        assert!(error.contains(model) && error.contains(sentence), "{error}");
    }
}

#[tokio::test]
async fn bad_samples_fail_alone() {
    let (_models, options) = rig(&["model"]);
    let encoders = Encoders::start(EncoderOptions { queue_max: 1, ..options }).await.expect("a package");
    let encoder = encoders.for_modality(Modality::Person).expect("loaded");
    let encode = |sample| encoder.encode(sample, now());
    for bytes in [&b""[..], b"GIF89a", b"\xff\xd8\xff\xe0 no jpeg"] {
        let outcome = encode(person(Bytes::from_static(bytes))).await;
        assert!(matches!(outcome, Err(EncoderError::BadSample(SampleError::Unfit(_)))), "{outcome:?}");
    }
    let wrong = Sample { modality: Modality::Face, ..picture(1) };
    assert!(matches!(encode(wrong).await, Err(EncoderError::BadSample(SampleError::OtherModality { .. }))));
    // Each freed its slot, or the only slot would be taken.
    assert!(encode(picture(1)).await.is_ok());
}

#[tokio::test]
async fn a_picture_waits_for_memory_until_its_deadline() {
    let (_models, options) = rig(&["model"]);
    let memory = options.memory.clone();
    let encoders = Encoders::start(options).await.expect("a package");
    let encoder = encoders.for_modality(Modality::Person).expect("loaded");
    let mut others = memory.share();
    others.grow(60 << 20).expect("free");
    let brief = encode_parameters(Urgency::Interactive, Instant::now() + Duration::from_millis(30));
    let late = encoder.encode(picture(1), brief).await;
    assert!(matches!(late, Err(EncoderError::DeadlinePassed)), "{late:?}");
    assert_eq!(memory.taken(), 60 << 20);
    let (encoded, ()) = tokio::join!(encoder.encode(picture(1), now()), async { drop(others) });
    assert!(encoded.is_ok(), "{encoded:?}");
    assert_eq!(memory.taken(), 0);
}

#[tokio::test]
async fn a_picture_that_takes_more_than_the_memory_is_refused_by_its_header() {
    let (_models, options) = rig(&["model"]);
    let encoders = Encoders::start(options).await.expect("a package");
    let encoder = encoders.for_modality(Modality::Person).expect("loaded");
    // The header of a lossy WebP of 5000 x 5000 pixels, and nothing of its picture.
    let mut header = b"RIFF\x1e\0\0\0WEBPVP8 \x0a\0\0\0\x10\x02\0\x9d\x01\x2a".to_vec();
    header.extend([5000_u16.to_le_bytes(), 5000_u16.to_le_bytes()].concat());
    let refused = encoder.encode(person(Bytes::from(header)), now()).await.expect_err("275 MB of 60");
    assert!(refused.to_string().contains("bytes of memory while it is decoded"), "{refused}");
}

#[tokio::test]
async fn a_passed_deadline_and_a_full_queue_are_errors() {
    let (_models, options) = rig(&["model"]);
    let encoders = Encoders::start(EncoderOptions { queue_max: 1, ..options }).await.expect("a package");
    let encoder = encoders.for_modality(Modality::Person).expect("loaded");
    let late = encoder.encode(picture(1), encode_parameters(Urgency::Interactive, Instant::now())).await;
    assert!(matches!(late, Err(EncoderError::DeadlinePassed)), "{late:?}");
    let place = loop {
        // The late sample's slot is free when its preparation ends.
        match encoder.service.take_slot() {
            Ok(place) => break place,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let full = encoder.encode(picture(1), now()).await;
    assert!(matches!(full, Err(EncoderError::QueueFull { .. })), "{full:?}");
    drop(place);
    assert!(encoder.encode(picture(1), now()).await.is_ok());
}

#[tokio::test]
async fn stopping_waits_for_slots_and_dropping_it_does_not() {
    let (_models, options) = rig(&["model"]);
    let encoders = Encoders::start(options).await.expect("a package");
    let encoder = encoders.for_modality(Modality::Person).expect("loaded");
    let slot = encoder.service.take_slot().expect("free");
    {
        let mut stopping = std::pin::pin!(encoders.stop());
        assert!(futures::poll!(stopping.as_mut()).is_pending(), "a slot is still taken");
    }
    // Dropping the stop future abandoned the queue.
    let answered = slot
        .put(NetworkInput { views: Vec::new() }, Schedule { urgency: Urgency::Interactive, deadline: soon() })
        .await;
    assert_eq!(answered, Ok(Err(EntryFailure::Stopped)));
}

#[tokio::test]
async fn a_broken_package_is_named_at_start() {
    for (breakage, sentence) in [(("weights.safetensors", None), "sha256"), (("model.toml", Some("id = ")), "manifest")]
    {
        let (models, options) = rig(&["good", "ill"]);
        let (file, text) = breakage;
        let path = models.path().join("ill").join(file);
        let length = fs::metadata(&path).expect("a file").len();
        match text {
            Some(text) => fs::write(&path, text).expect("writable"),
            None => fs::File::options().write(true).open(&path).and_then(|f| f.set_len(length - 1)).expect("writable"),
        }
        let error = Encoders::start(options).await.expect_err("one of two is broken").to_string();
        assert!(error.contains("ill") && error.contains(sentence), "{error}");
    }
    let (models, options) = rig(&["good"]);
    fs::rename(models.path().join("good"), models.path().join("other")).expect("renamed");
    let error = Encoders::start(options).await.expect_err("the folder has another name").to_string();
    assert!(error.contains("good") && error.contains("other"), "{error}");
}

#[tokio::test]
async fn weights_of_another_architecture_are_an_error_at_start() {
    let (models, options) = rig(&[]);
    let wide = synthetic_weights("osnet-x0.5".parse().expect("built in"));
    let package = Package { weights: Weights::Tensors(wide), ..synthetic_package("model") };
    write_package(&package, &models.path().join("model"));
    let error = Encoders::start(options).await.expect_err("the weights do not fit");
    assert!(matches!(error, EncoderError::Unbuildable { .. }), "{error}");
}

#[tokio::test]
async fn a_program_is_served_like_any_other_model() {
    let (models, options) = rig(&[]);
    write_package(&script_package("whole", ProgramBehaviour::Sound), &models.path().join("whole"));
    write_package(&script_package("parts", ProgramBehaviour::Parts), &models.path().join("parts"));
    let encoders = Encoders::start(options).await.expect("sound packages");
    for encoder in encoders.all() {
        assert_eq!((encoder.card().architecture.as_str(), encoder.space().dimension), ("torchscript", 6));
        let encode = |shade| encoder.encode(picture(shade), now());
        let (dark, light, again) =
            Box::pin(futures::future::try_join3(encode(0), encode(255), encode(0))).await.expect("encoded");
        assert!(dark.embedding.similarity(&again.embedding).expect("one space").0 > 0.9999);
        assert!(dark.embedding.similarity(&light.embedding).expect("one space").0 < 0.9999);
    }
    encoders.stop().await;
}

#[tokio::test]
async fn a_batch_dependent_program_is_an_error_at_start() {
    for (behaviour, sentence) in [
        (ProgramBehaviour::OverTheBatch, "whole batch"),
        (ProgramBehaviour::NotANumber, "not finite"),
        (ProgramBehaviour::Dropout, "dropout"),
        (ProgramBehaviour::Constant, "does not depend"),
        (ProgramBehaviour::Narrow, "shape [3, 5]"),
    ] {
        let (models, options) = rig(&["good"]);
        write_package(&script_package("ill", behaviour), &models.path().join("ill"));
        let error = Encoders::start(options).await.expect_err("one of two is ill").to_string();
        assert!(error.contains("ill") && error.contains(sentence), "{error}");
    }
}

#[tokio::test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
async fn pulled_starters_give_the_golden_vectors_on_real_data() {
    let data = testing::data();
    let (models, options) = rig(&[]);
    let fetch = fetch::FetchOptions::new(models.path().to_owned(), Some(data.clone()));
    let catalogue = Catalogue::built_in();
    for name in catalogue.names() {
        fetch::pull(&catalogue, name.as_str(), &fetch, &fetch::NoProgress).expect("the mirror has it");
    }
    let encoders = Encoders::start(options).await.expect("sound packages");
    assert_eq!(encoders.all().count(), 5);
    assert_eq!(encoders.for_modality(Modality::Person).expect("two").name().as_str(), "person-osnet-x0-25");

    let face = encoders.for_modality(Modality::Face).expect("pulled");
    let funneled = Geometry { alignment: Some(Alignment::LfwFunneled), ..Geometry::default() };
    let images = data.join("face/lfw_devtest/images");
    let place = |name: &str| images.join(name.rsplit_once('_').expect("a name and a number").0).join(name);
    let compared = check_golden(face, &data, "lfw_mobilefacenet", funneled, place).await;
    assert_eq!(compared, 16);

    let person = encoders.for_modality(Modality::Person).expect("pulled");
    let crops = data.join("person/market1501_query_subset");
    let compared = check_golden(person, &data, "market_osnet", Geometry::default(), |name| crops.join(name)).await;
    assert_eq!(compared, 16);
    encoders.stop().await;
}

/// Encodes the first 16 available golden pictures at once; returns their number.
async fn check_golden(
    encoder: &Encoder,
    data: &Path,
    stem: &str,
    geometry: Geometry,
    place: impl Fn(&str) -> PathBuf,
) -> usize {
    let present = golden(data, stem).into_iter().filter(|(name, _)| place(name).is_file()).take(16);
    let work = present.map(|(name, golden)| {
        let bytes = ImageBytes(Bytes::from(fs::read(place(&name)).expect("present")));
        let modality = encoder.space().modality;
        let sample = Sample { modality, content: SampleContent::Image(Picture { bytes, geometry: geometry.clone() }) };
        async move {
            let encoding = encoder.encode(sample, now()).await.expect("encoded");
            assert!(cosine(&encoding.embedding, &golden) >= 0.999);
        }
    });
    futures::future::join_all(work).await.len()
}

/// Names and vectors of `embeddings/{stem}.npy`, which holds rows of f16.
fn golden(data: &Path, stem: &str) -> Vec<(String, Vec<f32>)> {
    let file = fs::read(data.join(format!("embeddings/{stem}.npy"))).expect("golden vectors");
    let names = fs::read_to_string(data.join(format!("embeddings/{stem}.names.txt"))).expect("their names");
    let header = usize::from(u16::from_le_bytes([file[8], file[9]]));
    let (numbers, _) = file[10 + header..].as_chunks::<2>();
    let numbers: Vec<f32> = numbers.iter().map(|number| f16::from_le_bytes(*number).to_f32()).collect();
    let dimension = numbers.len() / names.lines().count();
    names.lines().map(str::to_owned).zip(numbers.chunks(dimension).map(<[f32]>::to_vec)).collect()
}

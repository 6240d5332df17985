mod spans;

use std::io::Cursor;

use image::{DynamicImage, GrayImage, ImageFormat, Luma, RgbImage};

use super::*;
use crate::{
    EncoderArchitecture, Encoders, Manifest, ModelKind, Package,
    package::{Weights, digest},
    prepare::SilhouettePreprocessing,
    tests::{now, rig, script_package, synthetic_package},
};
use domain::{ImageBytes, Joint, Prompt, PromptRole};
use fixtures::ProgramBehaviour;
use torch::network::synthetic::weights as synthetic_weights;

/// Serves these packages alone.
fn serving(packages: Vec<Package>) -> Encoders {
    let (_models, options) = rig(&[]);
    Encoders::of(packages, &options).expect("sound packages")
}

fn png(picture: impl Into<DynamicImage>) -> ImageBytes {
    let mut file = Cursor::new(Vec::new());
    picture.into().write_to(&mut file, ImageFormat::Png).expect("in memory");
    ImageBytes(file.into_inner().into())
}

fn crop(shade: u8) -> Picture {
    let picture = RgbImage::from_fn(128, 256, |x, y| {
        image::Rgb([u32::from(shade), x, y].map(|part| u8::try_from(part % 256).expect("below 256")))
    });
    Picture { bytes: png(picture), geometry: Geometry::default() }
}

fn sample(modality: Modality, content: SampleContent) -> Sample {
    Sample { modality, content }
}

#[tokio::test]
async fn prompts_reach_a_model_that_takes_them_and_are_refused_by_others() {
    let joint = Joint { x: 60.0, y: 100.0, score: 0.9 };
    let prompted = |role| {
        let prompts = vec![Prompt { joints: vec![joint; 17], role }];
        let Picture { bytes, geometry } = crop(90);
        sample(Modality::Person, SampleContent::Image(Picture { bytes, geometry: Geometry { prompts, ..geometry } }))
    };
    let plain = || sample(Modality::Person, SampleContent::Image(crop(90)));
    for channels in [1, 17] {
        let encoders = serving(vec![script_package("model", ProgramBehaviour::Prompted(channels))]);
        let encoder = encoders.for_modality(Modality::Person).expect("loaded");
        let without = encoder.encode(plain(), now()).await.expect("encoded").embedding;
        let apart = |other: &Embedding| 1.0 - without.similarity(other).expect("one space").0;
        let with = encoder.encode(prompted(PromptRole::Subject), now()).await.expect("encoded").embedding;
        let against = encoder.encode(prompted(PromptRole::Other), now()).await.expect("encoded").embedding;
        assert!(apart(&with) > 1e-7 && apart(&against) > 1e-7, "{channels} channels");
        assert_ne!(with.values(), against.values());
    }
    let encoders = serving(vec![synthetic_package("model")]);
    let refused = encoders.all().next().expect("loaded").encode(prompted(PromptRole::Subject), now()).await;
    assert!(matches!(refused, Err(EncoderError::BadSample(SampleError::Unfit(prepare::PrepareError::NoPrompts)))));
}

#[tokio::test]
async fn embeddings_of_a_model_with_parts_are_compared_by_parts() {
    let encoders = serving(vec![script_package("model", ProgramBehaviour::Parts)]);
    let encoder = encoders.for_modality(Modality::Person).expect("loaded");
    assert!(encoder.space().parts > 1);
    let encoding = encoder.encode(sample(Modality::Person, SampleContent::Image(crop(90))), now()).await;
    let Encoding { embedding, report } = encoding.expect("encoded");
    assert!((embedding.similarity(&embedding).expect("one space").0 - 1.0).abs() < 1e-5);
    assert_eq!(report.quality.expect("measured").embedding_norm, None);
}

#[tokio::test]
async fn crops_of_one_body_are_pooled() {
    let encoders = serving(vec![synthetic_package("model")]);
    let encoder = encoders.for_modality(Modality::Person).expect("loaded");
    let track = SampleContent::Track(vec![crop(40), crop(50), crop(60), crop(45), crop(55)]);
    let Encoding { embedding, report } = encoder.encode(sample(Modality::Person, track), now()).await.expect("encoded");
    let alone = encoder.encode(sample(Modality::Person, SampleContent::Image(crop(50))), now()).await.expect("encoded");
    assert!(embedding.similarity(&alone.embedding).expect("one space").0 > 0.9);
    let track = report.track.expect("a track");
    assert_eq!((track.frames_used, track.frames_dropped), (5, 0));
    let empty = encoder.encode(sample(Modality::Person, SampleContent::Track(Vec::new())), now()).await;
    assert!(matches!(empty, Err(EncoderError::BadSample(SampleError::EmptyTrack))));
}

/// GaitBase with synthetic weights.
fn silhouette_package() -> Package {
    let architecture = "gaitbase".parse().expect("built in");
    let mut manifest = Manifest { modality: Modality::Gait, ..synthetic_package("walks").manifest };
    let ModelKind::Encoder(encoder) = &mut manifest.kind else { panic!("the starter is an encoder") };
    encoder.architecture = EncoderArchitecture::BuiltIn(architecture);
    encoder.dimension = u32::try_from(architecture.dimension()).expect("some thousands");
    encoder.preprocessing = Preprocessing::Silhouette(SilhouettePreprocessing { frames: 30, height: 64, width: 44 });
    encoder.calibration = None;
    let weights = Weights::Tensors(synthetic_weights(architecture));
    let manifest = manifest.checked().expect("sound");
    let digest = digest::of_model(&weights, &manifest.kind);
    Package { manifest, digest, weights }
}

#[tokio::test]
async fn silhouettes_are_a_walk() {
    let encoders = serving(vec![silhouette_package()]);
    let encoder = encoders.for_modality(Modality::Gait).expect("loaded");
    assert_eq!(encoder.space().parts, 16);
    let silhouette = |wide: u32| {
        let is_body = move |x: u32, y: u32| (40..40 + wide).contains(&x) && (20..110).contains(&y);
        let picture = GrayImage::from_fn(120, 130, |x, y| Luma([if is_body(x, y) { 255 } else { 0 }]));
        Picture { bytes: png(picture), geometry: Geometry::default() }
    };
    let walk = |frames: Vec<Picture>| sample(Modality::Gait, SampleContent::Track(frames));
    let frames = || (0..12).map(|frame| silhouette(20 + frame % 6 * 3)).collect::<Vec<_>>();
    let Encoding { embedding, report } = encoder.encode(walk(frames()), now()).await.expect("encoded");
    assert_eq!(embedding.values().len(), 4096);
    assert_eq!(report.quality.expect("measured").frames, Some(12));
    let again = encoder.encode(walk(frames()), now()).await.expect("encoded").embedding;
    assert!(embedding.similarity(&again).expect("one space").0 > 0.9999);
    let one_picture = sample(Modality::Gait, SampleContent::Image(silhouette(30)));
    assert!(matches!(
        encoder.encode(one_picture, now()).await,
        Err(EncoderError::BadSample(SampleError::Unfit(prepare::PrepareError::WrongKind { .. })))
    ));
}

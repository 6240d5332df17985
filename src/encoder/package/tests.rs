use super::*;
use crate::{
    Catalogue,
    prepare::Preprocessing,
    tests::{script_package, synthetic_package, write_package},
};
use fixtures::ProgramBehaviour;
use torch::network::synthetic::{minifasnet, mtcnn};
use weights::{Dtype, RawTensor};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn digest_of(package: &Package) -> ModelDigest {
    digest::of_model(&package.weights, &package.manifest.kind)
}

/// The encoder fields of the package, mutable.
fn encoder_of(package: &mut Package) -> &mut EncoderManifest {
    let ModelKind::Encoder(encoder) = &mut package.manifest.kind else { panic!("it is an encoder's package") };
    encoder
}

fn tensors_of(package: &mut Package) -> &mut StateDict {
    let Weights::Tensors(tensors) = &mut package.weights else { panic!("it has tensors") };
    tensors
}

/// Writes a package, lets `change` edit its manifest's text, and loads it again.
fn load_changed(change: impl FnOnce(String) -> String) -> Result<Package, PackageError> {
    let folder = folder();
    write_package(&synthetic_package("model"), folder.path());
    let path = folder.path().join(MANIFEST_FILE);
    let text = fs::read_to_string(&path).expect("written");
    let changed = change(text.clone());
    assert_ne!(text, changed, "the change changes something");
    fs::write(path, changed).expect("writable");
    Package::load(folder.path())
}

#[test]
fn a_package_survives_being_written() {
    let (package, folder) = (synthetic_package("model"), folder());
    write_package(&package, folder.path());
    let loaded = Package::load(folder.path()).expect("just written");
    assert_eq!(loaded.digest, package.digest);
    assert_eq!(loaded.weights, package.weights);
    let weights = loaded.manifest.weights.clone();
    assert_eq!(loaded.manifest, Manifest { weights, ..package.manifest });
    loaded.check_network().expect("the weights fit");
}

#[test]
fn changes_without_effect_on_embeddings_keep_the_digest() {
    let before = synthetic_package("model").digest;
    let words = load_changed(|text| {
        let calibration = text.find("[calibration]").expect("the person package has one");
        text[..calibration].replace("licence = \"", "licence = \"other ").replace("id = \"model\"", "id = \"renamed\"")
    });
    let words = words.expect("a sound package");
    assert_eq!(words.digest, before);
    assert!(words.manifest.encoder().expect("as before").calibration.is_none());
    let mut counted = synthetic_package("model");
    let count = RawTensor::new(Dtype::I64, Vec::new(), 7_u64.to_le_bytes().to_vec()).expect("one number");
    tensors_of(&mut counted).insert("conv1.bn.num_batches_tracked".to_owned(), count).expect("a new name");
    assert_eq!(digest_of(&counted), before);
}

#[test]
fn changes_with_effect_on_embeddings_change_the_digest() {
    let package = synthetic_package("model");
    let before = package.digest;
    let image = match &package.manifest.encoder().expect("a person package").preprocessing {
        Preprocessing::Image(image) => image.clone(),
        Preprocessing::Skeleton(_) | Preprocessing::Silhouette(_) => panic!("persons are pictures"),
    };
    let mut mirrored = image.clone();
    mirrored.mirror = true;
    let mut aligned = image.clone();
    aligned.template = Some([[30.0, 51.0], [65.0, 51.0], [48.0, 71.0], [33.0, 92.0], [62.0, 92.0]]);
    let mut brighter = image;
    brighter.mean[2] += 1e-6;
    let mut digests = vec![before];
    for image in [mirrored, aligned, brighter] {
        let mut changed = package.clone();
        encoder_of(&mut changed).preprocessing = Preprocessing::Image(image);
        digests.push(digest_of(&changed));
    }
    let mut wider = package.clone();
    encoder_of(&mut wider).architecture = EncoderArchitecture::BuiltIn("osnet-x0.5".parse().expect("built in"));
    digests.push(digest_of(&wider));
    let name = "conv1.conv.weight";
    let tensor = package.tensors().expect("tensors").get(name).expect("the first layer");
    let mut bytes = tensor.bytes().to_vec();
    bytes[0] ^= 1;
    let flipped = RawTensor::new(tensor.dtype(), tensor.shape().to_vec(), bytes).expect("as long as before");
    let flat = RawTensor::new(tensor.dtype(), vec![tensor.elements()], tensor.bytes().to_vec()).expect("as long");
    for (new_name, tensor) in [(name, flipped), (name, flat), ("other", tensor.clone())] {
        let mut changed = package.clone();
        tensors_of(&mut changed).remove(name);
        tensors_of(&mut changed).insert(new_name.to_owned(), tensor).expect("a free name");
        digests.push(digest_of(&changed));
    }
    let count = digests.len();
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), count);
}

#[test]
fn the_digest_is_the_same_in_every_version_of_the_program() {
    let mut weights = StateDict::default();
    let tensor = RawTensor::from_f32(vec![2, 1], &[0.5, -1.25]).expect("two numbers");
    weights.insert("conv.weight".to_owned(), tensor).expect("a new name");
    let package = Package { weights: Weights::Tensors(weights), ..synthetic_package("model") };
    assert_eq!(digest_of(&package).to_string(), PINNED);
}

const PINNED: &str = "4f60c8511e3d8c47ee97b74209be850f18c16873ff2242005e6fc41106427730";

#[test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
fn one_model_has_one_digest_in_every_form_of_its_file_on_real_data() {
    let data = testing::data();
    let weights = [
        ("face-mobilefacenet", "face/weights/mobilefacenet_xiaoccer_068.ckpt"),
        ("person-osnet-x0-25", "person/weights/osnet_x0_25_market1501.pth"),
        ("gait-graph", "gait/weights/gaitgraph_resgcn_n39_r8_ep100.pth"),
    ];
    let mut digests = Vec::new();
    for (name, file) in weights {
        let entry = Catalogue::built_in().named(name).expect("a starter").clone();
        let published = fs::read(data.join(file)).expect("part of the data");
        assert_eq!(published.len() as u64, entry.origin.bytes());
        let package = Package::assemble(entry.manifest, &[published]).expect("the published file");
        let folder = folder();
        write_package(&package, folder.path());
        let converted = Package::load(folder.path()).expect("just written");
        assert_eq!(converted.manifest.weights[0].file, WEIGHTS_FILE);
        assert_eq!(converted.digest, package.digest);
        converted.check_network().expect("the weights fit");
        digests.push(package.digest.to_string());
    }
    assert_eq!(digests, PINNED_STARTERS);
}

/// Templates are bound to these digests: a change invalidates all enrolled templates.
const PINNED_STARTERS: [&str; 3] = [
    "921a147faca041aaf32b202a0ba6b38123b6961bd2cd222578a17096c29097d8",
    "e0f6ec6de24b9ef04cbb5e5b981ab949b179577a3ad23d300bb6f3225fe261d7",
    "615159f91967da901b60726fe401595eb3af729a9b76873466fe563692ef7036",
];

#[test]
fn prefixes_are_removed_before_the_digest() {
    let package = synthetic_package("model");
    let mut parallel = StateDict::default();
    for (name, tensor) in package.tensors().expect("tensors").iter() {
        parallel.insert(format!("module.{name}"), tensor.clone()).expect("a new name");
    }
    let head = RawTensor::from_f32(vec![1], &[1.0]).expect("one number");
    parallel.insert("module.classifier.weight".to_owned(), head).expect("a new name");
    let folder = folder();
    let path = folder.path().join("parallel.safetensors");
    parallel.write_safetensors(&path).expect("writable");
    let bytes = fs::read(&path).expect("written");
    let weights = WeightsFile {
        strip_prefix: "module.".to_owned(),
        ignored_prefixes: vec!["classifier.".to_owned()],
        ..WeightsFile::plain("parallel.safetensors", FileHash::of(&bytes))
    };
    let manifest = Manifest { weights: vec![weights], ..package.manifest };
    assert_eq!(Package::assemble(manifest, &[bytes]).expect("a sound package").digest, package.digest);
}

/// The tensors selected by `keep` as a safetensors file and its manifest entry.
fn file_of(name: &str, weights: &StateDict, keep: impl Fn(&str) -> bool) -> (WeightsFile, Vec<u8>) {
    let mut part = StateDict::default();
    for (key, tensor) in weights.iter().filter(|(key, _)| keep(key)) {
        part.insert(key.to_owned(), tensor.clone()).expect("a new name");
    }
    let place = folder();
    let path = place.path().join(name);
    part.write_safetensors(&path).expect("writable");
    let bytes = fs::read(&path).expect("written");
    (WeightsFile::plain(name, FileHash::of(&bytes)), bytes)
}

#[test]
fn weights_in_several_files_are_one_model() {
    let package = synthetic_package("model");
    let is_head = |key: &str| key.starts_with("fc.");
    let (head, head_bytes) = file_of("head.safetensors", package.tensors().expect("tensors"), is_head);
    let (body, body_bytes) = file_of("body.safetensors", package.tensors().expect("tensors"), |key| !is_head(key));
    let manifest = Manifest { weights: vec![head.clone(), body], ..package.manifest.clone() };
    let files = [head_bytes.clone(), body_bytes.clone()];
    let joined = Package::assemble(manifest.clone(), &files).expect("both files");
    assert_eq!(joined.digest, package.digest);

    let (from, to) = (folder(), folder());
    fs::write(from.path().join("head.safetensors"), &head_bytes).expect("writable");
    fs::write(from.path().join(MANIFEST_FILE), toml::to_string(&manifest).expect("TOML")).expect("writable");
    assert!(matches!(Package::load(from.path()), Err(PackageError::Unreadable { .. })), "one file is missing");
    fs::write(from.path().join("body.safetensors"), &body_bytes).expect("writable");
    let loaded = Package::load(from.path()).expect("both files");
    write_package(&loaded, to.path());
    let written = Package::load(to.path()).expect("just written");
    assert_eq!((written.digest, written.manifest.weights.len()), (package.digest, 1));

    let twice = Manifest { weights: vec![head.clone(), head], ..package.manifest };
    assert!(matches!(twice.clone().checked(), Err(PackageError::SameFile(_))));
    let same = Package::assemble(twice, &[head_bytes.clone(), head_bytes]);
    assert!(matches!(same, Err(PackageError::Weights(WeightsError::Duplicate(_)))));
}

#[test]
fn a_package_of_the_old_form_with_one_file_loads() {
    let loaded = load_changed(|text| text.replacen("[[weights]]", "[weights]", 1)).expect("an installed package");
    assert_eq!(loaded.digest, synthetic_package("model").digest);
    let surprise = load_changed(|text| text.replacen("[[weights]]", "[weights]\nsurprise = 1", 1));
    assert!(surprise.expect_err("an unknown key").to_string().contains("surprise"));
}

#[test]
fn invalid_manifests_are_refused_with_the_reason() {
    let refused = |from: &str, to: &str| {
        let outcome = load_changed(|text| text.replacen(from, to, 1));
        outcome.expect_err("it makes no sense")
    };
    assert!(matches!(refused("dimension = 512", "dimension = 128"), PackageError::WrongDimension { .. }));
    assert!(matches!(refused("width = 128", "width = 64"), PackageError::WrongInput { .. }));
    assert!(matches!(refused("id = \"model\"", "id = \".model\""), PackageError::HiddenId(_)));
    assert!(matches!(refused("version = \"1\"", "version = \" \""), PackageError::Blank("version")));
    assert!(matches!(refused("0.229", "0.0"), PackageError::Preprocessing(_)));
    assert!(matches!(refused("genuine = [", "genuine = [[0.9, 2.0], "), PackageError::Calibration(_)));
    assert!(matches!(
        refused("sha256 = \"", "sha256 = \"0000000000000000000000000000000000000000000000000000000000000000\" # \""),
        PackageError::WrongHash { .. }
    ));
    for unreadable in ["osnet-x9", "mobilefacenet"] {
        assert!(matches!(refused("osnet-x0.25", unreadable), PackageError::Manifest(_)));
    }
    for (from, to, named) in [
        ("metric", "surprise = 1\nmetric", "surprise"),
        ("sha256", "surprise = 1\nsha256", "surprise"),
        ("metric = \"cosine\"", "", "metric"),
        ("dimension = 512", "", "dimension"),
        ("[preprocessing]", "[detection]\nface_px_min = 20\n[preprocessing]", "detection"),
        ("task = \"encoder\"", "task = \"quality\"", "quality"),
        ("task = \"encoder\"", "task = \"pad\"", "dimension"),
        ("[[weights]]", "[[other]]", "other"),
    ] {
        let error = refused(from, to);
        assert!(matches!(error, PackageError::Manifest(_)) && error.to_string().contains(named), "{to}: {error}");
    }
    for file in ["../weights.safetensors", "/etc/passwd", "a/b", "..", "", "a\\\\b"] {
        let error = refused("file = \"weights.safetensors\"", &format!("file = \"{file}\""));
        assert!(matches!(error, PackageError::BadFileName(_)), "{file}: {error}");
    }
}

/// A package with one tensor per network.
fn small_package(name: &str) -> Package {
    let mut manifest = Catalogue::built_in().named(name).expect("in the catalogue").manifest.clone();
    if let ModelKind::Detector(detector) = &mut manifest.kind {
        detector.detection = DetectionSettings::default();
    }
    let mut weights = StateDict::default();
    for (number, WeightsFile { add_prefix, .. }) in manifest.weights.iter().enumerate() {
        let tensor = RawTensor::from_f32(vec![1], &[number as f32]).expect("one number");
        weights.insert(format!("{add_prefix}conv1.weight"), tensor).expect("a new name");
    }
    let weights = Weights::Tensors(weights);
    let digest = digest::of_model(&weights, &manifest.kind);
    Package { manifest, digest, weights }
}

#[test]
fn detectors_and_pad_models_are_packages_too() {
    for (name, task, architecture) in
        [("face-mtcnn", Task::Detector, "mtcnn"), ("face-minifasnet", Task::Pad, "minifasnet")]
    {
        let mut package = small_package(name);
        *tensors_of(&mut package) = if task == Task::Pad { minifasnet() } else { mtcnn() };
        package.digest = digest_of(&package);
        let folder = folder();
        write_package(&package, folder.path());
        let loaded = Package::load(folder.path()).expect("just written");
        assert_eq!(loaded.digest, package.digest);
        assert_eq!(loaded.manifest.kind, package.manifest.kind);
        assert_eq!((loaded.manifest.kind.task(), &*loaded.manifest.kind.architecture()), (task, architecture));
        loaded.check_network().expect("each network has its tensors");
        for prefix in package.manifest.weights.iter().map(|file| &*file.add_prefix) {
            let mut without = package.clone();
            let tensors = tensors_of(&mut without);
            *tensors = tensors.clone().without(&[prefix]);
            let error = without.check_network().expect_err("a network is missing");
            assert!(matches!(error, PackageError::NoTensors(named) if named == prefix), "{error}");
        }
        let mut stray = package.clone();
        let tensor = RawTensor::from_f32(vec![1], &[0.0]).expect("one number");
        tensors_of(&mut stray).insert("conv1.weight".to_owned(), tensor).expect("a new name");
        assert!(matches!(stray.check_network(), Err(PackageError::StrayTensor(_))));
    }
}

#[test]
fn a_detectors_options_are_checked_and_change_its_digest() {
    let package = small_package("face-mtcnn");
    let with = |options: &str| {
        let folder = folder();
        write_package(&package, folder.path());
        let path = folder.path().join(MANIFEST_FILE);
        let text = fs::read_to_string(&path).expect("written");
        let detection = text.find("[detection]").expect("options are written");
        fs::write(path, format!("{}{options}", &text[..detection])).expect("writable");
        Package::load(folder.path())
    };
    for published in ["", "[detection]\n", "[detection]\nface_px_min = 20\nthresholds = [0.6, 0.7, 0.7]\n"] {
        assert_eq!(with(published).expect("the published options").digest, package.digest);
    }
    let mut digests = vec![package.digest];
    for other in ["face_px_min = 40", "thresholds = [0.6, 0.7, 0.8]", "pyramid_factor = 0.5"] {
        digests.push(with(&format!("[detection]\n{other}")).expect("sound").digest);
    }
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), 4);
    for wrong in
        ["face_px_min = 11", "thresholds = [0.6, 0.7, 1.0]", "thresholds = [0.6, nan, 0.7]", "pyramid_factor = 1.0"]
    {
        let error = with(&format!("[detection]\n{wrong}")).expect_err("out of range");
        assert!(matches!(error, PackageError::Detection(_)), "{wrong}: {error}");
    }
    for foreign in [
        "[detection]\nsurprise = 1",
        "[preprocessing]\nkind = \"skeleton\"\nframes = 60\nbody_height_px = 110.0\ncentre = \"hips\"",
    ] {
        assert!(matches!(with(foreign), Err(PackageError::Manifest(_))), "{foreign}");
    }
    let person = Manifest { modality: Modality::Person, ..package.manifest.clone() };
    assert!(matches!(person.checked(), Err(PackageError::WrongModality { task: Task::Detector, .. })));
}

#[test]
fn digests_of_detectors_and_pad_models_stay_the_same() {
    let digests = ["face-mtcnn", "face-minifasnet"].map(|name| small_package(name).digest.to_string());
    assert_eq!(digests, PINNED_SMALL);
}

/// Computed without this program, from the layout that `digest.rs` describes.
const PINNED_SMALL: [&str; 2] = [
    "c8c475a918c7d66c32fc896df7ada58eed0ee8d7fd570b72276d5a2f67dc3b57",
    "5c90b74747b5261b4395b3e46448d7b2566cf2a6f42c0ddcbd57c03bb9a5adc1",
];

/// Writes a package of a program, lets `change` edit its manifest's text, and loads it again.
fn load_changed_program(
    behaviour: ProgramBehaviour,
    change: impl FnOnce(&str) -> String,
) -> Result<Package, PackageError> {
    let folder = folder();
    write_package(&script_package("model", behaviour), folder.path());
    let path = folder.path().join(MANIFEST_FILE);
    let text = fs::read_to_string(&path).expect("written");
    fs::write(path, change(&text)).expect("writable");
    Package::load(folder.path())
}

#[test]
fn a_program_is_written_unchanged() {
    for behaviour in [
        ProgramBehaviour::Sound,
        ProgramBehaviour::Parts,
        ProgramBehaviour::Prompted(1),
        ProgramBehaviour::Prompted(17),
    ] {
        let (package, folder) = (script_package("model", behaviour), folder());
        write_package(&package, folder.path());
        let loaded = Package::load(folder.path()).expect("just written");
        assert_eq!((loaded.digest, &loaded.manifest.kind), (package.digest, &package.manifest.kind));
        assert_eq!(loaded.weights, package.weights);
        assert_eq!(loaded.manifest.weights[0].file, PROGRAM_FILE);
        assert!(loaded.tensors().is_none() && loaded.manifest.is_program());
        loaded.check_network().expect("a sound program");
    }
}

#[test]
fn the_declaration_of_a_program_is_checked_and_hashed() {
    let refused = |from: &str, to: &str| {
        load_changed_program(ProgramBehaviour::Parts, |text| {
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1)
        })
        .expect_err("it makes no sense")
    };
    assert!(matches!(refused("input_shape = [3, 8, 4]", "input_shape = [3, 4, 8]"), PackageError::WrongInput { .. }));
    assert!(matches!(refused("input_shape = [3, 8, 4]", ""), PackageError::Manifest(_)));
    assert!(matches!(refused("dimension = 6", "dimension = 0\n#"), PackageError::Dimension { .. }));
    assert!(matches!(refused("dimension = 6", "dimension = 3000000000"), PackageError::Dimension { .. }));
    for parts in
        ["parts = 4", "parts = 1", "parts = 0", "parts = 65", "keypoint_channels = 2", "keypoint_channels = 17"]
    {
        let error = refused("parts = 3", parts);
        assert!(matches!(error, PackageError::Script(_) | PackageError::WrongInput { .. }), "{parts}: {error}");
    }
    for treatment in ["entry = \"x\"", "strip_prefix = \"x\"", "add_prefix = \"x\"", "ignored_prefixes = [\"x\"]"] {
        let error = refused("[[weights]]", &format!("[[weights]]\n{treatment}"));
        assert!(matches!(error, PackageError::Script(_)), "{treatment}: {error}");
    }
    let foreign = refused("architecture = \"torchscript\"", "architecture = \"osnet-x0.25\"");
    assert!(foreign.to_string().contains("input_shape"), "{foreign}");

    let mut digests = vec![
        script_package("model", ProgramBehaviour::Parts).digest,
        script_package("model", ProgramBehaviour::Sound).digest,
    ];
    for (from, to) in [("parts = 3", "parts = 2"), ("parts = 3", ""), ("mirror = false", "mirror = true")] {
        let changed = load_changed_program(ProgramBehaviour::Parts, |text| text.replacen(from, to, 1));
        digests.push(changed.expect("a sound manifest").digest);
    }
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), 5);
}

#[test]
fn an_invalid_program_fails_the_network_check() {
    let good = script_package("model", ProgramBehaviour::Sound);
    let Weights::Program(bytes) = good.weights.clone() else { panic!("it is a program") };
    for broken in [&b"no program"[..], &bytes[..bytes.len() / 2]] {
        let package = Package { weights: Weights::Program(broken.into()), ..good.clone() };
        let error = package.check_network().expect_err("no program");
        assert!(matches!(error, PackageError::Network(NetworkError::Script(_))), "{error}");
    }
    // A state dict is not a program, and a program not a state dict.
    let state = script_package("model", ProgramBehaviour::Sound);
    let mut manifest = synthetic_package("model").manifest;
    manifest.weights = state.manifest.weights;
    assert!(matches!(Package::assemble(manifest, &[bytes]), Err(PackageError::Weights(_))));
}

#[test]
fn a_weight_file_that_is_too_long_is_refused_unread() {
    let (package, folder) = (script_package("model", ProgramBehaviour::Sound), folder());
    write_package(&package, folder.path());
    let file = fs::File::options().write(true).open(folder.path().join(PROGRAM_FILE)).expect("written");
    // A sparse file: no space on disk, but more than the memory.
    file.set_len(FILE_BYTES_MAX + 1).expect("a file system with sparse files");
    assert!(matches!(Package::load(folder.path()), Err(PackageError::Weights(WeightsError::TooLarge))));
}

#[test]
fn the_digest_of_a_program_stays_the_same() {
    let manifest = script_package("model", ProgramBehaviour::Parts).manifest;
    let digest = digest::of_model(&Weights::Program((*b"as it is").into()), &manifest.kind);
    assert_eq!(digest.to_string(), PINNED_PROGRAM);
}

/// Computed without this program, from the layout that `digest.rs` describes.
const PINNED_PROGRAM: &str = "ab843e28a336273f94a0d16a0064f9e03e384191e5be80ad19aa6838db376b5f";

#[test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
fn the_published_files_of_face_models_make_packages_on_real_data() {
    let data = testing::data();
    for name in ["face-mtcnn", "face-minifasnet"] {
        let entry = Catalogue::built_in().named(name).expect("in the catalogue").clone();
        let read =
            |weights: &WeightsFile| fs::read(data.join("face/weights").join(&weights.file)).expect("in the data");
        let files: Vec<Vec<u8>> = entry.manifest.weights.iter().map(read).collect();
        assert_eq!(files.iter().map(|bytes| bytes.len() as u64).sum::<u64>(), entry.origin.bytes());
        let package = Package::assemble(entry.manifest, &files).expect("the published files");
        package.check_network().expect("every network is there");
    }
}

#[test]
fn a_folder_without_manifest_is_not_a_package() {
    assert!(matches!(Package::load(folder().path()), Err(PackageError::NoManifest(_))));
}

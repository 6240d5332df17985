use super::*;
use crate::{
    encoder::{
        Catalogue,
        prepare::Preprocessing,
        tests::{invented_package, write_package},
    },
    testdata,
    torch::weights::{Dtype, RawTensor},
};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn digest_of(package: &Package) -> ModelDigest {
    digest::of_model(&package.weights, package.manifest.architecture, &package.manifest.preprocessing)
}

/// Writes a package, lets `change` edit its manifest's text, and loads it again.
fn load_changed(change: impl FnOnce(String) -> String) -> Result<Package, PackageError> {
    let folder = folder();
    write_package(&invented_package("model"), folder.path());
    let path = folder.path().join(MANIFEST_FILE);
    let text = fs::read_to_string(&path).expect("written");
    let changed = change(text.clone());
    assert_ne!(text, changed, "the change changes something");
    fs::write(path, changed).expect("writable");
    Package::load(folder.path())
}

#[test]
fn a_package_survives_being_written() {
    let (package, folder) = (invented_package("model"), folder());
    write_package(&package, folder.path());
    let loaded = Package::load(folder.path()).expect("just written");
    assert_eq!(loaded.digest, package.digest);
    assert_eq!(loaded.weights, package.weights);
    let weights = loaded.manifest.weights.clone();
    assert_eq!(loaded.manifest, Manifest { weights, ..package.manifest });
    loaded.prove().expect("the weights fit");
}

#[test]
fn what_changes_no_embedding_changes_no_digest() {
    let before = invented_package("model").digest;
    let words = load_changed(|text| {
        let calibration = text.find("[calibration]").expect("the person package has one");
        text[..calibration].replace("licence = \"", "licence = \"other ").replace("id = \"model\"", "id = \"renamed\"")
    });
    let words = words.expect("a sound package");
    assert_eq!(words.digest, before);
    assert!(words.manifest.calibration.is_none());
    let mut counted = invented_package("model");
    let count = RawTensor::new(Dtype::I64, Vec::new(), 7_u64.to_le_bytes().to_vec()).expect("one number");
    counted.weights.insert("conv1.bn.num_batches_tracked".to_owned(), count).expect("a new name");
    assert_eq!(digest_of(&counted), before);
}

#[test]
fn what_changes_an_embedding_changes_the_digest() {
    let package = invented_package("model");
    let before = package.digest;
    let Preprocessing::Image(image) = package.manifest.preprocessing.clone() else { panic!("persons are pictures") };
    let mut mirrored = image.clone();
    mirrored.mirror = true;
    let mut aligned = image.clone();
    aligned.template = Some([[30.0, 51.0], [65.0, 51.0], [48.0, 71.0], [33.0, 92.0], [62.0, 92.0]]);
    let mut brighter = image;
    brighter.mean[2] += 1e-6;
    let mut digests = vec![before];
    for image in [mirrored, aligned, brighter] {
        let preprocessing = Preprocessing::Image(image);
        digests.push(digest::of_model(&package.weights, package.manifest.architecture, &preprocessing));
    }
    let wider = "osnet-x0.5".parse().expect("built in");
    digests.push(digest::of_model(&package.weights, wider, &package.manifest.preprocessing));
    let name = "conv1.conv.weight";
    let tensor = package.weights.get(name).expect("the first layer");
    let mut bytes = tensor.bytes().to_vec();
    bytes[0] ^= 1;
    let flipped = RawTensor::new(tensor.dtype(), tensor.shape().to_vec(), bytes).expect("as long as before");
    let flat = RawTensor::new(tensor.dtype(), vec![tensor.elements()], tensor.bytes().to_vec()).expect("as long");
    for (new_name, tensor) in [(name, flipped), (name, flat), ("other", tensor.clone())] {
        let mut changed = package.clone();
        changed.weights.remove(name);
        changed.weights.insert(new_name.to_owned(), tensor).expect("a free name");
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
    let package = invented_package("model");
    let digest = digest::of_model(&weights, package.manifest.architecture, &package.manifest.preprocessing);
    assert_eq!(digest.to_string(), PINNED);
}

const PINNED: &str = "4f60c8511e3d8c47ee97b74209be850f18c16873ff2242005e6fc41106427730";

#[test]
fn one_model_has_one_digest_in_every_form_of_its_file() {
    let Some(data) = testdata::folder() else { return };
    let weights = [
        ("face-mobilefacenet", "face/weights/mobilefacenet_xiaoccer_068.ckpt"),
        ("person-osnet-x0-25", "person/weights/osnet_x0_25_market1501.pth"),
        ("gait-graph", "gait/weights/gaitgraph_resgcn_n39_r8_ep100.pth"),
    ];
    let mut digests = Vec::new();
    for (name, file) in weights {
        let recipe = Catalogue::built_in().named(name).expect("a starter").clone();
        let published = fs::read(data.join(file)).expect("part of the data");
        assert_eq!(published.len() as u64, recipe.bytes);
        let package = Package::assemble(recipe.manifest, &published).expect("the published file");
        let folder = folder();
        write_package(&package, folder.path());
        let converted = Package::load(folder.path()).expect("just written");
        assert_eq!(converted.manifest.weights.file, WEIGHTS_FILE);
        assert_eq!(converted.digest, package.digest);
        converted.prove().expect("the weights fit");
        digests.push(package.digest.to_string());
    }
    assert_eq!(digests, PINNED_STARTERS);
}

/// Templates are bound to these: whoever changes one of them takes everybody's enrolled people away.
const PINNED_STARTERS: [&str; 3] = [
    "921a147faca041aaf32b202a0ba6b38123b6961bd2cd222578a17096c29097d8",
    "e0f6ec6de24b9ef04cbb5e5b981ab949b179577a3ad23d300bb6f3225fe261d7",
    "615159f91967da901b60726fe401595eb3af729a9b76873466fe563692ef7036",
];

#[test]
fn prefixes_are_taken_off_before_the_digest() {
    let package = invented_package("model");
    let mut parallel = StateDict::default();
    for (name, tensor) in package.weights.iter() {
        parallel.insert(format!("module.{name}"), tensor.clone()).expect("a new name");
    }
    let head = RawTensor::from_f32(vec![1], &[1.0]).expect("one number");
    parallel.insert("module.classifier.weight".to_owned(), head).expect("a new name");
    let folder = folder();
    let path = folder.path().join("parallel.safetensors");
    parallel.write_safetensors(&path).expect("writable");
    let bytes = fs::read(&path).expect("written");
    let weights = WeightsFile {
        file: "parallel.safetensors".to_owned(),
        sha256: FileHash::of(&bytes),
        entry: None,
        strip_prefix: "module.".to_owned(),
        ignored_prefixes: vec!["classifier.".to_owned()],
    };
    let manifest = Manifest { weights, ..package.manifest };
    assert_eq!(Package::assemble(manifest, &bytes).expect("a sound package").digest, package.digest);
}

#[test]
fn manifests_that_make_no_sense_are_refused_with_the_reason() {
    let refused = |from: &str, to: &str| {
        let outcome = load_changed(|text| text.replacen(from, to, 1));
        outcome.expect_err("it makes no sense")
    };
    assert!(matches!(refused("dimension = 512", "dimension = 128"), PackageError::WrongDimension { .. }));
    assert!(matches!(refused("width = 128", "width = 64"), PackageError::WrongInput { .. }));
    assert!(matches!(refused("task = \"encoder\"", "task = \"pad\""), PackageError::NotAnEncoder(Task::Pad)));
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
    assert!(matches!(refused("metric", "surprise = 1\nmetric"), PackageError::Manifest(_)));
    for file in ["../weights.safetensors", "/etc/passwd", "a/b", "..", "", "a\\\\b"] {
        let error = refused("file = \"weights.safetensors\"", &format!("file = \"{file}\""));
        assert!(matches!(error, PackageError::BadFileName(_)), "{file}: {error}");
    }
}

#[test]
fn a_folder_without_manifest_is_no_package() {
    assert!(matches!(Package::load(folder().path()), Err(PackageError::NoManifest(_))));
}

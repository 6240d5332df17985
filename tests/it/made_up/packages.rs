//! Model packages with weights that nobody trained, written when they are asked for. They run every network; what they answer
//! says nothing about anybody.

use std::{fs, path::Path, sync::OnceLock};

use encoder::{Catalogue, DetectionSettings, EncoderArchitecture, FileHash, ModelKind, WeightsFile};
use tempfile::TempDir;
use torch::network::synthetic;
use weights::StateDict;

/// The file of the weights in each package.
const WEIGHTS_FILE: &str = "weights.safetensors";
const NAMES: [&str; 5] = ["face-mobilefacenet", "face-mtcnn", "face-minifasnet", "person-osnet-x0-25", "gait-graph"];

/// A folder with a package for each modality, a face detector and a detector of presentation attacks.
pub(super) fn models() -> &'static Path {
    static MODELS: OnceLock<TempDir> = OnceLock::new();
    let folder = MODELS.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        for name in NAMES {
            write(name, &folder.path().join(name));
        }
        folder
    });
    folder.path()
}

/// The catalogue's package of that name, with synthetic weights in place of the published ones.
fn write(name: &str, folder: &Path) {
    let mut manifest = Catalogue::built_in().named(name).expect("it is in the catalogue").manifest.clone();
    let weights: StateDict = match &mut manifest.kind {
        ModelKind::Encoder(encoder) => match encoder.architecture {
            EncoderArchitecture::BuiltIn(architecture) => synthetic::weights(architecture),
            EncoderArchitecture::TorchScript(_) => panic!("{name} is built in"),
        },
        // Nobody trained it, so its scores mean nothing: whatever it scores is a face.
        ModelKind::Detector(detector) => {
            detector.detection = DetectionSettings { thresholds: [0.0; 3], ..detector.detection };
            synthetic::mtcnn()
        }
        ModelKind::Pad(_) => synthetic::minifasnet(),
    };
    fs::create_dir(folder).expect("a new folder");
    let file = folder.join(WEIGHTS_FILE);
    weights.write_safetensors(&file).expect("written");
    "Synthetic weights, for tests of the path alone.".clone_into(&mut manifest.provenance);
    manifest.weights = vec![WeightsFile {
        file: WEIGHTS_FILE.to_owned(),
        sha256: FileHash::of(&fs::read(&file).expect("written")),
        entry: None,
        strip_prefix: String::new(),
        ignored_prefixes: Vec::new(),
        add_prefix: String::new(),
    }];
    fs::write(folder.join("model.toml"), toml::to_string(&manifest).expect("plain values")).expect("written");
}

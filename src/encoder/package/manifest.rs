//! What `model.toml` says: of every model, and of each task.

use std::{collections::BTreeSet, fmt, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    MANIFEST_BYTES_MAX, MANIFEST_FILE, PackageError, Preprocessing,
    manifest_table::{ManifestTable, WeightsFile},
    read_at_most,
};
use domain::{DIMENSION_MAX, Modality, PackageCalibration, SpaceName};
use torch::{network::Architecture, script::Signature};

/// What `architecture` says of a program.
pub(super) const TORCHSCRIPT: &str = "torchscript";
/// The most parts of an embedding.
const PARTS_MAX: usize = 64;
/// The most files that the weights of one package may be in.
const WEIGHTS_FILES_MAX: usize = 8;

/// What `model.toml` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "ManifestTable", into = "ManifestTable")]
pub struct Manifest {
    /// What the package, its folder and an encoder's embedding space are called.
    pub id: SpaceName,
    pub version: String,
    pub modality: Modality,
    /// As whoever published the weights states it, or "none stated".
    pub licence: String,
    /// Who made the weights, from what.
    pub provenance: String,
    /// Where they were published.
    pub source: String,
    pub intended_use: String,
    pub not_for: String,
    /// The files of the weights; together they hold every tensor once.
    pub weights: Vec<WeightsFile>,
    /// What the model is for, and what only such a model has.
    pub kind: ModelKind,
}

/// A model, by its task.
#[expect(clippy::large_enum_variant, reason = "there is one of a model, and it is read in its place")]
#[derive(Debug, Clone, PartialEq)]
pub enum ModelKind {
    Encoder(EncoderManifest),
    Detector(DetectorManifest),
    Pad(PadManifest),
}

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Makes embeddings.
    Encoder,
    /// Finds faces in a picture.
    Detector,
    /// Tells a presentation attack from a living person.
    Pad,
}

/// What only an encoder has.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderManifest {
    pub architecture: EncoderArchitecture,
    /// How many numbers an embedding has.
    pub dimension: u32,
    pub metric: Metric,
    pub preprocessing: Preprocessing,
    pub calibration: Option<PackageCalibration>,
}

/// What makes the embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncoderArchitecture {
    BuiltIn(Architecture),
    /// A program that came with the package, for what is not built in.
    TorchScript(ScriptManifest),
}

/// What a program declares of itself; it is held to this when it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ScriptManifest {
    /// The shape of one input: channels (keypoints' among them), height and width, or frames, joints and channels.
    pub input_shape: [usize; 3],
    /// In how many parts it answers, if it does: each is compared by itself, where it is visible.
    pub parts: Option<usize>,
    /// How many channels behind the picture's are heat maps of keypoints: none, one for all, or one for each joint of
    /// COCO-17. A sample without keypoints has zeros there.
    pub keypoint_channels: usize,
}

/// How embeddings are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    Cosine,
}

/// What only a detector has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DetectorManifest {
    pub architecture: DetectorArchitecture,
    pub detection: DetectionSettings,
}

/// The detectors that are built in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DetectorArchitecture {
    /// Three networks in a cascade (Zhang et al. 2016), their tensors under `pnet.`, `rnet.` and `onet.`.
    Mtcnn,
}

/// How faces are looked for. What is left out has the value that the authors of MTCNN published.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DetectionSettings {
    /// The smallest face that is looked for.
    pub face_px_min: u32,
    /// What a candidate must score in the first, second and third network.
    pub thresholds: [f32; 3],
    /// How much smaller each level of the image pyramid is than the one before.
    pub pyramid_factor: f32,
}

/// What only a model against presentation attacks has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PadManifest {
    pub architecture: PadArchitecture,
}

/// The models against presentation attacks that are built in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PadArchitecture {
    /// MiniFASNetV2 on a crop of 2.7 faces and MiniFASNetV1SE on one of 4, under `scale2_7.` and `scale4_0.`.
    MiniFasNet,
}

impl Manifest {
    /// Reads and checks the manifest in `folder`.
    pub fn load(folder: &Path) -> Result<Self, PackageError> {
        let path = folder.join(MANIFEST_FILE);
        if !path.is_file() {
            return Err(PackageError::NoManifest(folder.to_owned()));
        }
        Self::parse(&read_at_most(&path, MANIFEST_BYTES_MAX)?.ok_or(PackageError::ManifestTooLong)?)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, PackageError> {
        toml::from_slice::<Self>(bytes)?.checked()
    }

    /// What it says as an encoder, if it is one.
    #[must_use]
    pub fn encoder(&self) -> Option<&EncoderManifest> {
        match &self.kind {
            ModelKind::Encoder(encoder) => Some(encoder),
            ModelKind::Detector(_) | ModelKind::Pad(_) => None,
        }
    }

    /// Whether its file is a program, which is run and not read.
    #[must_use]
    pub fn is_program(&self) -> bool {
        self.encoder().is_some_and(|encoder| matches!(encoder.architecture, EncoderArchitecture::TorchScript(_)))
    }

    /// What the types do not hold.
    pub(crate) fn checked(self) -> Result<Self, PackageError> {
        self.check_words()?;
        self.check_files()?;
        let kind = match self.kind {
            ModelKind::Encoder(encoder) => ModelKind::Encoder(encoder.checked()?),
            // These are of faces, so far.
            ModelKind::Detector(_) | ModelKind::Pad(_) if self.modality != Modality::Face => {
                return Err(PackageError::WrongModality { task: self.kind.task(), found: self.modality });
            }
            ModelKind::Detector(detector) => ModelKind::Detector(detector.checked()?),
            ModelKind::Pad(pad) => ModelKind::Pad(pad),
        };
        Ok(Self { kind, ..self })
    }

    fn check_words(&self) -> Result<(), PackageError> {
        let words = [
            ("version", &self.version),
            ("licence", &self.licence),
            ("provenance", &self.provenance),
            ("source", &self.source),
            ("intended_use", &self.intended_use),
            ("not_for", &self.not_for),
        ];
        if let Some((field, _)) = words.into_iter().find(|(_, text)| text.trim().is_empty()) {
            return Err(PackageError::Blank(field));
        }
        // Hidden folders are installations under way.
        if self.id.as_str().starts_with('.') {
            return Err(PackageError::HiddenId(self.id.clone()));
        }
        Ok(())
    }

    fn check_files(&self) -> Result<(), PackageError> {
        if self.weights.is_empty() || self.weights.len() > WEIGHTS_FILES_MAX {
            return Err(PackageError::FileCount { found: self.weights.len(), max: WEIGHTS_FILES_MAX });
        }
        let mut seen = BTreeSet::new();
        for WeightsFile { file, .. } in &self.weights {
            let is_plain =
                Path::new(file).file_name().is_some_and(|name| name == file.as_str()) && !file.contains('\\');
            if !is_plain {
                return Err(PackageError::BadFileName(file.clone()));
            }
            if !seen.insert(file) {
                return Err(PackageError::SameFile(file.clone()));
            }
        }
        let as_it_is = |file: &WeightsFile| *file == WeightsFile::plain(&file.file, file.sha256);
        if self.is_program() && !matches!(&self.weights[..], [file] if as_it_is(file)) {
            return Err(PackageError::Script("a program is one file, and taken as it is"));
        }
        Ok(())
    }
}

impl ModelKind {
    #[must_use]
    pub fn task(&self) -> Task {
        match self {
            Self::Encoder(_) => Task::Encoder,
            Self::Detector(_) => Task::Detector,
            Self::Pad(_) => Task::Pad,
        }
    }

    /// The name of the architecture, as `model.toml` has it.
    #[must_use]
    pub fn architecture(&self) -> String {
        match self {
            Self::Encoder(encoder) => encoder.architecture.to_string(),
            Self::Detector(detector) => detector.architecture.as_str().to_owned(),
            Self::Pad(pad) => pad.architecture.as_str().to_owned(),
        }
    }
}

impl EncoderManifest {
    fn checked(self) -> Result<Self, PackageError> {
        self.preprocessing.check()?;
        let architecture = || self.architecture.to_string();
        let (expected, found) = (self.architecture.input_shape(), self.preprocessing.shape());
        match self.architecture {
            EncoderArchitecture::BuiltIn(network) => {
                if self.dimension as usize != network.dimension() {
                    let (expected, found) = (network.dimension(), self.dimension);
                    return Err(PackageError::WrongDimension { architecture: architecture(), expected, found });
                }
                if expected != found {
                    return Err(PackageError::WrongInput { architecture: architecture(), expected, found });
                }
            }
            EncoderArchitecture::TorchScript(script) => {
                let found = script.with_heat_maps(&self.preprocessing)?;
                if expected != found {
                    return Err(PackageError::WrongInput { architecture: architecture(), expected, found });
                }
                script.check_parts(self.dimension as usize)?;
            }
        }
        if self.dimension == 0 || self.dimension > DIMENSION_MAX {
            return Err(PackageError::Dimension { max: DIMENSION_MAX });
        }
        let calibration = self.calibration.map(PackageCalibration::checked).transpose()?;
        Ok(Self { calibration, ..self })
    }
}

impl EncoderArchitecture {
    /// In how many parts an answer is compared.
    pub(crate) fn parts(self) -> u32 {
        let parts = match self {
            Self::BuiltIn(architecture) => architecture.parts(),
            Self::TorchScript(script) => script.parts.unwrap_or(1),
        };
        u32::try_from(parts).expect("an embedding has no more parts than numbers")
    }

    /// How many channels of an input are heat maps of keypoints.
    pub(crate) fn keypoint_channels(self) -> usize {
        match self {
            Self::BuiltIn(_) => 0,
            Self::TorchScript(script) => script.keypoint_channels,
        }
    }

    /// The shape of one input.
    #[must_use]
    pub fn input_shape(self) -> [usize; 3] {
        match self {
            Self::BuiltIn(architecture) => architecture.input_shape(),
            Self::TorchScript(script) => script.input_shape,
        }
    }
}

impl fmt::Display for EncoderArchitecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn(architecture) => architecture.fmt(f),
            Self::TorchScript(_) => f.write_str(TORCHSCRIPT),
        }
    }
}

impl ScriptManifest {
    pub(crate) fn signature(self, dimension: u32) -> Signature {
        Signature { input: self.input_shape, dimension: dimension as usize, parts: self.parts }
    }

    /// How many numbers of an input are heat maps of keypoints.
    pub(crate) fn heat_maps(self) -> usize {
        let [_, height, width] = self.input_shape;
        self.keypoint_channels * height * width
    }

    /// What the preprocessing makes, with the channels of keypoints behind it.
    fn with_heat_maps(self, preprocessing: &Preprocessing) -> Result<[usize; 3], PackageError> {
        let [channels, height, width] = preprocessing.shape();
        match (self.keypoint_channels, preprocessing) {
            (0, _) => Ok([channels, height, width]),
            (1 | 17, Preprocessing::Image(_)) => Ok([channels + self.keypoint_channels, height, width]),
            _ => Err(PackageError::Script("keypoint_channels are of pictures, and 1 or 17")),
        }
    }

    fn check_parts(self, dimension: usize) -> Result<(), PackageError> {
        match self.parts {
            None => Ok(()),
            Some(parts) if (2..=PARTS_MAX).contains(&parts) && dimension.is_multiple_of(parts) => Ok(()),
            Some(_) => Err(PackageError::Script("parts are 2 to 64, all of one length, and make up the dimension")),
        }
    }
}

impl DetectorManifest {
    fn checked(self) -> Result<Self, PackageError> {
        let DetectionSettings { face_px_min, thresholds, pyramid_factor } = self.detection;
        if !DetectionSettings::FACE_PX.contains(&face_px_min) {
            return Err(PackageError::Detection("face_px_min must be 12 to 4096"));
        }
        if !thresholds.iter().all(|threshold| (0.0..1.0).contains(threshold)) {
            return Err(PackageError::Detection("thresholds must be at least 0 and below 1"));
        }
        if !DetectionSettings::FACTOR.contains(&pyramid_factor) {
            return Err(PackageError::Detection("pyramid_factor must be 0.1 to 0.95"));
        }
        Ok(self)
    }
}

impl DetectionSettings {
    /// The first network sees 12 pixels; a smaller face would have to be enlarged for it.
    const FACE_PX: std::ops::RangeInclusive<u32> = 12..=4096;
    /// Nearer to one, the pyramid has levels without end.
    const FACTOR: std::ops::RangeInclusive<f32> = 0.1..=0.95;
}

impl Default for DetectionSettings {
    fn default() -> Self {
        Self { face_px_min: 20, thresholds: [0.6, 0.7, 0.7], pyramid_factor: 0.709 }
    }
}

impl Task {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Encoder => "encoder",
            Self::Detector => "detector",
            Self::Pad => "pad",
        }
    }
}

impl DetectorArchitecture {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mtcnn => "mtcnn",
        }
    }

    /// How the names of its tensors begin.
    pub(crate) fn prefixes(self) -> &'static [&'static str] {
        match self {
            Self::Mtcnn => &["pnet.", "rnet.", "onet."],
        }
    }
}

impl PadArchitecture {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MiniFasNet => "minifasnet",
        }
    }

    /// How the names of its tensors begin.
    pub(crate) fn prefixes(self) -> &'static [&'static str] {
        match self {
            Self::MiniFasNet => &["scale2_7.", "scale4_0."],
        }
    }
}

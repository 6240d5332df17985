//! The content of `model.toml`: fields of every model, and fields of each task.

use std::{collections::BTreeSet, fmt, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    MANIFEST_BYTES_MAX, MANIFEST_FILE, PackageError, Preprocessing,
    manifest_table::{ManifestTable, WeightsFile},
    read_at_most,
};
use domain::{DIMENSION_MAX, Modality, PackageCalibration, SpaceName};
use torch::{network::Architecture, script::Signature};

/// The value of `architecture` for a TorchScript program.
pub(super) const TORCHSCRIPT: &str = "torchscript";
/// Maximum number of parts of an embedding.
const PARTS_MAX: usize = 64;
/// Maximum number of weight files.
const WEIGHTS_FILES_MAX: usize = 8;

/// A checked `model.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "ManifestTable", into = "ManifestTable")]
pub struct Manifest {
    /// Id of the package, name of its folder and, for an encoder, of its embedding space.
    pub id: SpaceName,
    pub version: String,
    pub modality: Modality,
    /// As stated by the publisher of the weights, or "none stated".
    pub licence: String,
    /// Author and training data of the weights.
    pub provenance: String,
    /// Where the weights were published.
    pub source: String,
    pub intended_use: String,
    pub not_for: String,
    /// The weight files; together they hold every tensor once.
    pub weights: Vec<WeightsFile>,
    /// The model's task and its task-specific fields.
    pub kind: ModelKind,
}

/// The task-specific part of a manifest.
#[expect(clippy::large_enum_variant, reason = "there is one of a model, and it is read in its place")]
#[derive(Debug, Clone, PartialEq)]
pub enum ModelKind {
    Encoder(EncoderManifest),
    Detector(DetectorManifest),
    Pad(PadManifest),
}

/// The task of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Encodes samples as embeddings.
    Encoder,
    /// Detects faces in a picture.
    Detector,
    /// Detects presentation attacks.
    Pad,
}

/// The fields of an encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderManifest {
    pub architecture: EncoderArchitecture,
    /// Number of values in an embedding.
    pub dimension: u32,
    pub metric: SimilarityMetric,
    pub preprocessing: Preprocessing,
    pub calibration: Option<PackageCalibration>,
}

/// The network of an encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncoderArchitecture {
    BuiltIn(Architecture),
    /// A TorchScript program in the package, for networks that are not built in.
    TorchScript(ScriptManifest),
}

/// The declared signature of a TorchScript program; checked when it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ScriptManifest {
    /// Shape of one input: `[channels, height, width]` including keypoint channels, or `[frames, joints, channels]`.
    pub input_shape: [usize; 3],
    /// Number of parts in its output, if it has parts: visible parts are compared one by one.
    pub parts: Option<usize>,
    /// Number of keypoint heat map channels after the picture's channels: 0, 1 for all joints, or 17 for the COCO
    /// joints. They are zero for a sample without keypoints.
    pub keypoint_channels: usize,
}

/// The similarity measure of embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SimilarityMetric {
    Cosine,
}

/// The fields of a detector.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DetectorManifest {
    pub architecture: DetectorArchitecture,
    pub detection: DetectionSettings,
}

/// The built-in detectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DetectorArchitecture {
    /// A cascade of three networks (Zhang et al. 2016) with the tensor prefixes `pnet.`, `rnet.` and `onet.`.
    Mtcnn,
}

/// Detection settings. Defaults are those published by the authors of MTCNN.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DetectionSettings {
    /// Side of the smallest detected face in pixels.
    pub face_px_min: u32,
    /// Minimum scores in the first, second and third network, 0 to 1.
    pub thresholds: [f32; 3],
    /// Scale of each pyramid level relative to the previous one.
    pub pyramid_factor: f32,
}

/// The fields of a PAD model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PadManifest {
    pub architecture: PadArchitecture,
}

/// The built-in PAD models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PadArchitecture {
    /// MiniFASNetV2 on a crop of 2.7 times the face and MiniFASNetV1SE on one of 4 times, with the prefixes `scale2_7.`
    /// and `scale4_0.`.
    MiniFasNet,
}

impl Manifest {
    /// Reads and checks the manifest in `folder`.
    ///
    /// # Errors
    ///
    /// See [`PackageError`].
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

    /// The fields of an encoder, if it is one.
    #[must_use]
    pub fn encoder(&self) -> Option<&EncoderManifest> {
        match &self.kind {
            ModelKind::Encoder(encoder) => Some(encoder),
            ModelKind::Detector(_) | ModelKind::Pad(_) => None,
        }
    }

    /// Whether its file is a TorchScript program, which is run and not read.
    #[must_use]
    pub fn is_program(&self) -> bool {
        self.encoder().is_some_and(|encoder| matches!(encoder.architecture, EncoderArchitecture::TorchScript(_)))
    }

    /// Checks the rules that the types do not enforce.
    pub(crate) fn checked(self) -> Result<Self, PackageError> {
        self.check_words()?;
        self.check_files()?;
        let kind = match self.kind {
            ModelKind::Encoder(encoder) => ModelKind::Encoder(encoder.checked()?),
            // Detectors and PAD models exist only for faces.
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
        // Hidden folders are installations in progress.
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
            return Err(PackageError::Script("a program is one unchanged file"));
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

    /// The name of the architecture in `model.toml`.
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
        let directions = calibration.iter().flat_map(|measured| &measured.atypical);
        if let Some(other) = directions.map(|of| of.direction.len()).find(|length| *length != self.dimension as usize) {
            return Err(PackageError::DirectionLength { expected: self.dimension, found: other });
        }
        Ok(Self { calibration, ..self })
    }
}

impl EncoderArchitecture {
    /// Number of parts of an embedding.
    pub(crate) fn parts(self) -> u32 {
        let parts = match self {
            Self::BuiltIn(architecture) => architecture.parts(),
            Self::TorchScript(script) => script.parts.unwrap_or(1),
        };
        u32::try_from(parts).expect("an embedding has no more parts than numbers")
    }

    /// Number of keypoint heat map channels of an input.
    pub(crate) fn keypoint_channels(self) -> usize {
        match self {
            Self::BuiltIn(_) => 0,
            Self::TorchScript(script) => script.keypoint_channels,
        }
    }

    /// The shape of one input: `[channels, height, width]` or `[frames, joints, channels]`.
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

    /// Number of heat map values in an input.
    pub(crate) fn heat_maps(self) -> usize {
        let [_, height, width] = self.input_shape;
        self.keypoint_channels * height * width
    }

    /// The shape of the preprocessed input including the keypoint channels.
    fn with_heat_maps(self, preprocessing: &Preprocessing) -> Result<[usize; 3], PackageError> {
        let [channels, height, width] = preprocessing.shape();
        match (self.keypoint_channels, preprocessing) {
            (0, _) => Ok([channels, height, width]),
            (1 | 17, Preprocessing::Image(_)) => Ok([channels + self.keypoint_channels, height, width]),
            _ => Err(PackageError::Script("keypoint_channels must be 1 or 17, and only pictures have them")),
        }
    }

    fn check_parts(self, dimension: usize) -> Result<(), PackageError> {
        match self.parts {
            None => Ok(()),
            Some(parts) if (2..=PARTS_MAX).contains(&parts) && dimension.is_multiple_of(parts) => Ok(()),
            Some(_) => Err(PackageError::Script("parts must be 2 to 64 and divide the dimension")),
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
    /// The first network has a window of 12 pixels; a smaller face would need upscaling.
    const FACE_PX: std::ops::RangeInclusive<u32> = 12..=4096;
    /// Closer to one, the pyramid has too many levels.
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

    /// The prefixes of its tensors.
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

    /// The prefixes of its tensors.
    pub(crate) fn prefixes(self) -> &'static [&'static str] {
        match self {
            Self::MiniFasNet => &["scale2_7.", "scale4_0."],
        }
    }
}

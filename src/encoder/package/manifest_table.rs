//! The text form of `model.toml`: one flat table; each task accepts its own keys only.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{
        self, MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer, StrDeserializer},
    },
};
use thiserror::Error;

use super::{
    FileHash, Preprocessing,
    manifest::{
        DetectionSettings, DetectorManifest, EncoderArchitecture, EncoderManifest, Manifest, ModelKind, PadManifest,
        ScriptManifest, SimilarityMetric, TORCHSCRIPT, Task,
    },
};
use domain::{Modality, PackageCalibration, SpaceName};

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ManifestTable {
    id: SpaceName,
    version: String,
    modality: Modality,
    task: Task,
    architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input_shape: Option<[usize; 3]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dimension: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parts: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keypoint_channels: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metric: Option<SimilarityMetric>,
    licence: String,
    provenance: String,
    source: String,
    intended_use: String,
    not_for: String,
    /// Old packages have one table here instead of an array of tables.
    #[serde(deserialize_with = "one_or_several")]
    weights: Vec<WeightsFile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    preprocessing: Option<Preprocessing>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    calibration: Option<PackageCalibration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    detection: Option<DetectionSettings>,
}

/// A weight file and the location of the state dict in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightsFile {
    /// A file name in the package's folder.
    pub file: String,
    pub sha256: FileHash,
    /// Key of the state dict in a checkpoint; absent when the file is the state dict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// Removed from the names that begin with it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub strip_prefix: String,
    /// Tensors with these prefixes are used in training only and are ignored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored_prefixes: Vec<String>,
    /// Added to every remaining name; it separates the networks of one model.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub add_prefix: String,
}

/// A key is missing or not allowed.
#[derive(Debug, Error)]
pub(super) enum ManifestError {
    #[error("a model.toml with {model} needs the key `{key}`")]
    Missing { model: String, key: &'static str },
    #[error("`{key}` is not allowed in a model.toml with {model}")]
    Foreign { model: String, key: &'static str },
    #[error("{0}")]
    Architecture(String),
}

impl WeightsFile {
    /// A file that is the state dict, with the architecture's names.
    pub(crate) fn plain(file: &str, sha256: FileHash) -> Self {
        Self {
            file: file.to_owned(),
            sha256,
            entry: None,
            strip_prefix: String::new(),
            ignored_prefixes: Vec::new(),
            add_prefix: String::new(),
        }
    }
}

impl ManifestTable {
    fn kind(&mut self) -> Result<ModelKind, ManifestError> {
        self.check_keys()?;
        Ok(match self.task {
            Task::Encoder => ModelKind::Encoder(EncoderManifest {
                architecture: self.encoder_architecture()?,
                dimension: self.needs("dimension", self.dimension)?,
                metric: self.needs("metric", self.metric)?,
                preprocessing: self.needs("preprocessing", self.preprocessing.clone())?,
                calibration: self.calibration.take(),
            }),
            Task::Detector => ModelKind::Detector(DetectorManifest {
                architecture: self.built_in()?,
                detection: self.detection.unwrap_or_default(),
            }),
            Task::Pad => ModelKind::Pad(PadManifest { architecture: self.built_in()? }),
        })
    }

    /// Refuses keys that this task and architecture do not have.
    fn check_keys(&self) -> Result<(), ManifestError> {
        const OF_ENCODERS: &[&str] = &["dimension", "metric", "preprocessing", "calibration"];
        const OF_PROGRAMS: &[&str] = &["input_shape", "parts", "keypoint_channels"];
        let own: [&[&str]; 2] = match self.task {
            Task::Encoder if self.is_program() => [OF_ENCODERS, OF_PROGRAMS],
            Task::Encoder => [OF_ENCODERS, &[]],
            Task::Detector => [&["detection"], &[]],
            Task::Pad => [&[], &[]],
        };
        let there = [
            ("input_shape", self.input_shape.is_some()),
            ("dimension", self.dimension.is_some()),
            ("parts", self.parts.is_some()),
            ("keypoint_channels", self.keypoint_channels.is_some()),
            ("metric", self.metric.is_some()),
            ("preprocessing", self.preprocessing.is_some()),
            ("calibration", self.calibration.is_some()),
            ("detection", self.detection.is_some()),
        ];
        match there.into_iter().find(|(key, is_there)| *is_there && !own.concat().contains(key)) {
            Some((key, _)) => Err(ManifestError::Foreign { model: self.model(), key }),
            None => Ok(()),
        }
    }

    fn encoder_architecture(&self) -> Result<EncoderArchitecture, ManifestError> {
        if !self.is_program() {
            return Ok(EncoderArchitecture::BuiltIn(self.architecture.parse().map_err(ManifestError::architecture)?));
        }
        Ok(EncoderArchitecture::TorchScript(ScriptManifest {
            input_shape: self.needs("input_shape", self.input_shape)?,
            parts: self.parts,
            keypoint_channels: self.keypoint_channels.unwrap_or_default(),
        }))
    }

    fn is_program(&self) -> bool {
        self.architecture == TORCHSCRIPT
    }

    fn needs<T>(&self, key: &'static str, value: Option<T>) -> Result<T, ManifestError> {
        value.ok_or_else(|| ManifestError::Missing { model: self.model(), key })
    }

    /// The task and architecture, which determine the allowed keys.
    fn model(&self) -> String {
        format!("task = \"{}\" and architecture = \"{}\"", self.task.as_str(), self.architecture)
    }

    /// The built-in architecture of this task.
    fn built_in<A: for<'de> Deserialize<'de>>(&self) -> Result<A, ManifestError> {
        let name: StrDeserializer<'_, de::value::Error> = de::IntoDeserializer::into_deserializer(&*self.architecture);
        A::deserialize(name).map_err(ManifestError::architecture)
    }
}

impl ManifestError {
    fn architecture(error: impl fmt::Display) -> Self {
        Self::Architecture(error.to_string())
    }
}

impl TryFrom<ManifestTable> for Manifest {
    type Error = ManifestError;

    fn try_from(mut written: ManifestTable) -> Result<Self, ManifestError> {
        let kind = written.kind()?;
        let ManifestTable {
            id, version, modality, licence, provenance, source, intended_use, not_for, weights, ..
        } = written;
        Ok(Self { id, version, modality, licence, provenance, source, intended_use, not_for, weights, kind })
    }
}

impl From<Manifest> for ManifestTable {
    fn from(manifest: Manifest) -> Self {
        let (task, architecture) = (manifest.kind.task(), manifest.kind.architecture());
        let Manifest { id, version, modality, licence, provenance, source, intended_use, not_for, weights, kind } =
            manifest;
        let (mut dimension, mut metric, mut preprocessing, mut calibration) = (None, None, None, None);
        let (mut script, mut detection) = (None, None);
        match kind {
            ModelKind::Encoder(encoder) => {
                if let EncoderArchitecture::TorchScript(program) = encoder.architecture {
                    script = Some(program);
                }
                (dimension, metric) = (Some(encoder.dimension), Some(encoder.metric));
                (preprocessing, calibration) = (Some(encoder.preprocessing), encoder.calibration);
            }
            ModelKind::Detector(detector) => detection = Some(detector.detection),
            ModelKind::Pad(_) => {}
        }
        Self {
            id,
            version,
            modality,
            task,
            architecture,
            input_shape: script.map(|script| script.input_shape),
            dimension,
            parts: script.and_then(|script| script.parts),
            keypoint_channels: script.map(|script| script.keypoint_channels).filter(|channels| *channels > 0),
            metric,
            licence,
            provenance,
            source,
            intended_use,
            not_for,
            weights,
            preprocessing,
            calibration,
            detection,
        }
    }
}

/// A table or an array of tables. An untagged enum would not report the wrong key.
fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<WeightsFile>, D::Error> {
    struct WeightsVisitor;

    impl<'de> Visitor<'de> for WeightsVisitor {
        type Value = Vec<WeightsFile>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table or an array of tables, each with a file and its sha256")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            Ok(vec![WeightsFile::deserialize(MapAccessDeserializer::new(map))?])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, files: A) -> Result<Self::Value, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(files))
        }
    }

    deserializer.deserialize_any(WeightsVisitor)
}

//! Whether the weights of a package fit its architecture: builds every network of it and runs encoders once.
//!
//! Reading a package computes nothing; only this check and the workers call libtorch.

use super::{
    inference::EncoderModel,
    package::{ModelKind, Package, PackageError},
};
use torch::{
    detector::{DetectorOptions, Mtcnn},
    pad::Liveness,
    runtime,
};
use weights::StateDict;

impl Package {
    /// Builds the networks, runs an encoder on trial inputs, and drops them. This runs the program of a TorchScript
    /// package.
    ///
    /// # Errors
    /// [`PackageError::NoTensors`] or [`PackageError::StrayTensor`] when tensors and networks do not correspond;
    /// [`PackageError::Network`] when a network cannot be built or fails its trial run.
    pub fn check_network(&self) -> Result<(), PackageError> {
        let _inference = runtime::prepare_thread();
        match &self.manifest.kind {
            ModelKind::Encoder(encoder) => {
                EncoderModel::build(encoder, self.weights.clone())?;
            }
            ModelKind::Detector(detector) => {
                self.check_prefixes(detector.architecture.prefixes())?;
                Mtcnn::build(self.tensors_or_none(), DetectorOptions::from(&detector.detection))?;
            }
            ModelKind::Pad(pad) => {
                self.check_prefixes(pad.architecture.prefixes())?;
                Liveness::build(self.tensors_or_none())?;
            }
        }
        Ok(())
    }

    fn tensors_or_none(&self) -> StateDict {
        self.tensors().cloned().unwrap_or_default()
    }

    /// Checks that every network of the architecture has tensors and that every tensor belongs to a network.
    fn check_prefixes(&self, prefixes: &[&'static str]) -> Result<(), PackageError> {
        let keys = || self.tensors().into_iter().flat_map(StateDict::iter).map(|(key, _)| key);
        if let Some(absent) = prefixes.iter().find(|prefix| !keys().any(|key| key.starts_with(**prefix))) {
            return Err(PackageError::NoTensors(absent));
        }
        match keys().find(|key| !prefixes.iter().any(|prefix| key.starts_with(prefix))) {
            Some(stray) => Err(PackageError::StrayTensor(stray.to_owned())),
            None => Ok(()),
        }
    }
}

//! A model's digest: sha256 over everything that changes its answers, and nothing else.

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{
    Weights,
    manifest::{EncoderArchitecture, ModelKind},
};
use domain::ModelDigest;
use weights::StateDict;

/// Keep digests of another layout apart from these.
const LAYOUT: &[u8] = b"semblance model 1";
const SCRIPT_LAYOUT: &[u8] = b"semblance torchscript 1";
/// What batch norm counts while it learns; it changes no answer, and some tools leave it out.
const NEVER_USED: &str = "num_batches_tracked";

/// Goes over the tensors in the order of their names (name, number type, shape, bytes), the architecture's name, and the
/// options: of an encoder the preprocessing with its alignment template and mirror flag, of a detector how it looks for
/// faces. The form of the file does not show: the same tensors as a checkpoint and as safetensors have one digest.
///
/// Of a program nothing can be seen, so its file's bytes stand for the tensors, and what it declares for the
/// architecture. Every part is preceded by its length, so that no two models run together into the same bytes.
pub(crate) fn of_model(weights: &Weights, kind: &ModelKind) -> ModelDigest {
    let mut hash = Sha256::new();
    match weights {
        Weights::Tensors(tensors) => tensor_parts(&mut hash, tensors),
        Weights::Program(bytes) => {
            part(&mut hash, SCRIPT_LAYOUT);
            part(&mut hash, bytes);
        }
    }
    part(&mut hash, kind.architecture().as_bytes());
    match kind {
        ModelKind::Encoder(encoder) => {
            if let EncoderArchitecture::TorchScript(declared) = &encoder.architecture {
                json_part(&mut hash, &(declared, encoder.dimension));
            }
            json_part(&mut hash, &encoder.preprocessing);
        }
        ModelKind::Detector(detector) => json_part(&mut hash, &detector.detection),
        // It has no options.
        ModelKind::Pad(_) => {}
    }
    ModelDigest(hash.finalize().into())
}

fn tensor_parts(hash: &mut Sha256, tensors: &StateDict) {
    part(hash, LAYOUT);
    for (name, tensor) in tensors.iter().filter(|(name, _)| !name.ends_with(NEVER_USED)) {
        part(hash, name.as_bytes());
        part(hash, tensor.dtype().as_str().as_bytes());
        let shape: Vec<u8> = tensor.shape().iter().flat_map(|side| (*side as u64).to_le_bytes()).collect();
        part(hash, &shape);
        part(hash, tensor.bytes());
    }
}

/// JSON has one text for a struct: fields in their order, numbers in their shortest form. Tests pin it.
fn json_part(hash: &mut Sha256, options: &impl Serialize) {
    part(hash, &serde_json::to_vec(options).expect("plain numbers and words are JSON"));
}

fn part(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

//! A model's digest: sha256 over everything that changes its embeddings, and nothing else.

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{
    Weights,
    manifest::{EncoderArchitecture, ModelKind},
};
use domain::ModelDigest;
use weights::StateDict;

/// Domain separation of digest layouts.
const LAYOUT: &[u8] = b"semblance model 1";
const SCRIPT_LAYOUT: &[u8] = b"semblance torchscript 1";
/// A training counter of batch normalisation. It changes no output, and some tools omit it.
const NEVER_USED: &str = "num_batches_tracked";

/// Hashes the tensors sorted by name (name, number type, shape, bytes), the architecture's name and the options: for an
/// encoder its preprocessing including alignment template and mirror flag, for a detector its detection settings. The
/// file format does not matter: a checkpoint and a safetensors file with the same tensors have one digest.
///
/// A TorchScript program is opaque: its file's bytes stand for the tensors, and its declared signature for the
/// architecture. Every part is preceded by its length, so that different models never give the same byte sequence.
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
        // A PAD model has no options.
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

/// The JSON of a struct is unique: fields in declaration order, numbers in their shortest form. Tests pin it.
fn json_part(hash: &mut Sha256, options: &impl Serialize) {
    part(hash, &serde_json::to_vec(options).expect("plain numbers and words are JSON"));
}

fn part(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

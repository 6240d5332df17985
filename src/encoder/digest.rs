//! A model's digest: sha256 over everything that changes its answers, and nothing else.

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::package::Kind;
use crate::{domain::ModelDigest, torch::weights::StateDict};

/// Keeps digests of another layout apart from these.
const LAYOUT: &[u8] = b"semblance model 1";
/// What batch norm counts while it learns; it changes no answer, and some tools leave it out.
const NEVER_USED: &str = "num_batches_tracked";

/// Goes over the tensors in the order of their names (name, number type, shape, bytes), the architecture's name, and the
/// options: of an encoder the preprocessing with its alignment template and mirror flag, of a detector how it looks for
/// faces. The form of the file does not show: the same tensors as a checkpoint and as safetensors have one digest. Every
/// part is preceded by its length, so that no two models run together into the same bytes.
pub(super) fn of_tensors(weights: &StateDict, kind: &Kind) -> ModelDigest {
    let mut hash = Sha256::new();
    part(&mut hash, LAYOUT);
    for (name, tensor) in weights.iter().filter(|(name, _)| !name.ends_with(NEVER_USED)) {
        part(&mut hash, name.as_bytes());
        part(&mut hash, tensor.dtype().as_str().as_bytes());
        let shape: Vec<u8> = tensor.shape().iter().flat_map(|side| (*side as u64).to_le_bytes()).collect();
        part(&mut hash, &shape);
        part(&mut hash, tensor.bytes());
    }
    part(&mut hash, kind.architecture().as_bytes());
    match kind {
        Kind::Encoder(encoder) => json_part(&mut hash, &encoder.preprocessing),
        Kind::Detector(detector) => json_part(&mut hash, &detector.detection),
        // It has no options.
        Kind::Pad(_) => {}
    }
    ModelDigest(hash.finalize().into())
}

/// JSON has one text for a struct: fields in their order, numbers in their shortest form. Tests pin it.
fn json_part(hash: &mut Sha256, options: &impl Serialize) {
    part(hash, &serde_json::to_vec(options).expect("plain numbers and words are JSON"));
}

fn part(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

//! A model's digest: sha256 over everything that changes an embedding, and nothing else.

use sha2::{Digest, Sha256};

use super::prepare::Preprocessing;
use crate::{
    domain::ModelDigest,
    torch::{network::Architecture, weights::StateDict},
};

/// Keeps digests of another layout apart from these.
const LAYOUT: &[u8] = b"semblance model 1";
/// What batch norm counts while it learns; it changes no answer, and some tools leave it out.
const NEVER_USED: &str = "num_batches_tracked";

/// Goes over the tensors in the order of their names (name, number type, shape, bytes), the architecture's name, and the
/// preprocessing with its alignment template and mirror flag. The form of the file does not show: the same tensors as
/// a checkpoint and as safetensors have one digest. Every part is preceded by its length, so that no two models run
/// together into the same bytes.
pub(super) fn of_model(weights: &StateDict, architecture: Architecture, preprocessing: &Preprocessing) -> ModelDigest {
    let mut hash = Sha256::new();
    part(&mut hash, LAYOUT);
    for (name, tensor) in weights.iter().filter(|(name, _)| !name.ends_with(NEVER_USED)) {
        part(&mut hash, name.as_bytes());
        part(&mut hash, tensor.dtype().as_str().as_bytes());
        let shape: Vec<u8> = tensor.shape().iter().flat_map(|side| (*side as u64).to_le_bytes()).collect();
        part(&mut hash, &shape);
        part(&mut hash, tensor.bytes());
    }
    part(&mut hash, architecture.to_string().as_bytes());
    // JSON has one text for a struct: fields in their order, numbers in their shortest form. A test pins it.
    part(&mut hash, &serde_json::to_vec(preprocessing).expect("plain numbers and words are JSON"));
    ModelDigest(hash.finalize().into())
}

fn part(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

//! The contract as Rust: messages and services that the build generates from `proto/`.

#![expect(clippy::all, clippy::pedantic, clippy::restriction, reason = "generated")]

use std::fmt;

tonic::include_proto!("semblance.v1");

/// The descriptors of the contract with their comments, as a serialised `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/semblance.bin"));

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({} bytes)", self.data.len())
    }
}

impl fmt::Debug for PoseFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PoseFile({} bytes)", self.data.len())
    }
}

impl fmt::Debug for Embedding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Embedding({}, {} numbers)", self.model, self.values.len())
    }
}

impl fmt::Debug for skeleton::Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} numbers)", self.keypoints.len())
    }
}

//! Neural networks in libtorch: builds networks from state dicts, runs them, and trains the two networks of our own.
//!
//! The only package that uses tch; no tch type is in its public interface. It executes nothing from weight files; only
//! a TorchScript file is executed, and its package declares that. It never decodes samples and never normalises
//! outputs: the encoder package does.

mod conversion;
pub mod detector;
mod error;
pub mod learn;
pub mod network;
pub mod pad;
pub mod runtime;
pub mod script;
pub mod trial_run;

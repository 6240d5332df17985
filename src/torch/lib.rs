//! Neural networks: reads weight files, builds networks from them, runs them.
//!
//! The only room that names tch; no tch type crosses its door. It runs nothing that a weight file says: a pickle is
//! read by a machine of our own that knows tensors and nothing else. Only a TorchScript file is run, which is a program
//! and says so. It never decodes samples and never scales its output to unit length: that is the encoder's part.

mod conversion;
pub mod detector;
mod error;
pub mod learn;
pub mod network;
pub mod pad;
pub mod runtime;
pub mod script;
pub mod trial_run;

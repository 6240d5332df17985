//! Face networks: the input is an aligned face.
//!
//! One file per family, with the keys of its published state dicts. Cropping and alignment are defined by the model
//! package, not here.

pub(super) mod iresnet;
pub(super) mod mbf;
pub(super) mod mobilefacenet;

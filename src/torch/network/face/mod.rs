//! Networks that tell faces apart: an aligned face goes in.
//!
//! One file a family, with the keys of its published state dicts. What a face is cropped and aligned to is the
//! package's business and never decided here.

pub(super) mod iresnet;
pub(super) mod mbf;
pub(super) mod mobilefacenet;

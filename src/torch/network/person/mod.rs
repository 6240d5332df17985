//! Networks that tell persons apart by their looks: a crop of 256 x 128 goes in.
//!
//! One file a family, with the keys of its published state dicts. Never a face and never a walk: those have networks
//! of their own.

pub(super) mod osnet;
pub(super) mod resnet50;

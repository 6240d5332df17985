//! Person re-identification networks: the input is a crop of 256 x 128.
//!
//! One file per family, with the keys of its published state dicts. No face and no gait networks.

pub(super) mod osnet;
pub(super) mod resnet50;

//! (being built)

pub mod prepare;

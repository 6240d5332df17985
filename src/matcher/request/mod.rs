//! What every request has: its context, an optional consistency token, and the fault when it fails.

pub(crate) mod consistency_token;
pub(crate) mod context;
pub(crate) mod fault;

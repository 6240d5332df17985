//! Who asks, until when, and whether it was asked before.

use std::{fmt, sync::Arc, time::Instant};

pub use encoder::Urgency;

/// Who makes a request, as the access layer found out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal(Arc<str>);

impl Principal {
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What every use case knows of its request.
#[derive(Debug, Clone)]
pub struct Context {
    pub principal: Principal,
    /// The caller does not wait longer.
    pub deadline: Instant,
    /// Whether somebody waits for the answer, or it is one of many.
    pub urgency: Urgency,
    /// Set when the caller may ask again under the same id.
    pub once: Option<Once>,
}

/// A request that must take effect at most once.
#[derive(Debug, Clone)]
pub struct Once {
    pub method: &'static str,
    pub request_id: String,
    /// sha256 over the request without its id.
    pub body_hash: [u8; 32],
}

//! The context of a request: caller, deadline, urgency, idempotency.

use std::{fmt, sync::Arc, time::Instant};

pub use encoder::Urgency;

/// The caller of a request, as the access layer identified it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal(Arc<str>);

impl Principal {
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    #[must_use]
    pub fn name(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The properties of a request that every use case receives.
#[derive(Debug, Clone)]
pub struct Context {
    pub principal: Principal,
    /// After this instant the caller no longer waits.
    pub deadline: Instant,
    /// Interactive, or one of many samples of a batch.
    pub urgency: Urgency,
    /// Set when the caller may repeat the request under the same id.
    pub idempotent: Option<IdempotentRequest>,
}

/// A request that takes effect at most once.
#[derive(Debug, Clone)]
pub struct IdempotentRequest {
    pub method: &'static str,
    pub request_id: String,
    /// SHA-256 of the request without its id.
    pub body_hash: [u8; 32],
}

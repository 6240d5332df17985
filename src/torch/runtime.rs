//! How a thread that runs networks is set up.

use std::marker::PhantomData;

/// Gradients are off and libtorch computes on the calling thread alone, until this is dropped.
#[must_use = "gradients come back on when this is dropped"]
pub struct Settled {
    _gradients_off: tch::NoGradGuard,
    /// The settings belong to the thread that made them.
    _stays_here: PhantomData<*const ()>,
}

/// Settles the calling thread for inference; call it first in every thread that builds or runs a network.
///
/// One intra-op thread: the house scales over whole workers, and OpenMP teams of several workers on the same cores
/// were measured to be slower by more than an order of magnitude.
pub fn settle_thread() -> Settled {
    tch::set_num_threads(1);
    Settled { _gradients_off: tch::no_grad_guard(), _stays_here: PhantomData }
}

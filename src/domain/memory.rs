//! The memory that requests hold together.

use std::{
    fmt,
    future::poll_fn,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Poll, Waker},
};

use thiserror::Error;

/// A share of at most so many bytes is small: it may take from the reserve too.
const SMALL_SHARE_BYTES_MAX: usize = 128 << 10;
/// The part of a budget that is reserved for small shares, as a divisor: a sixteenth.
const RESERVED_PART: usize = 16;

/// The bytes that requests may hold together. Clones are one budget.
///
/// A request takes a [`MemoryShare`] and lets it grow as its bytes arrive. Large shares leave a sixteenth of the budget to
/// small ones, so small requests are served beside large ones that stall.
#[derive(Clone)]
pub struct MemoryBudget(Arc<Budget>);

struct Budget {
    bytes_max: usize,
    taken: AtomicUsize,
    /// Those who wait for bytes that others give back.
    waiting: Mutex<Vec<Waker>>,
}

/// Why a share cannot grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MemoryRefusal {
    /// Others hold the bytes now.
    #[error("other requests hold the memory of this server")]
    Busy,
    /// The whole budget is smaller.
    #[error("the request needs more than the {bytes_max} bytes of memory that one request may take on this server")]
    TooLarge { bytes_max: usize },
}

impl MemoryBudget {
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Budget { bytes_max, taken: AtomicUsize::new(0), waiting: Mutex::default() }))
    }

    /// A share without bytes.
    #[must_use]
    pub fn share(&self) -> MemoryShare {
        MemoryShare { budget: self.clone(), bytes: 0 }
    }

    /// The bytes of all shares.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.0.taken.load(Ordering::Relaxed)
    }

    /// The most bytes of one large share.
    fn large_max(&self) -> usize {
        self.0.bytes_max - self.0.bytes_max / RESERVED_PART
    }
}

impl fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBudget").field("bytes_max", &self.0.bytes_max).field("taken", &self.taken()).finish()
    }
}

/// Bytes of a budget. Gives them back when it is dropped.
#[derive(Debug)]
pub struct MemoryShare {
    budget: MemoryBudget,
    bytes: usize,
}

impl MemoryShare {
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes further bytes, all of them or none.
    ///
    /// # Errors
    /// See [`MemoryRefusal`].
    pub fn grow(&mut self, bytes: usize) -> Result<(), MemoryRefusal> {
        let whole = self.bytes.saturating_add(bytes);
        let large_max = self.budget.large_max();
        let is_small = whole <= SMALL_SHARE_BYTES_MAX;
        if !is_small && whole > large_max {
            return Err(MemoryRefusal::TooLarge { bytes_max: large_max });
        }
        let limit = if is_small { self.budget.0.bytes_max } else { large_max };
        let more = |taken: usize| taken.checked_add(bytes).filter(|taken| *taken <= limit);
        match self.budget.0.taken.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more) {
            Ok(_) => {
                self.bytes = whole;
                Ok(())
            }
            Err(_) => Err(MemoryRefusal::Busy),
        }
    }

    /// Takes further bytes as soon as others have given them back. Whoever gives up waiting drops the future.
    ///
    /// # Errors
    /// [`MemoryRefusal::TooLarge`] when they will never be there.
    pub async fn grow_when_free(&mut self, bytes: usize) -> Result<(), MemoryRefusal> {
        poll_fn(|cx| {
            match self.grow(bytes) {
                Err(MemoryRefusal::Busy) => {}
                grown => return Poll::Ready(grown),
            }
            let budget = Arc::clone(&self.budget.0);
            let mut waiting = budget.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            // Bytes that were given back meanwhile woke nobody.
            match self.grow(bytes) {
                Err(MemoryRefusal::Busy) => {}
                grown => return Poll::Ready(grown),
            }
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// Gives bytes back; at most those that the share has.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.budget.0.taken.fetch_sub(bytes, Ordering::AcqRel);
        let waiting = std::mem::take(&mut *self.budget.0.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Wake},
    };

    use super::*;

    const BUDGET: usize = 16 << 20;
    const LARGE_MAX: usize = 15 << 20;

    #[test]
    fn shares_take_from_one_budget_and_give_back() {
        let budget = MemoryBudget::new(BUDGET);
        let (mut one, mut other) = (budget.share(), budget.share());
        one.grow(10 << 20).expect("free");
        assert_eq!(other.grow(6 << 20), Err(MemoryRefusal::Busy));
        assert_eq!(other.bytes(), 0, "nothing was taken");
        one.shrink(6 << 20);
        other.grow(6 << 20).expect("given back");
        assert_eq!(budget.taken(), 10 << 20);
        drop((one, other));
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn small_shares_find_room_beside_large_ones() {
        let budget = MemoryBudget::new(BUDGET);
        let mut large = budget.share();
        large.grow(LARGE_MAX).expect("free");
        let mut small: Vec<MemoryShare> = (0..8).map(|_| budget.share()).collect();
        for share in &mut small {
            share.grow(SMALL_SHARE_BYTES_MAX).expect("of the reserve");
            assert_eq!(share.grow(1), Err(MemoryRefusal::Busy), "no longer small");
        }
        assert_eq!(budget.share().grow(1), Err(MemoryRefusal::Busy), "the reserve has an end too");
    }

    #[test]
    fn a_share_that_can_never_be_had_is_told_apart_from_one_of_later() {
        let budget = MemoryBudget::new(BUDGET);
        assert_eq!(budget.share().grow(LARGE_MAX + 1), Err(MemoryRefusal::TooLarge { bytes_max: LARGE_MAX }));
        assert_eq!(budget.share().grow(usize::MAX), Err(MemoryRefusal::TooLarge { bytes_max: LARGE_MAX }));
    }

    #[test]
    fn who_waits_is_woken_when_bytes_are_given_back() {
        struct Woken(AtomicUsize);
        impl Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let budget = MemoryBudget::new(BUDGET);
        let (mut first, mut second) = (budget.share(), budget.share());
        first.grow(LARGE_MAX).expect("free");
        let woken = Arc::new(Woken(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut waiting = pin!(second.grow_when_free(1 << 20));
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(first);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert_eq!(waiting.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(Ok(())));
    }
}

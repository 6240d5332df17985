//! Prefetch of codes into the processor's cache.
#![cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "a hint to the processor is a foreign function here"))]

use crate::rows::codes::Code;

/// Starts loading the code into the cache. A graph search reads memory at random addresses, and can compare one code
/// while the next is loaded.
#[inline]
pub(super) fn prefetch(code: Code<'_>) {
    #[cfg(target_arch = "x86_64")]
    for line in code.numbers.chunks(64) {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint reads nothing that the program could see; every processor of this kind has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = code;
}

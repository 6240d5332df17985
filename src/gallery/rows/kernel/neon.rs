//! Kernel for ARM: eight products in two instructions.

use core::arch::aarch64::{
    int16x8_t, int32x4_t, vaddq_s32, vaddvq_s32, vandq_s16, vdupq_n_s16, vdupq_n_s32, vget_low_s16, vld1_s8, vld1_u8,
    vld1q_s16, vmlal_high_s16, vmlal_s16, vmovl_s8, vmovl_u8, vreinterpretq_s16_u16, vshrq_n_s16,
};

const STEP: usize = 8;

/// These processors prefetch by themselves, and Rust has no stable prefetch instruction for them.
#[target_feature(enable = "neon")]
#[inline]
fn prefetch(_ahead: *const i8) {}

#[target_feature(enable = "neon")]
#[inline]
fn zero() -> [int32x4_t; 2] {
    [vdupq_n_s32(0); 2]
}

/// # Safety
/// 8 codes lie at `codes`.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn widen(codes: *const i8) -> int16x8_t {
    // SAFETY: the caller's.
    vmovl_s8(unsafe { vld1_s8(codes) })
}

/// # Safety
/// 8 bytes lie at `codes`.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn widen_nibbles(codes: *const i8) -> (int16x8_t, int16x8_t) {
    // SAFETY: the caller's.
    let bytes = vreinterpretq_s16_u16(vmovl_u8(unsafe { vld1_u8(codes.cast::<u8>()) }));
    (vandq_s16(bytes, vdupq_n_s16(15)), vshrq_n_s16::<4>(bytes))
}

/// # Safety
/// 8 numbers lie at `numbers`.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn load(numbers: *const i16) -> int16x8_t {
    // SAFETY: the caller's.
    unsafe { vld1q_s16(numbers) }
}

#[target_feature(enable = "neon")]
#[inline]
fn add_products(sums: [int32x4_t; 2], one: int16x8_t, other: int16x8_t) -> [int32x4_t; 2] {
    [vmlal_s16(sums[0], vget_low_s16(one), vget_low_s16(other)), vmlal_high_s16(sums[1], one, other)]
}

#[target_feature(enable = "neon")]
#[inline]
fn total(sums: [int32x4_t; 2]) -> i32 {
    vaddvq_s32(vaddq_s32(sums[0], sums[1]))
}

super::kernel!("neon");

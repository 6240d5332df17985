//! Kernels for x86: 16 products per instruction with AVX2, 32 with AVX-512 VNNI.
#![expect(clippy::cast_ptr_alignment, reason = "the loads are those that take any address")]

pub(super) mod avx2 {
    use core::arch::x86_64::{
        __m128i, __m256i, _MM_HINT_T0, _mm_add_epi32, _mm_cvtsi128_si32, _mm_loadu_si128, _mm_prefetch,
        _mm_shuffle_epi32, _mm256_add_epi32, _mm256_and_si256, _mm256_castsi256_si128, _mm256_cvtepi8_epi16,
        _mm256_cvtepu8_epi16, _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_set1_epi16,
        _mm256_setzero_si256, _mm256_srli_epi16,
    };

    const STEP: usize = 16;

    #[target_feature(enable = "avx2")]
    #[inline]
    fn prefetch(ahead: *const i8) {
        _mm_prefetch::<_MM_HINT_T0>(ahead);
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn zero() -> __m256i {
        _mm256_setzero_si256()
    }

    /// # Safety
    /// 16 codes lie at `codes`.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn widen(codes: *const i8) -> __m256i {
        // SAFETY: the caller's.
        _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(codes.cast::<__m128i>()) })
    }

    /// # Safety
    /// 16 bytes lie at `codes`.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn widen_nibbles(codes: *const i8) -> (__m256i, __m256i) {
        // SAFETY: the caller's.
        let bytes = _mm256_cvtepu8_epi16(unsafe { _mm_loadu_si128(codes.cast::<__m128i>()) });
        (_mm256_and_si256(bytes, _mm256_set1_epi16(15)), _mm256_srli_epi16::<4>(bytes))
    }

    /// # Safety
    /// 16 numbers lie at `numbers`.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn load(numbers: *const i16) -> __m256i {
        // SAFETY: the caller's.
        unsafe { _mm256_loadu_si256(numbers.cast::<__m256i>()) }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn add_products(sums: __m256i, one: __m256i, other: __m256i) -> __m256i {
        _mm256_add_epi32(sums, _mm256_madd_epi16(one, other))
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn total(sums: __m256i) -> i32 {
        let four = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
        let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b00_00_11_10>(four));
        _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b00_00_00_01>(two)))
    }

    super::super::kernel!("avx2");
}

pub(super) mod avx512 {
    use core::arch::x86_64::{
        __m256i, __m512i, _MM_HINT_T0, _mm_prefetch, _mm256_loadu_si256, _mm512_and_si512, _mm512_cvtepi8_epi16,
        _mm512_cvtepu8_epi16, _mm512_dpwssd_epi32, _mm512_loadu_si512, _mm512_reduce_add_epi32, _mm512_set1_epi16,
        _mm512_setzero_si512, _mm512_srli_epi16,
    };

    const STEP: usize = 32;

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[inline]
    fn prefetch(ahead: *const i8) {
        _mm_prefetch::<_MM_HINT_T0>(ahead);
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[inline]
    fn zero() -> __m512i {
        _mm512_setzero_si512()
    }

    /// # Safety
    /// 32 codes lie at `codes`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[inline]
    unsafe fn widen(codes: *const i8) -> __m512i {
        // SAFETY: the caller's.
        _mm512_cvtepi8_epi16(unsafe { _mm256_loadu_si256(codes.cast::<__m256i>()) })
    }

    /// # Safety
    /// 32 bytes lie at `codes`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[inline]
    unsafe fn widen_nibbles(codes: *const i8) -> (__m512i, __m512i) {
        // SAFETY: the caller's.
        let bytes = _mm512_cvtepu8_epi16(unsafe { _mm256_loadu_si256(codes.cast::<__m256i>()) });
        (_mm512_and_si512(bytes, _mm512_set1_epi16(15)), _mm512_srli_epi16::<4>(bytes))
    }

    /// # Safety
    /// 32 numbers lie at `numbers`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[inline]
    unsafe fn load(numbers: *const i16) -> __m512i {
        // SAFETY: the caller's.
        unsafe { _mm512_loadu_si512(numbers.cast::<__m512i>()) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[inline]
    fn add_products(sums: __m512i, one: __m512i, other: __m512i) -> __m512i {
        _mm512_dpwssd_epi32(sums, one, other)
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[inline]
    fn total(sums: __m512i) -> i32 {
        _mm512_reduce_add_epi32(sums)
    }

    super::super::kernel!("avx512f,avx512bw,avx512vnni");
}

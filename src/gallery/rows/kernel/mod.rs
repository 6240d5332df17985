//! Integer dot products of probes and codes, with the widest instructions of the processor.
//!
//! Probe values have 16 bits, codes 8 (or 4). Every kernel computes the same integers, so answers do not depend on the
//! machine. A row is read and widened once for up to four probes.
//!
//! Sums must fit 32 bits; [`probe_max`] limits the probe's values so that they do.
#![expect(unsafe_code, reason = "calls to code for processor features, after asking the processor whether it has them")]

#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

/// Rows are zero-padded to a multiple of this many bytes: a cache line, and a multiple of every register.
pub(crate) const PADDING: usize = 64;

/// Instruction set of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 with VNNI, which multiplies and adds in one instruction.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

/// Layout of codes in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Packing {
    /// One code per byte.
    #[default]
    Bytes,
    /// Two codes per byte, each from -8 to 7 with 8 added. In a line of 64 bytes, byte n holds code n of 128 in its
    /// lower half and code n + 64 in its upper half, so that one register of bytes becomes two registers of codes in
    /// the probe's order.
    Nibbles,
}

/// Rows of codes that follow each other in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PackedRows<'c> {
    /// Row after row, padding included.
    pub(crate) codes: &'c [i8],
    pub(crate) packing: Packing,
    /// Bytes per row.
    pub(crate) stride: usize,
}

/// Bytes per line of packed codes.
pub(crate) const LINE_BYTES: usize = 64;
/// Added to a 4-bit code from -8 to 7.
pub(crate) const NIBBLE_ZERO: i8 = 8;

impl Packing {
    pub(crate) fn codes_in(self, bytes: usize) -> usize {
        match self {
            Self::Bytes => bytes,
            Self::Nibbles => bytes * 2,
        }
    }

    /// Bytes per row of `codes` codes, padding included.
    pub(crate) fn stride(self, codes: usize) -> usize {
        match self {
            Self::Bytes => codes.next_multiple_of(PADDING),
            Self::Nibbles => codes.next_multiple_of(2 * LINE_BYTES) / 2,
        }
    }
}

/// Largest absolute value of a probe with `stride` padded values, such that no dot product with codes from -127 to 127
/// exceeds 32 bits.
pub(crate) fn probe_max(stride: usize) -> i16 {
    let most = i32::MAX.unsigned_abs() as usize / (127 * stride.max(1));
    i16::try_from(most).unwrap_or(i16::MAX)
}

impl Kernel {
    /// The fastest kernel of this processor.
    pub(crate) fn fastest() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni")
        {
            return Self::Avx512;
        }
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            return Self::Avx2;
        }
        #[cfg(target_arch = "aarch64")]
        return Self::Neon;
        #[cfg(not(target_arch = "aarch64"))]
        Self::Portable
    }

    /// Dot products of each probe with each row: `sums[probe * rows + row]`. A row has `stride` bytes, a multiple of
    /// [`PADDING`]; a probe has as many values as a row has codes.
    pub(crate) fn sums(self, probes: &[&[i16]], packed: PackedRows<'_>, sums: &mut Vec<i32>) {
        let PackedRows { codes, packing, stride } = packed;
        let rows = codes.len() / stride;
        assert!(stride.is_multiple_of(PADDING) && codes.len() == rows * stride, "rows are padded");
        assert!(probes.iter().all(|probe| probe.len() == packing.codes_in(stride)), "a probe is as long as a row");
        sums.clear();
        sums.resize(probes.len() * rows, 0);
        for (probes, sums) in probes.chunks(PROBES_MAX).zip(sums.chunks_mut(PROBES_MAX * rows.max(1))) {
            match self {
                Self::Portable => portable::sums(probes, packed, sums),
                // SAFETY: `fastest` gives this only to a processor that has the features.
                #[cfg(target_arch = "x86_64")]
                Self::Avx2 => unsafe { x86::avx2::sums(probes, packed, sums) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Self::Avx512 => unsafe { x86::avx512::sums(probes, packed, sums) },
                // SAFETY: every processor of this architecture has it.
                #[cfg(target_arch = "aarch64")]
                Self::Neon => unsafe { neon::sums(probes, packed, sums) },
            }
        }
    }

    /// Dot product of a probe and one row of codes.
    #[inline]
    pub(crate) fn sum(self, probe: &[i16], codes: &[i8]) -> i32 {
        assert!(probe.len() == codes.len() && codes.len().is_multiple_of(PADDING), "rows are padded");
        match self {
            Self::Portable => portable::sum(probe, codes),
            // SAFETY: `fastest` gives this only to a processor that has the features.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { x86::avx2::sum(probe, codes) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { x86::avx512::sum(probe, codes) },
            // SAFETY: every processor of this architecture has it.
            #[cfg(target_arch = "aarch64")]
            Self::Neon => unsafe { neon::sum(probe, codes) },
        }
    }

    /// Dot product of two rows of codes.
    pub(crate) fn sum_of_codes(self, one: &[i8], other: &[i8]) -> i32 {
        assert!(one.len() == other.len() && one.len().is_multiple_of(PADDING), "rows are padded");
        match self {
            Self::Portable => portable::sum_of_codes(one, other),
            // SAFETY: `fastest` gives this only to a processor that has the features.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { x86::avx2::sum_of_codes(one, other) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { x86::avx512::sum_of_codes(one, other) },
            // SAFETY: every processor of this architecture has it.
            #[cfg(target_arch = "aarch64")]
            Self::Neon => unsafe { neon::sum_of_codes(one, other) },
        }
    }
}

/// Dot product of the probe with a row of zero codes, which are stored as [`NIBBLE_ZERO`].
fn zero_sum(probe: &[i16], packing: Packing) -> i32 {
    match packing {
        Packing::Bytes => 0,
        Packing::Nibbles => probe.iter().map(|number| i32::from(*number) * i32::from(NIBBLE_ZERO)).sum(),
    }
}

/// Probes that share one read of a row.
const PROBES_MAX: usize = 4;

/// Prefetch distance. Without explicit prefetch the memory bandwidth is a third lower.
const AHEAD_BYTES: usize = 4096;

/// Writes `sums`, `sum` and `sum_of_codes` for one instruction set, from seven functions of the module: `zero`,
/// `prefetch`, `widen` (codes to 16 bits), `widen_nibbles` (lower halves, upper halves), `load` (probe values),
/// `add_products`, `total`. `STEP` values are read at once. One row at a time: several rows side by side would save
/// loads of the probe but halve the memory bandwidth.
macro_rules! kernel {
    ($features:literal) => {
        use crate::rows::kernel::{AHEAD_BYTES, LINE_BYTES, PADDING, PackedRows, Packing, zero_sum};

        #[target_feature(enable = $features)]
        pub(in crate::rows::kernel) fn sums(probes: &[&[i16]], packed: PackedRows<'_>, sums: &mut [i32]) {
            match *probes {
                [a] => sums_of([a], packed, sums),
                [a, b] => sums_of([a, b], packed, sums),
                [a, b, c] => sums_of([a, b, c], packed, sums),
                [a, b, c, d] => sums_of([a, b, c, d], packed, sums),
                _ => {}
            }
        }

        #[target_feature(enable = $features)]
        fn sums_of<const P: usize>(probes: [&[i16]; P], packed: PackedRows<'_>, sums: &mut [i32]) {
            let PackedRows { codes, packing, stride } = packed;
            let rows = codes.len() / stride;
            let zeros = probes.map(|probe| zero_sum(probe, packing));
            for (row, codes) in codes.chunks_exact(stride).enumerate() {
                let found = match packing {
                    Packing::Bytes => sums_of_bytes(probes, codes),
                    Packing::Nibbles => sums_of_nibbles(probes, codes),
                };
                for probe in 0..P {
                    sums[probe * rows + row] = found[probe] - zeros[probe];
                }
            }
        }

        #[target_feature(enable = $features)]
        #[inline]
        fn sums_of_bytes<const P: usize>(probes: [&[i16]; P], codes: &[i8]) -> [i32; P] {
            assert!(probes.iter().all(|probe| probe.len() == codes.len()));
            let mut sums = [zero(); P];
            let mut at = 0;
            while at < codes.len() {
                if at.is_multiple_of(PADDING) {
                    prefetch(codes.as_ptr().wrapping_add(at + AHEAD_BYTES));
                }
                // SAFETY: `at + STEP` is at most the length, because STEP divides it.
                let wide = unsafe { widen(codes.as_ptr().add(at)) };
                for probe in 0..P {
                    // SAFETY: as above; probes are as long as rows.
                    let numbers = unsafe { load(probes[probe].as_ptr().add(at)) };
                    sums[probe] = add_products(sums[probe], wide, numbers);
                }
                at += STEP;
            }
            sums.map(|sums| total(sums))
        }

        #[target_feature(enable = $features)]
        #[inline]
        fn sums_of_nibbles<const P: usize>(probes: [&[i16]; P], codes: &[i8]) -> [i32; P] {
            assert!(probes.iter().all(|probe| probe.len() == 2 * codes.len()));
            let mut sums = [zero(); P];
            for (line, codes) in codes.chunks_exact(LINE_BYTES).enumerate() {
                prefetch(codes.as_ptr().wrapping_add(AHEAD_BYTES));
                let mut at = 0;
                while at < LINE_BYTES {
                    // SAFETY: `at + STEP` is at most a line, because STEP divides it.
                    let (low, high) = unsafe { widen_nibbles(codes.as_ptr().add(at)) };
                    for probe in 0..P {
                        // SAFETY: a line holds the codes of two lines of numbers, and probes are as long as rows.
                        let numbers = unsafe { probes[probe].as_ptr().add(2 * LINE_BYTES * line + at) };
                        // SAFETY: as above.
                        let (first, second) = unsafe { (load(numbers), load(numbers.add(LINE_BYTES))) };
                        sums[probe] = add_products(add_products(sums[probe], low, first), high, second);
                    }
                    at += STEP;
                }
            }
            sums.map(|sums| total(sums))
        }

        #[target_feature(enable = $features)]
        pub(in crate::rows::kernel) fn sum(probe: &[i16], codes: &[i8]) -> i32 {
            assert!(probe.len() == codes.len());
            let mut sums = zero();
            let mut at = 0;
            while at < codes.len() {
                // SAFETY: `at + STEP` is at most the length, because STEP divides it.
                let (numbers, codes) = unsafe { (load(probe.as_ptr().add(at)), widen(codes.as_ptr().add(at))) };
                sums = add_products(sums, numbers, codes);
                at += STEP;
            }
            total(sums)
        }

        #[target_feature(enable = $features)]
        pub(in crate::rows::kernel) fn sum_of_codes(one: &[i8], other: &[i8]) -> i32 {
            assert!(one.len() == other.len());
            let mut sums = zero();
            let mut at = 0;
            while at < one.len() {
                // SAFETY: `at + STEP` is at most the length, because STEP divides it.
                let (a, b) = unsafe { (widen(one.as_ptr().add(at)), widen(other.as_ptr().add(at))) };
                sums = add_products(sums, a, b);
                at += STEP;
            }
            total(sums)
        }
    };
}
use kernel;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kernels() -> Vec<Kernel> {
        let mut kernels = vec![Kernel::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                kernels.push(Kernel::Avx2);
            }
            kernels.push(Kernel::fastest());
        }
        #[cfg(target_arch = "aarch64")]
        kernels.push(Kernel::Neon);
        kernels
    }

    fn expected(probe: &[i16], row: &[i8]) -> i64 {
        probe.iter().zip(row).map(|(p, c)| i64::from(*p) * i64::from(*c)).sum()
    }

    /// Values up to the limit, sometimes all at the limit: the sums closest to 32 bits.
    fn numbers(len: usize, limit: i16) -> impl Strategy<Value = Vec<i16>> {
        prop_oneof![
            4 => prop::collection::vec(-limit..=limit, len),
            1 => Just(vec![limit; len]),
            1 => Just(vec![-limit; len]),
        ]
    }

    fn cases() -> impl Strategy<Value = (Vec<Vec<i16>>, Vec<i8>, usize)> {
        prop_oneof![Just(64_usize), Just(128), Just(512), Just(8192)].prop_flat_map(|stride| {
            let most = if stride > 1000 { 3 } else { 11 };
            let probes = prop::collection::vec(numbers(stride, probe_max(stride)), 0..7);
            let codes = prop::collection::vec(numbers(stride, 127), 0..most);
            let narrow = |rows: Vec<Vec<i16>>| {
                rows.concat().into_iter().map(|code| i8::try_from(code).expect("at most 127")).collect()
            };
            (probes, codes.prop_map(narrow), Just(stride))
        })
    }

    proptest! {
        #[test]
        fn every_kernel_computes_the_same_whole_numbers((probes, codes, stride) in cases()) {
            let rows = codes.len() / stride;
            let wanted: Vec<i64> =
                probes.iter().flat_map(|p| codes.chunks(stride).map(move |row| expected(p, row))).collect();
            let probes: Vec<&[i16]> = probes.iter().map(Vec::as_slice).collect();
            for kernel in kernels() {
                let mut sums = vec![7; 3];
                kernel.sums(&probes, PackedRows { codes: &codes, packing: Packing::Bytes, stride }, &mut sums);
                prop_assert_eq!(sums.iter().map(|s| i64::from(*s)).collect::<Vec<_>>(), wanted.clone(), "{:?}", kernel);
                if rows >= 2 {
                    let (one, other) = (&codes[..stride], &codes[stride..2 * stride]);
                    let wide: Vec<i16> = one.iter().map(|c| i16::from(*c)).collect();
                    prop_assert_eq!(i64::from(kernel.sum_of_codes(one, other)), expected(&wide, other));
                    prop_assert_eq!(i64::from(kernel.sum(&wide, other)), expected(&wide, other));
                }
            }
        }
    }

    proptest! {
        /// Every byte holds two valid codes, so any bytes are a valid input.
        #[test]
        fn every_kernel_unpacks_the_same_nibbles(
            bytes in prop::collection::vec(any::<i8>(), 192), numbers in prop::collection::vec(-300_i16..300, 384),
        ) {
            let code = |nibble: u8| i64::from(nibble) - i64::from(NIBBLE_ZERO);
            let unpacked = bytes.chunks(LINE_BYTES).flat_map(|line| {
                let (low, high) = (|byte: &i8| code(byte.cast_unsigned() & 15), |byte: &i8| code(byte.cast_unsigned() >> 4));
                line.iter().map(low).chain(line.iter().map(high)).collect::<Vec<_>>()
            });
            let wanted: i64 = unpacked.zip(&numbers).map(|(code, number)| code * i64::from(*number)).sum();
            for kernel in kernels() {
                let mut sums = Vec::new();
                kernel.sums(&[&numbers, &numbers], PackedRows { codes: &bytes, packing: Packing::Nibbles, stride: 192 }, &mut sums);
                prop_assert_eq!(sums.iter().map(|s| i64::from(*s)).collect::<Vec<_>>(), [wanted; 2], "{:?}", kernel);
            }
        }
    }

    #[test]
    fn probes_keep_their_precision_up_to_512_numbers() {
        assert_eq!((probe_max(64), probe_max(512), probe_max(8192)), (i16::MAX, i16::MAX, 2064));
    }
}

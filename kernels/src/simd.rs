//! Functions compiled for each level of SIMD.

/// Defines a function whose body is compiled three times on x86-64, for AVX-512, for AVX2 with
/// FMA, and for whatever the build targets; the processor's best is taken at run time. Elsewhere
/// it is compiled once: NEON is part of every 64-bit ARM.
///
/// Inside, loops over slices become vector code where they call nothing but `inline(always)`
/// functions. The results of all levels are the same, bit for bit: fused multiply-adds are written
/// out, and sums have an order of their own (`math::sum`).
macro_rules! dispatched {
    (
        $(#[$attribute:meta])*
        $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block
    ) => {
        $(#[$attribute])*
        #[allow(clippy::too_many_arguments, reason = "slices that are read and written together")]
        $visibility fn $name($($argument: $type),*) {
            #[allow(clippy::too_many_arguments)]
            #[inline(always)]
            fn portable($($argument: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[allow(clippy::too_many_arguments)]
                #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma")]
                fn avx512($($argument: $type),*) {
                    portable($($argument),*)
                }

                #[allow(clippy::too_many_arguments)]
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($argument: $type),*) {
                    portable($($argument),*)
                }

                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512cd")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("fma")
                {
                    // SAFETY: the processor has just been found to have every feature that the
                    // function is compiled for (AVX-512 implies AVX2).
                    return unsafe { avx512($($argument),*) };
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: as above.
                    return unsafe { avx2($($argument),*) };
                }
            }
            portable($($argument),*)
        }
    };
}
pub(crate) use dispatched;

/// What the vector loops that are written out for AVX-512 share. Their results are those of the loops
/// that they stand for, bit for bit.
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512 {
    use std::arch::x86_64::*;

    /// Whether the processor has all that such loops are compiled for.
    #[inline]
    pub fn available() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
    }

    /// Sixteen numbers.
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub fn load(from: &[f32; 16]) -> __m512 {
        // SAFETY: sixteen numbers are there.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    pub fn store(to: &mut [f32; 16], value: __m512) {
        // SAFETY: there is room for sixteen numbers.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), value) }
    }

    /// The lanes of so many numbers, fewer than sixteen.
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub fn lanes(numbers: &[f32]) -> __mmask16 {
        (1u16 << numbers.len().min(15)) - 1
    }

    /// Fewer than sixteen numbers, and `rest` in the other lanes.
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub fn load_some(from: &[f32], rest: __m512) -> __m512 {
        // SAFETY: only the lanes of numbers that are there are read.
        unsafe { _mm512_mask_loadu_ps(rest, lanes(from), from.as_ptr()) }
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    pub fn store_some(to: &mut [f32], value: __m512) {
        // SAFETY: only the lanes for which there is room are written.
        unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), lanes(to), value) }
    }

    /// Sum of the lanes in the order of `math::sum`: halves, then halves of those.
    #[target_feature(enable = "avx512f,avx512dq,avx512vl")]
    #[inline]
    pub fn sum(v: __m512) -> f32 {
        let eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v));
        let four = _mm_add_ps(
            _mm256_castps256_ps128(eight),
            _mm256_extractf128_ps::<1>(eight),
        );
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    }
}

/// What the vector loops that are written out for AVX2 share, likewise.
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2 {
    use std::arch::x86_64::*;

    /// Whether the processor has all that such loops are compiled for.
    #[inline]
    pub fn available() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }

    /// Eight numbers.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    pub fn load(from: &[f32; 8]) -> __m256 {
        // SAFETY: eight numbers are there.
        unsafe { _mm256_loadu_ps(from.as_ptr()) }
    }

    #[target_feature(enable = "avx2,fma")]
    #[inline]
    pub fn store(to: &mut [f32; 8], value: __m256) {
        // SAFETY: there is room for eight numbers.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), value) }
    }
}

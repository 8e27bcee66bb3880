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

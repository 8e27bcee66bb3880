//! Dropout masks from counters.
//!
//! An element's mask is a function of a key and of the element's number, so that a backward pass,
//! or another program, draws again what the forward pass drew. Four elements share the 64 bits
//! of one SplitMix64 value, 16 each.

use crate::simd::dispatched;

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The `counter`-th value of SplitMix64's stream with this key.
#[inline(always)]
pub fn bits(key: u64, counter: u64) -> u64 {
    let mut z = key.wrapping_add(counter.wrapping_add(1).wrapping_mul(GOLDEN));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A rate of dropout, as it is compared with 16 random bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    threshold: u64,
    /// What elements that stay are multiplied by.
    pub keep: f32,
}

impl Rate {
    /// `rate` in [0, 1), met to 1 / 65,536.
    pub fn new(rate: f64) -> Self {
        Self {
            threshold: (rate * 65_536.0).round() as u64,
            keep: (1.0 / (1.0 - rate)) as f32,
        }
    }

    /// Whether nothing is dropped.
    pub fn is_zero(self) -> bool {
        self.threshold == 0
    }

    /// What each element is multiplied by, 0 or `keep`; the mask's first element is number
    /// `first` of the key's.
    pub fn mask(self, key: u64, first: usize, mask: &mut [f32]) {
        fill(self, key, first, mask);
    }

    /// Values after dropout; the first value is element number `first` of the key's mask.
    pub fn apply(self, key: u64, first: usize, values: &[f32], dropped: &mut [f32]) {
        assert_eq!(values.len(), dropped.len());
        apply(self, key, first, values, dropped);
    }

    /// The masks of sixteen times 64 bits: enough for the compiler to make whole vectors of it.
    #[inline(always)]
    fn chunk(self, key: u64, counter: u64) -> [f32; CHUNK] {
        let mut drawn = [0u64; CHUNK / 4];
        for (lane, drawn) in drawn.iter_mut().enumerate() {
            *drawn = bits(key, counter + lane as u64);
        }
        let mut mask = [0.0; CHUNK];
        for (element, mask) in mask.iter_mut().enumerate() {
            *mask = self.one(drawn[element / 4], element % 4);
        }
        mask
    }

    /// Masks, or values times their masks, from a multiple of four elements on, by AVX-512 or AVX2 where
    /// the processor has it; returns whether it has.
    #[inline(always)]
    fn by_vectors(
        self,
        key: u64,
        counter: u64,
        values: Option<&[[f32; CHUNK]]>,
        to: &mut [[f32; CHUNK]],
    ) -> bool {
        #[cfg(target_arch = "x86_64")]
        if let Ok(threshold) = u16::try_from(self.threshold) {
            if crate::simd::avx512::available() {
                // SAFETY: the processor has just been found to have what the function is compiled for.
                unsafe { avx512::chunks(threshold, self.keep, key, counter, values, to) };
                return true;
            }
            if crate::simd::avx2::available() {
                // SAFETY: as above.
                unsafe { avx2::chunks(threshold, self.keep, key, counter, values, to) };
                return true;
            }
        }
        let _ = (key, counter, values, to);
        false
    }

    /// The mask of an element by its number.
    #[inline(always)]
    fn single(self, key: u64, element: usize) -> f32 {
        self.one(bits(key, element as u64 / 4), element % 4)
    }

    #[inline(always)]
    fn one(self, value: u64, lane: usize) -> f32 {
        let drawn = (value >> (16 * lane)) & 0xffff;
        if drawn >= self.threshold {
            self.keep
        } else {
            0.0
        }
    }
}

const CHUNK: usize = 64;

dispatched! {
    fn fill(rate: Rate, key: u64, first: usize, mask: &mut [f32]) {
        let lead = mask.len().min(first.next_multiple_of(4) - first);
        let (lead, mask) = mask.split_at_mut(lead);
        for (element, mask) in (first..).zip(lead.iter_mut()) {
            *mask = rate.single(key, element);
        }
        let mut element = first + lead.len();
        let (chunks, rest) = mask.as_chunks_mut::<CHUNK>();
        if rate.by_vectors(key, element as u64 / 4, None, chunks) {
            element += CHUNK * chunks.len();
        } else {
            for mask in chunks {
                *mask = rate.chunk(key, element as u64 / 4);
                element += CHUNK;
            }
        }
        for (element, mask) in (element..).zip(rest) {
            *mask = rate.single(key, element);
        }
    }
}

dispatched! {
    fn apply(rate: Rate, key: u64, first: usize, values: &[f32], dropped: &mut [f32]) {
        let lead = dropped.len().min(first.next_multiple_of(4) - first);
        let (lead, dropped) = dropped.split_at_mut(lead);
        let (lead_values, values) = values.split_at(lead.len());
        for ((element, dropped), value) in (first..).zip(lead.iter_mut()).zip(lead_values) {
            *dropped = value * rate.single(key, element);
        }
        let mut element = first + lead.len();
        let (chunks, rest) = dropped.as_chunks_mut::<CHUNK>();
        let (value_chunks, value_rest) = values.as_chunks::<CHUNK>();
        if rate.by_vectors(key, element as u64 / 4, Some(value_chunks), chunks) {
            element += CHUNK * chunks.len();
        } else {
            for (dropped, values) in chunks.iter_mut().zip(value_chunks) {
                let mask = rate.chunk(key, element as u64 / 4);
                for i in 0..CHUNK {
                    dropped[i] = values[i] * mask[i];
                }
                element += CHUNK;
            }
        }
        for ((element, dropped), value) in (element..).zip(rest).zip(value_rest) {
            *dropped = value * rate.single(key, element);
        }
    }
}

/// What [`Rate::chunk`] does, written out for AVX-512: sixteen bits of a draw are a lane.
#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    use super::{CHUNK, GOLDEN};
    use crate::simd::avx512::{load, store};

    /// Draws in a vector, of four elements each.
    const DRAWS: u64 = 8;

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub fn chunks(
        threshold: u16,
        keep: f32,
        key: u64,
        counter: u64,
        values: Option<&[[f32; CHUNK]]>,
        to: &mut [[f32; CHUNK]],
    ) {
        let (threshold, keep) = (_mm512_set1_epi16(threshold as i16), _mm512_set1_ps(keep));
        let golden = |times: u64| GOLDEN.wrapping_mul(times) as i64;
        let lanes = _mm512_setr_epi64(
            golden(1),
            golden(2),
            golden(3),
            golden(4),
            golden(5),
            golden(6),
            golden(7),
            golden(8),
        );
        let first = key.wrapping_add(counter.wrapping_mul(GOLDEN)) as i64;
        let mut state = _mm512_add_epi64(_mm512_set1_epi64(first), lanes);
        let step = _mm512_set1_epi64(golden(DRAWS));
        for (number, to) in to.iter_mut().enumerate() {
            for (pair, to) in to.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                let kept = _mm512_cmpge_epu16_mask(mixed(state), threshold);
                state = _mm512_add_epi64(state, step);
                for (half, to) in to.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                    let mask = _mm512_maskz_mov_ps((kept >> (16 * half)) as __mmask16, keep);
                    let result = match values {
                        Some(values) => {
                            let values = values[number].as_chunks::<16>().0;
                            _mm512_mul_ps(load(&values[2 * pair + half]), mask)
                        }
                        None => mask,
                    };
                    store(to, result);
                }
            }
        }
    }

    /// SplitMix64's output of eight states.
    #[target_feature(enable = "avx512f,avx512dq")]
    #[inline]
    fn mixed(z: __m512i) -> __m512i {
        let z = _mm512_xor_si512(z, _mm512_srli_epi64::<30>(z));
        let z = _mm512_mullo_epi64(z, _mm512_set1_epi64(0xbf58_476d_1ce4_e5b9_u64 as i64));
        let z = _mm512_xor_si512(z, _mm512_srli_epi64::<27>(z));
        let z = _mm512_mullo_epi64(z, _mm512_set1_epi64(0x94d0_49bb_1331_11eb_u64 as i64));
        _mm512_xor_si512(z, _mm512_srli_epi64::<31>(z))
    }
}

/// The same for AVX2.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{CHUNK, GOLDEN};
    use crate::simd::avx2::{load, store};

    /// Draws in a vector, of four elements each.
    const DRAWS: u64 = 4;

    #[target_feature(enable = "avx2,fma")]
    pub fn chunks(
        threshold: u16,
        keep: f32,
        key: u64,
        counter: u64,
        values: Option<&[[f32; CHUNK]]>,
        to: &mut [[f32; CHUNK]],
    ) {
        let threshold = _mm256_set1_epi16(threshold as i16);
        let keep = _mm256_set1_ps(keep);
        let golden = |times: u64| GOLDEN.wrapping_mul(times) as i64;
        let lanes = _mm256_setr_epi64x(golden(1), golden(2), golden(3), golden(4));
        let first = key.wrapping_add(counter.wrapping_mul(GOLDEN)) as i64;
        let mut state = _mm256_add_epi64(_mm256_set1_epi64x(first), lanes);
        let step = _mm256_set1_epi64x(golden(DRAWS));
        for (number, to) in to.iter_mut().enumerate() {
            for (pair, to) in to.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let drawn = mixed(state);
                state = _mm256_add_epi64(state, step);
                // Sixteen times all bits or none: whether drawn ≥ threshold.
                let kept = _mm256_cmpeq_epi16(_mm256_max_epu16(drawn, threshold), drawn);
                let halves = [
                    _mm256_castsi256_si128(kept),
                    _mm256_extracti128_si256::<1>(kept),
                ];
                let halves = halves.into_iter().zip(to.as_chunks_mut::<8>().0);
                for (half, (kept, to)) in halves.enumerate() {
                    let kept = _mm256_castsi256_ps(_mm256_cvtepi16_epi32(kept));
                    let mask = _mm256_and_ps(kept, keep);
                    let result = match values {
                        Some(values) => {
                            let values = values[number].as_chunks::<8>().0;
                            _mm256_mul_ps(load(&values[2 * pair + half]), mask)
                        }
                        None => mask,
                    };
                    store(to, result);
                }
            }
        }
    }

    /// SplitMix64's output of four states.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn mixed(z: __m256i) -> __m256i {
        let z = _mm256_xor_si256(z, _mm256_srli_epi64::<30>(z));
        let z = multiplied(z, 0xbf58_476d_1ce4_e5b9);
        let z = _mm256_xor_si256(z, _mm256_srli_epi64::<27>(z));
        let z = multiplied(z, 0x94d0_49bb_1331_11eb);
        _mm256_xor_si256(z, _mm256_srli_epi64::<31>(z))
    }

    /// The lower 64 bits of each product, from products of halves.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn multiplied(z: __m256i, by: u64) -> __m256i {
        let low = _mm256_set1_epi64x(by as i64);
        let high = _mm256_set1_epi64x((by >> 32) as i64);
        let crossed = _mm256_add_epi64(
            _mm256_mul_epu32(_mm256_srli_epi64::<32>(z), low),
            _mm256_mul_epu32(z, high),
        );
        _mm256_add_epi64(_mm256_mul_epu32(z, low), _mm256_slli_epi64::<32>(crossed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_the_same_by_vectors_and_by_numbers() {
        // The last one drops all, and has no threshold of sixteen bits.
        for rate in [0.0, 0.1, 0.5, 0.999_98, 0.999_999] {
            let rate = Rate::new(rate);
            for first in [0, 1, 3, 4, 4225] {
                for length in [1, 63, 64, 65, 200, 1000] {
                    let values: Vec<f32> = (0..length).map(|i| i as f32 - 99.5).collect();
                    let (mut mask, mut dropped) = (vec![f32::NAN; length], vec![f32::NAN; length]);
                    rate.mask(77, first, &mut mask);
                    rate.apply(77, first, &values, &mut dropped);
                    for i in 0..length {
                        let expected = rate.single(77, first + i);
                        assert_eq!(
                            mask[i].to_bits(),
                            expected.to_bits(),
                            "{first} {length} {i}"
                        );
                        assert_eq!(dropped[i].to_bits(), (values[i] * expected).to_bits());
                    }
                }
            }
        }
    }

    #[test]
    fn bits_are_splitmix64() {
        // The reference implementation's first values for state 1234567.
        assert_eq!(bits(1234567, 0), 6457827717110365317);
        assert_eq!(bits(1234567, 1), 3203168211198807973);
    }

    #[test]
    fn a_mask_is_a_function_of_the_element() {
        let rate = Rate::new(0.25);
        let mut long = vec![0.0; 1000];
        rate.mask(5, 0, &mut long);
        for (element, &mask) in long.iter().enumerate() {
            let drawn = (bits(5, element as u64 / 4) >> (16 * (element % 4))) & 0xffff;
            assert_eq!(mask, if drawn >= 16_384 { 4.0 / 3.0 } else { 0.0 });
        }
        for (first, length) in [(0, 77), (1, 2), (2, 2), (3, 500), (64, 100), (999, 1)] {
            let mut part = vec![0.0; length];
            rate.mask(5, first, &mut part);
            assert_eq!(part, long[first..][..length]);
            let mut dropped = vec![0.0; length];
            rate.apply(5, first, &vec![3.0; length], &mut dropped);
            part.iter_mut().for_each(|mask| *mask *= 3.0);
            assert_eq!(dropped, part);
        }
    }
}

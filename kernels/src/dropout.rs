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

    #[inline(always)]
    fn four(self, value: u64, four: &mut [f32]) {
        for (lane, element) in four.iter_mut().enumerate() {
            *element = self.one(value, lane);
        }
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

dispatched! {
    fn fill(rate: Rate, key: u64, first: usize, mask: &mut [f32]) {
        let lead = mask.len().min(first.next_multiple_of(4) - first);
        let (lead, mask) = mask.split_at_mut(lead);
        for (element, mask) in (first..).zip(lead) {
            *mask = rate.one(bits(key, element as u64 / 4), element % 4);
        }
        // Sixteen values at a time give the compiler whole vectors.
        const LANES: usize = 16;
        let mut counter = first.div_ceil(4) as u64;
        let mut chunks = mask.chunks_exact_mut(4 * LANES);
        for chunk in &mut chunks {
            let mut values = [0u64; LANES];
            for (lane, value) in values.iter_mut().enumerate() {
                *value = bits(key, counter + lane as u64);
            }
            for (value, four) in values.iter().zip(chunk.chunks_exact_mut(4)) {
                rate.four(*value, four);
            }
            counter += LANES as u64;
        }
        for four in chunks.into_remainder().chunks_mut(4) {
            rate.four(bits(key, counter), four);
            counter += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        }
    }
}

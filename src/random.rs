//! Named streams of random numbers.
//!
//! Every random draw of a run comes from a stream that is a pure function of
//! *(seed, purpose, epoch, sample)*: nothing is drawn from global state, so any draw can be made
//! again, by a resumed run or by another thread, without making those before it.
//!
//! The generator is SplitMix64 (Steele, Lea, Flood: *Fast splittable pseudorandom number
//! generators*, 2014): a Weyl sequence through a 64-bit finaliser. It passes BigCrush, needs no
//! state beyond one word, and its n-th value can be computed directly.

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// What a stream is for. The number is part of what makes two runs equal: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Initial weights; the sample is the parameter's number in the model.
    Initialise = 1,
    /// The order of the training samples in an epoch.
    Shuffle = 2,
    /// One sample's augmentation in one epoch.
    Augment = 3,
    /// Dropout masks; the sample is the layer's number, the epoch the step.
    Dropout = 4,
    /// Which samples are held out for validation.
    Split = 5,
    /// Which samples a picture shows.
    Show = 6,
}

/// A stream of random numbers.
///
/// ```
/// use smallvit::random::{Purpose, Stream};
/// let mut a = Stream::new(42, Purpose::Augment, 3, 1234);
/// let mut b = Stream::new(42, Purpose::Augment, 3, 1234);
/// assert_eq!(a.next(), b.next());
/// ```
#[derive(Clone, Debug)]
pub struct Stream {
    key: u64,
    counter: u64,
}

impl Stream {
    /// The stream of this seed, purpose, epoch and sample.
    pub fn new(seed: u64, purpose: Purpose, epoch: u64, sample: u64) -> Self {
        // Each part passes through the finaliser before the next is added, so that neighbouring
        // epochs and samples have unrelated keys.
        let key = [purpose as u64, epoch, sample]
            .into_iter()
            .fold(finalise(seed ^ GOLDEN), |key, part| {
                finalise(key.wrapping_add(GOLDEN).wrapping_add(part))
            });
        Self { key, counter: 0 }
    }

    /// The stream's key: with [`at`], any of its values without the ones before it.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// The next 64 random bits.
    #[expect(
        clippy::should_implement_trait,
        reason = "an endless stream needs no Option"
    )]
    pub fn next(&mut self) -> u64 {
        let value = at(self.key, self.counter);
        self.counter += 1;
        value
    }

    /// Uniform in [0, 1), with 24 random bits.
    pub fn unit(&mut self) -> f32 {
        unit(self.next())
    }

    /// Uniform in [low, high).
    pub fn uniform(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Uniform in 0..n, for n > 0. The bias, n / 2⁶⁴, is below anything that could be observed.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.next() as u128 * n as u128) >> 64) as usize
    }

    /// Shuffles in place (Fisher–Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// The `counter`-th value of the stream with this key.
#[inline]
pub fn at(key: u64, counter: u64) -> u64 {
    finalise(key.wrapping_add(counter.wrapping_add(1).wrapping_mul(GOLDEN)))
}

/// The upper 24 bits as a number in [0, 1).
#[inline]
pub fn unit(bits: u64) -> f32 {
    (bits >> 40) as f32 * (1.0 / (1u64 << 24) as f32)
}

#[inline]
fn finalise(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_splitmix64() {
        // The first values of the reference implementation's stream for state 1234567
        // (prng.di.unimi.it/splitmix64.c).
        let expected = [
            6457827717110365317u64,
            3203168211198807973,
            9817491932198370423,
            4593380528125082431,
            16408922859458223821,
        ];
        for (counter, value) in expected.into_iter().enumerate() {
            assert_eq!(at(1234567, counter as u64), value);
        }
    }

    #[test]
    fn neighbouring_streams_differ_and_are_uniform() {
        let mut sum = 0.0;
        let mut seen = std::collections::HashSet::new();
        for epoch in 0..10 {
            for sample in 0..1000 {
                let mut stream = Stream::new(1, Purpose::Augment, epoch, sample);
                assert!(seen.insert(stream.clone().next()));
                sum += f64::from(stream.unit());
            }
        }
        // The mean of 10,000 uniform draws: deviation 0.0029; five of them.
        assert!((sum / 10_000.0 - 0.5).abs() < 0.0145);
    }

    #[test]
    fn a_shuffle_is_a_permutation() {
        let mut items: Vec<usize> = (0..1000).collect();
        Stream::new(7, Purpose::Shuffle, 0, 0).shuffle(&mut items);
        let mut sorted = items.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
        assert_ne!(items, sorted);
    }
}

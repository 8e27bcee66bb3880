//! Named streams of random numbers.
//!
//! Every random draw of a run comes from a stream that is a pure function of the run's seed, a
//! [`Purpose`], what it is for there (an epoch, a sample, …) and, where several things draw for the
//! same, the name of the one that does ([`Stream::named`]). Nothing is drawn from global state, so
//! any draw can be made again, by a resumed run or by another thread, without making those before
//! it; and what comes in or goes out under a name of its own leaves every other draw as it was.
//!
//! The generator is SplitMix64 (Steele, Lea, Flood: *Fast splittable pseudorandom number
//! generators*, 2014): a Weyl sequence through a 64-bit finaliser. It passes BigCrush, needs no
//! state beyond one word, and its n-th value can be computed directly.

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// What a stream is for. The number is part of what makes two runs equal: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Initial weights; the sample is the [key](name_key) of the parameter's name.
    Initialise = 1,
    /// The order of the training samples in an epoch.
    Shuffle = 2,
    /// One operation of one sample's augmentation: by epoch, sample, repeat and name.
    Augment = 3,
    /// Dropout and stochastic depth; the sample is the [key](name_key) of the site's name, the epoch
    /// the step.
    Dropout = 4,
    /// Which samples are held out for validation.
    Split = 5,
    /// Which samples a picture shows.
    Show = 6,
    /// One operation on a whole batch: by epoch, batch and name.
    Mix = 7,
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
        Self::keyed(seed, purpose, [epoch, sample])
    }

    /// The stream of this seed, purpose and numbers that belongs to `name`.
    ///
    /// ```
    /// use smallvit::random::{Purpose, Stream};
    /// let (epoch, sample, repeat) = (3, 1234, 0);
    /// let mut flip = Stream::named(42, Purpose::Augment, &[epoch, sample, repeat], "flip");
    /// let mut crop = Stream::named(42, Purpose::Augment, &[epoch, sample, repeat], "crop");
    /// assert_ne!(flip.next(), crop.next());
    /// ```
    pub fn named(seed: u64, purpose: Purpose, parts: &[u64], name: &str) -> Self {
        let parts = parts.iter().copied();
        Self::keyed(seed, purpose, parts.chain([name_key(name)]))
    }

    fn keyed(seed: u64, purpose: Purpose, parts: impl IntoIterator<Item = u64>) -> Self {
        // Each part passes through the finaliser before the next is added, so that neighbouring
        // epochs and samples have unrelated keys.
        let key = [purpose as u64]
            .into_iter()
            .chain(parts)
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

    /// Uniform in (0, 1), with 52 random bits: neither end is ever drawn, so its logarithm is a
    /// number.
    pub fn open_unit(&mut self) -> f64 {
        ((self.next() >> 12) as f64 + 0.5) * (1.0 / (1u64 << 52) as f64)
    }

    /// Normal, with mean 0 and deviation 1 (Box and Muller: √(−2 ln u) · cos 2πv).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.open_unit().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.open_unit()).cos()
    }

    /// Beta(α, β), for α, β > 0: g / (g + h) of g ~ Gamma(α) and h ~ Gamma(β).
    pub fn beta(&mut self, alpha: f64, beta: f64) -> f64 {
        // By their logarithms: with a small α or β both draws may be below the least number.
        let (first, second) = (self.ln_gamma(alpha), self.ln_gamma(beta));
        1.0 / (1.0 + (second - first).exp())
    }

    /// The logarithm of a draw from Gamma(shape) (Marsaglia and Tsang: *A simple method for
    /// generating gamma variables*, 2000).
    fn ln_gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            // Gamma(a) is Gamma(a + 1) · u^(1/a).
            return self.ln_gamma(shape + 1.0) + self.open_unit().ln() / shape;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let z = self.normal();
            let v = (1.0 + c * z).powi(3);
            let accept = self.open_unit().ln();
            if v > 0.0 && accept < z * z / 2.0 + d - d * v + d * v.ln() {
                return (d * v).ln();
            }
        }
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

/// A name as a number: FNV-1a of its UTF-8 bytes (64 bits, Fowler, Noll and Vo's constants), then
/// SplitMix64's finaliser. The numbers are part of what makes two runs equal, so a name that keys a
/// stream is for ever: what is renamed goes on drawing under its old name.
pub const fn name_key(name: &str) -> u64 {
    let bytes = name.as_bytes();
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0100_0000_01b3);
        i += 1;
    }
    finalise(hash)
}

#[inline]
const fn finalise(mut z: u64) -> u64 {
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

    #[test]
    fn keys_stay_as_they_are() {
        // Computed by another program (Python) from the documentation above, for FNV-1a from its
        // published values of "a" and "foobar", af63dc4c8601ec8c and 85944171f73967e8.
        assert_eq!(name_key("a"), 0x02c0_bdbf_4814_20f8);
        assert_eq!(name_key("foobar"), 0x404d_a9e3_b740_78c2);
        let first = |mut stream: Stream| stream.next();
        for (stream, expected) in [
            // What is held out and shuffled must never change.
            (
                Stream::new(42, Purpose::Shuffle, 3, 0),
                946675048840811693u64,
            ),
            (Stream::new(42, Purpose::Split, 0, 7), 12922076533312892103),
            (
                Stream::named(42, Purpose::Augment, &[1, 2, 0], "flip"),
                11773897361705576547,
            ),
        ] {
            assert_eq!(first(stream), expected);
        }
    }

    /// The largest distance between the draws' distribution and `cdf` (Kolmogorov and Smirnov). Of
    /// 20,000 true draws it is above 0.0138 once in a thousand.
    fn distance(draw: impl FnMut() -> f64, cdf: impl Fn(f64) -> f64) -> f64 {
        let mut draws: Vec<f64> = std::iter::repeat_with(draw).take(20_000).collect();
        draws.sort_by(f64::total_cmp);
        let step = 1.0 / draws.len() as f64;
        let apart = |(i, &x): (usize, &f64)| {
            let (below, above) = (i as f64 * step, (i + 1) as f64 * step);
            (cdf(x) - below).abs().max((cdf(x) - above).abs())
        };
        draws.iter().enumerate().map(apart).fold(0.0, f64::max)
    }

    #[test]
    fn beta_draws_have_their_distribution() {
        let of = |alpha: f64, beta: f64, cdf: &dyn Fn(f64) -> f64| {
            let mut stream = Stream::named(1, Purpose::Show, &[], "beta");
            distance(|| stream.beta(alpha, beta), cdf)
        };
        // Closed forms: uniform, arcsine, parabola, power.
        assert!(of(1.0, 1.0, &|x| x) < 0.0138);
        let arcsine = |x: f64| 2.0 / std::f64::consts::PI * x.sqrt().asin();
        assert!(of(0.5, 0.5, &arcsine) < 0.0138);
        assert!(of(2.0, 2.0, &|x| 3.0 * x * x - 2.0 * x.powi(3)) < 0.0138);
        assert!(of(3.0, 1.0, &|x| x.powi(3)) < 0.0138);
        assert!(of(1.0, 1.0, &arcsine) > 0.05);
        // Where both gammas are far below the least number.
        let mut stream = Stream::named(1, Purpose::Show, &[], "beta");
        for _ in 0..1000 {
            assert!((0.0..=1.0).contains(&stream.beta(1e-4, 1e-4)));
        }
    }

    #[test]
    fn normal_draws_have_the_moments_of_the_normal_distribution() {
        let mut stream = Stream::named(1, Purpose::Show, &[], "normal");
        let draws: Vec<f64> = (0..40_000).map(|_| stream.normal()).collect();
        let moment = |power| draws.iter().map(|z| z.powi(power)).sum::<f64>() / draws.len() as f64;
        // 0, 1, 0, 3; each within five deviations: √1, √2, √15, √96, over √40,000.
        for (power, expected, tolerance) in [
            (1, 0.0, 0.025),
            (2, 1.0, 0.036),
            (3, 0.0, 0.097),
            (4, 3.0, 0.245),
        ] {
            let found = moment(power);
            assert!((found - expected).abs() < tolerance, "{power}: {found}");
        }
    }
}

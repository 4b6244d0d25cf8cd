//! Named random streams: every random number in Burgess comes from one of these, never from a global generator.

use rand::{Rng, SeedableRng};

/// The random generator of a stream. It is portable: the same seed gives the same bits on every machine.
pub type Stream = rand_chacha::ChaCha8Rng;

/// Builds the stream called `name` for `seed`. Different names give independent streams, so adding a draw in one place
/// never changes the draws in another.
///
/// ```
/// use burgess_base::stream::stream;
/// use rand::Rng;
/// assert_eq!(stream("init", 0).next_u64(), stream("init", 0).next_u64());
/// assert_ne!(stream("init", 0).next_u64(), stream("order", 0).next_u64());
/// ```
pub fn stream(name: &str, seed: u64) -> Stream {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(name.as_bytes());
    Stream::from_seed(*hasher.finalize().as_bytes())
}

/// Draws a uniform number u with 0 ≤ u < 1 and 53 random bits.
pub fn uniform(stream: &mut Stream) -> f64 {
    (stream.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Draws two independent standard normal numbers (Box–Muller) from two draws of [`uniform`].
pub fn normal_pair(stream: &mut Stream) -> [f64; 2] {
    // 1 - u is in (0, 1], so the logarithm is finite.
    let radius = (-2.0 * (1.0 - uniform(stream)).ln()).sqrt();
    let angle = std::f64::consts::TAU * uniform(stream);
    [radius * angle.cos(), radius * angle.sin()]
}

/// Draws `count` standard normal numbers, in pairs by [`normal_pair`].
pub fn normals(stream: &mut Stream, count: usize) -> Vec<f32> {
    let mut values: Vec<f32> = (0..count.div_ceil(2)).flat_map(|_| normal_pair(stream)).map(|v| v as f32).collect();
    values.truncate(count);
    values
}

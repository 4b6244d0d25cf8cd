//! Seeded numbers: the same seed and words give the same number on every machine.

/// Mixes the bits of a number (the finaliser of splitmix64).
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Returns a number that depends on the seed and the bytes.
pub fn hash(seed: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(mix(seed), |state, b| mix(state ^ u64::from(*b)))
}

/// A stream of seeded numbers.
pub struct Stream(u64);

impl Stream {
    /// Starts the stream of this name.
    pub fn new(seed: u64, name: &str) -> Self {
        Self(hash(seed, name.as_bytes()))
    }

    /// Returns the next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0)
    }

    /// Returns a number below `bound`, which is positive.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Returns a fraction between 0 and 1 from a number.
pub fn fraction(number: u64) -> f64 {
    (number >> 11) as f64 / (1u64 << 53) as f64
}

//! How timm rounds numbers of channels.

/// Rounds `channels` to the nearest multiple of `divisor`, at least `divisor`; a result below nine tenths of `channels`
/// is rounded up instead (timm's `make_divisible`).
pub fn divisible(channels: f64, divisor: usize) -> usize {
    divisible_within(channels, divisor, 0.9)
}

/// As [`divisible`], with another `limit` than nine tenths.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "numbers of channels are positive and small"
)]
pub fn divisible_within(channels: f64, divisor: usize, limit: f64) -> usize {
    let divisor = divisor.max(1);
    let rounded = ((channels + divisor as f64 / 2.0) as usize / divisor * divisor).max(divisor);
    if (rounded as f64) < limit * channels { rounded + divisor } else { rounded }
}

/// Rounds half to even, as Python's `round` does.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "numbers of channels are positive and small"
)]
pub fn rounded(channels: f64) -> usize {
    channels.round_ties_even() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_rounded_as_in_timm() {
        assert_eq!([36.0, 3.0, 20.0, 11.0].map(|c| divisible(c, 8)), [40, 8, 24, 16]);
        assert_eq!([20.0, 11.0, 2.5].map(|c| divisible_within(c, 8, 0.0)), [24, 8, 8]);
        assert_eq!([2.5, 3.5].map(rounded), [2, 4]);
    }
}

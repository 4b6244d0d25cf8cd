//! Checks that the configurations of several architectures share.

use crate::arch::limits::MAX_SIZE;
use burgess_base::{Error, Result};

/// Checks that all of `numbers`, called `names` in the card of a `network`, are from 1 to [`MAX_SIZE`].
pub(in crate::arch) fn positive(network: &str, names: &str, numbers: &[usize]) -> Result<()> {
    if numbers.iter().all(|n| (1..=MAX_SIZE).contains(n)) {
        return Ok(());
    }
    Err(Error::usage(format!("invalid {network}: {names} are {numbers:?}"))
        .hint(format!("all must be from 1 to {MAX_SIZE}")))
}

/// Checks that the lists called `names` have `count` entries each, one per stage.
pub(in crate::arch) fn per_stage(network: &str, names: &str, count: usize, lengths: &[usize]) -> Result<()> {
    if count > 0 && lengths.iter().all(|length| *length == count) {
        return Ok(());
    }
    Err(Error::usage(format!("invalid {network}: {names} have {lengths:?} entries, but there are {count} stages"))
        .hint("give one entry per stage"))
}

/// Checks that `divisor` divides `channels`.
pub(in crate::arch) fn divides(network: &str, what: &str, channels: usize, divisor: usize) -> Result<()> {
    if divisor > 0 && channels.is_multiple_of(divisor) {
        return Ok(());
    }
    Err(Error::usage(format!("invalid {network}: {what} = {divisor} does not divide {channels} channels")))
}

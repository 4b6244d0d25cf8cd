//! Random draws from a named stream. Draws use integers of fixed width (`u32`, `i32`), so that a seed gives the same
//! values on every machine.

use burgess_base::stream::Stream;
use rand::RngExt;

/// Draws a number in `0..n`; 0 if `n` is 0.
pub fn below(stream: &mut Stream, n: usize) -> usize {
    if n < 2 { 0 } else { stream.random_range(0..n as u32) as usize }
}

/// Draws a number in `low..=high`; `low` if `high` is not larger.
pub fn within(stream: &mut Stream, low: i32, high: i32) -> i32 {
    if high <= low { low } else { stream.random_range(low..=high) }
}

/// Returns true with a probability of `percent` / 100.
pub fn chance(stream: &mut Stream, percent: u32) -> bool {
    stream.random_range(0..100u32) < percent
}

/// Draws an element of a list.
///
/// # Panics
/// Panics if the list is empty.
pub fn pick<'a, T>(stream: &mut Stream, from: &'a [T]) -> &'a T {
    &from[below(stream, from.len())]
}

/// Draws an element of a list; `None` if it is empty.
pub fn try_pick<'a, T>(stream: &mut Stream, from: &'a [T]) -> Option<&'a T> {
    if from.is_empty() { None } else { Some(pick(stream, from)) }
}

/// Shuffles a list (Fisher–Yates).
pub fn shuffle<T>(stream: &mut Stream, list: &mut [T]) {
    for i in (1..list.len()).rev() {
        list.swap(i, below(stream, i + 1));
    }
}

/// Draws `k` elements of a list without replacement, in random order; all of them if the list is shorter.
pub fn sample<T: Clone>(stream: &mut Stream, from: &[T], k: usize) -> Vec<T> {
    let mut all = from.to_vec();
    shuffle(stream, &mut all);
    all.truncate(k);
    all
}

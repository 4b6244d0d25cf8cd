//! Draws from a named stream. Every width is fixed (`u32`, `i32`), so a seed means the same on every machine.

use burgess_base::stream::Stream;
use rand::RngExt;

/// A number in `0..n`; 0 when `n` is 0.
pub fn below(stream: &mut Stream, n: usize) -> usize {
    if n < 2 { 0 } else { stream.random_range(0..n as u32) as usize }
}

/// A number in `low..=high`.
pub fn within(stream: &mut Stream, low: i32, high: i32) -> i32 {
    if high <= low { low } else { stream.random_range(low..=high) }
}

/// True in `percent` of 100 cases.
pub fn chance(stream: &mut Stream, percent: u32) -> bool {
    stream.random_range(0..100u32) < percent
}

/// One of a list that is not empty.
pub fn pick<'a, T>(stream: &mut Stream, from: &'a [T]) -> &'a T {
    &from[below(stream, from.len())]
}

/// One of a list, or nothing if it is empty.
pub fn try_pick<'a, T>(stream: &mut Stream, from: &'a [T]) -> Option<&'a T> {
    if from.is_empty() { None } else { Some(pick(stream, from)) }
}

/// Fisher–Yates.
pub fn shuffle<T>(stream: &mut Stream, list: &mut [T]) {
    for i in (1..list.len()).rev() {
        list.swap(i, below(stream, i + 1));
    }
}

/// `k` different ones of the list in random order (all of them if there are fewer).
pub fn sample<T: Clone>(stream: &mut Stream, from: &[T], k: usize) -> Vec<T> {
    let mut all = from.to_vec();
    shuffle(stream, &mut all);
    all.truncate(k);
    all
}

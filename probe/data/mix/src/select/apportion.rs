//! Divides a whole number in proportion to weights, with limits.

/// Divides `total` in proportion to `weights` by largest remainders, exactly: the parts sum to `total`, and each
/// differs from its exact share by less than 1. Equal remainders go to the earlier part. If all weights are 0, all
/// parts are.
///
/// ```
/// assert_eq!(burgess_mix::select::apportion(10, &[1, 1, 1]), [4, 3, 3]);
/// ```
pub fn apportion(total: u64, weights: &[u64]) -> Vec<u64> {
    let sum: u128 = weights.iter().map(|w| u128::from(*w)).sum();
    if sum == 0 {
        return vec![0; weights.len()];
    }
    let exact = |weight: &u64| u128::from(total) * u128::from(*weight);
    // A part is at most `total`, so that it fits.
    let mut parts: Vec<u64> = weights.iter().map(|w| u64::try_from(exact(w) / sum).unwrap_or(total)).collect();
    let mut by_remainder: Vec<(u128, usize)> = weights.iter().map(|w| exact(w) % sum).zip(0..).collect();
    by_remainder.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    let left = total - parts.iter().sum::<u64>();
    for (_, at) in by_remainder.into_iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
        if let Some(part) = parts.get_mut(at) {
            *part += 1;
        }
    }
    parts
}

/// Divides `total` in proportion to `weights`, no part above its limit (water-filling): parts that would exceed their
/// limit are set to it, and the rest is divided among the others, until all fit. The sum is `total`, or that of the
/// limits of the parts with a weight, if this is smaller.
///
/// ```
/// assert_eq!(burgess_mix::select::fill(10, &[1, 1, 2], &[1, 9, 9]), [1, 3, 6]);
/// ```
pub fn fill(total: u64, weights: &[u64], limits: &[u64]) -> Vec<u64> {
    let limit = |at: usize| limits.get(at).copied().unwrap_or(0);
    let mut open: Vec<usize> = (0..weights.len()).filter(|at| weights.get(*at).is_some_and(|w| *w > 0)).collect();
    let mut parts = vec![0; weights.len()];
    let mut left = total;
    loop {
        let shares: Vec<u64> = open.iter().filter_map(|at| weights.get(*at)).copied().collect();
        let wanted = apportion(left, &shares);
        let (full, fits): (Vec<_>, Vec<_>) = open.iter().copied().zip(wanted).partition(|(at, n)| *n > limit(*at));
        let mut set = |at: usize, count: u64| {
            if let Some(part) = parts.get_mut(at) {
                *part = count;
            }
        };
        if full.is_empty() {
            fits.into_iter().for_each(|(at, count)| set(at, count));
            return parts;
        }
        for (at, _) in full {
            set(at, limit(at));
            left = left.saturating_sub(limit(at));
        }
        open = fits.into_iter().map(|(at, _)| at).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_sum_to_the_total_and_keep_their_limits(
            total in 0u64..1_000_000,
            parts in proptest::collection::vec((0u64..1000, 0u64..200_000), 1..12),
        ) {
            let (weights, limits): (Vec<u64>, Vec<u64>) = parts.into_iter().unzip();
            let sum: u64 = weights.iter().sum();
            let given = apportion(total, &weights);
            prop_assert_eq!(given.iter().sum::<u64>(), if sum == 0 { 0 } else { total });
            for (part, weight) in given.iter().zip(&weights) {
                let exact = if sum == 0 { 0.0 } else { total as f64 * *weight as f64 / sum as f64 };
                prop_assert!((*part as f64 - exact).abs() < 1.0);
            }
            let filled = fill(total, &weights, &limits);
            let room: u64 = weights.iter().zip(&limits).filter(|(w, _)| **w > 0).map(|(_, limit)| *limit).sum();
            prop_assert_eq!(filled.iter().sum::<u64>(), total.min(room));
            prop_assert!(filled.iter().zip(&limits).all(|(part, limit)| part <= limit));
        }
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        assert_eq!(apportion(u64::MAX, &[u64::MAX, u64::MAX]), [u64::MAX / 2 + 1, u64::MAX / 2]);
        assert_eq!(fill(u64::MAX, &[1, 1], &[3, 5]), [3, 5]);
        assert_eq!(fill(5, &[], &[]), Vec::<u64>::new());
    }
}

//! Counts of lengths from which quantiles are read, in memory that does not grow with their number.

use serde::Serialize;

/// Lengths up to this one are counted exactly.
const EXACT: u32 = 128;
/// Number of intervals into which each doubling beyond [`EXACT`] is divided: an error of at most 0.8 %.
const STEPS: u32 = 64;

/// Counts of lengths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LengthCounts {
    counts: Vec<u64>,
    number: u64,
    sum: u64,
    largest: u32,
}

/// Returns the interval to which a length belongs.
fn interval(length: u32) -> usize {
    if length < EXACT {
        return length as usize;
    }
    let octave = length.ilog2() - EXACT.ilog2();
    let step = ((u64::from(length) - (u64::from(EXACT) << octave)) * u64::from(STEPS)) / (u64::from(EXACT) << octave);
    (EXACT + octave * STEPS) as usize + step as usize
}

/// Returns the middle of an interval.
fn middle(interval: usize) -> f64 {
    let Some(beyond) = interval.checked_sub(EXACT as usize) else { return interval as f64 };
    let (octave, step) = (beyond / STEPS as usize, beyond % STEPS as usize);
    let width = 2_f64.powi(octave as i32) * f64::from(EXACT) / f64::from(STEPS);
    let begin = 2_f64.powi(octave as i32) * f64::from(EXACT) + step as f64 * width;
    begin + (width - 1.0) / 2.0
}

impl LengthCounts {
    /// Counts one length.
    pub fn add(&mut self, length: u32) {
        let at = interval(length);
        if self.counts.len() <= at {
            self.counts.resize(at + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
        self.number += 1;
        self.sum += u64::from(length);
        self.largest = self.largest.max(length);
    }

    /// Returns the number of lengths.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns how many lengths are at most `most`, which must be below 128.
    pub fn at_most(&self, most: u32) -> u64 {
        self.counts.iter().take(most.min(EXACT - 1) as usize + 1).sum()
    }

    /// Returns the length that this share of all lengths does not exceed: exact up to 128, beyond within 0.8 %.
    pub fn quantile(&self, share: f64) -> f64 {
        let wanted = (share * self.number as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return middle(at).min(f64::from(self.largest));
            }
        }
        f64::from(self.largest)
    }

    /// Returns the summary of the lengths; `None` if there are none.
    pub fn summary(&self) -> Option<LengthSummary> {
        if self.number == 0 {
            return None;
        }
        let mut bars: Vec<LengthBar> = Vec::new();
        // 0, 1, 2–3, 4–7, …
        for (at, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let length = middle(at) as u64;
            let from = if length == 0 { 0 } else { 1 << length.ilog2() };
            match bars.last_mut().filter(|bar| bar.from == from) {
                Some(bar) => bar.count += count,
                None => bars.push(LengthBar { from, to: (from * 2).saturating_sub(1), count: *count }),
            }
        }
        Some(LengthSummary {
            count: self.number,
            total: self.sum,
            mean: self.sum as f64 / self.number as f64,
            p5: self.quantile(0.05),
            p25: self.quantile(0.25),
            median: self.quantile(0.5),
            p75: self.quantile(0.75),
            p95: self.quantile(0.95),
            p99: self.quantile(0.99),
            largest: self.largest,
            bars,
        })
    }
}

/// Mean and quantiles of lengths.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LengthSummary {
    /// Number of texts.
    pub count: u64,
    /// Sum of the lengths.
    pub total: u64,
    /// Mean length.
    pub mean: f64,
    /// Quantiles: exact up to 128, beyond within 0.8 %.
    pub p5: f64,
    /// 25 % are at most as long.
    pub p25: f64,
    /// Half are at most as long.
    pub median: f64,
    /// 75 % are at most as long.
    pub p75: f64,
    /// 95 % are at most as long.
    pub p95: f64,
    /// 99 % are at most as long.
    pub p99: f64,
    /// The largest length.
    pub largest: u32,
    /// Counts by powers of two.
    pub bars: Vec<LengthBar>,
}

/// The number of texts whose length lies between two powers of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LengthBar {
    /// Smallest length.
    pub from: u64,
    /// Largest length.
    pub to: u64,
    /// Number of texts.
    pub count: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_exact_or_near() {
        let mut counts = LengthCounts::default();
        (1..=100_000).for_each(|n| counts.add(n));
        for share in [0.0005, 0.001, 0.05, 0.5, 0.99, 1.0] {
            let exact = (share * 100_000.0_f64).ceil();
            let found = counts.quantile(share);
            let allowed = if exact < 128.0 { 0.0 } else { 0.008 };
            assert!((found - exact).abs() / exact <= allowed, "{share}: {found}, expected {exact}");
        }
        assert_eq!((counts.at_most(3), counts.number()), (3, 100_000));
        let summary = counts.summary().unwrap();
        assert_eq!((summary.mean, summary.largest), (50_000.5, 100_000));
        assert_eq!(summary.bars.iter().map(|b| b.count).sum::<u64>(), 100_000);
        assert_eq!(summary.bars[1], LengthBar { from: 2, to: 3, count: 2 });
        assert!(LengthCounts::default().summary().is_none());
        assert_eq!(interval(u32::MAX), 128 + 25 * 64 - 1);
        let mut large = LengthCounts::default();
        large.add(0);
        large.add(u32::MAX);
        assert!(large.quantile(1.0) > 0.992 * f64::from(u32::MAX));
    }
}

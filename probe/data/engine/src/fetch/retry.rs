//! How long to wait before the next try.

use burgess_base::stream::{Stream, stream, uniform};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Parses the header `Retry-After`: seconds, or a date; a date in the past is no wait.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit are an absurd time, which the caller's limit refuses.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::from(u32::MAX))));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// Waits that double with each try, with a random factor, so that clients that failed together do not return together.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    random: Mutex<Stream>,
}

impl Backoff {
    pub fn new(first: Duration, longest: Duration, seed: u64) -> Self {
        Self { first, longest, random: Mutex::new(stream("fetch-backoff", seed)) }
    }

    /// Returns the wait after the `failed`-th failed try, which counts from 1: 0.5 to 1.5 times
    /// `first · 2^(failed-1)`.
    pub fn wait(&self, failed: u32) -> Duration {
        let factor = 0.5 + uniform(&mut self.random.lock().unwrap_or_else(PoisonError::into_inner));
        let doubled = self.first.as_secs_f64() * f64::from(failed.saturating_sub(1).min(30)).exp2();
        Duration::from_secs_f64((doubled * factor).min(self.longest.as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_retry_after_are_read() {
        let now = httpdate::parse_http_date("Mon, 30 Nov 2026 06:00:00 GMT").unwrap();
        for (value, seconds) in [
            ("20", Some(20)),
            (" 0 ", Some(0)),
            ("Mon, 30 Nov 2026 06:01:00 GMT", Some(60)),
            ("Monday, 30-Nov-26 06:01:00 GMT", Some(60)),
            ("Mon, 30 Nov 2026 05:00:00 GMT", Some(0)),
            ("99999999999999999999999", Some(u64::from(u32::MAX))),
            ("-1", None),
            ("soon", None),
            ("", None),
            ("1.5", None),
        ] {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn waits_double_within_their_bounds_and_repeat_with_the_seed() {
        let (first, longest) = (Duration::from_secs(2), Duration::from_secs(20));
        let waits = |seed| -> Vec<Duration> {
            let backoff = Backoff::new(first, longest, seed);
            (1..8).map(|n| backoff.wait(n)).collect()
        };
        for (n, wait) in waits(1).iter().enumerate() {
            let doubled = 2.0 * (n as f64).exp2();
            let least = (0.5 * doubled).min(20.0);
            assert!(wait.as_secs_f64() >= least && wait.as_secs_f64() <= (1.5 * doubled).min(20.0), "{n}: {wait:?}");
        }
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
        assert_eq!(Backoff::new(Duration::ZERO, longest, 0).wait(u32::MAX), Duration::ZERO);
    }
}

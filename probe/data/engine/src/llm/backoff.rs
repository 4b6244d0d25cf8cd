//! Waits: exponential back-off, what a server asks for, and the limit of requests per minute, shared by all threads.

use super::endpoint::Endpoint;
use super::error::{ChatError, ChatErrorKind};
use burgess_base::stream::{Stream, stream, uniform};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time between two looks whether a signal asked to stop.
const LOOK: Duration = Duration::from_millis(50);

/// When the next request may begin.
#[derive(Debug)]
pub(super) struct Pacing {
    state: Mutex<PacingState>,
    /// Time between the beginnings of two requests.
    spacing: Duration,
}

#[derive(Debug)]
struct PacingState {
    /// No request begins earlier.
    next: Instant,
    /// The server asked for silence until then.
    silent_until: Instant,
    /// Draws the variation of waits, so that processes do not come back at the same moment.
    jitter: Stream,
}

impl Pacing {
    pub fn new(endpoint: &Endpoint) -> Self {
        let spacing = endpoint.requests_per_minute.map_or(0.0, |n| 60.0 / f64::from(n.max(1)));
        let now = Instant::now();
        let jitter = stream("llm/backoff", u64::from(std::process::id()));
        let state = Mutex::new(PacingState { next: now, silent_until: now, jitter });
        Self { state, spacing: Duration::from_secs_f64(spacing) }
    }

    /// Waits until this thread may begin a request.
    pub fn turn(&self, stopped: &dyn Fn() -> bool) -> Result<(), ChatError> {
        let begin = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let begin = Instant::now().max(state.next).max(state.silent_until);
            state.next = begin + self.spacing;
            begin
        };
        wait_until(begin, stopped)
    }

    /// Notes that the server asks all threads to wait.
    pub fn silence(&self, wait: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.silent_until = state.silent_until.max(Instant::now() + wait);
    }

    /// Returns the wait before the attempt with this number (from 1 for the second one): doubled each time, between a
    /// half and all of it.
    pub fn wait(&self, endpoint: &Endpoint, attempt: u32) -> Duration {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let doubled = endpoint.first_wait_seconds * f64::from(attempt.saturating_sub(1).min(30)).exp2();
        let longest = doubled.min(endpoint.longest_wait_seconds);
        Duration::from_secs_f64(longest * (0.5 + 0.5 * uniform(&mut state.jitter)))
    }
}

/// Waits until a point in time, or until a signal asks to stop.
pub(super) fn wait_until(end: Instant, stopped: &dyn Fn() -> bool) -> Result<(), ChatError> {
    loop {
        if stopped() {
            return Err(ChatError::new(ChatErrorKind::Interrupted, "interrupted"));
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(LOOK));
    }
}

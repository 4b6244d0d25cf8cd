//! The bounded queue of requests between the HTTP server and the thread that computes, and their counts.

use super::images::JobImage;
use burgess_base::Error;
use burgess_probe::generate::Draws;
use burgess_serve::{ChatEvent, ModelStats, SubmitError};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::mpsc::UnboundedSender;

/// A request that was checked and tokenised.
pub struct Job {
    /// Token ids of the prompt, with the image placeholder.
    pub ids: Vec<u32>,
    /// The image and the index of its placeholder in `ids`.
    pub image: Option<(JobImage, usize)>,
    /// Number of positions of the prompt: text and image tokens.
    pub positions: usize,
    /// What is to be computed.
    pub work: Work,
    /// Receives the events; closed when the client is gone.
    pub events: UnboundedSender<ChatEvent>,
    /// When the request arrived.
    pub arrived: Instant,
}

/// What is to be computed for a request.
// One value lives per request: its size does not matter.
#[allow(clippy::large_enum_variant)]
pub enum Work {
    /// Generate an answer.
    Answer {
        /// Sampling; `None` for greedy decoding.
        draws: Option<Draws>,
        /// Number of alternatives to list with each token; `None` for no log-probabilities.
        logprobs: Option<usize>,
        /// Texts that end the answer.
        stop: Vec<String>,
        /// Maximum number of tokens.
        max_new_tokens: usize,
    },
    /// Score given answers.
    Score {
        /// The answers.
        texts: Vec<String>,
        /// Their token ids, with the token that ends an answer.
        options: Vec<Vec<u32>>,
    },
}

impl Job {
    /// Sends an event; whether the client is still there.
    pub fn send(&self, event: ChatEvent) -> bool {
        self.events.send(event).is_ok()
    }

    /// Reports that the request failed.
    pub fn fail(&self, error: Arc<Error>) {
        // Without a receiver nobody needs the error.
        let _ = self.events.send(ChatEvent::Failed(error));
    }
}

/// The queue of a model, shared by the server and the thread that computes.
#[derive(Default)]
pub struct JobQueue {
    state: Mutex<QueueState>,
    /// Notified when a job is added or the queue is closed.
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    waiting: VecDeque<Job>,
    closed: bool,
    stats: ModelStats,
}

impl JobQueue {
    fn state(&self) -> MutexGuard<'_, QueueState> {
        // Every change of the state is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks whether a request could be queued, before work is spent on it.
    ///
    /// # Errors
    /// The queue is full or closed.
    pub fn check_room(&self, limit: usize) -> Result<(), SubmitError> {
        check_room(&mut self.state(), limit)
    }

    /// Adds a job.
    ///
    /// # Errors
    /// The queue is full or closed.
    pub fn push(&self, job: Job, limit: usize) -> Result<(), SubmitError> {
        let mut state = self.state();
        check_room(&mut state, limit)?;
        state.waiting.push_back(job);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Takes at most `most` jobs whose clients are still there, in the order of their arrival. If there are none and
    /// `wait` is true, waits for one; `None` if the queue is closed and empty.
    pub fn take(&self, most: usize, wait: bool) -> Option<Vec<Job>> {
        let mut state = self.state();
        loop {
            drop_cancelled(&mut state);
            if most == 0 || !wait || !state.waiting.is_empty() {
                let count = most.min(state.waiting.len());
                let taken: Vec<Job> = state.waiting.drain(..count).collect();
                state.stats.active += taken.len();
                return Some(taken);
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Refuses further jobs.
    pub fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// Changes the counts.
    pub fn count(&self, change: impl FnOnce(&mut ModelStats)) {
        change(&mut self.state().stats);
    }

    /// The counts, and the number of jobs that wait.
    pub fn stats(&self) -> ModelStats {
        let mut state = self.state();
        drop_cancelled(&mut state);
        ModelStats { queued: state.waiting.len(), ..state.stats }
    }
}

/// Drops waiting jobs whose clients are gone: they are never computed.
fn drop_cancelled(state: &mut QueueState) {
    let before = state.waiting.len();
    state.waiting.retain(|job| !job.events.is_closed());
    state.stats.cancelled += (before - state.waiting.len()) as u64;
}

fn check_room(state: &mut QueueState, limit: usize) -> Result<(), SubmitError> {
    if state.closed {
        return Err(SubmitError::ShuttingDown);
    }
    if state.waiting.len() >= limit {
        drop_cancelled(state);
    }
    if state.waiting.len() < limit {
        return Ok(());
    }
    // The time in which the waiting requests are answered, by the mean of the finished ones.
    let finished = state.stats.completed.max(1) as f64;
    let seconds = state.stats.busy_seconds / finished * state.waiting.len() as f64;
    Err(SubmitError::Full { retry_after: (seconds.ceil() as u64).clamp(1, 120) })
}

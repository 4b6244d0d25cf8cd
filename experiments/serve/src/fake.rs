//! A model without weights that answers with the words of the question: for tests, and for building pages.

use crate::{
    ChatEvent, ChatModel, ChatRequest, Finish, ModelInfo, ModelStats, OptionScore, Part, SubmitError, Timings,
    TokenLogprob,
};
use burgess_base::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// A model without weights: it answers with the words of the last message, one token per word, and says how many
/// images it was given. It must be used within a tokio runtime.
#[derive(Debug)]
pub struct FakeModel {
    info: ModelInfo,
    /// Time per token.
    interval: Duration,
    /// Maximum number of requests that wait.
    queue: usize,
    /// Number of the token at which the answer fails.
    fails_at: Option<usize>,
    shared: Arc<Shared>,
}

/// What the model and its requests share.
#[derive(Debug)]
struct Shared {
    /// One permit per row of the batch.
    rows: Semaphore,
    closed: AtomicBool,
    queued: AtomicUsize,
    active: AtomicUsize,
    completed: AtomicU64,
    cancelled: AtomicU64,
    failed: AtomicU64,
    prompt_tokens: AtomicU64,
    generated_tokens: AtomicU64,
    requests: Mutex<Vec<ChatRequest>>,
}

impl FakeModel {
    /// Builds a model that answers at once, with a batch of 4 and a queue of 16 requests.
    pub fn new(id: &str) -> Self {
        let shared = Shared {
            rows: Semaphore::new(4),
            closed: AtomicBool::new(false),
            queued: AtomicUsize::new(0),
            active: AtomicUsize::new(0),
            completed: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            prompt_tokens: AtomicU64::new(0),
            generated_tokens: AtomicU64::new(0),
            requests: Mutex::new(Vec::new()),
        };
        let info = ModelInfo {
            id: id.to_owned(),
            created: 1_700_000_000,
            encoders: vec!["none".to_owned()],
            connector: "none".to_owned(),
            llm: "fake".to_owned(),
            parameters: 0,
            image_tokens: 64,
            max_positions: 4096,
            device: "flex".to_owned(),
        };
        Self { info, interval: Duration::ZERO, queue: 16, fails_at: None, shared: Arc::new(shared) }
    }

    /// Sets the time per token.
    #[must_use]
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sets the number of requests that are answered at the same time and the number of those that may wait.
    #[must_use]
    pub fn with_capacity(mut self, rows: usize, queue: usize) -> Self {
        self.shared.rows.forget_permits(usize::MAX);
        self.shared.rows.add_permits(rows);
        self.queue = queue;
        self
    }

    /// Makes every answer fail at its token of this number, counted from 0.
    #[must_use]
    pub fn with_failure_at(mut self, token: usize) -> Self {
        self.fails_at = Some(token);
        self
    }

    /// Returns the requests that were accepted so far.
    pub fn requests(&self) -> Vec<ChatRequest> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Accepts a request, or says why not.
    fn accept(&self, request: &ChatRequest) -> Result<(), SubmitError> {
        if self.shared.closed.load(Ordering::SeqCst) {
            return Err(SubmitError::ShuttingDown);
        }
        let waits = self.shared.rows.available_permits() == 0;
        if waits && self.shared.queued.load(Ordering::SeqCst) >= self.queue {
            return Err(SubmitError::Full { retry_after: 1 });
        }
        let positions = prompt_tokens(request, self.info.image_tokens);
        if positions > self.info.max_positions {
            let limit = self.info.max_positions;
            let error = Error::usage(format!("the prompt has {positions} positions, the maximum is {limit}"))
                .hint("shorten the messages");
            return Err(SubmitError::Invalid { error, param: "messages" });
        }
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
        self.shared.queued.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

impl ChatModel for FakeModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn submit(&self, request: ChatRequest) -> Result<UnboundedReceiver<ChatEvent>, SubmitError> {
        self.accept(&request)?;
        let (sender, receiver) = unbounded_channel();
        let answer = Answer {
            prompt_tokens: prompt_tokens(&request, self.info.image_tokens),
            request,
            interval: self.interval,
            fails_at: self.fails_at,
        };
        tokio::spawn(run(self.shared.clone(), sender, Work::Generate(answer)));
        Ok(receiver)
    }

    fn score(&self, request: ChatRequest, options: Vec<String>) -> Result<UnboundedReceiver<ChatEvent>, SubmitError> {
        self.accept(&request)?;
        let (sender, receiver) = unbounded_channel();
        let prompt_tokens = prompt_tokens(&request, self.info.image_tokens);
        tokio::spawn(run(self.shared.clone(), sender, Work::Score { prompt_tokens, options }));
        Ok(receiver)
    }

    fn stats(&self) -> ModelStats {
        let shared = &self.shared;
        ModelStats {
            queued: shared.queued.load(Ordering::SeqCst),
            active: shared.active.load(Ordering::SeqCst),
            completed: shared.completed.load(Ordering::SeqCst),
            cancelled: shared.cancelled.load(Ordering::SeqCst),
            failed: shared.failed.load(Ordering::SeqCst),
            prompt_tokens: shared.prompt_tokens.load(Ordering::SeqCst),
            generated_tokens: shared.generated_tokens.load(Ordering::SeqCst),
            steps: shared.generated_tokens.load(Ordering::SeqCst),
            ..ModelStats::default()
        }
    }

    fn shut_down(&self) {
        self.shared.closed.store(true, Ordering::SeqCst);
    }
}

/// What a request asks for.
enum Work {
    Generate(Answer),
    Score { prompt_tokens: usize, options: Vec<String> },
}

/// An answer to be generated.
struct Answer {
    request: ChatRequest,
    prompt_tokens: usize,
    interval: Duration,
    fails_at: Option<usize>,
}

/// How a request ended.
enum Outcome {
    Done { finish: Finish, completion_tokens: usize, prompt: Duration, generation: Duration },
    Failed(Error),
    Cancelled,
}

/// Waits for a row, works, and reports the end; the receiver's end cancels it at any point.
async fn run(shared: Arc<Shared>, sender: UnboundedSender<ChatEvent>, work: Work) {
    let arrival = Instant::now();
    let row = tokio::select! {
        row = shared.rows.acquire() => row.ok(),
        () = sender.closed() => None,
    };
    shared.queued.fetch_sub(1, Ordering::SeqCst);
    let queued = arrival.elapsed();
    let outcome = match row {
        None => Outcome::Cancelled,
        Some(_row) => {
            shared.active.fetch_add(1, Ordering::SeqCst);
            let outcome = tokio::select! {
                outcome = perform(&shared, &sender, work) => outcome,
                () = sender.closed() => Outcome::Cancelled,
            };
            shared.active.fetch_sub(1, Ordering::SeqCst);
            outcome
        }
    };
    let event = match outcome {
        Outcome::Cancelled => {
            shared.cancelled.fetch_add(1, Ordering::SeqCst);
            return;
        }
        Outcome::Failed(error) => {
            shared.failed.fetch_add(1, Ordering::SeqCst);
            ChatEvent::Failed(Arc::new(error))
        }
        Outcome::Done { finish, completion_tokens, prompt, generation } => {
            shared.completed.fetch_add(1, Ordering::SeqCst);
            let (queued, prompt, generation) = (queued.as_secs_f64(), prompt.as_secs_f64(), generation.as_secs_f64());
            ChatEvent::Done { finish, completion_tokens, timings: Timings { queued, prompt, generation } }
        }
    };
    // A closed receiver was a cancellation in the last moment.
    sender.send(event).ok();
}

/// Sends the events of a request up to the last.
async fn perform(shared: &Shared, sender: &UnboundedSender<ChatEvent>, work: Work) -> Outcome {
    let began = Instant::now();
    let prompt_tokens = match &work {
        Work::Generate(answer) => answer.prompt_tokens,
        Work::Score { prompt_tokens, .. } => *prompt_tokens,
    };
    shared.prompt_tokens.fetch_add(prompt_tokens as u64, Ordering::SeqCst);
    if sender.send(ChatEvent::Started { prompt_tokens, cached_tokens: 0 }).is_err() {
        return Outcome::Cancelled;
    }
    let prompt = began.elapsed();
    let (finish, completion_tokens) = match work {
        Work::Score { options, .. } => {
            let scores = options.into_iter().map(score_of).collect();
            if sender.send(ChatEvent::Scored(scores)).is_err() {
                return Outcome::Cancelled;
            }
            (Finish::Stop, 0)
        }
        Work::Generate(answer) => match generate(shared, sender, answer).await {
            Ok(end) => end,
            Err(outcome) => return outcome,
        },
    };
    Outcome::Done { finish, completion_tokens, prompt, generation: began.elapsed() - prompt }
}

/// Sends the answer word by word; returns why it ended and its number of tokens.
async fn generate(
    shared: &Shared,
    sender: &UnboundedSender<ChatEvent>,
    answer: Answer,
) -> Result<(Finish, usize), Outcome> {
    let text = echo(&answer.request);
    // The answer ends before the first stop text.
    let cut = answer.request.stop.iter().filter_map(|stop| text.find(stop.as_str())).min();
    let text = text.get(..cut.unwrap_or(text.len())).unwrap_or_default();
    let mut count = 0;
    for word in text.split_inclusive(' ') {
        if answer.request.max_tokens.is_some_and(|most| count >= most) {
            return Ok((Finish::Length, count));
        }
        if !answer.interval.is_zero() {
            tokio::time::sleep(answer.interval).await;
        }
        if answer.fails_at == Some(count) {
            return Err(Outcome::Failed(Error::failed(format!("the fake model fails at token {count}"))));
        }
        shared.generated_tokens.fetch_add(1, Ordering::SeqCst);
        count += 1;
        let tokens = answer.request.logprobs.map(|top| vec![logprob_of(word, top)]).unwrap_or_default();
        if sender.send(ChatEvent::Text { text: word.to_owned(), tokens }).is_err() {
            return Err(Outcome::Cancelled);
        }
    }
    Ok((Finish::Stop, count))
}

/// The answer to a request: the number of its images and the text of its last message.
fn echo(request: &ChatRequest) -> String {
    let images = request.messages.iter().flat_map(|m| &m.parts).filter(|p| matches!(p, Part::Image(_))).count();
    let mut text = match images {
        0 => "Without an image:".to_owned(),
        1 => "With 1 image:".to_owned(),
        many => format!("With {many} images:"),
    };
    for part in request.messages.last().map(|m| m.parts.as_slice()).unwrap_or_default() {
        if let Part::Text(words) = part {
            text.push(' ');
            text.push_str(words.trim());
        }
    }
    text
}

/// One position per word and as many as the model states per image.
fn prompt_tokens(request: &ChatRequest, image_tokens: usize) -> usize {
    request
        .messages
        .iter()
        .flat_map(|m| &m.parts)
        .map(|part| match part {
            Part::Text(text) => text.split_whitespace().count(),
            Part::Image(_) => image_tokens,
        })
        .sum()
}

/// A log-probability that depends on the text only: longer texts are less probable.
fn score_of(text: String) -> OptionScore {
    let tokens = text.split_whitespace().count() + 1;
    OptionScore { logprob: -0.5 * text.chars().count() as f64, tokens, text }
}

/// A token with the log-probability -0.25 and alternatives that are less probable.
fn logprob_of(word: &str, top: usize) -> TokenLogprob {
    let token = |text: String, logprob: f64, top_logprobs| TokenLogprob {
        bytes: text.clone().into_bytes(),
        token: text,
        logprob,
        top_logprobs,
    };
    let alternatives = (0..top).map(|rank| match rank {
        0 => token(word.to_owned(), -0.25, Vec::new()),
        rank => token(format!("alternative{rank}"), -0.25 - rank as f64, Vec::new()),
    });
    token(word.to_owned(), -0.25, alternatives.collect())
}

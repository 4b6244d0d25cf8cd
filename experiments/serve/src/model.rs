//! The interface between the HTTP server and the models that answer: requests go in, a stream of events comes out.

use burgess_base::Error;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;

/// A multimodal model that answers chat requests. Implementations own their device and batch the requests.
pub trait ChatModel: Send + Sync + 'static {
    /// Returns the description of the model; its id is the `model` of requests.
    fn info(&self) -> &ModelInfo;

    /// Checks a request, decodes its image and queues it; to be called on a thread that may block. Dropping the
    /// receiver cancels the request: its row leaves the batch before the next token.
    ///
    /// # Errors
    /// When the request is not one that this model can answer, or the queue is full.
    fn submit(&self, request: ChatRequest) -> Result<UnboundedReceiver<ChatEvent>, SubmitError>;

    /// Queues a request for the log-probabilities of given answers instead of a generated one. The only event before
    /// `Done` is `Scored`.
    ///
    /// # Errors
    /// As [`ChatModel::submit`].
    fn score(&self, request: ChatRequest, options: Vec<String>) -> Result<UnboundedReceiver<ChatEvent>, SubmitError>;

    /// Returns the state of the queue and what was computed since the start, for `/metrics`.
    fn stats(&self) -> ModelStats;

    /// Stops accepting requests; those that were accepted are finished.
    fn shut_down(&self);
}

/// Description of a served model.
#[derive(Debug, Clone, Serialize)]
pub struct ModelInfo {
    /// Name of the model in requests.
    pub id: String,
    /// When the model's files were written, in seconds since 1970.
    pub created: u64,
    /// Names of the image encoders.
    pub encoders: Vec<String>,
    /// Name of the connector.
    pub connector: String,
    /// Family of the language model.
    pub llm: String,
    /// Number of parameters of encoders, connector and language model together.
    pub parameters: u64,
    /// Number of image tokens per image.
    pub image_tokens: usize,
    /// Maximum number of positions of prompt and answer together.
    pub max_positions: usize,
    /// Device that computes, as in `--device`.
    pub device: String,
}

/// A chat request whose shape was checked: at least one message, the last of them from the user.
#[derive(Debug, Clone)]
pub struct ChatRequest {
    /// The conversation in order.
    pub messages: Vec<Message>,
    /// Maximum number of new tokens; `None` for what the server allows. The answer ends earlier, with
    /// [`Finish::Length`], where the model's positions end.
    pub max_tokens: Option<usize>,
    /// Temperature, 0 for greedy decoding.
    pub temperature: f64,
    /// Top-p (nucleus) sampling, in (0, 1].
    pub top_p: f64,
    /// Seed of the sampling; equal requests with equal seeds get equal answers.
    pub seed: u64,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// Number of most probable alternatives to list with each token (0 to 20); `None` for no log-probabilities.
    pub logprobs: Option<usize>,
}

/// One message of a conversation.
#[derive(Debug, Clone)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// Texts and images in the order in which they were given.
    pub parts: Vec<Part>,
}

/// Who speaks in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions for the whole conversation; only as the first message.
    System,
    /// A question.
    User,
    /// An answer.
    Assistant,
}

/// A part of a message.
#[derive(Debug, Clone)]
pub enum Part {
    /// Text.
    Text(String),
    /// The bytes of an image file. The server has checked that its header gives a size within the limits.
    Image(Arc<ImageBytes>),
}

/// An image file in memory.
#[derive(Debug)]
pub struct ImageBytes {
    /// The encoded file (PNG, JPEG, WebP, GIF, BMP or TIFF).
    pub bytes: Vec<u8>,
    /// Digest of `bytes` in hexadecimal: the key under which the model caches what it computed from the image.
    pub digest: String,
}

/// What happens to a request, in order: `Started`, any number of `Text`, then `Done` or `Failed`.
#[derive(Debug, Clone)]
pub enum ChatEvent {
    /// The prompt was processed.
    Started {
        /// Number of positions of the prompt: text and image tokens.
        prompt_tokens: usize,
        /// How many of them were taken from the cache of image prefixes.
        cached_tokens: usize,
    },
    /// New text of the answer: whole characters, never a part of a stop text. White space at both ends of the whole
    /// answer is left out, as in `burgess ask`.
    Text {
        /// The text; empty when only `tokens` are new.
        text: String,
        /// The tokens of this text, with log-probabilities; empty unless requested.
        tokens: Vec<TokenLogprob>,
    },
    /// Log-probabilities of the options of [`ChatModel::score`], in their order.
    Scored(Vec<OptionScore>),
    /// The answer is complete.
    Done {
        /// Why it ended.
        finish: Finish,
        /// Number of generated tokens, without the token that ended the answer.
        completion_tokens: usize,
        /// Times of this request.
        timings: Timings,
    },
    /// The request failed after it was accepted.
    Failed(Arc<Error>),
}

/// Log-probability of a given answer.
#[derive(Debug, Clone, Serialize)]
pub struct OptionScore {
    /// The answer.
    pub text: String,
    /// Sum of the log-probabilities of its tokens and of the token that ends an answer, in nats.
    pub logprob: f64,
    /// Number of its tokens, with the token that ends it.
    pub tokens: usize,
}

/// A token with its log-probability and the most probable alternatives.
#[derive(Debug, Clone, Serialize)]
pub struct TokenLogprob {
    /// Text of the token.
    pub token: String,
    /// Log-probability in nats, before temperature and top-p.
    pub logprob: f64,
    /// UTF-8 bytes of the token.
    pub bytes: Vec<u8>,
    /// The most probable tokens at this position, most probable first.
    pub top_logprobs: Vec<TokenLogprob>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// By an end token or a stop text.
    Stop,
    /// By the maximum number of tokens.
    Length,
}

/// Where the time of a request went, in seconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Timings {
    /// From arrival to the start of the computation.
    pub queued: f64,
    /// Image decoding, encoding and the prompt, to the first token.
    pub prompt: f64,
    /// From the first token to the last.
    pub generation: f64,
}

/// State of a model's queue and counts since the start.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct ModelStats {
    /// Requests that wait.
    pub queued: usize,
    /// Requests in the batch.
    pub active: usize,
    /// Requests that ended with an answer.
    pub completed: u64,
    /// Requests that were cancelled by their clients.
    pub cancelled: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Positions of prompts that were computed.
    pub prompt_tokens: u64,
    /// Tokens that were generated.
    pub generated_tokens: u64,
    /// Images that were encoded.
    pub images_encoded: u64,
    /// Image prefixes that were taken from the cache.
    pub prefix_hits: u64,
    /// Decoding steps of the batch; `generated_tokens / steps` is the mean batch size.
    pub steps: u64,
    /// Seconds in which the device computed.
    pub busy_seconds: f64,
}

/// Why a request was not accepted.
#[derive(Debug)]
pub enum SubmitError {
    /// The queue is full.
    Full {
        /// Seconds after which trying again is reasonable, at least 1.
        retry_after: u64,
    },
    /// The model cannot answer this request, such as one with two images or one that is too long.
    Invalid {
        /// The error, with its hint.
        error: Error,
        /// The request's field at fault, such as `messages` or `max_tokens`.
        param: &'static str,
    },
    /// The server is shutting down.
    ShuttingDown,
}

//! Models behind the HTTP server: [`ServedModel`] answers requests with a model from a directory.
//!
//! A request is checked, tokenised and its image preprocessed where it arrives; then it waits in a bounded queue. One
//! thread per model does all work on the device: between two decoding steps it takes new requests, encodes their images
//! together, computes their prompts, and adds them to the batch. The image with the text before it is kept, so that a
//! second question about an image costs only its text.
//!
//! Greedy answers are those of `burgess ask` and `burgess eval`; on the CPU backend not even their bits depend on the
//! other requests.

mod answer_text;
mod conversation;
pub mod examples;
mod images;
mod queue;
#[cfg(test)]
mod tests;
mod worker;

use crate::features::model_cards::ModelEncoder;
use crate::run::ask::MultimodalModel;
use burgess_base::{Context, Error, Result};
use burgess_probe::generate::{Draws, PrefixCache, Sampling};
use burgess_probe::llm::{Activations, Compute};
use burgess_serve::{ChatEvent, ChatModel, ChatRequest, ModelInfo, ModelStats, SubmitError};
use burn::module::Module;
use burn::tensor::Device;
use conversation::{ConversationPrompt, Conversations};
use images::{ImageEncoders, JobImage, prepare};
use queue::{Job, JobQueue, Work};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Instant, UNIX_EPOCH};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use worker::Worker;

/// Largest number of options that are scored together.
const MAX_OPTIONS: usize = 256;

/// Options of a served model.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Name of the model in requests.
    pub name: String,
    /// Name of the device.
    pub device_name: String,
    /// Chat template for a released model whose configuration does not determine it.
    pub chat: Option<String>,
    /// Precision of activations in products with quantised weights.
    pub activations: Activations,
    /// Precision of the language model's matrix products.
    pub precision: Compute,
    /// Maximum number of answers in progress.
    pub max_batch: usize,
    /// Maximum number of requests that wait.
    pub queue: usize,
    /// Maximum number of tokens of an answer.
    pub max_tokens: usize,
    /// Maximum size of the image prefixes that are kept, in bytes.
    pub prefix_cache_bytes: usize,
}

/// A model from a directory that answers chat requests.
pub struct ServedModel {
    info: ModelInfo,
    conversations: Conversations,
    cards: Vec<ModelEncoder>,
    device: Device,
    queue: Arc<JobQueue>,
    queue_limit: usize,
    prefixes: Arc<Mutex<PrefixCache>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl ServedModel {
    /// Opens a model's directory and starts its thread.
    ///
    /// # Errors
    /// The directory holds no multimodal model, weights of the model or of its encoders are missing, or the thread
    /// cannot be started.
    pub fn open(dir: &Path, device: &Device, options: &ServeOptions) -> Result<Self> {
        let opened = MultimodalModel::open(dir, options.chat.as_deref(), device)?;
        let opened = opened.answering_in(options.activations, options.precision)?;
        Self::start(opened, created(dir)?, device, options)
    }

    /// Starts the thread of an opened model; `created` is when its files were written, in seconds since 1970.
    fn start(opened: MultimodalModel, created: u64, device: &Device, options: &ServeOptions) -> Result<Self> {
        let MultimodalModel { model, tokenizer, encoders: cards, .. } = opened;
        let trained = !model.encoders.is_empty();
        let encoders = ImageEncoders::load(&cards, trained, device)?;
        let config = model.config();
        let grids = cards.iter().map(|e| e.card.used_grid()).collect::<Result<Vec<_>>>()?;
        // Trained encoders are part of the model.
        let outside = if trained { 0 } else { cards.iter().map(|e| e.card.parameters()).sum() };
        let info = ModelInfo {
            id: options.name.clone(),
            created,
            encoders: cards.iter().map(|e| e.encoder.name()).collect(),
            connector: config.connector.kind.name().into(),
            llm: config.llm.model_type.name.into(),
            parameters: (model.num_params() + model.llm.stored_elements()) as u64 + outside,
            image_tokens: config.connector.image_tokens(&grids),
            max_positions: config.llm.longest().unwrap_or(config.llm.max_position_embeddings),
            device: options.device_name.clone(),
        };
        let samplers = config.connector.kind.properties().samplers.is_some();
        let conversations = Conversations {
            image_id: config.chat.image_id(&tokenizer)?,
            chat: config.chat.clone(),
            image_tokens: info.image_tokens,
            max_positions: info.max_positions,
            switch_with_image: config.llm.length_switch().filter(|_| samplers),
            max_tokens: options.max_tokens,
            tokenizer,
        };
        let queue = Arc::new(JobQueue::default());
        let prefixes = Arc::new(Mutex::new(PrefixCache::new(options.prefix_cache_bytes)));
        let worker = Worker {
            stop: conversations.chat.stop(&conversations.tokenizer)?,
            model,
            tokenizer: conversations.tokenizer.clone(),
            cards: cards.clone(),
            encoders,
            device: device.clone(),
            queue: Arc::clone(&queue),
            prefixes: Arc::clone(&prefixes),
            max_batch: options.max_batch.max(1),
        };
        let thread = std::thread::Builder::new().name(format!("model {}", options.name)).spawn(|| worker.supervise());
        let thread = Mutex::new(Some(thread.context("starting the thread of the model")?));
        let (queue_limit, device) = (options.queue, device.clone());
        Ok(Self { info, conversations, cards, device, queue, queue_limit, prefixes, thread })
    }

    /// The image encoders of the model, with their cards.
    pub fn encoders(&self) -> &[ModelEncoder] {
        &self.cards
    }

    /// Waits until all accepted requests are done, after [`ChatModel::shut_down`].
    pub fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The thread catches panics of its work; if it died all the same, there is nothing left to wait for.
        let _ = thread.map(JoinHandle::join);
    }

    /// Adds a checked request to the queue.
    fn enqueue(
        &self,
        prompt: ConversationPrompt,
        work: Work,
        arrived: Instant,
    ) -> Result<UnboundedReceiver<ChatEvent>, SubmitError> {
        let ConversationPrompt { ids, image, positions, .. } = prompt;
        let image = match image {
            None => None,
            Some((file, at)) => {
                let before = ids.get(..at).unwrap_or_default();
                let prefixes = self.prefixes.lock().unwrap_or_else(PoisonError::into_inner);
                let cached = prefixes.contains(&file.digest, before);
                drop(prefixes);
                let prepared = match cached {
                    true => None,
                    false => Some(
                        prepare(&file, &self.cards, &self.device)
                            .map_err(|error| SubmitError::Invalid { error, param: "messages" })?,
                    ),
                };
                Some((JobImage { file, prepared }, at))
            }
        };
        let (events, receiver) = unbounded_channel();
        self.queue.push(Job { ids, image, positions, work, events, arrived }, self.queue_limit)?;
        Ok(receiver)
    }
}

impl ChatModel for ServedModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn submit(&self, request: ChatRequest) -> Result<UnboundedReceiver<ChatEvent>, SubmitError> {
        let arrived = Instant::now();
        self.queue.check_room(self.queue_limit)?;
        let sampling = sampling(&request)?;
        let prompt = self.conversations.prompt(&request)?;
        let max_new_tokens = self.conversations.max_new_tokens(&request, &prompt)?;
        let draws = sampling.map(|sampling| Draws::new(sampling, &prompt.ids)).transpose();
        let draws = draws.map_err(|error| SubmitError::Invalid { error, param: "temperature" })?;
        let ChatRequest { stop, logprobs, .. } = request;
        self.enqueue(prompt, Work::Answer { draws, logprobs, stop, max_new_tokens }, arrived)
    }

    fn score(&self, request: ChatRequest, texts: Vec<String>) -> Result<UnboundedReceiver<ChatEvent>, SubmitError> {
        let arrived = Instant::now();
        self.queue.check_room(self.queue_limit)?;
        if texts.is_empty() || texts.len() > MAX_OPTIONS {
            return Err(SubmitError::Invalid {
                error: Error::usage(format!("got {} options, expected 1 to {MAX_OPTIONS}", texts.len())),
                param: "options",
            });
        }
        let prompt = self.conversations.prompt(&request)?;
        let options =
            texts.iter().map(|text| self.conversations.option(&prompt, text)).collect::<Result<_, SubmitError>>()?;
        self.enqueue(prompt, Work::Score { texts, options }, arrived)
    }

    fn stats(&self) -> ModelStats {
        self.queue.stats()
    }

    fn shut_down(&self) {
        self.queue.close();
    }
}

impl Drop for ServedModel {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// The sampling options of a request, which are checked; `None` for greedy decoding, which temperature 0 means.
fn sampling(request: &ChatRequest) -> Result<Option<Sampling>, SubmitError> {
    let ChatRequest { temperature, top_p, seed, .. } = *request;
    if !(temperature >= 0.0 && temperature.is_finite()) {
        return Err(SubmitError::Invalid {
            error: Error::usage(format!("`temperature` is {temperature}, must be at least 0")),
            param: "temperature",
        });
    }
    let greedy = temperature == 0.0;
    // At temperature 0, top-p has no effect, but is checked all the same.
    let sampling = Sampling { temperature: if greedy { 1.0 } else { temperature }, top_p, top_k: None, seed };
    sampling.check().map_err(|error| SubmitError::Invalid { error, param: "top_p" })?;
    Ok((!greedy).then_some(sampling))
}

/// When the files of a model were written, in seconds since 1970.
fn created(dir: &Path) -> Result<u64> {
    let file = dir.join("config.json");
    let step = || format!("reading {}", file.display());
    let modified = std::fs::metadata(&file).with_context(step)?.modified().with_context(step)?;
    Ok(modified.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()))
}

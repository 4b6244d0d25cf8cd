//! The files of an evaluator's language model, opened without its weights.

use crate::data::field;
use crate::study::EvaluatorConfig;
use burgess_base::Result;
use burgess_probe::llm::{ChatTemplate, LlmConfig, Tokenizer, Weights};
use std::path::PathBuf;

/// The language model's directory, and what is known of the model without its weights.
pub struct LlmFiles {
    /// Directory of the model.
    pub dir: PathBuf,
    /// Configuration of the model.
    pub config: LlmConfig,
    /// Tokenizer of the model.
    pub tokenizer: Tokenizer,
    /// Chat template, with the evaluator's system message.
    pub chat: ChatTemplate,
    /// Assumptions where the model's files are incomplete.
    pub notes: Vec<String>,
    /// Digest of the weights.
    pub digest: String,
}

impl LlmFiles {
    /// Opens a language model and checks that its parts fit together. Reads the headers of the weights, and all their
    /// bytes only for the digest.
    ///
    /// # Errors
    /// The model is not on this machine, or its weights, tokenizer and chat template do not fit together.
    pub fn open(evaluator: &EvaluatorConfig) -> Result<Self> {
        let weights = Weights::open(&field::resolve(&evaluator.llm)?)?;
        let dir = weights.path().to_path_buf();
        weights.check()?;
        let tokenizer = Tokenizer::of_model(&weights)?;
        weights.check_tokenizer(&tokenizer)?;
        let chat = match &evaluator.chat {
            Some(name) => ChatTemplate::named(name)?,
            None => ChatTemplate::of_model(&weights, &tokenizer)?,
        };
        let chat = match &evaluator.system {
            Some(system) => chat.with_system(system)?,
            None => chat,
        };
        // Check now what every question and answer needs.
        chat.stop(&tokenizer)?;
        chat.image_id(&tokenizer)?;
        let notes = weights.all_notes(&tokenizer, &chat)?;
        Ok(Self { notes, digest: weights.digest()?, config: weights.config().clone(), dir, tokenizer, chat })
    }
}

//! `[qa]`: how questions and answers are written, and which are kept.

use burgess_base::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a language model is asked for questions and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum QaPrompt {
    /// Questions of given kinds with answers and the sentences that support them, as JSON of a given schema.
    #[default]
    Structured,
    /// The paper's: one question and answer in free text, for the record as JSON.
    Paper,
}

/// A kind of question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum QuestionKind {
    /// What the image shows, and what that is.
    Identify,
    /// Why or how something is as the image shows it.
    Explain,
    /// How parts of the image relate to one another, or to something else.
    Compare,
    /// What one would conclude from the image with the knowledge of the text.
    Infer,
    /// A detailed description with background.
    Describe,
    /// A question whose answer begins with yes or no.
    YesNo,
}

impl QuestionKind {
    /// All kinds.
    pub const ALL: [Self; 6] = [Self::Identify, Self::Explain, Self::Compare, Self::Infer, Self::Describe, Self::YesNo];

    /// Returns the name, as in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identify => "identify",
            Self::Explain => "explain",
            Self::Compare => "compare",
            Self::Infer => "infer",
            Self::Describe => "describe",
            Self::YesNo => "yes-no",
        }
    }

    /// Returns what a writer is told about the kind.
    pub fn about(self) -> &'static str {
        match self {
            Self::Identify => "what is shown, and what it is",
            Self::Explain => "why or how something is as it is shown",
            Self::Compare => "how parts of the image relate to one another or to something else",
            Self::Infer => "what one would conclude from the image with the knowledge of the text",
            Self::Describe => "a detailed description with its background",
            Self::YesNo => "a question that is answered with yes or no and the reason",
        }
    }
}

/// Questions and answers about images, by a language model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QaConfig {
    /// How the language model is asked: `structured`, or `paper` for the paper's prompt.
    pub prompt: QaPrompt,
    /// Kinds of questions, in turn over the images; only for `structured`.
    pub kinds: Vec<QuestionKind>,
    /// Number of questions per image; the paper's prompt writes one.
    pub per_image: usize,
    /// Language of questions and answers, by its English name; without it that of the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub language: Option<String>,
    /// Number of words that the text of the section must exceed; the paper's is 50.
    pub more_words_than: usize,
    /// Whether images without a caption are used.
    pub without_caption: bool,
    /// Largest part of a section's text that is sent, in characters.
    pub max_text: usize,
    /// Whether the image is sent too, for models that see.
    pub send_image: bool,
    /// Whether names, numbers and quotations of answers must occur in caption, text, heading or title.
    pub grounded: bool,
    /// Whether each answer needs a sentence of caption or text that supports it; only for `structured`.
    pub evidence: bool,
    /// Largest length of a question in characters.
    pub max_question: usize,
    /// Largest length of an answer in characters.
    pub max_answer: usize,
    /// Smallest number of words of an answer.
    pub min_answer_words: usize,
    /// Largest number of requests for an image, if replies are malformed.
    pub asks: usize,
    /// Number of requests at the same time.
    pub workers: usize,
    /// Largest number of generated tokens of a reply.
    pub max_tokens: u32,
    /// Sampling temperature.
    pub temperature: f64,
    /// Seed of the sampling, if the endpoint takes one.
    pub seed: u64,
}

impl Default for QaConfig {
    fn default() -> Self {
        use QuestionKind::{Compare, Describe, Explain, Identify, Infer};
        Self {
            prompt: QaPrompt::Structured,
            kinds: vec![Identify, Explain, Compare, Infer, Describe],
            per_image: 1,
            language: None,
            more_words_than: 50,
            without_caption: false,
            max_text: 6000,
            send_image: false,
            grounded: true,
            evidence: true,
            max_question: 400,
            max_answer: 2000,
            min_answer_words: 3,
            asks: 2,
            workers: 4,
            max_tokens: 1024,
            temperature: 0.3,
            seed: 0,
        }
    }
}

impl QaConfig {
    pub(super) fn check(&self) -> Result<(), (&'static str, Error)> {
        super::range("per_image", self.per_image, 1, 20)?;
        if self.prompt == QaPrompt::Structured && self.kinds.is_empty() {
            let names = QuestionKind::ALL.map(QuestionKind::as_str).join(", ");
            return Err(("kinds", Error::usage("`kinds` is empty").hint(format!("name one or several of {names}"))));
        }
        if self.prompt == QaPrompt::Paper && self.per_image != 1 {
            let e =
                Error::usage(format!("`per_image` is {}, but the paper's prompt writes one question", self.per_image));
            return Err(("per_image", e.hint("set it to 1, or set prompt = \"structured\"")));
        }
        if let Some(language) = &self.language
            && (language.trim().is_empty() || language.chars().count() > 40)
        {
            let e = Error::usage("`language` must have 1 to 40 characters");
            return Err(("language", e.hint("write its English name, such as German, or remove the key")));
        }
        super::range("max_text", self.max_text, 100, 1_000_000)?;
        super::range("max_question", self.max_question, 10, 100_000)?;
        super::range("max_answer", self.max_answer, 10, 100_000)?;
        super::range("min_answer_words", self.min_answer_words, 0, 1000)?;
        super::range("more_words_than", self.more_words_than, 0, 1_000_000)?;
        super::range("asks", self.asks, 1, 20)?;
        super::range("workers", self.workers, 1, 1024)?;
        super::range("max_tokens", self.max_tokens as usize, 16, 1_000_000)?;
        super::temperature(self.temperature)
    }
}

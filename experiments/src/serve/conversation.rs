//! Conversations of requests as prompts of a model: the turns through its chat template, the image where the model was
//! trained to see it, and lengths.

use burgess_base::{Error, Result};
use burgess_probe::llm::chat::Turn;
use burgess_probe::llm::tokenizer::IMAGE;
use burgess_probe::llm::{ChatTemplate, Tokenizer};
use burgess_serve::{ChatRequest, ImageBytes, Message, Part, Role, SubmitError};
use std::sync::Arc;

/// What turns conversations into prompts.
pub struct Conversations {
    /// Tokenizer of the model.
    pub tokenizer: Tokenizer,
    /// Chat template of the model.
    pub chat: ChatTemplate,
    /// Id of the image placeholder.
    pub image_id: u32,
    /// Number of image tokens per image.
    pub image_tokens: usize,
    /// Maximum number of positions of prompt and answer together.
    pub max_positions: usize,
    /// Maximum number of positions of a conversation with an image that begins with fewer; LongRoPE models whose
    /// connector has samplers cannot grow past the length at which their rotary angles change.
    pub switch_with_image: Option<usize>,
    /// Maximum number of tokens of an answer.
    pub max_tokens: usize,
}

/// The prompt of a conversation.
pub struct ConversationPrompt {
    /// Token ids, with the image placeholder.
    pub ids: Vec<u32>,
    /// The image and the index of its placeholder.
    pub image: Option<(Arc<ImageBytes>, usize)>,
    /// Number of positions: text and image tokens.
    pub positions: usize,
    turns: Vec<Turn>,
}

fn messages(error: Error) -> SubmitError {
    SubmitError::Invalid { error, param: "messages" }
}

impl Conversations {
    /// Makes the prompt of a conversation.
    ///
    /// Text parts of a message are joined by line feeds. There may be one image, in any message of the user; it is
    /// placed at the start of the first question, where the training data of LLaVA and of Burgess have it, whichever
    /// message it came with.
    ///
    /// # Errors
    /// There are several images, the chat template does not support the turns, or the prompt leaves no room for an
    /// answer.
    pub fn prompt(&self, request: &ChatRequest) -> Result<ConversationPrompt, SubmitError> {
        let image = one_image(&request.messages).map_err(messages)?;
        let turns: Vec<Turn> = request.messages.iter().map(turn).collect();
        if image.is_none() && turns.iter().any(|turn| turn.text.contains(IMAGE)) {
            return Err(messages(
                Error::usage(format!("the text contains {IMAGE}, but the conversation has no image"))
                    .hint("add the image as a content part of the type image_url"),
            ));
        }
        let encoded = self.chat.open(&self.tokenizer, &turns, image.is_some());
        // Hints of the template are for training data.
        let encoded = encoded.map_err(|e| messages(Error::usage(e.to_string()).hint(hint(&request.messages))))?;
        let ids = encoded.ids;
        let at = ids.iter().position(|id| *id == self.image_id);
        let image = match (image, at) {
            (Some(image), Some(at)) => Some((image, at)),
            (None, _) => None,
            (Some(_), None) => {
                return Err(messages(
                    Error::failed("the chat template left the image out")
                        .hint("send the image with the first question"),
                ));
            }
        };
        let positions = ids.len() + if image.is_some() { self.image_tokens.saturating_sub(1) } else { 0 };
        let prompt = ConversationPrompt { ids, image, positions, turns };
        if self.room(&prompt) == 0 {
            let (most, image) = (self.longest(&prompt), positions - prompt.text_tokens());
            return Err(messages(
                Error::usage(format!(
                    "the conversation takes {positions} positions ({} of text, {image} of the image) and needs at least \
                     one more for the answer; the model has {most}",
                    prompt.text_tokens()
                ))
                .hint("shorten the text or leave out earlier turns"),
            ));
        }
        Ok(prompt)
    }

    /// The maximum number of positions of this conversation.
    fn longest(&self, prompt: &ConversationPrompt) -> usize {
        let switch = self.switch_with_image.filter(|switch| prompt.image.is_some() && prompt.positions <= *switch);
        switch.map_or(self.max_positions, |switch| switch.min(self.max_positions))
    }

    /// Number of tokens of an answer for which the model has positions.
    fn room(&self, prompt: &ConversationPrompt) -> usize {
        self.longest(prompt).saturating_sub(prompt.positions)
    }

    /// The maximum number of tokens of the answer: as many as were asked for (by default, as the server allows), as far
    /// as they fit into the model and the server's limit. A shortened answer ends with
    /// [`burgess_serve::Finish::Length`].
    ///
    /// # Errors
    /// No token was asked for.
    pub fn max_new_tokens(&self, request: &ChatRequest, prompt: &ConversationPrompt) -> Result<usize, SubmitError> {
        match request.max_tokens {
            Some(0) => Err(SubmitError::Invalid {
                error: Error::usage("`max_tokens` is 0, must be at least 1"),
                param: "max_tokens",
            }),
            asked => Ok(asked.unwrap_or(usize::MAX).min(self.max_tokens).min(self.room(prompt))),
        }
    }

    /// Token ids of a given answer as in training: the answer and the token that ends it.
    ///
    /// # Errors
    /// The answer cannot be located in the conversation, or is too long.
    pub fn option(&self, prompt: &ConversationPrompt, option: &str) -> Result<Vec<u32>, SubmitError> {
        let invalid = |error: Error| SubmitError::Invalid { error, param: "options" };
        let turns = [prompt.turns.as_slice(), &[Turn::assistant(option)]].concat();
        let encoded = self.chat.encode(&self.tokenizer, &turns, prompt.image.is_some());
        let encoded = encoded.map_err(|e| invalid(Error::usage(e.to_string())))?;
        let supervised: Vec<(usize, u32)> = (encoded.ids.iter().zip(&encoded.loss_mask).enumerate())
            .filter(|(_, (_, supervised))| **supervised)
            .map(|(place, (id, _))| (place, *id))
            .collect();
        // Of a conversation with earlier answers, the supervised tokens of the last one.
        let earlier = prompt.turns.iter().any(|turn| turn.role == burgess_probe::llm::chat::Role::Assistant);
        let begins = |pair: &[(usize, u32)]| matches!(pair, [(a, _), (b, _)] if a + 1 < *b);
        let first = supervised.windows(2).rposition(begins).filter(|_| earlier).map_or(0, |place| place + 1);
        let ids: Vec<u32> = supervised.iter().skip(first).map(|(_, id)| *id).collect();
        if ids.is_empty() {
            let why = encoded.problem.map_or_else(|| "it has no tokens".to_string(), |problem| problem.to_string());
            return Err(invalid(
                Error::usage(format!("the option `{option}` cannot be scored: {why}"))
                    .hint("give options that are not empty, and alternating questions and answers"),
            ));
        }
        if ids.len() > self.room(prompt) + 1 {
            return Err(invalid(
                Error::usage(format!(
                    "the option has {} tokens after {} positions of the conversation; the model has {}",
                    ids.len(),
                    prompt.positions,
                    self.longest(prompt)
                ))
                .hint("shorten the option or the conversation"),
            ));
        }
        Ok(ids)
    }
}

impl ConversationPrompt {
    fn text_tokens(&self) -> usize {
        self.ids.len() - usize::from(self.image.is_some())
    }
}

fn hint(messages: &[Message]) -> &'static str {
    match messages.iter().any(|m| m.role == Role::System) {
        true => "leave out the system message, or let questions and answers alternate after it",
        false => "let questions and answers alternate, beginning with a question",
    }
}

/// The only image of a conversation.
fn one_image(messages: &[Message]) -> Result<Option<Arc<ImageBytes>>> {
    let mut images = messages.iter().flat_map(|message| {
        message.parts.iter().filter_map(|part| match part {
            Part::Image(image) => Some((message.role, image)),
            Part::Text(_) => None,
        })
    });
    let first = images.next();
    let more = images.count();
    if more > 0 {
        return Err(Error::usage(format!("the conversation has {} images, the model reads one", more + 1))
            .hint("send one image per conversation; in later turns, leave the image in the first message"));
    }
    match first {
        Some((Role::User, image)) => Ok(Some(Arc::clone(image))),
        Some(_) => Err(Error::usage("only messages of the user may have an image")
            .hint("send the image in a message with the role user")),
        None => Ok(None),
    }
}

fn turn(message: &Message) -> Turn {
    let texts: Vec<&str> = message
        .parts
        .iter()
        .filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Image(_) => None,
        })
        .collect();
    let text = texts.join("\n");
    match message.role {
        Role::System => Turn::system(text),
        Role::User => Turn::user(text),
        Role::Assistant => Turn::assistant(text),
    }
}

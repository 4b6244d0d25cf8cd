//! The text of an answer while its tokens arrive.

use burgess_base::{Error, Result};
use burgess_probe::llm::Tokenizer;
use burgess_probe::text::{self, ScoredToken};
use burgess_serve::TokenLogprob;

/// New text of an answer, with its tokens if log-probabilities were asked for.
#[derive(Debug, Default)]
pub struct TextDelta {
    /// Whole characters; may be empty.
    pub text: String,
    /// The tokens of the text.
    pub tokens: Vec<TokenLogprob>,
}

/// Turns tokens into text that can be sent at once. All deltas together are the decoded answer without white space at
/// both ends, up to the first stop text.
///
/// Text is held back while it may still change: incomplete characters, bytes of SentencePiece's byte fallback until
/// another token follows, white space that may be the end of the answer, and the beginning of a stop text. A stop text
/// is searched from the first character that is not white space on.
#[derive(Debug)]
pub struct AnswerText {
    ids: Vec<u32>,
    stops: Vec<String>,
    /// Text that was returned so far.
    sent: String,
    /// Number of tokens at the end that are bytes of the byte fallback, or special ones after such.
    bytes: usize,
    /// Tokens that were not returned, each with the length of the text decoded up to its end (the maximum for `bytes`).
    pending: Vec<(usize, TokenLogprob)>,
    /// The text up to a stop text, once one was found.
    stopped: Option<Stopped>,
}

#[derive(Debug)]
struct Stopped {
    text: String,
    /// Byte offset of the stop text in the decoded text.
    at: usize,
}

impl AnswerText {
    /// Makes an empty text, which ends before the first of `stops`.
    pub fn new(stops: Vec<String>) -> Self {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        Self { ids: Vec::new(), stops, sent: String::new(), bytes: 0, pending: Vec::new(), stopped: None }
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether a stop text was reached.
    pub fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// Adds a token; returns the text that is final now.
    ///
    /// # Errors
    /// The tokenizer cannot decode the tokens.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32, scored: Option<&ScoredToken>) -> Result<TextDelta> {
        // Special tokens are left out of the text, so they do not separate bytes.
        let is_special = || tokenizer.token(id).is_some_and(|token| tokenizer.is_special(&token));
        let is_byte = tokenizer.is_fallback_byte(id) || self.bytes > 0 && is_special();
        if self.bytes > 0 && !is_byte {
            let end = tokenizer.decode(&self.ids)?.len();
            self.pending.iter_mut().filter(|(place, _)| *place == usize::MAX).for_each(|(place, _)| *place = end);
        }
        self.ids.push(id);
        self.bytes = if is_byte { self.bytes + 1 } else { 0 };
        let whole = tokenizer.decode(self.ids.get(..self.ids.len() - self.bytes).unwrap_or_default())?;
        if let Some(scored) = scored {
            let place = if is_byte { usize::MAX } else { whole.len() };
            self.pending.push((place, with_alternatives(tokenizer, scored)));
        }
        let visible = whole.trim_start();
        let before = whole.len() - visible.len();
        // The last character may be incomplete.
        let stable = visible.trim_end_matches(char::REPLACEMENT_CHARACTER);
        let found = self.first_stop(stable);
        if let Some(at) = found {
            let text = stable.get(..at).unwrap_or_default().trim_end().to_string();
            self.stopped = Some(Stopped { text, at: before + at });
            return Ok(TextDelta::default());
        }
        let safe = stable.get(..stable.len() - self.held_back(stable)).unwrap_or_default().trim_end();
        Ok(self.delta(safe, before + safe.len()))
    }

    /// Returns the rest of the text when the answer is complete.
    ///
    /// # Errors
    /// The text that was sent is not the beginning of the whole text, because the tokenizer decodes the end of the
    /// answer differently with the rest.
    pub fn finish(mut self, tokenizer: &Tokenizer) -> Result<TextDelta> {
        let (text, end) = match self.stopped.take() {
            Some(Stopped { text, at }) => (text, at),
            None => {
                let whole = tokenizer.decode(&self.ids)?;
                let visible = whole.trim_start();
                // The text that was held back may contain a stop text.
                match self.first_stop(visible) {
                    Some(at) => {
                        let text = visible.get(..at).unwrap_or_default().trim_end().to_string();
                        (text, whole.len() - visible.len() + at)
                    }
                    None => (visible.trim_end().to_string(), usize::MAX),
                }
            }
        };
        if !text.starts_with(&self.sent) {
            return Err(Error::failed("the tokenizer changed text of the answer that was already sent")
                .hint("ask again without streaming"));
        }
        Ok(self.delta(&text, end))
    }

    /// Byte offset of the first stop text.
    fn first_stop(&self, text: &str) -> Option<usize> {
        self.stops.iter().filter_map(|stop| text.find(stop.as_str())).min()
    }

    /// Length of the longest end of `text` that begins a stop text.
    fn held_back(&self, text: &str) -> usize {
        let begins = |stop: &String| {
            let longest = text.len().min(stop.len().saturating_sub(1));
            (1..=longest).rev().find(|n| stop.is_char_boundary(*n) && text.ends_with(&stop[..*n])).unwrap_or(0)
        };
        self.stops.iter().map(begins).max().unwrap_or(0)
    }

    /// The part of `text` that was not sent, with the tokens that end at or before `end` in the decoded text.
    fn delta(&mut self, text: &str, end: usize) -> TextDelta {
        let Some(new) = text.strip_prefix(self.sent.as_str()) else { return TextDelta::default() };
        if new.is_empty() && end != usize::MAX {
            return TextDelta::default();
        }
        self.sent.push_str(new);
        let ready = self.pending.iter().take_while(|(place, _)| *place <= end).count();
        TextDelta { text: new.to_string(), tokens: self.pending.drain(..ready).map(|(_, token)| token).collect() }
    }
}

/// Writes a token and its alternatives as text.
fn with_alternatives(tokenizer: &Tokenizer, scored: &ScoredToken) -> TokenLogprob {
    let named = |token: &text::TokenLogprob, top_logprobs| {
        let bytes = tokenizer.token_bytes(token.id).unwrap_or_default();
        TokenLogprob {
            token: String::from_utf8_lossy(&bytes).into_owned(),
            logprob: token.logprob,
            bytes,
            top_logprobs,
        }
    };
    named(&scored.token, scored.top.iter().map(|token| named(token, Vec::new())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use burgess_base::stream::{stream, uniform};
    use burgess_probe::llm::tokenizer::SPECIALS;
    use std::path::Path;

    fn tokenizers() -> Result<Vec<(String, Tokenizer)>> {
        let text = "The red cup, große Äpfel and 日本 🦊 are here.\n\nYes";
        let mut all = vec![("own".to_string(), Tokenizer::train([text].iter(), 300, &SPECIALS)?)];
        let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/tokenizers");
        for entry in std::fs::read_dir(goldens)?.flatten() {
            if let Ok(tokenizer) = Tokenizer::open(&entry.path()) {
                all.push((entry.file_name().to_string_lossy().into_owned(), tokenizer));
            }
        }
        Ok(all)
    }

    /// The deltas of an answer; the tokens end where a stop text is reached.
    fn deltas(tokenizer: &Tokenizer, ids: &[u32], stops: &[&str]) -> Result<Vec<TextDelta>> {
        let mut text = AnswerText::new(stops.iter().map(ToString::to_string).collect());
        let mut all = Vec::new();
        for &id in ids {
            let scored = ScoredToken { token: text::TokenLogprob { id, logprob: -1.0 }, top: Vec::new() };
            all.push(text.push(tokenizer, id, Some(&scored))?);
            if text.is_stopped() {
                break;
            }
        }
        all.push(text.finish(tokenizer)?);
        Ok(all)
    }

    fn joined(deltas: &[TextDelta]) -> String {
        deltas.iter().map(|d| d.text.as_str()).collect()
    }

    #[test]
    fn streamed_text_is_the_whole_answer() -> Result<()> {
        for (name, tokenizer) in tokenizers()? {
            let mut random = stream("answers", 1);
            for case in 0..150 {
                // Random tokens, which are often parts of characters, and real text.
                let ids: Vec<u32> = match case % 2 {
                    0 => (0..case / 4)
                        .map(|_| (uniform(&mut random) * tokenizer.vocab_size() as f64) as u32)
                        .filter(|id| tokenizer.token(*id).is_some())
                        .collect(),
                    _ => tokenizer.encode(&"  große 日本 🦊 cup\n\n  Yes. ".repeat(case / 40 + 1))?,
                };
                let made = deltas(&tokenizer, &ids, &[])?;
                assert_eq!(joined(&made), tokenizer.decode(&ids)?.trim(), "{name}: {ids:?}");
                assert_eq!(made.iter().map(|d| d.tokens.len()).sum::<usize>(), ids.len(), "{name}");
            }
        }
        Ok(())
    }

    #[test]
    fn stop_texts_cut_the_answer_and_are_never_sent() -> Result<()> {
        for (name, tokenizer) in tokenizers()? {
            let text = "The cup is red. END of it";
            let ids = tokenizer.encode(text)?;
            if tokenizer.decode(&ids)?.trim() != text {
                continue;
            }
            let made = deltas(&tokenizer, &ids, &["END", "unknown", ""])?;
            assert_eq!(joined(&made), "The cup is red.", "{name}");
            assert!(made.iter().all(|d| !d.text.contains('E')), "{name}: {made:?}");
            let tokens: Vec<u8> = made.iter().flat_map(|d| &d.tokens).flat_map(|t| t.bytes.clone()).collect();
            assert!(!String::from_utf8_lossy(&tokens).contains("ND"), "{name}");
            // The earliest of several, and one that is only begun.
            assert_eq!(joined(&deltas(&tokenizer, &ids, &["END", "cup is"])?), "The", "{name}");
            assert_eq!(joined(&deltas(&tokenizer, &ids, &["it!"])?), text, "{name}");
            assert_eq!(joined(&deltas(&tokenizer, &ids, &["The"])?), "", "{name}");
            // At the end of the answer, where characters may be bytes.
            let ids = tokenizer.encode("Yes 🦊")?;
            if tokenizer.decode(&ids)?.trim() == "Yes 🦊" {
                assert_eq!(joined(&deltas(&tokenizer, &ids, &["🦊"])?), "Yes", "{name}");
            }
        }
        Ok(())
    }
}

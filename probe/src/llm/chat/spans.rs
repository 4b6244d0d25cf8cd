//! Locates the supervised bytes and tokens of a rendered conversation, for templates that do not mark them.

use super::{MaskProblem, Role, Turn, python};
use crate::llm::tokenizer::Tokenizer;
use burgess_base::Result;
use std::ops::Range;

/// The byte range of one answer in a rendered conversation.
pub struct AnswerSpan {
    /// Byte range from the end of the text before the answer to the end of the special token after it.
    pub bytes: Range<usize>,
    /// The special token that ends the answer.
    pub end_token: String,
}

/// The result of locating the answers of a conversation.
pub enum AnswerSpans {
    /// One range per answer, in order.
    Found(Vec<AnswerSpan>),
    /// The answers could not be located.
    NotFound(MaskProblem),
}

/// Locates the answers in `text`, the rendered `turns`. An answer begins where the template's rendering of the
/// earlier turns with a generation prompt (`open`) ends, and it ends with a special token.
///
/// # Errors
/// The errors of `open`.
pub fn by_prefix(
    text: &str,
    turns: &[Turn],
    tokenizer: &Tokenizer,
    open: impl Fn(&[Turn]) -> Result<String>,
) -> Result<AnswerSpans> {
    let mut all = Vec::new();
    for (i, turn) in turns.iter().enumerate().filter(|(_, t)| t.role == Role::Assistant) {
        let before = open(turns.get(..i).unwrap_or_default())?;
        let Some(rest) = text.strip_prefix(&before) else {
            return Ok(AnswerSpans::NotFound(MaskProblem::PrefixChanged { turn: i }));
        };
        let answer = python::strip(&turn.text);
        let ended = rest.match_indices(answer).find_map(|(at, _)| {
            // White space may separate the answer from its end token.
            let after = rest.get(at + answer.len()..)?;
            let end = after.trim_start();
            let token = tokenizer.special_texts().filter(|t| end.starts_with(t)).max_by_key(|t| t.len())?;
            Some((rest.len() - end.len() + token.len(), token.to_string()))
        });
        let Some((length, token)) = ended else {
            return Ok(AnswerSpans::NotFound(MaskProblem::AnswerChanged { turn: i }));
        };
        all.push(AnswerSpan { bytes: before.len()..before.len() + length, end_token: token });
    }
    Ok(AnswerSpans::Found(all))
}

/// The loss mask of tokens with the byte ranges `tokens`: for each span, all tokens from the first to the last that
/// overlap it, as in `return_assistant_tokens_mask` of `transformers`.
pub fn loss_mask(tokens: &[Range<usize>], spans: &[Range<usize>]) -> Vec<bool> {
    let mut mask = vec![false; tokens.len()];
    for span in spans {
        let overlaps = |p: &Range<usize>| p.start < span.end && p.end > span.start && p.start < p.end;
        let (Some(first), Some(last)) = (tokens.iter().position(overlaps), tokens.iter().rposition(overlaps)) else {
            continue;
        };
        mask.iter_mut().take(last + 1).skip(first).for_each(|supervised| *supervised = true);
    }
    mask
}

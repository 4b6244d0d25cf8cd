//! Which bytes of a rendered conversation are learned, for templates that do not mark them, and which tokens those are.

use super::{Problem, Role, Turn, python};
use crate::llm::tokenizer::Tokenizer;
use burgess_base::Result;
use std::ops::Range;

/// An answer in a rendered conversation.
pub struct Found {
    /// From the end of what is written before an answer to the end of the special token after it.
    pub bytes: Range<usize>,
    /// That token.
    pub end_token: String,
}

/// The answers of a conversation.
pub enum Spans {
    /// One for each.
    Found(Vec<Found>),
    /// They cannot be told from the rest.
    Not(Problem),
}

/// Finds the answers in `text`, the rendered `turns`: each stands behind what the template writes for the turns before
/// it when an answer is asked for (`open`), and ends with a special token.
///
/// # Errors
/// Those of `open`.
pub fn by_prefix(
    text: &str,
    turns: &[Turn],
    tokenizer: &Tokenizer,
    open: impl Fn(&[Turn]) -> Result<String>,
) -> Result<Spans> {
    let mut all = Vec::new();
    for (i, turn) in turns.iter().enumerate().filter(|(_, t)| t.role == Role::Assistant) {
        let before = open(turns.get(..i).unwrap_or_default())?;
        let Some(rest) = text.strip_prefix(&before) else { return Ok(Spans::Not(Problem::Moved { turn: i })) };
        let answer = python::strip(&turn.text);
        let ended = rest.match_indices(answer).find_map(|(at, _)| {
            // White space may stand between the answer and its end.
            let after = rest.get(at + answer.len()..)?;
            let end = after.trim_start();
            let token = tokenizer.specials().filter(|t| end.starts_with(t)).max_by_key(|t| t.len())?;
            Some((rest.len() - end.len() + token.len(), token.to_string()))
        });
        let Some((length, token)) = ended else { return Ok(Spans::Not(Problem::Changed { turn: i })) };
        all.push(Found { bytes: before.len()..before.len() + length, end_token: token });
    }
    Ok(Spans::Found(all))
}

/// Which tokens stand for bytes inside `spans`: all from the first that reaches into one to the last, as
/// `return_assistant_tokens_mask` of `transformers` counts them.
pub fn learned(places: &[Range<usize>], spans: &[Range<usize>]) -> Vec<bool> {
    let mut learned = vec![false; places.len()];
    for span in spans {
        let inside = |p: &Range<usize>| p.start < span.end && p.end > span.start && p.start < p.end;
        let (Some(first), Some(last)) = (places.iter().position(inside), places.iter().rposition(inside)) else {
            continue;
        };
        learned.iter_mut().take(last + 1).skip(first).for_each(|l| *l = true);
    }
    learned
}

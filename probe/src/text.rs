//! Runs a language model on text: continues a prompt, and computes the log-probability of each token.

use crate::connector::ImageTokens;
use crate::generate::{Sampling, most_likely};
use crate::llm::decoder::SequenceLayout;
use crate::llm::{KvCache, Llm};
use crate::mllm::{Mllm, Sequence};
use burgess_base::stream::{Stream, stream};
use burgess_base::{Error, Result, digest};
use burgess_encoders::transfer;
use burn::tensor::{Device, Tensor};
use serde::Serialize;

/// Number of most likely tokens that are reported with each token.
pub const TOP_TOKENS: usize = 5;

/// A token with its log-probability, before temperature, top-k and top-p.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TokenLogprob {
    /// The token id.
    pub id: u32,
    /// Natural logarithm of the probability, at most 0.
    pub logprob: f64,
}

/// A generated or given token with the most likely alternatives at its position.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScoredToken {
    /// The token at this position.
    pub token: TokenLogprob,
    /// The most likely tokens at this position, best first: [`TOP_TOKENS`] unless another number was asked for.
    pub top: Vec<TokenLogprob>,
}

impl ScoredToken {
    /// Computes the log-probabilities from a row of logits for the token `id`.
    ///
    /// # Errors
    /// When a logit is not finite, or `id` is outside the row.
    pub fn from_logits(logits: &[f32], id: u32) -> Result<Self> {
        Self::with_alternatives(logits, id, TOP_TOKENS)
    }

    /// As [`ScoredToken::from_logits`], with the `count` most likely tokens instead of [`TOP_TOKENS`].
    ///
    /// # Errors
    /// As [`ScoredToken::from_logits`].
    pub fn with_alternatives(logits: &[f32], id: u32, count: usize) -> Result<Self> {
        check_finite(logits)?;
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|x| f64::from(x - most).exp()).sum();
        let log = |id: usize| logits.get(id).map(|x| f64::from(x - most) - sum.ln());
        let logprob = log(id as usize).ok_or_else(|| {
            Error::failed(format!("token id {id} is outside the vocabulary of {} tokens", logits.len()))
                .hint("use the tokenizer of this language model")
        })?;
        // Ties are broken by the lower id.
        let mut best: Vec<usize> = Vec::with_capacity(count.min(logits.len()) + 1);
        for (i, x) in logits.iter().enumerate() {
            let place = best.iter().position(|b| logits.get(*b).is_some_and(|b| x > b)).unwrap_or(best.len());
            if place < count {
                best.insert(place, i);
                best.truncate(count);
            }
        }
        let top = best.into_iter().filter_map(|i| Some(TokenLogprob { id: i as u32, logprob: log(i)? })).collect();
        Ok(Self { token: TokenLogprob { id, logprob }, top })
    }
}

/// Checks that the logits of one position are finite.
fn check_finite(logits: &[f32]) -> Result<()> {
    let Some(at) = logits.iter().position(|x| !x.is_finite()) else { return Ok(()) };
    let bad = logits.get(at).copied().unwrap_or(f32::NAN);
    Err(Error::failed(format!("the language model's logit of token id {at} is {bad}, must be finite"))
        .hint("check that its weights and its configuration (norms, `rope_theta`) belong together and are not damaged"))
}

/// Returns the error for logits `[1, vocabulary]` on the device, of which one is not finite.
fn not_finite(logits: Tensor<2>) -> Error {
    let checked = transfer::to_host::<f32, _, _>(logits).and_then(|row| check_finite(&row));
    checked.err().unwrap_or_else(|| Error::failed("a logit of the language model is not finite"))
}

/// Generates at most `max_new_tokens` tokens after `prompt` and returns their ids; the last one may be a token of
/// `stop`. Greedy decoding copies one token id per step to the host.
///
/// # Errors
/// When the prompt is empty, `sampling` is invalid, the text exceeds the maximum length, or a logit is not finite.
pub fn continue_text(
    llm: &Llm,
    prompt: &[u32],
    max_new_tokens: usize,
    stop: &[u32],
    sampling: Option<Sampling>,
    device: &Device,
) -> Result<Vec<u32>> {
    generate(llm, prompt, max_new_tokens, stop, sampling, device, |logits, draws| match draws {
        None => {
            let whole = logits.clone();
            let likeliest = most_likely(logits, &|_, _| not_finite(whole.clone()))?;
            likeliest.first().map(|&id| (id, id)).ok_or_else(|| Error::failed("the model returned no logits"))
        }
        Some((sampling, random)) => {
            let row: Vec<f32> = transfer::to_host(logits)?;
            check_finite(&row)?;
            let id = sampling.draw(&row, random) as u32;
            Ok((id, id))
        }
    })
}

/// As [`continue_text`], with the log-probability of each token and the most likely alternatives. They are computed in
/// f64 on the host, to which every row of logits is copied.
///
/// # Errors
/// As [`continue_text`].
pub fn continue_text_scored(
    llm: &Llm,
    prompt: &[u32],
    max_new_tokens: usize,
    stop: &[u32],
    sampling: Option<Sampling>,
    device: &Device,
) -> Result<Vec<ScoredToken>> {
    generate(llm, prompt, max_new_tokens, stop, sampling, device, |logits, draws| {
        let row: Vec<f32> = transfer::to_host(logits)?;
        let id = match draws {
            Some((sampling, random)) => {
                check_finite(&row)?;
                sampling.draw(&row, random) as u32
            }
            None => ScoredToken::from_logits(&row, 0)?.top.first().map_or(0, |best| best.id),
        };
        Ok((id, ScoredToken::from_logits(&row, id)?))
    })
}

/// Generates tokens one by one; `choose` returns the id of the next token and what is kept of it, from the logits
/// `[1, vocabulary]` and the random draws of sampling.
fn generate<T>(
    llm: &Llm,
    prompt: &[u32],
    max_new_tokens: usize,
    stop: &[u32],
    sampling: Option<Sampling>,
    device: &Device,
    choose: impl Fn(Tensor<2>, Option<(&Sampling, &mut Stream)>) -> Result<(u32, T)>,
) -> Result<Vec<T>> {
    if prompt.is_empty() {
        return Err(Error::failed("the prompt has no tokens, needs at least one").hint("give a text that is not empty"));
    }
    if let Some(sampling) = &sampling {
        sampling.check()?;
    }
    let bytes: Vec<u8> = prompt.iter().flat_map(|id| id.to_le_bytes()).collect();
    // The same random stream as for a prompt to a multimodal model.
    let mut draws = sampling.map(|s| (s, stream(&format!("answer/{}", digest::of_bytes(&bytes)), s.seed)));
    let mut cache = KvCache::new();
    let mut next = prompt.to_vec();
    let mut made = Vec::new();
    while made.len() < max_new_tokens {
        let hidden = llm.extend(llm.embed_rows(&[&next], device)?, &[next.len()], &mut cache, None)?;
        let [_, t, d] = hidden.dims();
        let logits = llm.logits(hidden.narrow(1, t - 1, 1).reshape([1, d]));
        let (id, kept) = choose(logits, draws.as_mut().map(|(sampling, random)| (&*sampling, random)))?;
        made.push(kept);
        if stop.contains(&id) {
            break;
        }
        next = vec![id];
    }
    Ok(made)
}

/// Scores the tokens of `continuation` after `prompt`.
///
/// # Errors
/// When either is empty, both together exceed the maximum length, or a logit is not finite.
pub fn score_text(llm: &Llm, prompt: &[u32], continuation: &[u32], device: &Device) -> Result<Vec<ScoredToken>> {
    if prompt.is_empty() || continuation.is_empty() {
        return Err(Error::failed("the prompt or its continuation has no tokens, each needs at least one")
            .hint("give texts that are not empty"));
    }
    let ids = [prompt, continuation].concat();
    let hidden = llm.hidden_with(llm.embed_rows(&[&ids], device)?, SequenceLayout::default(), None)?;
    rows(llm, hidden, prompt.len(), continuation)
}

/// As [`score_text`], for a prompt with an image placeholder at `image_at`; `images` comes from
/// [`Mllm::encode_images_with`].
///
/// # Errors
/// As [`score_text`]; also when the placeholder has no image.
pub fn score_text_with_image(
    model: &Mllm,
    images: Option<ImageTokens>,
    prompt: &[u32],
    image_at: Option<usize>,
    continuation: &[u32],
    device: &Device,
) -> Result<Vec<ScoredToken>> {
    if continuation.is_empty() {
        return Ok(Vec::new());
    }
    let positions = images.as_ref().map_or(0, ImageTokens::tokens_per_image);
    let ids = [prompt, continuation].concat();
    let row = Sequence { ids: &ids, image_at: image_at.filter(|_| images.is_some()) };
    let start = row.position(prompt.len(), positions);
    let hidden = model.hidden(model.splice(&[row], images, device)?)?;
    rows(&model.llm, hidden, start, continuation)
}

/// Scores `continuation`, which begins at position `start`, from the sequence's hidden states `[1, t, d]`.
fn rows(llm: &Llm, hidden: Tensor<3>, start: usize, continuation: &[u32]) -> Result<Vec<ScoredToken>> {
    let [_, _, d] = hidden.dims();
    let n = continuation.len();
    let logits = llm.logits(hidden.narrow(1, start - 1, n).reshape([n, d]));
    let width = logits.dims()[1].max(1);
    let values: Vec<f32> = transfer::to_host(logits)?;
    values.chunks(width).zip(continuation).map(|(row, id)| ScoredToken::from_logits(row, *id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_logits_becomes_log_probabilities() -> Result<()> {
        // Reference: log_softmax([0, 1, 2, 3, 1, -1]) of PyTorch.
        let scored = ScoredToken::from_logits(&[0.0, 1.0, 2.0, 3.0, 1.0, -1.0], 2)?;
        assert!((scored.token.logprob - -1.534_534).abs() < 1e-5, "{scored:?}");
        assert_eq!(scored.top.iter().map(|t| t.id).collect::<Vec<_>>(), [3, 2, 1, 4, 0]);
        assert!((scored.top[0].logprob - -0.534_534).abs() < 1e-5);
        assert!(ScoredToken::from_logits(&[0.0, f32::NAN], 0).unwrap_err().to_string().contains("token id 1 is NaN"));
        assert!(ScoredToken::from_logits(&[0.0, f32::INFINITY], 0).is_err());
        assert!(ScoredToken::from_logits(&[0.0], 3).unwrap_err().hint_text().is_some());
        Ok(())
    }
}

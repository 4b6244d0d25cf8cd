//! Generates answers to many prompts at once, greedily or by sampling, and scores options by log-likelihood.
//!
//! Images and the text before each are processed once; all prompts with these images start from copies of that
//! key-value cache. Prompts are right-padded; padding is masked for all later tokens and each row has its own
//! positions, so the result of a prompt does not depend on the rest of its batch.
//!
//! [`answer`] decodes given prompts to their end. A server uses the same parts one by one: [`prefill_prefixes`] and
//! [`PrefixCache`] for images, [`prefill`] for the text after them, and a [`LiveBatch`], which prompts join and leave
//! at any time.

mod choose;
mod live;
mod prefill;
mod prefix_cache;
mod sampling;

pub(crate) use choose::most_likely;
pub use choose::{Choice, Draws, most_likely_tokens};
pub use live::{LiveBatch, RowFailure, RowOptions, StepOutcome};
pub use prefill::{ImagePart, ImagePrefix, Prefilled, prefill, prefill_groups, prefill_prefix, prefill_prefixes};
pub use prefix_cache::PrefixCache;
pub use sampling::Sampling;

use crate::connector::ImageTokens;
use crate::mllm::Mllm;
use burgess_base::{Error, Result};
use burgess_encoders::transfer;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor};
use choose::not_finite;
use prefill::{extend, indices, prefill_group};

/// A prompt with any number of images.
#[derive(Debug, Clone)]
pub struct Prompt<'a> {
    /// Token ids, with one placeholder per image unless the question is asked without its images (blind).
    pub ids: &'a [u32],
    /// For each image its index in the batch of images, and the index of its placeholder in `ids`, in the order of the
    /// placeholders; empty without images.
    pub images: Vec<(usize, usize)>,
}

impl<'a> Prompt<'a> {
    /// Makes a prompt without images.
    pub fn text(ids: &'a [u32]) -> Self {
        Self { ids, images: Vec::new() }
    }

    /// Returns the texts before the first image, between the images, and after the last: one more than there are
    /// images. Placeholders are not part of them. `None` if the placeholders are outside the prompt or not in ascending
    /// order.
    fn texts(&self) -> Option<Vec<&'a [u32]>> {
        let mut texts = Vec::with_capacity(self.images.len() + 1);
        let mut from = 0;
        for (_, at) in &self.images {
            texts.push(self.ids.get(from..*at)?);
            from = at + 1;
        }
        texts.push(self.ids.get(from..)?);
        Some(texts)
    }
}

/// Options of decoding.
#[derive(Debug, Clone, Copy)]
pub struct Decoding<'a> {
    /// Maximum length of an answer, in tokens.
    pub max_new_tokens: usize,
    /// Token ids that end an answer; they are not part of it.
    pub stop: &'a [u32],
    /// Sampling options; `None` for greedy decoding.
    pub sampling: Option<Sampling>,
}

/// Generates answers of at most `max_new_tokens` tokens; returns their token ids in the order of the prompts.
///
/// `images` comes from [`Mllm::encode_images`]; its padding is left out. `model` and `images` are on a device without
/// autodiff.
///
/// # Errors
/// When a prompt is empty, names an image that was not given, or exceeds the maximum length; when the sampling
/// options are invalid; when a logit is not finite.
pub fn answer(
    model: &Mllm,
    images: Option<&ImageTokens>,
    prompts: &[Prompt],
    decoding: &Decoding<'_>,
    device: &Device,
) -> Result<Vec<Vec<u32>>> {
    let Decoding { max_new_tokens, stop, sampling } = *decoding;
    if let Some(sampling) = &sampling {
        sampling.check()?;
    }
    let mut answers = vec![Vec::new(); prompts.len()];
    let mut batch = LiveBatch::new(model, device);
    for group in groups(prompts)? {
        let members: Vec<&Prompt<'_>> = group.iter().filter_map(|&i| prompts.get(i)).collect();
        let row = |(&i, prompt): (&usize, &&Prompt<'_>)| -> Result<RowOptions> {
            Ok(RowOptions {
                id: i as u64,
                name: format!("prompt {}", i + 1),
                draws: sampling.map(|sampling| Draws::new(sampling, prompt.ids)).transpose()?,
                alternatives: None,
                max_new_tokens,
            })
        };
        let rows = group.iter().zip(&members).map(row).collect::<Result<_>>()?;
        let mut tokens = batch.admit(prefill_group(model, images, &members, device)?, rows)?.complete()?;
        loop {
            let mut finished = Vec::new();
            for (id, choice) in tokens {
                let Some(out) = answers.get_mut(id as usize) else { continue };
                if !stop.contains(&choice.id) && out.len() < max_new_tokens {
                    out.push(choice.id);
                    if out.len() < max_new_tokens {
                        continue;
                    }
                }
                finished.push(id);
            }
            batch.retire(&finished);
            if batch.is_empty() {
                break;
            }
            tokens = batch.step().complete()?;
        }
    }
    Ok(answers)
}

/// Scores options by log-likelihood: returns for each prompt the log-probability of each option as its answer, summed
/// over the tokens of the option, in nats.
///
/// `options[i]` are the token ids of the options of `prompts[i]` (with the end token, if it
/// should count). Each prompt is processed once for all its options.
///
/// # Errors
/// As [`answer`]; also when an option is empty.
pub fn score_options(
    model: &Mllm,
    images: Option<&ImageTokens>,
    prompts: &[Prompt],
    options: &[Vec<Vec<u32>>],
    device: &Device,
) -> Result<Vec<Vec<f64>>> {
    if options.len() != prompts.len() || options.iter().flatten().any(Vec::is_empty) {
        return Err(Error::failed(format!(
            "scoring options: got {} lists of options for {} prompts, and every option needs at least one token",
            options.len(),
            prompts.len()
        )));
    }
    let mut all: Vec<Vec<f64>> = vec![Vec::new(); prompts.len()];
    for group in groups(prompts)? {
        let members: Vec<&Prompt<'_>> = group.iter().filter_map(|&i| prompts.get(i)).collect();
        let prefilled = prefill_group(model, images, &members, device)?;
        let wanted: Vec<&[Vec<u32>]> = group.iter().filter_map(|&i| options.get(i)).map(Vec::as_slice).collect();
        let name = |row: usize| group.get(row).map_or(0, |i| i + 1);
        for (&i, scores) in group.iter().zip(score_rows(model, &prefilled, &wanted, &name, device)?) {
            if let Some(place) = all.get_mut(i) {
                *place = scores;
            }
        }
    }
    Ok(all)
}

/// Scores options as [`score_options`] does, for prompts that were processed: `options[r]` are those of row `r`.
///
/// # Errors
/// As [`score_options`].
pub fn score_prefilled(
    model: &Mllm,
    prefilled: &Prefilled,
    options: &[&[Vec<u32>]],
    device: &Device,
) -> Result<Vec<Vec<f64>>> {
    let rows = prefilled.positions().len();
    if options.len() != rows || options.iter().copied().flatten().any(Vec::is_empty) {
        return Err(Error::failed(format!(
            "scoring options: got {} lists of options for {rows} prompts, and every option needs at least one token",
            options.len()
        )));
    }
    score_rows(model, prefilled, options, &|row| row + 1, device)
}

/// Scores the options of each row; `name` gives the number of a row's prompt, for errors.
fn score_rows(
    model: &Mllm,
    prefilled: &Prefilled,
    options: &[&[Vec<u32>]],
    name: &dyn Fn(usize) -> usize,
    device: &Device,
) -> Result<Vec<Vec<f64>>> {
    let mut all: Vec<Vec<f64>> = options.iter().map(|o| vec![0.0; o.len()]).collect();
    let Prefilled { cache, logits } = prefilled;
    // One row per option, which starts from its prompt's cache.
    let rows: Vec<(usize, usize)> =
        options.iter().enumerate().flat_map(|(row, all)| (0..all.len()).map(move |o| (row, o))).collect();
    if rows.is_empty() {
        return Ok(all);
    }
    let from: Vec<usize> = rows.iter().map(|(row, _)| *row).collect();
    let texts: Vec<&[u32]> = rows.iter().filter_map(|(row, o)| options.get(*row)?.get(*o)).map(Vec::as_slice).collect();
    let token = |text: &[u32], k: usize| text.get(k).map_or(0, |&id| id as usize);
    let v = logits.dims()[1];
    // Prompts without options are left out.
    let used: Vec<usize> = options.iter().enumerate().filter(|(_, o)| !o.is_empty()).map(|(row, _)| row).collect();
    let logits = match used.len() == options.len() {
        true => logits.clone(),
        false => logits.clone().select(0, indices(&used, device)),
    };
    let place = |row: &usize| used.binary_search(row).unwrap_or(0);
    let first: Vec<usize> = from.iter().zip(&texts).map(|(row, text)| place(row) * v + token(text, 0)).collect();
    // The log-probability of the first token of each option, `[options, 1]`.
    let picked = log_softmax(logits, 1).flatten::<1>(0, 1).select(0, indices(&first, device));
    let mut picked = vec![picked.reshape([texts.len(), 1])];
    let longest = texts.iter().map(|t| t.len()).max().unwrap_or(1);
    if longest > 1 {
        let mut cache = cache.select(&from, model.llm.config().kv_heads());
        let inputs: Vec<Vec<u32>> = texts
            .iter()
            .map(|t| {
                let mut ids = t.get(..t.len() - 1).unwrap_or_default().to_vec();
                ids.resize(longest - 1, 0);
                ids
            })
            .collect();
        let hidden = extend(&model.llm, &mut cache, &inputs, &vec![longest - 1; inputs.len()], device)?;
        let [b, t, d] = hidden.dims();
        let log = log_softmax(model.llm.logits(hidden.reshape([b * t, d])), 1);
        let rest: Vec<usize> = texts.iter().flat_map(|text| (1..longest).map(move |k| token(text, k))).collect();
        let rest = indices(&rest, device).unsqueeze_dim::<2>(1);
        picked.push(log.gather(1, rest).reshape([b, t]));
    }
    // One number per token of an option is copied to the host, all at once.
    let picked: Vec<f32> = transfer::to_host(Tensor::cat(picked, 1))?;
    for (((row, o), text), values) in rows.iter().zip(&texts).zip(picked.chunks(longest)) {
        for (k, &value) in values.iter().take(text.len()).enumerate() {
            // A logit that is not finite makes all log-probabilities of its row not finite.
            if !value.is_finite() {
                let place = format!("token {} of option {} of prompt {}", k + 1, o + 1, name(*row));
                return Err(not_finite(&place, value));
            }
            if let Some(sum) = all.get_mut(*row).and_then(|s| s.get_mut(*o)) {
                *sum += f64::from(value);
            }
        }
    }
    Ok(all)
}

/// Groups prompts that have the same texts before their images, or no image; returns indices in order of first
/// appearance.
fn groups(prompts: &[Prompt]) -> Result<Vec<Vec<usize>>> {
    let mut found: Vec<(Vec<&[u32]>, Vec<usize>)> = Vec::new();
    for (i, p) in prompts.iter().enumerate() {
        let mut key = p.texts().ok_or_else(|| {
            let places: Vec<usize> = p.images.iter().map(|(_, at)| *at).collect();
            Error::failed(format!(
                "prompt {}: the image placeholders are at {places:?}, expected ascending indices below {}",
                i + 1,
                p.ids.len()
            ))
        })?;
        key.pop();
        match found.iter_mut().find(|(k, _)| *k == key) {
            Some((_, members)) => members.push(i),
            None => found.push((key, vec![i])),
        }
    }
    Ok(found.into_iter().map(|(_, members)| members).collect())
}

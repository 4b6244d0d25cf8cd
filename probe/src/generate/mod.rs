//! Generates answers to many prompts at once, greedily or by sampling, and scores options by log-likelihood.
//!
//! An image and the text before it are processed once; all prompts with this image start from copies of that key-value
//! cache. Prompts are right-padded; padding is masked for all later tokens and each row has its own positions, so the
//! result of a prompt does not depend on the rest of its batch.

mod sampling;

pub use sampling::Sampling;

use crate::connector::{ImagePositions, ImageTokens};
use crate::llm::decoder::BlockHook;
use crate::llm::{KvCache, Llm};
use crate::mllm::Mllm;
use burgess_base::stream::{Stream, stream};
use burgess_base::{Error, Result, digest};
use burgess_encoders::transfer;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};

/// A prompt, with or without an image.
#[derive(Debug, Clone)]
pub struct Prompt<'a> {
    /// Token ids, with the image placeholder unless the question is asked without its image (blind).
    pub ids: &'a [u32],
    /// Index of the image in the batch of images, and index of its placeholder in `ids`; `None` without an image.
    pub image: Option<(usize, usize)>,
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
    let mut draws: Vec<Option<(Sampling, Stream)>> = prompts
        .iter()
        .map(|p| {
            let named = |s: Sampling| {
                let bytes: Vec<u8> = p.ids.iter().flat_map(|id| id.to_le_bytes()).collect();
                (s, stream(&format!("answer/{}", digest::of_bytes(&bytes)), s.seed))
            };
            sampling.map(named)
        })
        .collect();
    let mut answers = vec![Vec::new(); prompts.len()];
    for group in groups(prompts)? {
        let (mut state, logits) = prefill(model, images, prompts, &group, device)?;
        let mut next = next_tokens(logits, &group, &mut draws, 1)?;
        // `alive[k]` is the index in `group` of row `k`.
        let mut alive: Vec<usize> = (0..group.len()).collect();
        for round in 0..max_new_tokens {
            let mut kept = Vec::with_capacity(alive.len());
            for (row, (&place, &id)) in alive.iter().zip(&next).enumerate() {
                if !stop.contains(&id)
                    && let Some(out) = group.get(place).and_then(|&i| answers.get_mut(i))
                {
                    out.push(id);
                    kept.push(row);
                }
            }
            if kept.is_empty() || round + 1 == max_new_tokens {
                break;
            }
            if kept.len() < alive.len() {
                alive = select_rows(&alive, &kept);
                next = select_rows(&next, &kept);
                state = state.select(&kept, &model.llm);
            }
            let tokens: Vec<Vec<u32>> = next.iter().map(|&id| vec![id]).collect();
            let logits = state.push(&model.llm, &tokens, device)?;
            next = next_tokens(logits, &select_rows(&group, &alive), &mut draws, round + 2)?;
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
    let mut all: Vec<Vec<f64>> = options.iter().map(|o| vec![0.0; o.len()]).collect();
    for group in groups(prompts)? {
        let (state, logits) = prefill(model, images, prompts, &group, device)?;
        // One row per option, which starts from its prompt's cache.
        let rows: Vec<(usize, usize, usize)> = group
            .iter()
            .enumerate()
            .flat_map(|(row, &p)| (0..options.get(p).map_or(0, Vec::len)).map(move |o| (row, p, o)))
            .collect();
        if rows.is_empty() {
            continue;
        }
        let from: Vec<usize> = rows.iter().map(|(row, _, _)| *row).collect();
        let texts: Vec<&[u32]> =
            rows.iter().filter_map(|(_, p, o)| options.get(*p)?.get(*o)).map(Vec::as_slice).collect();
        let token = |text: &[u32], k: usize| text.get(k).map_or(0, |&id| id as usize);
        let v = logits.dims()[1];
        let first: Vec<usize> = from.iter().zip(&texts).map(|(row, text)| row * v + token(text, 0)).collect();
        // The log-probability of the first token of each option, `[options, 1]`.
        let picked = log_softmax(logits, 1).flatten::<1>(0, 1).select(0, indices(&first, device));
        let mut picked = vec![picked.reshape([texts.len(), 1])];
        let longest = texts.iter().map(|t| t.len()).max().unwrap_or(1);
        if longest > 1 {
            let mut state = state.select(&from, &model.llm);
            let inputs: Vec<Vec<u32>> = texts
                .iter()
                .map(|t| {
                    let mut ids = t.get(..t.len() - 1).unwrap_or_default().to_vec();
                    ids.resize(longest - 1, 0);
                    ids
                })
                .collect();
            let hidden = state.extend(&model.llm, &inputs, &vec![longest - 1; inputs.len()], device)?;
            let [b, t, d] = hidden.dims();
            let log = log_softmax(model.llm.logits(hidden.reshape([b * t, d])), 1);
            let rest: Vec<usize> = texts.iter().flat_map(|text| (1..longest).map(move |k| token(text, k))).collect();
            let rest = indices(&rest, device).unsqueeze_dim::<2>(1);
            picked.push(log.gather(1, rest).reshape([b, t]));
        }
        // One number per token of an option is copied to the host, all at once.
        let picked: Vec<f32> = transfer::to_host(Tensor::cat(picked, 1))?;
        for (((_, p, o), text), values) in rows.iter().zip(&texts).zip(picked.chunks(longest)) {
            for (k, &value) in values.iter().take(text.len()).enumerate() {
                // A logit that is not finite makes all log-probabilities of its row not finite.
                if !value.is_finite() {
                    return Err(not_finite(&format!("token {} of option {} of prompt {}", k + 1, o + 1, p + 1), value));
                }
                if let Some(sum) = all.get_mut(*p).and_then(|s| s.get_mut(*o)) {
                    *sum += f64::from(value);
                }
            }
        }
    }
    Ok(all)
}

/// Groups prompts that have the same text before the image, or no image; returns indices in order of first appearance.
fn groups(prompts: &[Prompt]) -> Result<Vec<Vec<usize>>> {
    let mut found: Vec<(Option<&[u32]>, Vec<usize>)> = Vec::new();
    for (i, p) in prompts.iter().enumerate() {
        let key = match p.image {
            Some((_, at)) => Some(p.ids.get(..at).ok_or_else(|| {
                Error::failed(format!(
                    "prompt {}: the image placeholder is at {at}, but the prompt has {} tokens",
                    i + 1,
                    p.ids.len()
                ))
            })?),
            None => None,
        };
        match found.iter_mut().find(|(k, _)| *k == key) {
            Some((_, members)) => members.push(i),
            None => found.push((key, vec![i])),
        }
    }
    Ok(found.into_iter().map(|(_, members)| members).collect())
}

/// Processes the prompts of one group; returns their cache and the logits of the first answer token,
/// `[rows, vocabulary]`.
fn prefill(
    model: &Mllm,
    images: Option<&ImageTokens>,
    prompts: &[Prompt],
    group: &[usize],
    device: &Device,
) -> Result<(DecodingState, Tensor<2>)> {
    let members: Vec<&Prompt> = group.iter().filter_map(|&i| prompts.get(i)).collect();
    let texts: Vec<&[u32]> =
        members.iter().map(|p| p.ids.get(p.image.map_or(0, |(_, at)| at + 1)..).unwrap_or_default()).collect();
    if texts.iter().any(|t| t.is_empty()) {
        return Err(Error::failed("a prompt has no text after its image"));
    }
    let mut state = DecodingState { cache: KvCache::new() };
    if let Some(first) = members.first()
        && let Some((_, at)) = first.image
    {
        // Images in order of first use, so that each is processed once.
        let mut used: Vec<usize> = Vec::new();
        let mut rows = Vec::with_capacity(members.len());
        for p in &members {
            let wanted = p.image.map_or(0, |(i, _)| i);
            rows.push(used.iter().position(|u| *u == wanted).unwrap_or_else(|| {
                used.push(wanted);
                used.len() - 1
            }));
        }
        let given = images.map_or(0, ImageTokens::images);
        if let Some(bad) = used.iter().find(|u| **u >= given) {
            return Err(Error::failed(format!("a prompt refers to image {bad} (counted from 0), got {given} images")));
        }
        let Some(images) = images else {
            return Err(Error::failed("a prompt refers to an image, got no images"));
        };
        prefill_images(model, images, &used, first.ids.get(..at).unwrap_or_default(), &mut state.cache, device)?;
        state = state.select(&rows, &model.llm);
    }
    let longest = texts.iter().map(|t| t.len()).max().unwrap_or(0);
    let lengths: Vec<usize> = texts.iter().map(|t| t.len()).collect();
    let padded: Vec<Vec<u32>> = texts
        .iter()
        .map(|t| {
            let mut ids = t.to_vec();
            ids.resize(longest, 0);
            ids
        })
        .collect();
    let hidden = state.extend(&model.llm, &padded, &lengths, device)?;
    let [b, t, d] = hidden.dims();
    let last: Vec<usize> = lengths.iter().enumerate().map(|(r, n)| r * t + n - 1).collect();
    let logits = model.llm.logits(hidden.reshape([b * t, d]).select(0, indices(&last, device)));
    Ok((state, logits))
}

/// For each image of `used`, processes the tokens `before` and then the image without its padding.
fn prefill_images(
    model: &Mllm,
    images: &ImageTokens,
    used: &[usize],
    before: &[u32],
    cache: &mut KvCache,
    device: &Device,
) -> Result<()> {
    let (at, count) = (before.len(), used.len());
    let visible: Vec<Vec<usize>> = used.iter().map(|&image| images.visible_tokens(image)).collect();
    let longest = visible.iter().map(Vec::len).max().unwrap_or(0);
    let real: Vec<usize> = visible.iter().map(|s| at + s.len()).collect();
    let mut parts = Vec::with_capacity(2);
    if at > 0 {
        parts.push(model.llm.embed_rows(&vec![before; count], device)?);
    }
    let [total, n, d] = images.tokens.dims();
    parts.push(match &images.visible {
        None => images.tokens.clone().select(0, indices(used, device)),
        Some(_) => {
            let filled = |(image, visible): (&usize, &Vec<usize>)| {
                let places: Vec<usize> = visible.iter().map(|p| image * n + p).collect();
                // Padding repeats the image's first position; its output is not used.
                let rest = vec![image * n; longest - places.len()];
                [places, rest].concat()
            };
            let places: Vec<usize> = used.iter().zip(&visible).flat_map(filled).collect();
            let all = images.tokens.clone().reshape([total * n, d]);
            all.select(0, indices(&places, device)).reshape([count, longest, d])
        }
    });
    let prefix = Tensor::cat(parts, 1);
    let t = prefix.dims()[1];
    let context = match &images.context {
        None => None,
        Some(context) => {
            let row = |(row, (&image, visible)): (usize, (&usize, &Vec<usize>))| {
                let mut positions = vec![None; n];
                for (i, p) in visible.iter().enumerate() {
                    if let Some(place) = positions.get_mut(*p) {
                        *place = Some(at + i);
                    }
                }
                ImagePositions { row, image, positions }
            };
            let rows: Vec<ImagePositions> = used.iter().zip(&visible).enumerate().map(row).collect();
            Some(context.bind(&rows, t)?)
        }
    };
    let mut after = |layer: usize, x: Tensor<3>| model.connector.after_layer(layer, x, context.as_ref());
    let after: Option<&mut BlockHook<'_>> = context.is_some().then_some(&mut after);
    model.llm.extend(prefix, &real, cache, after).map(|_| ())
}

/// The key-value cache of a batch of rows.
struct DecodingState {
    cache: KvCache,
}

impl DecodingState {
    /// Processes rows of token ids of equal length, padded after the first `real[r]`; returns hidden states
    /// `[rows, t, llm width]`.
    fn extend(&mut self, llm: &Llm, rows: &[Vec<u32>], real: &[usize], device: &Device) -> Result<Tensor<3>> {
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        llm.extend(llm.embed_rows(&rows, device)?, real, &mut self.cache, None)
    }

    /// Processes one token per row; returns the logits of the next, `[rows, vocabulary]`.
    fn push(&mut self, llm: &Llm, rows: &[Vec<u32>], device: &Device) -> Result<Tensor<2>> {
        let hidden = self.extend(llm, rows, &vec![1; rows.len()], device)?;
        let [b, t, d] = hidden.dims();
        Ok(llm.logits(hidden.reshape([b * t, d])))
    }

    fn select(&self, rows: &[usize], llm: &Llm) -> Self {
        Self { cache: self.cache.select(rows, llm.config().kv_heads()) }
    }
}

fn select_rows<T: Copy>(all: &[T], rows: &[usize]) -> Vec<T> {
    rows.iter().filter_map(|&r| all.get(r).copied()).collect()
}

fn indices(rows: &[usize], device: &Device) -> Tensor<1, Int> {
    let rows: Vec<i32> = rows.iter().map(|&r| r as i32).collect();
    let n = rows.len();
    transfer::to_device(TensorData::new(rows, [n]), device)
}

/// Returns the error for a logit or log-probability that is not finite.
fn not_finite(place: &str, value: f32) -> Error {
    Error::failed(format!("the language model's output is {value} at {place}")).hint(
        "the weights are damaged, diverged in training (train again with a lower learning rate), or do not belong to \
             the configuration",
    )
}

/// Chooses the next token of each row of `logits` `[rows, vocabulary]`: sampled if there are draws, else the most
/// likely one. `prompts` maps rows to prompts; `token` is the number of the token, from 1, for errors.
///
/// # Errors
/// When a logit is not finite.
fn next_tokens(
    logits: Tensor<2>,
    prompts: &[usize],
    draws: &mut [Option<(Sampling, Stream)>],
    token: usize,
) -> Result<Vec<u32>> {
    let sampled = |prompt: &usize| matches!(draws.get(*prompt), Some(Some(_)));
    let place = |row: usize, bad: f32| {
        let prompt = prompts.get(row).map_or(0, |prompt| prompt + 1);
        not_finite(&format!("token {token} of the answer to prompt {prompt}"), bad)
    };
    if !prompts.iter().any(sampled) {
        return most_likely(logits, &place);
    }
    let v = logits.dims()[1];
    // A draw sorts the whole row, so the rows are copied to the host.
    let values: Vec<f32> = transfer::to_host(logits)?;
    check_rows(&values, v, &place)?;
    Ok(values
        .chunks(v.max(1))
        .zip(prompts)
        .map(|(row, &prompt)| match draws.get_mut(prompt) {
            Some(Some((sampling, random))) => sampling.draw(row, random) as u32,
            _ => {
                row.iter()
                    .enumerate()
                    .fold((0, f32::NEG_INFINITY), |best, (i, &x)| if x > best.1 { (i, x) } else { best })
                    .0 as u32
            }
        })
        .collect())
}

/// Returns the most likely token of each row of `logits` `[rows, vocabulary]`; of equally likely ones that with the
/// lowest id, on every backend.
///
/// The rows are reduced on the device: one id and one sum per row are copied to the host, in one transfer. `bad` makes
/// the error for a row with a logit that is not finite.
///
/// # Errors
/// When a logit is not finite.
pub(crate) fn most_likely(logits: Tensor<2>, bad: &dyn Fn(usize, f32) -> Error) -> Result<Vec<u32>> {
    let (ids, sums) = (logits.clone().argmax(1), logits.clone().sum_dim(1));
    let read = transfer::Downloads::default().with(ids).with(sums).read()?;
    let [ids, sums] = <[TensorData; 2]>::try_from(read)
        .map_err(|read| Error::failed(format!("the device returned {} tensors, expected 2", read.len())))?;
    let converted = |e| Error::failed(format!("reading the most likely tokens: {e}"));
    let sums = sums.try_into_vec_as::<f32>().map_err(converted)?;
    // A sum is not finite if a logit is not, or if finite logits overflow it; the logits themselves tell.
    if sums.iter().any(|sum| !sum.is_finite()) {
        let v = logits.dims()[1];
        check_rows(&transfer::to_host::<f32, _, _>(logits)?, v, bad)?;
    }
    let ids = ids.try_into_vec_as::<i64>().map_err(converted)?;
    Ok(ids.into_iter().map(|id| id as u32).collect())
}

/// Returns the most likely token of each row of `logits` `[rows, vocabulary]`, as greedy decoding chooses it.
///
/// # Errors
/// When a logit is not finite.
pub fn most_likely_tokens(logits: Tensor<2>) -> Result<Vec<u32>> {
    most_likely(logits, &|row, bad| not_finite(&format!("row {row} of the logits"), bad))
}

/// Checks that all values of rows of `v` logits are finite; `bad` makes the error from the row and the value.
fn check_rows(values: &[f32], v: usize, bad: &dyn Fn(usize, f32) -> Error) -> Result<()> {
    // No early exit, so that the loop is vectorised.
    let finite = |row: &[f32]| row.iter().fold(true, |finite, x| finite & x.is_finite());
    match values.chunks(v.max(1)).enumerate().find(|(_, row)| !finite(row)) {
        None => Ok(()),
        Some((row, values)) => Err(bad(row, values.iter().copied().find(|x| !x.is_finite()).unwrap_or(f32::NAN))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_that_are_not_finite_are_errors_that_say_where() -> Result<()> {
        let logits =
            |bad: f32| Tensor::from_data(TensorData::new(vec![0.0, 3.0, 1.0, 0.0, bad, 2.0], [2, 3]), &Device::flex());
        assert_eq!(next_tokens(logits(1.0), &[4, 6], &mut [], 1)?, [1, 2]);
        let sampling = Sampling { temperature: 1.0, top_p: 1.0, top_k: None, seed: 0 };
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for sampling in [None, Some(sampling)] {
                let mut draws: Vec<_> = (0..7).map(|_| sampling.map(|s| (s, stream("test", 0)))).collect();
                let e = next_tokens(logits(bad), &[4, 6], &mut draws, 3).unwrap_err();
                assert!(e.to_string().contains(&format!("is {bad} at token 3 of the answer to prompt 7")), "{e}");
                assert!(e.hint_text().is_some());
            }
        }
        Ok(())
    }

    #[test]
    fn of_equally_likely_tokens_the_first_is_chosen() -> Result<()> {
        // Rows shorter and longer than those for which the backend changes its method; −0 equals 0.
        for v in [3usize, 64, 1000] {
            let row = |best: &[usize], top: f32| (0..v).map(|i| if best.contains(&i) { top } else { -1.0 }).collect();
            let rows: [Vec<f32>; 4] = [row(&[1, 2], 2.0), row(&[v - 1], 0.0), vec![0.5; v], {
                let mut zeros: Vec<f32> = row(&[1, 2], 0.0);
                zeros[1] = -0.0;
                zeros
            }];
            let logits = Tensor::from_data(TensorData::new(rows.concat(), [4, v]), &Device::flex());
            assert_eq!(next_tokens(logits, &[0, 1, 2, 3], &mut [], 1)?, [1, v as u32 - 1, 0, 1], "{v}");
        }
        // Finite logits may overflow their sum.
        let large = Tensor::from_data(TensorData::new(vec![3e38f32, 3.1e38, 1.0], [1, 3]), &Device::flex());
        assert_eq!(next_tokens(large, &[0], &mut [], 1)?, [1]);
        Ok(())
    }
}

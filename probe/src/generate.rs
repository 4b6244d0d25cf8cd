//! Answers: greedy decoding of many questions at once, and the likelihood of given answers.
//!
//! A picture and what stands before it are read once; all its questions start from copies of that cache. Questions
//! are padded on the right: a padded slot is hidden from every later token, and each row counts its own positions, so
//! what a question is batched with does not change what it sees.

use crate::llm::{KvCache, Llm};
use crate::mllm::Mllm;
use burgess_base::{Error, Result};
use burn::tensor::{Device, Int, Tensor, TensorData};

/// A question about a picture, or about none.
#[derive(Debug, Clone)]
pub struct Prompt<'a> {
    /// Token ids, the picture's token included unless asked blind.
    pub ids: &'a [u32],
    /// Which of the given pictures, and where in `ids` its token stands.
    pub image: Option<(usize, usize)>,
}

/// Greedy answers of at most `max_new_tokens` tokens each, in the order of the prompts; what ends an answer (one of
/// `stop`) is not part of it.
///
/// `images`: `[pictures, tokens, llm width]` from [`Mllm::see`]; `model` and `images` on a plain device.
///
/// # Errors
/// When a prompt names a picture that was not given, is empty, or does not fit into the model's positions.
pub fn answer(
    model: &Mllm,
    images: Option<&Tensor<3>>,
    prompts: &[Prompt],
    max_new_tokens: usize,
    stop: &[u32],
    device: &Device,
) -> Result<Vec<Vec<u32>>> {
    let mut answers = vec![Vec::new(); prompts.len()];
    for group in groups(prompts)? {
        let (mut state, logits) = read(model, images, prompts, &group, device)?;
        let mut next = pick(logits)?;
        // `alive[k]` is the place in `group` of row `k`.
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
                alive = pick_rows(&alive, &kept);
                next = pick_rows(&next, &kept);
                state = state.select(&kept, &model.llm);
            }
            let tokens: Vec<Vec<u32>> = next.iter().map(|&id| vec![id]).collect();
            let logits = state.push(&model.llm, &tokens, device)?;
            next = pick(logits)?;
        }
    }
    Ok(answers)
}

/// Log-probability of each option as the answer to its prompt: the sum over the option's tokens, in nats.
///
/// `options[i]` are the candidate answers of `prompts[i]` (with the token that ends an answer, if it should count).
/// Prompts are read once and shared by their options.
///
/// # Errors
/// As [`answer`]; also when an option is empty.
pub fn likelihoods(
    model: &Mllm,
    images: Option<&Tensor<3>>,
    prompts: &[Prompt],
    options: &[Vec<Vec<u32>>],
    device: &Device,
) -> Result<Vec<Vec<f64>>> {
    if options.len() != prompts.len() || options.iter().flatten().any(Vec::is_empty) {
        return Err(Error::failed("every prompt needs its list of options, and no option may be empty"));
    }
    let mut all: Vec<Vec<f64>> = options.iter().map(|o| vec![0.0; o.len()]).collect();
    for group in groups(prompts)? {
        let (state, logits) = read(model, images, prompts, &group, device)?;
        // One row for each option, started from its prompt's cache.
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
        let first = burn::tensor::activation::log_softmax(logits, 1).select(0, indices(&from, device));
        let mut scores = vec![first];
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
            let logits = model.llm.logits(hidden.reshape([b * t, d]));
            let v = logits.dims()[1];
            let log = burn::tensor::activation::log_softmax(logits, 1).reshape([b, t, v]);
            scores.extend((0..t).map(|k| log.clone().narrow(1, k, 1).reshape([b, v])));
        }
        for (k, score) in scores.into_iter().enumerate() {
            let ids: Vec<usize> = texts.iter().map(|t| t.get(k).map_or(0, |&id| id as usize)).collect();
            let picked = score.gather(1, indices(&ids, device).unsqueeze_dim::<2>(1));
            let picked: Vec<f32> = picked.try_into_vec_as().map_err(|e| Error::failed(e.to_string()))?;
            for (((_, p, o), text), value) in rows.iter().zip(&texts).zip(picked) {
                if k < text.len()
                    && let Some(sum) = all.get_mut(*p).and_then(|s| s.get_mut(*o))
                {
                    *sum += f64::from(value);
                }
            }
        }
    }
    Ok(all)
}

/// Prompts that share what stands before the picture (or have no picture), by index, in order of first appearance.
fn groups(prompts: &[Prompt]) -> Result<Vec<Vec<usize>>> {
    let mut found: Vec<(Option<&[u32]>, Vec<usize>)> = Vec::new();
    for (i, p) in prompts.iter().enumerate() {
        let key = match p.image {
            Some((_, at)) => {
                Some(p.ids.get(..at).ok_or_else(|| Error::failed("a picture's place is outside its prompt"))?)
            }
            None => None,
        };
        match found.iter_mut().find(|(k, _)| *k == key) {
            Some((_, members)) => members.push(i),
            None => found.push((key, vec![i])),
        }
    }
    Ok(found.into_iter().map(|(_, members)| members).collect())
}

/// Reads the prompts of one group; logits of the first answer token, `[rows, vocab]`.
fn read(
    model: &Mllm,
    images: Option<&Tensor<3>>,
    prompts: &[Prompt],
    group: &[usize],
    device: &Device,
) -> Result<(State, Tensor<2>)> {
    let members: Vec<&Prompt> = group.iter().filter_map(|&i| prompts.get(i)).collect();
    let texts: Vec<&[u32]> =
        members.iter().map(|p| p.ids.get(p.image.map_or(0, |(_, at)| at + 1)..).unwrap_or_default()).collect();
    if texts.iter().any(|t| t.is_empty()) {
        return Err(Error::failed("a prompt has no text after its picture"));
    }
    let mut state = State { cache: KvCache::new() };
    if let Some(first) = members.first()
        && let Some((_, at)) = first.image
    {
        // Pictures in order of first use, each read once.
        let mut used: Vec<usize> = Vec::new();
        let mut rows = Vec::with_capacity(members.len());
        for p in &members {
            let wanted = p.image.map_or(0, |(i, _)| i);
            rows.push(used.iter().position(|u| *u == wanted).unwrap_or_else(|| {
                used.push(wanted);
                used.len() - 1
            }));
        }
        let given = images.map_or(0, |i| i.dims()[0]);
        if let Some(bad) = used.iter().find(|u| **u >= given) {
            return Err(Error::failed(format!("a prompt names picture {bad}, but only {given} were given")));
        }
        let Some(images) = images else {
            return Err(Error::failed("a prompt names a picture, but none were given"));
        };
        let mut parts = Vec::with_capacity(2);
        if at > 0 {
            let before: Vec<&[u32]> = used.iter().map(|_| first.ids.get(..at).unwrap_or_default()).collect();
            parts.push(model.llm.embed_rows(&before, device)?);
        }
        parts.push(images.clone().select(0, indices(&used, device)));
        let prefix = Tensor::cat(parts, 1);
        let t = prefix.dims()[1];
        model.llm.extend(prefix, &vec![t; used.len()], &mut state.cache, None)?;
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

/// What a batch of rows has read so far.
struct State {
    cache: KvCache,
}

impl State {
    /// Reads rows of ids of equal length of which the first `real[r]` count.
    fn extend(&mut self, llm: &Llm, rows: &[Vec<u32>], real: &[usize], device: &Device) -> Result<Tensor<3>> {
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        llm.extend(llm.embed_rows(&rows, device)?, real, &mut self.cache, None)
    }

    /// Reads one token a row and returns the scores of the next, `[rows, vocab]`.
    fn push(&mut self, llm: &Llm, rows: &[Vec<u32>], device: &Device) -> Result<Tensor<2>> {
        let hidden = self.extend(llm, rows, &vec![1; rows.len()], device)?;
        let [b, t, d] = hidden.dims();
        Ok(llm.logits(hidden.reshape([b * t, d])))
    }

    fn select(&self, rows: &[usize], llm: &Llm) -> Self {
        Self { cache: self.cache.select(rows, llm.config().kv_heads()) }
    }
}

fn pick_rows<T: Copy>(all: &[T], rows: &[usize]) -> Vec<T> {
    rows.iter().filter_map(|&r| all.get(r).copied()).collect()
}

fn indices(rows: &[usize], device: &Device) -> Tensor<1, Int> {
    let rows: Vec<i32> = rows.iter().map(|&r| r as i32).collect();
    let n = rows.len();
    Tensor::from_data(TensorData::new(rows, [n]), device)
}

/// The most likely token of each row; of equal ones the first, on every backend.
fn pick(logits: Tensor<2>) -> Result<Vec<u32>> {
    let v = logits.dims()[1];
    let values: Vec<f32> = logits.try_into_vec_as().map_err(|e| Error::failed(e.to_string()))?;
    Ok(values
        .chunks(v.max(1))
        .map(|row| {
            let best = row
                .iter()
                .enumerate()
                .fold((0, f32::NEG_INFINITY), |best, (i, &x)| if x > best.1 { (i, x) } else { best });
            best.0 as u32
        })
        .collect())
}

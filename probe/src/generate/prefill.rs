//! Processing of prompts before their first answer token. An image and the text before it form a prefix, which is
//! processed once and may be kept for later prompts about the same image.

use crate::connector::{ImagePositions, ImageTokens};
use crate::llm::decoder::BlockHook;
use crate::llm::{KvCache, Llm};
use crate::mllm::Mllm;
use burgess_base::{Error, Result};
use burgess_encoders::transfer;
use burn::tensor::{Device, Int, Tensor, TensorData};

/// The maximum number of rows of a matrix product for which the CPU backend streams the weight instead of packing it.
/// Products of more rows add in another order, so the last bits of a row differ between the two.
pub(super) const STREAMED_ROWS: usize = 24;

/// Processed prompts: their cache and the logits of their first answer token.
pub struct Prefilled {
    pub(super) cache: KvCache,
    /// Logits, `[rows, vocabulary]`.
    pub(super) logits: Tensor<2>,
}

impl Prefilled {
    /// Returns the number of positions of each prompt: text and image tokens.
    pub fn positions(&self) -> Vec<usize> {
        self.cache.lengths()
    }
}

/// The processed beginning of a prompt: the text before an image, and the image.
#[derive(Debug, Clone)]
pub struct ImagePrefix {
    cache: KvCache,
}

impl ImagePrefix {
    /// Returns the number of positions: text and image tokens without padding.
    pub fn positions(&self) -> usize {
        self.cache.lengths().first().copied().unwrap_or(0)
    }

    /// Returns the number of bytes that the prefix takes on its device.
    pub fn bytes(&self) -> usize {
        self.cache.bytes()
    }
}

/// Processes the tokens `before` and then an image, for each image of `which` (indices in `images`).
///
/// On the CPU backend the bits of a prefix do not depend on the other images of `which`.
///
/// # Errors
/// When an image was not given, or the prefix exceeds the model's maximum length.
pub fn prefill_prefixes(
    model: &Mllm,
    images: &ImageTokens,
    which: &[usize],
    before: &[u32],
    device: &Device,
) -> Result<Vec<ImagePrefix>> {
    check_images(which.iter(), images.images())?;
    let heads = model.llm.config().kv_heads();
    let mut prefixes = Vec::with_capacity(which.len());
    let lengths: Vec<usize> = which.iter().map(|i| before.len() + images.visible_tokens(*i).len()).collect();
    // Samplers inside the language model work on all images of a batch at once.
    let groups = match images.context.is_some() && transfer::is_host(device) {
        true => (0..which.len()).map(|i| vec![i]).collect(),
        false => grouped(&lengths, transfer::is_host(device)),
    };
    for group in groups {
        let used: Vec<usize> = group.iter().filter_map(|g| which.get(*g).copied()).collect();
        let mut cache = KvCache::new();
        prefill_images(model, images, &used, before, &mut cache, device)?;
        // Groups are in the order of the images.
        prefixes.extend((0..used.len()).map(|row| ImagePrefix { cache: cache.select(&[row], heads) }));
    }
    Ok(prefixes)
}

/// One of several images at the beginning of a prompt, with the text before it.
#[derive(Debug, Clone, Copy)]
pub struct ImagePart<'a> {
    /// Token ids before the image: from the beginning of the prompt, or from the image before.
    pub before: &'a [u32],
    /// A batch of images that contains the image.
    pub images: &'a ImageTokens,
    /// Index of the image in the batch.
    pub index: usize,
}

/// Processes the beginning of a prompt with several images: `parts` in their order.
///
/// # Errors
/// When there are no parts, an image was not given, or the prefix exceeds the model's maximum length.
pub fn prefill_prefix(model: &Mllm, parts: &[ImagePart<'_>], device: &Device) -> Result<ImagePrefix> {
    if parts.is_empty() {
        return Err(Error::failed("an image prefix needs at least one image"));
    }
    let mut cache = KvCache::new();
    for part in parts {
        check_images([part.index].iter(), part.images.images())?;
        prefill_images(model, part.images, &[part.index], part.before, &mut cache, device)?;
    }
    Ok(ImagePrefix { cache })
}

/// Processes the `texts` of prompts, each after its image prefix if it has one.
///
/// # Errors
/// When a text is empty, an id is outside the vocabulary, or a prompt exceeds the model's maximum length.
pub fn prefill(model: &Mllm, texts: &[(Option<&ImagePrefix>, &[u32])], device: &Device) -> Result<Prefilled> {
    let with_image = texts.iter().filter(|(prefix, _)| prefix.is_some()).count();
    if with_image > 0 && with_image < texts.len() {
        return Err(Error::failed("prompts with and without an image cannot be processed together"));
    }
    let caches = texts.iter().filter_map(|(prefix, _)| Some(prefix.as_ref()?.cache.clone())).collect();
    let texts: Vec<&[u32]> = texts.iter().map(|(_, text)| *text).collect();
    extend_texts(model, KvCache::join(caches)?, &texts, device)
}

/// Groups prompts of these lengths (in tokens that are to be computed) into batches, of consecutive prompts each.
///
/// On the CPU backend short and long ones are kept apart, so that the bits of a prompt do not depend on the others:
/// which of two ways of multiplying is used depends on the number of rows. Prompts of a model whose rotary angles
/// change with the length (LongRoPE) are computed one by one, because rows with joined prefixes cannot be recomputed.
pub fn prefill_groups(model: &Mllm, lengths: &[usize], device: &Device) -> Vec<Vec<usize>> {
    match model.llm.config().length_switch() {
        Some(_) => (0..lengths.len()).map(|i| vec![i]).collect(),
        None => grouped(lengths, transfer::is_host(device)),
    }
}

/// [`prefill_groups`] for models whose rotary angles do not change.
fn grouped(lengths: &[usize], is_host: bool) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut longest = 0;
    for (i, &length) in lengths.iter().enumerate() {
        let fits = groups.last().is_some_and(|group| {
            let streamed = (group.len() + 1) * length.max(longest) <= STREAMED_ROWS;
            let packed = group.iter().chain([&i]).all(|g| lengths.get(*g).is_some_and(|l| *l > STREAMED_ROWS));
            // A batch of more rows would be decoded in the other way.
            !is_host || (streamed || packed) && group.len() < STREAMED_ROWS
        });
        match groups.last_mut() {
            Some(group) if fits => {
                group.push(i);
                longest = longest.max(length);
            }
            _ => {
                groups.push(vec![i]);
                longest = length;
            }
        }
    }
    groups
}

/// Processes the prompts of one group, which have the same texts before their images.
pub(super) fn prefill_group(
    model: &Mllm,
    images: Option<&ImageTokens>,
    members: &[&super::Prompt<'_>],
    device: &Device,
) -> Result<Prefilled> {
    let split: Vec<Vec<&[u32]>> = members.iter().map(|p| p.texts().unwrap_or_default()).collect();
    let texts: Vec<&[u32]> = split.iter().map(|texts| texts.last().copied().unwrap_or_default()).collect();
    // Checked before the images are processed.
    check_texts(&texts)?;
    let mut cache = KvCache::new();
    if let (Some(before), Some(first)) = (split.first(), members.first().filter(|p| !p.images.is_empty())) {
        // Combinations of images in order of first use, so that each is processed once.
        let mut used: Vec<Vec<usize>> = Vec::new();
        let mut rows = Vec::with_capacity(members.len());
        for p in members {
            let wanted: Vec<usize> = p.images.iter().map(|(i, _)| *i).collect();
            rows.push(used.iter().position(|u| *u == wanted).unwrap_or_else(|| {
                used.push(wanted);
                used.len() - 1
            }));
        }
        check_images(used.iter().flatten(), images.map_or(0, ImageTokens::images))?;
        let Some(images) = images else {
            return Err(Error::failed("a prompt refers to an image, got no images"));
        };
        for (k, before) in before.iter().take(first.images.len()).enumerate() {
            let which: Vec<usize> = used.iter().filter_map(|u| u.get(k).copied()).collect();
            prefill_images(model, images, &which, before, &mut cache, device)?;
        }
        cache = cache.select(&rows, model.llm.config().kv_heads());
    }
    extend_texts(model, cache, &texts, device)
}

fn check_images<'a>(mut used: impl Iterator<Item = &'a usize>, given: usize) -> Result<()> {
    match used.find(|u| **u >= given) {
        Some(bad) => Err(Error::failed(format!("a prompt refers to image {bad} (counted from 0), got {given} images"))),
        None => Ok(()),
    }
}

fn check_texts(texts: &[&[u32]]) -> Result<()> {
    match texts.iter().any(|t| t.is_empty()) {
        true => Err(Error::failed("a prompt has no text after its last image")),
        false => Ok(()),
    }
}

/// Processes one text per row of `cache` (of a new cache: from position 0).
fn extend_texts(model: &Mllm, mut cache: KvCache, texts: &[&[u32]], device: &Device) -> Result<Prefilled> {
    check_texts(texts)?;
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
    let hidden = extend(&model.llm, &mut cache, &padded, &lengths, device)?;
    let [b, t, d] = hidden.dims();
    let last: Vec<usize> = lengths.iter().enumerate().map(|(r, n)| r * t + n - 1).collect();
    let logits = model.llm.logits(hidden.reshape([b * t, d]).select(0, indices(&last, device)));
    Ok(Prefilled { cache, logits })
}

/// For each image of `used`, processes the tokens `before` and then the image without its padding. `cache` is empty, or
/// has one row per image of `used`, which grows.
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

/// Processes rows of token ids of equal length, padded after the first `real[r]`; returns hidden states
/// `[rows, t, llm width]`.
pub(super) fn extend(
    llm: &Llm,
    cache: &mut KvCache,
    rows: &[Vec<u32>],
    real: &[usize],
    device: &Device,
) -> Result<Tensor<3>> {
    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    llm.extend(llm.embed_rows(&rows, device)?, real, cache, None)
}

/// Copies row indices to the device.
pub(super) fn indices(rows: &[usize], device: &Device) -> Tensor<1, Int> {
    let rows: Vec<i32> = rows.iter().map(|&r| r as i32).collect();
    let n = rows.len();
    transfer::to_device(TensorData::new(rows, [n]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_prompts_are_computed_apart_on_the_cpu() {
        assert_eq!(grouped(&[8, 8, 8, 1, 30, 40, 3], true), vec![vec![0, 1, 2], vec![3], vec![4, 5], vec![6]]);
        assert_eq!(grouped(&[24, 25], true), vec![vec![0], vec![1]]);
        assert_eq!(grouped(&[5, 90, 2], false), vec![vec![0, 1, 2]]);
        assert!(grouped(&[], true).is_empty());
        assert_eq!(grouped(&[30; 50], true).iter().map(Vec::len).collect::<Vec<_>>(), [24, 24, 2]);
    }
}

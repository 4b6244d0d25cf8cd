//! Continuous batching: the answer to a prompt must not depend on which other prompts join and leave the batch.

mod common;
#[path = "../../tests/devices.rs"]
mod devices;

use burgess_base::stream::{Stream, stream, uniform};
use burgess_base::{Error, Result};
use burgess_encoders::features::FeatureMap;
use burgess_probe::connector::{ConnectorKind, ImageSize, ImageTokens};
use burgess_probe::generate::{
    Choice, Decoding, Draws, ImagePrefix, LiveBatch, PrefixCache, Prompt, RowOptions, Sampling, StepOutcome, answer,
    prefill, prefill_groups, prefill_prefixes, score_options, score_prefilled,
};
use burgess_probe::llm::rope::RopeScaling;
use burgess_probe::llm::{KvCache, LlmConfig};
use burgess_probe::mllm::{ImageBatch, Mllm};
use burn::tensor::{Device, Tensor, TensorData};
use common::two_encoder_model;
use devices::{device, is_flex};
use std::sync::Arc;

const IMAGE: u32 = 5;
const IMAGES: usize = 4;
const SIZES: [(usize, usize); IMAGES] = [(64, 64), (80, 40), (30, 70), (90, 50)];
const STOP: [u32; 2] = [17, 23];

fn kinds() -> [ConnectorKind; 2] {
    [
        r#"{"mlp2x_gelu": {"newline": true}}"#,
        r#"{"sva": {"hidden": 16, "heads": 4, "depth": 2, "query_grids": [4, 2], "grid": 4,
            "samplers": {"start": 0, "stride": 2, "number": 2}}}"#,
    ]
    .map(|text| serde_json::from_str(text).unwrap())
}

/// LongRoPE whose angles change after `original` tokens.
fn long_rope(original: usize) -> RopeScaling {
    RopeScaling::LongRope {
        short_factor: vec![1.0; 4],
        long_factor: vec![1.5, 2.0, 3.0, 4.0],
        factor: Some(4.0),
        attention_factor: None,
        original_max_position_embeddings: Some(original),
    }
}

fn model(kind: ConnectorKind, scaling: Option<RopeScaling>, device: &Device) -> Result<Mllm> {
    two_encoder_model(kind, LlmConfig { rope_scaling: scaling, ..LlmConfig::nano(32, 4, 61) }, device)
}

fn encode(model: &Mllm, images: &[usize], device: &Device) -> Result<ImageTokens> {
    let map = |side: usize, width: usize| {
        let value = |i: usize| ((i * 7919 + width) % 1009) as f32 / 252.0 - 2.0;
        let count = side * side * width;
        let values: Vec<f32> = images.iter().flat_map(|i| (0..count).map(move |k| value(i * count + k))).collect();
        let shape = [images.len(), side * side, width];
        FeatureMap { tokens: Tensor::from_data(TensorData::new(values, shape), device), grid: [side, side] }
    };
    let sizes: Vec<ImageSize> = images.iter().map(|&i| ImageSize { width: SIZES[i].0, height: SIZES[i].1 }).collect();
    model.encode_images_with(ImageBatch::FeatureMaps(vec![map(4, 6), map(8, 5)]), Some(&sizes), None)
}

/// Draws a whole number below `n`.
fn below(random: &mut Stream, n: u64) -> u64 {
    (uniform(random) * n as f64) as u64
}

/// A prompt of the test.
#[derive(Debug, Clone)]
struct Asked {
    ids: Vec<u32>,
    image: Option<usize>,
    sampling: Option<Sampling>,
    alternatives: Option<usize>,
    max_new_tokens: usize,
    /// Number of tokens after which the client loses interest.
    cancelled_after: Option<usize>,
}

impl Asked {
    fn draw(random: &mut Stream) -> Self {
        let image = (below(random, 4) > 0).then(|| below(random, IMAGES as u64) as usize);
        let longest = if below(random, 4) == 0 { 40 } else { 12 };
        let length = 1 + below(random, longest) as usize;
        let mut ids = Vec::new();
        if image.is_some() {
            // Texts of different lengths before the image.
            ids.extend(if below(random, 3) == 0 { vec![7, 8, IMAGE] } else { vec![7, IMAGE] });
        }
        ids.extend((0..length).map(|_| 6 + below(random, 55) as u32));
        let sampling = Sampling { temperature: 1.5, top_p: 0.9, top_k: None, seed: below(random, 1000) };
        Self {
            ids,
            image,
            sampling: (below(random, 3) == 0).then_some(sampling),
            alternatives: (below(random, 2) == 0).then_some(3),
            max_new_tokens: 1 + below(random, 20) as usize,
            cancelled_after: (below(random, 6) == 0).then(|| below(random, 8) as usize),
        }
    }

    fn placeholder(&self) -> Option<usize> {
        self.image.and_then(|_| self.ids.iter().position(|id| *id == IMAGE))
    }

    fn options(&self, id: u64, alternatives: Option<usize>) -> Result<RowOptions> {
        Ok(RowOptions {
            id,
            name: format!("prompt {id}"),
            draws: self.sampling.map(|s| Draws::new(s, &self.ids)).transpose()?,
            alternatives,
            max_new_tokens: self.max_new_tokens,
        })
    }

    /// The answer alone: its tokens by `answer`, and the log-probabilities by a batch of one row.
    fn alone(&self, model: &Mllm, device: &Device) -> Result<Vec<Choice>> {
        let images = self.image.map(|i| encode(model, &[i], device)).transpose()?;
        let prompt = Prompt { ids: &self.ids, images: self.placeholder().map(|at| (0, at)).into_iter().collect() };
        let how = Decoding { max_new_tokens: self.max_new_tokens, stop: &STOP, sampling: self.sampling };
        let tokens = answer(model, images.as_ref(), std::slice::from_ref(&prompt), &how, device)?.remove(0);
        let prefix = prefix(model, self, device)?;
        let at = self.placeholder().map_or(0, |at| at + 1);
        let prefilled = prefill(model, &[(prefix.as_ref(), &self.ids[at..])], device)?;
        let mut batch = LiveBatch::new(model, device);
        let mut made = Vec::new();
        let mut outcome = batch.admit(prefilled, vec![self.options(1, Some(3))?])?;
        while let Some((_, choice)) = outcome.complete()?.pop() {
            if STOP.contains(&choice.id) {
                break;
            }
            made.push(choice);
            if made.len() == self.max_new_tokens {
                break;
            }
            outcome = batch.step();
        }
        assert_eq!(made.iter().map(|c| c.id).collect::<Vec<_>>(), tokens, "{self:?}");
        Ok(made)
    }
}

fn prefix(model: &Mllm, asked: &Asked, device: &Device) -> Result<Option<ImagePrefix>> {
    let Some((image, at)) = asked.image.zip(asked.placeholder()) else { return Ok(None) };
    let images = encode(model, &[image], device)?;
    Ok(prefill_prefixes(model, &images, &[0], &asked.ids[..at], device)?.pop())
}

/// Answers all prompts in one live batch, in which they arrive at random times.
fn live(model: &Mllm, asked: &[Asked], random: &mut Stream, device: &Device) -> Result<Vec<Vec<Choice>>> {
    let mut batch = LiveBatch::new(model, device);
    // Room for a few prefixes: some are computed again.
    let mut prefixes = PrefixCache::new(100_000);
    let mut made: Vec<Vec<Choice>> = vec![Vec::new(); asked.len()];
    let (mut next, mut hits) = (0, 0);
    let mut outcomes: Vec<StepOutcome> = Vec::new();
    loop {
        let arrivals = (below(random, 4) as usize).min(asked.len() - next).min(30 - batch.len());
        let new = next..next + arrivals;
        next = new.end;
        for with_image in [true, false] {
            let new: Vec<usize> = new.clone().filter(|i| asked[*i].image.is_some() == with_image).collect();
            let mut found: Vec<Option<Arc<ImagePrefix>>> = Vec::new();
            for &i in &new {
                let Some((image, at)) = asked[i].image.zip(asked[i].placeholder()) else {
                    found.push(None);
                    continue;
                };
                let (key, before) = (image.to_string(), &asked[i].ids[..at]);
                let kept = prefixes.get(&key, before);
                hits += usize::from(kept.is_some());
                let kept = match kept {
                    Some(kept) => kept,
                    None => {
                        // Images are processed together; the bits are those of one alone. An SVA computes all images
                        // of a batch at once, so its bits are those of one only if it is encoded alone.
                        let alone = model.config().connector.kind.properties().samplers.is_some();
                        let (batch, which) =
                            if alone { (vec![image], vec![0]) } else { (vec![0, 1, 2, 3], vec![3, image]) };
                        let images = encode(model, &batch, device)?;
                        let mut all = prefill_prefixes(model, &images, &which, before, device)?;
                        let one = Arc::new(all.pop().ok_or_else(|| Error::failed("no prefix"))?);
                        prefixes.insert(&key, before, Arc::clone(&one));
                        one
                    }
                };
                found.push(Some(kept));
            }
            let texts: Vec<&[u32]> =
                new.iter().map(|&i| &asked[i].ids[asked[i].placeholder().map_or(0, |at| at + 1)..]).collect();
            let lengths: Vec<usize> = texts.iter().map(|t| t.len()).collect();
            for group in prefill_groups(model, &lengths, device) {
                let rows: Vec<_> = group.iter().map(|&g| (found[g].as_deref(), texts[g])).collect();
                let prefilled = prefill(model, &rows, device)?;
                let options = group.iter().map(|&g| asked[new[g]].options(new[g] as u64, asked[new[g]].alternatives));
                outcomes.push(batch.admit(prefilled, options.collect::<Result<_>>()?)?);
            }
        }
        for outcome in std::mem::take(&mut outcomes) {
            let mut finished = Vec::new();
            for (id, choice) in outcome.complete()? {
                let (asked, out) = (&asked[id as usize], &mut made[id as usize]);
                if STOP.contains(&choice.id) {
                    finished.push(id);
                    continue;
                }
                out.push(choice);
                if out.len() == asked.max_new_tokens || asked.cancelled_after.is_some_and(|n| out.len() >= n) {
                    finished.push(id);
                }
            }
            batch.retire(&finished);
        }
        if batch.is_empty() && next == asked.len() {
            break;
        }
        outcomes.push(batch.step());
    }
    assert!(hits > 0, "no prefix was used again");
    assert!(prefixes.bytes() > 0 && prefixes.bytes() <= 100_000);
    Ok(made)
}

#[test]
fn an_answer_does_not_depend_on_the_other_rows() -> Result<()> {
    // Under autodiff the caches of the CPU backend are those of all other backends.
    for (device, fused) in [(device(), is_flex()), (device().autodiff(), false)] {
        for kind in kinds() {
            let name = kind.name();
            let model = model(kind, None, &device)?;
            let mut random = stream("live", 7);
            let asked: Vec<Asked> = (0..if fused { 60 } else { 24 }).map(|_| Asked::draw(&mut random)).collect();
            let alone = asked.iter().map(|a| a.alone(&model, &device)).collect::<Result<Vec<_>>>()?;
            for seed in 0..if fused { 4 } else { 1 } {
                let together = live(&model, &asked, &mut stream("arrivals", seed), &device)?;
                for (i, ((asked, alone), together)) in asked.iter().zip(&alone).zip(&together).enumerate() {
                    let wanted = asked.cancelled_after.map_or(alone.len(), |n| alone.len().min(n.max(1)));
                    assert_eq!(together.len(), wanted, "{name}: {i}: {asked:?}");
                    for (a, b) in alone.iter().zip(together) {
                        assert_eq!(a.id, b.id, "{name}: prompt {i}: {asked:?}");
                        let (Some(a), Some(b)) = (&a.scored, &b.scored) else { continue };
                        if fused {
                            assert_eq!(a, b, "{name}: the bits of prompt {i}");
                        }
                        assert!((a.token.logprob - b.token.logprob).abs() < 1e-3, "{name}: {i}: {a:?} {b:?}");
                    }
                }
            }
        }
    }
    Ok(())
}

/// Rows that grow past the length at which the rotary angles change are recomputed, alone and in a batch.
#[test]
fn long_rope_rows_stay_apart() -> Result<()> {
    let device = device();
    let [plain, sva] = kinds();
    let model_of = |kind, original| model(kind, Some(long_rope(original)), &device);
    let model = model_of(plain, 60)?;
    let mut random = stream("long", 1);
    let asked: Vec<Asked> = (0..24).map(|_| Asked::draw(&mut random)).collect();
    let alone = asked.iter().map(|a| a.alone(&model, &device)).collect::<Result<Vec<_>>>()?;
    // Whole answers, so that rows cross the switch while others join.
    let asked: Vec<Asked> = asked.into_iter().map(|a| Asked { cancelled_after: None, ..a }).collect();
    let together = live(&model, &asked, &mut stream("arrivals", 3), &device)?;
    let mut crossing = 0;
    for (asked, made) in asked.iter().zip(&alone) {
        let before = prefix(&model, asked, &device)?.map_or(0, |prefix| prefix.positions());
        let prompt = before + asked.ids.len() - asked.placeholder().map_or(0, |at| at + 1);
        crossing += usize::from(prompt <= 60 && prompt + made.len() > 61);
    }
    assert!(crossing > 0, "no row grows past 60 positions");
    for (alone, together) in alone.iter().zip(&together) {
        let ids = |all: &[Choice]| all.iter().map(|c| c.id).collect::<Vec<_>>();
        assert_eq!(ids(alone), ids(together));
    }
    // What cannot be recomputed is an error that says why, not a wrong answer.
    let model = model_of(sva, 40)?;
    let asked = Asked {
        ids: [vec![7, IMAGE], vec![9; 16]].concat(),
        image: Some(0),
        sampling: None,
        alternatives: None,
        max_new_tokens: 30,
        cancelled_after: None,
    };
    let prefix = prefix(&model, &asked, &device)?;
    let prefilled = prefill(&model, &[(prefix.as_ref(), &asked.ids[2..])], &device)?;
    let mut batch = LiveBatch::new(&model, &device);
    let mut outcome = batch.admit(prefilled, vec![asked.options(4, None)?])?;
    while outcome.failures.is_empty() {
        outcome = batch.step();
    }
    assert_eq!(outcome.failures[0].rows, [4]);
    assert!(outcome.failures[0].error.to_string().contains("past 40 positions"), "{}", outcome.failures[0].error);
    assert!(batch.is_empty());
    Ok(())
}

#[test]
fn options_have_the_same_scores_after_a_kept_prefix() -> Result<()> {
    let device = device();
    for kind in kinds() {
        let model = model(kind, None, &device)?;
        let ids = [7, IMAGE, 11, 12, 13];
        let options = vec![vec![11], vec![12, 13, 14], vec![13, 2]];
        let images = encode(&model, &[2], &device)?;
        let prompt = Prompt { ids: &ids, images: vec![(0, 1)] };
        let one = score_options(&model, Some(&images), &[prompt], std::slice::from_ref(&options), &device)?;
        let prefix = prefill_prefixes(&model, &images, &[0], &ids[..1], &device)?;
        for _ in 0..2 {
            let prefilled = prefill(&model, &[(prefix.first(), &ids[2..])], &device)?;
            assert_eq!(prefilled.positions(), [prefix[0].positions() + 3]);
            assert_eq!(score_prefilled(&model, &prefilled, &[&options], &device)?, one);
        }
        let prefilled = prefill(&model, &[(prefix.first(), &ids[2..])], &device)?;
        assert!(score_prefilled(&model, &prefilled, &[&[vec![]]], &device).is_err());
        assert!(prefill(&model, &[(prefix.first(), &ids[2..]), (None, &ids[2..])], &device).is_err());
    }
    Ok(())
}

#[test]
fn joined_caches_stay_small() -> Result<()> {
    for device in [device(), device().autodiff()] {
        let model = model(kinds()[0].clone(), None, &device)?;
        let one = |n: usize| -> Result<KvCache> {
            let mut cache = KvCache::new();
            let ids: Vec<u32> = (0..n as u32).map(|i| 6 + i % 50).collect();
            model.llm.extend(model.llm.embed_rows(&[&ids], &device)?, &[n], &mut cache, None)?;
            Ok(cache)
        };
        // A long row joins a short one and leaves again, many times.
        let mut cache = one(4)?;
        let mut largest = 0;
        for _ in 0..12 {
            cache = KvCache::join(vec![cache, one(60)?])?;
            assert_eq!(cache.lengths().len(), 2);
            let ids: [&[u32]; 2] = [&[9], &[10]];
            model.llm.extend(model.llm.embed_rows(&ids, &device)?, &[1, 1], &mut cache, None)?;
            largest = largest.max(cache.bytes());
            cache = cache.select(&[0], model.llm.config().kv_heads());
        }
        assert_eq!(cache.lengths(), [16]);
        // Keys and values of 4 layers and 2 rows of at most 92 slots, 16 channels.
        assert!(largest <= 2 * 4 * 2 * 92 * 16 * 4, "{largest}");
        assert!(KvCache::join(vec![one(3)?, KvCache::new()]).is_err());
    }
    Ok(())
}

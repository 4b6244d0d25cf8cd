//! Images with padding in sequences: padding tokens are masked in training and left out in generation, and both give
//! the same results for all other tokens.

mod common;
#[path = "../../tests/devices.rs"]
mod devices;

use burgess_base::{Error, Result};
use burgess_encoders::features::FeatureMap;
use burgess_probe::connector::{ConnectorKind, ImageSize, ImageTokens};
use burgess_probe::data::Example;
use burgess_probe::generate::{
    Decoding, ImagePart, Prompt, answer, prefill, prefill_prefix, score_options, score_prefilled,
};
use burgess_probe::llm::LlmConfig;
use burgess_probe::mllm::{ImageBatch, Mllm, Sequence};
use burgess_probe::recipe::Stage;
use burgess_probe::train::{FeatureSource, StageOutcome, StageRun, StepLog, train_stage};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use common::two_encoder_model;
use devices::{cases, device, is_flex, limit};

const IMAGE: u32 = 5;
const SIZES: [(usize, usize); 4] = [(64, 64), (80, 40), (30, 70), (90, 50)];

fn kinds() -> Vec<ConnectorKind> {
    [
        r#"{"sva": {"hidden": 16, "heads": 4, "depth": 2, "query_grids": [4, 2], "grid": 4,
            "samplers": {"start": 0, "stride": 2, "number": 2}}}"#,
        r#"{"mlp2x_gelu": {"newline": true}}"#,
        r#"{"resampler": {"hidden": 16, "heads": 4, "depth": 1, "queries": 6}}"#,
        r#""c_abstractor""#,
        r#""se_mlp""#,
    ]
    .map(|text| serde_json::from_str(text).unwrap())
    .to_vec()
}

fn model(kind: ConnectorKind) -> Result<Mllm> {
    model_on(kind, &device())
}

fn model_on(kind: ConnectorKind, device: &Device) -> Result<Mllm> {
    two_encoder_model(kind, LlmConfig::nano(32, 4, 61), device)
}

/// Features in memory.
struct Held;

impl FeatureSource for Held {
    fn batch(&self, images: &[usize], device: &Device) -> Result<ImageBatch> {
        let map = |side: usize, width: usize| {
            let value = |i: usize| ((i * 7919 + width) % 1009) as f32 / 252.0 - 2.0;
            let count = side * side * width;
            let values: Vec<f32> =
                images.iter().flat_map(|image| (0..count).map(move |i| value(image * count + i))).collect();
            let shape = [images.len(), side * side, width];
            FeatureMap { tokens: Tensor::from_data(TensorData::new(values, shape), device), grid: [side, side] }
        };
        Ok(ImageBatch::FeatureMaps(vec![map(4, 6), map(8, 5)]))
    }

    fn sizes(&self, images: &[usize]) -> Result<Option<Vec<ImageSize>>> {
        Ok(Some(images.iter().map(|&i| ImageSize { width: SIZES[i].0, height: SIZES[i].1 }).collect()))
    }
}

fn encode(model: &Mllm, images: &[usize]) -> Result<ImageTokens> {
    model.encode_images_with(Held.batch(images, &device())?, Held.sizes(images)?.as_deref(), None)
}

#[test]
fn answers_equal_those_of_whole_sequences_and_do_not_depend_on_the_batch() -> Result<()> {
    let device = device();
    for kind in cases(&kinds(), &[0, 1]) {
        let name = kind.name();
        let model = model(kind)?;
        let images = encode(&model, &[0, 1, 2, 3])?;
        assert_eq!(images.visible.is_some(), ["sva", "mlp2x_gelu"].contains(&name), "{name}");
        assert_eq!(images.context.is_some(), name == "sva");
        let prompts: Vec<Vec<u32>> = (0..6)
            .map(|i| [vec![7, IMAGE], (0..3 + i % 3).map(|k| 11 + (i * 5 + k * 3) % 40).collect()].concat())
            .collect();
        let prompts: Vec<Prompt> =
            prompts.iter().enumerate().map(|(i, ids)| Prompt { ids, images: vec![(i % 4, 1)] }).collect();
        let how = Decoding { max_new_tokens: 8, stop: &[], sampling: None };
        let together = answer(&model, Some(&images), &prompts, &how, &device)?;
        let options: Vec<Vec<Vec<u32>>> = prompts.iter().map(|_| vec![vec![11, 12], vec![13, 14, 15]]).collect();
        let weighed = score_options(&model, Some(&images), &prompts, &options, &device)?;
        for (i, prompt) in prompts.iter().enumerate() {
            let alone = answer(&model, Some(&images), std::slice::from_ref(prompt), &how, &device)?;
            assert_eq!(alone[0], together[i], "{name}: prompt {i}");
            // The whole sequence at once, with its padding masked.
            let whole = |ids: &[u32]| -> Result<Tensor<2>> {
                let sequence = Sequence { ids, image_at: Some(1) };
                let seen = encode(&model, &[prompt.images[0].0])?;
                let hidden = model.hidden(model.splice(&[sequence], Some(seen), &device)?)?;
                let [_, t, d] = hidden.dims();
                Ok(log_softmax(model.llm.logits(hidden.reshape([t, d])), 1))
            };
            let mut ids = prompt.ids.to_vec();
            for _ in 0..8 {
                let log = whole(&ids)?;
                let t = log.dims()[0];
                ids.push(log.narrow(0, t - 1, 1).argmax(1).into_scalar::<i64>() as u32);
            }
            assert_eq!(ids[prompt.ids.len()..], together[i], "{name}: prompt {i} as a whole");
            for (option, found) in options[i].iter().zip(&weighed[i]) {
                let log = whole(&[prompt.ids, option].concat())?;
                let t = log.dims()[0];
                let sum: f32 = (0..option.len())
                    .map(|k| {
                        let at = t - option.len() - 1 + k;
                        let id = option[k] as usize;
                        log.clone().slice([at..at + 1, id..id + 1]).into_scalar::<f32>()
                    })
                    .sum();
                assert!((f64::from(sum) - found).abs() < limit(1e-4, 1e-3) * found.abs(), "{name}: {sum} and {found}");
            }
        }
    }
    Ok(())
}

#[test]
fn several_images_equal_whole_sequences_of_their_tokens() -> Result<()> {
    let device = device();
    for kind in cases(&kinds(), &[0, 1]) {
        let name = kind.name();
        let model = model(kind)?;
        let images = encode(&model, &[0, 1, 2, 3])?;
        // Two and three images, repeated ones, texts between them, and one image beside them in the same batch.
        type Asked = (Vec<u32>, Vec<(usize, usize)>);
        let asked: Vec<Asked> = vec![
            (vec![7, IMAGE, 11, IMAGE, 12, 13], vec![(0, 1), (2, 3)]),
            (vec![7, IMAGE, 11, IMAGE, 14], vec![(2, 1), (0, 3)]),
            (vec![7, IMAGE, 11, IMAGE, 12, 13], vec![(0, 1), (0, 3)]),
            (vec![IMAGE, IMAGE, 9, IMAGE, 15, 16, 17], vec![(1, 0), (3, 1), (2, 3)]),
            (vec![7, IMAGE, 18, 19], vec![(1, 1)]),
            (vec![20, 21, 22], vec![]),
        ];
        let prompts: Vec<Prompt> = asked.iter().map(|(ids, at)| Prompt { ids, images: at.clone() }).collect();
        let how = Decoding { max_new_tokens: 8, stop: &[], sampling: None };
        let together = answer(&model, Some(&images), &prompts, &how, &device)?;
        let options: Vec<Vec<Vec<u32>>> = prompts.iter().map(|_| vec![vec![11, 12], vec![13, 14, 15]]).collect();
        let scored = score_options(&model, Some(&images), &prompts, &options, &device)?;
        for (i, prompt) in prompts.iter().enumerate() {
            let alone = answer(&model, Some(&images), std::slice::from_ref(prompt), &how, &device)?;
            assert_eq!(alone[0], together[i], "{name}: prompt {i}");
            let parts: Vec<(&[u32], ImageTokens, usize)> = prompt
                .images
                .iter()
                .scan(0, |from, (image, at)| {
                    let before = &prompt.ids[*from..*at];
                    *from = at + 1;
                    Some((before, *image))
                })
                .map(|(before, image)| Ok((before, encode(&model, &[image])?, 0)))
                .collect::<Result<_>>()?;
            let last = prompt.images.last().map_or(0, |(_, at)| at + 1);
            let parts: Vec<ImagePart<'_>> =
                parts.iter().map(|(before, images, index)| ImagePart { before, images, index: *index }).collect();
            let prefix = if parts.is_empty() { None } else { Some(prefill_prefix(&model, &parts, &device)?) };
            let again = prefill(&model, &[(prefix.as_ref(), &prompt.ids[last..])], &device)?;
            let same = score_prefilled(&model, &again, &[&options[i]], &device)?;
            for (a, b) in same[0].iter().zip(&scored[i]) {
                assert!((a - b).abs() < limit(1e-4, 1e-3) * b.abs(), "{name}: prompt {i}: {a} and {b}");
            }
        }
        // The order of the images matters, and so does each of them.
        assert_ne!(scored[0], scored[2], "{name}");
        if name == "sva" {
            continue;
        }
        // The whole sequence at once, with the image tokens of all images as embeddings between those of the text.
        for (i, prompt) in prompts.iter().enumerate() {
            let logits = |tail: &[u32]| -> Result<Tensor<2>> {
                let mut parts = Vec::new();
                let mut from = 0;
                for (image, at) in &prompt.images {
                    if *at > from {
                        parts.push(model.llm.embed_rows(&[&prompt.ids[from..*at]], &device)?);
                    }
                    let visible: Vec<i32> = images.visible_tokens(*image).into_iter().map(|p| p as i32).collect();
                    let index = Tensor::<1, Int>::from_data(TensorData::new(visible.clone(), [visible.len()]), &device);
                    parts.push(images.tokens.clone().narrow(0, *image, 1).select(1, index));
                    from = at + 1;
                }
                parts.push(model.llm.embed_rows(&[&[&prompt.ids[from..], tail].concat()], &device)?);
                let hidden = model.llm.hidden(Tensor::cat(parts, 1))?;
                let [_, t, d] = hidden.dims();
                Ok(log_softmax(model.llm.logits(hidden.reshape([t, d])), 1))
            };
            let mut tail = Vec::new();
            for _ in 0..8 {
                let log = logits(&tail)?;
                let t = log.dims()[0];
                tail.push(log.narrow(0, t - 1, 1).argmax(1).into_scalar::<i64>() as u32);
            }
            assert_eq!(tail, together[i], "{name}: prompt {i} as a whole");
        }
    }
    Ok(())
}

#[test]
fn masked_tokens_take_no_position() -> Result<()> {
    let model = model(kinds().remove(0))?;
    let rows = [
        Sequence { ids: &[7, IMAGE, 8, 9], image_at: Some(1) },
        Sequence { ids: &[7, 8], image_at: None },
        Sequence { ids: &[IMAGE, 8], image_at: Some(0) },
    ];
    let spliced = model.splice(&rows, Some(encode(&model, &[1, 2])?), &device())?;
    let (positions, hidden) = (spliced.positions.unwrap(), spliced.padding_mask.unwrap());
    // A wide image: one row of cells and its newline is padding above, and one below.
    assert_eq!(positions[0], [0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10, 10, 10, 10, 11, 12]);
    assert_eq!(hidden[0].iter().filter(|h| **h).count(), 10);
    assert_eq!(positions[1], (0..23).collect::<Vec<_>>());
    // A tall one: a column of padding on each side, and newlines all the way down.
    assert_eq!(positions[2][..6], [0, 0, 1, 1, 2, 2]);
    assert_eq!(hidden[2][..6], [true, false, false, true, false, true]);
    Ok(())
}

/// The losses of a connector and its language model that learn to name four images.
fn losses(kind: ConnectorKind, steps: usize, device: &Device) -> Result<Vec<f64>> {
    let stage: Stage =
        toml::from_str(&format!("steps = {steps}\nbatch = 4\nlr = 5e-3\ntrainable = [\"connector\", \"llm\"]"))
            .map_err(|e| Error::failed(e.to_string()))?;
    let examples: Vec<Example> = (0..4)
        .map(|i| Example {
            image: Some(i),
            ids: vec![7, IMAGE, 8, 20 + i as u32, 30 + i as u32],
            loss_mask: vec![false, false, false, true, true],
            image_at: Some(1),
        })
        .collect();
    let mut losses = Vec::new();
    let mut on_step = |s: &StepLog| losses.push(s.loss);
    let mut run = StageRun {
        name: "align",
        stage: &stage,
        seed: 0,
        device,
        on_step: &mut on_step,
        stop: &|| false,
        saver: None,
        resume: None,
    };
    let outcome = train_stage(model_on(kind, device)?, &examples, &Held, &mut run)?;
    assert!(matches!(outcome, StageOutcome::Done(_)));
    Ok(losses)
}

#[test]
fn every_connector_learns_to_tell_images_apart() -> Result<()> {
    // On other devices five steps, whose losses must be those of flex.
    let steps = if is_flex() { 150 } else { 5 };
    for kind in kinds() {
        let name = kind.name();
        let losses = losses(kind.clone(), steps, &device())?;
        let (first, last) = (losses[0], losses[losses.len() - 1]);
        println!("{name:14} {first:.2} {last:.3}");
        if is_flex() {
            // Without telling the four images apart, the loss could not fall below ln 4 / 2.
            assert!(last < 0.3, "{name}: {first} to {last}");
            continue;
        }
        let expected = self::losses(kind, steps, &Device::flex())?;
        let off = losses.iter().zip(&expected).map(|(a, b)| (a - b).abs() / b).fold(0.0, f64::max);
        println!("{name:14} losses within {off:.1e} of those on flex");
        assert!(off < 1e-3, "{name}: {losses:?}, on flex {expected:?}");
    }
    Ok(())
}

#[test]
fn samplers_stand_within_the_language_model() -> Result<()> {
    let text = r#"{"sva": {"hidden": 16, "heads": 4, "depth": 1, "query_grids": [4], "grid": 4,
        "samplers": {"start": 1, "stride": 3, "number": 2}}}"#;
    let e = model(serde_json::from_str(text).unwrap()).unwrap_err();
    assert!(e.to_string().contains("after layer 4 of the language model, which has 4"), "{e}");
    // Concatenated features have no grid.
    let model = model(kinds().remove(0))?;
    let joined = ImageBatch::Features(Tensor::zeros([1, 16, 11], &device()));
    assert!(
        model.encode_images(joined).unwrap_err().to_string().contains("sva connector reads features on their grid")
    );
    Ok(())
}

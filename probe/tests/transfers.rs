//! Limits on the copies between host and device, which hold on every device: what a question and a training step may
//! upload and download, and how often the host may wait.

#[path = "../../tests/devices.rs"]
mod devices;

use burgess_base::{Error, Result};
use burgess_encoders::init::initialise;
use burgess_encoders::transfer::{self, TransferCounts};
use burgess_probe::connector::{ConnectorConfig, ConnectorKind};
use burgess_probe::data::Example;
use burgess_probe::generate::{Decoding, Prompt, answer, score_options};
use burgess_probe::llm::{ChatTemplate, LlmConfig};
use burgess_probe::mllm::{ImageBatch, Mllm, MllmConfig};
use burgess_probe::recipe::Stage;
use burgess_probe::train::{FeatureSource, StageOutcome, StageRun, train_stage};
use burn::tensor::{Device, TensorData};
use std::sync::{Mutex, MutexGuard, PoisonError};

const VOCABULARY: usize = 512;
const IMAGE_TOKENS: usize = 9;
const FEATURES: usize = 16;

/// The counts are those of the process, so the tests run one after the other.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the counts of `work`, with its result.
fn counted<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, TransferCounts)> {
    let before = TransferCounts::now();
    let out = work()?;
    Ok((out, TransferCounts::now().since(&before)))
}

fn model(layers: usize, device: &Device) -> Result<Mllm> {
    let llm = LlmConfig::nano(32, layers, VOCABULARY);
    let config = MllmConfig {
        connector: ConnectorConfig {
            kind: ConnectorKind::default(),
            feature_width: FEATURES,
            llm_width: 32,
            towers: Vec::new(),
        },
        llm: llm.clone(),
        chat: ChatTemplate::nano(),
        encoders: Vec::new(),
        grid: None,
    };
    Mllm::assemble(config, Vec::new(), initialise(llm.init(device)?, "test", 0), 0, device)
}

struct Images;

impl FeatureSource for Images {
    fn batch(&self, images: &[usize], device: &Device) -> Result<ImageBatch> {
        let count = images.len() * IMAGE_TOKENS * FEATURES;
        let values: Vec<f32> = (0..count).map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0).collect();
        let data = TensorData::new(values, [images.len(), IMAGE_TOKENS, FEATURES]);
        Ok(ImageBatch::Features(transfer::to_device(data, device)))
    }
}

fn questions(count: usize) -> Vec<Vec<u32>> {
    // The first token stands for the image; the lengths differ.
    (0..count).map(|q| (0..8 + q % 3).map(|i| 6 + ((q * 31 + i * 17) % 500) as u32).collect()).collect()
}

/// Devices whose kernels differ: on flex those are the CPU backend's own, and the portable ones under autodiff.
fn both() -> [Device; 2] {
    [devices::device(), devices::device().autodiff()]
}

#[test]
fn decoding_waits_once_per_token_and_copies_one_number_per_row() -> Result<()> {
    const QUESTIONS: usize = 6;
    const TOKENS: usize = 5;
    let _alone = alone();
    for device in both() {
        let mut of_layers = Vec::new();
        for layers in [2, 4] {
            let (model, ids) = (model(layers, &device)?, questions(QUESTIONS));
            let prompts: Vec<Prompt> =
                ids.iter().enumerate().map(|(i, ids)| Prompt { ids, images: vec![(i, 0)] }).collect();
            let decoding = Decoding { max_new_tokens: TOKENS, stop: &[], sampling: None };
            let (answers, counts) = counted(|| {
                let images: Vec<usize> = (0..QUESTIONS).collect();
                let images = model.encode_images(Images.batch(&images, &device)?)?;
                answer(&model, Some(&images), &prompts, &decoding, &device)
            })?;
            assert!(answers.iter().all(|answer| answer.len() == TOKENS));
            assert_eq!((counts.downloads, counts.synchronisations), (TOKENS as u64, TOKENS as u64), "{counts:?}");
            // An id and a check sum per row and token.
            assert!(counts.downloaded_bytes <= (12 * QUESTIONS * TOKENS) as u64, "{counts:?}");
            // Features, indices of images and rows, and for each pass ids, angles (two tensors) and the bias.
            assert!(counts.uploads <= 4 + 4 * (TOKENS as u64 + 1), "{counts:?}");
            of_layers.push(counts);
        }
        // The layers share what is uploaded.
        assert_eq!(of_layers[0], of_layers[1]);
    }
    Ok(())
}

#[test]
fn scoring_options_waits_once_and_copies_one_number_per_token() -> Result<()> {
    const QUESTIONS: usize = 4;
    let _alone = alone();
    for device in both() {
        let (model, ids) = (model(2, &device)?, questions(QUESTIONS));
        let prompts: Vec<Prompt> =
            ids.iter().enumerate().map(|(i, ids)| Prompt { ids, images: vec![(i, 0)] }).collect();
        let options: Vec<Vec<Vec<u32>>> = (0..QUESTIONS).map(|_| vec![vec![7], vec![8, 9], vec![10, 11, 12]]).collect();
        let images: Vec<usize> = (0..QUESTIONS).collect();
        let images = model.encode_images(Images.batch(&images, &device)?)?;
        let (scores, counts) = counted(|| score_options(&model, Some(&images), &prompts, &options, &device))?;
        assert!(scores.iter().flatten().all(|score| *score < 0.0));
        assert_eq!((counts.downloads, counts.synchronisations), (1, 1), "{counts:?}");
        // Three options of at most three tokens.
        assert_eq!(counts.downloaded_bytes, (4 * QUESTIONS * 3 * 3) as u64);
    }
    Ok(())
}

#[test]
fn a_training_step_waits_once() -> Result<()> {
    const EXAMPLES: usize = 8;
    let _alone = alone();
    let device = devices::device();
    let examples: Vec<Example> = (0..EXAMPLES)
        .map(|i| {
            let ids = (0..20).map(|k| 6 + ((i * 31 + k * 17) % 500) as u32).collect();
            Example { image: Some(i), ids, loss_mask: (0..20).map(|k| k % 4 == 3).collect(), image_at: Some(0) }
        })
        .collect();
    let train = |layers: usize, steps: usize, more: &str| -> Result<TransferCounts> {
        let text = format!("steps = {steps}\nbatch = 4\nlr = 1e-3\ntrainable = [\"connector\", \"llm\"]\n{more}");
        let stage: Stage = toml::from_str(&text).map_err(|e| Error::failed(e.to_string()))?;
        let model = model(layers, &device)?;
        let mut run = StageRun {
            name: "tune",
            stage: &stage,
            seed: 0,
            device: &device,
            on_step: &mut |_| (),
            stop: &|| false,
            saver: None,
            resume: None,
        };
        let (outcome, counts) = counted(|| train_stage(model, &examples, &Images, &mut run))?;
        assert!(matches!(outcome, StageOutcome::Done(_)));
        Ok(counts)
    };
    for more in ["", "accumulate = 2", "checkpointing = true", "optimiser = \"muon\""] {
        let mut of_layers = Vec::new();
        for layers in [2, 4] {
            // What a stage copies once does not count: the last loss and the check of the weights.
            let step = train(layers, 5, more)?.since(&train(layers, 3, more)?);
            let parts = if more.starts_with("accumulate") { 2 } else { 1 };
            assert_eq!((step.downloads, step.synchronisations), (2, 2), "{more}: {step:?}");
            // Features, ids, angles (two tensors), mask, supervised positions and their ids; with checkpointing the
            // angles and the mask are made again for the backward pass.
            let per_step = parts * 7 + if more.starts_with("checkpointing") { 3 } else { 0 };
            assert!(step.uploads <= 2 * per_step, "{more}: {step:?}");
            of_layers.push((step.uploads, step.uploaded_bytes));
        }
        assert_eq!(of_layers[0], of_layers[1], "{more}");
    }
    Ok(())
}

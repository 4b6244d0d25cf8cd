//! Short measurements of a device's speed at the work of a study: a few training steps, one batch of questions and one
//! batch of images, with the real shapes and random weights, which take as long as trained ones.

use super::arms::ArmModel;
use crate::data::image_files;
use crate::features::ArmCard;
use crate::run::evaluator::Evaluator;
use crate::run::training;
use crate::study::{Arm, Freeze};
use burgess_base::{Error, Result};
use burgess_encoders::card::EncoderCard;
use burgess_encoders::encoder::Encoder;
use burgess_encoders::features::FeatureMap;
use burgess_probe::connector::ImageSize;
use burgess_probe::data::{Example, Examples};
use burgess_probe::generate::{self, Decoding, Prompt};
use burgess_probe::llm::{ChatTemplate, LlmConfig};
use burgess_probe::mllm::{EncoderConfig, ImageBatch, Mllm, MllmConfig};
use burgess_probe::recipe::Stage;
use burgess_probe::train::{self, FeatureSource, StageRun};
use burn::tensor::{Device, Tensor, TensorData};
use image::RgbImage;
use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

/// Longest time for the steps of one stage, after the second step.
const STAGE_TIME: Duration = Duration::from_secs(4);
/// Largest number of steps that are measured.
const STEPS: usize = 12;
/// Number of questions of a batch, as in an evaluation.
const QUESTIONS: usize = 32;
/// Number of new tokens of an answer that is assumed: a word or a letter, and the end of the turn.
pub const ANSWER_TOKENS: usize = 3;
/// Number of images in a forward pass, as in encoding.
const IMAGES: usize = 16;

/// A model of an arm with random weights, and the data that it is measured on.
pub struct SpeedTest<'a> {
    /// Encoders and connector of the arm.
    pub model: &'a ArmModel,
    /// The arm.
    pub arm: &'a Arm,
    /// Configuration of the language model.
    pub llm: &'a LlmConfig,
    /// The study's data, if they are on this machine; otherwise conversations of the expected length are made up.
    pub evaluator: Option<&'a Evaluator>,
    /// Device that computes, without autodiff.
    pub device: Device,
}

/// Random images in place of real ones.
struct RandomImages<'a> {
    cards: &'a [ArmCard],
    pixels: bool,
    sizes: bool,
}

/// Arbitrary numbers from -1 to 1.
fn numbers<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    let values: Vec<f32> =
        (0..shape.iter().product()).map(|i: usize| ((i * 7919) % 1009) as f32 / 504.5 - 1.0).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

impl FeatureSource for RandomImages<'_> {
    fn batch(&self, images: &[usize], device: &Device) -> Result<ImageBatch> {
        if self.pixels {
            let size = |card: &ArmCard| Ok(card.encoder()?.preprocess.size);
            let sizes = self.cards.iter().map(size).collect::<Result<Vec<_>>>()?;
            let pixels = sizes.into_iter().map(|size| numbers([images.len(), 3, size, size], device));
            return Ok(ImageBatch::Pixels(pixels.collect()));
        }
        let map = |card: &ArmCard| -> Result<FeatureMap> {
            let grid = card.used_grid()?;
            Ok(FeatureMap { tokens: numbers([images.len(), grid[0] * grid[1], card.width()?], device), grid })
        };
        Ok(ImageBatch::FeatureMaps(self.cards.iter().map(map).collect::<Result<_>>()?))
    }

    fn sizes(&self, images: &[usize]) -> Result<Option<Vec<ImageSize>>> {
        Ok(self.sizes.then(|| images.iter().map(|_| ImageSize { width: 4, height: 3 }).collect()))
    }
}

impl SpeedTest<'_> {
    fn images(&self, pixels: bool) -> RandomImages<'_> {
        let sizes = self.model.connector().kind.properties().needs_image_sizes;
        RandomImages { cards: self.model.cards(), pixels, sizes }
    }

    /// Builds the model; with `encoders` for a stage that trains these.
    fn build(&self, encoders: bool) -> Result<Mllm> {
        let (mut networks, mut configs) = (Vec::new(), Vec::new());
        for card in self.model.cards().iter().filter(|_| encoders) {
            let card = card.encoder()?;
            networks.push(card.architecture.init(&self.device)?);
            configs.push(EncoderConfig {
                id: card.id.clone(),
                architecture: card.architecture.clone(),
                tap: card.tap.clone(),
                normalise: card.normalise,
            });
        }
        let grids = self.model.cards().iter().map(ArmCard::used_grid).collect::<Result<Vec<_>>>()?;
        let common = grids.into_iter().max_by_key(|grid| grid[0] * grid[1]);
        let joined = !self.model.connector().kind.properties().reads_each_encoder;
        let config = MllmConfig {
            connector: self.model.connector().clone(),
            llm: self.llm.clone(),
            chat: self.evaluator.map_or_else(ChatTemplate::nano, |e| e.llm.chat.clone()),
            encoders: configs,
            grid: common.filter(|_| encoders && joined),
        };
        let stays_stored = |e: &&Evaluator| training::stays_stored(&e.config.recipe, self.llm, &self.device);
        let llm = match self.evaluator.filter(stays_stored) {
            // The weights of the file need much less memory than random ones in f32.
            Some(evaluator) => training::language_model(evaluator, &self.device)?,
            None => self.llm.init(&self.device)?,
        };
        let mut model = Mllm::assemble(config, networks, llm, 0, &self.device)?;
        if self.model.connector().kind.properties().needs_statistics {
            let few: Vec<usize> = (0..IMAGES).collect();
            model.standardise(std::iter::once(self.images(encoders).batch(&few, &self.device)))?;
        }
        Ok(model)
    }

    /// Measures the mean duration of a training step of a stage, in seconds, without the first step.
    ///
    /// # Errors
    /// The model cannot be built, or a step fails.
    pub fn step(&self, name: &str, stage: &Stage, text_tokens: usize) -> Result<f64> {
        let trains_encoders = name == "tune" && self.arm.freeze == Freeze::Unfrozen;
        let set = match self.evaluator {
            Some(evaluator) if name == "align" => evaluator.align.as_ref(),
            Some(evaluator) => Some(evaluator.tune_of(self.arm)?),
            None => None,
        };
        let made_up: Vec<Example>;
        let examples: &dyn Examples = match set {
            Some(set) => &set.examples,
            None => {
                made_up = (0..stage.batch).map(|i| self.example(i, text_tokens.max(2))).collect();
                &made_up
            }
        };
        let stage = Stage { steps: Some(STEPS), epochs: None, ..stage.clone() };
        let (seconds, begun) = (RefCell::new(Vec::new()), Cell::new(None::<Instant>));
        let mut on_step = |step: &train::StepLog| {
            seconds.borrow_mut().push(step.seconds);
            begun.set(begun.get().or(Some(Instant::now())));
        };
        let enough = || {
            let measured = seconds.borrow().len() > 1;
            measured && begun.get().is_some_and(|begun| begun.elapsed() >= STAGE_TIME)
        };
        let mut run = StageRun {
            name,
            stage: &stage,
            seed: 0,
            device: &self.device,
            on_step: &mut on_step,
            stop: &enough,
            saver: None,
            resume: None,
        };
        train::train_stage(self.build(trains_encoders)?, examples, &self.images(trains_encoders), &mut run)?;
        let seconds = seconds.into_inner();
        let measured = seconds.get(1..).filter(|rest| !rest.is_empty()).unwrap_or(&seconds);
        match measured.len() {
            0 => Err(Error::failed("no training step was measured: the first batches have no supervised tokens")),
            n => Ok(measured.iter().sum::<f64>() / n as f64),
        }
    }

    /// A made-up conversation with an image, half of whose text is supervised.
    fn example(&self, salt: usize, tokens: usize) -> Example {
        let id = |i: usize| ((i * 7919 + salt * 104_729) % self.llm.vocab_size) as u32;
        Example {
            image: Some(salt),
            ids: (0..tokens).map(id).collect(),
            loss_mask: (0..tokens).map(|i| 2 * i >= tokens).collect(),
            image_at: Some(0),
        }
    }

    /// Measures the time for one question with its image, in seconds: prompt and [`ANSWER_TOKENS`] new tokens.
    ///
    /// # Errors
    /// The model cannot be built, or answering fails.
    pub fn question(&self, prompt_tokens: usize) -> Result<f64> {
        let unfrozen = self.arm.freeze == Freeze::Unfrozen;
        let (mut model, images) = (self.build(unfrozen)?, self.images(unfrozen));
        if let Some(evaluator) = self.evaluator {
            model.llm = model.llm.with_compute(evaluator.config.precision)?;
        }
        let prompts: Vec<Vec<u32>> = (0..QUESTIONS).map(|i| self.example(i, prompt_tokens.max(2)).ids).collect();
        let prompts: Vec<Prompt<'_>> =
            prompts.iter().enumerate().map(|(i, ids)| Prompt { ids, images: vec![(i, 0)] }).collect();
        let numbers: Vec<usize> = (0..QUESTIONS).collect();
        let decoding = Decoding { max_new_tokens: ANSWER_TOKENS, stop: &[], sampling: None };
        let start = Instant::now();
        let sizes = images.sizes(&numbers)?;
        let seen = model.encode_images_with(images.batch(&numbers, &self.device)?, sizes.as_deref(), None)?;
        generate::answer(&model, Some(&seen), &prompts, &decoding, &self.device)?;
        Ok(start.elapsed().as_secs_f64() / QUESTIONS as f64)
    }
}

/// Measures the time for one image of an encoder, in seconds, with reading and preprocessing if the study's images are
/// on this machine. `images` is the number of images at a time.
///
/// # Errors
/// The network cannot be built, or an image cannot be read.
pub fn encoding(card: &EncoderCard, images: usize, evaluator: Option<&Evaluator>, device: &Device) -> Result<f64> {
    let encoder = Encoder::new(card.clone(), card.architecture.init(device)?, device);
    let images = images.clamp(1, IMAGES);
    let names = evaluator.map_or(&[][..], |e| e.images.get(..images).unwrap_or_default());
    let pass = || -> Result<f64> {
        let start = Instant::now();
        let opened = match evaluator {
            Some(evaluator) if !names.is_empty() => {
                let opened = image_files::open_all(&evaluator.data.dir, names, card.preprocess.orientation());
                opened.into_iter().collect::<Result<Vec<_>>>()?
            }
            _ => vec![RgbImage::new(card.preprocess.size as u32, card.preprocess.size as u32); images],
        };
        let features = encoder.encode_batch(&opened, &|n| format!("image {n}"))?.features;
        features.tokens.try_into_data().map_err(|e| Error::failed(e.to_string()))?;
        Ok(start.elapsed().as_secs_f64() / opened.len() as f64)
    };
    // The first pass initialises the weights.
    pass()?;
    pass()
}

/// Measures the speed of a matrix product `[256, width] · [width, inner]` in operations per second.
///
/// # Errors
/// The device fails.
pub fn product_rate(width: usize, inner: usize, device: &Device) -> Result<f64> {
    const ROWS: usize = 256;
    let (a, b) = (numbers([ROWS, width], device), numbers([width, inner], device));
    let product = || -> Result<f64> {
        let start = Instant::now();
        let all = a.clone().matmul(b.clone()).sum();
        all.try_into_scalar::<f32>().map_err(|e| Error::failed(e.to_string()))?;
        Ok(start.elapsed().as_secs_f64())
    };
    product()?;
    let (mut fastest, begun) = (f64::MAX, Instant::now());
    let mut count = 0;
    while count < 3 || (begun.elapsed() < Duration::from_millis(200) && count < 1000) {
        fastest = fastest.min(product()?);
        count += 1;
    }
    Ok(2.0 * (ROWS * width * inner) as f64 / fastest.max(1e-9))
}

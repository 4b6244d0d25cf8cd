//! Cost estimates of a run, computed from its configuration alone: parameters, image tokens, steps, floating-point
//! operations (FLOPs), memory per device, disk.
//!
//! FLOPs count matrix products only (2 per multiply-add). The backward pass costs one forward pass for the gradients of
//! activations and one more for those of weights. [`memory`] describes the estimate of memory.

pub mod arms;
pub mod fit;
pub mod memory;
pub mod speed;
pub mod time;

use crate::features::ArmCard;
use crate::machine::device;
use burgess_base::Result;
use burgess_probe::llm::{Compute, LlmConfig};
use burgess_probe::recipe::{ParameterGroup, Stage};
use memory::{BatchShape, MemoryEstimate};
use serde::Serialize;

/// A kind of device: which kernels it runs and how it stores numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceProfile {
    /// Name in tables.
    pub name: &'static str,
    /// Whether it computes in the memory of this process.
    pub cpu: bool,
    /// Whether it runs the fused kernels of `flex`.
    pub fused: bool,
    /// Whether the language model computes in bf16 (`precision = "bf16"` of a stage); weights are f32 in any case.
    pub bf16: bool,
    /// Whether gradient checkpointing is used in any case, even if the stage does not ask for it.
    pub checkpointing: bool,
}

const FLEX: DeviceProfile =
    DeviceProfile { name: "flex (f32)", cpu: true, fused: true, bf16: false, checkpointing: false };
const GPU: DeviceProfile =
    DeviceProfile { name: "GPU (bf16)", cpu: false, fused: false, bf16: true, checkpointing: false };

/// The devices of the estimates: CPU, GPU, and GPU with gradient checkpointing.
pub const DEVICES: [DeviceProfile; 3] =
    [FLEX, GPU, DeviceProfile { name: "GPU (bf16, checkpointing)", checkpointing: true, ..GPU }];

impl DeviceProfile {
    /// The profile of the device with this name, if the language model computes in this precision.
    pub fn of(device: &str, precision: Compute) -> Self {
        let bf16 = precision == Compute::Bf16;
        let (cpu, flex) = (device::is_cpu(device), device == "flex");
        Self { name: "", cpu, fused: flex, bf16, checkpointing: false }
    }
}

/// Size of the data of one stage.
#[derive(Debug, Clone, Copy)]
pub struct CorpusSize {
    /// Number of conversations.
    pub samples: u64,
    /// Mean number of text tokens of a conversation.
    pub text_tokens: usize,
    /// Largest number of text tokens of a conversation; `None` if it is not known, which is taken for `max_length`.
    pub longest: Option<usize>,
    /// Mean number of supervised tokens of a conversation.
    pub supervised: f64,
}

/// The configuration of a run, as far as it determines the cost.
#[derive(Debug, Clone)]
pub struct CostInputs<'a> {
    /// Cards of the encoders.
    pub cards: &'a [ArmCard],
    /// Configuration of the language model.
    pub llm: &'a LlmConfig,
    /// Size in memory of the language model's weights on the device flex, in bytes, if they stay as their file stores
    /// them; `None` if they are f32.
    pub stored_llm: Option<f64>,
    /// Number of parameters of the connector, including cross-attention layers inside the language model.
    pub connector_parameters: usize,
    /// Number of positions that an image takes in the language model.
    pub tokens: usize,
    /// Whether features of frozen encoders are cached, so that each image is encoded once.
    pub cached: bool,
}

/// Cost of one training stage.
#[derive(Debug, Clone, Serialize)]
pub struct StageCost {
    /// Number of optimiser steps.
    pub steps: u64,
    /// FLOPs of all steps, including the encoders where they are trained.
    pub flops: f64,
    /// Peak memory of a step, for each device of [`DEVICES`].
    pub memory: Vec<(&'static str, MemoryEstimate)>,
}

/// Cost of a run.
#[derive(Debug, Clone, Serialize)]
pub struct CostEstimate {
    /// Number of parameters of the encoders.
    pub encoder_parameters: u64,
    /// Number of parameters of the connector.
    pub connector_parameters: u64,
    /// Number of parameters of the language model.
    pub llm_parameters: u64,
    /// Number of positions that an image takes in the language model.
    pub tokens: usize,
    /// Cost of the align stage, which trains the connector alone; `None` without an align stage.
    pub align: Option<StageCost>,
    /// Cost of the tune stage.
    pub tune: StageCost,
    /// FLOPs of encoding images with frozen encoders: once per image if cached, else each time an image is used.
    pub encoding_flops: f64,
    /// Size of the cached features of all images in bytes, in f32; 0 if they are not cached.
    pub feature_bytes: f64,
}

impl CostInputs<'_> {
    /// Estimates the cost of the whole run.
    ///
    /// # Errors
    /// A card's tap does not fit its architecture.
    pub fn cost(&self, align: Option<(&Stage, CorpusSize)>, tune: (&Stage, CorpusSize)) -> Result<CostEstimate> {
        let (mut image_flops, mut image_bytes) = (0.0, 0.0);
        for card in self.cards {
            image_flops += card.flops()? as f64;
            let [rows, columns] = card.native_grid()?;
            image_bytes += 4.0 * (rows * columns * card.width()?) as f64;
        }
        // For a stage that trains the encoders, `stage` counts the encoder passes.
        let encoded = |stage: &Stage, corpus: CorpusSize| match (stage.trains(ParameterGroup::Encoder), self.cached) {
            (true, _) => 0.0,
            (false, true) => self.trained_samples(stage, corpus).min(corpus.samples as f64),
            (false, false) => self.trained_samples(stage, corpus),
        };
        let images = align.map_or(0.0, |(s, c)| encoded(s, c)) + encoded(tune.0, tune.1);
        Ok(CostEstimate {
            encoder_parameters: self.cards.iter().map(ArmCard::parameters).sum(),
            connector_parameters: self.connector_parameters as u64,
            llm_parameters: self.llm.parameters() as u64,
            tokens: self.tokens,
            align: align.map(|(stage, corpus)| self.stage(stage, corpus, image_flops)).transpose()?,
            tune: self.stage(tune.0, tune.1, image_flops)?,
            encoding_flops: image_flops * images,
            feature_bytes: if self.cached { image_bytes * images } else { 0.0 },
        })
    }

    /// Number of training samples of a stage, counting repetitions.
    fn trained_samples(&self, stage: &Stage, corpus: CorpusSize) -> f64 {
        stage.total_steps(corpus.samples as usize) as f64 * stage.batch as f64
    }

    /// The largest micro-batch of a stage.
    pub fn shape(&self, stage: &Stage, corpus: CorpusSize) -> BatchShape {
        let rows = stage.batch.div_ceil(stage.accumulate.max(1));
        let most = stage.max_length.unwrap_or(self.llm.max_position_embeddings);
        // The image takes the place of a token, and the last token is no input.
        let longest = corpus.longest.or(stage.max_length).unwrap_or(corpus.text_tokens).saturating_sub(2);
        BatchShape { rows, length: (self.tokens + longest).min(most), supervised: rows as f64 * corpus.supervised }
    }

    fn stage(&self, stage: &Stage, corpus: CorpusSize, image_flops: f64) -> Result<StageCost> {
        let most = stage.max_length.unwrap_or(self.llm.max_position_embeddings);
        let length = (self.tokens + corpus.text_tokens).min(most);
        let learns = stage.trains(ParameterGroup::Llm) && stage.lora.is_none();
        // Gradients flow through the language model's activations to the connector even if the language model is
        // frozen.
        let passes = if learns { 3.0 } else { 2.0 };
        let head = 2.0 * (self.llm.vocab_size * self.llm.hidden_size * corpus.text_tokens) as f64;
        let connector = 2.0 * 3.0 * (self.connector_parameters * self.tokens) as f64;
        let encoding = if stage.trains(ParameterGroup::Encoder) { 3.0 * image_flops } else { 0.0 };
        let sample = passes * (self.llm.forward_flops(length) + head) + connector + encoding;
        let shape = self.shape(stage, corpus);
        let memory = DEVICES.iter().map(|device| Ok((device.name, self.training_memory(stage, shape, *device)?)));
        Ok(StageCost {
            steps: stage.total_steps(corpus.samples as usize) as u64,
            flops: sample * self.trained_samples(stage, corpus),
            memory: memory.collect::<Result<_>>()?,
        })
    }
}

/// Formats bytes with a decimal unit: `231 MB`, `12.3 GB`, `4.6 TB`.
pub fn gigabytes(bytes: f64) -> String {
    match bytes {
        ..0.5e6 => "0".to_string(),
        ..1e9 => format!("{:.0} MB", bytes / 1e6),
        ..1e12 => format!("{:.1} GB", bytes / 1e9),
        _ => format!("{:.1} TB", bytes / 1e12),
    }
}

/// Formats a number of operations in PFLOP: `0.00021`, `0.302`, `57251`.
pub fn petaflops(operations: f64) -> String {
    match operations / 1e15 {
        peta @ ..0.1 => format!("{peta:.5}"),
        peta @ ..100.0 => format!("{peta:.3}"),
        peta => format!("{peta:.0}"),
    }
}

/// Formats a count with a decimal unit: `17k`, `1.2M`, `303M`.
pub fn millions(count: u64) -> String {
    match count {
        0..1_000_000 => format!("{}k", count / 1000),
        1_000_000..10_000_000 => format!("{:.1}M", count as f64 / 1e6),
        _ => format!("{}M", count / 1_000_000),
    }
}

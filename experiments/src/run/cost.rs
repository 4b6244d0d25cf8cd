//! Cost estimates of a run, computed from its configuration alone: parameters, image tokens, steps, floating-point
//! operations (FLOPs), memory per device, disk.
//!
//! FLOPs count matrix products only (2 per multiply-add). The backward pass costs one forward pass for the gradients of
//! activations and one more for those of weights. Memory is what is resident at the peak of a training step: weights,
//! gradients and AdamW moments of trained parameters, and the activations that the backward pass needs. Allocator
//! overhead and library workspaces are not included.

use crate::features::ArmCard;
use burgess_base::Result;
use burgess_probe::llm::LlmConfig;
use burgess_probe::recipe::{ParameterGroup, Stage};
use serde::Serialize;

/// A kind of device and how it stores numbers.
#[derive(Debug, Clone, Copy)]
pub struct DeviceProfile {
    /// Name in tables.
    pub name: &'static str,
    /// Whether the language model computes in bf16 (`precision = "bf16"` of a stage); weights are f32 in any case.
    bf16: bool,
    /// Whether gradient checkpointing is used in any case, even if the stage does not ask for it.
    checkpointing: bool,
}

/// The devices of the estimates: CPU, GPU, and GPU with gradient checkpointing.
pub const DEVICES: [DeviceProfile; 3] = [
    DeviceProfile { name: "flex (f32)", bf16: false, checkpointing: false },
    DeviceProfile { name: "GPU (bf16)", bf16: true, checkpointing: false },
    DeviceProfile { name: "GPU (bf16, checkpointing)", bf16: true, checkpointing: true },
];

/// Size of the data of one stage.
#[derive(Debug, Clone, Copy)]
pub struct CorpusSize {
    /// Number of conversations.
    pub samples: u64,
    /// Mean number of text tokens of a conversation.
    pub text_tokens: usize,
}

/// The configuration of a run, as far as it determines the cost.
#[derive(Debug, Clone)]
pub struct CostInputs<'a> {
    /// Cards of the encoders.
    pub cards: &'a [ArmCard],
    /// Configuration of the language model.
    pub llm: &'a LlmConfig,
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
    /// Peak memory of a step in bytes, for each device of [`DEVICES`].
    pub memory: Vec<(&'static str, f64)>,
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
        let memory = DEVICES.iter().map(|device| (device.name, self.memory(stage, corpus, length, *device)));
        Ok(StageCost {
            steps: stage.total_steps(corpus.samples as usize) as u64,
            flops: sample * self.trained_samples(stage, corpus),
            memory: memory.collect(),
        })
    }

    /// Peak memory of a training step, in bytes.
    fn memory(&self, stage: &Stage, corpus: CorpusSize, length: usize, device: DeviceProfile) -> f64 {
        // f32 parameters take 4 bytes; trained ones 16, with gradient and two moments.
        let held = |parameters: f64, trained: bool| parameters * if trained { 16.0 } else { 4.0 };
        let encoders: u64 = self.cards.iter().map(ArmCard::parameters).sum();
        let llm = self.llm.parameters() as f64;
        let adapters = stage.lora.as_ref().map_or(0.0, |lora| self.adapters(lora.rank, &lora.targets));
        let tunes = stage.trains(ParameterGroup::Llm);
        let mut bytes = held(llm, tunes && stage.lora.is_none());
        if tunes {
            bytes += held(adapters, true);
        }
        bytes += held(self.connector_parameters as f64, stage.trains(ParameterGroup::Connector));
        // Encoders whose features are cached are not loaded.
        if stage.trains(ParameterGroup::Encoder) || !self.cached {
            bytes += held(encoders as f64, stage.trains(ParameterGroup::Encoder));
        }
        let layers = self.llm.num_hidden_layers as f64;
        let checkpointing = device.checkpointing || stage.checkpointing;
        if device.bf16 {
            // bf16 copies of the weights: all are kept for the backward pass, or with checkpointing only those of one
            // block.
            bytes += 2.0 * llm / if checkpointing { layers } else { 1.0 };
        }
        let activation = if device.bf16 { 2.0 } else { 4.0 };
        let rows = stage.batch.div_ceil(stage.accumulate.max(1)) as f64;
        let (d, f) = (self.llm.hidden_size as f64, self.llm.intermediate_size as f64);
        let w = self.llm.head_width() as f64;
        let heads = (2 * self.llm.num_attention_heads + 2 * self.llm.kv_heads()) as f64 * w;
        // Per block: residual stream, two normed inputs, q, k, v and attention output, MLP gate, up and product.
        let block = 3.0 * d + heads + 3.0 * f;
        let kept = if checkpointing { layers * d + block } else { layers * block };
        let scores = 2.0 * 4.0 * (corpus.text_tokens * self.llm.vocab_size) as f64;
        bytes + rows * (length as f64 * kept * activation + scores)
    }

    /// Number of parameters of the LoRA adapters.
    fn adapters(&self, rank: usize, targets: &[String]) -> f64 {
        let (d, f) = (self.llm.hidden_size, self.llm.intermediate_size);
        let w = self.llm.head_width();
        let (q, kv) = (self.llm.num_attention_heads * w, self.llm.kv_heads() * w);
        let sides = |target: &String| match target.as_str() {
            "q_proj" | "o_proj" => d + q,
            "k_proj" | "v_proj" => d + kv,
            _ => d + f,
        };
        (self.llm.num_hidden_layers * rank * targets.iter().map(sides).sum::<usize>()) as f64
    }
}

/// Formats bytes with a decimal unit: `12.3 GB`, `4.6 TB`.
pub fn gigabytes(bytes: f64) -> String {
    if bytes < 1e12 { format!("{:.1} GB", bytes / 1e9) } else { format!("{:.1} TB", bytes / 1e12) }
}

/// Formats a number of operations in PFLOP: `0.302`, `57251`.
pub fn petaflops(operations: f64) -> String {
    let peta = operations / 1e15;
    if peta < 100.0 { format!("{peta:.3}") } else { format!("{peta:.0}") }
}

/// Formats a count with a decimal unit: `17k`, `1.2M`, `303M`.
pub fn millions(count: u64) -> String {
    match count {
        0..1_000_000 => format!("{}k", count / 1000),
        1_000_000..10_000_000 => format!("{:.1}M", count as f64 / 1e6),
        _ => format!("{}M", count / 1_000_000),
    }
}

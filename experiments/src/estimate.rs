//! What a run will cost, from the numbers of its parts alone: parameters, visual tokens, steps, floating-point operations,
//! memory by device, disk.
//!
//! Operations are those of matrix products (a multiply-add counts as two): a backward pass costs once more what the
//! forward pass does for the gradients of activations, and once more for those of weights. Memory is what must be
//! resident at the peak of a training step: weights, gradients and AdamW's two moments of what is trained, and the
//! activations that the backward pass needs. It leaves out what an allocator or a library's workspace adds.

use crate::arm_card::ArmCard;
use burgess_base::Result;
use burgess_probe::llm::LlmConfig;
use burgess_probe::recipe::{Part, Stage};
use serde::Serialize;

/// How numbers are held on a kind of device.
#[derive(Debug, Clone, Copy)]
pub struct Device {
    /// What it is called.
    pub name: &'static str,
    /// Whether the language model computes in bf16 (`precision = "bf16"` of a stage). Weights are f32 either way.
    bf16: bool,
    /// Whether activations inside a block are computed again in the backward pass whatever the stage says.
    again: bool,
}

/// The CPU, a GPU, and a GPU with gradient checkpointing.
pub const DEVICES: [Device; 3] = [
    Device { name: "flex (f32)", bf16: false, again: false },
    Device { name: "GPU (bf16)", bf16: true, again: false },
    Device { name: "GPU (bf16, checkpointing)", bf16: true, again: true },
];

/// One stage's data.
#[derive(Debug, Clone, Copy)]
pub struct Corpus {
    /// Conversations.
    pub samples: u64,
    /// Text tokens of one, on average.
    pub text_tokens: usize,
}

/// What a run is made of.
#[derive(Debug, Clone)]
pub struct Parts<'a> {
    /// Its encoders.
    pub cards: &'a [ArmCard],
    /// Its language model.
    pub llm: &'a LlmConfig,
    /// Parameters of the connector, samplers inside the language model included.
    pub connector_parameters: usize,
    /// Positions that a picture takes in the language model.
    pub tokens: usize,
    /// Whether features of frozen encoders are kept, so that each picture is encoded once.
    pub cached: bool,
}

/// A stage as it will be.
#[derive(Debug, Clone, Serialize)]
pub struct StageCost {
    /// Optimiser steps.
    pub steps: u64,
    /// Floating-point operations of all of them, encoders included where their features are not cached.
    pub flops: f64,
    /// By device of [`DEVICES`]: the most memory of a step, bytes.
    pub memory: Vec<(&'static str, f64)>,
}

/// A run as it will be.
#[derive(Debug, Clone, Serialize)]
pub struct Cost {
    /// Numbers in the encoders.
    pub encoder_parameters: u64,
    /// Numbers in the connector.
    pub connector_parameters: u64,
    /// Numbers in the language model.
    pub llm_parameters: u64,
    /// Positions that a picture takes.
    pub tokens: usize,
    /// Connector alone, if there is such a stage.
    pub align: Option<StageCost>,
    /// All that is trained.
    pub tune: StageCost,
    /// Operations of encoding pictures with frozen encoders: each once, or whenever it is seen.
    pub encoding_flops: f64,
    /// Bytes of the cached features of all pictures, f32.
    pub feature_bytes: f64,
}

impl Parts<'_> {
    /// The whole run.
    ///
    /// # Errors
    /// A card cannot be tapped as it says.
    pub fn cost(&self, align: Option<(&Stage, Corpus)>, tune: (&Stage, Corpus)) -> Result<Cost> {
        let (mut image_flops, mut image_bytes) = (0.0, 0.0);
        for card in self.cards {
            image_flops += card.flops()? as f64;
            let [rows, columns] = card.native_grid()?;
            image_bytes += 4.0 * (rows * columns * card.width()?) as f64;
        }
        // A stage that trains the encoders counts their passes itself.
        let encoded = |stage: &Stage, corpus: Corpus| match (stage.trains(Part::Encoder), self.cached) {
            (true, _) => 0.0,
            (false, true) => self.seen(stage, corpus).min(corpus.samples as f64),
            (false, false) => self.seen(stage, corpus),
        };
        let pictures = align.map_or(0.0, |(s, c)| encoded(s, c)) + encoded(tune.0, tune.1);
        Ok(Cost {
            encoder_parameters: self.cards.iter().map(ArmCard::parameters).sum(),
            connector_parameters: self.connector_parameters as u64,
            llm_parameters: self.llm.parameters() as u64,
            tokens: self.tokens,
            align: align.map(|(stage, corpus)| self.stage(stage, corpus, image_flops)).transpose()?,
            tune: self.stage(tune.0, tune.1, image_flops)?,
            encoding_flops: image_flops * pictures,
            feature_bytes: if self.cached { image_bytes * pictures } else { 0.0 },
        })
    }

    /// Samples that a stage sees.
    fn seen(&self, stage: &Stage, corpus: Corpus) -> f64 {
        stage.total_steps(corpus.samples as usize) as f64 * stage.batch as f64
    }

    fn stage(&self, stage: &Stage, corpus: Corpus, image_flops: f64) -> Result<StageCost> {
        let most = stage.max_length.unwrap_or(self.llm.max_position_embeddings);
        let length = (self.tokens + corpus.text_tokens).min(most);
        let learns = stage.trains(Part::Llm) && stage.lora.is_none();
        // The gradient of the language model's activations is needed whatever is trained before it.
        let passes = if learns { 3.0 } else { 2.0 };
        let head = 2.0 * (self.llm.vocab_size * self.llm.hidden_size * corpus.text_tokens) as f64;
        let connector = 2.0 * 3.0 * (self.connector_parameters * self.tokens) as f64;
        let encoding = if stage.trains(Part::Encoder) { 3.0 * image_flops } else { 0.0 };
        let sample = passes * (self.llm.forward_flops(length) + head) + connector + encoding;
        let memory = DEVICES.iter().map(|device| (device.name, self.memory(stage, corpus, length, *device)));
        Ok(StageCost {
            steps: stage.total_steps(corpus.samples as usize) as u64,
            flops: sample * self.seen(stage, corpus),
            memory: memory.collect(),
        })
    }

    /// Bytes at the peak of a step.
    fn memory(&self, stage: &Stage, corpus: Corpus, length: usize, device: Device) -> f64 {
        // A number is held in f32; a trained one with its gradient and two moments.
        let held = |parameters: f64, trained: bool| parameters * if trained { 16.0 } else { 4.0 };
        let encoders: u64 = self.cards.iter().map(ArmCard::parameters).sum();
        let llm = self.llm.parameters() as f64;
        let adapters = stage.lora.as_ref().map_or(0.0, |lora| self.adapters(lora.rank, &lora.targets));
        let tunes = stage.trains(Part::Llm);
        let mut bytes = held(llm, tunes && stage.lora.is_none());
        if tunes {
            bytes += held(adapters, true);
        }
        bytes += held(self.connector_parameters as f64, stage.trains(Part::Connector));
        // Those whose features are on disk are not there.
        if stage.trains(Part::Encoder) || !self.cached {
            bytes += held(encoders as f64, stage.trains(Part::Encoder));
        }
        let layers = self.llm.num_hidden_layers as f64;
        let again = device.again || stage.checkpointing;
        if device.bf16 {
            // The copies in which it computes: kept for the backward pass, or of one block at a time.
            bytes += 2.0 * llm / if again { layers } else { 1.0 };
        }
        let activation = if device.bf16 { 2.0 } else { 4.0 };
        let rows = stage.batch.div_ceil(stage.accumulate.max(1)) as f64;
        let (d, f) = (self.llm.hidden_size as f64, self.llm.intermediate_size as f64);
        let w = self.llm.head_width() as f64;
        let heads = (2 * self.llm.num_attention_heads + 2 * self.llm.kv_heads()) as f64 * w;
        // Of a block: the stream, two normed inputs, queries, keys, values and attention's output, gate, up and product.
        let block = 3.0 * d + heads + 3.0 * f;
        let kept = if again { layers * d + block } else { layers * block };
        let scores = 2.0 * 4.0 * (corpus.text_tokens * self.llm.vocab_size) as f64;
        bytes + rows * (length as f64 * kept * activation + scores)
    }

    /// Numbers in adapters.
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

/// `12.3 GB`, `4.6 TB`.
pub fn gigabytes(bytes: f64) -> String {
    if bytes < 1e12 { format!("{:.1} GB", bytes / 1e9) } else { format!("{:.1} TB", bytes / 1e12) }
}

/// `0.302`, `57251`.
pub fn petaflops(operations: f64) -> String {
    let peta = operations / 1e15;
    if peta < 100.0 { format!("{peta:.3}") } else { format!("{peta:.0}") }
}

/// `303M`.
pub fn millions(count: u64) -> String {
    match count {
        0..1_000_000 => format!("{}k", count / 1000),
        1_000_000..10_000_000 => format!("{:.1}M", count as f64 / 1e6),
        _ => format!("{}M", count / 1_000_000),
    }
}

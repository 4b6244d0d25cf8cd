//! Estimate of a run's peak memory from its configuration, by what holds it.
//!
//! A training step of a language model with P parameters has three moments at which the peak can lie, each beside the
//! weights (4 P bytes, in f32), the moments of the optimiser (8 bytes per trained parameter with AdamW, 4 for a matrix
//! that Muon updates) and, with gradient accumulation, the sums of gradients so far (4 bytes per trained parameter):
//!
//! - *forward*: the activations that the backward pass needs are complete, and the logits and their gradient exist;
//! - *backward*: the activations are gone, and all gradients exist (4 bytes per trained parameter). The gradients of a
//!   tied token table come from the head and from the look-up and are added, so the table's is there twice;
//! - *encoding*: features of frozen encoders that are not cached are computed for the batch.
//!
//! What the backward pass needs of a decoder block, in numbers per position (hidden width d, query width q, key and
//! value width k each, MLP width f):
//!
//! | kept | flex (fused kernels) | other backends |
//! |---|---|---|
//! | residual stream before attention and before the MLP | 2 d | 2 d |
//! | output of the two norms, input of the projections | 2 d, if these are trained | 2 d, and 2 d inside the norms |
//! | queries, keys, values | q + 2 k (joint projection) | q + 2 k (rotated copies) |
//! | attention probabilities, t positions and h heads | none: computed again | h · t, and a copy in bf16 |
//! | attention output | q | q |
//! | gate and up projections, activation | 2 f | 4 f (slices, sigmoid, SiLU) |
//! | product of both, input of the down projection | f, if that is trained | f |
//!
//! With bf16 on flex activations are f32 too, but the inputs of projections, which their gradients need, are kept in bf16;
//! and each weight has two packed copies in bf16, which stay until it changes.
//!
//! In addition, not on flex: the joint weight of q, k and v and that of gate and up, concatenated for one product if a
//! batch has at least as many positions as a projection has inputs; with bf16, copies of all weights. With LoRA, `rank`
//! numbers per adapted projection, and no joint weights. With gradient checkpointing only the block inputs, d per
//! position and block, and one block at a time. Logits and their gradient take 4 bytes per supervised token and entry
//! of the vocabulary each; on flex the gradient is written over the logits.
//!
//! Weights of a language model that stay as their file stores them ([`CostInputs::stored_llm`]) take the bytes of the file
//! on the device flex.
//!
//! On a GPU gradients, sums and moments are on the device, where the optimiser runs. It updates one parameter after the
//! other and needs [`UPDATE`] numbers for each element of the largest, while all gradients exist.
//!
//! The heap of the C library grows beyond what is in use, by a share [`ACTIVATION_GAPS`] of the activations and
//! [`GRADIENT_GAPS`] of the gradients: batches differ in length, and the gaps that the tensors of one step leave do not
//! fit those of the next. Freed memory stays in the heap.

use super::{CostInputs, DeviceProfile};
use crate::features::ArmCard;
use burgess_base::Result;
use burgess_probe::optimiser::OptimiserMethod;
use burgess_probe::recipe::{ParameterGroup, Stage};
use serde::Serialize;

/// Memory of the process before a model is loaded, in bytes: program and libraries, tokenizer, index of the data.
const PROCESS: f64 = 55e6;
/// Growth of the heap beyond what is in use, as a share of the activations. This and the next share are fitted to the
/// peaks of the test below, which they meet within 7 %.
const ACTIVATION_GAPS: f64 = 0.3;
/// Growth of the heap beyond what is in use, as a share of the gradients.
const GRADIENT_GAPS: f64 = 0.6;
/// Numbers per element of a parameter that the optimiser's update needs on a GPU: the scaled gradient, new moments,
/// their quotient and the new values.
const UPDATE: f64 = 5.0;
/// Number of images in a forward pass of a frozen encoder.
const ENCODED: usize = 16;
/// Number of questions that are answered side by side.
const ASKED: usize = 32;

/// The largest micro-batch of a stage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchShape {
    /// Number of sequences.
    pub rows: usize,
    /// Number of positions of a sequence, image tokens and padding included.
    pub length: usize,
    /// Number of supervised tokens in all sequences.
    pub supervised: f64,
}

/// Peak memory of a run, in bytes, by what holds it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct MemoryEstimate {
    /// Peak on the device that computes; on a CPU that of the whole process.
    pub device: f64,
    /// Weights of all networks that are loaded.
    pub weights: f64,
    /// Moments of the optimiser.
    pub moments: f64,
    /// Gradients of all trained parameters, and with gradient accumulation their sums.
    pub gradients: f64,
    /// Activations that the backward pass needs, with copies of weights that it needs.
    pub activations: f64,
    /// Logits of the supervised tokens and their gradient.
    pub logits: f64,
    /// Growth of the heap beyond what is in use.
    pub allocator: f64,
}

/// Numbers of parameters, each in elements.
struct Parameters {
    all: f64,
    trained: f64,
    /// Bytes of the moments.
    moments: f64,
    /// Entries of the token table if it is tied to the head and trained.
    tied: f64,
    /// Elements of the token table if it is trained; no other parameter of a language model is larger.
    largest: f64,
}

/// Peak memory of `count` runs side by side in one process on a CPU, each of which alone needs `run` bytes.
pub fn side_by_side(run: f64, count: usize) -> f64 {
    PROCESS + count as f64 * (run - PROCESS).max(0.0)
}

impl CostInputs<'_> {
    /// Estimates the peak memory of a training step with its largest micro-batch.
    ///
    /// # Errors
    /// A card's tap does not fit its architecture.
    pub fn training_memory(&self, stage: &Stage, shape: BatchShape, device: DeviceProfile) -> Result<MemoryEstimate> {
        let p = self.counts(stage);
        let packed = if device.fused && device.bf16 { 4.0 * self.llm.parameters() as f64 } else { 0.0 };
        let weights = 4.0 * p.all - self.saved_by_storage(device) + packed;
        let gradients = 4.0 * p.trained;
        // With gradient checkpointing the gradients of a block are added to the sums before the next block is computed.
        let (sums, new) = match (stage.accumulate > 1, device.checkpointing || stage.checkpointing) {
            (false, _) => (0.0, gradients),
            (true, false) => (gradients, gradients),
            (true, true) => (gradients, gradients / self.llm.num_hidden_layers.max(1) as f64),
        };
        let positions = (shape.rows * shape.length) as f64;
        let checkpointing = device.checkpointing || stage.checkpointing;
        let (layers, d) = (self.llm.num_hidden_layers as f64, self.llm.hidden_size as f64);
        let block = self.block(stage, shape, device);
        let copies = self.weight_copies(stage, shape, device);
        let (numbers, copies) = match checkpointing {
            true => (4.0 * positions * layers * d + block, copies / layers.max(1.0)),
            false => (layers * block, copies),
        };
        let connector = self.connector_activations(shape.rows, stage.trains(ParameterGroup::Connector));
        let encoders = if stage.trains(ParameterGroup::Encoder) { self.encoder_activations(shape.rows)? } else { 0.0 };
        let activations = numbers + connector + encoders + copies;
        let buffers = if device.fused { 1.0 } else { 2.0 };
        let logits = buffers * 4.0 * shape.supervised * self.llm.vocab_size as f64;
        let gaps = ACTIVATION_GAPS * (numbers + connector + encoders) + GRADIENT_GAPS * gradients;
        let allocator = if device.cpu { gaps } else { 0.0 };
        // The head's part of a tied table's gradient comes while all activations are there.
        let table = 4.0 * p.tied;
        let forward = activations + logits + table;
        let backward = new + table + if checkpointing { block + copies } else { 0.0 };
        let encoding = if self.cached || stage.trains(ParameterGroup::Encoder) {
            0.0
        } else {
            self.encoding_activations(shape.rows.min(ENCODED))?
        };
        // On the CPU the update is one pass over each parameter, in place.
        let update = if device.cpu { 0.0 } else { gradients - sums + 4.0 * UPDATE * p.largest };
        let step = forward.max(backward).max(encoding).max(update);
        let process = if device.cpu { PROCESS } else { 0.0 };
        Ok(MemoryEstimate {
            device: process + weights + p.moments + sums + step + allocator,
            weights,
            moments: p.moments,
            gradients: new + sums,
            activations,
            logits,
            allocator,
        })
    }

    /// Estimates the peak memory of answering questions with prompts of `length` positions and `answer` new tokens.
    ///
    /// # Errors
    /// A card's tap does not fit its architecture.
    pub fn answering_memory(&self, length: usize, answer: usize, device: DeviceProfile) -> Result<MemoryEstimate> {
        let (d, [q, k], f) = (self.llm.hidden_size as f64, self.widths(), self.llm.intermediate_size as f64);
        let rows = ASKED as f64;
        let cache = 4.0 * rows * (length + answer) as f64 * self.llm.num_hidden_layers as f64 * 2.0 * k;
        // One block at a time: residual stream, normed input, joint projection and output; gate, up and product.
        let block = 4.0 * rows * length as f64 * (3.0 * d + (q + 2.0 * k + q).max(3.0 * f));
        let logits = 2.0 * 4.0 * rows * self.llm.vocab_size as f64;
        let encoding = if self.cached { 0.0 } else { self.encoding_activations(ENCODED)? };
        let mut parameters = self.llm.parameters() as f64 + self.connector_parameters as f64;
        if !self.cached {
            parameters += self.encoder_parameters();
        }
        let packed = if device.fused && device.bf16 { 2.0 * self.llm.parameters() as f64 } else { 0.0 };
        let weights = 4.0 * parameters - self.saved_by_storage(device) + packed;
        let activations = (cache + block).max(encoding);
        let process = if device.cpu { PROCESS } else { 0.0 };
        let device = process + weights + activations + logits;
        Ok(MemoryEstimate { device, weights, activations, logits, ..MemoryEstimate::default() })
    }

    /// Bytes by which the language model's weights are smaller than in f32, because they stay as their file stores them.
    fn saved_by_storage(&self, device: DeviceProfile) -> f64 {
        let stored = self.stored_llm.filter(|_| device.fused);
        stored.map_or(0.0, |bytes| (4.0 * self.llm.parameters() as f64 - bytes).max(0.0))
    }

    fn encoder_parameters(&self) -> f64 {
        self.cards.iter().map(ArmCard::parameters).sum::<u64>() as f64
    }

    /// Query width, and width of keys and of values.
    fn widths(&self) -> [f64; 2] {
        let w = self.llm.head_width();
        [(self.llm.num_attention_heads * w) as f64, (self.llm.kv_heads() * w) as f64]
    }

    fn counts(&self, stage: &Stage) -> Parameters {
        let llm = self.llm.parameters() as f64;
        let table = (self.llm.vocab_size * self.llm.hidden_size) as f64;
        let tables = table * if self.llm.tie_word_embeddings { 1.0 } else { 2.0 };
        let connector = self.connector_parameters as f64;
        let encoders = self.encoder_parameters();
        let (trains, whole) = (stage.trains(ParameterGroup::Llm), stage.lora.is_none());
        let adapters = stage.lora.as_ref().map_or(0.0, |lora| self.adapters(lora.rank, &lora.targets));
        let mut p = Parameters { all: llm + connector, trained: 0.0, moments: 0.0, tied: 0.0, largest: 0.0 };
        // Muon keeps one moment for the matrices of the blocks; AdamW keeps two for all other parameters.
        let block_moments = if stage.optimiser == OptimiserMethod::Muon { 4.0 } else { 8.0 };
        if trains && whole {
            p.trained += llm;
            p.moments += 8.0 * tables + block_moments * (llm - tables);
            p.largest = table;
            p.tied = if self.llm.tie_word_embeddings { table } else { 0.0 };
        } else if trains {
            p.all += adapters;
            p.trained += adapters;
            p.moments += block_moments * adapters;
        }
        if stage.trains(ParameterGroup::Connector) {
            p.trained += connector;
            p.moments += 8.0 * connector;
        }
        // Encoders whose features are cached are not loaded.
        if stage.trains(ParameterGroup::Encoder) {
            p.all += encoders;
            p.trained += encoders;
            p.moments += block_moments * encoders;
        } else if !self.cached {
            p.all += encoders;
        }
        p
    }

    /// What the backward pass needs of one decoder block, in bytes.
    fn block(&self, stage: &Stage, shape: BatchShape, device: DeviceProfile) -> f64 {
        let positions = (shape.rows * shape.length) as f64;
        let (d, [q, k], f) = (self.llm.hidden_size as f64, self.widths(), self.llm.intermediate_size as f64);
        let trained = stage.trains(ParameterGroup::Llm);
        // The input of a projection is needed only for the gradient of its weight or of its adapter.
        let inputs = if trained { 2.0 * d + f } else { 0.0 };
        let adapters = stage.lora.as_ref().filter(|_| trained).map_or(0.0, |l| (l.rank * l.targets.len()) as f64);
        if device.fused {
            let inputs = if device.bf16 { inputs / 2.0 } else { inputs };
            return 4.0 * positions * (2.0 * d + q + 2.0 * k + q + 2.0 * f + inputs + adapters);
        }
        let number = if device.bf16 { 2.0 } else { 4.0 };
        let heads = self.llm.num_attention_heads as f64 * shape.length as f64;
        // The residual stream, norms and the softmax are f32 in any case.
        let full = 2.0 * d + heads + if trained { 2.0 * d } else { 0.0 };
        let short = q + 2.0 * k + q + 4.0 * f + inputs + adapters + if device.bf16 { heads } else { 0.0 };
        positions * (4.0 * full + number * short)
    }

    /// Copies of weights that the backward pass needs, in bytes.
    fn weight_copies(&self, stage: &Stage, shape: BatchShape, device: DeviceProfile) -> f64 {
        let (d, [q, k], f) = (self.llm.hidden_size as f64, self.widths(), self.llm.intermediate_size as f64);
        let layers = self.llm.num_hidden_layers as f64;
        if device.bf16 {
            return if device.fused { 0.0 } else { 2.0 * self.llm.parameters() as f64 };
        }
        // Layers with adapters are applied one by one, and so are they if concatenating the outputs is cheaper.
        let joint = !device.fused && stage.lora.is_none() && shape.rows * shape.length >= self.llm.hidden_size;
        let gates = if self.llm.model_type.gated { 2.0 * f } else { 0.0 };
        if joint && self.llm.experts.is_none() { 4.0 * layers * d * (q + 2.0 * k + gates) } else { 0.0 }
    }

    /// Features of a batch's images and activations of a two-layer connector, in bytes.
    fn connector_activations(&self, images: usize, trained: bool) -> f64 {
        let hidden = if trained { 3.0 } else { 2.0 } * self.llm.hidden_size as f64;
        let width: usize = self.cards.iter().filter_map(|card| card.width().ok()).sum();
        4.0 * (images * self.tokens) as f64 * (width as f64 + hidden)
    }

    /// What the backward pass needs of the encoders for these images, in bytes: of a vision transformer of width d
    /// about 26 d per token and block beside the attention probabilities, and it does 24 d² operations there.
    fn encoder_activations(&self, images: usize) -> Result<f64> {
        let mut bytes = 0.0;
        for card in self.cards {
            bytes += 4.0 * images as f64 * card.flops()? as f64 * 26.0 / 24.0 / (card.width()?.max(1) as f64);
        }
        Ok(bytes)
    }

    /// Pixels, and the widest block of the widest encoder without its backward pass, in bytes.
    fn encoding_activations(&self, images: usize) -> Result<f64> {
        let mut most: f64 = 0.0;
        for card in self.cards {
            let [rows, columns] = card.native_grid()?;
            let pixels = card.encoder().map_or(0, |card| 3 * card.preprocess.size * card.preprocess.size);
            // Residual stream, norm, queries, keys, values and their mix; or norm and MLP of four times the width.
            let block = (rows * columns * card.width()?) as f64 * 7.0;
            most = most.max(4.0 * images as f64 * (2.0 * pixels as f64 + block));
        }
        Ok(most)
    }

    /// Number of parameters of the LoRA adapters.
    fn adapters(&self, rank: usize, targets: &[String]) -> f64 {
        let (d, f) = (self.llm.hidden_size, self.llm.intermediate_size);
        let [q, kv] = self.widths().map(|w| w as usize);
        let sides = |target: &String| match target.as_str() {
            "q_proj" | "o_proj" => d + q,
            "k_proj" | "v_proj" => d + kv,
            _ => d + f,
        };
        (self.llm.num_hidden_layers * rank * targets.iter().map(sides).sum::<usize>()) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CorpusSize, FLEX};
    use super::*;
    use crate::run::cost::arms::ArmModel;
    use crate::study::{Arm, StudyConfig};
    use burgess_base::Error;
    use burgess_probe::llm::LlmConfig;

    /// A language model of this width, depth, MLP width, heads, key/value heads and vocabulary.
    fn llm([width, depth, mlp, heads, kv, vocabulary]: [usize; 6]) -> Result<LlmConfig> {
        let config = serde_json::json!({
            "model_type": "llama", "hidden_size": width, "intermediate_size": mlp, "num_hidden_layers": depth,
            "num_attention_heads": heads, "num_key_value_heads": kv, "vocab_size": vocabulary, "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "tie_word_embeddings": true, "max_position_embeddings": 2048, "hidden_act": "silu",
            "initializer_range": 0.02
        });
        Ok(serde_json::from_value(config)?)
    }

    const NANO: [usize; 6] = [128, 6, 352, 4, 2, 1024];
    const M32: [usize; 6] = [512, 8, 1408, 8, 4, 16_384];
    const M110: [usize; 6] = [768, 12, 2048, 12, 12, 32_000];

    /// Mean number of supervised tokens of the conversations: those of the nano world with six turns.
    const SUPERVISED: f64 = 38.0;

    /// Estimates the tune stage of `burgess train` with these settings and the nano world's conversations.
    fn estimate(size: [usize; 6], arm: &str, length: usize, cached: bool, stage: &str) -> Result<MemoryEstimate> {
        let stage: Stage = toml::from_str(&format!("steps = 4\nlr = 1e-5\n{stage}"))
            .map_err(|e| Error::failed(format!("{stage}: {e}")))?;
        let llm = llm(size)?;
        let arm = Arm::parse(arm)?;
        let mut evaluator = StudyConfig::open("nano")?.evaluator;
        evaluator.connector = toml::from_str::<std::collections::BTreeMap<String, _>>("c = \"mlp2x_gelu\"")
            .map_err(|e| Error::failed(e.to_string()))?
            .remove("c")
            .ok_or_else(|| Error::failed("no connector"))?;
        let cards = arm.encoders.iter().map(|e| ArmCard::planned(e, &evaluator)).collect::<Result<Vec<_>>>()?;
        let model = ArmModel::new(&evaluator, &arm, cards, &llm)?;
        let inputs = model.inputs(&llm, cached);
        let text = length + 2 - inputs.tokens;
        let size = CorpusSize { samples: 256, text_tokens: text, longest: Some(text), supervised: SUPERVISED };
        inputs.training_memory(&stage, inputs.shape(&stage, size), FLEX)
    }

    /// Peak resident memory of `burgess train` on flex, in MiB, by `tests/reference/peak_memory.py` with glibc 2.36,
    /// against the estimate.
    #[test]
    fn estimates_are_within_15_percent_of_measured_peaks() -> Result<()> {
        let both = "trainable = [\"connector\", \"llm\"]";
        let connector = "trainable = [\"connector\"]";
        let all = "trainable = [\"connector\", \"llm\", \"encoder\"]";
        let (clip, vit) = ("nano-clip", "mocov3-b16@random");
        let checkpointing = format!("batch = 32\ncheckpointing = true\n{both}");
        let lora = format!("batch = 8\nlora = {{ rank = 16, alpha = 32 }}\n{both}");
        let measured = [
            // Name, language model, arm, positions of the longest row, features cached, stage, MiB.
            ("nano, frozen", NANO, clip, 157, true, format!("batch = 16\n{both}"), 209.8),
            ("nano, unfrozen", NANO, "nano-clip:unfrozen", 157, true, format!("batch = 16\n{all}"), 241.5),
            ("32M, batch 8", M32, clip, 157, true, format!("batch = 8\n{both}"), 958.8),
            ("110M, batch 8", M110, clip, 157, true, format!("batch = 8\n{both}"), 2477.4),
            ("32M, checkpointing", M32, clip, 170, true, checkpointing, 988.8),
            ("32M, accumulation", M32, clip, 151, true, format!("batch = 32\naccumulate = 4\n{both}"), 1093.3),
            ("110M, LoRA", M110, clip, 157, true, lora, 1415.9),
            ("32M, computed ViT-B", M32, vit, 337, false, format!("batch = 4\n{both}"), 1292.6),
            ("32M, batch 32", M32, clip, 170, true, format!("batch = 32\n{both}"), 2153.9),
            ("32M, connector only", M32, clip, 170, true, format!("batch = 32\n{connector}"), 1446.1),
            ("nano, 60 steps", NANO, clip, 194, true, format!("batch = 8\n{both}"), 172.5),
        ];
        for (name, size, arm, length, cached, stage, mib) in measured {
            let found = estimate(size, arm, length, cached, &stage)?.device / f64::from(1 << 20);
            println!("{name}: estimated {found:.0} MiB, measured {mib:.0} MiB, {:+.1} %", 100.0 * (found / mib - 1.0));
            assert!((found / mib - 1.0).abs() <= 0.15, "{name}: {found} MiB, measured {mib} MiB");
        }
        Ok(())
    }
}

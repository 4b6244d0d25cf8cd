//! The training recipe: two stages, each with its trainable parameter groups and learning rates.

use crate::data::ExampleOrder;
use crate::llm::{Compute, LlmConfig, PROJECTIONS};
use crate::optimiser::OptimiserMethod;
use crate::response_prompts::ResponsePrompts;
use burgess_base::{Error, Result};
use serde::{Deserialize, Serialize};

/// The recipe of a model: the two stages of training, as in LLaVA (arXiv 2304.08485).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The stage that trains the connector on captions; absent = training starts with `tune`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub align: Option<Stage>,
    /// The stage that trains connector and language model (and unfrozen encoders) on questions.
    pub tune: Stage,
}

/// Hyper-parameters of one stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Number of optimiser steps, at least 1; set this or `epochs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// Number of passes over the examples, above 0 and at most 10⁶; set this or `steps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<f64>,
    /// Number of examples per optimiser step, at least 1.
    pub batch: usize,
    /// Gradient accumulation: number of micro-batches of a step, from 1 to `batch`. Default 1. More save memory and
    /// give the same step up to rounding. The loss is the mean over all supervised tokens of the step, as in the
    /// Hugging Face trainer since 4.46; before, and so in LLaVA and Cambrian-1, it was the mean of the means of the
    /// micro-batches.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub accumulate: usize,
    /// Peak learning rate of all trainable parameter groups without their own, at least 0.
    pub lr: f64,
    /// Peak learning rate of the connector, instead of `lr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connector_lr: Option<f64>,
    /// Peak learning rate of the connector's `vision_query` and `vision_sampler…`, instead of the connector's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampler_lr: Option<f64>,
    /// Peak learning rate of the language model, instead of `lr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub llm_lr: Option<f64>,
    /// Peak learning rate of the encoders, instead of `lr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder_lr: Option<f64>,
    /// Trainable parameter groups, at least one; all others are frozen.
    pub trainable: Vec<ParameterGroup>,
    /// LoRA on the language model, which is trained instead of its weights and merged at the end of the stage. If no
    /// stage trains the weights themselves, those of a GGUF file or of 16-bit safetensors stay as stored on the CPU
    /// (QLoRA): the factors then stay beside them, and the model is saved as adapters with a reference to the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
    /// The optimiser: `adamw` (default) or `muon`.
    #[serde(default)]
    pub optimiser: OptimiserMethod,
    /// Decoupled weight decay, at least 0, on parameters with two or more axes (not on norm scales and biases). Default
    /// 0.
    #[serde(default)]
    pub weight_decay: f64,
    /// Fraction of the steps, from 0 to 1, over which the learning rate rises linearly from zero. Default 0.03.
    #[serde(default = "default_warmup")]
    pub warmup: f64,
    /// Learning-rate schedule after the warm-up. Default `cosine`.
    #[serde(default)]
    pub schedule: LrSchedule,
    /// Maximum global gradient norm over all trained parameters, at least 0; 0 = no clipping. Default 1.
    #[serde(default = "default_clip")]
    pub clip: f64,
    /// Decay rates of AdamW's first and second moments, from 0 to below 1. Default `[0.9, 0.999]`.
    #[serde(default = "default_betas")]
    pub betas: [f64; 2],
    /// The order of the examples. Default `shuffled`.
    #[serde(default)]
    pub order: ExampleOrder,
    /// Maximum length of an example in tokens, image tokens included, at least 2; longer ones are truncated on the
    /// right. Absent = no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// Response-format prompts ("system prompts" of the paper) that are appended to the questions of sources with short
    /// answers when the conversations are read: `true` or `"cambrian-1"` for the paper's sources and texts, or a table of
    /// texts by source. A question that has its text already stays as it is. Default `false`.
    #[serde(default, skip_serializing_if = "ResponsePrompts::is_off")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub response_prompts: ResponsePrompts,
    /// Gradient checkpointing: stores only the input of each decoder block and recomputes the block in the backward
    /// pass. It needs much less memory for long sequences, and a third more computation. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub checkpointing: bool,
    /// Compute precision of the language model: `f32`, or `bf16` on GPUs that have it and, on the device `flex`, on
    /// processors with AVX-512 BF16. Weights, optimiser, connector, encoders and loss are always f32.
    #[serde(default, skip_serializing_if = "Compute::is_f32")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub precision: Compute,
}

fn one() -> usize {
    1
}

// serde passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_one(n: &usize) -> bool {
    *n == 1
}

/// LoRA (arXiv 2106.09685) on projections of the language model: `x · W + alpha / rank · (x · A) · B`, with A
/// initialised as in PEFT and B zero, without dropout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// Rank: number of columns of A and rows of B, at least 1.
    pub rank: usize,
    /// Scale: the product is multiplied by `alpha / rank`; above 0.
    pub alpha: f64,
    /// Names of the projections that get LoRA. Default: all, as in LLaVA.
    #[serde(default = "projections")]
    pub targets: Vec<String>,
}

fn projections() -> Vec<String> {
    PROJECTIONS.map(String::from).to_vec()
}

/// A group of parameters that is trained or frozen together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ParameterGroup {
    /// The connector.
    Connector,
    /// The language model.
    Llm,
    /// The vision encoders.
    Encoder,
}

impl ParameterGroup {
    /// Returns the group of the parameter at a module path of [`Mllm`](crate::mllm::Mllm), whose fields the first
    /// element names; `None` if no group has that name.
    pub fn of_path(path: &[String]) -> Option<Self> {
        match path.first()?.as_str() {
            "connector" => Some(Self::Connector),
            "llm" => Some(Self::Llm),
            "encoders" => Some(Self::Encoder),
            _ => None,
        }
    }
}

/// Learning-rate schedule after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum LrSchedule {
    /// Cosine decay to zero.
    #[default]
    Cosine,
    /// Linear decay to zero.
    Linear,
    /// Constant learning rate.
    Constant,
}

fn default_warmup() -> f64 {
    0.03
}

fn default_clip() -> f64 {
    1.0
}

fn default_betas() -> [f64; 2] {
    [0.9, 0.999]
}

/// Maximum number of passes over the data.
const MOST_EPOCHS: f64 = 1e6;

impl LoraConfig {
    fn check(&self) -> Result<()> {
        let bad = |what: String| Err(Error::usage(what));
        if self.rank == 0 || self.rank > Self::MOST_RANK {
            return bad(format!("`lora.rank` is {}, must be from 1 to {}", self.rank, Self::MOST_RANK));
        }
        if !(self.alpha > 0.0 && self.alpha <= Self::MOST_ALPHA) {
            let most = Self::MOST_ALPHA;
            return bad(format!("`lora.alpha` is {:?}, must be above 0 and at most {most}", self.alpha));
        }
        if self.targets.is_empty() {
            return bad("`lora.targets` is empty, must name at least one projection".into());
        }
        match self.targets.iter().find(|t| !PROJECTIONS.contains(&t.as_str())) {
            Some(unknown) => bad(format!(
                "`lora.targets`: there is no projection `{unknown}`, must be among {}",
                PROJECTIONS.join(", ")
            )),
            None => Ok(()),
        }
    }
}

impl Recipe {
    /// Returns the notes of both stages ([`Stage::notes`]), prefixed with the name of the stage.
    pub fn notes(&self) -> Vec<String> {
        let stages = self.align.iter().map(|s| ("align", s)).chain([("tune", &self.tune)]);
        stages.flat_map(|(name, stage)| stage.notes().into_iter().map(move |n| format!("stage {name}: {n}"))).collect()
    }

    /// Whether a stage trains the weights of the language model, not only LoRA factors beside them.
    pub fn trains_llm_weights(&self) -> bool {
        let trains = |stage: &Stage| stage.trains(ParameterGroup::Llm) && stage.lora.is_none();
        self.align.as_ref().is_some_and(trains) || trains(&self.tune)
    }

    /// Checks the settings of both stages.
    ///
    /// # Errors
    /// When a setting is invalid; the error names the stage and the field.
    pub fn check(&self) -> Result<()> {
        if let Some(align) = &self.align {
            align.check().map_err(|e| e.context("stage align"))?;
        }
        self.tune.check().map_err(|e| e.context("stage tune"))
    }

    /// Checks the settings that depend on the language model.
    ///
    /// # Errors
    /// When one is invalid; the error names the stage and the key.
    pub fn check_llm(&self, llm: &LlmConfig) -> Result<()> {
        if let Some(align) = &self.align {
            align.check_llm(llm).map_err(|e| e.context("[align]"))?;
        }
        self.tune.check_llm(llm).map_err(|e| e.context("[tune]"))
    }
}

impl LoraConfig {
    /// Maximum rank; no projection of a published model has as many rows.
    const MOST_RANK: usize = 65_536;
    /// Maximum `alpha`; larger values overflow in the first step.
    const MOST_ALPHA: f64 = 1e6;
}

impl Stage {
    /// Creates a stage with these settings and the defaults of all others.
    pub fn new(steps: usize, batch: usize, lr: f64, trainable: Vec<ParameterGroup>) -> Self {
        Self {
            steps: Some(steps),
            epochs: None,
            batch,
            accumulate: one(),
            lr,
            connector_lr: None,
            sampler_lr: None,
            llm_lr: None,
            encoder_lr: None,
            trainable,
            lora: None,
            optimiser: OptimiserMethod::default(),
            weight_decay: 0.0,
            warmup: default_warmup(),
            schedule: LrSchedule::default(),
            clip: default_clip(),
            betas: default_betas(),
            order: ExampleOrder::default(),
            max_length: None,
            response_prompts: ResponsePrompts::Off,
            checkpointing: false,
            precision: Compute::F32,
        }
    }

    /// Checks the values of all settings.
    ///
    /// # Errors
    /// When one is invalid; the error gives the key, its value and the valid range.
    pub fn check(&self) -> Result<()> {
        let bad = |what: String| Err(Error::usage(what));
        match (self.steps, self.epochs) {
            (Some(steps), Some(epochs)) => {
                return bad(format!(
                    "`steps` = {steps} and `epochs` = {epochs} are both set: set either `steps` or `epochs`"
                ));
            }
            (None, None) => return bad("neither `steps` nor `epochs` is set: set one of them".into()),
            (Some(0), None) => return bad("`steps` = 0 must be at least 1; leave the stage out to skip it".into()),
            (None, Some(e)) if !(e > 0.0 && e <= MOST_EPOCHS) => {
                return bad(format!("`epochs` = {e} must be above 0 and at most {MOST_EPOCHS}"));
            }
            _ => {}
        }
        if self.batch == 0 {
            return bad("`batch` = 0 must be at least 1".into());
        }
        if self.accumulate == 0 || self.accumulate > self.batch {
            return bad(format!("`accumulate` = {} must be from 1 to `batch` = {}", self.accumulate, self.batch));
        }
        for (name, rate) in self.rates() {
            if !(rate >= 0.0 && rate.is_finite()) {
                let why = if rate < 0.0 { "negative" } else { "not a finite number" };
                return bad(format!("`{name}` is {why}: {rate}; a learning rate must be at least 0 and finite"));
            }
        }
        if let Some(n) = self.max_length.filter(|n| *n < 2) {
            return bad(format!("`max_length` = {n} must be at least 2: the first token is never predicted"));
        }
        self.response_prompts.check()?;
        if !(0.0..=1.0).contains(&self.warmup) {
            return bad(format!("`warmup` = {} must be a fraction of the steps, from 0 to 1", self.warmup));
        }
        for (name, value) in [("weight_decay", self.weight_decay), ("clip", self.clip)] {
            if !(value >= 0.0 && value.is_finite()) {
                return bad(format!("`{name}` = {value} must be at least 0 and finite"));
            }
        }
        if self.betas.iter().any(|b| !(0.0..1.0).contains(b)) {
            return bad(format!("`betas` = {:?}: both must be at least 0 and below 1", self.betas));
        }
        if let Some(lora) = &self.lora {
            if !self.trains(ParameterGroup::Llm) {
                return bad("`lora` is set, but `llm` is not in `trainable`: LoRA adapts the language model".into());
            }
            lora.check()?;
        }
        if self.trainable.is_empty() {
            return bad("`trainable` is empty, must name at least one parameter group".into());
        }
        let twice = |(i, part): (usize, &ParameterGroup)| self.trainable.iter().take(i).any(|p| p == part);
        if self.trainable.iter().enumerate().any(twice) {
            return bad("`trainable` names a parameter group twice".into());
        }
        Ok(())
    }

    /// Returns the learning rates that are set, with their keys.
    fn rates(&self) -> impl Iterator<Item = (&'static str, f64)> {
        [
            ("lr", Some(self.lr)),
            ("connector_lr", self.connector_lr),
            ("sampler_lr", self.sampler_lr),
            ("llm_lr", self.llm_lr),
            ("encoder_lr", self.encoder_lr),
        ]
        .into_iter()
        .filter_map(|(name, rate)| Some((name, rate?)))
    }

    /// Returns notes on valid but unusual settings, one sentence each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = self
            .rates()
            .filter(|(_, rate)| *rate == 0.0)
            .map(|(name, _)| format!("`{name}` = 0: parameters with this learning rate are not updated"))
            .collect();
        if self.clip == 0.0 {
            notes.push("`clip` = 0: gradients are not clipped".into());
        }
        notes
    }

    /// Checks the settings that depend on the language model: whether LoRA fits its matrices.
    ///
    /// # Errors
    /// When the rank is too large; the error names the key.
    pub fn check_llm(&self, llm: &LlmConfig) -> Result<()> {
        let Some(lora) = &self.lora else { return Ok(()) };
        let (d, f) = (llm.hidden_size, llm.intermediate_size);
        let f = llm.experts.as_ref().map_or(f, |experts| f.min(experts.width));
        let (q, kv) = (llm.num_attention_heads * llm.head_width(), llm.kv_heads() * llm.head_width());
        for target in &lora.targets {
            let most = match target.as_str() {
                "q_proj" | "o_proj" => d.min(q),
                "k_proj" | "v_proj" => d.min(kv),
                _ => d.min(f),
            };
            if lora.rank > most {
                return Err(Error::usage(format!(
                    "`lora.rank` is {}, but the matrix of `{target}` has only {most} rows or columns",
                    lora.rank
                ))
                .hint(format!("set `rank` to at most {most}, or leave `{target}` out of `targets`")));
            }
        }
        Ok(())
    }

    /// Returns the number of optimiser steps for this number of examples.
    pub fn total_steps(&self, examples: usize) -> usize {
        match (self.steps, self.epochs) {
            (Some(steps), _) => steps,
            // An incomplete last batch is also a step, so epochs are counted in batches.
            (None, Some(epochs)) => (epochs * examples.div_ceil(self.batch.max(1)) as f64).round().max(1.0) as usize,
            (None, None) => 0,
        }
    }

    /// Whether this stage trains a parameter group.
    pub fn trains(&self, group: ParameterGroup) -> bool {
        self.trainable.contains(&group)
    }

    /// Returns the peak learning rate of the parameter at a module path; `None` if this stage does not train it.
    pub fn peak_lr(&self, path: &[String]) -> Option<f64> {
        let group = ParameterGroup::of_path(path).filter(|group| self.trains(*group))?;
        if group == ParameterGroup::Llm && self.lora.is_some() && !path.iter().any(|n| n == "lora") {
            return None;
        }
        let sampler = path.iter().any(|n| n == "vision_query" || n.starts_with("vision_sampler"));
        let sampler_lr = self.sampler_lr.filter(|_| group == ParameterGroup::Connector && sampler);
        Some(sampler_lr.or(self.own_lr(group)).unwrap_or(self.lr))
    }

    /// Returns the highest peak learning rate of the trained parameter groups.
    pub fn highest_lr(&self) -> f64 {
        let groups = self.trainable.iter().map(|group| self.own_lr(*group).unwrap_or(self.lr));
        let samplers = self.sampler_lr.filter(|_| self.trains(ParameterGroup::Connector));
        groups.chain(samplers).fold(0.0, f64::max)
    }

    /// Returns the peak learning rate that a group has instead of `lr`.
    fn own_lr(&self, group: ParameterGroup) -> Option<f64> {
        match group {
            ParameterGroup::Connector => self.connector_lr,
            ParameterGroup::Llm => self.llm_lr,
            ParameterGroup::Encoder => self.encoder_lr,
        }
    }

    /// Returns the factor on every peak learning rate, from 0 to 1, at `step` (counted from 0) of `total`, as the
    /// schedulers of `transformers`: linear warm-up from zero, then the schedule, which reaches zero at `total` unless
    /// it is constant.
    pub fn lr_factor(&self, step: usize, total: usize) -> f64 {
        let warmup = (self.warmup * total as f64).ceil() as usize;
        if step < warmup {
            return step as f64 / warmup as f64;
        }
        let progress = (step - warmup) as f64 / total.saturating_sub(warmup).max(1) as f64;
        match self.schedule {
            LrSchedule::Constant => 1.0,
            LrSchedule::Linear => (1.0 - progress).max(0.0),
            LrSchedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(text: &str) -> std::result::Result<Stage, toml::de::Error> {
        toml::from_str(&format!("batch = 8\nlr = 1e-3\ntrainable = [\"connector\"]\n{text}"))
    }

    #[test]
    fn the_schedule_is_that_of_transformers() -> std::result::Result<(), toml::de::Error> {
        // Reference: get_cosine_schedule_with_warmup(warmup 3, total 100) of transformers, steps 0, 1, 3, 50, 99.
        let cosine = stage("steps = 100")?;
        let expected = [0.0, 1.0 / 3.0, 1.0, 0.524_287, 0.000_262_2];
        for (step, e) in [0, 1, 3, 50, 99].into_iter().zip(expected) {
            assert!((cosine.lr_factor(step, 100) - e).abs() < 1e-4, "{step}: {}", cosine.lr_factor(step, 100));
        }
        assert_eq!(stage("steps = 10\nwarmup = 0.0\nschedule = \"linear\"")?.lr_factor(5, 10), 0.5);
        assert_eq!(stage("steps = 10\nwarmup = 0.0\nschedule = \"constant\"")?.lr_factor(9, 10), 1.0);
        Ok(())
    }

    #[test]
    fn mistakes_are_named() -> std::result::Result<(), toml::de::Error> {
        assert!(stage("steps = 1\nlearning_rate = 3").is_err());
        for (text, key) in [
            ("steps = 1\nepochs = 2.0", "`epochs` = 2"),
            ("", "neither `steps` nor `epochs`"),
            ("steps = 0", "`steps` = 0"),
            ("epochs = 0.0", "`epochs` = 0"),
            ("epochs = -1.0", "`epochs` = -1"),
            ("epochs = nan", "`epochs` = NaN"),
            ("epochs = inf", "`epochs` = inf"),
            ("steps = 1\nconnector_lr = -4e-3", "`connector_lr` is negative: -0.004"),
            ("steps = 1\nllm_lr = nan", "`llm_lr` is not a finite number"),
            ("steps = 1\nsampler_lr = inf", "`sampler_lr` is not a finite number"),
            ("steps = 1\nencoder_lr = -inf", "`encoder_lr` is negative"),
            ("steps = 1\nwarmup = 3.0", "`warmup` = 3"),
            ("steps = 1\nwarmup = nan", "`warmup` = NaN"),
            ("steps = 1\nweight_decay = -0.1", "`weight_decay` = -0.1"),
            ("steps = 1\nweight_decay = inf", "`weight_decay` = inf"),
            ("steps = 1\nclip = -1.0", "`clip` = -1"),
            ("steps = 1\nclip = nan", "`clip` = NaN"),
            ("steps = 1\nbetas = [0.9, 1.0]", "`betas` = [0.9, 1.0]"),
            ("steps = 1\nbetas = [-0.1, 0.9]", "`betas`"),
            ("steps = 1\naccumulate = 9", "`accumulate` = 9"),
            ("steps = 1\naccumulate = 0", "`accumulate` = 0"),
            ("steps = 1\nmax_length = 1", "`max_length` = 1"),
            ("steps = 1\nresponse_prompts = {}", "`response_prompts` is an empty table"),
            ("steps = 1\nresponse_prompts = { vqa = \" \" }", "the source `vqa` has the text ` `"),
            ("steps = 1\nlora = { rank = 4, alpha = 4 }", "`llm` is not in `trainable`"),
        ] {
            let e = stage(text)?.check().expect_err(text);
            assert!(e.to_string().contains(key) && e.exit_code() == 2, "{text}: {e}");
        }
        let tuned = |lora: &str| -> std::result::Result<Stage, toml::de::Error> {
            toml::from_str(&format!("steps = 1\nbatch = 8\nlr = 1e-3\ntrainable = [\"llm\"]\nlora = {lora}"))
        };
        for (lora, key) in [
            ("{ rank = 0, alpha = 4 }", "`lora.rank` is 0"),
            ("{ rank = 4, alpha = 0 }", "`lora.alpha` is 0"),
            ("{ rank = 4, alpha = nan }", "`lora.alpha` is NaN"),
            ("{ rank = 4, alpha = 1e300 }", "`lora.alpha`"),
            ("{ rank = 4, alpha = 4, targets = [] }", "`lora.targets` is empty"),
            ("{ rank = 4, alpha = 4, targets = [\"q\"] }", "no projection `q`"),
        ] {
            let e = tuned(lora)?.check().expect_err(lora);
            assert!(e.to_string().contains(key), "{lora}: {e}");
        }
        let wrong = |text: &str| -> std::result::Result<Stage, toml::de::Error> { toml::from_str(text) };
        for (text, key) in [
            ("steps = 1\nbatch = 0\nlr = 1e-3\ntrainable = [\"llm\"]", "`batch` = 0"),
            ("steps = 1\nbatch = 1\nlr = -4e-3\ntrainable = [\"llm\"]", "`lr` is negative: -0.004"),
            ("steps = 1\nbatch = 1\nlr = nan\ntrainable = [\"llm\"]", "`lr` is not a finite number"),
            ("steps = 1\nbatch = 1\nlr = 1e-3\ntrainable = []", "`trainable` is empty"),
            (
                "steps = 1\nbatch = 1\nlr = 1e-3\ntrainable = [\"llm\", \"llm\"]",
                "`trainable` names a parameter group twice",
            ),
        ] {
            let e = wrong(text)?.check().expect_err(text);
            assert!(e.to_string().contains(key), "{text}: {e}");
        }
        let still = wrong("steps = 1\nbatch = 1\nlr = 0\nclip = 0\ntrainable = [\"llm\"]")?;
        assert!(still.check().is_ok());
        let notes = Recipe { align: None, tune: still }.notes();
        assert!(notes.len() == 2 && notes[0].starts_with("stage tune: `lr` = 0") && notes[1].contains("`clip` = 0"));
        assert!(stage("epochs = 1.0")?.check().is_ok() && stage("epochs = 1.0")?.notes().is_empty());
        assert_eq!(stage("epochs = 1.5")?.total_steps(33), 8);
        Ok(())
    }

    #[test]
    fn adapters_that_fit_no_matrix_are_errors_with_their_key() -> std::result::Result<(), toml::de::Error> {
        let lora = |text: &str| {
            let stage = "batch = 8\nlr = 1e-3\nsteps = 1\ntrainable = [\"llm\"]\n[lora]\n";
            toml::from_str::<Stage>(&format!("{stage}{text}"))
        };
        let cases = [
            ("rank = 100000000\nalpha = 16.0", "`lora.rank` is 100000000"),
            ("rank = 0\nalpha = 16.0", "`lora.rank` is 0"),
            ("rank = 4\nalpha = 1e38", "`lora.alpha` is 1e38"),
            ("rank = 4\nalpha = nan", "`lora.alpha` is NaN"),
            ("rank = 4\nalpha = -8.0", "`lora.alpha` is -8"),
            ("rank = 4\nalpha = 8.0\ntargets = []", "`lora.targets`"),
        ];
        for (text, wanted) in cases {
            let error = lora(text)?.check().unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
        let llm = LlmConfig::nano(96, 4, 768);
        let fits = lora("rank = 48\nalpha = 8.0")?;
        assert!(fits.check().is_ok() && fits.check_llm(&llm).is_ok());
        let error = lora("rank = 49\nalpha = 8.0")?.check_llm(&llm).unwrap_err();
        assert!(error.to_string().contains("`k_proj` has only 48") && error.hint_text().is_some(), "{error}");
        Ok(())
    }
}

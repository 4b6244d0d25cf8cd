//! Reads Stable Diffusion in the layout of diffusers: `unet/`, `vae/`, `text_encoder/`, `scheduler/` and `tokenizer/`,
//! each with its configuration. A missing key has the default of diffusers (for the text encoder: of transformers); a
//! value that describes another kind of network is rejected.

use super::config_values::{SupportedValues, first_unsupported, json, plain};
use super::derived::DerivedEncoder;
use crate::arch::{
    Activation, ArchitectureConfig, PromptConfig, Schedule, SchedulerConfig, StableDiffusionConfig, Tap, UnetConfig,
    VaeConfig,
};
use crate::checkpoint::CheckpointPart;
use crate::preprocess::Interpolation;
use burgess_base::{Error, Result};
use serde_json::Value;
use std::path::Path;

const UNET: &SupportedValues = &[
    ("act_fn", "\"silu\""),
    ("addition_embed_type", "null"),
    ("attention_type", "\"default\""),
    ("center_input_sample", "false"),
    ("class_embed_type", "null"),
    ("class_embeddings_concat", "false"),
    ("conv_in_kernel", "3"),
    ("cross_attention_norm", "null"),
    ("downsample_padding", "1"),
    ("dual_cross_attention", "false"),
    ("encoder_hid_dim", "null"),
    ("encoder_hid_dim_type", "null"),
    ("flip_sin_to_cos", "true"),
    ("freq_shift", "0"),
    ("mid_block_scale_factor", "1"),
    ("mid_block_type", "\"UNetMidBlock2DCrossAttn\""),
    ("num_attention_heads", "null"),
    ("num_class_embeds", "null"),
    ("only_cross_attention", "false"),
    ("resnet_out_scale_factor", "1"),
    ("resnet_skip_time_act", "false"),
    ("resnet_time_scale_shift", "\"default\""),
    ("reverse_transformer_layers_per_block", "null"),
    ("time_cond_proj_dim", "null"),
    ("time_embedding_act_fn", "null"),
    ("time_embedding_dim", "null"),
    ("time_embedding_type", "\"positional\""),
    ("timestep_post_act", "null"),
];

const VAE: &SupportedValues = &[
    ("act_fn", "\"silu\""),
    ("in_channels", "3"),
    ("latents_mean", "null"),
    ("mid_block_add_attention", "true"),
    ("shift_factor", "null"),
    ("use_quant_conv", "true"),
];

const SCHEDULER: &SupportedValues = &[("rescale_betas_zero_snr", "false"), ("trained_betas", "null")];

const TEXT: &SupportedValues = &[("use_attention_mask", "false")];

/// Derives the encoder from the configurations in `dir`.
pub(super) fn derive(dir: &Path) -> Result<DerivedEncoder> {
    let text = PartConfig::open(dir, "text_encoder", "config.json", TEXT)?;
    let vae = PartConfig::open(dir, "vae", "config.json", VAE)?;
    let unet = PartConfig::open(dir, "unet", "config.json", UNET)?;
    let scheduler = PartConfig::open(dir, "scheduler", "scheduler_config.json", SCHEDULER)?;
    let (vae, sample) = (autoencoder(&vae)?, unet.number("sample_size", None)?);
    let text = prompt(&text, &dir.join("tokenizer"))?;
    let unet = denoiser(&unet, text.width, vae.latent_channels)?;
    let image_size = sample.saturating_mul(vae.stride());
    let architecture = StableDiffusionConfig {
        image_size,
        // The grid of Cambrian-1: one token per two latents on each side.
        patch: vae.stride().saturating_mul(2),
        time_step: 250,
        noise_seed: 0,
        scheduler: SchedulerConfig {
            steps: scheduler.number("num_train_timesteps", Some(1000))?,
            beta_start: scheduler.real("beta_start", 0.0001)?,
            beta_end: scheduler.real("beta_end", 0.02)?,
            schedule: match scheduler.text("beta_schedule").unwrap_or("linear") {
                "linear" => Schedule::Linear,
                "scaled_linear" => Schedule::ScaledLinear,
                _ => return Err(scheduler.unsupported("beta_schedule")),
            },
        },
        text,
        vae,
        unet,
    };
    Ok(DerivedEncoder {
        family: "Stable Diffusion".into(),
        dialect: "diffusers-stable-diffusion",
        part: CheckpointPart::whole(),
        preprocess: plain(image_size, Interpolation::Bicubic, [0.5; 3], [0.5; 3]),
        architecture: ArchitectureConfig::StableDiffusion(architecture),
        tap: Tap::default(),
        notes: Vec::new(),
    })
}

fn autoencoder(vae: &PartConfig) -> Result<VaeConfig> {
    let channels = vae.numbers("block_out_channels", &[64])?;
    vae.all("down_block_types", channels.len(), &["DownEncoderBlock2D"])?;
    Ok(VaeConfig {
        channels,
        layers: vae.number("layers_per_block", Some(1))?,
        groups: vae.number("norm_num_groups", Some(32))?,
        latent_channels: vae.number("latent_channels", Some(4))?,
        scaling_factor: vae.real("scaling_factor", 0.18215)?,
    })
}

fn denoiser(unet: &PartConfig, prompt: usize, latent: usize) -> Result<UnetConfig> {
    let channels = unet.numbers("block_out_channels", &[320, 640, 1280, 1280])?;
    let levels = channels.len();
    let down = unet.all("down_block_types", levels, &["DownBlock2D", "CrossAttnDownBlock2D"])?;
    let mut up = unet.all("up_block_types", levels, &["UpBlock2D", "CrossAttnUpBlock2D"])?;
    up.reverse();
    if down != up {
        return Err(Error::failed(
            "unet/config.json has attention at other levels in up_block_types than in down_block_types",
        )
        .hint("use a network with attention at the same levels in both"));
    }
    let (width, input) = (unet.number("cross_attention_dim", Some(1280))?, unet.number("in_channels", Some(4))?);
    if (width, input) != (prompt, latent) {
        return Err(Error::failed(format!(
            "unet/ expects prompts of width {width} and {input} channels, but text_encoder/ has width {prompt} and \
             vae/ has {latent} channels"
        ))
        .hint("use a model whose only inputs are an image and a text: inpainting and depth models are not supported"));
    }
    // Despite its name, this key is the number of heads (diffusers issue 2011).
    let heads = unet.numbers("attention_head_dim", &[8])?;
    Ok(UnetConfig {
        layers: unet.number("layers_per_block", Some(2))?,
        heads: match heads.as_slice() {
            [same] => vec![*same; levels],
            _ => heads,
        },
        attention: down,
        transformer_depth: unet.number("transformer_layers_per_block", Some(1))?,
        groups: unet.number("norm_num_groups", Some(32))?,
        norm_eps: unet.real("norm_eps", 1e-5)?,
        linear_projection: unet.get("use_linear_projection").and_then(Value::as_bool).unwrap_or(false),
        channels,
    })
}

fn prompt(text: &PartConfig, tokenizer: &Path) -> Result<PromptConfig> {
    let tokens = TokenizerFiles::open(tokenizer).map_err(|e| e.context("reading tokenizer/"))?;
    Ok(PromptConfig {
        vocabulary: text.number("vocab_size", Some(49408))?,
        positions: text.number("max_position_embeddings", Some(77))?,
        width: text.number("hidden_size", Some(512))?,
        depth: text.number("num_hidden_layers", Some(12))?,
        heads: text.number("num_attention_heads", Some(8))?,
        mlp_hidden: text.number("intermediate_size", Some(2048))?,
        activation: match text.text("hidden_act").unwrap_or("quick_gelu") {
            "gelu" => Activation::Gelu,
            "quick_gelu" => Activation::QuickGelu,
            _ => return Err(text.unsupported("hidden_act")),
        },
        norm_eps: text.real("layer_norm_eps", 1e-5)?,
        prompt: vec![tokens.id("bos_token")?, tokens.id("eos_token")?],
        pad: tokens.id("pad_token")?,
    })
}

/// The configuration file of a part of the model.
struct PartConfig {
    file: String,
    config: Value,
}

impl PartConfig {
    fn open(dir: &Path, folder: &str, name: &str, fixed: &SupportedValues) -> Result<Self> {
        let file = format!("{folder}/{name}");
        let config = json(&dir.join(&file)).map_err(|e| {
            e.hint("download the whole model: it needs the folders unet, vae, text_encoder, scheduler and tokenizer")
        })?;
        let part = Self { file, config };
        match first_unsupported(fixed, |key| part.config.get(key))? {
            Some(key) => Err(part.unsupported(key)),
            None => Ok(part),
        }
    }

    fn unsupported(&self, key: &str) -> Error {
        let found = self.config.get(key).map_or("nothing".into(), Value::to_string);
        Error::failed(format!("{}: {key} = {found} is not supported", self.file))
            .hint("use a model with the architecture of Stable Diffusion 1 or 2")
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.config.get(key).filter(|value| !value.is_null())
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }

    fn number(&self, key: &str, default: Option<usize>) -> Result<usize> {
        let found = match (self.get(key), default) {
            (Some(value), _) => value.as_u64().and_then(|n| usize::try_from(n).ok()),
            (None, default) => default,
        };
        found.ok_or_else(|| self.unsupported(key))
    }

    fn real(&self, key: &str, default: f64) -> Result<f64> {
        let found = self.get(key).map_or(Some(default), Value::as_f64);
        found.ok_or_else(|| self.unsupported(key))
    }

    /// Reads a number or a list of numbers.
    fn numbers(&self, key: &str, default: &[usize]) -> Result<Vec<usize>> {
        let Some(value) = self.get(key) else { return Ok(default.to_vec()) };
        let one = std::slice::from_ref(value);
        let list = value.as_array().map_or(one, Vec::as_slice);
        let found = list.iter().map(|n| n.as_u64().and_then(|n| usize::try_from(n).ok()));
        let found = found.collect::<Option<Vec<_>>>().filter(|list| !list.is_empty());
        found.ok_or_else(|| self.unsupported(key))
    }

    /// Returns for each of the `count` blocks listed at `key` whether it is of the last of the `known` types.
    fn all(&self, key: &str, count: usize, known: &[&str]) -> Result<Vec<bool>> {
        let kinds = self.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let parts = kinds.iter().map(|kind| known.iter().position(|k| kind.as_str() == Some(k)));
        let attends = parts.map(|part| Some(part? + 1 == known.len())).collect::<Option<Vec<_>>>();
        attends.filter(|list| list.len() == count).ok_or_else(|| self.unsupported(key))
    }
}

/// The files of a tokenizer that define special tokens and their ids.
struct TokenizerFiles {
    special: Vec<Value>,
    vocabulary: Vec<Value>,
}

impl TokenizerFiles {
    /// Missing files are skipped, because the set of files depends on the version that wrote them.
    fn open(dir: &Path) -> Result<Self> {
        let read = |name: &str| match dir.join(name) {
            path if path.is_file() => json(&path),
            _ => Ok(Value::Null),
        };
        let config = read("tokenizer_config.json")?;
        // As in transformers' `_from_pretrained`: the map of older versions takes precedence over the configuration,
        // but newer versions put everything into the latter. Stable Diffusion 2 pads with "!" by its map, while its
        // configuration says "<|endoftext|>" (diffusers issue 2201).
        let map =
            if config.get("added_tokens_decoder").is_some() { Value::Null } else { read("special_tokens_map.json")? };
        let whole = read("tokenizer.json")?;
        let inside = whole.get("model").and_then(|m| m.get("vocab")).cloned().unwrap_or_default();
        Ok(Self {
            special: vec![map, config],
            vocabulary: vec![read("vocab.json")?, read("added_tokens.json")?, inside],
        })
    }

    fn id(&self, role: &str) -> Result<usize> {
        let name = self.special.iter().find_map(|table| table.get(role).filter(|v| !v.is_null()));
        let name = name.and_then(|v| v.as_str().or_else(|| v.get("content")?.as_str())).ok_or_else(|| {
            Error::failed(format!("no file defines the {role}"))
                .hint("add special_tokens_map.json or tokenizer_config.json")
        })?;
        let id = self.vocabulary.iter().find_map(|table| table.get(name)).and_then(Value::as_u64);
        id.and_then(|id| usize::try_from(id).ok()).ok_or_else(|| {
            Error::failed(format!("the {role} \"{name}\" has no id")).hint("add vocab.json or tokenizer.json")
        })
    }
}

//! Stable Diffusion as diffusers stores it: `unet/`, `vae/`, `text_encoder/`, `scheduler/` and `tokenizer/`, each with
//! its configuration. A missing key has the default of diffusers (for the text encoder: of transformers); a value that
//! describes another kind of network is rejected.

use super::{Fixed, Found, json, otherwise, plain};
use crate::arch::{
    Activation, ArchitectureConfig, PromptConfig, Schedule, SchedulerConfig, StableDiffusionConfig, Tap, UnetConfig,
    VaeConfig,
};
use crate::checkpoint::CheckpointPart;
use crate::preprocess::Interpolation;
use burgess_base::{Error, Result};
use serde_json::Value;
use std::path::Path;

const UNET: &Fixed = &[
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

const VAE: &Fixed = &[
    ("act_fn", "\"silu\""),
    ("in_channels", "3"),
    ("latents_mean", "null"),
    ("mid_block_add_attention", "true"),
    ("shift_factor", "null"),
    ("use_quant_conv", "true"),
];

const SCHEDULER: &Fixed = &[("rescale_betas_zero_snr", "false"), ("trained_betas", "null")];

const TEXT: &Fixed = &[("use_attention_mask", "false")];

/// Describes the model in `dir`, without its weights.
pub(super) fn found(dir: &Path) -> Result<Found> {
    let text = Part::open(dir, "text_encoder", "config.json", TEXT)?;
    let vae = Part::open(dir, "vae", "config.json", VAE)?;
    let unet = Part::open(dir, "unet", "config.json", UNET)?;
    let scheduler = Part::open(dir, "scheduler", "scheduler_config.json", SCHEDULER)?;
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
                _ => return Err(scheduler.refused("beta_schedule")),
            },
        },
        text,
        vae,
        unet,
    };
    Ok(Found {
        family: "Stable Diffusion".into(),
        dialect: "diffusers-stable-diffusion",
        place: CheckpointPart::whole(),
        preprocess: plain(image_size, Interpolation::Bicubic, [0.5; 3], [0.5; 3]),
        architecture: ArchitectureConfig::StableDiffusion(architecture),
        tap: Tap::default(),
        notes: Vec::new(),
    })
}

fn autoencoder(vae: &Part) -> Result<VaeConfig> {
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

fn denoiser(unet: &Part, prompt: usize, latent: usize) -> Result<UnetConfig> {
    let channels = unet.numbers("block_out_channels", &[320, 640, 1280, 1280])?;
    let levels = channels.len();
    let down = unet.all("down_block_types", levels, &["DownBlock2D", "CrossAttnDownBlock2D"])?;
    let mut up = unet.all("up_block_types", levels, &["UpBlock2D", "CrossAttnUpBlock2D"])?;
    up.reverse();
    if down != up {
        return Err(Error::failed(
            "the levels of unet/config.json that attend on the way up are not those on the way down",
        )
        .hint("only networks that attend at the same levels on both ways can be read"));
    }
    let (width, input) = (unet.number("cross_attention_dim", Some(1280))?, unet.number("in_channels", Some(4))?);
    if (width, input) != (prompt, latent) {
        return Err(Error::failed(format!(
            "unet/ takes prompts of width {width} and {input} channels, but text_encoder/ gives {prompt} and vae/ {latent}"
        ))
        .hint("models that are given more than an image and a text (inpainting, depth) cannot be read"));
    }
    // diffusers' misnomer: it is the number of heads (diffusers issue 2011).
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

fn prompt(text: &Part, tokenizer: &Path) -> Result<PromptConfig> {
    let tokens = Tokenizer::open(tokenizer).map_err(|e| e.context("reading tokenizer/"))?;
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
            _ => return Err(text.refused("hidden_act")),
        },
        norm_eps: text.real("layer_norm_eps", 1e-5)?,
        prompt: vec![tokens.id("bos_token")?, tokens.id("eos_token")?],
        pad: tokens.id("pad_token")?,
    })
}

/// The configuration of a part of the model.
struct Part {
    file: String,
    config: Value,
}

impl Part {
    fn open(dir: &Path, folder: &str, name: &str, fixed: &Fixed) -> Result<Self> {
        let file = format!("{folder}/{name}");
        let config = json(&dir.join(&file)).map_err(|e| {
            e.hint("a model of diffusers has the folders unet, vae, text_encoder, scheduler and tokenizer")
        })?;
        let part = Self { file, config };
        match otherwise(fixed, |key| part.config.get(key))? {
            Some(key) => Err(part.refused(key)),
            None => Ok(part),
        }
    }

    fn refused(&self, key: &str) -> Error {
        let found = self.config.get(key).map_or("nothing".into(), Value::to_string);
        Error::failed(format!("{}: {key} = {found} is not known", self.file))
            .hint("only networks like those of Stable Diffusion 1 and 2 can be read")
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
        found.ok_or_else(|| self.refused(key))
    }

    fn real(&self, key: &str, default: f64) -> Result<f64> {
        let found = self.get(key).map_or(Some(default), Value::as_f64);
        found.ok_or_else(|| self.refused(key))
    }

    /// The value of `key`: a number or a list of numbers.
    fn numbers(&self, key: &str, default: &[usize]) -> Result<Vec<usize>> {
        let Some(value) = self.get(key) else { return Ok(default.to_vec()) };
        let one = std::slice::from_ref(value);
        let list = value.as_array().map_or(one, Vec::as_slice);
        let found = list.iter().map(|n| n.as_u64().and_then(|n| usize::try_from(n).ok()));
        let found = found.collect::<Option<Vec<_>>>().filter(|list| !list.is_empty());
        found.ok_or_else(|| self.refused(key))
    }

    /// Whether each of the `count` blocks listed at `key` is of the last of the `known` kinds.
    fn all(&self, key: &str, count: usize, known: &[&str]) -> Result<Vec<bool>> {
        let kinds = self.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let places = kinds.iter().map(|kind| known.iter().position(|k| kind.as_str() == Some(k)));
        let attends = places.map(|place| Some(place? + 1 == known.len())).collect::<Option<Vec<_>>>();
        attends.filter(|list| list.len() == count).ok_or_else(|| self.refused(key))
    }
}

/// The special tokens of a tokenizer and their IDs.
struct Tokenizer {
    special: Vec<Value>,
    vocabulary: Vec<Value>,
}

impl Tokenizer {
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
            Error::failed(format!("no file names the {role}"))
                .hint("expected special_tokens_map.json or tokenizer_config.json")
        })?;
        let id = self.vocabulary.iter().find_map(|table| table.get(name)).and_then(Value::as_u64);
        id.and_then(|id| usize::try_from(id).ok()).ok_or_else(|| {
            Error::failed(format!("the {role} \"{name}\" has no number")).hint("expected vocab.json or tokenizer.json")
        })
    }
}

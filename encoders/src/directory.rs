//! Encoders without a card: a directory with weights and a `config.json` of transformers or timm, or one of diffusers
//! with a folder for each part of Stable Diffusion, as the hub has them.
//!
//! What the shapes of the tensors tell (width, depth, class token, layer scale ...) is read from them; the configuration
//! is asked only for what they cannot tell (heads, activation, epsilon, preprocessing). The result is an ordinary card:
//! `burgess encoders DIR` prints it, and it can be kept as a file.

mod diffusers;

use crate::arch::{Activation, ArchitectureConfig, ConvNextConfig, Tap, VitConfig};
use crate::card::{EncoderCard, Location, Source, Supervision};
use crate::checkpoint::{self, Checkpoint, Dialect};
use crate::preprocess::{Interpolation, Preprocess};
use burgess_base::{Context, Error, Result};
use burn::tensor::Device;
use serde_json::Value;
use std::path::Path;

/// The card of the encoder in `dir`.
///
/// # Errors
/// There is no `config.json` or no weights; the configuration is of another kind of model; the weights do not fit.
pub fn card(dir: &Path) -> Result<EncoderCard> {
    let step = || format!("reading the encoder in {}", dir.display());
    describe(dir).map_err(|e| e.context(step()))
}

fn describe(dir: &Path) -> Result<EncoderCard> {
    let found = if checkpoint::is_pipeline(dir) { diffusers::found(dir)? } else { found(dir)? };
    let name = dir.canonicalize()?.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let parameters = checkpoint::parameters(&found.architecture.init(&Device::flex())?)?;
    let card = EncoderCard {
        id: name.clone(),
        title: name,
        family: found.family,
        supervision: Supervision::Unknown,
        licence: "see its makers".into(),
        grid: None,
        source: Source {
            location: Location::Directory(dir.to_path_buf()),
            dialect: found.dialect.into(),
            prefix: found.prefix,
            parameters: parameters.iter().map(|p| p.shape.iter().product::<usize>() as u64).sum(),
        },
        architecture: found.architecture,
        preprocess: found.preprocess,
        preprocess_cambrian_1: None,
        tap: found.tap,
        pretrain: None,
    };
    // What a card's own text must pass, this one must pass too.
    EncoderCard::parse(&toml::to_string(&card).map_err(|e| Error::failed(e.to_string()))?, "made from config.json")
}

/// What a directory with a `config.json` holds.
fn found(dir: &Path) -> Result<Found> {
    let config = json(&dir.join("config.json")).map_err(|e| {
        e.hint("expected config.json of transformers or timm beside the weights; for anything else write a card")
    })?;
    let weights = Checkpoint::open(dir)?;
    let text = |key: &str| config.get(key).and_then(Value::as_str);
    match (text("architecture"), text("model_type")) {
        (Some(name), _) => timm(name, &config, &weights),
        (None, Some(kind)) => transformers(kind, &config, dir, &weights),
        _ => Err(Error::failed("config.json names neither a `model_type` nor an `architecture`")
            .hint("only configurations of transformers and timm are known")),
    }
}

/// What a configuration and the shapes say together.
struct Found {
    family: String,
    dialect: &'static str,
    prefix: Option<String>,
    architecture: ArchitectureConfig,
    preprocess: Preprocess,
    tap: Tap,
}

/// transformers' defaults for all these models, which `config.json` may leave out.
const HEADS: u64 = 12;
const IMAGE_SIZE: u64 = 224;

/// A kind of transformers model: its `model_type`s, the dialect of its weights, and its own defaults.
struct Kind {
    types: &'static [&'static str],
    dialect: &'static str,
    act: &'static str,
    eps: f64,
    /// LLaVA's tap of CLIP: the layer before the last, whose final norm is for the class token alone.
    before_last: bool,
}

const KINDS: [Kind; 5] = [
    Kind {
        types: &["clip", "clip_vision_model"],
        dialect: "transformers-clip",
        act: "quick_gelu",
        eps: 1e-5,
        before_last: true,
    },
    Kind {
        types: &["siglip", "siglip_vision_model"],
        dialect: "transformers-siglip",
        act: "gelu_pytorch_tanh",
        eps: 1e-6,
        before_last: false,
    },
    Kind {
        types: &["dinov2", "dinov2_with_registers"],
        dialect: "transformers-dinov2",
        act: "gelu",
        eps: 1e-6,
        before_last: false,
    },
    Kind {
        types: &["vit", "vit_mae", "deit", "ijepa"],
        dialect: "transformers-vit",
        act: "gelu",
        eps: 1e-12,
        before_last: false,
    },
    Kind {
        types: &["beit", "data2vec-vision"],
        dialect: "transformers-beit",
        act: "gelu",
        eps: 1e-12,
        before_last: false,
    },
];

fn transformers(kind: &str, config: &Value, dir: &Path, weights: &Checkpoint) -> Result<Found> {
    let known = || KINDS.iter().flat_map(|k| k.types).copied().collect::<Vec<_>>().join(", ");
    let family = KINDS.iter().find(|k| k.types.contains(&kind)).ok_or_else(|| {
        Error::failed(format!("config.json is of a `{kind}` model")).hint(format!("known kinds: {}", known()))
    })?;
    let vision = config.get("vision_config").unwrap_or(config);
    let number = |key: &str, default: u64| vision.get(key).and_then(Value::as_u64).unwrap_or(default);
    let gated = vision.get("use_swiglu_ffn").and_then(Value::as_bool).unwrap_or(false);
    let dialect = if gated { "transformers-dinov2-swiglu" } else { family.dialect };
    let activation = match vision.get("hidden_act").and_then(Value::as_str).unwrap_or(family.act) {
        _ if gated => Activation::Swiglu,
        "gelu" => Activation::Gelu,
        "quick_gelu" => Activation::QuickGelu,
        "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" => Activation::GeluTanh,
        other => return Err(Error::failed(format!("hidden_act = \"{other}\" is not known"))),
    };
    let own_size = number("image_size", IMAGE_SIZE) as usize;
    let preprocess = match json(&dir.join("preprocessor_config.json")) {
        Ok(steps) => processor(&steps, own_size)?,
        // A directory of weights alone: the size it was trained for, and the constants most models share.
        Err(_) => plain(own_size, [0.5; 3], [0.5; 3]),
    };
    let shapes = Shapes { weights, dialect: Dialect::find(dialect)?, prefix: String::new() }.under_its_prefix()?;
    let mut vit = shapes.vit(preprocess.size)?;
    vit.heads = number("num_attention_heads", HEADS) as usize;
    vit.activation = activation;
    vit.norm_eps = vision.get("layer_norm_eps").and_then(Value::as_f64).unwrap_or(family.eps);
    let tap = Tap {
        layer: if family.before_last { -2 } else { -1 },
        norm: vit.final_norm && !family.before_last,
        ..Tap::default()
    };
    let prefix = Some(shapes.prefix).filter(|p| !p.is_empty());
    Ok(Found { family: kind.into(), dialect, prefix, architecture: ArchitectureConfig::Vit(vit), preprocess, tap })
}

/// `preprocessor_config.json` of transformers.
fn processor(steps: &Value, own_size: usize) -> Result<Preprocess> {
    let side = |value: Option<&Value>| {
        let value = value?;
        let of = |key: &str| value.get(key).and_then(Value::as_u64);
        value.as_u64().or_else(|| of("height")).or_else(|| of("shortest_edge")).map(|n| n as usize)
    };
    let resize = side(steps.get("size")).unwrap_or(own_size);
    let crops = steps.get("do_center_crop").and_then(Value::as_bool).unwrap_or(false);
    let size = if crops { side(steps.get("crop_size")).unwrap_or(resize) } else { resize };
    let three = |key: &str| three(steps, key).map_err(|e| e.context("reading preprocessor_config.json"));
    let (mean, std) = (three("image_mean")?, three("image_std")?);
    Ok(Preprocess {
        // Pillow's numbers for its filters.
        interpolation: match steps.get("resample").and_then(Value::as_u64) {
            Some(2) => Interpolation::Bilinear,
            _ => Interpolation::Bicubic,
        },
        crop_pct: share(size, resize.max(size)),
        ..plain(size, mean, std)
    })
}

/// `part / whole`, so that `part` divided by it is not rounded to less than `whole`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn share(part: usize, whole: usize) -> f64 {
    let share = part as f64 / whole as f64;
    if ((part as f64 / share) as usize) < whole { share.next_down() } else { share }
}

fn plain(size: usize, mean: [f32; 3], std: [f32; 3]) -> Preprocess {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let pad = mean.map(|m| (m * 255.0).clamp(0.0, 255.0) as u8);
    Preprocess { size, interpolation: Interpolation::Bicubic, crop_pct: 1.0, enlarge: None, mean, std, pad }
}

/// timm's configuration: the name of an architecture, arguments that differ from it, and `pretrained_cfg`.
fn timm(name: &str, config: &Value, weights: &Checkpoint) -> Result<Found> {
    let pretrained = config.get("pretrained_cfg").unwrap_or(config);
    let arguments = config.get("model_args").unwrap_or(&Value::Null);
    let side = pretrained.get("input_size").and_then(|s| s.get(1)).and_then(Value::as_u64);
    let side = side.ok_or_else(|| Error::failed("config.json has no pretrained_cfg.input_size"))? as usize;
    let three = |key: &str| three(pretrained, key).map_err(|e| e.context("reading pretrained_cfg of config.json"));
    let crop = pretrained.get("crop_pct").and_then(Value::as_f64).unwrap_or(0.875);
    let squashes = pretrained.get("crop_mode").and_then(Value::as_str) == Some("squash");
    let preprocess = Preprocess {
        interpolation: match pretrained.get("interpolation").and_then(Value::as_str) {
            Some("bilinear") => Interpolation::Bilinear,
            _ => Interpolation::Bicubic,
        },
        crop_pct: if squashes { 1.0 } else { crop },
        ..plain(side, three("mean")?, three("std")?)
    };
    let dialect = "timm";
    let shapes = Shapes { weights, dialect: Dialect::find(dialect)?, prefix: String::new() };
    let architecture = if name.starts_with("convnext") {
        let mut convnext = shapes.convnext(side)?;
        convnext.norm_eps = if name.starts_with("convnext_xxlarge") { 1e-5 } else { 1e-6 };
        ArchitectureConfig::ConvNext(convnext)
    } else if name.starts_with("vit_") || name.starts_with("deit") {
        let mut vit = shapes.vit(side)?;
        let heads = arguments.get("num_heads").and_then(Value::as_u64).map(|n| n as usize);
        // timm's plain transformers have heads of 64 channels up to ViT-L, and 16 heads beyond; DINOv2-giant has 24.
        let usual = match vit.width {
            width @ (0..=1024 | 1536) => width / 64,
            _ => 16,
        };
        vit.heads = heads.unwrap_or(usual);
        vit.activation = match vit.activation {
            Activation::Swiglu => Activation::Swiglu,
            _ if name.contains("quickgelu") => Activation::QuickGelu,
            plain => plain,
        };
        vit.norm_eps = if name.contains("clip") { 1e-5 } else { 1e-6 };
        ArchitectureConfig::Vit(vit)
    } else {
        return Err(Error::failed(format!("config.json is of timm's `{name}`"))
            .hint("of timm, vit_*, deit* and convnext* can be read without a card"));
    };
    let norm = matches!(&architecture, ArchitectureConfig::Vit(c) if c.final_norm);
    let tap = Tap { norm, ..Tap::default() };
    Ok(Found { family: name.into(), dialect, prefix: None, architecture, preprocess, tap })
}

/// The shapes of a checkpoint by the names of our modules.
struct Shapes<'a> {
    weights: &'a Checkpoint,
    dialect: &'static Dialect,
    prefix: String,
}

impl Shapes<'_> {
    /// Finds what stands before the names, as in a model with a head on top.
    fn under_its_prefix(mut self) -> Result<Self> {
        let wanted = self.dialect.names("patch_embed.proj.weight").into_iter().flatten().next().unwrap_or_default();
        let found = self.weights.keys().find_map(|key| key.strip_suffix(wanted.as_str()));
        self.prefix = found
            .filter(|p| p.is_empty() || p.ends_with('.'))
            .ok_or_else(|| {
                Error::failed(format!("the weights have no `{wanted}`"))
                    .hint("config.json and the weights belong to different models")
            })?
            .to_string();
        Ok(self)
    }

    /// The upstream shapes of the parts of a parameter that are in the file.
    fn of(&self, path: &str) -> Vec<&[usize]> {
        let names = self.dialect.names(path).unwrap_or_default();
        names.iter().filter_map(|name| self.weights.shape(&format!("{}{name}", self.prefix))).collect()
    }

    fn has(&self, path: &str) -> bool {
        !self.of(path).is_empty()
    }

    /// The only part of a parameter that every network has, with at least `rank` dimensions.
    fn shape(&self, path: &str, rank: usize) -> Result<&[usize]> {
        let shape = self.of(path).into_iter().next().filter(|s| s.len() >= rank);
        shape.ok_or_else(|| {
            Error::failed(format!("the weights have no `{path}` (in dialect `{}`)", self.dialect.name))
                .hint("config.json and the weights belong to different models")
        })
    }

    /// All of a vision transformer that its weights tell; `image_size` are the pictures it is given.
    fn vit(&self, image_size: usize) -> Result<VitConfig> {
        let patches = self.shape("patch_embed.proj.weight", 4)?;
        let (width, patch) = (patches[0], patches[2].max(1));
        let depth = (0..).take_while(|i| self.has(&format!("blocks.{i}.norm1.weight"))).count();
        let mlp_hidden = self.shape("blocks.0.mlp.fc2.weight", 2)?[1];
        let fc1: usize = self.of("blocks.0.mlp.fc1.weight").iter().filter_map(|s| s.first()).sum();
        let class_token = self.has("cls_token");
        let positions = self.of("pos_embed").into_iter().next().and_then(|s| s.len().checked_sub(2).map(|i| s[i]));
        let side = |n: usize| Some(n.isqrt()).filter(|side| side * side == n);
        let own = positions.map(|n| side(n).map(|s| (s, false)).or_else(|| Some((side(n.checked_sub(1)?)?, true))));
        let (grid, pos_embed_class) = match own {
            None => (None, true),
            Some(Some((side, class))) => (Some(side), class || !class_token),
            Some(None) => return Err(Error::failed("the positions are of a grid that is not square")),
        };
        Ok(VitConfig {
            image_size,
            patch,
            width,
            depth,
            heads: 1,
            mlp_hidden,
            class_token,
            registers: self.of("reg_token").first().and_then(|s| s.get(1)).copied().unwrap_or(0),
            pre_norm: self.has("norm_pre.weight"),
            patch_bias: self.has("patch_embed.proj.bias"),
            qkv_bias: self.has("blocks.0.attn.qkv.bias"),
            layer_scale: self.has("blocks.0.ls1.gamma").then_some(1.0),
            activation: if fc1 == 2 * mlp_hidden { Activation::Swiglu } else { Activation::Gelu },
            norm_eps: 1e-6,
            final_norm: self.has("norm.weight"),
            pos_embed_class,
            absolute_positions: grid.is_some(),
            position_grid: grid.filter(|side| *side != image_size / patch),
            position_offset: 0.0,
            relative_positions: self.has("blocks.0.attn.relative_position_bias_table"),
            rotary_grid: None,
            inner_norms: self.has("blocks.0.attn.norm.weight"),
        })
    }

    fn convnext(&self, image_size: usize) -> Result<ConvNextConfig> {
        let (mut depths, mut dims) = ([0; 4], [0; 4]);
        for stage in 0..4 {
            depths[stage] = (0..).take_while(|b| self.has(&format!("stages.{stage}.blocks.{b}.norm.weight"))).count();
            dims[stage] = self.shape(&format!("stages.{stage}.blocks.0.norm.weight"), 1)?[0];
        }
        Ok(ConvNextConfig {
            image_size,
            stem: self.shape("stem.0.weight", 4)?[2],
            depths,
            dims,
            layer_scale: 1e-6,
            norm_eps: 1e-6,
            final_norm: self.has("head.norm.weight"),
        })
    }
}

/// The three numbers under `key`, one for each channel.
fn three(table: &Value, key: &str) -> Result<[f32; 3]> {
    let values = table.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_f64);
    let values: Vec<f32> = values.map(|v| v as f32).collect();
    values.try_into().map_err(|_| Error::failed(format!("there is no `{key}` of three numbers")))
}

fn json(path: &Path) -> Result<Value> {
    let step = || format!("reading {}", path.display());
    let bytes = std::fs::read(path).with_context(step)?;
    serde_json::from_slice(&bytes).with_context(step)
}

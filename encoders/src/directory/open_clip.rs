//! Reads `open_clip_config.json`: the image tower in `model_cfg.vision_cfg`, which is open_clip's own vision
//! transformer or a model of timm, and the preprocessing in `preprocess_cfg`.

use super::config_values::{
    ConfigSection, OPENAI, SupportedValues, first_unsupported, integer, interpolation, plain, side, three,
};
use super::derived::DerivedEncoder;
use super::timm;
use crate::arch::parts::{ActivationKind, AntiAlias, NormActKind, ShortcutKind};
use crate::arch::{
    Activation, ArchitectureConfig, ByobBlockConfig, ByobBlockKind, ByobNetConfig, ByobStemConfig, ByobStemKind,
    ByobStemPool, Tap, VitConfig,
};
use crate::checkpoint::Checkpoint;
use crate::preprocess::{Fit, Preprocess};
use crate::timm::times;
use burgess_base::{Context, Error, Result};
use serde_json::{Value, json};

const OWN: &str = "open-clip-vit";
const RESNET: &str = "open-clip-resnet";

/// Dialects of timm, each with the dialect of open_clip for the same weights.
const DIALECTS: [(&str, &str); 7] = [
    ("timm", "open-clip"),
    ("timm-layers", "open-clip-layers"),
    ("timm-hybrid-vit-conv", "open-clip-hybrid-vit"),
    ("timm-eva", "open-clip-eva"),
    ("timm-eva-gated", "open-clip-eva-gated"),
    ("timm-eva-split", "open-clip-eva02"),
    ("timm-rope", "open-clip-rope"),
];

/// Keys that change the network of open_clip's vision transformer, and their supported values.
const FIXED: &SupportedValues = &[
    ("block_type", "null"),
    ("qk_norm", "false"),
    ("scale_attn", "false"),
    ("scale_attn_inner", "false"),
    ("scale_fc", "false"),
    ("scale_heads", "false"),
    ("scaled_cosine_attn", "false"),
];

/// Keys that are read or do not affect the features.
const KNOWN: &[&str] = &[
    "act_kwargs",
    "attentional_pool",
    "attn_pooler_heads",
    "attn_pooler_queries",
    "final_ln_after_pool",
    "head_width",
    "image_size",
    "layers",
    "ls_init_value",
    "mlp_ratio",
    "no_ln_pre",
    "norm_kwargs",
    "output_tokens",
    "patch_dropout",
    "patch_size",
    "pool_type",
    "pos_embed_type",
    "timm_drop",
    "timm_drop_path",
    "timm_model_name",
    "timm_model_pretrained",
    "timm_pool",
    "timm_proj",
    "timm_proj_bias",
    "width",
];

/// Derives the encoder from its configuration and the shapes of its tensors.
pub(super) fn derive(config: &Value, weights: &Checkpoint) -> Result<DerivedEncoder> {
    read(config, weights).map_err(|e| e.context("reading open_clip_config.json"))
}

fn read(config: &Value, weights: &Checkpoint) -> Result<DerivedEncoder> {
    let model = config.get("model_cfg").ok_or_else(|| Error::failed("the key `model_cfg` is missing"))?;
    let ImageTower { size, family, dialect, architecture, norm } = ImageTower::read(model)?;
    let mut notes = Vec::new();
    let preprocess = preprocess(config.get("preprocess_cfg").unwrap_or(&Value::Null), size, &mut notes)?;
    let model = timm::Model { dialect, config: architecture, note: None };
    timm::locate_model(weights, &model, |architecture, part| {
        let tap = Tap { norm, ..Tap::default() };
        let (family, preprocess, notes) = (family.clone(), preprocess.clone(), notes.clone());
        DerivedEncoder { family, dialect, part, architecture, preprocess, tap, notes }
    })
}

/// The image tower of a model.
struct ImageTower {
    /// Side of the images, in pixels.
    size: usize,
    family: String,
    dialect: &'static str,
    architecture: ArchitectureConfig,
    /// Whether the final norm is applied to the tokens.
    norm: bool,
}

impl ImageTower {
    /// Reads `model_cfg`.
    fn read(model: &Value) -> Result<Self> {
        let vision = ConfigSection {
            table: model.get("vision_cfg").ok_or_else(|| Error::failed("the key `model_cfg.vision_cfg` is missing"))?,
            before: "vision_cfg.",
            hint: "write a card: of open_clip vision transformers, its own ResNets and towers of timm are supported",
        };
        check(&vision)?;
        let size = vision.read("image_size", side)?.unwrap_or(224);
        if let Some(name) = vision.read("timm_model_name", Value::as_str)? {
            let (dialect, architecture) = tower(&vision, name, size)?;
            let norm = architecture.norms_last_tokens();
            return Ok(Self { size, family: name.to_string(), dialect, architecture, norm });
        }
        if vision.get("layers").is_some_and(Value::is_array) {
            let architecture = ArchitectureConfig::ByobNet(resnet(&vision, size)?);
            return Ok(Self { size, family: "OpenCLIP ResNet".into(), dialect: RESNET, architecture, norm: false });
        }
        let quick = model.get("quick_gelu").and_then(Value::as_bool).unwrap_or(false);
        let after_pool = vision.read("final_ln_after_pool", Value::as_bool)?.unwrap_or(false);
        // The attentional pooler of CoCa reads the tokens before the norm, which follows it.
        let pooler = vision.read("attentional_pool", Value::as_bool)?.unwrap_or(false);
        let config = VitConfig { final_norm: !pooler, ..own(&vision, size, quick)? };
        let architecture = ArchitectureConfig::Vit(config);
        Ok(Self { size, family: "OpenCLIP".into(), dialect: OWN, architecture, norm: !after_pool && !pooler })
    }
}

/// Describes a tower of timm. open_clip builds it with timm's defaults for its name; without its own projection, it
/// passes its pooling on to timm.
fn tower(vision: &ConfigSection, name: &str, size: usize) -> Result<(&'static str, ArchitectureConfig)> {
    let projection = vision.read("timm_proj", Value::as_str)?.unwrap_or("linear");
    let pool = vision.read("timm_pool", Value::as_str)?.unwrap_or("avg");
    let drop_path = vision.read("timm_drop_path", Value::as_f64)?.unwrap_or(0.0);
    let mut own = json!({"drop_path_rate": drop_path});
    if matches!(projection, "" | "none") {
        own = json!({"drop_path_rate": drop_path, "global_pool": pool});
    }
    let model = timm::model(name, &own, &Value::Null, size)?;
    let dialect = DIALECTS.iter().find(|(timm, _)| *timm == model.dialect).map(|(_, ours)| *ours);
    let dialect = dialect.ok_or_else(|| {
        Error::failed(format!("`{name}` is not supported as a tower of open_clip")).hint("write a card")
    })?;
    if model.config.image_size() != size {
        return Err(Error::failed(format!(
            "image_size is {size}, but timm's `{name}` has a fixed image size of {} pixels",
            model.config.image_size()
        ))
        .hint("set image_size to that of the model"));
    }
    Ok((dialect, model.config))
}

/// Reads the configuration of open_clip's own vision transformer.
fn own(vision: &ConfigSection, image_size: usize, quick_gelu: bool) -> Result<VitConfig> {
    if let Some(key) = first_unsupported(FIXED, |key| vision.get(key))? {
        return Err(vision.unsupported(key));
    }
    let number = |key: &str, default: usize| Ok::<_, Error>(vision.read(key, integer)?.unwrap_or(default));
    let width = number("width", 768)?;
    let norm_eps = match vision.get("norm_kwargs") {
        None => 1e-5,
        Some(settings) => settings
            .as_object()
            .filter(|table| table.keys().all(|key| key == "eps"))
            .and_then(|table| table.get("eps").map_or(Some(1e-5), Value::as_f64))
            .ok_or_else(|| vision.unsupported("norm_kwargs"))?,
    };
    let activation = match (quick_gelu, vision.get("act_kwargs")) {
        (true, None) => Activation::QuickGelu,
        (false, None) => Activation::Gelu,
        (false, Some(settings)) if *settings == json!({"approximate": "none"}) => Activation::Gelu,
        (false, Some(settings)) if *settings == json!({"approximate": "tanh"}) => Activation::GeluTanh,
        (_, Some(_)) => return Err(vision.unsupported("act_kwargs")),
    };
    // Fixed position embeddings are stored in the file, too.
    if !matches!(vision.read("pos_embed_type", Value::as_str)?, None | Some("learnable" | "sin_cos_2d")) {
        return Err(vision.unsupported("pos_embed_type"));
    }
    let (patch, depth) = (vision.read("patch_size", side)?.unwrap_or(16), number("layers", 12)?);
    let heads = width.checked_div(number("head_width", 64)?).ok_or_else(|| vision.unsupported("head_width"))?;
    let ratio = vision.read("mlp_ratio", Value::as_f64)?.unwrap_or(4.0);
    Ok(VitConfig {
        pre_norm: !vision.read("no_ln_pre", Value::as_bool)?.unwrap_or(false),
        patch_bias: false,
        layer_scale: vision.read("ls_init_value", Value::as_f64)?,
        activation,
        norm_eps,
        position_antialias: true,
        ..VitConfig::plain(image_size, patch, width, depth, heads, times(width, ratio))
    })
}

/// Reads the configuration of open_clip's own ResNet, which is that of OpenAI's CLIP: a deep stem, and average pooling
/// in place of strides. Its activation is always ReLU; its attention pool is not a part of the features.
fn resnet(vision: &ConfigSection, image_size: usize) -> Result<ByobNetConfig> {
    let four =
        |list: &Value| <[usize; 4]>::try_from(list.as_array()?.iter().map(integer).collect::<Option<Vec<_>>>()?).ok();
    let depths = vision.read("layers", four)?.unwrap_or_default();
    let width = vision.read("width", integer)?.unwrap_or(64);
    let stage = |(depth, index): (usize, u32)| {
        let width = width.saturating_mul(4 << index);
        vec![ByobBlockConfig {
            depth,
            stride: if index == 0 { 1 } else { 2 },
            ratio: 0.25,
            ..ByobBlockConfig::plain(ByobBlockKind::Bottleneck, width)
        }]
    };
    Ok(ByobNetConfig {
        image_size,
        stem: ByobStemConfig {
            kind: ByobStemKind::Convolutions,
            channels: vec![width / 2, width / 2, width],
            kernel: 3,
            bare: 0,
            pool: Some(ByobStemPool::Average2),
            attention: None,
        },
        stages: depths.into_iter().zip(0..).map(stage).collect(),
        final_width: 0,
        shortcut: ShortcutKind::Average,
        activation: ActivationKind::Relu,
        norm: NormActKind::default(),
        anti_alias: Some(AntiAlias::Average),
        drop_path: 0.0,
    })
}

/// Reads open_clip's evaluation transform. Its modes are equal for square images; for other images they differ, and
/// `longest` pads with its own colour.
fn preprocess(steps: &Value, size: usize, notes: &mut Vec<String>) -> Result<Preprocess> {
    let get = |key: &str| steps.get(key).filter(|v| !v.is_null());
    let mut default = |key: &str, value: String| {
        notes.push(format!("preprocess_cfg has no {key}: open_clip's default {value} is used"))
    };
    let mut colour = |key: &str, usual: [f32; 3]| match get(key) {
        Some(_) => three(steps, key).with_context(|| "reading preprocess_cfg"),
        None => {
            default(key, format!("{usual:?}"));
            Ok(usual)
        }
    };
    let (mean, std) = (colour("mean", OPENAI.0)?, colour("std", OPENAI.1)?);
    let kernel = match get("interpolation") {
        Some(name) => interpolation(name)?,
        None => {
            default("interpolation", "bicubic".into());
            interpolation(&"bicubic".into())?
        }
    };
    let unsupported = |key: &str| {
        Error::failed(format!("preprocess_cfg.{key} = {} is not supported", get(key).unwrap_or(&Value::Null)))
    };
    if get("size").is_some_and(|found| side(found) != Some(size)) {
        return Err(unsupported("size").hint(format!("set size to vision_cfg.image_size, {size}")));
    }
    if get("mode").is_some_and(|mode| mode != "RGB") {
        return Err(unsupported("mode").hint("use RGB"));
    }
    let plain = plain(size, kernel, mean, std);
    match get("resize_mode").map(Value::as_str) {
        None | Some(Some("shortest")) => Ok(Preprocess { library: Some(Fit::Shortest), ..plain }),
        Some(Some("squash")) => Ok(Preprocess { library: Some(Fit::Squash), ..plain }),
        Some(Some("longest")) => {
            let fill = get("fill_color").map_or(Some(0), Value::as_u64).and_then(|n| u8::try_from(n).ok());
            let pad = [fill.ok_or_else(|| unsupported("fill_color"))?; 3];
            Ok(Preprocess { pad, library: Some(Fit::Longest), ..plain })
        }
        Some(_) => Err(unsupported("resize_mode").hint("use shortest, squash or longest")),
    }
}

/// Checks that all keys of `vision_cfg` are known.
///
/// # Errors
/// `vision_cfg` has an unknown key.
fn check(vision: &ConfigSection) -> Result<()> {
    let known = |key: &str| KNOWN.contains(&key) || FIXED.iter().any(|(fixed, _)| *fixed == key);
    match vision.table.as_object().into_iter().flatten().find(|(key, _)| !known(key)) {
        Some((key, _)) => Err(vision.unsupported(key)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resnets_of_open_clip_are_timms() -> Result<()> {
        let sizes: [(&str, usize, [usize; 4], usize); 5] = [
            ("resnet50_clip", 64, [3, 4, 6, 3], 224),
            ("resnet101_clip", 64, [3, 4, 23, 3], 224),
            ("resnet50x4_clip", 80, [4, 6, 10, 6], 288),
            ("resnet50x16_clip", 96, [6, 8, 18, 8], 384),
            ("resnet50x64_clip", 128, [3, 15, 36, 10], 448),
        ];
        for (name, width, layers, size) in sizes {
            let table = json!({"image_size": size, "layers": layers, "width": width, "patch_size": null});
            let vision = ConfigSection { table: &table, before: "vision_cfg.", hint: "" };
            let timm = timm::model(name, &Value::Null, &Value::Null, size)?.config;
            assert_eq!(ArchitectureConfig::ByobNet(resnet(&vision, size)?), timm, "{name}");
            timm.validate()?;
        }
        Ok(())
    }

    /// Every model of open_clip with pretrained weights (`tests/reference/open_clip_table.py`). The configuration of
    /// ViTamin-XL-384 states 256 pixels for a network of 384.
    #[test]
    fn every_pretrained_model_of_open_clip_is_read() -> Result<()> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/open_clip/models.tsv");
        let (mut tags, mut refused) = (0, Vec::new());
        for line in std::fs::read_to_string(path)?.lines() {
            let [name, count, config] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
            tags += count.parse::<usize>().unwrap();
            let tower =
                ImageTower::read(&serde_json::from_str(config)?).and_then(|tower| tower.architecture.validate());
            if let Err(e) = tower {
                refused.push(format!("{name} ({count}): {e}"));
            }
        }
        assert_eq!(tags, 196);
        assert!(refused.len() == 1 && refused[0].starts_with("ViTamin-XL-384 (1): image_size is 256"), "{refused:#?}");
        Ok(())
    }
}

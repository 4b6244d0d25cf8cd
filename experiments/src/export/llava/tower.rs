//! The encoder as a vision tower of `transformers`: `SiglipVisionModel` for vision transformers without a class token,
//! `CLIPVisionModel` for those with one and a norm before the blocks.

use crate::export::shards::{PlannedTensor, Shards};
use burgess_base::{Error, Result};
use burgess_encoders::arch::{Architecture, ArchitectureConfig, NormKind, QkNorm, Tokens, Vit, VitConfig};
use burgess_encoders::card::EncoderCard;
use burgess_encoders::checkpoint::{Dialect, parameters, visit_parameters};
use burgess_encoders::operands::Activation;
use burgess_probe::exported::TOWER;
use burn::tensor::{Device, Tensor};
use serde_json::{Value, json};
use std::collections::HashMap;

/// The class of a vision tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TowerClass {
    Clip,
    Siglip,
}

impl TowerClass {
    /// Names of its tensors.
    fn dialect(self) -> &'static str {
        match self {
            Self::Clip => "transformers-clip",
            Self::Siglip => "transformers-siglip",
        }
    }

    fn model_type(self) -> &'static str {
        match self {
            Self::Clip => "clip_vision_model",
            Self::Siglip => "siglip_vision_model",
        }
    }
}

/// An encoder that `transformers` can compute.
#[derive(Clone, Debug)]
pub struct Tower {
    class: TowerClass,
    /// The network as it is exported.
    config: VitConfig,
    /// The tapped layers, counted from the back.
    layers: Vec<i64>,
    /// Whether the final norm is applied to the tapped layer.
    norm: bool,
    /// Whether the class token is one of the features.
    class_feature: bool,
    /// What is added to every normalised channel before the patch embedding.
    pub shift: [f64; 3],
}

impl Tower {
    /// Plans the tower of an encoder; an error says in words why none of the classes computes it.
    pub fn plan(card: &EncoderCard) -> std::result::Result<Self, String> {
        let ArchitectureConfig::Vit(own) = &card.architecture else {
            return Err(format!("{} is no plain vision transformer, as CLIP's and SigLIP's are", card.id));
        };
        let grid = card.native_grid().map_err(|e| e.to_string())?;
        let obstacles = [
            (own.distillation_token, "a distillation token"),
            (own.registers > 0, "register tokens"),
            (own.class_tokens > 1, "several class tokens"),
            (own.qk_norm != QkNorm::None, "norms of queries and keys"),
            (own.norm != NormKind::Layer, "norms other than layer norms"),
            (own.patch_norm, "a norm after the patch embedding"),
            (!own.proj_bias, "no biases of the output projection and the MLP"),
            (own.relative_positions, "relative position biases"),
            (own.inner_norms || own.mlp_norm, "norms inside its blocks"),
            (own.post_norm, "norms at the end of its branches"),
            (own.rotary.is_some(), "rotary position embeddings"),
            (!own.absolute_positions, "no learned position embeddings"),
            (!own.qkv_bias, "no biases of queries, keys and values"),
            (own.activation == Activation::Swiglu, "SwiGLU"),
            (own.position_grid.is_some_and(|side| [side; 2] != grid), "position embeddings of another grid"),
            (card.grid.is_some_and(|used| used != grid), "features that are resampled to another grid"),
            (card.tiling.is_some(), "images that are cut into tiles"),
            (card.preprocess.native.is_some(), "images that keep their aspect ratio"),
            (card.normalise.is_some(), "features that are normalised"),
            (card.tap.grid.is_some(), "layers that are resampled to another grid"),
        ];
        if let Some((_, what)) = obstacles.iter().find(|(is, _)| *is) {
            return Err(format!("{} has {what}, which CLIP and SigLIP do not have", card.id));
        }
        let class = match (own.class_token, own.pre_norm) {
            (true, true) if !own.patch_bias && own.pos_embed_class => TowerClass::Clip,
            (false, false) => TowerClass::Siglip,
            (true, _) => {
                return Err(format!(
                    "{} has a class token, but otherwise not CLIP's form (a norm before the blocks, no bias of patches)",
                    card.id
                ));
            }
            (false, true) => {
                return Err(format!(
                    "{} has a norm before its blocks and no class token: CLIP has both, SigLIP has neither",
                    card.id
                ));
            }
        };
        let depth = own.depth as i64;
        let listed = if card.tap.layers.is_empty() { vec![card.tap.layer] } else { card.tap.layers.clone() };
        let from_back = |layer: i32| if layer < 0 { i64::from(layer) } else { i64::from(layer) - depth };
        let layers: Vec<i64> = listed.into_iter().map(from_back).collect();
        if card.tap.norm && (class == TowerClass::Clip || layers != [-1]) {
            return Err(format!(
                "{} is tapped with its final norm{}",
                card.id,
                if class == TowerClass::Clip {
                    ", which CLIP applies to the class token only"
                } else {
                    " at another layer than the last"
                }
            ));
        }
        // The layer scales are multiplied into the layers before them, and the patch embedding of SigLIP has a bias.
        let patch_bias = class == TowerClass::Siglip;
        let config = VitConfig { layer_scale: None, patch_bias, ..own.clone() };
        let class_feature = card.tap.tokens == Tokens::PatchAndClass;
        Ok(Self { class, config, layers, norm: card.tap.norm, class_feature, shift: [0.0; 3] })
    }

    /// The card of the exported encoder, whose weights have other names and values than the original.
    pub fn card(&self, original: &EncoderCard) -> EncoderCard {
        let mut card = original.clone();
        card.architecture = ArchitectureConfig::Vit(self.config.clone());
        card.source.dialect = self.class.dialect().into();
        card.source.prefix = Some(TOWER.into());
        card
    }

    /// Side of a patch in pixels.
    pub fn patch(&self) -> usize {
        self.config.patch
    }

    /// Number of image tokens.
    pub fn tokens(&self) -> usize {
        let [rows, columns] = self.config.grid();
        rows * columns + usize::from(self.class_feature)
    }

    /// `vision_feature_select_strategy` of LLaVA: whether its first token is left out.
    pub fn select_strategy(&self) -> &'static str {
        if self.class == TowerClass::Clip && !self.class_feature { "default" } else { "full" }
    }

    /// `num_additional_image_tokens` of LLaVA's processor: tokens of the tower beside the patches.
    pub fn additional_tokens(&self) -> usize {
        usize::from(self.class == TowerClass::Clip)
    }

    /// `vision_feature_layer` of LLaVA.
    pub fn feature_layer(&self) -> Value {
        match self.layers.as_slice() {
            [one] => json!(one),
            several => json!(several),
        }
    }

    /// `vision_config` of LLaVA.
    pub fn vision_config(&self) -> Value {
        let own = &self.config;
        let mut config = json!({
            "model_type": self.class.model_type(),
            "hidden_size": own.width,
            "intermediate_size": own.mlp_hidden,
            "num_hidden_layers": own.depth,
            "num_attention_heads": own.heads,
            "num_channels": 3,
            "image_size": own.image_size,
            "patch_size": own.patch,
            "hidden_act": activation(own.activation),
            "layer_norm_eps": own.norm_eps,
            "attention_dropout": 0.0,
        });
        if let Some(fields) = config.as_object_mut() {
            match self.class {
                TowerClass::Siglip => drop(fields.insert("vision_use_head".into(), json!(false))),
                TowerClass::Clip => drop(fields.insert("projection_dim".into(), json!(own.width))),
            }
            if self.norm {
                // The last hidden state is that after the final norm.
                fields.insert("tie_last_hidden_states".into(), json!(true));
            }
        }
        config
    }

    /// Lists the tensors of the tower.
    ///
    /// # Errors
    /// A parameter has no name in the class.
    pub fn planned(&self) -> Result<Vec<PlannedTensor>> {
        let network = ArchitectureConfig::Vit(self.config.clone()).init(&Device::flex())?;
        let (dialect, listed) = (Dialect::find(self.class.dialect())?, parameters(&network)?);
        let shapes: HashMap<&str, &[usize]> = listed.iter().map(|p| (p.path.as_str(), p.shape.as_slice())).collect();
        let mut planned = Vec::new();
        for parameter in &listed {
            let source = dialect.source(&parameter.path, &parameter.shape, &|path| shapes.get(path).copied())?;
            let named = source.keys.iter().map(|key| PlannedTensor::f32(format!("{TOWER}{key}"), &source.shape));
            planned.extend(named);
        }
        if !self.config.final_norm {
            planned.extend(FINAL_NORM.map(|(name, _)| PlannedTensor::f32(name, &[self.config.width])));
        }
        Ok(planned)
    }

    /// Writes the weights of the network into the files.
    ///
    /// # Errors
    /// The network is not that of the card, or a file cannot be written.
    pub fn write(&self, network: &Architecture, shards: &mut Shards) -> Result<()> {
        let Architecture::Vit(vit) = network else {
            return Err(Error::failed("the encoder is no vision transformer, although its card is that of one"));
        };
        let dialect = Dialect::find(self.class.dialect())?;
        let shift = self.shifted_patches(vit)?;
        let scales = layer_scales(vit)?;
        let mut put = |path: &str, shape: &[usize], values: &[f32]| -> Result<()> {
            let source = dialect.source(path, shape, &|_| None)?;
            let size: usize = source.shape.iter().product();
            for (part, key) in source.keys.iter().enumerate() {
                let values = values.get(part * size..(part + 1) * size).unwrap_or_default();
                shards.put_f32(&format!("{TOWER}{key}"), values)?;
            }
            Ok(())
        };
        if self.config.patch_bias && vit.patch_embed.proj.bias.is_none() {
            put("patch_embed.proj.bias", &[self.config.width], &shift)?;
        }
        visit_parameters(network, |parameter, mut values| {
            let path = parameter.path.as_str();
            if path.ends_with(".ls1.gamma") || path.ends_with(".ls2.gamma") {
                return Ok(());
            }
            if let Some(scale) = path.rsplit_once('.').and_then(|(layer, _)| scales.get(layer)) {
                let row = values.len() / scale.len().max(1);
                for (row, factor) in values.chunks_mut(row.max(1)).zip(scale) {
                    row.iter_mut().for_each(|v| *v *= factor);
                }
            }
            match path {
                "patch_embed.proj.bias" => values.iter_mut().zip(&shift).for_each(|(v, s)| *v += s),
                // Without a bias the shift is part of the position embeddings of the patches.
                "pos_embed" if !self.config.patch_bias => {
                    let width = self.config.width.max(1);
                    let prefix = usize::from(self.config.class_token);
                    for row in values.chunks_mut(width).skip(prefix) {
                        row.iter_mut().zip(&shift).for_each(|(v, s)| *v += s);
                    }
                }
                _ => {}
            }
            put(path, &parameter.shape, &values)
        })?;
        if !self.config.final_norm {
            for (name, value) in FINAL_NORM {
                shards.put_f32(name, &vec![value; self.config.width])?;
            }
        }
        Ok(())
    }

    /// What the shift of the pixels adds to every patch embedding, `[width]`.
    fn shifted_patches(&self, vit: &Vit) -> Result<Vec<f32>> {
        let weight = vit.patch_embed.proj.weight.val();
        let [width, channels, rows, columns] = weight.dims();
        let values = to_host(weight)?;
        let (plane, shift) = (rows * columns, self.shift);
        let of_output = |kernel: &[f32]| -> f32 {
            let channels = kernel.chunks(plane.max(1)).zip(shift);
            channels.map(|(w, s)| w.iter().map(|w| f64::from(*w)).sum::<f64>() * s).sum::<f64>() as f32
        };
        let sums: Vec<f32> = values.chunks((channels * plane).max(1)).map(of_output).collect();
        match sums.len() == width {
            true => Ok(sums),
            false => Err(Error::failed("the patch embedding has another number of outputs than its shape states")),
        }
    }
}

/// The norm after the blocks of a network that has none: the identity up to the norm itself, which is not used.
const FINAL_NORM: [(&str, f32); 2] =
    [("vision_tower.vision_model.post_layernorm.weight", 1.0), ("vision_tower.vision_model.post_layernorm.bias", 0.0)];

/// The layer scales of a network, by the layer whose output they scale.
fn layer_scales(vit: &Vit) -> Result<HashMap<String, Vec<f32>>> {
    let mut scales = HashMap::new();
    for (i, block) in vit.blocks.iter().enumerate() {
        for (scale, layer) in [(&block.ls1, "attn.proj"), (&block.ls2, "mlp.fc2")] {
            if let Some(scale) = scale {
                scales.insert(format!("blocks.{i}.{layer}"), to_host(scale.gamma.val())?);
            }
        }
    }
    Ok(scales)
}

fn to_host<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor.into_data().try_into_vec_as::<f32>().map_err(|e| Error::failed(format!("reading weights: {e:?}")))
}

/// Name of an activation in `transformers`.
fn activation(activation: Activation) -> &'static str {
    match activation {
        Activation::Gelu => "gelu",
        Activation::Silu | Activation::Swiglu => "silu",
        Activation::QuickGelu => "quick_gelu",
        Activation::GeluTanh => "gelu_pytorch_tanh",
    }
}

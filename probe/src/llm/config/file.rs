//! Reads and writes the `config.json` of a language model.

use super::{Activation, DecoderFamily, LayerType, LlmConfig, MoeConfig};
use crate::llm::family::{LocalTheta, MlpBias, RopeLayers, SlidingLayers, Softcaps};
use crate::llm::rope::RopeScaling;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

/// The result of reading keys; the error names the key.
type Read<T> = Result<T, String>;

/// The keys of a `config.json`; each accessor returns an error that names the key.
struct Keys<'a>(&'a Map<String, Value>);

impl Keys<'_> {
    /// A non-negative integer; `None` if the key is absent or null.
    fn size(&self, key: &str) -> Read<Option<usize>> {
        let wrong = |value: &Value| format!("`{key}` is {}, expected a whole number from 0", shown(value));
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value @ Value::Number(n)) => {
                let whole = n.as_f64().filter(|x| x.fract() == 0.0 && (0.0..9e15).contains(x)).map(|x| x as u64);
                let size = n.as_u64().or(whole).ok_or_else(|| wrong(value))?;
                usize::try_from(size).map(Some).map_err(|_| wrong(value))
            }
            Some(value) => Err(wrong(value)),
        }
    }

    /// A non-negative integer that must be present.
    fn needed(&self, key: &str) -> Read<usize> {
        self.size(key)?.ok_or_else(|| format!("`{key}` is missing"))
    }

    /// A number; `None` if the key is absent or null.
    fn number(&self, key: &str) -> Read<Option<f64>> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                value.as_f64().map(Some).ok_or_else(|| format!("`{key}` is {}, expected a number", shown(value)))
            }
        }
    }

    /// A number with a default if absent; null (as which NaN and infinities arrive) is an error.
    fn set(&self, key: &str, default: f64) -> Read<f64> {
        match self.0.get(key) {
            Some(Value::Null) => Err(format!("`{key}` is null (or NaN), expected a number")),
            _ => Ok(self.number(key)?.unwrap_or(default)),
        }
    }

    /// A boolean; `None` if the key is absent or null.
    fn flag(&self, key: &str) -> Read<Option<bool>> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(value) => Err(format!("`{key}` is {}, expected true or false", shown(value))),
        }
    }

    /// A list of non-negative integers or booleans; `None` if the key is absent or null.
    fn sizes(&self, key: &str) -> Read<Option<Vec<usize>>> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let list = value.as_array().and_then(|list| {
                    list.iter().map(|n| n.as_u64().or(n.as_bool().map(u64::from))).collect::<Option<Vec<u64>>>()
                });
                let list =
                    list.ok_or_else(|| format!("`{key}` is {}, expected a list of whole numbers", shown(value)))?;
                Ok(Some(list.into_iter().map(|n| n as usize).collect()))
            }
        }
    }

    /// A string; `None` if the key is absent or null.
    fn text(&self, key: &str) -> Read<Option<&str>> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(value) => Err(format!("`{key}` is {}, expected a string", shown(value))),
        }
    }
}

/// A value as shown in an error message.
fn shown(value: &Value) -> String {
    burgess_base::text::excerpt(&value.to_string(), 60)
}

impl TryFrom<Map<String, Value>> for LlmConfig {
    type Error = String;

    fn try_from(map: Map<String, Value>) -> Read<Self> {
        let keys = Keys(&map);
        let family = keys.text("model_type")?.map_or(Ok(DecoderFamily::llama()), DecoderFamily::named)?;
        reject_unsupported(&keys, family)?;
        let layers = keys.needed("num_hidden_layers")?;
        // Lists of this length are allocated below.
        const MOST_LAYERS: usize = 10_000;
        if layers > MOST_LAYERS {
            return Err(format!("`num_hidden_layers` is {layers}, must be at most {MOST_LAYERS}"));
        }
        let longest = keys.size("max_position_embeddings")?;
        let mut rope = Rotary::of(&keys, family)?;
        if let Some(scaling) = &mut rope.scaling {
            scaling.complete(keys.size("original_max_position_embeddings")?, longest)?;
        }
        let use_sliding_window = keys.flag("use_sliding_window")?.unwrap_or(false);
        let window = match map.contains_key("sliding_window") {
            true => keys.size("sliding_window")?,
            false => family.window,
        };
        let layer_types = layer_types(&keys, family, layers, use_sliding_window)?;
        // Qwen writes a window even if it is not used.
        let unused = family.sliding.is_optional() && !use_sliding_window;
        let slides = layer_types.as_ref().is_none_or(|types| types.contains(&LayerType::Sliding));
        let local = match family.local_theta {
            LocalTheta::Same => None,
            LocalTheta::Unscaled(theta) => Some(rope.local.unwrap_or(theta)),
            LocalTheta::UnscaledGlobal => Some(rope.local.or(rope.theta).unwrap_or(family.theta)),
        };
        let activation = match keys.text(family.activation_key)? {
            Some(name) => Some(name),
            None => keys.text("hidden_act")?,
        };
        let attention_bias = match family.attention_bias_key {
            Some(key) => keys.flag(key)?.unwrap_or(family.attention_bias),
            None => family.attention_bias,
        };
        let mlp_bias = match family.mlp_bias {
            MlpBias::Never => false,
            MlpBias::Key => keys.flag("mlp_bias")?.unwrap_or(false),
            MlpBias::WithAttention => attention_bias,
        };
        let softcap = |i: usize| -> Read<Option<f64>> {
            match family.softcaps {
                Softcaps::Default(caps) if !map.contains_key(SOFTCAPS[i]) => Ok(Some(caps[i])),
                Softcaps::Default(_) | Softcaps::Optional | Softcaps::Unsupported => keys.number(SOFTCAPS[i]),
            }
        };
        let multiplier = |key: &str| -> Read<Option<f64>> {
            if family.multipliers { Ok(Some(keys.set(key, 1.0)?)) } else { Ok(None) }
        };
        let logit_scale = family.logit_scale.map(|scale| keys.set("logit_scale", scale)).transpose()?;
        Ok(Self {
            model_type: family,
            hidden_size: keys.needed("hidden_size")?,
            intermediate_size: keys.needed("intermediate_size")?,
            num_hidden_layers: layers,
            num_attention_heads: keys.needed("num_attention_heads")?,
            num_key_value_heads: keys.size("num_key_value_heads")?,
            vocab_size: keys.needed("vocab_size")?,
            rms_norm_eps: family.eps_key.map_or(Ok(family.eps), |key| keys.set(key, family.eps))?,
            rope_theta: rope.theta.unwrap_or(family.theta),
            rope_scaling: rope.scaling,
            rope_local_base_freq: local,
            no_rope_layers: no_rope_layers(&keys, family, layers)?,
            partial_rotary_factor: rope.fraction.unwrap_or(family.rotary_fraction),
            tie_word_embeddings: keys.flag("tie_word_embeddings")?.unwrap_or(family.tied),
            max_position_embeddings: longest.unwrap_or(2048),
            head_dim: keys.size("head_dim")?.or(family.head_dim),
            initializer_range: keys.set("initializer_range", 0.02)?,
            activation: activation.map_or(Ok(family.activation), Activation::named)?,
            attention_bias,
            attention_out_bias: family.attention_out_bias && keys.flag("attention_out_bias")?.unwrap_or(false),
            mlp_bias,
            sliding_window: window.filter(|_| !unused && slides),
            use_sliding_window,
            layer_types: layer_types.filter(|_| !unused),
            query_pre_attn_scalar: keys.number("query_pre_attn_scalar")?.or(family.query_pre_attn_scalar),
            attention_multiplier: multiplier("attention_multiplier")?,
            attn_logit_softcapping: softcap(0)?,
            final_logit_softcapping: softcap(1)?,
            logit_scale,
            logits_scaling: multiplier("logits_scaling")?,
            embedding_multiplier: multiplier("embedding_multiplier")?,
            residual_multiplier: multiplier("residual_multiplier")?,
            clip_qkv: keys.number("clip_qkv")?.filter(|_| family.clip_qkv),
            experts: experts(&keys, family)?,
        })
    }
}

/// The keys of the soft caps, in the order of [`Softcaps::Default`].
const SOFTCAPS: [&str; 2] = ["attn_logit_softcapping", "final_logit_softcapping"];

/// Rejects keys that describe a network which the decoder does not support.
fn reject_unsupported(keys: &Keys<'_>, family: &DecoderFamily) -> Read<()> {
    let is_true = |key: &str| -> Read<bool> { Ok(keys.flag(key)? == Some(true)) };
    let no_softcaps = family.softcaps == Softcaps::Unsupported;
    let found = [
        (
            "use_bidirectional_attention",
            keys.0.get("use_bidirectional_attention").is_some_and(|v| *v == Value::Bool(true)),
        ),
        (SOFTCAPS[1], no_softcaps && keys.number(SOFTCAPS[1])?.is_some()),
        (SOFTCAPS[0], no_softcaps && keys.number(SOFTCAPS[0])?.is_some()),
        ("use_qk_norm", is_true("use_qk_norm")?),
        ("qk_layernorm", is_true("qk_layernorm")?),
        ("use_parallel_residual", is_true("use_parallel_residual")?),
        (
            "use_sliding_window",
            family.sliding == SlidingLayers::Ambiguous
                && is_true("use_sliding_window")?
                && !keys.0.contains_key("layer_types"),
        ),
    ];
    if let Some((key, _)) = found.iter().find(|(_, found)| *found) {
        return Err(format!("`{key}` is set, which the decoder does not support for `{}`", family.name));
    }
    for (key, required) in family.required_flags {
        if keys.flag(key)?.is_some_and(|flag| flag != *required) {
            return Err(format!("`{key}` = {} is not supported, expected {required}", !required));
        }
    }
    Ok(())
}

/// The attention range of each layer; `None` if all layers are alike.
fn layer_types(
    keys: &Keys<'_>,
    family: &DecoderFamily,
    layers: usize,
    use_sliding_window: bool,
) -> Read<Option<Vec<LayerType>>> {
    if let Some(written) = keys.0.get("layer_types").filter(|value| !value.is_null()) {
        let types = serde_json::from_value(written.clone());
        return types.map(Some).map_err(|_| {
            format!("`layer_types` is {}, expected a list of full_attention and sliding_attention", shown(written))
        });
    }
    let by = |slides: &dyn Fn(usize) -> bool| {
        Some((0..layers).map(|i| if slides(i) { LayerType::Sliding } else { LayerType::Full }).collect())
    };
    if family.sliding.is_optional() && !use_sliding_window {
        return Ok(None);
    }
    Ok(match family.sliding {
        SlidingLayers::All | SlidingLayers::AllIfUsed => None,
        SlidingLayers::WithoutRope => {
            let rotates = no_rope_layers(keys, family, layers)?.unwrap_or_default();
            by(&|i| rotates.get(i) == Some(&0))
        }
        // Rejected above if `layer_types` is missing; a null of it counts from `max_window_layers`.
        SlidingLayers::FromMaxWindowLayers | SlidingLayers::Ambiguous => {
            let first = keys.size("max_window_layers")?.unwrap_or(28);
            by(&|i| i >= first)
        }
        SlidingLayers::AllBut(n) => {
            let pattern = keys.size("sliding_window_pattern")?.or(keys.size("_sliding_window_pattern")?);
            let pattern = pattern.filter(|p| *p > 0).unwrap_or(n);
            by(&|i| !(i + 1).is_multiple_of(pattern))
        }
    })
}

/// SmolLM 3's list: 1 for layers with rotary embedding, 0 for those without. `None` for other families.
fn no_rope_layers(keys: &Keys<'_>, family: &DecoderFamily, layers: usize) -> Read<Option<Vec<usize>>> {
    if family.rope_layers != RopeLayers::Listed {
        return Ok(None);
    }
    if let Some(written) = keys.sizes("no_rope_layers")? {
        return Ok(Some(written));
    }
    let interval = keys.size("no_rope_layer_interval")?.unwrap_or(4);
    if interval == 0 {
        return Err("`no_rope_layer_interval` is 0, must be at least 1".into());
    }
    Ok(Some((0..layers).map(|i| usize::from(!(i + 1).is_multiple_of(interval))).collect()))
}

/// The mixture of experts, if the family has one.
fn experts(keys: &Keys<'_>, family: &DecoderFamily) -> Read<Option<MoeConfig>> {
    let Some(moe) = family.experts else { return Ok(None) };
    let count = match keys.size("num_experts")? {
        Some(count) => Some(count),
        None => keys.size("num_local_experts")?,
    };
    let width = keys.needed(moe.width)?;
    let shared = if moe.shared { Some(keys.needed("shared_expert_intermediate_size")?) } else { None };
    Ok(Some(MoeConfig {
        count: count.ok_or("`num_experts` is missing")?,
        active: keys.needed("num_experts_per_tok")?,
        width,
        shared,
        normalised: moe.always_normalised || keys.flag("norm_topk_prob")?.unwrap_or(false),
        dense_layers: if moe.dense_layers { keys.sizes("mlp_only_layers")?.unwrap_or_default() } else { Vec::new() },
        step: if moe.dense_layers { keys.size("decoder_sparse_step")?.unwrap_or(1) } else { 1 },
    }))
}

/// The settings of the rotary embedding, from either of the two formats.
struct Rotary {
    /// Base of the angles.
    theta: Option<f64>,
    /// Base of the angles in sliding layers.
    local: Option<f64>,
    /// Fraction of a head's channels that are rotated.
    fraction: Option<f64>,
    scaling: Option<RopeScaling>,
}

impl Rotary {
    fn of(keys: &Keys<'_>, family: &DecoderFamily) -> Read<Self> {
        let theta = match keys.0.contains_key("rope_theta") {
            true => Some(keys.set("rope_theta", family.theta)?),
            false => None,
        };
        let mut found = Self {
            theta,
            local: keys.number("rope_local_base_freq")?,
            fraction: keys.number("partial_rotary_factor")?,
            scaling: keys.0.get("rope_scaling").map(RopeScaling::read).transpose()?.flatten(),
        };
        let Some(parameters) = keys.0.get("rope_parameters").filter(|value| !value.is_null()) else { return Ok(found) };
        // One table, or one per layer type.
        let full = parameters.get("full_attention").unwrap_or(parameters);
        let number = |table: &Value, key: &str| match table.get(key) {
            None => Ok(None),
            Some(value) => value
                .as_f64()
                .map(Some)
                .ok_or_else(|| format!("`rope_parameters`: `{key}` is {}, expected a number", shown(value))),
        };
        found.theta = number(full, "rope_theta")?.or(found.theta);
        found.fraction = number(full, "partial_rotary_factor")?.or(found.fraction);
        found.scaling = RopeScaling::read(full)?.or(found.scaling);
        if let Some(sliding) = parameters.get("sliding_attention") {
            if RopeScaling::read(sliding)?.is_some() {
                return Err("`rope_parameters`: scaled angles in `sliding_attention` are not supported".into());
            }
            found.local = number(sliding, "rope_theta")?.or(found.local);
        }
        Ok(found)
    }
}

/// Writes the names of `transformers` 4 and leaves out values that equal the class's defaults.
impl Serialize for LlmConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let family = self.model_type;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model_type", family.name)?;
        map.serialize_entry("hidden_size", &self.hidden_size)?;
        map.serialize_entry("intermediate_size", &self.intermediate_size)?;
        map.serialize_entry("num_hidden_layers", &self.num_hidden_layers)?;
        map.serialize_entry("num_attention_heads", &self.num_attention_heads)?;
        if let Some(heads) = self.num_key_value_heads {
            map.serialize_entry("num_key_value_heads", &heads)?;
        }
        map.serialize_entry("vocab_size", &self.vocab_size)?;
        if let Some(key) = family.eps_key {
            map.serialize_entry(key, &self.rms_norm_eps)?;
        }
        map.serialize_entry("rope_theta", &self.rope_theta)?;
        if let Some(scaling) = &self.rope_scaling {
            map.serialize_entry("rope_scaling", scaling)?;
        }
        if let Some(theta) = self.rope_local_base_freq {
            map.serialize_entry("rope_local_base_freq", &theta)?;
        }
        if let Some(layers) = &self.no_rope_layers {
            map.serialize_entry("no_rope_layers", layers)?;
        }
        if self.partial_rotary_factor != family.rotary_fraction {
            map.serialize_entry("partial_rotary_factor", &self.partial_rotary_factor)?;
        }
        map.serialize_entry("tie_word_embeddings", &self.tie_word_embeddings)?;
        map.serialize_entry("max_position_embeddings", &self.max_position_embeddings)?;
        if let Some(width) = self.head_dim {
            map.serialize_entry("head_dim", &width)?;
        }
        map.serialize_entry("initializer_range", &self.initializer_range)?;
        map.serialize_entry("hidden_act", self.activation.name())?;
        if family.activation_key != "hidden_act" && self.activation != family.activation {
            map.serialize_entry(family.activation_key, self.activation.name())?;
        }
        if let Some(key) = family.attention_bias_key
            && (key != "attention_bias" || self.attention_bias != family.attention_bias)
        {
            map.serialize_entry(key, &self.attention_bias)?;
        }
        if self.attention_out_bias {
            map.serialize_entry("attention_out_bias", &true)?;
        }
        if self.mlp_bias && family.mlp_bias != MlpBias::WithAttention {
            map.serialize_entry("mlp_bias", &true)?;
        }
        if self.sliding_window.is_some() || family.window.is_some() {
            map.serialize_entry("sliding_window", &self.sliding_window)?;
        }
        if self.use_sliding_window {
            map.serialize_entry("use_sliding_window", &true)?;
        }
        if let Some(types) = &self.layer_types {
            map.serialize_entry("layer_types", types)?;
        }
        if let Some(scalar) = self.query_pre_attn_scalar {
            map.serialize_entry("query_pre_attn_scalar", &scalar)?;
        }
        for (key, cap) in SOFTCAPS.iter().zip([self.attn_logit_softcapping, self.final_logit_softcapping]) {
            if cap.is_some() || matches!(family.softcaps, Softcaps::Default(_)) {
                map.serialize_entry(key, &cap)?;
            }
        }
        let multipliers = [
            ("logit_scale", self.logit_scale),
            ("logits_scaling", self.logits_scaling),
            ("attention_multiplier", self.attention_multiplier),
            ("embedding_multiplier", self.embedding_multiplier),
            ("residual_multiplier", self.residual_multiplier),
            ("clip_qkv", self.clip_qkv),
        ];
        for (key, factor) in multipliers {
            if let Some(factor) = factor {
                map.serialize_entry(key, &factor)?;
            }
        }
        if let (Some(experts), Some(moe)) = (&self.experts, family.experts) {
            map.serialize_entry(moe.count, &experts.count)?;
            map.serialize_entry("num_experts_per_tok", &experts.active)?;
            if moe.width != "intermediate_size" {
                map.serialize_entry(moe.width, &experts.width)?;
            }
            if moe.dense_layers {
                map.serialize_entry("mlp_only_layers", &experts.dense_layers)?;
                map.serialize_entry("decoder_sparse_step", &experts.step)?;
            }
            if let Some(shared) = experts.shared {
                map.serialize_entry("shared_expert_intermediate_size", &shared)?;
            }
            if !moe.always_normalised {
                map.serialize_entry("norm_topk_prob", &experts.normalised)?;
            }
        }
        map.end()
    }
}

//! Reads and writes the `config.json` of a language model.

use super::config::{Experts, Gate, Layer, LlmConfig};
use super::family::{Design, Family, Sliding};
use super::rope::Scaling;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

type Read<T> = std::result::Result<T, String>;

/// The keys of a `config.json`; each accessor returns an error that names the key.
struct Keys<'a>(&'a Map<String, Value>);

impl Keys<'_> {
    /// A non-negative integer; `None` if the key is absent or null.
    fn size(&self, key: &str) -> Read<Option<usize>> {
        let wrong = |value: &Value| format!("`{key}` is {}, which is no whole number from 0", shown(value));
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

    fn needed(&self, key: &str) -> Read<usize> {
        self.size(key)?.ok_or_else(|| format!("`{key}` is missing"))
    }

    /// A number; `None` if the key is absent or null.
    fn number(&self, key: &str) -> Read<Option<f64>> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                value.as_f64().map(Some).ok_or_else(|| format!("`{key}` is {}, which is no number", shown(value)))
            }
        }
    }

    /// A number with a default if absent; null (as which NaN and infinities arrive) is an error.
    fn set(&self, key: &str, default: f64) -> Read<f64> {
        match self.0.get(key) {
            Some(Value::Null) => Err(format!("`{key}` is null (or NaN), which is no number")),
            _ => Ok(self.number(key)?.unwrap_or(default)),
        }
    }

    /// A boolean; `None` if the key is absent or null.
    fn flag(&self, key: &str) -> Read<Option<bool>> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(value) => Err(format!("`{key}` is {}, neither true nor false", shown(value))),
        }
    }

    fn sizes(&self, key: &str) -> Read<Option<Vec<usize>>> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let list = value.as_array().and_then(|list| {
                    list.iter().map(|n| n.as_u64().or(n.as_bool().map(u64::from))).collect::<Option<Vec<u64>>>()
                });
                let list = list.ok_or_else(|| format!("`{key}` is {}, no list of whole numbers", shown(value)))?;
                Ok(Some(list.into_iter().map(|n| n as usize).collect()))
            }
        }
    }

    fn text(&self, key: &str) -> Read<Option<&str>> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(value) => Err(format!("`{key}` is {}, which is no text", shown(value))),
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
        let family = keys.text("model_type")?.map_or(Ok(Family::default()), Family::named)?;
        let design = family.design();
        unsupported(&keys, family)?;
        let layers = keys.needed("num_hidden_layers")?;
        // Lists of this length are allocated below.
        const MOST_LAYERS: usize = 10_000;
        if layers > MOST_LAYERS {
            return Err(format!("`num_hidden_layers` is {layers}, more than any model has (at most {MOST_LAYERS})"));
        }
        let gemma = matches!(family, Family::Gemma2 | Family::Gemma3);
        let capped = family == Family::Gemma2;
        let longest = keys.size("max_position_embeddings")?;
        let mut rope = Rotary::of(&keys, design)?;
        if let Some(scaling) = &mut rope.scaling {
            scaling.complete(keys.size("original_max_position_embeddings")?, longest)?;
        }
        let use_sliding_window = keys.flag("use_sliding_window")?.unwrap_or(false);
        let window = match map.contains_key("sliding_window") {
            true => keys.size("sliding_window")?,
            false => design.window,
        };
        let layer_types = layer_types(&keys, design, layers, use_sliding_window)?;
        // Qwen writes a window even if it is not used.
        let unused = design.sliding == Sliding::Asked && !use_sliding_window;
        let slides = layer_types.as_ref().is_none_or(|types| types.contains(&Layer::Sliding));
        let local = match family {
            Family::Gemma3 => Some(rope.local.unwrap_or(1e4)),
            Family::Olmo3 => Some(rope.local.or(rope.theta).unwrap_or(design.theta)),
            _ => None,
        };
        let gate = match keys.text(design.act_key)? {
            Some(name) => Some(name),
            None => keys.text("hidden_act")?,
        };
        let bias_key = match family {
            Family::Starcoder2 => "use_bias",
            Family::StableLm => "use_qkv_bias",
            Family::Qwen2Moe => "qkv_bias",
            _ => "attention_bias",
        };
        // The class of Qwen 2 with experts has biases by default.
        if family == Family::Qwen2Moe && keys.flag(bias_key)? == Some(false) {
            return Err("`qkv_bias` = false is not supported".into());
        }
        let attention_bias = keys.flag(bias_key)?.unwrap_or(design.attention_bias) && family != Family::Qwen2Moe;
        let mlp_bias = match family {
            Family::Starcoder2 => attention_bias,
            Family::Llama
            | Family::SmolLm3
            | Family::Granite
            | Family::Helium
            | Family::Nemotron
            | Family::Arcee
            | Family::SeedOss => keys.flag("mlp_bias")?.unwrap_or(false),
            _ => false,
        };
        let cap = |key: &str, default: f64| -> Read<Option<f64>> {
            match map.contains_key(key) {
                true => keys.number(key),
                false => Ok(capped.then_some(default)),
            }
        };
        let granite = |key: &str| -> Read<Option<f64>> {
            if family == Family::Granite { Ok(Some(keys.set(key, 1.0)?)) } else { Ok(None) }
        };
        let logit_scale = match family {
            Family::Cohere | Family::Cohere2 => Some(keys.set("logit_scale", 0.0625)?),
            _ => None,
        };
        Ok(Self {
            model_type: family,
            hidden_size: keys.needed("hidden_size")?,
            intermediate_size: keys.needed("intermediate_size")?,
            num_hidden_layers: layers,
            num_attention_heads: keys.needed("num_attention_heads")?,
            num_key_value_heads: keys.size("num_key_value_heads")?,
            vocab_size: keys.needed("vocab_size")?,
            rms_norm_eps: design.eps_key.map_or(Ok(design.eps), |key| keys.set(key, design.eps))?,
            rope_theta: rope.theta.unwrap_or(design.theta),
            rope_scaling: rope.scaling,
            rope_local_base_freq: local,
            no_rope_layers: no_rope_layers(&keys, family, layers)?,
            partial_rotary_factor: rope.share.unwrap_or(design.share),
            tie_word_embeddings: keys.flag("tie_word_embeddings")?.unwrap_or(design.tied),
            max_position_embeddings: longest.unwrap_or(2048),
            head_dim: keys.size("head_dim")?.or(design.head_dim),
            initializer_range: keys.set("initializer_range", 0.02)?,
            gate: gate.map_or(Ok(design.gate), Gate::named)?,
            attention_bias,
            attention_out_bias: family == Family::SeedOss && keys.flag("attention_out_bias")?.unwrap_or(false),
            mlp_bias,
            sliding_window: window.filter(|_| !unused && slides),
            use_sliding_window,
            layer_types: layer_types.filter(|_| !unused),
            query_pre_attn_scalar: keys.number("query_pre_attn_scalar")?.or(gemma.then_some(256.0)),
            attention_multiplier: granite("attention_multiplier")?,
            attn_logit_softcapping: cap("attn_logit_softcapping", 50.0)?,
            final_logit_softcapping: cap("final_logit_softcapping", 30.0)?,
            logit_scale,
            logits_scaling: granite("logits_scaling")?,
            embedding_multiplier: granite("embedding_multiplier")?,
            residual_multiplier: granite("residual_multiplier")?,
            clip_qkv: keys.number("clip_qkv")?.filter(|_| matches!(family, Family::Olmo | Family::Olmoe)),
            experts: experts(&keys, family)?,
        })
    }
}

/// Rejects keys that ask for an unsupported network.
fn unsupported(keys: &Keys<'_>, family: Family) -> Read<()> {
    let gemma = matches!(family, Family::Gemma2 | Family::Gemma3);
    let caps = ["final_logit_softcapping", "attn_logit_softcapping"];
    let asked = [
        (
            "use_bidirectional_attention",
            keys.0.get("use_bidirectional_attention").is_some_and(|v| *v == Value::Bool(true)),
        ),
        (caps[0], !gemma && keys.number(caps[0])?.is_some()),
        (caps[1], !gemma && keys.number(caps[1])?.is_some()),
        ("use_qk_norm", keys.flag("use_qk_norm")? == Some(true)),
        ("qk_layernorm", keys.flag("qk_layernorm")? == Some(true)),
        ("use_parallel_residual", keys.flag("use_parallel_residual")? == Some(true)),
        // Which layers this key refers to differs between versions of `transformers`.
        (
            "use_sliding_window",
            family == Family::Qwen2Moe
                && keys.flag("use_sliding_window")? == Some(true)
                && !keys.0.contains_key("layer_types"),
        ),
    ];
    match asked.iter().find(|(_, asked)| *asked) {
        Some((key, _)) => Err(format!("`{key}` is set, which the {} decoder here does not have", family.design().name)),
        None => Ok(()),
    }
}

/// The attention range of each layer; `None` if all layers are alike.
fn layer_types(keys: &Keys<'_>, design: &Design, layers: usize, asked: bool) -> Read<Option<Vec<Layer>>> {
    if let Some(written) = keys.0.get("layer_types").filter(|value| !value.is_null()) {
        let types = serde_json::from_value(written.clone());
        return types.map(Some).map_err(|_| {
            format!("`layer_types` is {}, a list of full_attention and sliding_attention was expected", shown(written))
        });
    }
    let by = |slides: &dyn Fn(usize) -> bool| {
        Some((0..layers).map(|i| if slides(i) { Layer::Sliding } else { Layer::Full }).collect())
    };
    Ok(match design.sliding {
        Sliding::All => None,
        Sliding::Asked if asked && design.name == "smollm3" => {
            let rotates = no_rope_layers(keys, Family::SmolLm3, layers)?.unwrap_or_default();
            by(&|i| rotates.get(i) == Some(&0))
        }
        Sliding::Asked if asked && design.name != "qwen3_moe" => {
            let first = keys.size("max_window_layers")?.unwrap_or(28);
            by(&|i| i >= first)
        }
        Sliding::Asked => None,
        Sliding::AllBut(n) => {
            let pattern = keys.size("sliding_window_pattern")?.or(keys.size("_sliding_window_pattern")?);
            let pattern = pattern.filter(|p| *p > 0).unwrap_or(n);
            by(&|i| !(i + 1).is_multiple_of(pattern))
        }
    })
}

/// SmolLM 3's list: 1 for layers with rotary embedding, 0 for those without.
fn no_rope_layers(keys: &Keys<'_>, family: Family, layers: usize) -> Read<Option<Vec<usize>>> {
    if family != Family::SmolLm3 {
        return Ok(None);
    }
    if let Some(written) = keys.sizes("no_rope_layers")? {
        return Ok(Some(written));
    }
    let interval = keys.size("no_rope_layer_interval")?.unwrap_or(4);
    if interval == 0 {
        return Err("`no_rope_layer_interval` is 0".into());
    }
    Ok(Some((0..layers).map(|i| usize::from(!(i + 1).is_multiple_of(interval))).collect()))
}

/// The mixture of experts, if the family has one.
fn experts(keys: &Keys<'_>, family: Family) -> Read<Option<Experts>> {
    if !family.design().experts {
        return Ok(None);
    }
    let count = match keys.size("num_experts")? {
        Some(count) => Some(count),
        None => keys.size("num_local_experts")?,
    };
    let qwen = matches!(family, Family::Qwen2Moe | Family::Qwen3Moe);
    let width = if qwen { keys.needed("moe_intermediate_size")? } else { keys.needed("intermediate_size")? };
    let shared = match family {
        Family::Qwen2Moe => Some(keys.needed("shared_expert_intermediate_size")?),
        _ => None,
    };
    Ok(Some(Experts {
        count: count.ok_or("`num_experts` is missing")?,
        active: keys.needed("num_experts_per_tok")?,
        width,
        shared,
        normalised: family == Family::Mixtral || keys.flag("norm_topk_prob")?.unwrap_or(false),
        dense: if qwen { keys.sizes("mlp_only_layers")?.unwrap_or_default() } else { Vec::new() },
        step: if qwen { keys.size("decoder_sparse_step")?.unwrap_or(1) } else { 1 },
    }))
}

/// The settings of the rotary embedding, from either of the two formats.
struct Rotary {
    theta: Option<f64>,
    local: Option<f64>,
    share: Option<f64>,
    scaling: Option<Scaling>,
}

impl Rotary {
    fn of(keys: &Keys<'_>, design: &Design) -> Read<Self> {
        let theta = match keys.0.contains_key("rope_theta") {
            true => Some(keys.set("rope_theta", design.theta)?),
            false => None,
        };
        let mut found = Self {
            theta,
            local: keys.number("rope_local_base_freq")?,
            share: keys.number("partial_rotary_factor")?,
            scaling: keys.0.get("rope_scaling").map(Scaling::read).transpose()?.flatten(),
        };
        let Some(parameters) = keys.0.get("rope_parameters").filter(|value| !value.is_null()) else { return Ok(found) };
        // One table, or one per layer type.
        let full = parameters.get("full_attention").unwrap_or(parameters);
        let number = |table: &Value, key: &str| match table.get(key) {
            None => Ok(None),
            Some(value) => value
                .as_f64()
                .map(Some)
                .ok_or_else(|| format!("`rope_parameters`: `{key}` is {}, which is no number", shown(value))),
        };
        found.theta = number(full, "rope_theta")?.or(found.theta);
        found.share = number(full, "partial_rotary_factor")?.or(found.share);
        found.scaling = Scaling::read(full)?.or(found.scaling);
        if let Some(sliding) = parameters.get("sliding_attention") {
            if Scaling::read(sliding)?.is_some() {
                return Err("`rope_parameters`: stretched angles in sliding layers are not supported".into());
            }
            found.local = number(sliding, "rope_theta")?.or(found.local);
        }
        Ok(found)
    }
}

/// Writes the names of `transformers` 4 and leaves out values that equal the class's defaults.
impl Serialize for LlmConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let (family, design) = (self.model_type, self.design());
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model_type", &family)?;
        map.serialize_entry("hidden_size", &self.hidden_size)?;
        map.serialize_entry("intermediate_size", &self.intermediate_size)?;
        map.serialize_entry("num_hidden_layers", &self.num_hidden_layers)?;
        map.serialize_entry("num_attention_heads", &self.num_attention_heads)?;
        if let Some(heads) = self.num_key_value_heads {
            map.serialize_entry("num_key_value_heads", &heads)?;
        }
        map.serialize_entry("vocab_size", &self.vocab_size)?;
        if let Some(key) = design.eps_key {
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
        if self.partial_rotary_factor != design.share {
            map.serialize_entry("partial_rotary_factor", &self.partial_rotary_factor)?;
        }
        map.serialize_entry("tie_word_embeddings", &self.tie_word_embeddings)?;
        map.serialize_entry("max_position_embeddings", &self.max_position_embeddings)?;
        if let Some(width) = self.head_dim {
            map.serialize_entry("head_dim", &width)?;
        }
        map.serialize_entry("initializer_range", &self.initializer_range)?;
        map.serialize_entry("hidden_act", self.gate.name())?;
        if design.act_key != "hidden_act" && self.gate != design.gate {
            map.serialize_entry(design.act_key, self.gate.name())?;
        }
        match family {
            Family::Starcoder2 => map.serialize_entry("use_bias", &self.attention_bias)?,
            Family::StableLm => map.serialize_entry("use_qkv_bias", &self.attention_bias)?,
            _ if self.attention_bias != design.attention_bias => {
                map.serialize_entry("attention_bias", &self.attention_bias)?;
            }
            _ => {}
        }
        for (key, flag) in [("attention_out_bias", self.attention_out_bias), ("mlp_bias", self.mlp_bias)] {
            if flag && family != Family::Starcoder2 {
                map.serialize_entry(key, &true)?;
            }
        }
        if self.sliding_window.is_some() || design.window.is_some() {
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
        let caps = [
            ("attn_logit_softcapping", self.attn_logit_softcapping),
            ("final_logit_softcapping", self.final_logit_softcapping),
        ];
        for (key, cap) in caps {
            if cap.is_some() || family == Family::Gemma2 {
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
        if let Some(experts) = &self.experts {
            let count = if family == Family::Mixtral { "num_local_experts" } else { "num_experts" };
            map.serialize_entry(count, &experts.count)?;
            map.serialize_entry("num_experts_per_tok", &experts.active)?;
            if matches!(family, Family::Qwen2Moe | Family::Qwen3Moe) {
                map.serialize_entry("moe_intermediate_size", &experts.width)?;
                map.serialize_entry("mlp_only_layers", &experts.dense)?;
                map.serialize_entry("decoder_sparse_step", &experts.step)?;
            }
            if let Some(shared) = experts.shared {
                map.serialize_entry("shared_expert_intermediate_size", &shared)?;
            }
            if family != Family::Mixtral {
                map.serialize_entry("norm_topk_prob", &experts.normalised)?;
            }
        }
        map.end()
    }
}

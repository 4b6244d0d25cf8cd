//! The table of GGUF architectures.

use super::{MetadataKeys, shortest_decimal};
use crate::llm::weights::names;
use burgess_base::{Error, Result};
use burgess_encoders::checkpoint::Dialect;
use serde_json::{Value, json};

/// Returns an architecture's own keys of a `config.json` from the metadata.
type OwnKeys = fn(&MetadataKeys<'_>, &Sizes) -> Result<Vec<(&'static str, Value)>>;

/// How the GGUF files of one architecture differ from files of `transformers`.
pub(in crate::llm::weights) struct Architecture {
    /// The value of `general.architecture`.
    pub name: &'static str,
    /// The `model_type` of its family.
    pub model_type: &'static str,
    /// The tensor names.
    pub dialect: &'static Dialect,
    /// How llama.cpp's converter changes the values of some parameters.
    pub(super) transform: WeightTransform,
    /// Base of the rotary angles if the metadata have none.
    pub(super) theta: f64,
    /// The tensor in block 0 whose bias tells whether attention has biases.
    pub(super) bias_tensor: &'static str,
    /// The keys of `config.json` that only this architecture has.
    pub(super) own_keys: OwnKeys,
}

/// Sizes of a model, from the metadata.
pub(super) struct Sizes {
    /// Number of decoder blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Number of query heads.
    pub heads: usize,
    /// Width of one head.
    pub head_width: usize,
}

/// How llama.cpp's converter changes the values of some parameters.
#[derive(Clone, Copy)]
pub(super) enum WeightTransform {
    /// It changes nothing.
    None,
    /// It permutes query and key rows from the `rotate_half` layout to the interleaved rotary layout.
    InterleavedRope,
    /// It adds one to the scales of norms.
    NormPlusOne,
}

const BASE: Architecture = Architecture {
    name: "llama",
    model_type: "llama",
    dialect: &names::GGUF,
    transform: WeightTransform::None,
    theta: 1e4,
    bias_tensor: "attn_output",
    own_keys: |_, _| Ok(Vec::new()),
};

/// The architectures that are supported.
pub(super) static ARCHITECTURES: [Architecture; 17] = [
    Architecture { transform: WeightTransform::InterleavedRope, ..BASE },
    Architecture { name: "qwen2", model_type: "qwen2", ..BASE },
    Architecture { name: "qwen3", model_type: "qwen3", ..BASE },
    Architecture { name: "phi3", model_type: "phi3", dialect: &names::GGUF_PHI3, own_keys: phi_3, ..BASE },
    Architecture { name: "gemma", model_type: "gemma", transform: WeightTransform::NormPlusOne, ..BASE },
    Architecture {
        name: "gemma2",
        model_type: "gemma2",
        dialect: &names::GGUF_AROUND,
        transform: WeightTransform::NormPlusOne,
        own_keys: |keys, sizes| gemma(keys, sizes, 46),
        ..BASE
    },
    Architecture {
        name: "gemma3",
        model_type: "gemma3_text",
        dialect: &names::GGUF_AROUND,
        transform: WeightTransform::NormPlusOne,
        theta: 1e6,
        own_keys: gemma_3,
        ..BASE
    },
    Architecture { name: "smollm3", model_type: "smollm3", transform: WeightTransform::InterleavedRope, ..BASE },
    Architecture {
        name: "olmo",
        model_type: "olmo",
        transform: WeightTransform::InterleavedRope,
        own_keys: olmo,
        ..BASE
    },
    Architecture { name: "olmo2", model_type: "olmo2", dialect: &names::GGUF_AROUND, own_keys: olmo_2, ..BASE },
    Architecture {
        name: "granite",
        model_type: "granite",
        transform: WeightTransform::InterleavedRope,
        own_keys: granite,
        ..BASE
    },
    Architecture { name: "starcoder2", model_type: "starcoder2", ..BASE },
    Architecture { name: "glm4", model_type: "glm4", dialect: &names::GGUF_GLM4, bias_tensor: "attn_q", ..BASE },
    Architecture { name: "command-r", model_type: "cohere", own_keys: cohere, ..BASE },
    Architecture { name: "cohere2", model_type: "cohere2", own_keys: cohere_2, ..BASE },
    Architecture {
        name: "stablelm",
        model_type: "stablelm",
        bias_tensor: "attn_q",
        own_keys: |keys, _| {
            let parallel = keys.file.shape("blk.0.ffn_norm.weight").is_none();
            Ok(vec![("use_parallel_residual", json!(parallel))])
        },
        ..BASE
    },
    Architecture { name: "nemotron", model_type: "nemotron", transform: WeightTransform::NormPlusOne, ..BASE },
];

/// Architectures whose families are only read from safetensors, because their GGUF files have all experts in one tensor
/// or other tensor names.
pub(super) const ONLY_SAFETENSORS: [&str; 6] = ["qwen2moe", "qwen3moe", "olmoe", "arcee", "seed_oss", "chatglm"];

/// The keys of Phi-3: window and the length of pretraining.
fn phi_3(keys: &MetadataKeys<'_>, _: &Sizes) -> Result<Vec<(&'static str, Value)>> {
    let window = keys.size("attention.sliding_window")?.filter(|n| *n > 0);
    let original = keys.size("rope.scaling.original_context_length")?;
    let window = window.map(|n| ("sliding_window", json!(n)));
    Ok(window.into_iter().chain(original.map(|n| ("original_max_position_embeddings", json!(n)))).collect())
}

/// The keys of Gemma 2 and 3. In the largest model, which has `largest` layers, scores are divided by another number,
/// which the metadata do not have.
fn gemma(keys: &MetadataKeys<'_>, sizes: &Sizes, largest: usize) -> Result<Vec<(&'static str, Value)>> {
    let divisor = if sizes.layers == largest { sizes.width / sizes.heads.max(1) } else { sizes.head_width };
    let mut found = vec![
        ("sliding_window", json!(keys.needed("attention.sliding_window")?)),
        ("query_pre_attn_scalar", json!(divisor)),
    ];
    for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
        found.extend(keys.number(key)?.map(|cap| (key, json!(shortest_decimal(cap)))));
    }
    Ok(found)
}

fn gemma_3(keys: &MetadataKeys<'_>, sizes: &Sizes) -> Result<Vec<(&'static str, Value)>> {
    let mut found = gemma(keys, sizes, 62)?;
    let pattern = keys.size("attention.sliding_window_pattern")?.unwrap_or(6);
    let local = keys.number("rope.freq_base_swa")?.unwrap_or(1e4);
    found.push(("sliding_window_pattern", json!(pattern)));
    found.push(("rope_local_base_freq", json!(shortest_decimal(local))));
    Ok(found)
}

fn olmo(keys: &MetadataKeys<'_>, _: &Sizes) -> Result<Vec<(&'static str, Value)>> {
    let most = keys.number("attention.clamp_kqv")?.filter(|most| *most > 0.0);
    Ok(most.map(|most| ("clip_qkv", json!(shortest_decimal(most)))).into_iter().collect())
}

fn olmo_2(keys: &MetadataKeys<'_>, _: &Sizes) -> Result<Vec<(&'static str, Value)>> {
    if keys.size("attention.sliding_window")?.is_some_and(|n| n > 0) {
        return Err(Error::failed("OLMo 3 is not supported in GGUF: the metadata do not say which layers slide")
            .hint("use the model's safetensors"));
    }
    Ok(Vec::new())
}

fn granite(keys: &MetadataKeys<'_>, _: &Sizes) -> Result<Vec<(&'static str, Value)>> {
    let multipliers = [
        ("attention_multiplier", "attention.scale"),
        ("embedding_multiplier", "embedding_scale"),
        ("residual_multiplier", "residual_scale"),
        ("logits_scaling", "logit_scale"),
    ];
    let mut found = Vec::new();
    for (name, key) in multipliers {
        // The value 0 means that there is no multiplier.
        let multiplier = keys.number(key)?.filter(|multiplier| *multiplier != 0.0);
        found.extend(multiplier.map(|multiplier| (name, json!(shortest_decimal(multiplier)))));
    }
    Ok(found)
}

fn cohere(keys: &MetadataKeys<'_>, _: &Sizes) -> Result<Vec<(&'static str, Value)>> {
    Ok(vec![("logit_scale", json!(shortest_decimal(keys.needed_number("logit_scale")?)))])
}

fn cohere_2(keys: &MetadataKeys<'_>, sizes: &Sizes) -> Result<Vec<(&'static str, Value)>> {
    let mut found = cohere(keys, sizes)?;
    found.push(("sliding_window", json!(keys.needed("attention.sliding_window")?)));
    Ok(found)
}

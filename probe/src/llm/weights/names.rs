//! Maps tensor names in the families' files to our decoder's parameter paths, which are `transformers`' own names.

use burgess_encoders::checkpoint::{Dialect, Rule};

/// Tensors without a parameter: tables of rotary angles, which older versions of the library saved; the output head
/// of a model with tied embeddings, which some tools save twice (an untied model requires it).
const IGNORED: [&str; 6] = [
    "lm_head.weight",
    "model.rotary_emb.inv_freq",
    "model.rotary_emb.original_inv_freq",
    "model.layers.{i}.self_attn.rotary_emb.inv_freq",
    "model.layers.{i}.self_attn.rotary_emb.cos_cached",
    "model.layers.{i}.self_attn.rotary_emb.sin_cached",
];

/// `LlamaForCausalLM` and all other models with separate projections.
pub(crate) const SPLIT: Dialect =
    Dialect { name: "transformers-llm", rules: &[Rule::same("{rest}", &["{rest}"])], ignored: &IGNORED };

const GATE_UP: Rule = Rule::fused(
    &["model.layers.{i}.mlp.gate_proj.{p}", "model.layers.{i}.mlp.up_proj.{p}"],
    &["model.layers.{i}.mlp.gate_up_proj.{p}"],
);

/// `Phi3ForCausalLM`: fused query–key–value and fused gate–up projections.
pub(crate) const FUSED: Dialect = Dialect {
    name: "transformers-phi3",
    rules: &[
        Rule::fused(
            &[
                "model.layers.{i}.self_attn.q_proj.{p}",
                "model.layers.{i}.self_attn.k_proj.{p}",
                "model.layers.{i}.self_attn.v_proj.{p}",
            ],
            &["model.layers.{i}.self_attn.qkv_proj.{p}"],
        ),
        GATE_UP,
        Rule::same("{rest}", &["{rest}"]),
    ],
    ignored: &IGNORED,
};

/// `Glm4ForCausalLM`: fused gate–up projection and other norm names.
pub(crate) const GLM_4: Dialect = Dialect {
    name: "transformers-glm4",
    rules: &[
        GATE_UP,
        Rule::same("model.layers.{i}.post_attention_layernorm.{p}", &["model.layers.{i}.post_self_attn_layernorm.{p}"]),
        Rule::same(
            "model.layers.{i}.pre_feedforward_layernorm.{p}",
            &["model.layers.{i}.post_attention_layernorm.{p}"],
        ),
        Rule::same("model.layers.{i}.post_feedforward_layernorm.{p}", &["model.layers.{i}.post_mlp_layernorm.{p}"]),
        Rule::same("{rest}", &["{rest}"]),
    ],
    ignored: &IGNORED,
};

/// `GlmForCausalLM`: fused gate–up projection.
pub(crate) const GLM: Dialect =
    Dialect { name: "transformers-glm", rules: &[GATE_UP, Rule::same("{rest}", &["{rest}"])], ignored: &IGNORED };

/// `Starcoder2ForCausalLM`: other names in the MLP.
pub(crate) const STARCODER_2: Dialect = Dialect {
    name: "transformers-starcoder2",
    rules: &[
        Rule::same("model.layers.{i}.mlp.up_proj.{p}", &["model.layers.{i}.mlp.c_fc.{p}"]),
        Rule::same("model.layers.{i}.mlp.down_proj.{p}", &["model.layers.{i}.mlp.c_proj.{p}"]),
        Rule::same("{rest}", &["{rest}"]),
    ],
    ignored: &IGNORED,
};

/// Mixture-of-experts models: experts are also named `mlp` in the files, and `moe` here.
pub(crate) const EXPERTS: Dialect = Dialect {
    name: "transformers-experts",
    rules: &[
        Rule::same("model.layers.{i}.moe.{rest}", &["model.layers.{i}.mlp.{rest}"]),
        Rule::same("{rest}", &["{rest}"]),
    ],
    ignored: &IGNORED,
};

/// `MixtralForCausalLM`: `w1`, `w2`, `w3` instead of the projections' names.
pub(crate) const MIXTRAL: Dialect = Dialect {
    name: "transformers-mixtral",
    rules: &[
        Rule::same("model.layers.{i}.moe.gate.weight", &["model.layers.{i}.block_sparse_moe.gate.weight"]),
        Rule::same(
            "model.layers.{i}.moe.experts.{e}.gate_proj.weight",
            &["model.layers.{i}.block_sparse_moe.experts.{e}.w1.weight"],
        ),
        Rule::same(
            "model.layers.{i}.moe.experts.{e}.down_proj.weight",
            &["model.layers.{i}.block_sparse_moe.experts.{e}.w2.weight"],
        ),
        Rule::same(
            "model.layers.{i}.moe.experts.{e}.up_proj.weight",
            &["model.layers.{i}.block_sparse_moe.experts.{e}.w3.weight"],
        ),
        Rule::same("{rest}", &["{rest}"]),
    ],
    ignored: &IGNORED,
};

/// Tensors in GGUF that belong to the configuration: factors of the rotary angles.
const FACTORS: [&str; 4] =
    ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight", "blk.{i}.attn_rot_embd.weight"];

const EMBEDDINGS: Rule = Rule::same("model.embed_tokens.weight", &["token_embd.weight"]);
const LAST_NORM: Rule = Rule::same("model.norm.{p}", &["output_norm.{p}"]);
const HEAD: Rule = Rule::same("lm_head.weight", &["output.weight"]);
const NORM_1: Rule = Rule::same("model.layers.{i}.input_layernorm.{p}", &["blk.{i}.attn_norm.{p}"]);
const NORM_2: Rule = Rule::same("model.layers.{i}.post_attention_layernorm.{p}", &["blk.{i}.ffn_norm.{p}"]);
const Q: Rule = Rule::same("model.layers.{i}.self_attn.q_proj.{p}", &["blk.{i}.attn_q.{p}"]);
const K: Rule = Rule::same("model.layers.{i}.self_attn.k_proj.{p}", &["blk.{i}.attn_k.{p}"]);
const V: Rule = Rule::same("model.layers.{i}.self_attn.v_proj.{p}", &["blk.{i}.attn_v.{p}"]);
const O: Rule = Rule::same("model.layers.{i}.self_attn.o_proj.{p}", &["blk.{i}.attn_output.{p}"]);
const Q_NORM: Rule = Rule::same("model.layers.{i}.self_attn.q_norm.weight", &["blk.{i}.attn_q_norm.weight"]);
const K_NORM: Rule = Rule::same("model.layers.{i}.self_attn.k_norm.weight", &["blk.{i}.attn_k_norm.weight"]);
const GATE: Rule = Rule::same("model.layers.{i}.mlp.gate_proj.{p}", &["blk.{i}.ffn_gate.{p}"]);
const UP: Rule = Rule::same("model.layers.{i}.mlp.up_proj.{p}", &["blk.{i}.ffn_up.{p}"]);
const DOWN: Rule = Rule::same("model.layers.{i}.mlp.down_proj.{p}", &["blk.{i}.ffn_down.{p}"]);

/// GGUF of LLaMA and all families with norms at the same places.
pub(crate) const GGUF: Dialect = Dialect {
    name: "gguf",
    rules: &[EMBEDDINGS, LAST_NORM, HEAD, NORM_1, NORM_2, Q, K, V, O, Q_NORM, K_NORM, GATE, UP, DOWN],
    ignored: &FACTORS,
};

/// GGUF of Phi-3, with fused projections.
pub(crate) const GGUF_PHI3: Dialect = Dialect {
    name: "gguf-phi3",
    rules: &[
        EMBEDDINGS,
        LAST_NORM,
        HEAD,
        NORM_1,
        NORM_2,
        Rule::fused(
            &[
                "model.layers.{i}.self_attn.q_proj.{p}",
                "model.layers.{i}.self_attn.k_proj.{p}",
                "model.layers.{i}.self_attn.v_proj.{p}",
            ],
            &["blk.{i}.attn_qkv.{p}"],
        ),
        O,
        Rule::fused(
            &["model.layers.{i}.mlp.gate_proj.weight", "model.layers.{i}.mlp.up_proj.weight"],
            &["blk.{i}.ffn_up.weight"],
        ),
        DOWN,
    ],
    ignored: &FACTORS,
};

const AFTER_ATTENTION: Rule =
    Rule::same("model.layers.{i}.post_attention_layernorm.weight", &["blk.{i}.post_attention_norm.weight"]);
const BEFORE_MLP: Rule = Rule::same("model.layers.{i}.pre_feedforward_layernorm.weight", &["blk.{i}.ffn_norm.weight"]);
const AFTER_MLP: Rule =
    Rule::same("model.layers.{i}.post_feedforward_layernorm.weight", &["blk.{i}.post_ffw_norm.weight"]);

/// GGUF of Gemma 2, Gemma 3 and OLMo 2, with norms after attention and MLP.
pub(crate) const GGUF_AROUND: Dialect = Dialect {
    name: "gguf-around",
    rules: &[
        EMBEDDINGS,
        LAST_NORM,
        HEAD,
        NORM_1,
        AFTER_ATTENTION,
        BEFORE_MLP,
        AFTER_MLP,
        Q,
        K,
        V,
        O,
        Q_NORM,
        K_NORM,
        GATE,
        UP,
        DOWN,
    ],
    ignored: &FACTORS,
};

/// GGUF of GLM-4, with norms after attention and MLP.
pub(crate) const GGUF_GLM4: Dialect = Dialect {
    name: "gguf-glm4",
    rules: &[
        EMBEDDINGS,
        LAST_NORM,
        HEAD,
        NORM_1,
        AFTER_ATTENTION,
        BEFORE_MLP,
        AFTER_MLP,
        Q,
        K,
        V,
        O,
        Rule::fused(
            &["model.layers.{i}.mlp.gate_proj.weight", "model.layers.{i}.mlp.up_proj.weight"],
            &["blk.{i}.ffn_up.weight"],
        ),
        DOWN,
    ],
    ignored: &FACTORS,
};

//! The supported decoder families: LLaMA, and networks with other norms, activations, biases or block layout.
//!
//! A family is one [`Design`]: how its network differs from LLaMA's, and the defaults of its class in `transformers`
//! for keys that `config.json` leaves out. Sizes and switches of a single model are in [`super::LlmConfig`].

use super::config::Gate;
use serde::{Deserialize, Serialize};

/// The decoder family of a configuration; the `model_type` of `config.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Family {
    /// LLaMA 1 to 3, Vicuna, Yi, TinyLlama, SmolLM2 (arXiv 2302.13971, 2407.21783).
    #[default]
    #[serde(rename = "llama")]
    Llama,
    /// Mistral: LLaMA with sliding-window attention (arXiv 2310.06825).
    #[serde(rename = "mistral")]
    Mistral,
    /// Qwen 2 and 2.5: biases on queries, keys and values (arXiv 2407.10671).
    #[serde(rename = "qwen2")]
    Qwen2,
    /// Qwen 3: norms on queries and keys (arXiv 2505.09388).
    #[serde(rename = "qwen3")]
    Qwen3,
    /// Phi-3: partial rotary embedding, long context by two sets of factors (LongRoPE, arXiv 2404.14219).
    #[serde(rename = "phi3")]
    Phi3,
    /// Gemma: norm scales stored minus one, embeddings multiplied by √width (arXiv 2403.08295).
    #[serde(rename = "gemma")]
    Gemma,
    /// Gemma 2: norms before and after attention and MLP, soft caps on scores and logits, sliding window in every
    /// other layer (arXiv 2408.00118).
    #[serde(rename = "gemma2")]
    Gemma2,
    /// The text model of Gemma 3: Gemma 2 with norms on queries and keys instead of soft caps, and five sliding
    /// layers per full-attention layer (arXiv 2503.19786).
    #[serde(rename = "gemma3_text")]
    Gemma3,
    /// SmolLM 3: every fourth layer has no rotary embedding.
    #[serde(rename = "smollm3")]
    SmolLm3,
    /// OLMo: layer norms without parameters (arXiv 2402.00838).
    #[serde(rename = "olmo")]
    Olmo,
    /// OLMo 2: norms after attention and MLP, queries and keys normalised over their whole width (arXiv 2501.00656).
    #[serde(rename = "olmo2")]
    Olmo2,
    /// OLMo 3: OLMo 2 with three sliding layers per full-attention layer.
    #[serde(rename = "olmo3")]
    Olmo3,
    /// Granite 3: multipliers on embeddings, scores, residual branches and logits.
    #[serde(rename = "granite")]
    Granite,
    /// StarCoder 2: layer norms with biases, an MLP without a gate, biases in all projections (arXiv 2402.19173).
    #[serde(rename = "starcoder2")]
    Starcoder2,
    /// GLM-4 of 2024: half of each head is rotated, in the interleaved layout (arXiv 2406.12793).
    #[serde(rename = "glm")]
    Glm,
    /// GLM-4 of 2025: GLM-4 of 2024 with norms before and after attention and MLP.
    #[serde(rename = "glm4")]
    Glm4,
    /// Command R: parallel attention and MLP, layer norms without bias, interleaved rotary layout.
    #[serde(rename = "cohere")]
    Cohere,
    /// Command R7B and A: Command R whose full-attention layers have no rotary embedding (arXiv 2504.00698).
    #[serde(rename = "cohere2")]
    Cohere2,
    /// StableLM 2: layer norms with biases, a quarter of each head rotated (arXiv 2402.17834).
    #[serde(rename = "stablelm")]
    StableLm,
    /// Helium 1: interleaved rotary layout.
    #[serde(rename = "helium")]
    Helium,
    /// Nemotron and Minitron: LayerNorm scales stored minus one, squared ReLU and no gate (arXiv 2407.14679).
    #[serde(rename = "nemotron")]
    Nemotron,
    /// Arcee's AFM: an MLP with squared ReLU and no gate.
    #[serde(rename = "arcee")]
    Arcee,
    /// Seed-OSS: biases on queries, keys and values.
    #[serde(rename = "seed_oss")]
    SeedOss,
    /// Mixtral: a mixture of experts in each layer (arXiv 2401.04088).
    #[serde(rename = "mixtral")]
    Mixtral,
    /// Qwen 1.5 and 2 with a mixture of experts and one shared expert.
    #[serde(rename = "qwen2_moe")]
    Qwen2Moe,
    /// Qwen 3 with a mixture of experts.
    #[serde(rename = "qwen3_moe")]
    Qwen3Moe,
    /// OLMoE: a mixture of experts, queries and keys normalised over their whole width (arXiv 2409.02060).
    #[serde(rename = "olmoe")]
    Olmoe,
}

/// The type of normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// RMSNorm with a scale.
    Rms,
    /// RMSNorm whose scale is one plus the weight.
    RmsPlusOne,
    /// LayerNorm with scale and bias.
    Layer,
    /// LayerNorm with bias, whose scale is one plus the weight.
    LayerPlusOne,
    /// LayerNorm with a scale and no bias.
    LayerScale,
    /// LayerNorm without parameters.
    LayerPlain,
}

/// Where a block applies its norms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// Before attention and before the MLP (LLaMA).
    Before,
    /// Before and after both attention and MLP (Gemma 2).
    Around,
    /// After attention and after the MLP (OLMo 2).
    After,
    /// One norm whose output both attention and MLP read; their outputs are added (parallel block).
    Parallel,
}

/// How queries and keys are normalised before the rotary embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// No normalisation.
    None,
    /// Each head separately, with one scale of the head's width for all heads.
    Head,
    /// All heads together, over the whole width.
    Whole,
}

/// Which layers use the sliding window if `config.json` has no `layer_types`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sliding {
    /// All layers, if there is a window.
    All,
    /// Layers from `max_window_layers` on, if `use_sliding_window` is true.
    Asked,
    /// All layers except every n-th.
    AllBut(usize),
}

/// The properties of a family and the defaults of its class in `transformers`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Design {
    /// The `model_type` in `config.json`.
    pub name: &'static str,
    /// The class name in `transformers`.
    pub class: &'static str,
    /// The type of its norms.
    pub norm: NormKind,
    /// Where a block applies its norms.
    pub block: BlockKind,
    /// How queries and keys are normalised.
    pub qk_norm: QkNorm,
    /// Whether the MLP has a gate.
    pub gated: bool,
    /// Whether the rotary layout is interleaved: neighbouring channels are rotated in pairs, not a head's two halves.
    pub interleaved: bool,
    /// Whether embeddings are multiplied by √width.
    pub scaled_embeddings: bool,
    /// Whether queries, keys and values have biases even without `attention_bias`.
    pub qkv_bias: bool,
    /// Whether `attention_bias` includes the output projection.
    pub output_bias: bool,
    /// Whether some layers have a mixture of experts.
    pub experts: bool,
    /// The key of the norms' epsilon; `None` if it is fixed.
    pub eps_key: Option<&'static str>,
    /// The key of the activation.
    pub act_key: &'static str,
    /// Which layers use the sliding window by default.
    pub sliding: Sliding,
    /// Default window; an explicit null means that no layer slides.
    pub window: Option<usize>,
    /// Default epsilon of the norms.
    pub eps: f64,
    /// Default base of the rotary angles.
    pub theta: f64,
    /// Default fraction of a head's channels that are rotated.
    pub share: f64,
    /// Default head width; `None` for `hidden_size / num_attention_heads`.
    pub head_dim: Option<usize>,
    /// Default activation.
    pub gate: Gate,
    /// Whether the output head is tied to the embedding table by default.
    pub tied: bool,
    /// Default of `attention_bias`.
    pub attention_bias: bool,
}

const LLAMA: Design = Design {
    name: "llama",
    class: "LlamaForCausalLM",
    norm: NormKind::Rms,
    block: BlockKind::Before,
    qk_norm: QkNorm::None,
    gated: true,
    interleaved: false,
    scaled_embeddings: false,
    qkv_bias: false,
    output_bias: true,
    experts: false,
    eps_key: Some("rms_norm_eps"),
    act_key: "hidden_act",
    sliding: Sliding::All,
    window: None,
    eps: 1e-6,
    theta: 1e4,
    share: 1.0,
    head_dim: None,
    gate: Gate::Silu,
    tied: false,
    attention_bias: false,
};

const GEMMA: Design = Design {
    name: "gemma",
    class: "GemmaForCausalLM",
    norm: NormKind::RmsPlusOne,
    scaled_embeddings: true,
    head_dim: Some(256),
    gate: Gate::GeluTanh,
    tied: true,
    ..LLAMA
};

const COHERE: Design = Design {
    name: "cohere",
    class: "CohereForCausalLM",
    norm: NormKind::LayerScale,
    block: BlockKind::Parallel,
    interleaved: true,
    eps_key: Some("layer_norm_eps"),
    eps: 1e-5,
    theta: 5e5,
    tied: true,
    ..LLAMA
};

const OLMO_2: Design = Design {
    name: "olmo2",
    class: "Olmo2ForCausalLM",
    block: BlockKind::After,
    qk_norm: QkNorm::Whole,
    eps: 1e-5,
    ..LLAMA
};

const GLM: Design = Design {
    name: "glm",
    class: "GlmForCausalLM",
    interleaved: true,
    output_bias: false,
    eps: 1.5625e-7,
    share: 0.5,
    head_dim: Some(128),
    attention_bias: true,
    ..LLAMA
};

const QWEN_3: Design = Design {
    name: "qwen3",
    class: "Qwen3ForCausalLM",
    qk_norm: QkNorm::Head,
    sliding: Sliding::Asked,
    head_dim: Some(128),
    ..LLAMA
};

/// All families, in the order of [`Family`].
pub const DESIGNS: [(Family, Design); 27] = [
    (Family::Llama, LLAMA),
    (Family::Mistral, Design { name: "mistral", class: "MistralForCausalLM", window: Some(4096), ..LLAMA }),
    (
        Family::Qwen2,
        Design { name: "qwen2", class: "Qwen2ForCausalLM", qkv_bias: true, sliding: Sliding::Asked, ..LLAMA },
    ),
    (Family::Qwen3, QWEN_3),
    (Family::Phi3, Design { name: "phi3", class: "Phi3ForCausalLM", eps: 1e-5, ..LLAMA }),
    (Family::Gemma, GEMMA),
    (
        Family::Gemma2,
        Design {
            name: "gemma2",
            class: "Gemma2ForCausalLM",
            block: BlockKind::Around,
            act_key: "hidden_activation",
            sliding: Sliding::AllBut(2),
            window: Some(4096),
            ..GEMMA
        },
    ),
    (
        Family::Gemma3,
        Design {
            name: "gemma3_text",
            class: "Gemma3ForCausalLM",
            block: BlockKind::Around,
            qk_norm: QkNorm::Head,
            act_key: "hidden_activation",
            sliding: Sliding::AllBut(6),
            window: Some(4096),
            theta: 1e6,
            ..GEMMA
        },
    ),
    (
        Family::SmolLm3,
        Design {
            name: "smollm3",
            class: "SmolLM3ForCausalLM",
            sliding: Sliding::Asked,
            theta: 2e6,
            tied: true,
            ..LLAMA
        },
    ),
    (
        Family::Olmo,
        Design {
            name: "olmo",
            class: "OlmoForCausalLM",
            norm: NormKind::LayerPlain,
            eps_key: None,
            eps: 1e-5,
            ..LLAMA
        },
    ),
    (Family::Olmo2, OLMO_2),
    (
        Family::Olmo3,
        Design {
            name: "olmo3",
            class: "Olmo3ForCausalLM",
            sliding: Sliding::AllBut(4),
            window: Some(4096),
            theta: 5e5,
            ..OLMO_2
        },
    ),
    (Family::Granite, Design { name: "granite", class: "GraniteForCausalLM", ..LLAMA }),
    (
        Family::Starcoder2,
        Design {
            name: "starcoder2",
            class: "Starcoder2ForCausalLM",
            norm: NormKind::Layer,
            gated: false,
            eps_key: Some("norm_epsilon"),
            eps: 1e-5,
            gate: Gate::GeluTanh,
            tied: true,
            attention_bias: true,
            ..LLAMA
        },
    ),
    (Family::Glm, GLM),
    (Family::Glm4, Design { name: "glm4", class: "Glm4ForCausalLM", block: BlockKind::Around, ..GLM }),
    (Family::Cohere, COHERE),
    (
        Family::Cohere2,
        Design {
            name: "cohere2",
            class: "Cohere2ForCausalLM",
            sliding: Sliding::AllBut(4),
            window: Some(4096),
            theta: 1e4,
            ..COHERE
        },
    ),
    (
        Family::StableLm,
        Design {
            name: "stablelm",
            class: "StableLmForCausalLM",
            norm: NormKind::Layer,
            output_bias: false,
            eps_key: Some("layer_norm_eps"),
            eps: 1e-5,
            share: 0.25,
            ..LLAMA
        },
    ),
    (
        Family::Helium,
        Design {
            name: "helium",
            class: "HeliumForCausalLM",
            interleaved: true,
            output_bias: false,
            eps: 1e-8,
            theta: 1e5,
            head_dim: Some(128),
            ..LLAMA
        },
    ),
    (
        Family::Nemotron,
        Design {
            name: "nemotron",
            class: "NemotronForCausalLM",
            norm: NormKind::LayerPlusOne,
            gated: false,
            eps_key: Some("norm_eps"),
            eps: 1e-5,
            share: 0.5,
            gate: Gate::ReluSquared,
            ..LLAMA
        },
    ),
    (
        Family::Arcee,
        Design { name: "arcee", class: "ArceeForCausalLM", gated: false, eps: 1e-5, gate: Gate::ReluSquared, ..LLAMA },
    ),
    (
        Family::SeedOss,
        Design {
            name: "seed_oss",
            class: "SeedOssForCausalLM",
            output_bias: false,
            head_dim: Some(128),
            attention_bias: true,
            ..LLAMA
        },
    ),
    (
        Family::Mixtral,
        Design { name: "mixtral", class: "MixtralForCausalLM", experts: true, eps: 1e-5, theta: 1e6, ..LLAMA },
    ),
    (
        Family::Qwen2Moe,
        Design {
            name: "qwen2_moe",
            class: "Qwen2MoeForCausalLM",
            qkv_bias: true,
            experts: true,
            sliding: Sliding::Asked,
            ..LLAMA
        },
    ),
    (
        Family::Qwen3Moe,
        Design { name: "qwen3_moe", class: "Qwen3MoeForCausalLM", experts: true, head_dim: None, ..QWEN_3 },
    ),
    (
        Family::Olmoe,
        Design { name: "olmoe", class: "OlmoeForCausalLM", qk_norm: QkNorm::Whole, experts: true, eps: 1e-5, ..LLAMA },
    ),
];

impl Family {
    /// The properties of this family.
    pub fn design(self) -> &'static Design {
        // A test checks the order; the fallback is never used.
        DESIGNS.get(self as usize).map_or(&DESIGNS[0].1, |(_, design)| design)
    }

    /// The class name in `transformers`.
    pub fn class(self) -> &'static str {
        self.design().class
    }

    /// The family with this `model_type`.
    ///
    /// # Errors
    /// When it is not supported; the error says what our decoder lacks and which families it supports.
    pub fn named(name: &str) -> std::result::Result<Self, String> {
        if let Some((family, _)) = DESIGNS.iter().find(|(_, design)| design.name == name) {
            return Ok(*family);
        }
        let read: Vec<&str> = DESIGNS.iter().map(|(_, design)| design.name).collect();
        let name = burgess_base::text::excerpt(name, 60);
        Err(format!("the model_type `{name}` is not read: {}; read are {}", missing(&name), read.join(", ")))
    }
}

/// Features that our decoder lacks, with the families whose networks need them.
const MISSING: [(&str, &str); 15] = [
    (
        "its layers keep a state instead of attending (state-space or recurrent layers)",
        "mamba mamba2 falcon_mamba rwkv xlstm recurrent_gemma jamba bamba zamba zamba2 nemotron_h granitemoehybrid \
         falcon_h1 lfm2 lfm2_moe qwen3_next minimax kimi_linear olmo_hybrid qwen3_5_text qwen3_5_moe_text",
    ),
    (
        "it has position embeddings in a table, no rotary ones",
        "gpt2 gpt_neo opt biogpt gpt_bigcode starcoder xglm openai-gpt ctrl",
    ),
    ("it knows positions by biases on attention scores (ALiBi)", "bloom mpt"),
    (
        "queries, keys and values lie interleaved in one tensor, and attention and MLP stand side by side",
        "gpt_neox gptneox gptj gpt_neox_japanese persimmon dbrx jetmoe codegen falcon",
    ),
    ("it compresses keys and values (latent attention)", "deepseek_v2 deepseek_v3 deepseek2 minicpm3 youtu kimi_k2"),
    (
        "its experts are chosen or stored in a way of their own",
        "gpt_oss gpt-oss llama4 llama4_text granitemoe granitemoeshared phimoe dots1 glm4_moe ernie4_5_moe \
         hunyuan_v1_moe qwen3_vl_moe_text flex_olmo afmoe bailing_moe",
    ),
    (
        "it comes with code of its own in its repository",
        "chatglm baichuan internlm internlm2 internlm3 minicpm qwen aquila orion xverse deepseek openelm exaone plamo dream",
    ),
    ("it has biases in other places, and MLPs beside attention", "phi phi2"),
    ("it norms queries and keys after they were rotated", "hunyuan_v1_dense"),
    ("its norms follow attention and it mixes layers with and without rotary positions", "exaone4"),
    ("its activation has learned numbers (xIELU)", "apertus"),
    ("its attention subtracts a second one", "diffllama"),
    ("it passes embeddings to each layer and has several streams", "gemma3n gemma3n_text gemma4 gemma4_text"),
    (
        "it is a multimodal model, of which no language model is taken out; give the language model by itself",
        "llava llava_next llava_onevision qwen2_vl qwen2_5_vl qwen3_vl mllama idefics idefics2 idefics3 smolvlm paligemma \
         internvl mistral3 pixtral aya_vision blip-2",
    ),
    (
        "it is no decoder of text from left to right",
        "bert roberta distilbert albert electra deberta deberta-v2 modernbert xlm-roberta t5 mt5 umt5 bart mbart pegasus \
         marian clip siglip vit whisper",
    ),
];

/// The feature of an unsupported `model_type` that our decoder lacks.
pub(crate) fn missing(name: &str) -> &'static str {
    let known = MISSING.iter().find(|(_, names)| names.split_whitespace().any(|known| known == name));
    known.map_or("its network is not known here", |(what, _)| what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_family_finds_its_design_by_place_and_by_name() {
        for (place, (family, design)) in DESIGNS.iter().enumerate() {
            assert_eq!(*family as usize, place, "{}", design.name);
            assert_eq!(family.design(), design);
            assert_eq!(Family::named(design.name), Ok(*family));
            assert_eq!(serde_json::to_value(family).ok(), Some(design.name.into()));
        }
    }

    #[test]
    fn what_is_refused_is_named_with_what_is_missing_and_never_offered() {
        let read: BTreeSet<&str> = DESIGNS.iter().map(|(_, d)| d.name).collect();
        for (what, names) in MISSING {
            for name in names.split_whitespace() {
                assert!(!read.contains(name), "{name}");
                let error = Family::named(name).unwrap_err();
                let (_, offered) = error.split_once("; read are ").unwrap_or_default();
                assert!(error.contains(name) && error.contains(what), "{error}");
                assert!(!offered.split(", ").any(|offered| offered == name), "{error}");
            }
        }
        assert!(Family::named("\u{1b}[31mx").unwrap_err().contains("not known here"));
        assert!(!Family::named("\u{1b}[31mx").unwrap_err().contains('\u{1b}'));
    }
}

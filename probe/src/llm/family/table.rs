//! The table of decoder families. Values are those of the configuration and model classes in `transformers`
//! (`models/<name>/configuration_<name>.py`, `modeling_<name>.py`).

use super::{
    BlockLayout, DecoderFamily, DecoderNorm, LocalTheta, MlpBias, MoeKeys, QkNorm, RopeLayers, SlidingLayers, Softcaps,
};
use crate::llm::activation::Activation;
use crate::llm::weights::names;

/// The properties of LLaMA, of which the other rows are variations.
const BASE: DecoderFamily = DecoderFamily {
    name: "llama",
    class: "LlamaForCausalLM",
    dialect: &names::SPLIT,
    norm: DecoderNorm::RMS,
    block: BlockLayout::PreNorm,
    qk_norm: QkNorm::None,
    gated: true,
    interleaved: false,
    scaled_embeddings: false,
    qkv_bias: false,
    output_bias: true,
    attention_bias_key: Some("attention_bias"),
    attention_bias: false,
    attention_out_bias: false,
    mlp_bias: MlpBias::Never,
    required_flags: &[],
    experts: None,
    eps_key: Some("rms_norm_eps"),
    eps: 1e-6,
    activation_key: "hidden_act",
    activation: Activation::Silu,
    sliding: SlidingLayers::All,
    window: None,
    theta: 1e4,
    local_theta: LocalTheta::Same,
    rope_layers: RopeLayers::All,
    rotary_fraction: 1.0,
    head_dim: None,
    tied: false,
    softcaps: Softcaps::Unsupported,
    query_pre_attn_scalar: None,
    multipliers: false,
    logit_scale: None,
    clip_qkv: false,
};

const GEMMA: DecoderFamily = DecoderFamily {
    name: "gemma",
    class: "GemmaForCausalLM",
    norm: DecoderNorm::RMS_PLUS_ONE,
    scaled_embeddings: true,
    head_dim: Some(256),
    activation: Activation::GeluTanh,
    tied: true,
    ..BASE
};

const COHERE: DecoderFamily = DecoderFamily {
    name: "cohere",
    class: "CohereForCausalLM",
    norm: DecoderNorm::LAYER_NO_BIAS,
    block: BlockLayout::Parallel,
    interleaved: true,
    eps_key: Some("layer_norm_eps"),
    eps: 1e-5,
    theta: 5e5,
    tied: true,
    logit_scale: Some(0.0625),
    ..BASE
};

const OLMO_2: DecoderFamily = DecoderFamily {
    name: "olmo2",
    class: "Olmo2ForCausalLM",
    block: BlockLayout::PostNorm,
    qk_norm: QkNorm::AllHeads,
    eps: 1e-5,
    ..BASE
};

const GLM: DecoderFamily = DecoderFamily {
    name: "glm",
    class: "GlmForCausalLM",
    dialect: &names::GLM,
    interleaved: true,
    output_bias: false,
    eps: 1.5625e-7,
    rotary_fraction: 0.5,
    head_dim: Some(128),
    attention_bias: true,
    ..BASE
};

const QWEN_3: DecoderFamily = DecoderFamily {
    name: "qwen3",
    class: "Qwen3ForCausalLM",
    qk_norm: QkNorm::PerHead,
    sliding: SlidingLayers::FromMaxWindowLayers,
    head_dim: Some(128),
    ..BASE
};

const QWEN_EXPERTS: MoeKeys = MoeKeys {
    count: "num_experts",
    width: "moe_intermediate_size",
    shared: false,
    always_normalised: false,
    dense_layers: true,
};

/// All families; the first is LLaMA, the default.
pub static FAMILIES: [DecoderFamily; 27] = [
    // LLaMA 1 to 3, Vicuna, Yi, TinyLlama, SmolLM2 (arXiv 2302.13971, 2407.21783).
    DecoderFamily { mlp_bias: MlpBias::Key, ..BASE },
    // Mistral: LLaMA with sliding-window attention (arXiv 2310.06825).
    DecoderFamily { name: "mistral", class: "MistralForCausalLM", window: Some(4096), ..BASE },
    // Qwen 2 and 2.5: biases on queries, keys and values (arXiv 2407.10671).
    DecoderFamily {
        name: "qwen2",
        class: "Qwen2ForCausalLM",
        qkv_bias: true,
        sliding: SlidingLayers::FromMaxWindowLayers,
        ..BASE
    },
    // Qwen 3: norms on queries and keys (arXiv 2505.09388).
    QWEN_3,
    // Phi-3: partial rotary embedding, long context by two sets of factors (LongRoPE, arXiv 2404.14219).
    DecoderFamily { name: "phi3", class: "Phi3ForCausalLM", dialect: &names::FUSED, eps: 1e-5, ..BASE },
    // Gemma: norm scales stored minus one, embeddings multiplied by √width (arXiv 2403.08295).
    GEMMA,
    // Gemma 2: norms before and after attention and MLP, soft caps on scores and logits, sliding window in every other
    // layer (arXiv 2408.00118).
    DecoderFamily {
        name: "gemma2",
        class: "Gemma2ForCausalLM",
        block: BlockLayout::SandwichNorm,
        activation_key: "hidden_activation",
        sliding: SlidingLayers::AllBut(2),
        window: Some(4096),
        softcaps: Softcaps::Default([50.0, 30.0]),
        query_pre_attn_scalar: Some(256.0),
        ..GEMMA
    },
    // The text model of Gemma 3: Gemma 2 with norms on queries and keys instead of soft caps, and five sliding layers
    // per full-attention layer (arXiv 2503.19786).
    DecoderFamily {
        name: "gemma3_text",
        class: "Gemma3ForCausalLM",
        block: BlockLayout::SandwichNorm,
        qk_norm: QkNorm::PerHead,
        activation_key: "hidden_activation",
        sliding: SlidingLayers::AllBut(6),
        window: Some(4096),
        theta: 1e6,
        local_theta: LocalTheta::Unscaled(1e4),
        softcaps: Softcaps::Optional,
        query_pre_attn_scalar: Some(256.0),
        ..GEMMA
    },
    // SmolLM 3: every fourth layer has no rotary embedding.
    DecoderFamily {
        name: "smollm3",
        class: "SmolLM3ForCausalLM",
        mlp_bias: MlpBias::Key,
        sliding: SlidingLayers::WithoutRope,
        theta: 2e6,
        rope_layers: RopeLayers::Listed,
        tied: true,
        ..BASE
    },
    // OLMo: layer norms without parameters (arXiv 2402.00838).
    DecoderFamily {
        name: "olmo",
        class: "OlmoForCausalLM",
        norm: DecoderNorm::LAYER_NO_PARAMETERS,
        eps_key: None,
        eps: 1e-5,
        clip_qkv: true,
        ..BASE
    },
    // OLMo 2: norms after attention and MLP, queries and keys normalised over their whole width (arXiv 2501.00656).
    OLMO_2,
    // OLMo 3: OLMo 2 with three sliding layers per full-attention layer.
    DecoderFamily {
        name: "olmo3",
        class: "Olmo3ForCausalLM",
        sliding: SlidingLayers::AllBut(4),
        window: Some(4096),
        theta: 5e5,
        local_theta: LocalTheta::UnscaledGlobal,
        ..OLMO_2
    },
    // Granite 3: multipliers on embeddings, scores, residual branches and logits.
    DecoderFamily { name: "granite", class: "GraniteForCausalLM", mlp_bias: MlpBias::Key, multipliers: true, ..BASE },
    // StarCoder 2: layer norms with biases, an MLP without a gate, biases in all projections (arXiv 2402.19173).
    DecoderFamily {
        name: "starcoder2",
        class: "Starcoder2ForCausalLM",
        dialect: &names::STARCODER_2,
        norm: DecoderNorm::LAYER,
        gated: false,
        attention_bias_key: Some("use_bias"),
        attention_bias: true,
        mlp_bias: MlpBias::WithAttention,
        eps_key: Some("norm_epsilon"),
        eps: 1e-5,
        activation: Activation::GeluTanh,
        tied: true,
        ..BASE
    },
    // GLM-4 of 2024: half of each head is rotated, in the interleaved layout (arXiv 2406.12793).
    GLM,
    // GLM-4 of 2025: GLM-4 of 2024 with norms before and after attention and MLP.
    DecoderFamily {
        name: "glm4",
        class: "Glm4ForCausalLM",
        dialect: &names::GLM_4,
        block: BlockLayout::SandwichNorm,
        ..GLM
    },
    // Command R: parallel attention and MLP, layer norms without bias, interleaved rotary layout.
    COHERE,
    // Command R7B and A: Command R whose full-attention layers have no rotary embedding (arXiv 2504.00698).
    DecoderFamily {
        name: "cohere2",
        class: "Cohere2ForCausalLM",
        sliding: SlidingLayers::AllBut(4),
        window: Some(4096),
        theta: 1e4,
        rope_layers: RopeLayers::Sliding,
        ..COHERE
    },
    // StableLM 2: layer norms with biases, a quarter of each head rotated (arXiv 2402.17834).
    DecoderFamily {
        name: "stablelm",
        class: "StableLmForCausalLM",
        norm: DecoderNorm::LAYER,
        output_bias: false,
        attention_bias_key: Some("use_qkv_bias"),
        eps_key: Some("layer_norm_eps"),
        eps: 1e-5,
        rotary_fraction: 0.25,
        ..BASE
    },
    // Helium 1: interleaved rotary layout.
    DecoderFamily {
        name: "helium",
        class: "HeliumForCausalLM",
        interleaved: true,
        output_bias: false,
        mlp_bias: MlpBias::Key,
        eps: 1e-8,
        theta: 1e5,
        head_dim: Some(128),
        ..BASE
    },
    // Nemotron and Minitron: LayerNorm scales stored minus one, squared ReLU and no gate (arXiv 2407.14679).
    DecoderFamily {
        name: "nemotron",
        class: "NemotronForCausalLM",
        norm: DecoderNorm::LAYER_PLUS_ONE,
        gated: false,
        mlp_bias: MlpBias::Key,
        eps_key: Some("norm_eps"),
        eps: 1e-5,
        rotary_fraction: 0.5,
        activation: Activation::ReluSquared,
        ..BASE
    },
    // Arcee's AFM: an MLP with squared ReLU and no gate.
    DecoderFamily {
        name: "arcee",
        class: "ArceeForCausalLM",
        gated: false,
        mlp_bias: MlpBias::Key,
        eps: 1e-5,
        activation: Activation::ReluSquared,
        ..BASE
    },
    // Seed-OSS: biases on queries, keys and values.
    DecoderFamily {
        name: "seed_oss",
        class: "SeedOssForCausalLM",
        output_bias: false,
        attention_bias: true,
        attention_out_bias: true,
        mlp_bias: MlpBias::Key,
        head_dim: Some(128),
        ..BASE
    },
    // Mixtral: a mixture of experts in each layer (arXiv 2401.04088).
    DecoderFamily {
        name: "mixtral",
        class: "MixtralForCausalLM",
        dialect: &names::MIXTRAL,
        experts: Some(MoeKeys {
            count: "num_local_experts",
            width: "intermediate_size",
            shared: false,
            always_normalised: true,
            dense_layers: false,
        }),
        eps: 1e-5,
        theta: 1e6,
        ..BASE
    },
    // Qwen 1.5 and 2 with a mixture of experts and one shared expert.
    DecoderFamily {
        name: "qwen2_moe",
        class: "Qwen2MoeForCausalLM",
        dialect: &names::EXPERTS,
        qkv_bias: true,
        attention_bias_key: None,
        required_flags: &[("qkv_bias", true)],
        experts: Some(MoeKeys { shared: true, ..QWEN_EXPERTS }),
        sliding: SlidingLayers::Ambiguous,
        ..BASE
    },
    // Qwen 3 with a mixture of experts.
    DecoderFamily {
        name: "qwen3_moe",
        class: "Qwen3MoeForCausalLM",
        dialect: &names::EXPERTS,
        experts: Some(QWEN_EXPERTS),
        sliding: SlidingLayers::AllIfUsed,
        head_dim: None,
        ..QWEN_3
    },
    // OLMoE: a mixture of experts, queries and keys normalised over their whole width (arXiv 2409.02060).
    DecoderFamily {
        name: "olmoe",
        class: "OlmoeForCausalLM",
        dialect: &names::EXPERTS,
        qk_norm: QkNorm::AllHeads,
        experts: Some(MoeKeys {
            count: "num_experts",
            width: "intermediate_size",
            shared: false,
            always_normalised: false,
            dense_layers: false,
        }),
        eps: 1e-5,
        clip_qkv: true,
        ..BASE
    },
];

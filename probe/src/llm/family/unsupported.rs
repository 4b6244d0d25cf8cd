//! Why known families are not supported, for error messages.

/// Features that our decoder lacks, each with the `model_type`s and GGUF architectures that need it.
pub(super) const UNSUPPORTED: [(&str, &str); 15] = [
    (
        "it has state-space, linear-attention or recurrent layers",
        "mamba mamba2 falcon_mamba rwkv xlstm recurrent_gemma jamba bamba zamba zamba2 nemotron_h granitemoehybrid \
         falcon_h1 lfm2 lfm2_moe qwen3_next minimax kimi_linear olmo_hybrid qwen3_5_text qwen3_5_moe_text",
    ),
    (
        "it has learned absolute position embeddings instead of rotary ones",
        "gpt2 gpt_neo opt biogpt gpt_bigcode starcoder xglm openai-gpt ctrl",
    ),
    ("it encodes positions as biases on attention scores (ALiBi)", "bloom mpt"),
    (
        "its queries, keys and values are interleaved in one tensor, and its blocks are parallel",
        "gpt_neox gptneox gptj gpt_neox_japanese persimmon dbrx jetmoe codegen falcon",
    ),
    (
        "it compresses keys and values (multi-head latent attention)",
        "deepseek_v2 deepseek_v3 deepseek2 minicpm3 youtu kimi_k2",
    ),
    (
        "its experts are routed or stored in another way",
        "gpt_oss gpt-oss llama4 llama4_text granitemoe granitemoeshared phimoe dots1 glm4_moe ernie4_5_moe \
         hunyuan_v1_moe qwen3_vl_moe_text flex_olmo afmoe bailing_moe",
    ),
    (
        "its code is in its own repository, not in `transformers`",
        "chatglm baichuan internlm internlm2 internlm3 minicpm qwen aquila orion xverse deepseek openelm exaone plamo \
         dream",
    ),
    ("it has biases in other layers, and its blocks are parallel", "phi phi2"),
    ("it normalises queries and keys after the rotary embedding", "hunyuan_v1_dense"),
    ("its norms follow attention, and only some of its layers have a rotary embedding", "exaone4"),
    ("its activation has learned parameters (xIELU)", "apertus"),
    ("it has differential attention", "diffllama"),
    ("it has per-layer embeddings and several residual streams", "gemma3n gemma3n_text gemma4 gemma4_text"),
    (
        "it is a multimodal model, from which the language model is not extracted; use the language model by itself",
        "llava llava_next llava_onevision qwen2_vl qwen2_5_vl qwen3_vl mllama idefics idefics2 idefics3 smolvlm \
         paligemma \
         internvl mistral3 pixtral aya_vision blip-2",
    ),
    (
        "it is not a causal text decoder",
        "bert roberta distilbert albert electra deberta deberta-v2 modernbert xlm-roberta t5 mt5 umt5 bart mbart \
         pegasus \
         marian clip siglip vit whisper",
    ),
];

/// The feature of an unsupported `model_type` that our decoder lacks, as a clause for an error message.
pub(crate) fn missing_feature(name: &str) -> &'static str {
    let known = UNSUPPORTED.iter().find(|(_, names)| names.split_whitespace().any(|known| known == name));
    known.map_or("its network is unknown", |(feature, _)| feature)
}

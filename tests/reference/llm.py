"""Goldens of the decoder for every family: small random models of `transformers`, their logits and greedy continuations.

    python tests/reference/llm.py        (writes tests/golden/llm; half a minute on a CPU)

One directory per model: config.json as `save_pretrained` writes it, model.safetensors, golden.safetensors with `ids`
[3, n], `logits` [3, 8, vocabulary] of the last 8 positions and `greedy` [64], the continuation of the first row. A model
whose rotation angles depend on the present length (dynamic RoPE) also has `pieces`, the same logits when the sequences
are read through a cache in three pieces, and its `greedy` is made with a cache, as by `generate`.

`grown` [60] of a LongRoPE model is the continuation by `generate` (with its cache) of the first 30 ids of the first row,
beyond the length at which the factors change.

    python tests/reference/llm.py NAME…   makes only these.
Versions: torch 2.9.0, transformers 5.24.0, safetensors.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
from transformers import (
    ArceeConfig, Cohere2Config, CohereConfig, DynamicCache, Gemma2Config, Gemma3TextConfig, GemmaConfig, Glm4Config,
    GlmConfig, GraniteConfig, HeliumConfig, LlamaConfig, MistralConfig, MixtralConfig, NemotronConfig, Olmo2Config,
    Olmo3Config, OlmoConfig, OlmoeConfig, Phi3Config, Qwen2Config, Qwen2MoeConfig, Qwen3Config, Qwen3MoeConfig,
    SeedOssConfig, SmolLM3Config, StableLmConfig, Starcoder2Config,
)

OUT = Path(__file__).resolve().parents[1] / "golden" / "llm"
STEPS = 64
V = 71

SMALL = dict(
    vocab_size=V, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=512, pad_token_id=0, bos_token_id=1, eos_token_id=2,
)
# Of the families that came later.
TINY = SMALL | dict(vocab_size=41, hidden_size=16, intermediate_size=24, num_attention_heads=4, head_dim=8)
NARROW = {k: v for k, v in TINY.items() if k != "head_dim"} | dict(num_attention_heads=2, num_key_value_heads=1)
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=64)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=128)


def factors(seed: int, n: int, spread: float) -> list[float]:
    g = torch.Generator().manual_seed(seed)
    return [round(float(x), 3) for x in 1 + spread * torch.rand(n, generator=g)]


# name: configuration, length of the sequences
MODELS = {
    "llama-tied": (LlamaConfig(**SMALL, rms_norm_eps=1e-5, tie_word_embeddings=True), 11),
    "llama-3": (LlamaConfig(**SMALL, rms_norm_eps=1e-5, rope_theta=5e5, rope_scaling=LLAMA3), 200),
    "llama-linear-bias": (LlamaConfig(**SMALL, attention_bias=True, head_dim=12,
                                      rope_scaling=dict(rope_type="linear", factor=2.5)), 60),
    "mistral-window": (MistralConfig(**SMALL, sliding_window=9, rms_norm_eps=1e-5), 100),
    "qwen2-yarn": (Qwen2Config(**SMALL, rope_theta=1e6, rope_scaling=YARN, tie_word_embeddings=True), 300),
    "qwen2-window": (Qwen2Config(**SMALL, use_sliding_window=True, sliding_window=7, max_window_layers=1), 50),
    "qwen3": (Qwen3Config(**SMALL, head_dim=16, rope_theta=1e6), 40),
    "phi3-mini": (Phi3Config(**(SMALL | dict(num_key_value_heads=4)), sliding_window=33), 70),
    "phi3-long": (Phi3Config(**SMALL, original_max_position_embeddings=48, partial_rotary_factor=0.5, rope_scaling=dict(
        rope_type="longrope", short_factor=factors(1, 2, 0.3), long_factor=factors(2, 2, 4.0))), 100),
    "gemma3": (Gemma3TextConfig(**(SMALL | dict(num_hidden_layers=7)), head_dim=16, sliding_window=8,
                                query_pre_attn_scalar=24, rope_scaling=dict(rope_type="linear", factor=8.0)), 60),
    "llama-dynamic": (LlamaConfig(**(TINY | dict(max_position_embeddings=32)), attention_bias=True, mlp_bias=True,
                                  hidden_act="gelu", rope_scaling=dict(rope_type="dynamic", factor=2.0)), 60),
    "gemma": (GemmaConfig(**TINY), 40),
    "gemma2": (Gemma2Config(**(TINY | dict(num_hidden_layers=3)), sliding_window=8, query_pre_attn_scalar=24,
                            attn_logit_softcapping=2.0, final_logit_softcapping=5.0), 60),
    "smollm3": (SmolLM3Config(**(TINY | dict(num_hidden_layers=4))), 40),
    "olmo": (OlmoConfig(**NARROW, clip_qkv=0.7), 40),
    "olmo2": (Olmo2Config(**NARROW), 40),
    "olmo3": (Olmo3Config(**(NARROW | dict(num_hidden_layers=4)), sliding_window=8, rope_scaling=YARN), 60),
    "granite": (GraniteConfig(**NARROW, embedding_multiplier=3.0, attention_multiplier=0.3, residual_multiplier=0.4,
                              logits_scaling=2.5, mlp_bias=True), 40),
    "starcoder2": (Starcoder2Config(**NARROW, sliding_window=9), 40),
    "glm": (GlmConfig(**TINY), 40),
    "glm4": (Glm4Config(**TINY), 40),
    "cohere": (CohereConfig(**NARROW, logit_scale=0.3), 40),
    "cohere2": (Cohere2Config(**(TINY | dict(num_hidden_layers=4)), sliding_window=8, logit_scale=0.3), 40),
    "stablelm": (StableLmConfig(**(NARROW | dict(num_attention_heads=1)), use_qkv_bias=True), 40),
    "helium": (HeliumConfig(**NARROW, head_dim=8, hidden_act="relu"), 40),
    "nemotron": (NemotronConfig(**TINY), 40),
    "arcee": (ArceeConfig(**TINY), 40),
    "seed-oss": (SeedOssConfig(**TINY), 40),
    "mixtral": (MixtralConfig(**TINY, num_local_experts=4, num_experts_per_tok=2), 40),
    "qwen2-moe": (Qwen2MoeConfig(**NARROW, moe_intermediate_size=12, shared_expert_intermediate_size=20, num_experts=5,
                                 num_experts_per_tok=2), 40),
    "qwen3-moe": (Qwen3MoeConfig(**(TINY | dict(num_hidden_layers=3)), moe_intermediate_size=12, num_experts=5,
                                 num_experts_per_tok=2, norm_topk_prob=True, mlp_only_layers=[1]), 40),
    "olmoe": (OlmoeConfig(**NARROW, num_experts=5, num_experts_per_tok=2), 40),
}


def last_logits(m, ids: torch.Tensor, cuts: list[int]) -> torch.Tensor:
    """Logits of the last 8 positions, when the sequences are read through a cache in pieces."""
    cache, parts = DynamicCache(config=m.config), []
    for start, end in zip(cuts, cuts[1:]):
        parts.append(m(ids[:, start:end], past_key_values=cache, use_cache=True).logits)
    return torch.cat(parts, 1)[:, -8:]


def generated(m, ids: torch.Tensor, steps: int) -> torch.Tensor:
    """Continuation by `generate` with its cache; every id counts, also that of padding."""
    mask = torch.ones_like(ids)
    return m.generate(ids, attention_mask=mask, max_new_tokens=steps, min_new_tokens=steps, do_sample=False, eos_token_id=None)


def main() -> None:
    for number, (name, (config, length)) in enumerate(MODELS.items()):
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        torch.manual_seed(number)
        config._attn_implementation = "eager"
        m = AutoModelForCausalLM.from_config(config).eval().float()
        with torch.no_grad():
            for key, p in m.named_parameters():
                # Far from their initial values, so that no factor can be missed.
                p.add_(torch.randn_like(p) * (0.3 if "norm" in key or "bias" in key else 0.25))
        out = OUT / name
        out.mkdir(parents=True, exist_ok=True)
        if number < 10:
            # As they were made, byte for byte.
            m.config.save_pretrained(out)
            weights = {k: v.contiguous() for k, v in m.state_dict().items()}
            if config.tie_word_embeddings:
                weights.pop("lm_head.weight", None)
            save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
        else:
            m.save_pretrained(out)
            (out / "generation_config.json").unlink(missing_ok=True)
        ids = torch.randint(0, config.vocab_size, (3, length), generator=torch.Generator().manual_seed(number))
        dynamic = "dynamic" in name
        golden = {}
        with torch.no_grad():
            logits = m(ids, use_cache=False).logits[:, -8:]
            row = ids[:1]
            if dynamic:
                golden["pieces"] = last_logits(m, ids, [0, length // 3, length - 4, length]).contiguous()
                row = generated(m, row, STEPS)
            # Without a cache, so that what depends on the length of the whole is right at every step.
            while row.shape[1] < length + STEPS:
                row = torch.cat([row, m(row, use_cache=False).logits[:, -1:].argmax(-1)], 1)
            if "longrope" in json.dumps(m.config.to_dict().get("rope_parameters")):
                short = ids[:1, :30].long()
                # A fresh one: one made from its configuration mixes up its factors once it has read a long sequence. (4.57
                # reads on with other numbers than it has without a cache: only what 5 gives is consistent.)
                fresh = AutoModelForCausalLM.from_pretrained(out, attn_implementation="eager").eval()
                golden["grown"] = generated(fresh, short, 60)[0, 30:].int().contiguous()
        greedy = row[0, length:]
        golden |= {"ids": ids.int(), "logits": logits.contiguous(), "greedy": greedy.int().contiguous()}
        save_file(golden, out / "golden.safetensors")
        print(name, round(logits.std().item(), 3), len(set(greedy.tolist())), json.dumps(m.config.to_dict().get("rope_parameters")))


if __name__ == "__main__":
    main()

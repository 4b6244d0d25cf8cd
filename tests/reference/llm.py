"""Goldens of the decoder for every family: small random models of `transformers`, their logits and greedy continuations.

    python tests/reference/llm.py        (writes tests/golden/llm; half a minute on a CPU)

One directory a model: config.json as `save_pretrained` writes it, model.safetensors, golden.safetensors with `ids`
[3, n], `logits` [3, n, vocabulary] (only of the last 4 positions of long sequences, whose ids are drawn again by the
test) and `greedy` [64], the continuation of the first row.
Versions: torch 2.9.0, transformers 5.24.0, safetensors.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
from transformers import Gemma3TextConfig, LlamaConfig, MistralConfig, Phi3Config, Qwen2Config, Qwen3Config

OUT = Path(__file__).resolve().parents[1] / "golden" / "llm"
STEPS = 64
V = 71

SMALL = dict(
    vocab_size=V, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=512, pad_token_id=0, bos_token_id=1, eos_token_id=2,
)
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
}


def main() -> None:
    for number, (name, (config, length)) in enumerate(MODELS.items()):
        torch.manual_seed(number)
        config._attn_implementation = "eager"
        m = AutoModelForCausalLM.from_config(config).eval().float()
        with torch.no_grad():
            for key, p in m.named_parameters():
                # Far from their initial values, so that no factor can be missed.
                p.add_(torch.randn_like(p) * (0.3 if "norm" in key or "bias" in key else 0.25))
        out = OUT / name
        out.mkdir(parents=True, exist_ok=True)
        m.config.save_pretrained(out)
        weights = {k: v.contiguous() for k, v in m.state_dict().items()}
        if config.tie_word_embeddings:
            weights.pop("lm_head.weight", None)
        save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
        ids = torch.randint(0, V, (3, length), generator=torch.Generator().manual_seed(number))
        with torch.no_grad():
            logits = m(ids, use_cache=False).logits[:, -8:]
            row = ids[:1]
            # Without a cache, so that what depends on the length of the whole is right at every step.
            for _ in range(STEPS):
                row = torch.cat([row, m(row, use_cache=False).logits[:, -1:].argmax(-1)], 1)
        greedy = row[0, length:]
        save_file({"ids": ids.int(), "logits": logits.contiguous(), "greedy": greedy.int().contiguous()}, out / "golden.safetensors")
        print(name, round(logits.std().item(), 3), len(set(greedy.tolist())), json.dumps(m.config.to_dict().get("rope_parameters")))


if __name__ == "__main__":
    main()

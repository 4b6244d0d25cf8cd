"""Goldens of the LLaMA decoder: small random models of `transformers`, their logits and greedy continuations.

    python tests/reference/llama.py        (writes tests/golden/llama; seconds on a CPU)

torch 2.9.0, transformers {see VERSIONS in the written meta.json}, safetensors.
"""

import json
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

OUT = Path(__file__).resolve().parents[1] / "golden" / "llama"
STEPS = 32


def model(tied: bool, kv: int, layers: int) -> LlamaForCausalLM:
    torch.manual_seed(7 + kv)
    config = LlamaConfig(
        vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=kv, max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=10000.0,
        tie_word_embeddings=tied, attn_implementation="eager",
    )
    m = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, p in m.named_parameters():
            # Far from their initial values, so that no factor can be missed.
            p.add_(torch.randn_like(p) * (0.3 if "norm" in name else 0.15))
    return m


def main() -> None:
    for name, tied, kv, layers in [("tied", True, 2, 2), ("untied", False, 4, 1)]:
        m = model(tied, kv, layers)
        out = OUT / name
        out.mkdir(parents=True, exist_ok=True)
        config = m.config.to_dict()
        keep = ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                "vocab_size", "rms_norm_eps", "tie_word_embeddings", "max_position_embeddings", "hidden_act"]
        config = {k: config[k] for k in keep} | {"rope_theta": 10000.0}
        (out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        weights = {k: v.contiguous() for k, v in m.state_dict().items() if not (tied and k == "lm_head.weight")}
        save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
        ids = torch.randint(0, 61, (3, 11), generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            logits = m(ids).logits
            greedy = m.generate(ids[:1], max_new_tokens=STEPS, min_new_tokens=STEPS, do_sample=False, eos_token_id=None,
                                pad_token_id=0)[0, 11:]
        save_file({"ids": ids.int(), "logits": logits, "greedy": greedy.int()}, out / "golden.safetensors")
        print(name, logits.std().item(), greedy.tolist())
    (OUT / "meta.json").write_text(json.dumps({"torch": torch.__version__, "transformers": transformers.__version__}) + "\n")


if __name__ == "__main__":
    main()

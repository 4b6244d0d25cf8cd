"""Goldens of language models in GGUF: those of `llm.py`, converted as llama.cpp's `convert_hf_to_gguf.py` does it.

    python tests/reference/llm_gguf.py [NAME…]     (writes tests/golden/llm-gguf; seconds on a CPU)

`<model>.f32.gguf` holds the weights of `tests/golden/llm/<model>`; `<model>.q8.gguf` holds its matrices in 8-bit blocks
where their rows are long enough, else as f16 or bf16; and `<model>.q8.safetensors` holds the `logits` (of the last 8
positions, for the `ids` of the model's own golden) of `transformers` with the weights that gguf-py dequantises from it.
Versions: gguf 0.19.0, torch 2.9.0, transformers 5.24.0, safetensors.
"""

import json
import math
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

LLM = Path(__file__).resolve().parents[1] / "golden" / "llm"
OUT = LLM.with_name("llm-gguf")
# Gemma's scale of queries is written nowhere in GGUF and follows from the width of heads.
CHANGED = {
    "gemma3": dict(query_pre_attn_scalar=16), "gemma2": dict(query_pre_attn_scalar=8),
    # Nor is this one's window.
    "starcoder2": dict(sliding_window=None),
}
MODELS = {
    "llama-tied": "q8", "llama-3": "f32", "llama-linear-bias": "f32", "qwen2-yarn": "f32 q8", "qwen3": "f32 q8",
    "phi3-mini": "f32 q8", "phi3-long": "f32", "gemma3": "q8",
    "gemma": "q8", "gemma2": "q8", "smollm3": "f32", "olmo": "f32", "olmo2": "f32", "granite": "f32", "starcoder2": "q8",
    "glm4": "f32", "cohere": "f32", "cohere2": "f32", "stablelm": "f32", "nemotron": "q8",
}
PERMUTED = ("llama", "smollm3", "olmo", "granite")
PLUS_ONE = ("gemma", "gemma2", "gemma3_text", "nemotron")
ARCHITECTURES = {"gemma3_text": "gemma3", "cohere": "command-r"}


def permuted(w: np.ndarray, heads: int) -> np.ndarray:
    """Permutes the rows of each head from halves to alternating pairs."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def metadata(writer: gguf.GGUFWriter, c) -> None:
    rope = c.rope_parameters.get("full_attention", c.rope_parameters)
    head = getattr(c, "head_dim", None)
    writer.add_context_length(c.max_position_embeddings)
    writer.add_embedding_length(c.hidden_size)
    writer.add_block_count(c.num_hidden_layers)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv(c.num_key_value_heads)
    if hasattr(c, "rms_norm_eps"):
        writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    else:
        names = ("norm_epsilon", "layer_norm_eps", "norm_eps")
        writer.add_layer_norm_eps(next((getattr(c, n) for n in names if hasattr(c, n)), 1e-5))
    writer.add_rope_freq_base(rope["rope_theta"])
    if head is not None and c.model_type != "phi3":
        writer.add_key_length(head)
        writer.add_value_length(head)
    if c.model_type == "llama":
        writer.add_vocab_size(c.vocab_size)
        writer.add_rope_dimension_count(head or c.hidden_size // c.num_attention_heads)
    if c.model_type == "phi3":
        share = rope.get("partial_rotary_factor", 1.0)
        writer.add_rope_dimension_count(int(share * c.hidden_size) // c.num_attention_heads)
        writer.add_rope_scaling_orig_ctx_len(c.original_max_position_embeddings)
        writer.add_sliding_window(c.sliding_window or 0)
        if rope["rope_type"] == "longrope":
            original = c.original_max_position_embeddings
            scale = c.max_position_embeddings / original
            writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(scale) / math.log(original)))
    if c.model_type in ("gemma2", "gemma3_text", "cohere2"):
        writer.add_sliding_window(c.sliding_window)
    if c.model_type == "gemma2":
        writer.add_attn_logit_softcapping(c.attn_logit_softcapping)
        writer.add_final_logit_softcapping(c.final_logit_softcapping)
    if c.model_type == "olmo":
        writer.add_clamp_kqv(c.clip_qkv)
    if c.model_type == "granite":
        writer.add_attention_scale(c.attention_multiplier)
        writer.add_embedding_scale(c.embedding_multiplier)
        writer.add_residual_scale(c.residual_multiplier)
        writer.add_logit_scale(c.logits_scaling)
    if c.model_type in ("cohere", "cohere2"):
        writer.add_logit_scale(c.logit_scale)
        writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)
    if c.model_type in ("glm4", "stablelm", "nemotron"):
        width = head or c.hidden_size // c.num_attention_heads
        writer.add_rope_dimension_count(int(width * rope["partial_rotary_factor"]))
    if rope["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    writer.add_bos_token_id(c.bos_token_id)
    writer.add_eos_token_id(c.eos_token_id)
    writer.add_pad_token_id(c.pad_token_id)


def factors(c) -> dict[str, np.ndarray]:
    """Divisors of the rotation angles, which are stored like weights."""
    rope = c.rope_parameters.get("full_attention", c.rope_parameters)
    if rope["rope_type"] == "longrope":
        return {f"rope_factors_{n}.weight": np.array(rope[f"{n}_factor"], np.float32) for n in ("long", "short")}
    if rope["rope_type"] != "llama3":
        return {}
    dim = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    low, high, original = rope["low_freq_factor"], rope["high_freq_factor"], rope["original_max_position_embeddings"]
    out = []
    for frequency in 1.0 / (rope["rope_theta"] ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)):
        wave = 2 * math.pi / frequency
        if wave < original / high:
            out.append(1.0)
        elif wave > original / low:
            out.append(rope["factor"])
        else:
            smooth = (original / wave - low) / (high - low)
            out.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return {"rope_freqs.weight": np.array(out, np.float32)}


def written(tensor: np.ndarray, number: int, how: str) -> tuple[np.ndarray, Type]:
    if how == "f32" or tensor.ndim < 2:
        return tensor, Type.F32
    kind = Type.Q8_0 if tensor.shape[-1] % 32 == 0 else [Type.F16, Type.BF16][number % 2]
    return gguf.quantize(tensor, kind), kind


def convert(name: str, how: str) -> None:
    c = AutoConfig.from_pretrained(LLM / name, **CHANGED.get(name, {}))
    arch = ARCHITECTURES.get(c.model_type, c.model_type)
    names = gguf.get_tensor_name_map({v: k for k, v in gguf.MODEL_ARCH_NAMES.items()}[arch], c.num_hidden_layers)
    writer = gguf.GGUFWriter(OUT / f"{name}.{how}.gguf", arch)
    metadata(writer, c)
    for key, values in factors(c).items():
        writer.add_tensor(key, values)
    dequantised = {}
    for number, (key, values) in enumerate(load_file(LLM / name / "model.safetensors").items()):
        values = values.float().numpy()
        heads = {"q_proj": c.num_attention_heads, "k_proj": c.num_key_value_heads}.get(key.split(".")[-2])
        if c.model_type in PERMUTED and heads:
            values = permuted(values, heads)
        if c.model_type in PLUS_ONE and key.endswith("norm.weight"):
            values = values + np.float32(1)
        data, kind = written(values, number, how)
        stem, ending = key.rsplit(".", 1)
        writer.add_tensor(f"{names.get_name(stem)}.{ending}", data, raw_dtype=kind)
        back = gguf.dequantize(data, kind).reshape(values.shape)
        if c.model_type in PERMUTED and heads:
            back = back.reshape(heads, -1, 2, *back.shape[1:]).swapaxes(1, 2).reshape(back.shape)
        if c.model_type in PLUS_ONE and key.endswith("norm.weight"):
            back = back - np.float32(1)
        dequantised[key] = torch.from_numpy(np.ascontiguousarray(back, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    if how == "f32":
        return
    c._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(c).eval().float()
    absent = set(model.load_state_dict(dequantised, strict=False).missing_keys)
    assert absent <= ({"lm_head.weight"} if c.tie_word_embeddings else set()), absent
    model.tie_weights()
    ids = load_file(LLM / name / "golden.safetensors")["ids"].long()
    with torch.no_grad():
        logits = model(ids, use_cache=False).logits[:, -8:]
    save_file({"logits": logits.contiguous()}, OUT / f"{name}.{how}.safetensors")
    exact = load_file(LLM / name / "golden.safetensors")["logits"]
    print(name, how, "quantisation changes the logits by", round(((logits - exact).norm() / exact.norm()).item(), 4))


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    for name, kinds in MODELS.items():
        if not sys.argv[1:] or name in sys.argv[1:]:
            for how in kinds.split():
                convert(name, how)


if __name__ == "__main__":
    main()

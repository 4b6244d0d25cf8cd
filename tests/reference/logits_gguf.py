"""Distance of the logits of llama.cpp, of Burgess and of exact arithmetic on the same GGUF files.

    python tests/reference/made_gguf.py OUT --sizes 1.1b
    python tests/reference/logits_gguf.py OUT/made-1.1b-q4_k_m.gguf … [--activations f32,int8] [--without-exact]

`exact` are f32 logits with the weights that gguf-py dequantises (LLaMA only).
llama.cpp computes products with 8-bit activations. Burgess prints the log-probabilities of the 64 tokens of a text and of
the five likeliest alternatives of each (`burgess ask --continuation --logprobs --json`); at these 384 places
differences of log-probabilities are compared with the root mean square of the exact logits there: ‖Δ‖/‖ref‖.
Perplexity is that of the text.
Versions: llama-cpp-python 0.3.36, gguf 0.19.0, torch 2.9.0.
"""

import argparse
import json
import math
import pathlib
import subprocess
import sys

import gguf
import llama_cpp
import numpy as np
import torch

ROOT = pathlib.Path(__file__).parents[2]
PROMPT = "the cat"
TEXT = " ".join("sat on a mat and saw the dog run far off into the old red barn so it hid in hay till dawn came".split())
COUNT = 64


def burgess(binary: str, file: str, activations: str) -> list[dict]:
    command = [binary, "ask", "--llm", file, "--raw", PROMPT, "--continuation", f" {TEXT} {TEXT}", "--logprobs", "--json"]
    command += ["--activations", activations] if activations else []
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    tokens = [json.loads(line) for line in done.stdout.splitlines()]
    return [token for token in tokens if "id" in token][:COUNT]


def llama(file: str, continuation: list[int]) -> tuple[list[int], np.ndarray]:
    """The ids of the whole text, and llama.cpp's logits `[tokens of the continuation, vocabulary]`."""
    model = llama_cpp.Llama(file, n_ctx=512, n_batch=512, n_threads=2, logits_all=True, verbose=False)
    ids = model.tokenize(PROMPT.encode(), add_bos=True)
    at = len(ids)
    ids = ids + continuation
    model.eval(ids)
    return ids, np.array(model.scores[at - 1 : len(ids) - 1], np.float64)


def exact(file: str, ids: list[int], count: int) -> np.ndarray:
    """Logits of a LLaMA in f32; each matrix is dequantised when it is used."""
    reader = gguf.GGUFReader(file)
    tensors = {tensor.name: tensor for tensor in reader.tensors}

    def number(key: str) -> float:
        return reader.fields[f"llama.{key}"].contents()

    def weight(name: str) -> torch.Tensor:
        tensor = tensors[f"{name}.weight"]
        return torch.from_numpy(np.array(gguf.dequantize(tensor.data, tensor.tensor_type), np.float32))

    heads, kv_heads = number("attention.head_count"), number("attention.head_count_kv")
    width = number("embedding_length") // heads
    angles = torch.arange(len(ids))[:, None] / number("rope.freq_base") ** (torch.arange(0, width, 2) / width)
    cos, sin = angles.cos(), angles.sin()

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        scale = (x.square().mean(-1, keepdim=True) + number("attention.layer_norm_rms_epsilon")).rsqrt()
        return x * scale * weight(name)

    def rotate(x: torch.Tensor) -> torch.Tensor:
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)

    def split(x: torch.Tensor, n: int) -> torch.Tensor:
        return x.view(len(ids), n, width).transpose(0, 1)

    x = weight("token_embd")[ids]
    for layer in range(number("block_count")):
        at = f"blk.{layer}."
        y = norm(x, at + "attn_norm")
        q, k, v = (split(y @ weight(f"{at}attn_{n}").T, h) for n, h in zip("qkv", (heads, kv_heads, kv_heads), strict=True))
        k, v = (t.repeat_interleave(heads // kv_heads, 0) for t in (rotate(k), v))
        y = torch.nn.functional.scaled_dot_product_attention(rotate(q), k, v, is_causal=True)
        x = x + y.transpose(0, 1).reshape(len(ids), -1) @ weight(at + "attn_output").T
        y = norm(x, at + "ffn_norm")
        y = torch.nn.functional.silu(y @ weight(at + "ffn_gate").T) * (y @ weight(at + "ffn_up").T)
        x = x + y @ weight(at + "ffn_down").T
    output = "output" if "output.weight" in tensors else "token_embd"
    return (norm(x[-count - 1 : -1], "output_norm") @ weight(output).T).double().numpy()


def log_softmax(logits: np.ndarray) -> np.ndarray:
    top = logits.max(-1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--binary", default=ROOT / "target" / "release" / "burgess")
    parser.add_argument("--activations", default="", help="f32, int8 or both")
    parser.add_argument("--without-exact", action="store_true", help="compare with llama.cpp only")
    args = parser.parse_args()
    print(f"{'file':24} {'logits':16} {'compared with':14} {'|d|/|ref|':>10} {'largest d':>10} {'likeliest equal':>16} "
          f"{'perplexity':>11}")
    for file in args.files:
        found, places = {}, {}
        for activations in args.activations.split(","):
            name = f"Burgess {activations}".strip()
            tokens = burgess(args.binary, file, activations)
            places[name] = [(row, t["id"], t["logprob"]) for row, t in enumerate(tokens)]
            places[name] += [(row, a["id"], a["logprob"]) for row, t in enumerate(tokens) for a in t["top"]]
            text = [t["id"] for t in tokens]
        ids, found["llama.cpp"] = llama(file, text)
        if not args.without_exact:
            found["exact"] = exact(file, ids, len(text))
        for reference in found:
            base, base_probabilities = found[reference], log_softmax(found[reference])
            # The places are those of one side, so that all are compared at the same ones.
            rows, columns, _ = (np.array(x) for x in zip(*next(iter(places.values())), strict=True))
            scale = np.sqrt((base[rows, columns] ** 2).mean())
            others = {name: values for name, values in found.items() if reference == "exact" and name != "exact"}
            for name, values in {**places, **others}.items():
                if isinstance(values, list):
                    r, c, p = (np.array(x) for x in zip(*values, strict=True))
                    best = [c[len(text) + 5 * row] for row in range(len(text))]
                else:
                    r, c, p = rows, columns, log_softmax(values)[rows, columns]
                    best = values.argmax(-1)
                difference = p - base_probabilities[r, c]
                equal = (base.argmax(-1) == best).sum()
                perplexity = math.exp(-p[: len(text)].mean())
                distance = np.sqrt((difference**2).mean()) / scale
                print(f"{pathlib.Path(file).stem:24} {name:16} {reference:14} {distance:10.2e} "
                      f"{np.abs(difference).max():10.2e} {equal:10} of {len(text)} {perplexity:11.1f}", flush=True)


if __name__ == "__main__":
    main()

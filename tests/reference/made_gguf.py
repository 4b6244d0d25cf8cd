"""Writes GGUF files of LLaMA models with made-up weights, in llama.cpp's own block types, to measure speed and memory.

    python tests/reference/made_gguf.py OUT [--sizes 1.1b,7b] [--types q4_k_m,q8_0]
    python tests/reference/made_gguf.py OUT --sizes 1.1b --types q4_k_m,q8_0,q4_0,q6_k,f16

Writes OUT/made-SIZE-TYPE.gguf: 1.1b has the shape of TinyLlama-1.1B, 7b that of Llama-2-7B, 110m 8 layers of width 768
(for a quick check of the scripts). Matrices are normal
numbers with the standard deviation that keeps activations of order one, quantised by llama.cpp's ggml_quantize_chunk; the
types of the tensors are those of llama-quantize (Q4_K_M: attn_v and ffn_down of half of the layers in Q6_K, the output in
Q6_K). Layers take their matrices from four distinct ones of each shape by turns, so that a file of 7B takes a minute.
The vocabulary of 32,000 made-up pieces is a SentencePiece one. The same arguments give the same bytes.
Versions: gguf 0.19.0, llama-cpp-python 0.3.36, numpy.
"""

import argparse
import concurrent.futures
import ctypes
import itertools
import pathlib
import string

import gguf
import llama_cpp
import numpy as np
from gguf import GGMLQuantizationType as Type

# Width, width of the MLP, layers, heads, heads of keys and values.
SIZES = {
    "110m": (768, 2048, 8, 12, 4),
    "1.1b": (2048, 5632, 22, 32, 4),
    "7b": (4096, 11008, 32, 32, 32),
}
VOCABULARY = 32000
DISTINCT = 4
TYPES = {
    "q4_k_m": Type.Q4_K, "q8_0": Type.Q8_0, "q4_0": Type.Q4_0, "q5_0": Type.Q5_0, "q6_k": Type.Q6_K, "f16": Type.F16,
    "q5_k": Type.Q5_K, "q3_k": Type.Q3_K, "q2_k": Type.Q2_K, "bf16": Type.BF16, "q4_1": Type.Q4_1, "q5_1": Type.Q5_1,
}
FILE_TYPES = {
    "q4_k_m": gguf.LlamaFileType.MOSTLY_Q4_K_M, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "q4_0": gguf.LlamaFileType.MOSTLY_Q4_0, "q6_k": gguf.LlamaFileType.MOSTLY_Q6_K,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
}

ggml = ctypes.CDLL(str(next(pathlib.Path(llama_cpp.__file__).parent.glob("lib/libggml-base.so"))))
ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
ggml.ggml_quantize_chunk.argtypes = [
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]


def quantised(values: np.ndarray, kind: Type) -> np.ndarray:
    """The rows of a matrix in blocks, as bytes `[rows, bytes of a row]`."""
    rows, columns = values.shape
    block, size = gguf.GGML_QUANT_SIZES[kind]
    assert columns % block == 0, f"rows of {columns} numbers are not a multiple of {block} ({kind.name})"
    out = np.empty((rows, columns // block * size), np.uint8)
    ggml.ggml_quantize_chunk(kind, values.ctypes.data, out.ctypes.data, 0, rows, columns, None)
    return out


def use_more_bits(layer: int, layers: int) -> bool:
    """llama-quantize's choice of layers whose attn_v and ffn_down get a larger type."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def kind_of(name: str, layer: int, layers: int, wanted: str) -> Type:
    """llama-quantize's type of a tensor."""
    if wanted == "q4_k_m" and name in ("attn_v", "ffn_down") and use_more_bits(layer, layers):
        return Type.Q6_K
    if name == "output" and wanted not in ("q8_0", "f16", "bf16"):
        return Type.Q6_K
    return TYPES[wanted]


def vocabulary(writer: gguf.GGUFWriter) -> None:
    letters = string.ascii_lowercase
    words = itertools.chain(
        [" ", ".", ",", "?", "!", "'", "\n"], letters, string.ascii_uppercase, string.digits,
        (" " + a for a in letters), *(("".join(p) for p in itertools.product(letters, repeat=n)) for n in (2, 3)),
        (" " + "".join(p) for p in itertools.product(letters, repeat=3)))
    pieces = [word.replace(" ", "\u2581") for word in itertools.islice(words, VOCABULARY - 259)]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + pieces)
    writer.add_token_scores([0.0] * 259 + [-float(i) for i in range(len(pieces))])
    writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * len(pieces))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)


def write(path: pathlib.Path, size: str, wanted: str) -> None:
    width, mlp, layers, heads, kv_heads = SIZES[size]
    kv = width // heads * kv_heads
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(path.stem)
    writer.add_context_length(4096)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(mlp)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(width // heads)
    writer.add_vocab_size(VOCABULARY)
    if wanted in FILE_TYPES:
        writer.add_file_type(FILE_TYPES[wanted])
    vocabulary(writer)

    def matrix(shape: tuple[int, int], kind: Type, number: int) -> np.ndarray:
        seed = [*shape, number]
        values = np.random.default_rng(seed).standard_normal(shape, np.float32) * np.float32(shape[1] ** -0.5)
        if kind == Type.F16:
            return values.astype(np.float16)
        return quantised(values, kind)

    shapes = {
        "attn_q": (width, width), "attn_k": (kv, width), "attn_v": (kv, width), "attn_output": (width, width),
        "ffn_gate": (mlp, width), "ffn_up": (mlp, width), "ffn_down": (width, mlp),
    }
    tensors = [("token_embd.weight", (VOCABULARY, width), kind_of("token_embd", 0, layers, wanted), 0)]
    for layer in range(layers):
        for at, (name, shape) in enumerate(shapes.items()):
            kind = kind_of(name, layer, layers, wanted)
            tensors.append((f"blk.{layer}.{name}.weight", shape, kind, at * DISTINCT + layer % DISTINCT))
    tensors.append(("output.weight", (VOCABULARY, width), kind_of("output", 0, layers, wanted), 1))
    needed = sorted({(shape, kind, number) for _, shape, kind, number in tensors})
    # llama.cpp's code runs outside the interpreter's lock.
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        made = dict(zip(needed, pool.map(lambda key: matrix(*key), needed), strict=True))
    norms = [name for layer in range(layers) for name in (f"blk.{layer}.attn_norm", f"blk.{layer}.ffn_norm")]
    for name in [*norms, "output_norm"]:
        writer.add_tensor(f"{name}.weight", np.ones(width, np.float32))
    for name, shape, kind, number in tensors:
        writer.add_tensor(name, made[shape, kind, number], raw_dtype=None if kind == Type.F16 else kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"{path}: {path.stat().st_size / 1e9:.2f} GB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--sizes", default="1.1b", help=" ".join(SIZES))
    parser.add_argument("--types", default="q4_k_m,q8_0", help=" ".join(TYPES))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for size, wanted in itertools.product(args.sizes.split(","), args.types.split(",")):
        write(args.out / f"made-{size}-{wanted}.gguf", size, wanted)


if __name__ == "__main__":
    main()

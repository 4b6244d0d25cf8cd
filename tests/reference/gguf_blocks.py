"""Goldens of GGUF's number types: blocks of every type, and the values to which gguf-py dequantises them.

    python tests/reference/gguf_blocks.py         (writes tests/golden/gguf; seconds on a CPU)

gguf 0.19.0, numpy, safetensors.

`types.gguf` holds two tensors of each type: `<type>.quantised`, which gguf-py quantised (for the types that it supports),
and `<type>.random`, of random bytes, which exercise every bit; only their 16-bit scales are drawn as floats, so that all
values are finite. `expected.safetensors` has the same tensors as f32. `split-0000?-of-00003.gguf` is one model in three
files, the first without tensors.
"""

from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import save_file

OUT = Path(__file__).resolve().parents[1] / "golden" / "gguf"
# Places of 16-bit floats within a block.
SCALES = {
    Type.F16: [0], Type.BF16: [], Type.F32: [], Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2],
    Type.Q8_0: [0], Type.Q2_K: [80, 82], Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208],
}
SHAPE = (3, 256)


def random_bytes(kind: Type, rng: np.random.Generator) -> np.ndarray:
    """Random rows of bytes for a tensor of SHAPE."""
    numbers, size = gguf.GGML_QUANT_SIZES[kind]
    if kind in (Type.F32, Type.BF16):
        values = rng.standard_normal(SHAPE).astype(np.float32) * np.float32(10.0) ** rng.integers(-30, 30, SHAPE)
        return values.astype(np.float32).view(np.uint8) if kind == Type.F32 else gguf.quantize(values, kind)
    blocks = rng.integers(0, 256, (SHAPE[0], SHAPE[1] // numbers, size), dtype=np.uint8)
    for place in SCALES[kind]:
        # Of both signs, large, small and subnormal.
        scale = rng.standard_normal(blocks.shape[:2]) * 10.0 ** rng.integers(-7, 3, blocks.shape[:2])
        blocks[..., place:place + 2] = scale.astype(np.float16)[..., None].view(np.uint8)
    return blocks.reshape(SHAPE[0], -1)


def types() -> None:
    rng = np.random.default_rng(5)
    writer = gguf.GGUFWriter(OUT / "types.gguf", "test")
    # One of each type of metadata.
    writer.add_uint8("test.u8", 200)
    writer.add_int8("test.i8", -100)
    writer.add_uint16("test.u16", 60_000)
    writer.add_int16("test.i16", -30_000)
    writer.add_uint32("test.u32", 4_000_000_000)
    writer.add_int32("test.i32", -2_000_000_000)
    writer.add_uint64("test.u64", 2**64 - 1)
    writer.add_int64("test.i64", -(2**63))
    writer.add_float32("test.f32", 0.1)
    writer.add_float64("test.f64", 0.1)
    writer.add_bool("test.flag", True)
    writer.add_string("test.text", "Grüße, 世界 🙂\n")
    writer.add_array("test.texts", ["", "a", "▁été", "<0x0A>"])
    writer.add_array("test.integers", [-1, 2, -3])
    writer.add_array("test.numbers", [0.5, -0.25])
    writer.add_array("test.flags", [True, False, True])
    expected = {}
    for kind in SCALES:
        made = {"random": random_bytes(kind, rng)}
        try:
            made["quantised"] = gguf.quantize(rng.standard_normal(SHAPE).astype(np.float32), kind)
        except NotImplementedError:
            print(f"{kind.name}: random bytes only")
        for how, data in made.items():
            name = f"{kind.name}.{how}"
            writer.add_tensor(name, data, raw_dtype=kind)
            values = gguf.dequantize(data, kind).astype(np.float32).reshape(SHAPE)
            assert np.isfinite(values).all(), name
            expected[name] = values
    # A vector in blocks.
    vector = gguf.quantize(rng.standard_normal(64).astype(np.float32), Type.Q8_0)
    writer.add_tensor("vector", vector, raw_dtype=Type.Q8_0)
    expected["vector"] = gguf.dequantize(vector, Type.Q8_0)
    # One number, whose padding is longer than itself.
    writer.add_tensor("one", np.array([7.0], dtype=np.float32))
    expected["one"] = np.array([7.0], dtype=np.float32)
    finish(writer)
    save_file(expected, OUT / "expected.safetensors")


def split() -> None:
    """Writes the parts that gguf-split writes: part 0 has the metadata and no tensors."""
    for part in range(3):
        writer = gguf.GGUFWriter(OUT / f"split-{part + 1:05}-of-00003.gguf", "test")
        writer.add_uint16("split.no", part)
        writer.add_uint16("split.count", 3)
        writer.add_int32("split.tensors.count", 3)
        if part == 0:
            writer.add_string("test.text", "of the whole")
        for i in [[], [0, 1], [2]][part]:
            writer.add_tensor(f"w{i}", np.full((2, 3), i, dtype=np.float32))
        finish(writer)


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    types()
    split()


if __name__ == "__main__":
    main()

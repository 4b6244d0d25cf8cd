"""Measures the peak memory of training on the device flex and prints it beside Burgess' own estimate.

    cargo build --release
    python tests/reference/peak_memory.py WORK [--binary target/release/burgess] [--steps 4] [--threads 1] [--only NAME]

Each configuration is a `burgess train` of its own process, of a language model of the LLaMA family with made-up weights
and nano-lm's tokenizer, on the conversations of the nano world with six turns. The peak is that of the resident memory
(`ru_maxrss`, as VmHWM); the estimate is that of `burgess train --dry-run --json`. Prints one line per configuration:
positions of a row in the largest step, estimate, peak, and how far the estimate is off. The test of
`experiments/src/run/cost/memory.rs` holds these peaks.
Versions: numpy, safetensors.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
from safetensors.numpy import save_file

ROOT = pathlib.Path(__file__).parents[2]
# Width, depth, MLP width, heads, heads of keys and values, vocabulary.
MODELS = {
    "nano": (128, 6, 352, 4, 2, 1024),
    "32M": (512, 8, 1408, 8, 4, 16384),
    "110M": (768, 12, 2048, 12, 12, 32000),
}
BOTH = 'trainable = ["connector", "llm"]'
# Name, language model, encoder, freeze, lines of the tune stage, features, steps beyond the default.
CONFIGURATIONS = [
    ("nano, frozen", "nano", "nano-clip", "frozen", f"batch = 16\n{BOTH}", "cached", None),
    ("nano, unfrozen", "nano", "nano-clip", "unfrozen",
     'batch = 16\ntrainable = ["connector", "llm", "encoder"]', "cached", None),
    ("32M, batch 8", "32M", "nano-clip", "frozen", f"batch = 8\n{BOTH}", "cached", None),
    ("110M, batch 8", "110M", "nano-clip", "frozen", f"batch = 8\n{BOTH}", "cached", None),
    ("32M, checkpointing", "32M", "nano-clip", "frozen", f"batch = 32\ncheckpointing = true\n{BOTH}", "cached", None),
    ("32M, accumulation", "32M", "nano-clip", "frozen", f"batch = 32\naccumulate = 4\n{BOTH}", "cached", None),
    ("110M, LoRA", "110M", "nano-clip", "frozen", f"batch = 8\nlora = {{ rank = 16, alpha = 32 }}\n{BOTH}", "cached", None),
    ("32M, computed ViT-B", "32M", "mocov3-b16@random", "frozen", f"batch = 4\n{BOTH}", "computed", None),
    ("32M, batch 32", "32M", "nano-clip", "frozen", f"batch = 32\n{BOTH}", "cached", None),
    ("32M, connector only", "32M", "nano-clip", "frozen", 'batch = 32\ntrainable = ["connector"]', "cached", None),
    ("nano, 60 steps", "nano", "nano-clip", "frozen", f"batch = 8\n{BOTH}", "cached", 60),
]
RUN = """
name = "{name}"
encoders = ["{encoder}"]
freeze = "{freeze}"
seed = 0
[evaluator]
llm = "{llm}"
connector = "mlp2x_gelu"
features = "{features}"
[evaluator.data.world]
seed = 0
align = 8
tune = 256
turns = 6
per_benchmark = 8
[evaluator.recipe.align]
steps = 1
batch = 4
lr = 1e-3
trainable = ["connector"]
[evaluator.recipe.tune]
steps = {steps}
lr = 1e-5
{stage}
"""


def make(folder: pathlib.Path, size: tuple[int, ...]) -> None:
    """Writes a language model in Hugging Face's layout."""
    width, depth, mlp, heads, kv, vocabulary = size
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    keys = width // heads * kv
    shapes = {"model.embed_tokens.weight": (vocabulary, width), "model.norm.weight": (width,)}
    for i in range(depth):
        layer = f"model.layers.{i}"
        shapes |= {
            f"{layer}.self_attn.q_proj.weight": (width, width), f"{layer}.self_attn.k_proj.weight": (keys, width),
            f"{layer}.self_attn.v_proj.weight": (keys, width), f"{layer}.self_attn.o_proj.weight": (width, width),
            f"{layer}.mlp.gate_proj.weight": (mlp, width), f"{layer}.mlp.up_proj.weight": (mlp, width),
            f"{layer}.mlp.down_proj.weight": (width, mlp),
            f"{layer}.input_layernorm.weight": (width,), f"{layer}.post_attention_layernorm.weight": (width,)}
    tensors = {
        name: np.ones(shape, np.float32) if len(shape) == 1 else
        (random.standard_normal(shape) * 0.02).astype(np.float32) for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((ROOT / "probe/zoo/nano-lm/config.json").read_text())
    config |= {
        "hidden_size": width, "intermediate_size": mlp, "num_hidden_layers": depth, "num_attention_heads": heads,
        "num_key_value_heads": kv, "vocab_size": vocabulary, "max_position_embeddings": 2048}
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    for file in ("tokenizer.json", "chat.json"):
        shutil.copy(ROOT / "probe/zoo/nano-lm" / file, folder)


def peak(command: list[str]) -> float:
    """Runs a command and returns its peak resident memory in MiB."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)}\n{output}")
    return usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--binary", default=str(ROOT / "target/release/burgess"))
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", help="configurations whose name contains this")
    args = parser.parse_args()
    work = args.work.resolve()
    for name, size in MODELS.items():
        if not (work / name).exists():
            make(work / name, size)
    print(f"{'':22} {'positions':>9} {'estimate MiB':>13} {'peak MiB':>9} {'off by':>8}")
    for name, llm, encoder, freeze, stage, features, steps in CONFIGURATIONS:
        if args.only and args.only not in name:
            continue
        slug = name.replace(", ", "-").replace(" ", "-")
        run = work / f"{slug}.toml"
        run.write_text(RUN.format(
            name=slug, llm=work / llm, encoder=encoder, freeze=freeze, stage=stage, features=features,
            steps=steps or args.steps))
        out = work / "runs" / slug
        shutil.rmtree(out, ignore_errors=True)
        command = [args.binary, "train", str(run), "--out", str(out), "--threads", str(args.threads)]
        planned = json.loads(subprocess.run(
            [*command, "--dry-run", "--json"], capture_output=True, text=True, check=True).stdout)
        # Features are encoded by a process of its own, so that the peak is that of training.
        if features == "cached":
            peak(command)
            shutil.rmtree(out)
        found = peak(command)
        estimate = planned["memory"]["estimate"]["device"] / 2**20
        steps = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
        batch = int(stage.split("batch = ")[1].split()[0])
        longest = max(step["tokens"] for step in steps if step["stage"] == "tune") / batch
        print(f"{name:22} {longest:9.0f} {estimate:13.1f} {found:9.1f} {100 * (estimate / found - 1):+7.1f}%", flush=True)


if __name__ == "__main__":
    main()

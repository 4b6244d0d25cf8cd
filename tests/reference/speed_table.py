"""One table of speed and memory: PyTorch in f32 and in bf16, llama.cpp, and Burgess, on this machine, from one run.

    cargo build --release
    python tests/reference/made_gguf.py OUT --sizes 1.1b,7b
    python tests/reference/speed_table.py [--gguf OUT/*.gguf] [--rounds 3] [--only features,prompt] > table.md

A row is one kind of work, by `speed.py` (features), `speed_llm.py` (SmolLM2-135M and ViT-B/16, random weights) and
`speed_gguf.py` (GGUF files), whose documentation says what is measured. Every side of every row is measured in processes
of its own, alternating in each round; a number is the median of the rounds, followed by the peak memory of the process in
GB, in parentheses. The ratio is that of the fastest column of Burgess to the fastest of the others, whatever their
precision; in brackets stands its ratio to PyTorch in f32. All sides use two threads.
Versions: torch 2.9.0, timm 1.0.20, transformers 5.24.0, llama-cpp-python 0.3.36.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Callable

ROOT = pathlib.Path(__file__).parents[2]
HERE = pathlib.Path(__file__).parent
ENCODERS = {"mocov3-b16": ("ViT-B/16@224", 8), "openai-clip-l14-336": ("ViT-L/14@336", 4)}
# Work of `burgess bench evaluator`, its batch, its name and unit.
EVALUATOR = [
    ("prompt", 1, "prompt of 512 tokens", "tokens/s"),
    ("decode", 1, "decode, batch 1", "tokens/s"),
    ("decode", 8, "decode, batch 8", "tokens/s"),
    ("align", 4, "align step", "samples/s"),
    ("align-encoding", 4, "align step with encoding", "samples/s"),
    ("tune", 4, "tune step", "samples/s"),
]
COLUMNS = ["PyTorch f32", "PyTorch bf16", "llama.cpp", "Burgess f32", "Burgess bf16", "Burgess"]

Side = Callable[[], tuple[float, int]]


def measured(command: list) -> tuple[list[str], int]:
    """The lines that a command prints, and the peak memory of its process in bytes."""
    environment = {**os.environ, "RAYON_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, text=True, env=environment)
    lines = process.stdout.read().splitlines()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"this command failed: {' '.join(map(str, command))}")
    return lines, usage.ru_maxrss * 1024


def rows(args: argparse.Namespace) -> list[tuple[str, str, dict[str, Side]]]:
    """Each row: the work, its unit, and its sides by column."""
    seconds = f"--seconds={args.seconds}"

    def features(card: str, batch: int) -> dict[str, Side]:
        def pytorch(precision: str) -> tuple[float, int]:
            script = [sys.executable, HERE / "speed.py", "--reference", card, f"--precision={precision}"]
            lines, peak = measured([*script, f"--batches={batch}", seconds])
            return json.loads(lines[-1])[str(batch)], peak

        def burgess(precision: str) -> tuple[float, int]:
            bench = [args.binary, "bench", "encoders", card, "--json", "--batch", batch, seconds]
            lines, peak = measured([*bench, *(["--precision", precision] if precision != "f32" else [])])
            return json.loads(lines[-1])["images_per_second"], peak

        sides = {f"PyTorch {p}": lambda p=p: pytorch(p) for p in ("f32", "bf16")}
        return sides | {f"Burgess {p}": lambda p=p: burgess(p) for p in args.encoder_precisions.split(",")}

    def evaluator(work: str, batch: int) -> dict[str, Side]:
        def pytorch(precision: str) -> tuple[float, int]:
            script = [sys.executable, HERE / "speed_llm.py", "--reference", f"--torch-precision={precision}"]
            lines, peak = measured([*script, f"--work={work}", f"--batch={batch}", seconds])
            (speed,) = json.loads(lines[-1]).values()
            return speed, peak

        def burgess(precision: str) -> tuple[float, int]:
            bench = [args.binary, "bench", "evaluator", "--json", "--work", work, "--batch", batch, seconds]
            lines, peak = measured([*bench, *(["--precision", precision] if precision != "f32" else [])])
            return json.loads(lines[-1])["per_second"], peak

        sides = {f"PyTorch {p}": lambda p=p: pytorch(p) for p in ("f32", "bf16")}
        return sides | {f"Burgess {p}": lambda p=p: burgess(p) for p in args.evaluator_precisions.split(",")}

    def gguf(file: str, work: str) -> dict[str, Side]:
        def llama_cpp() -> tuple[float, int]:
            lines, peak = measured([sys.executable, HERE / "speed_gguf.py", "--reference", file, f"--work={work}", seconds])
            return json.loads(lines[-1])[f"{work} 1"], peak

        def burgess() -> tuple[float, int]:
            bench = [args.binary, "bench", "evaluator", "--llm", file, "--json", "--work", work, "--batch", 1, seconds]
            lines, peak = measured([*bench, *(["--activations", args.activations] if args.activations else [])])
            return json.loads(lines[-1])["per_second"], peak

        return {"llama.cpp": llama_cpp, "Burgess": burgess}

    found = [(f"features, {name}, batch {batch}", "images/s", features(card, batch))
             for card, (name, batch) in ENCODERS.items()]
    found += [(name, unit, evaluator(work, batch)) for work, batch, name, unit in EVALUATOR]
    for file in args.gguf:
        size = pathlib.Path(file).stat().st_size / 1e9
        for work, name in (("prompt", "prompt of 512 tokens"), ("decode", "decode, batch 1")):
            found.append((f"{name}, {pathlib.Path(file).stem} ({size:.2f} GB)", "tokens/s", gguf(file, work)))
    wanted = args.only.split(",") if args.only else [""]
    return [row for row in found if any(row[0].startswith(start) for start in wanted)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", nargs="*", default=[], help="GGUF files")
    parser.add_argument("--binary", default=ROOT / "target" / "release" / "burgess")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="least duration of each measurement")
    parser.add_argument("--only", default="", help="beginnings of the rows that are measured [default: all]")
    parser.add_argument("--encoder-precisions", default="f32,bf16", help="of Burgess' encoders")
    parser.add_argument("--evaluator-precisions", default="f32,bf16", help="of Burgess' evaluator")
    parser.add_argument("--activations", default="", help="f32, int16 or int8: of Burgess' products with the matrices of GGUF files")
    args = parser.parse_args()
    print(f"| work | unit | {' | '.join(COLUMNS)} | ratio |\n|{'---|' * (len(COLUMNS) + 3)}", flush=True)
    for name, unit, sides in rows(args):
        found = {column: [] for column in sides}
        for _ in range(args.rounds):
            for column, side in sides.items():
                found[column].append(side())
        speed = {column: statistics.median(s for s, _ in turns) for column, turns in found.items()}
        peak = {column: statistics.median(p for _, p in turns) / 1e9 for column, turns in found.items()}
        ours = max(value for column, value in speed.items() if column.startswith("Burgess"))
        others = max(value for column, value in speed.items() if not column.startswith("Burgess"))
        ratio = f"{ours / others:.2f}"
        if "PyTorch f32" in speed:
            ratio += f" [{ours / speed['PyTorch f32']:.2f}]"
        cells = [f"{speed[c]:.4g} ({peak[c]:.2f})" if c in speed else "" for c in COLUMNS]
        print(f"| {name} | {unit} | {' | '.join(cells)} | {ratio} |", flush=True)


if __name__ == "__main__":
    main()

"""Prompt and decoding speed and memory on the same GGUF file: llama.cpp and Burgess, alternating in one run.

    python tests/reference/made_gguf.py OUT --sizes 1.1b,7b         (files with made-up weights, or take your own)
    cargo build --release
    python tests/reference/speed_gguf.py OUT/*.gguf [--rounds 3] [--seconds 5] [--activations f32,int8]

Versions: llama-cpp-python 0.3.36 (built on the machine, `CMAKE_ARGS=-DGGML_NATIVE=ON pip install --no-binary :all:
llama-cpp-python`), gguf 0.19.0.
Both sides use two threads, map the file, read a prompt of 512 tokens in one batch, and decode 16 tokens one by one after
128, with the logits of the last token and their maximum each time. Loading and one warm-up run are not counted. Each round
measures each side in a process of its own; a side's result is its median round. Memory is the peak of the process
(VmHWM), which counts the pages of the mapped file that are resident; llama.cpp packs some block types anew for its
kernels, in memory beside the file.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[2]
PROMPT, CONTEXT, DECODED = 512, 128, 16
FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}


def peak_bytes() -> int:
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def reference(path: str, work: list[str], threads: int, seconds: float, flash_attention: str) -> None:
    """Measures llama.cpp and prints JSON."""
    import ctypes

    import llama_cpp
    import numpy as np

    quiet = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p())
    llama_cpp.llama_backend_init()
    mp = llama_cpp.llama_model_default_params()
    mp.use_mmap = True
    model = llama_cpp.llama_model_load_from_file(path.encode(), mp)
    if not model:
        sys.exit(f"llama.cpp cannot load {path}")
    cp = llama_cpp.llama_context_default_params()
    cp.n_ctx, cp.n_batch, cp.n_ubatch = PROMPT + 64, PROMPT, PROMPT
    cp.n_threads = cp.n_threads_batch = threads
    cp.flash_attn_type = FLASH_ATTENTION[flash_attention]
    ctx = llama_cpp.llama_init_from_model(model, cp)
    memory = llama_cpp.llama_get_memory(ctx)
    vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))

    def read(tokens: list[int]) -> int:
        array = (llama_cpp.llama_token * len(tokens))(*tokens)
        if llama_cpp.llama_decode(ctx, llama_cpp.llama_batch_get_one(array, len(tokens))):
            sys.exit("llama_decode failed")
        logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(ctx, -1), (vocabulary,))
        return int(logits.argmax())

    def ids(count: int, salt: int) -> list[int]:
        return [(i * 7919 + salt * 104_729) % vocabulary for i in range(count)]

    def per_second(units: int, before, run) -> float:
        spent, begin = [], None
        while len(spent) < 4 or time.perf_counter() - begin < seconds:
            before()
            begin = begin if spent else time.perf_counter()
            start = time.perf_counter()
            run()
            spent.append(time.perf_counter() - start)
        return units / statistics.median(spent[1:])

    def decode() -> None:
        for step in range(DECODED):
            read(ids(1, step))

    found = {}
    clear = lambda: llama_cpp.llama_memory_clear(memory, True)  # noqa: E731
    if "prompt" in work:
        found["prompt 1"] = per_second(PROMPT, clear, lambda: read(ids(PROMPT, 0)))
    if "decode" in work:
        clear()
        read(ids(CONTEXT, 0))
        crop = lambda: llama_cpp.llama_memory_seq_rm(memory, 0, CONTEXT, -1)  # noqa: E731
        found["decode 1"] = per_second(DECODED, crop, decode)
    print(json.dumps({**found, "peak_bytes": peak_bytes()}))


def run(command: list) -> list[str]:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout.splitlines()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", help=".gguf files")
    parser.add_argument("--binary", default=ROOT / "target" / "release" / "burgess")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="least duration of each measurement")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--flash-attention", default="auto", choices=FLASH_ATTENTION, help="of llama.cpp")
    parser.add_argument("--activations", default="", help="f32, int8 or both: the type of Burgess' activations in products")
    parser.add_argument("--work", default="prompt,decode", help="of --reference")
    parser.add_argument("--without-burgess", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--reference", action="store_true", help="measure llama.cpp and print JSON (for the script itself)")
    args = parser.parse_args()
    if args.reference:
        return reference(args.files[0], args.work.split(","), args.threads, args.seconds, args.flash_attention)

    def llama_cpp(file: str) -> dict:
        how = [f"--threads={args.threads}", f"--seconds={args.seconds}", f"--flash-attention={args.flash_attention}"]
        return json.loads(run([sys.executable, __file__, "--reference", file, *how])[-1])

    def burgess(file: str, activations: str) -> dict:
        command = ["env", f"RAYON_NUM_THREADS={args.threads}", args.binary, "bench", "evaluator", "--llm", file]
        command += ["--work", "prompt,decode", "--batch", "1", "--prompt", PROMPT, "--seconds", max(1, round(args.seconds))]
        command += ["--json", *(["--activations", activations] if activations else [])]
        lines = [json.loads(line) for line in run(command)]
        peak = max(line["peak_bytes"] for line in lines)
        return {**{f"{line['work']} {line['batch']}": line["per_second"] for line in lines}, "peak_bytes": peak}

    sides = {"llama.cpp": llama_cpp}
    for activations in [] if args.without_burgess else args.activations.split(","):
        name = " ".join(["Burgess", activations]).strip()
        sides[name] = lambda file, activations=activations: burgess(file, activations)
    if not args.json:
        print(f"{args.threads} threads, median of {args.rounds} rounds; ratio to llama.cpp")
        print(f"{'file':28} {'GB':>6}  {'side':14} {'prompt tokens/s':>16} {'ratio':>6} {'decode tokens/s':>16} "
              f"{'ratio':>6} {'peak GB':>8} {'peak/file':>9}")
    for file in args.files:
        found = {name: [] for name in sides}
        for _ in range(args.rounds):
            for name, side in sides.items():
                found[name].append(side(file))
        size = pathlib.Path(file).stat().st_size
        medians = {
            name: {key: statistics.median(turn[key] for turn in turns) for key in turns[0]} for name, turns in found.items()}
        for name, values in medians.items():
            prompt, decode, peak = values["prompt 1"], values["decode 1"], values["peak_bytes"]
            base = medians["llama.cpp"]
            if args.json:
                print(json.dumps({"file": pathlib.Path(file).name, "file_bytes": size, "side": name, **values}))
                continue
            stem = pathlib.Path(file).stem
            print(f"{stem:28} {size / 1e9:6.2f}  {name:14} {prompt:16.1f} {prompt / base['prompt 1']:6.2f} "
                  f"{decode:16.2f} {decode / base['decode 1']:6.2f} {peak / 1e9:8.2f} {peak / size:9.2f}", flush=True)


if __name__ == "__main__":
    main()

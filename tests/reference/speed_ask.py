"""Questions per second of `burgess eval`, of asking one question at a time, and of lmms-eval, by turns in one run.

    burgess rank STUDY …                                       (a study whose connector transformers' LLaVA computes)
    serve_harnesses.py make STUDY/ARM/seed-0/samples/nano-mme.jsonl DATA --count 200 --vlmevalkit DIR
    burgess export STUDY/ARM/seed-0/model --to EXPORT
    speed_ask.py EXPORT DATA --burgess target/release/burgess --rounds 3

All three answer the same questions of MME (DATA/png/bench/mme) with the same weights, greedily, at most 32 tokens:

- `eval`: `burgess eval`; its time is `seconds` of results.json. It also asks every question blind, so it gives two answers
  to each: the table counts questions.
- `one by one`: the loop that a script would write, one request at a time to `burgess serve --prefix-cache-mb 0`, which
  encodes the image of every request.
- `lmms-eval`: `llava_hf` through transformers, as published, with its default batch size of 1. Its time is that of all
  questions less that of one question, so that loading the model does not count.

The answers with the image must be the same. Needs lmms-eval 0.7.3 (with filelock 3.20 and decord), transformers 5.24, torch 2.9, openai 3.57, pyarrow.
"""

import argparse
import base64
import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import pyarrow.parquet

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", type=pathlib.Path, help="exported model")
parser.add_argument("data", type=pathlib.Path, help="directory with png/bench/mme")
parser.add_argument("--burgess", default="target/release/burgess")
parser.add_argument("--old", help="another burgess binary, to compare `eval` with that of an earlier version")
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--device", default="flex", help="device of Burgess")
parser.add_argument("--torch-device", default="cpu")
parser.add_argument("--without-lmms-eval", action="store_true")
args = parser.parse_args()

PARQUET = args.data / "png/bench/mme/test-00000-of-00001.parquet"
ROWS = pyarrow.parquet.read_table(PARQUET).to_pylist()
SUFFIX = "\nAnswer the question using a single word or phrase."


def prompt(row: dict) -> str:
    """The prompt of lmms-eval's MME."""
    return row["question"].replace(" Please answer yes or no.", "") + SUFFIX


def by_eval(binary: str, folder: pathlib.Path) -> tuple[float, list[str]]:
    command = [binary, "eval", "--model", args.model, "--benchmarks", "mme", "--data", args.data / "png"]
    command += ["--prompts", "lmms-eval", "--scoring", "lmms-eval", "--out", folder, "--name", "m", "--device", args.device]
    subprocess.run([str(c) for c in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    run = folder / "eval/m/seed-0"
    samples = [json.loads(line) for line in (run / "samples/mme.jsonl").read_text().splitlines()]
    return json.loads((run / "results.json").read_text())["results"]["mme"]["seconds"], [s["answer"] for s in samples]


def one_by_one(_: pathlib.Path) -> tuple[float, list[str]]:
    from openai import OpenAI

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [args.burgess, "serve", "--model", str(args.model), "--port", str(port), "--prefix-cache-mb", "0"]
    server = subprocess.Popen([*command, "--device", args.device], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")
        for _ in range(600):
            try:
                name = client.models.list().data[0].id
                break
            except Exception:
                time.sleep(0.2)

        def ask(row: dict) -> str:
            url = f"data:image/png;base64,{base64.b64encode(row['image']['bytes']).decode()}"
            content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": prompt(row)}]
            messages = [{"role": "user", "content": content}]
            reply = client.chat.completions.create(model=name, messages=messages, temperature=0, max_tokens=32)
            return reply.choices[0].message.content

        ask(ROWS[0])
        start = time.perf_counter()
        answers = [ask(row) for row in ROWS]
        return time.perf_counter() - start, answers
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


def by_lmms_eval(folder: pathlib.Path) -> tuple[float, list[str]]:
    import lmms_eval.tasks

    task = pathlib.Path(lmms_eval.tasks.__file__).parent / "mme/mme.yaml"
    files = {"test": str(PARQUET.resolve())}
    text = f"include: {task}\ntask: mme_local\ndataset_path: parquet\ndataset_kwargs:\n  data_files: {json.dumps(files)}\n"
    # `burgess eval` allows 32 tokens, the task 16.
    text += "generation_kwargs:\n  max_new_tokens: 32\n  temperature: 0\n  do_sample: false\n"
    (folder / "mme_local.yaml").write_text(text)
    model = f"pretrained={args.model.resolve()},device={args.torch_device},device_map={args.torch_device},dtype=float32,attn_implementation=sdpa"
    command = [sys.executable, "-m", "lmms_eval", "--model", "llava_hf", "--model_args", model, "--tasks", "mme_local"]
    command += ["--include_path", str(folder), "--batch_size", "1", "--log_samples"]
    seconds = {}
    for name, limit in [("one", ["--limit", "1"]), ("all", [])]:
        start = time.perf_counter()
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "hf")}
        output = ["--output_path", str(folder / name)]
        subprocess.run([*command, *limit, *output], check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seconds[name] = time.perf_counter() - start
    # lmms-eval exits with 0 after an error.
    written = next((folder / "all").rglob("*_samples_mme_local.jsonl"), None)
    if written is None:
        sys.exit("lmms-eval wrote no samples: run it by hand to see its error")
    lines = written.read_text().splitlines()
    samples = sorted((json.loads(line) for line in lines), key=lambda s: s["doc_id"])
    answers = [s["filtered_resps"][0] if isinstance(s["filtered_resps"], list) else s["filtered_resps"] for s in samples]
    return (seconds["all"] - seconds["one"]) * len(ROWS) / (len(ROWS) - 1), answers


ways = {"eval": lambda folder: by_eval(args.burgess, folder), "one by one": one_by_one}
if args.old:
    ways["eval, earlier version"] = lambda folder: by_eval(args.old, folder)
if not args.without_lmms_eval:
    ways["lmms-eval"] = by_lmms_eval
times = {name: [] for name in ways}
answers = {}
for turn in range(args.rounds):
    for name, way in ways.items():
        with tempfile.TemporaryDirectory() as folder:
            seconds, said = way(pathlib.Path(folder))
        times[name].append(seconds)
        answers[name] = [answer.strip() for answer in said]
        print(f"turn {turn + 1}, {name}: {seconds:.2f} s", flush=True)
print(f"{len(ROWS)} questions about {len({row['image']['bytes'] for row in ROWS})} images, median of {args.rounds} turns")
naive = statistics.median(times["one by one"])
for name, seconds in times.items():
    median = statistics.median(seconds)
    equal = sum(a == b for a, b in zip(answers[name], answers["eval"], strict=True))
    print(f"{name:<22} {len(ROWS) / median:8.1f} questions/s  {naive / median:6.2f} × one by one  {equal} answers as eval")

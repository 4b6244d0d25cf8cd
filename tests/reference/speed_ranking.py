"""Cost of a whole ranking, on this machine, in one run: as the paper's scripts do it, and as `burgess rank` does it.

    cargo build --release
    python tests/reference/speed_ranking.py WORK [--study vit|nano] [--seeds 2] [--curves | --only-curves] [--without-paper]

Both ways compute the same study with the same engine, so that the ratio shows the method and not the engine. The paper's
way (Cambrian-1's scripts): one process per run, which encodes the images of every training step; then one process per
benchmark, which loads the model, encodes the image of each question, and answers one question at a time. It is made of
Burgess' own commands: `rank --stage train --arm A --seeds S` of the study with `features = "computed"`; and `serve
--max-batch 1 --prefix-cache-mb 0`, started for each benchmark, with one request after another. Then single parts are
replaced, in this order, until everything is done by one `burgess rank`:

    cache      features of each image computed once (`--stage encode`), training reads them
    prefixes   one server per benchmark that keeps the images that it has processed (`--prefix-cache-mb 512`)
    batches    `burgess eval` per benchmark: an image is encoded once, questions are answered in batches
    together   `rank --stage eval`: features from the cache, the questions of all benchmarks in one list
    rank       `burgess rank`: runs side by side, models in memory between the stages

`burgess eval` and `rank` also ask every question without its image (blind), the servers do not. Rendering of the images
and pretrained weights are made before and not counted. The answers of all ways to all questions must be the same.

--study vit (default): two encoders of the size of ViT-S/16 at 224 pixels with made-up weights and one language model of 1
million parameters: encoding is the largest part of the cost, as in a search over encoders with a small evaluator. Four
arms: each encoder, both together, and the first under another connector. --study nano: four arms of the nano study, whose
encoders of 1 million parameters cost less than the language model, so that there is little to cache. With language models
of billions of parameters training is the largest part, which neither way avoids: no cache makes such a study ten times
cheaper, only the evaluation.
--curves (or --only-curves) also (only) measures the cost of `burgess rank` with 1 to 4 arms, 1 to 4 seeds, and 1 to 8 times the questions.
Versions: torch 2.9.0, timm 1.0.20, safetensors (made-up weights of --study vit only).
"""

import argparse
import base64
import http.client
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[2]
BENCHMARKS = ["nano-mme", "nano-gqa", "nano-ai2d", "nano-docvqa", "nano-cvbench-2d", "nano-mmvp"]
STUDY = """
name = "{name}"
title = "Cost of a ranking"
question = "What does a ranking cost?"
seeds = {seeds}
{arms}
[evaluator]
llm = "nano-lm"
features = "{features}"
connector = {{ mlp2x_gelu = {{ positions = true, standardise = true }} }}
benchmarks = {benchmarks}
[evaluator.data.world]
seed = 0
align = {align}
tune = {tune}
turns = 6
per_benchmark = {units}
[evaluator.recipe.align]
epochs = 1.0
batch = 4
optimiser = "muon"
lr = 1e-2
trainable = ["connector"]
[evaluator.recipe.tune]
epochs = 1.0
batch = 16
optimiser = "muon"
lr = 5e-4
connector_lr = 2e-3
trainable = ["connector", "llm"]
"""
# Images of the align and the tune stage, units per benchmark.
SIZES = {"vit": (128, 64, 32), "nano": (512, 128, 64)}


def make_vit(folder: pathlib.Path, seed: int) -> str:
    """Writes a ViT-S/16 with made-up weights in timm's layout."""
    import timm
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    model = timm.create_model("vit_small_patch16_224", num_classes=0)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / "model.safetensors")
    pretrained = {
        "input_size": [3, 224, 224], "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "crop_pct": 0.9,
        "num_classes": 0, "first_conv": "patch_embed.proj", "classifier": "head"}
    config = {
        "architecture": "vit_small_patch16_224", "num_classes": 0, "num_features": 384, "pretrained_cfg": pretrained}
    (folder / "config.json").write_text(json.dumps(config))
    return f"{folder}@grid=4"


class Machine:
    """Commands of Burgess with a cache of their own below a folder."""

    def __init__(self, binary: str, work: pathlib.Path, study: str, sizes: list[int]):
        self.binary, self.work, self.align_tune_units = binary, work, sizes
        self.cache = work / "cache"
        self.environment = {**os.environ, "BURGESS_CACHE": str(self.cache)}
        if study == "vit":
            a, b = make_vit(work / "vit-a", 0), make_vit(work / "vit-b", 1)
        else:
            a, b = "nano-siglip", "nano-dinov2"
        self.arms = {
            "a": f'encoders = ["{a}"]', "b": f'encoders = ["{b}"]', "a-and-b": f'encoders = ["{a}", "{b}"]',
            "a-linear": f'encoders = ["{a}"]\nconnector = {{ linear = {{ positions = true, standardise = true }} }}'}

    def study(self, name: str, arms: list[str], seeds: int, units: int, features: str = "cached") -> pathlib.Path:
        """Writes a study."""
        align, tune, _ = self.align_tune_units
        lines = "".join(f'[[arms]]\nname = "{arm}"\n{self.arms[arm]}\n' for arm in arms)
        path = self.work / f"{name}.toml"
        path.write_text(STUDY.format(
            name=name, arms=lines, seeds=list(range(seeds)), benchmarks=json.dumps(BENCHMARKS), features=features,
            align=align, tune=tune, units=units))
        return path

    def output(self, *arguments) -> str:
        """Runs a command and returns what it prints."""
        command = [str(a) for a in (self.binary, *arguments)]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)}\n{done.stderr}")
        return done.stdout

    def run(self, *arguments) -> float:
        """Runs a command and returns its seconds."""
        start = time.perf_counter()
        self.output(*arguments)
        return time.perf_counter() - start

    def forget_features(self) -> None:
        shutil.rmtree(self.cache / "features", ignore_errors=True)

    def render(self, study: pathlib.Path) -> pathlib.Path:
        """Renders the images of a study, and nothing else; the directory of the world."""
        before = set(self.cache.glob("worlds/*"))
        # The cheapest command that needs the images: encoding them with an encoder of the nano study.
        probe = self.work / "render.toml"
        text = study.read_text().split("[[arms]]")[0] + '[[arms]]\nencoders = ["nano-random"]\n'
        probe.write_text(text + study.read_text()[study.read_text().index("[evaluator]"):])
        self.run("rank", probe, "--out", self.work / "render", "--stage", "encode")
        self.forget_features()
        (world,) = set(self.cache.glob("worlds/*")) - before or before
        return world


def ask_one_by_one(
    machine: Machine, model: pathlib.Path, samples: pathlib.Path, max_tokens: int, prefix_cache: int
) -> tuple[float, list[str]]:
    """Starts a server, asks the questions of a benchmark one after another, and ends it: seconds and answers."""
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    start = time.perf_counter()
    command = [machine.binary, "serve", "--model", f"m={model}", "--port", "0", "--json", "--max-batch", "1"]
    command = [str(c) for c in (*command, "--prefix-cache-mb", prefix_cache)]
    server = subprocess.Popen(
        command, env=machine.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        address = json.loads(server.stdout.readline())["address"].split("//")[1].strip("/")
        connection = http.client.HTTPConnection(address, timeout=600)
        answers = []
        for row in rows:
            image = base64.b64encode(pathlib.Path(row["image"]).read_bytes()).decode()
            content = [
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}},
                {"type": "text", "text": row["prompt"]}]
            messages = [{"role": "user", "content": content}]
            body = {"model": "m", "messages": messages, "temperature": 0, "max_tokens": max_tokens}
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
            reply = json.loads(connection.getresponse().read())
            answers.append(reply["choices"][0]["message"]["content"])
        return time.perf_counter() - start, answers
    finally:
        server.terminate()
        server.wait(60)


def answers(samples: pathlib.Path) -> list[str]:
    return [json.loads(line)["answer"] for line in samples.read_text().splitlines()]


def compare(machine: Machine, seeds: int, with_paper: bool) -> None:
    arms, units = list(machine.arms), machine.align_tune_units[2]
    ours = machine.study("ours", arms, seeds, units)
    world = machine.render(ours)
    runs = [(arm, seed) for arm in arms for seed in range(seeds)]
    rank = machine.run("rank", ours, "--out", machine.work / "rank")
    machine.forget_features()

    def directory(out: str, study: str, arm: str, seed: int) -> pathlib.Path:
        return machine.work / out / study / arm / f"seed-{seed}"

    def stages(study: pathlib.Path, out: str, stage: str) -> float:
        """The seconds of one process per run."""
        return sum(
            machine.run("rank", study, "--out", machine.work / out, "--stage", stage, "--arm", arm, "--seeds", seed)
            for arm, seed in runs)

    encode = machine.run("rank", ours, "--out", machine.work / "parts", "--stage", "encode")
    train = stages(ours, "parts", "train")
    together = stages(ours, "parts", "eval")
    different, questions = [], 0

    def check(way: str, found: list[str], arm: str, seed: int, benchmark: str) -> None:
        right = answers(directory("rank", "ours", arm, seed) / "samples" / f"{benchmark}.jsonl")
        for at, (a, b) in enumerate(zip(right, found, strict=True)):
            if a.strip() != b.strip():
                different.append(f"{way}, {arm}, seed {seed}, {benchmark}, question {at}: {b!r}, by rank {a!r}")

    batches = 0.0
    for arm, seed in runs:
        for benchmark in BENCHMARKS:
            out, model = machine.work / "eval" / f"{arm}-{seed}-{benchmark}", directory("parts", "ours", arm, seed) / "model"
            batches += machine.run(
                "eval", "--model", model, "--benchmarks", benchmark, "--data", world, "--out", out, "--name", "m")
            found = answers(out / "eval/m/seed-0/samples" / f"{benchmark}.jsonl")
            questions += len(found)
            check("batches", found, arm, seed, benchmark)

    limits = {b: json.loads(machine.output("prompts", b, "--json", "--data", world))["max_new_tokens"] for b in BENCHMARKS}

    def served(out: str, study: str, prefix_cache: int) -> float:
        total = 0.0
        for arm, seed in runs:
            for benchmark in BENCHMARKS:
                samples = directory("rank", "ours", arm, seed) / "samples" / f"{benchmark}.jsonl"
                model = directory(out, study, arm, seed) / "model"
                seconds, found = ask_one_by_one(machine, model, samples, limits[benchmark], prefix_cache)
                total += seconds
                check(f"{out}, {prefix_cache} MB", found, arm, seed, benchmark)
        return total

    rows = []
    if with_paper:
        paper = machine.study("paper", arms, seeds, units, "computed")
        paper_train, paper_ask = stages(paper, "paper", "train"), served("paper", "paper", 0)
        rows.append(("paper's way", paper_train, paper_ask))
        rows.append(("+ cache", encode + train, paper_ask))
        rows.append(("+ prefixes", encode + train, served("parts", "ours", 512)))
    rows.append(("+ batches", encode + train, batches))
    rows.append(("+ together", encode + train, together))
    align, tune, _ = machine.align_tune_units
    print(f"{len(arms)} arms × {seeds} seeds, {align} + {tune} training images, {len(BENCHMARKS)} benchmarks with "
          f"{questions // len(runs)} questions; {len(different)} answers differ")
    print(f"{'':14} {'training s':>11} {'answering s':>12} {'total s':>9} {'cheaper':>8}")
    first = sum(rows[0][1:])
    for name, training, answering in rows:
        total = training + answering
        print(f"{name:14} {training:11.1f} {answering:12.1f} {total:9.1f} {first / total:7.2f}×")
    print(f"{'burgess rank':14} {'':11} {'':12} {rank:9.1f} {first / rank:7.2f}×", flush=True)
    if different:
        sys.exit("\n".join(different))


def curves(machine: Machine) -> None:
    """Cost of `burgess rank` against the number of arms, seeds and questions."""
    arms, units = list(machine.arms), machine.align_tune_units[2]
    points = [("arms", n, (arms[:n], 1, units)) for n in (1, 2, 3, 4)]
    points += [("seeds", n, (arms[:1], n, units)) for n in (1, 2, 4)]
    points += [("questions", n, (arms[:1], 1, units * n)) for n in (1, 2, 4, 8)]
    for name, count, (chosen, seeds, units) in points:
        study = machine.study(f"curve-{name}-{count}", chosen, seeds, units)
        machine.render(study)
        seconds = machine.run("rank", study, "--out", machine.work / "curves")
        machine.forget_features()
        if count == 1:
            base = seconds
            print(f"{name} × | burgess rank s | per unit, of one")
        print(f"{count:{len(name) + 2}} | {seconds:14.1f} | {seconds / count / base:16.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=pathlib.Path, help="a directory that does not exist yet")
    parser.add_argument("--study", choices=SIZES, default="vit")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--sizes", help="images of the align stage, of the tune stage, and of each benchmark: 128,64,32")
    parser.add_argument("--binary", default=ROOT / "target" / "release" / "burgess")
    parser.add_argument("--curves", action="store_true")
    parser.add_argument("--only-curves", action="store_true")
    parser.add_argument("--without-paper", action="store_true", help="leave out the paper's way")
    args = parser.parse_args()
    work = args.work.resolve()
    work.mkdir(parents=True)
    sizes = [int(n) for n in args.sizes.split(",")] if args.sizes else SIZES[args.study]
    machine = Machine(args.binary, work, args.study, sizes)
    if not args.only_curves:
        compare(machine, args.seeds, not args.without_paper)
    if args.curves or args.only_curves:
        curves(machine)


if __name__ == "__main__":
    main()

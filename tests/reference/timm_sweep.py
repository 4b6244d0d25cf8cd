"""Features of timm's architectures at their true size, by `burgess encode DIR`, against timm.

Versions: torch 2.9.0, timm 1.0.20, pillow, safetensors.
Run from anywhere, with a release build: python tests/reference/timm_sweep.py BURGESS OUT.tsv [--pattern 'regnet*'] [--max 120]

For each architecture with pretrained tags and at most `--max` million parameters: a model of timm with random weights
(norms, biases and layer scales are moved away from their initial values, running statistics are those of random images)
is saved with its config.json, and one image of the network's own size is encoded by both, and by timm in f64. OUT.tsv gets
a line per architecture as soon as it is known, so that an interrupted sweep goes on where it stopped: name, number of
pretrained tags, million parameters, ‖a − b‖ / ‖b‖ of the features from timm's in f64 or the reason why not, the same of
timm's features in f32 (deep random networks amplify rounding), seconds of both. Nothing is committed but the outcome.
"""

import argparse
import collections
import fnmatch
import json
import math
import pathlib
import subprocess
import tempfile
import time

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from timm_zoo import tokens, uniform

SIZES = pathlib.Path(__file__).parents[1] / "golden" / "timm" / "architectures.tsv"


def perturb(model, side):
    """Moves everything away from its initial value; batch norms get the statistics of random images."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.from_numpy(uniform(name, parameter.numel()).astype(np.float32)).reshape(parameter.shape)
            if parameter.ndim <= 1 and parameter.abs().max() < 0.5 and not name.endswith("bias"):
                parameter.copy_(0.3 + 0.2 * noise)  # layer scales
            elif parameter.ndim <= 1:
                parameter.add_(0.1 * noise)
            elif parameter.abs().max() == 0:
                parameter.copy_(0.02 * noise)
        norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
        if norms:
            model.eval()
            for norm in norms:
                norm.train()
                norm.momentum = 1.0
            model.forward_features(torch.from_numpy(uniform("statistics", 6 * side * side).astype(np.float32)).reshape(2, 3, side, side) * 2)
    return model.eval()


def measure(name, burgess, size, limit):
    if size > limit:
        return size, "larger than --max", 0, 0, 0
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False)
    side = model.pretrained_cfg["input_size"][1]
    model = perturb(model, side)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        folder = pathlib.Path(folder)
        pixels = (127.5 * (1 + uniform("image", side * side * 3))).astype(np.uint8).reshape(side, side, 3)
        Image.fromarray(pixels).save(folder / "image.png")
        config = {"architecture": name, "num_features": 0, "pretrained_cfg": {
            "input_size": [3, side, side], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 1.0, "interpolation": "bicubic"}}
        (folder / "model").mkdir()
        (folder / "model" / "config.json").write_text(json.dumps(config))
        save_file({k: v.contiguous().clone() for k, v in model.state_dict().items()}, folder / "model" / "model.safetensors")
        x = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
        start = time.time()
        with torch.no_grad():
            out = model.forward_features(x)
        theirs = time.time() - start
        last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        prefix = getattr(model, "num_prefix_tokens", 0)
        single = tokens(out, prefix, last)
        with torch.no_grad():
            try:
                expected = tokens(model.double().forward_features(x.double()), prefix, last)
            except RuntimeError:  # some models keep single precision inside
                expected = single
        if not expected.isfinite().all():
            return size, "timm's features are not finite", 0, theirs, 0
        noise = ((single - expected).norm() / expected.norm()).item()
        start = time.time()
        command = [burgess, "encode", str(folder / "image.png"), "--encoder", str(folder / "model"), "-o", str(folder / "f")]
        done = subprocess.run(command, capture_output=True, text=True)
        ours = time.time() - start
        if done.returncode:
            return size, " ".join(done.stderr.split())[:300], noise, theirs, ours
        found = load_file(folder / "f")["features"][0]
        if found.shape != expected.shape:
            return size, f"shape {list(found.shape)} instead of {list(expected.shape)}", noise, theirs, ours
        return size, f"{((found - expected).norm() / expected.norm()).item():.1e}", noise, theirs, ours


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("burgess")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--pattern", default="*")
    parser.add_argument("--max", type=float, default=120)
    options = parser.parse_args()
    timm.layers.set_fused_attn(False)
    tags = collections.Counter(name.split(".")[0] for name in timm.list_pretrained())
    table = (line.split("\t") for line in SIZES.read_text().splitlines())
    sizes = {name: int(elements) / 1e6 or math.inf for name, _, _, elements, *_ in table}
    done = {line.split("\t")[0] for line in options.out.read_text().splitlines()} if options.out.exists() else set()
    for name in sorted(tags):
        if name in done or not fnmatch.fnmatch(name, options.pattern):
            continue
        try:
            size, outcome, noise, theirs, ours = measure(name, options.burgess, sizes.get(name, 0.0), options.max)
        except Exception as error:  # noqa: BLE001: what timm itself cannot do is named
            size, outcome, noise, theirs, ours = 0, f"timm: {type(error).__name__}: {str(error)[:200]}", 0, 0, 0
        with options.out.open("a") as file:
            file.write(f"{name}\t{tags[name]}\t{size:.1f}\t{outcome}\t{noise:.1e}\t{theirs:.2f}\t{ours:.2f}\n")


if __name__ == "__main__":
    main()

"""Throughput of the features of ViT-B/16@224 and ViT-L/14@336, in images per second: Burgess and PyTorch eager, on this
machine, alternating in one run, in f32, in bf16 or in both.

Versions: torch 2.9.0, timm 1.0.20, transformers 5.24.0.
Run from the repository after `cargo build --release`: python tests/reference/speed.py [CARD ...] [--precision f32,bf16] [--rounds 3]
Both sides do the same work on two threads: random weights, the blocks up to the card's tap only, no gradients; for bf16
PyTorch's model and images are converted (`model.to(torch.bfloat16)`). Each round measures both sides in each precision at
each batch size in separate processes, so that none affects another; a side's result is its best batch size in its median
round, and the ratio is ours divided by PyTorch's in the same precision.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[2]
CARDS = {"mocov3-b16": "ViT-B/16@224", "openai-clip-l14-336": "ViT-L/14@336"}


def reference(card):
    """The model, the function that computes its features, and the side of its images in pixels."""
    import timm
    import transformers

    if card == "mocov3-b16":
        model = timm.create_model("vit_base_patch16_224", num_classes=0)
        return model.eval(), model.forward_features, 224
    # The card taps the last layer but one: the last is left away here, as it is not run there.
    config = transformers.CLIPVisionConfig(
        hidden_size=1024, num_hidden_layers=23, num_attention_heads=16, intermediate_size=4096, image_size=336,
        patch_size=14, hidden_act="quick_gelu")
    model = transformers.CLIPVisionModel(config).eval()
    return model, model, 336


def measure_reference(card, precision, batches, seconds):
    import torch

    torch.set_num_threads(2)
    model, features, side = reference(card)
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[precision]
    model.to(dtype)
    result = {}
    with torch.inference_mode():
        for batch in batches:
            pixels = torch.randn(batch, 3, side, side).to(dtype)
            features(pixels)
            runs, start = 0, time.perf_counter()
            while runs < 3 or time.perf_counter() - start < seconds:
                features(pixels)
                runs += 1
            result[batch] = batch * runs / (time.perf_counter() - start)
    print(json.dumps(result))


def run(command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("cards", nargs="*", default=list(CARDS), help=" ".join(CARDS))
    parser.add_argument("--device", default="flex")
    parser.add_argument("--binary", default=ROOT / "target" / "release" / "burgess")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", default="1,2,4,8")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--precision", default="f32", help="f32, bf16, or f32,bf16")
    parser.add_argument("--reference", help="measure PyTorch on this card and print JSON (for the script itself)")
    args = parser.parse_args()
    batches = [int(b) for b in args.batches.split(",")]
    if args.reference:
        return measure_reference(args.reference, args.precision, batches, args.seconds)
    precisions = args.precision.split(",")
    same = [f"--batches={args.batches}", f"--seconds={args.seconds}"]
    print(f"device {args.device}, images per second (PyTorch | Burgess), best batch of {args.batches}")
    for card, name in ((card, CARDS[card]) for card in args.cards):
        theirs, ours = ({(p, b): [] for p in precisions for b in batches} for _ in range(2))
        for _ in range(args.rounds):
            for precision in precisions:
                reference = [sys.executable, __file__, "--reference", card, "--precision", precision, *same]
                for batch, speed in json.loads(run(reference)[-1]).items():
                    theirs[precision, int(batch)].append(speed)
                bench = [args.binary, "bench", "encoders", card, "--json", "--device", args.device,
                         "--precision", precision, "--batch", args.batches, "--seconds", str(args.seconds)]
                for line in map(json.loads, run(bench)):
                    ours[precision, line["batch"]].append(line["images_per_second"])
        table = [{key: statistics.median(v) for key, v in side.items()} for side in (theirs, ours)]
        for precision in precisions:
            label = f"{name:14} {precision:4}"
            for batch in batches:
                pair = [side[precision, batch] for side in table]
                print(f"{label} batch {batch}: {pair[0]:6.3f} | {pair[1]:6.3f}", flush=True)
            best = [max(side[precision, batch] for batch in batches) for side in table]
            print(f"{label} best:    {best[0]:6.3f} | {best[1]:6.3f}   ratio {best[1] / best[0]:.2f}", flush=True)


if __name__ == "__main__":
    main()

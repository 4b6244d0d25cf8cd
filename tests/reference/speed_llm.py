"""Throughput of the evaluator and of PyTorch, on this machine, alternating in one run: tokens per second of prefill and of
decoding, samples per second of the align and tune stages; SmolLM2-135M and ViT-B/16, two threads, random weights.

Versions: torch 2.9.0, timm 1.0.20, transformers 5.24.0.
Run from the repository after `cargo build --release`:
    python tests/reference/speed_llm.py [--device flex] [--rounds 3] [--work prompt,decode] [--precision bf16] [--torch-precision bf16]
Both compute in f32 or in bf16. In bf16, PyTorch has weights in bf16 for prefill and decoding, and autocast with f32 weights
for training; the weights of Burgess are f32, and the operands of its products bf16.
The same sizes as `burgess bench evaluator`: a prompt of 512 tokens; 16 tokens decoded after 128 (batch 1 and 8); steps of
4 sequences of 196 image and 64 text tokens, of which 32 are supervised, with AdamW and clipping; both sides compute
logits only where they are needed (the last token, the supervised tokens). A side's result is its median round.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[2]
PROMPT, DECODED, SAMPLES, TEXT, IMAGE = 512, 16, 4, 64, 196
# Work of PyTorch and its name in `burgess bench evaluator --work`.
WORK = {"prompt": "prompt", "decode": "decode", "align": "align", "align, encoding": "align-encoding", "tune": "tune"}


def reference(seconds, work, batches, precision):
    import timm
    import torch
    from torch import nn
    from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(2)
    is_bf16 = precision == "bf16"
    config = LlamaConfig(
        hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
        vocab_size=49152, rms_norm_eps=1e-5, rope_theta=1e5, max_position_embeddings=8192, tie_word_embeddings=True)
    llm = LlamaForCausalLM(config).eval()
    vit = timm.create_model("vit_base_patch16_224", num_classes=0).eval().requires_grad_(False)
    connector = nn.Sequential(nn.Linear(768, 576), nn.GELU(), nn.Linear(576, 576))

    def ids(batch, count):
        return torch.randint(0, 49152, (batch, count))

    def per_second(units, run):
        run()
        runs, spent, begin = 0, [], time.perf_counter()
        while runs < 3 or time.perf_counter() - begin < seconds:
            start = time.perf_counter()
            run()
            spent.append(time.perf_counter() - start)
            runs += 1
        return units / statistics.median(spent)

    def read(ids, cache):
        hidden = llm.model(ids, cache=cache, use_cache=True).last_hidden_state[:, -1]
        return llm.lm_head(hidden)

    found = {}
    if is_bf16:
        llm.to(torch.bfloat16)
    with torch.inference_mode():
        if "prompt" in work:
            found["prompt 1"] = per_second(PROMPT, lambda: read(ids(1, PROMPT), DynamicCache()))
        for batch in batches if "decode" in work else ():
            def decode():
                for _ in range(DECODED):
                    read(ids(batch, 1), cache)
                cache.crop(-DECODED)
            cache = DynamicCache()
            read(ids(batch, PROMPT // 4), cache)
            found[f"decode {batch}"] = per_second(batch * DECODED, decode)

    llm.to(torch.float32)
    features = torch.randn(SAMPLES, IMAGE, 768)
    pixels = torch.randn(SAMPLES, 3, 224, 224)

    def step(encodes, optimiser, parameters):
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
            loss = forward(encodes)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()

    def forward(encodes):
        seen = features
        if encodes:
            with torch.inference_mode():
                seen = vit.forward_features(pixels)[:, 1:]
            seen = seen.clone()
        # As ours: the picture in the place of the first token, the last token is only predicted.
        text = ids(SAMPLES, TEXT)
        x = torch.cat([connector(seen), llm.model.embed_tokens(text[:, 1:-1])], 1)
        hidden = llm.model(inputs_embeds=x, use_cache=False).last_hidden_state
        learned = TEXT // 2
        scores = llm.lm_head(hidden[:, -learned:])
        return nn.functional.cross_entropy(scores.float().reshape(-1, 49152), text[:, -learned:].reshape(-1))

    stages = (("align", False, False), ("align, encoding", True, False), ("tune", False, True))
    for name, encodes, tunes in (stage for stage in stages if WORK[stage[0]] in work):
        llm.requires_grad_(tunes)
        parameters = [p for m in (connector, llm) for p in m.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(parameters, lr=1e-5, weight_decay=0.0)
        found[f"{name} {SAMPLES}"] = per_second(SAMPLES, lambda: step(encodes, optimiser, parameters))
    print(json.dumps(found))


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout.splitlines()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="flex")
    parser.add_argument("--binary", default=ROOT / "target" / "release" / "burgess")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--work", default=",".join(WORK.values()))
    parser.add_argument("--batch", default="1,8", help="batch sizes of decoding")
    parser.add_argument("--precision", default="f32", choices=["f32", "bf16"], help="of Burgess")
    parser.add_argument("--torch-precision", default="f32", choices=["f32", "bf16"])
    parser.add_argument("--reference", action="store_true", help="measure PyTorch and print JSON (for the script itself)")
    args = parser.parse_args()
    if args.reference:
        batches = [int(batch) for batch in args.batch.split(",")]
        return reference(args.seconds, args.work.split(","), batches, args.torch_precision)
    theirs, ours = {}, {}
    same = [f"--seconds={args.seconds}", f"--work={args.work}", f"--batch={args.batch}"]
    for _ in range(args.rounds):
        pytorch = [sys.executable, __file__, "--reference", *same, f"--torch-precision={args.torch_precision}"]
        for work, speed in json.loads(run(pytorch)[-1]).items():
            theirs.setdefault(work, []).append(speed)
        bench = [args.binary, "bench", "evaluator", "--json", "--device", args.device, "--precision", args.precision, *same]
        for line in map(json.loads, run(bench)):
            ours.setdefault(f"{line['work']} {line['batch']}", []).append(line["per_second"])
    print(f"device {args.device}: work and batch, PyTorch {args.torch_precision} | Burgess {args.precision} per second, ratio")
    for work, values in theirs.items():
        a, b = statistics.median(values), statistics.median(ours[work])
        print(f"{work:20} {a:8.2f} | {b:8.2f}   {b / a:.2f}")


if __name__ == "__main__":
    main()

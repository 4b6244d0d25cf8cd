"""Compares an exported model (`burgess export DIR --to OUT`, layout of transformers' LLaVA) in transformers with Burgess.

    python tests/reference/llava_export.py OUT [--burgess target/release/burgess] [--from runs/…/model]

OUT is loaded by `LlavaForConditionalGeneration` and `AutoProcessor`. For some images (square, wide, high, small) and
questions it compares with `burgess ask --model OUT` (and with `--from`, the model that was exported):

- the number of prompt tokens, and the greedy answers: equal;
- the log-probabilities of the five most probable tokens at every position of the answer and of a given answer: within
  1e-4. So are the logits, up to the constant that softmax removes;
- the features after the projector and the pixel values are not printed by Burgess; a difference there would be one of the
  log-probabilities.

Also checks that the tensors are loaded without anything missing, left over or newly initialised, and that the front
matter of the model card is valid YAML for the hub. Made with transformers 5.24.0, torch 2.9.0, huggingface_hub 2.4.0.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers
from huggingface_hub import ModelCard
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

# A given answer, whose log-probabilities are compared: answers may be short.
GIVEN = "The red cup is left of the blue bottle, and it shows the word AB3."
QUESTIONS = [
    "What is this?",
    "How many cups are there?\nA. one\nB. two\nC. three\nAnswer with the option's letter.",
    "Which colour does the largest thing have, and where is it?",
    "größer – 24 × 3?  ",
]
SIZES = [(96, 96), (160, 96), (70, 130), (33, 40)]


def images(folder):
    """Images with structure at several scales, as PNG files."""
    random = np.random.default_rng(0)
    paths = []
    for i, (width, height) in enumerate(SIZES):
        y, x = np.mgrid[0:height, 0:width]
        waves = [np.sin(x / (3 + c) + i) * np.cos(y / (5 + i) - c) for c in range(3)]
        noise = random.normal(0, 0.2, (height, width, 3))
        pixels = (np.stack(waves, -1) * 0.4 + noise + 0.5).clip(0, 1) * 255
        paths.append(pathlib.Path(folder) / f"{i}.png")
        Image.fromarray(pixels.astype(np.uint8)).save(paths[-1])
    return paths


def ask(burgess, model, image, question, *how):
    """The tokens of Burgess's answer, each with the five most probable ones, and the whole answer."""
    image = ["--image", str(image)] if image else []
    command = [burgess, "ask", "--model", model, *image, question, "--json", *how]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    *tokens, whole = [json.loads(line) for line in lines]
    return tokens, whole


def scored_by(model, inputs):
    """The log-probabilities at every position, without the token of the image where it was added to the vocabulary."""
    logits = model(**inputs).logits[0]
    logits[:, model.generation_config.suppress_tokens or []] = -torch.inf
    return logits.log_softmax(-1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--burgess", default="target/release/burgess")
    parser.add_argument("--from", dest="original")
    parser.add_argument("--tokens", type=int, default=12)
    options = parser.parse_args()

    model, info = LlavaForConditionalGeneration.from_pretrained(options.out, output_loading_info=True)
    problems = {key: value for key, value in info.items() if value}
    assert not problems, problems
    model.eval()
    processor = AutoProcessor.from_pretrained(options.out, backend="pil")
    card = ModelCard.load(pathlib.Path(options.out) / "README.md")
    print(f"transformers {transformers.__version__}: {type(model).__name__}, vision {type(model.model.vision_tower).__name__},"
          f" text {type(model.model.language_model).__name__}, {type(processor.image_processor).__name__}")
    print(f"model card: license {card.data.license}, {card.data.pipeline_tag}, tags {card.data.tags}")

    worst, compared, answers = {}, 0, set()
    with tempfile.TemporaryDirectory() as folder:
        for image in [*images(folder), None]:
            for question in QUESTIONS:
                parts = [{"type": "image", "image": Image.open(image)}] if image else []
                messages = [{"role": "user", "content": [*parts, {"type": "text", "text": question}]}]
                inputs = processor.apply_chat_template(
                    messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
                )
                start = inputs["input_ids"].shape[1]
                with torch.no_grad():
                    made = model.generate(**inputs, max_new_tokens=options.tokens)[0]
                    whole = {**inputs, "input_ids": made[None], "attention_mask": torch.ones_like(made[None])}
                    logprobs = scored_by(model, whole)
                answer = processor.decode(made[start:], skip_special_tokens=True).strip()
                for name, directory in {"export": options.out, "original": options.original}.items():
                    if directory is None:
                        continue
                    how = ("--logprobs", "--max-new-tokens", str(options.tokens))
                    tokens, own = ask(options.burgess, directory, image, question, *how)
                    what = (name, image and image.name, question)
                    assert own["prompt_tokens"] == start, (what, own["prompt_tokens"], start)
                    assert own["answer"] == answer, (what, own["answer"], answer)
                    answers.add(answer)
                    given, _ = ask(options.burgess, directory, image, question, "--continuation", GIVEN)
                    ids = torch.tensor([token["id"] for token in given])[None]
                    ids = torch.cat([inputs["input_ids"], ids], 1)
                    whole = {**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
                    with torch.no_grad():
                        other = scored_by(model, whole)
                    for rows, scored in [(logprobs, tokens), (other, given)]:
                        for i, token in enumerate(scored):
                            for one in [token, *token["top"]]:
                                difference = abs(rows[start - 1 + i][one["id"]].item() - one["logprob"])
                                worst[name] = max(worst.get(name, 0.0), difference)
                                compared += 1
    print(f"{len(SIZES) * len(QUESTIONS) + len(QUESTIONS)} answers equal ({len(answers)} different ones); {compared} log-probabilities compared, largest "
          f"difference {', '.join(f'{value:.2e} ({name})' for name, value in worst.items())}")
    assert all(value <= 1e-4 for value in worst.values()), worst


if __name__ == "__main__":
    sys.exit(main())

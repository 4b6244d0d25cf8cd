"""Log-probabilities of a language model without images: `probe/zoo/nano-lm` with `transformers`.

    python tests/reference/ask.py        (writes tests/golden/ask.json; seconds on a CPU)

`greedy`: the ids that follow the raw prompt, each with the natural logarithm of its probability and the five likeliest;
`continuation`: the same for the ids of a given text. Versions: torch 2.9.0, transformers 5.24.0.
"""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "probe/zoo/nano-lm"
OUT = ROOT / "tests/golden/ask.json"
PROMPT = "The red cup is left of the"
CONTINUATION = " blue cup."
STEPS = 8


def told(logits: torch.Tensor, ids: list[int]) -> list[dict]:
    out = []
    for row, token in zip(torch.log_softmax(logits.double(), -1), ids):
        top = row.topk(5)
        best = [{"id": i, "logprob": round(p, 6)} for i, p in zip(top.indices.tolist(), top.values.tolist())]
        out.append({"id": token, "logprob": round(row[token].item(), 6), "top": best})
    return out


def main() -> None:
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
    prompt = tokenizer.encode(PROMPT, add_special_tokens=False).ids
    given = tokenizer.encode(CONTINUATION, add_special_tokens=False).ids
    with torch.no_grad():
        row = list(prompt)
        for _ in range(STEPS):
            row.append(model(torch.tensor([row])).logits[0, -1].argmax().item())
        logits = model(torch.tensor([row])).logits[0]
        greedy = told(logits[len(prompt) - 1 : -1], row[len(prompt) :])
        logits = model(torch.tensor([prompt + given])).logits[0]
        continuation = told(logits[len(prompt) - 1 : -1], given)
    golden = {"prompt": PROMPT, "prompt_ids": prompt, "greedy": greedy, "text": CONTINUATION, "continuation": continuation}
    OUT.write_text(json.dumps(golden, indent=1) + "\n")
    print(tokenizer.decode(row), [t["logprob"] for t in continuation])


if __name__ == "__main__":
    main()

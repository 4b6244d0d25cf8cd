"""Goldens of training: the losses of ten steps of each stage, in PyTorch.

    python tests/reference/train.py        (writes tests/golden/train; seconds on a CPU)

A small connector (linear, GELU, linear) and a small LLaMA; align trains the connector, tune both, with AdamW, warm-up,
cosine, weight decay on matrices and clipping by the global norm, as LLaVA does with the Hugging Face trainer.
torch 2.9.0 and the transformers named in the written meta.json.
"""

import json
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, get_cosine_schedule_with_warmup

OUT = Path(__file__).resolve().parents[1] / "golden" / "train"
IMAGE = 5
STEPS = 10
N, WIDTH, D = 5, 24, 32


def examples(g: torch.Generator, mixed: bool) -> list[dict]:
    """Conversations of different lengths; `mixed` ones have the image anywhere, or none."""
    found = []
    for i in range(6):
        length = int(torch.randint(8, 20, (1,), generator=g))
        ids = torch.randint(6, 61, (length,), generator=g).tolist()
        at = None if (mixed and i == 3) else (int(torch.randint(0, 4, (1,), generator=g)) if mixed else 0)
        if at is not None:
            ids[at] = IMAGE
        learned = [False] * length
        start = length - 1 - int(torch.randint(2, 4, (1,), generator=g))
        for k in range(start, length):
            learned[k] = True
        if i == 0 and at == 0:
            learned[1] = True  # predicted from the picture's last position
        found.append({"ids": ids, "learned": learned, "image": None if at is None else i, "image_at": at})
    return found


def loss_of(llm, connector, features, batch):
    losses = []
    for e in batch:
        table = llm.get_input_embeddings()
        ids = torch.tensor(e["ids"])
        labels = torch.where(torch.tensor(e["learned"]), ids, -100)
        if e["image_at"] is None:
            x, y = table(ids), labels
        else:
            at = e["image_at"]
            x = torch.cat([table(ids[:at]), connector(features[e["image"]]), table(ids[at + 1:])])
            y = torch.cat([labels[:at], torch.full((N,), -100), labels[at + 1:]])
        logits = llm(inputs_embeds=x[None]).logits[0, :-1]
        losses.append(nn.functional.cross_entropy(logits, y[1:], ignore_index=-100, reduction="none")[y[1:] != -100])
    return torch.cat(losses).mean()


def stage(llm, connector, features, batch, parts, lr, decay, clip, warmup):
    parameters = [p for part in parts for p in part.parameters()]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.999), eps=1e-8)
    schedule = get_cosine_schedule_with_warmup(optimiser, warmup, STEPS)
    losses, norms = [], []
    for _ in range(STEPS):
        optimiser.zero_grad()
        loss = loss_of(llm, connector, features, batch)
        loss.backward()
        norms.append(float(nn.utils.clip_grad_norm_(parameters, clip)))
        optimiser.step()
        schedule.step()
        losses.append(float(loss))
    return losses, norms


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    for name, mixed in [("front", False), ("mixed", True)]:
        torch.manual_seed(3)
        g = torch.Generator().manual_seed(11)
        config = LlamaConfig(
            vocab_size=61, hidden_size=D, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=not mixed,
            attn_implementation="eager",
        )
        llm = LlamaForCausalLM(config)
        connector = nn.Sequential(nn.Linear(WIDTH, D), nn.GELU(), nn.Linear(D, D))
        with torch.no_grad():
            for p in llm.parameters():
                p.add_(torch.randn_like(p) * 0.05)
        features = torch.randn(6, N, WIDTH, generator=g)
        batch = examples(g, mixed)
        out = OUT / name
        out.mkdir(exist_ok=True)
        tied = config.tie_word_embeddings
        weights = {f"llm.{k}": v.clone() for k, v in llm.state_dict().items() if not (tied and k == "lm_head.weight")}
        weights |= {f"connector.mm_projector.{k}": v.clone() for k, v in connector.state_dict().items()}
        save_file(weights | {"features": features}, out / "start.safetensors")
        for p in llm.parameters():
            p.requires_grad_(False)
        align = stage(llm, connector, features, batch, [connector], 1e-2, 0.1, 1.0, 2)
        for p in llm.parameters():
            p.requires_grad_(True)
        tune = stage(llm, connector, features, batch, [connector, llm], 3e-3, 0.1, 0.5, 2)
        keys = ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                "vocab_size", "rms_norm_eps", "tie_word_embeddings", "max_position_embeddings"]
        golden = {
            "llm": {k: getattr(config, k) for k in keys}, "examples": batch,
            "align": {"loss": align[0], "norm": align[1]}, "tune": {"loss": tune[0], "norm": tune[1]},
        }
        (out / "golden.json").write_text(json.dumps(golden) + "\n")
        print(name, align, tune)
    (OUT / "meta.json").write_text(json.dumps({"torch": torch.__version__, "transformers": transformers.__version__}) + "\n")


if __name__ == "__main__":
    main()
